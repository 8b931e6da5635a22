"""One layer from a cell and its arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..cells import ELMAN, GRU, GRU_RESET_BEFORE, Cell, cell_key
from ..cells.builtin import lstm_type
from ..nn import GRU as GRULayer
from ..nn import LSTM, RNN, Recurrent
from ..nn.layers import RecurrentLayers
from ..nn.parameters import attribute

__all__ = ["build", "fill", "to_tensor"]

Array = np.ndarray[Any, Any]


def build(
    cell: Cell,
    inputs: int,
    hidden: int,
    *,
    bias: bool = True,
    bidirectional: bool = False,
    batch_first: bool = False,
    dtype: torch.dtype = torch.float32,
) -> RecurrentLayers:
    """A module of one layer with this cell: an LSTM, GRU or RNN where it is one of theirs, else a
    Recurrent. Its weights are those it is made with."""
    learnt = {name: "unit" for name in cell.per_unit if "." in name}
    options: dict[str, Any] = {
        "bias": bias,
        "bidirectional": bidirectional,
        "batch_first": batch_first,
        "dtype": dtype,
        "clip": cell.clip,
        "trainable": learnt or False,
        **cell.slots,
    }
    made = _known(cell, inputs, hidden, options) or Recurrent(cell.type, inputs, hidden, **options)
    assert set(made.cell.per_unit) == set(cell.per_unit), cell_key(cell)
    return made


def _known(cell: Cell, inputs: int, hidden: int, options: dict[str, Any]) -> RecurrentLayers | None:
    for peephole in (False, True):
        for coupled in (False, True):
            if cell.type == lstm_type(peephole, coupled):
                return LSTM(inputs, hidden, peephole=peephole, coupled=coupled, **options)
    if cell.type in (GRU, GRU_RESET_BEFORE):
        return GRULayer(inputs, hidden, reset_after=cell.type == GRU, **options)
    return RNN(inputs, hidden, **options) if cell.type == ELMAN else None


@torch.no_grad()
def fill(layer: RecurrentLayers, arrays: Mapping[str, Array | None], way: str = "") -> None:
    """Set the parameters of a module of one layer: weight_ih, weight_hh, bias_ih, bias_hh, and the
    cell's per_unit by name. way: "" or "_reverse". Biases that are missing are zeros. Raises
    ValueError for an array of another shape, and for one that the module has no place for."""
    for name, array in arrays.items():
        if array is None:
            continue
        place = attribute(name, f"_l0{way}")
        own = layer._parameters.get(place)
        if own is None:
            raise ValueError(f"{type(layer).__name__} has no parameter {place}")
        value = to_tensor(array)
        if value.numel() != own.numel() or (name.startswith("w") and value.shape != own.shape):
            raise ValueError(f"{name} is {list(value.shape)} and must be {list(own.shape)}")
        own.copy_(value.reshape(own.shape))
    for name in ("bias_ih", "bias_hh"):
        if layer.bias and arrays.get(name) is None:
            own = layer._parameters[f"{name}_l0{way}"]
            assert own is not None
            own.zero_()


def to_tensor(array: Array) -> Tensor:
    """A tensor with memory of its own."""
    return torch.from_numpy(np.array(array, order="C"))
