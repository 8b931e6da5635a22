"""Values of slots inside a layer that has run, computed again from its input and its states.

The states before each step are known once the layer has run, so all steps are computed side by
side: the reference engine takes one step of a batch of T*B rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..cells import Cell
from ..cells.celltype import argument_of
from ..cells.schedule import schedule
from ..formulas.program import Program, evaluate
from .protocol import Layer, Result
from .reference.loop import Arrays, forward
from .reference.operations import OPS, Array

__all__ = ["Array", "evaluate_arrays", "unit_values"]


def evaluate_arrays(program: Program, inputs: Mapping[str, Array | float]) -> dict[str, Array]:
    """The outputs of a Program by name, of NumPy arrays in float64."""
    with np.errstate(all="ignore"):
        return evaluate(program, OPS, inputs)


def unit_values(
    cell: Cell, layer: Layer, result: Result, units: Sequence[int]
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Values and slopes of some hidden units at every time step, [T, B, len(units)] each
    ([N, len(units)] packed), in float64: f(a) by slot and each state by name; f'(a) by slot.

    result: what a run of the layer with keep=True gave.
    """
    assert result.kept is not None
    rows = layer.x.shape[:-1]
    previous = _previous_rows(layer)
    states = tuple(
        _array(torch.cat([start, kept.flatten(0, -2)])[previous])
        for start, kept in zip(layer.states, result.kept, strict=True)
    )
    optional = (layer.bias_ih, layer.bias_hh, layer.vectors)
    masks = None if layer.masks is None else _array(layer.masks.flatten(0, -3))[None]
    bias_ih, bias_hh, vectors = (None if t is None else _array(t) for t in optional)
    one_step = Arrays(
        _array(layer.x.flatten(0, -2))[None],
        states,
        _array(layer.weight_ih),
        _array(layer.weight_hh),
        bias_ih,
        bias_hh,
        vectors,
        masks,
    )
    seen = forward(cell, one_step).seen[0]
    picked = list(units)

    def pick(values: Array) -> Array:
        whole = np.broadcast_to(values, states[0].shape)
        return whole[:, picked].reshape(*rows, len(picked))

    slopes = {}
    for action in schedule(cell):
        if action.kind == "slot":
            program = dict(action.slopes)[argument_of(action.name)]
            slopes[action.name] = pick(evaluate_arrays(program, seen)["value"])
    values = {name: pick(seen[name]) for name in (*cell.slots, *cell.type.states)}
    return values, slopes


def _previous_rows(layer: Layer) -> Tensor:
    """For each row of x, flat: the row of cat(states before the layer, states of all rows) that
    holds the states before it, [N]."""
    batch = layer.states[0].shape[0]
    if layer.batch_sizes is None:
        steps = layer.x.shape[0]
        sizes = torch.full((steps,), batch, dtype=torch.long)
    else:
        sizes = layer.batch_sizes
    begins = sizes.cumsum(0) - sizes
    step = torch.repeat_interleave(sizes)
    row = torch.arange(len(step)) - begins[step]
    if not layer.reverse:
        before = torch.where(step > 0, begins[(step - 1).clamp(min=0)] + row, -1)
    else:
        after = (step + 1).clamp(max=max(len(sizes) - 1, 0))
        goes_on = (step + 1 < len(sizes)) & (row < sizes[after])
        before = torch.where(goes_on, begins[after] + row, -1)
    found = torch.where(before < 0, row, before + batch)
    return found.to(layer.x.device)


def _array(tensor: Tensor) -> Array:
    return tensor.detach().cpu().to(torch.float64).numpy()
