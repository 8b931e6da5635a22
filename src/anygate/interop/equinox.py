"""Equinox's LSTMCell and GRUCell in and out. Needs neither Equinox nor JAX.

    lstm = equinox.from_cell(cell)                  # eqx.nn.LSTMCell, or its arrays by name
    arrays = equinox.to_arrays(lstm)                # for eqx.tree_at

Their activations are tanh and sigmoid; arrays are weight_ih [P*H, I], weight_hh [P*H, H] and bias
[P*H] as here, and of the GRU bias_n [H], which belongs to h in the candidate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from ..formulas import ACTIVATIONS
from ..nn.layers import RecurrentLayers
from .directions import Directions
from .families import Weights, arrays_of, assemble, cell_for, choice_of, ways_of
from .trees import Array, array

__all__ = ["from_cell", "to_arrays"]


def from_cell(cell: Any, batch_first: bool = False) -> RecurrentLayers | Directions:
    """The module of an eqx.nn.LSTMCell or GRUCell, or of its arrays by name. Raises ValueError for
    what has not their arrays."""

    def get(name: str) -> Array | None:
        value = cell.get(name) if isinstance(cell, Mapping) else getattr(cell, name, None)
        return None if value is None else array(value, name)

    weight_ih, weight_hh, bias, bias_n = map(get, ("weight_ih", "weight_hh", "bias", "bias_n"))
    if weight_ih is None or weight_hh is None or weight_hh.ndim != 2:
        raise ValueError(f"{type(cell).__name__} has no weight_ih and weight_hh as a cell has")
    rows, hidden = weight_hh.shape
    family = {4: "LSTM", 3: "GRU"}.get(rows // max(1, hidden))
    if family is None or (bias_n is not None and (family != "GRU" or bias_n.shape != (hidden,))):
        raise ValueError(f"arrays of these shapes are of no LSTMCell or GRUCell: {weight_hh.shape}")
    of_h = None
    if bias_n is not None:
        of_h = np.concatenate([np.zeros(2 * hidden, bias_n.dtype), bias_n])
    weights = Weights(weight_ih, weight_hh, bias, of_h)
    weights.check(family)
    own = cell_for(family, ACTIVATIONS["tanh"], ACTIVATIONS["sigmoid"])
    return assemble({"": (own, weights)}, batch_first=batch_first)


def to_arrays(module: nn.Module) -> dict[str, Array]:
    """weight_ih, weight_hh and, with biases, bias and (GRU) bias_n:

        names = list(arrays)
        cell = eqx.tree_at(lambda c: [getattr(c, n) for n in names], cell, list(arrays.values()))

    Raises ValueError for a module that no cell of Equinox is equal to.
    """
    parts = ways_of(module)
    if list(parts) != [""]:
        raise ValueError("a cell of Equinox has one direction; write each as a cell of its own")
    layer, suffix = parts[""]
    family, inside, gate, reset_after = choice_of(layer)
    usual = (ACTIVATIONS["tanh"], ACTIVATIONS["sigmoid"])
    if family == "RNN" or not reset_after or (inside, gate) != usual:
        raise ValueError(f"Equinox has LSTMCell and GRUCell with tanh and sigmoid, not {layer}")
    weights = arrays_of(layer, suffix)
    found = {"weight_ih": weights.weight_ih, "weight_hh": weights.weight_hh}
    if weights.bias_ih is None or weights.bias_hh is None:
        return found
    if family == "LSTM":
        return {**found, "bias": weights.bias_ih + weights.bias_hh}
    cut = 2 * layer.hidden_size
    bias = weights.bias_ih.copy()
    bias[:cut] += weights.bias_hh[:cut]
    return {**found, "bias": bias, "bias_n": weights.bias_hh[cut:].copy()}
