"""Recurrent and RecurrentCell: layers of a cell that the user wrote."""

from __future__ import annotations

from typing import Any

from ..cells import CellType
from .design import ActivationLike, ActivationLikes, Trainable, Zoneout, make_design, make_designs
from .layers import RecurrentLayers
from .step import StepCell
from .widths import HiddenSize

__all__ = ["Recurrent", "RecurrentCell"]

_OPTIONS = ("clip", "trainable", "layer_norm", "zoneout", "recurrent_dropout", "engine")


def _check(cell: Any) -> CellType:
    if not isinstance(cell, CellType):
        raise TypeError(
            f"a cell is an anygate.CellType, not {type(cell).__name__}; write its equations as "
            "anygate.CellType(name, products=..., states=..., lines=...)"
        )
    if cell.masks:
        raise ValueError(
            f"{cell.name} has the mask {cell.masks[0]}, which a module has no numbers for; modules "
            "draw those of zoneout= and recurrent_dropout= alone. Run the cell on an engine "
            "(`anygate.engines.load`), whose `Layer.masks` are given with the input"
        )
    return cell


class Recurrent(RecurrentLayers):
    """Layers of any cell, from its equations.

        leaky = anygate.CellType(
            "leaky integrator", products=("z",), states=("h",), slots={"candidate": "tanh"},
            lines="h = 0.9*h_before + 0.1*candidate(z)",
        )
        model = anygate.Recurrent(leaky, 3, 16, candidate="relu")

    cell: a `CellType`. input_size to bidirectional, device and dtype: as torch.nn.LSTM's.
    slots: an activation for each slot by its name; activation and gate_activation set several.
    clip, trainable, layer_norm, zoneout, recurrent_dropout, engine: as in `LSTM`.

    Input as torch.nn.LSTM's; returns the output and the state after the last step: a tensor where
    the cell has one state, else a tuple in the order of `cell.states`; hx likewise. Parameters are
    weight_ih_l0 with H rows for each product that sees x, weight_hh_l0 with H for each that sees a
    state, both in the order of `cell.products`, their biases, and the cell's vectors.

    Cells of one product a step run fused on the engines cpu and cuda; `explain` says which engines
    refuse others, and why.
    """

    def __init__(
        self,
        cell: CellType,
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
        clip: float | None = None,
        trainable: Trainable = False,
        layer_norm: bool = False,
        zoneout: Zoneout = 0.0,
        recurrent_dropout: float = 0.0,
        engine: str = "auto",
        **slots: ActivationLikes | None,
    ) -> None:
        given = (clip, trainable, layer_norm, zoneout, recurrent_dropout, engine)
        options: dict[str, Any] = dict(zip(_OPTIONS, given, strict=True))
        designs = make_designs(_check(cell), slots, num_layers, bidirectional, **options)
        sizes = input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        super().__init__("RNN_TANH", designs, options, *sizes, device=device, dtype=dtype)
        self.mode = cell.name
        self._torch_type = cell

    def extra_repr(self) -> str:
        """The cell's name, torch's arguments, and the activations that differ from the cell's."""
        return f"{self._torch_type.name}, {super().extra_repr()}"


class RecurrentCell(StepCell):
    """One time step of any cell, from its equations: the state after it; see `Recurrent`."""

    def __init__(
        self,
        cell: CellType,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        clip: float | None = None,
        trainable: Trainable = False,
        layer_norm: bool = False,
        zoneout: Zoneout = 0.0,
        engine: str = "auto",
        **slots: ActivationLike | None,
    ) -> None:
        given = (clip, trainable, layer_norm, zoneout, engine)
        names = [name for name in _OPTIONS if name != "recurrent_dropout"]
        options: dict[str, Any] = dict(zip(names, given, strict=True))
        design = make_design(_check(cell), slots, **options)
        super().__init__(design, options, input_size, hidden_size, bias, device, dtype)
        self._torch_type = cell

    def extra_repr(self) -> str:
        """The cell's name, torch's arguments, and the activations that differ from the cell's."""
        return f"{self._torch_type.name}, {super().extra_repr()}"
