"""RNN and RNNCell: torch.nn's Elman network, with any activation."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from ..cells.builtin import ELMAN
from .design import ActivationLike, ActivationLikes, Trainable, Zoneout, make_design, make_designs
from .layers import RecurrentLayers
from .run import Autocast
from .step import StepCell
from .widths import HiddenSize

__all__ = ["RNN", "RNNCell"]


def _activation(nonlinearity: str | None, activation: ActivationLikes | None) -> Any:
    """The activation, by torch's argument or by ours. Raises ValueError where both are given
    and differ."""
    if nonlinearity is None or (isinstance(activation, str) and activation == nonlinearity):
        return activation
    if nonlinearity not in ("tanh", "relu"):
        raise ValueError(
            f"nonlinearity is 'tanh' or 'relu', as in torch, not {nonlinearity!r}; for any other "
            f"function write activation={nonlinearity!r}"
        )
    if activation is not None:
        raise ValueError("give nonlinearity= or activation=, not both")
    return nonlinearity


class RNN(RecurrentLayers):
    r"""torch.nn.RNN (Elman 1990) with any activation.

        h' = activation(W_ih x + b_ih + W_hh h + b_hh)

    Arguments input_size to bidirectional, device and dtype are torch.nn.RNN's; nonlinearity is its
    own name for "tanh" and "relu".

    activation, or candidate, which is the slot's name: the activation (default tanh): a name, a
    formula, a SymPy expression or an Activation.
    clip, trainable, layer_norm, zoneout, recurrent_dropout, engine: as in `LSTM`.

    Input and output as torch.nn.RNN's. Parameters and state_dict have its names and shapes.
    """

    _torch_type = ELMAN
    _stands_for = nn.RNN
    _autocast: ClassVar[Autocast] = "all"

    def __init__(
        self,
        input_size: int,
        hidden_size: HiddenSize,
        num_layers: int = 1,
        nonlinearity: str | None = None,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        activation: ActivationLikes | None = None,
        candidate: ActivationLikes | None = None,
        clip: float | None = None,
        trainable: Trainable = False,
        layer_norm: bool = False,
        zoneout: Zoneout = 0.0,
        recurrent_dropout: float = 0.0,
        engine: str = "auto",
    ) -> None:
        choices = {"activation": _activation(nonlinearity, activation), "candidate": candidate}
        options: dict[str, Any] = {
            "clip": clip,
            "trainable": trainable,
            "layer_norm": layer_norm,
            "zoneout": zoneout,
            "recurrent_dropout": recurrent_dropout,
            "engine": engine,
        }
        designs = make_designs(ELMAN, choices, num_layers, bidirectional, **options)
        name = designs[0].cell.slots["candidate"].name
        mode = "RNN_RELU" if name == "relu" else "RNN_TANH"
        sizes = input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        super().__init__(mode, designs, options, *sizes, device=device, dtype=dtype)
        self.nonlinearity = name


class RNNCell(StepCell):
    """torch.nn.RNNCell with any activation.

    One time step: input [B, input_size] or [input_size], state h [B, hidden_size] or [hidden_size];
    returns h. Equation and arguments as in `RNN`; parameters have torch.nn.RNNCell's names and
    shapes.
    """

    _torch_type = ELMAN
    _stands_for = nn.RNNCell
    _autocast: ClassVar[Autocast] = "all"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str | None = None,
        device: Any = None,
        dtype: Any = None,
        *,
        activation: ActivationLike | None = None,
        candidate: ActivationLike | None = None,
        clip: float | None = None,
        trainable: Trainable = False,
        layer_norm: bool = False,
        zoneout: Zoneout = 0.0,
        engine: str = "auto",
    ) -> None:
        choices = {"activation": _activation(nonlinearity, activation), "candidate": candidate}
        options: dict[str, Any] = {
            "clip": clip,
            "trainable": trainable,
            "layer_norm": layer_norm,
            "zoneout": zoneout,
            "engine": engine,
        }
        design = make_design(ELMAN, choices, **options)
        super().__init__(design, options, input_size, hidden_size, bias, device, dtype)
        self.nonlinearity = design.cell.slots["candidate"].name
