"""LSTM, GRU and RNN layers as arrays in the conventions that Keras, Flax and Equinox share: one
activation for the candidate and the cell output, one for the gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ..cells import ELMAN, Cell, gru_type, lstm_type, make
from ..formulas import Activation
from ..nn.layers import RecurrentLayers
from .build import build, fill
from .directions import Directions

__all__ = ["BLOCKS", "Weights", "arrays_of", "assemble", "cell_for", "choice_of", "ways_of"]

Array = np.ndarray[Any, Any]
BLOCKS = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""Blocks of H rows of the weights: i f g o, r z n, one."""


@dataclass(frozen=True)
class Weights:
    """One direction of a layer, in our layout: weight_ih [P*H, I], weight_hh [P*H, H], bias_ih and
    bias_hh [P*H], or None."""

    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None = None
    bias_hh: Array | None = None

    def __post_init__(self) -> None:
        rows, hidden = ((*self.weight_hh.shape, 0, 0))[:2]
        if self.weight_hh.ndim != 2 or self.weight_ih.ndim != 2 or hidden < 1:
            raise ValueError(
                f"weights of the shapes {self.weight_ih.shape} and {self.weight_hh.shape} are "
                "of no recurrent layer"
            )
        wanted = (rows,)
        for name in ("bias_ih", "bias_hh"):
            bias = getattr(self, name)
            if bias is not None and bias.shape != wanted:
                raise ValueError(f"{name} is {list(bias.shape)}, not {list(wanted)}")
        if self.weight_ih.shape[0] != rows or self.weight_ih.shape[1] < 1:
            raise ValueError(
                f"the weights of x are {list(self.weight_ih.shape)} for {rows} rows of h's"
            )

    def check(self, family: str) -> None:
        """Raises ValueError unless the shapes are those of LSTM, GRU or RNN."""
        rows, hidden = self.weight_hh.shape
        if rows != BLOCKS[family] * hidden:
            raise ValueError(f"weights with {rows} rows for {hidden} units are of no {family}")


def cell_for(
    family: str,
    activation: Activation,
    gate_activation: Activation,
    reset_after: bool = True,
) -> Cell:
    """The cell of "LSTM", "GRU" or "RNN"."""
    kind = {"LSTM": lstm_type(), "GRU": gru_type(not reset_after), "RNN": ELMAN}[family]
    slots = {slot: gate_activation if slot in kind.gates else activation for slot, _ in kind.slots}
    return make(kind, slots)


def assemble(
    parts: Mapping[str, tuple[Cell, Weights]], *, batch_first: bool = True
) -> RecurrentLayers | Directions:
    """The module of the directions "" and "_reverse", one of them or both."""
    (first, weights), *rest = parts.values()
    biased = any(w.bias_ih is not None or w.bias_hh is not None for _, w in parts.values())
    dtypes = {torch.from_numpy(np.empty(0, w.weight_ih.dtype)).dtype for _, w in parts.values()}
    if len(dtypes) > 1 or not next(iter(dtypes)).is_floating_point:
        raise ValueError(f"weights of the dtypes {', '.join(map(str, dtypes))}")
    hidden, inputs = weights.weight_hh.shape[1], weights.weight_ih.shape[1]
    for cell, own in rest:
        if cell.type != first.type or own.weight_hh.shape != weights.weight_hh.shape:
            raise ValueError("two directions of other sizes or families; read each by itself")
        if own.weight_ih.shape != weights.weight_ih.shape:
            raise ValueError("two directions with inputs of other sizes")
    options: dict[str, Any] = {"bias": biased, "batch_first": batch_first, "dtype": dtypes.pop()}
    same = all(cell == first for cell, _ in rest)
    if "" in parts and same:
        both = "_reverse" in parts
        whole = build(first, inputs, hidden, bidirectional=both, **options)
        for way, (_, own) in parts.items():
            fill(whole, _named(own), way)
        return whole
    found = {}
    for way, (cell, own) in parts.items():
        found[way] = build(cell, own.weight_ih.shape[1], own.weight_hh.shape[1], **options)
        fill(found[way], _named(own))
    return Directions(found.get(""), found.get("_reverse"))


def _named(weights: Weights) -> dict[str, Array | None]:
    return dict(weights.__dict__)


def ways_of(module: nn.Module) -> dict[str, tuple[RecurrentLayers, str]]:
    """Each direction of a module of one layer: what it is called, the module that holds it and
    what its parameters end with. Raises TypeError or ValueError for other modules."""
    if isinstance(module, Directions):
        if module._start:
            raise ValueError("a layer with states of its own to begin with is no such layer there")
        pairs = (("", module.ahead), ("_reverse", module.back))
        return {way: (layer, "_l0") for way, layer in pairs if layer is not None}
    if not isinstance(module, RecurrentLayers):
        raise TypeError(f"a layer of anygate is written, not {type(module).__name__}")
    if module.num_layers > 1 or module.proj_size:
        raise ValueError("layers are written one by one, without a projection")
    ways = ("", "_reverse")[: 2 if module.bidirectional else 1]
    return {way: (module, f"_l0{way}") for way in ways}


def choice_of(layer: RecurrentLayers) -> tuple[str, Activation, Activation | None, bool]:
    """Of a layer its family, activation, gate activation and reset_after. Raises ValueError naming
    what is none of these frameworks' layers: options, and slots that differ."""
    cell, kinds = layer.cell, {lstm_type(): "LSTM", ELMAN: "RNN"}
    kinds |= {gru_type(False): "GRU", gru_type(True): "GRU"}
    family = kinds.get(cell.type)
    if family is None or cell.clip is not None or cell.per_unit:
        raise ValueError(
            f"{layer} has options that no other framework's layer has; only activations can be "
            "written"
        )
    gates = {cell.slots[slot] for slot in cell.type.gates}
    others = {a for slot, a in cell.slots.items() if slot not in cell.type.gates}
    if len(gates) > 1 or len(others) > 1:
        raise ValueError(f"{layer} has several activations where the other framework has one")
    return family, others.pop(), gates.pop() if gates else None, cell.type != gru_type(True)


def arrays_of(layer: RecurrentLayers, suffix: str) -> Weights:
    """One direction's parameters, as copies."""

    def array(name: str) -> Array | None:
        found = layer._own(name + suffix) if layer.bias or not name.startswith("b") else None
        return None if found is None else np.array(found.detach().cpu().float().numpy())

    weight_ih, weight_hh = array("weight_ih"), array("weight_hh")
    assert weight_ih is not None and weight_hh is not None
    return Weights(weight_ih, weight_hh, array("bias_ih"), array("bias_hh"))
