"""GRU and GRUCell: torch.nn's, with an activation in each slot."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from ..cells.builtin import GRU as GRU_TYPE
from ..cells.builtin import gru_type
from .design import ActivationLike, ActivationLikes, Trainable, Zoneout, make_design, make_designs
from .layers import RecurrentLayers
from .run import Autocast
from .step import StepCell
from .widths import HiddenSize

__all__ = ["GRU", "GRUCell"]


class GRU(RecurrentLayers):
    r"""torch.nn.GRU with any activation in each of its three slots.

        r = reset_gate(W_ir x + b_ir + W_hr h + b_hr)
        u = update_gate(W_iz x + b_iz + W_hz h + b_hz)
        n = candidate(W_in x + b_in + r * (W_hn h + b_hn))
        h' = (1 - u) * n + u * h

    Arguments input_size to bidirectional, device and dtype are torch.nn.GRU's.

    activation: the candidate (default tanh). gate_activation: both gates (default sigmoid).
    reset_gate, update_gate, candidate: one slot; wins over the two.
    reset_after: True as torch and cuDNN have it; False: n = candidate(W_in x + b_in +
    W_hn (r * h) + b_hn), the GRU of Cho et al. 2014 and ONNX's default, which needs two products a
    step, so that the eager engine runs it.
    clip, trainable, layer_norm, zoneout, recurrent_dropout, engine: as in `LSTM`.

    Input and output as torch.nn.GRU's: output [T, B, directions * hidden_size] and h [num_layers *
    directions, B, hidden_size]. Parameters and state_dict have torch.nn.GRU's names and shapes,
    rows in the order r z n, so weights load both ways.
    """

    _torch_type = GRU_TYPE
    _stands_for = nn.GRU
    _autocast: ClassVar[Autocast] = "state"

    def __init__(
        self,
        input_size: int,
        hidden_size: HiddenSize,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        activation: ActivationLikes | None = None,
        gate_activation: ActivationLikes | None = None,
        reset_gate: ActivationLikes | None = None,
        update_gate: ActivationLikes | None = None,
        candidate: ActivationLikes | None = None,
        reset_after: bool = True,
        clip: float | None = None,
        trainable: Trainable = False,
        layer_norm: bool = False,
        zoneout: Zoneout = 0.0,
        recurrent_dropout: float = 0.0,
        engine: str = "auto",
    ) -> None:
        choices = {
            "activation": activation,
            "gate_activation": gate_activation,
            "reset_gate": reset_gate,
            "update_gate": update_gate,
            "candidate": candidate,
        }
        options: dict[str, Any] = {
            "clip": clip,
            "trainable": trainable,
            "layer_norm": layer_norm,
            "zoneout": zoneout,
            "recurrent_dropout": recurrent_dropout,
            "engine": engine,
        }
        designs = make_designs(
            gru_type(not reset_after), choices, num_layers, bidirectional, **options
        )
        options = {"reset_after": reset_after, **options}
        sizes = input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        super().__init__("GRU", designs, options, *sizes, device=device, dtype=dtype)


class GRUCell(StepCell):
    """torch.nn.GRUCell with any activation in each of its three slots.

    One time step: input [B, input_size] or [input_size], state h [B, hidden_size] or [hidden_size];
    returns h. Equations and arguments as in `GRU`; parameters have torch.nn.GRUCell's names and
    shapes.
    """

    _torch_type = GRU_TYPE
    _stands_for = nn.GRUCell
    _autocast: ClassVar[Autocast] = "state"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        activation: ActivationLike | None = None,
        gate_activation: ActivationLike | None = None,
        reset_gate: ActivationLike | None = None,
        update_gate: ActivationLike | None = None,
        candidate: ActivationLike | None = None,
        reset_after: bool = True,
        clip: float | None = None,
        trainable: Trainable = False,
        layer_norm: bool = False,
        zoneout: Zoneout = 0.0,
        engine: str = "auto",
    ) -> None:
        choices = {
            "activation": activation,
            "gate_activation": gate_activation,
            "reset_gate": reset_gate,
            "update_gate": update_gate,
            "candidate": candidate,
        }
        options: dict[str, Any] = {
            "clip": clip,
            "trainable": trainable,
            "layer_norm": layer_norm,
            "zoneout": zoneout,
            "engine": engine,
        }
        design = make_design(gru_type(not reset_after), choices, **options)
        options = {"reset_after": reset_after, **options}
        super().__init__(design, options, input_size, hidden_size, bias, device, dtype)
