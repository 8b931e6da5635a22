"""A layer as torch's `scan` over time, for programs of plain ATen operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...cells import Cell, cell_of
from ..protocol import Layer, Result
from .layer import derived
from .plain import plain

__all__ = ["recurrent_by_scan"]


def recurrent_by_scan(*arguments: Any, engine: str = "") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The results of `anygate::recurrent` from its arguments, without gradients, whatever the
    engine: one step, which `scan` repeats, so that the number of steps and of rows stays free.
    Raises NotImplementedError for a packed batch."""
    x, states, *weights, masks, batch_sizes, key, reverse, _, keep = arguments
    if batch_sizes is not None:
        raise NotImplementedError(
            "a packed batch has no number of steps that plain operators could repeat; export the "
            "model with padded input (lengths= and mask= pack too)"
        )
    cell = cell_of(key)
    count, place = len(cell.type.states), cell.type.states.index(cell.type.output)
    given = [t for t in weights if t is not None]
    is_there = [t is not None for t in weights]

    def step(*tensors: Tensor) -> tuple[Tensor, ...]:
        now, x_now = tensors[:count], tensors[count]
        mask = tensors[count + 1][None] if masks is not None else None
        rest = iter(tensors[count + 1 + (masks is not None) :])
        own = [next(rest) if there else None for there in is_there]
        parts: Any = (x_now[None], now, *own, mask)
        new = _step(cell, Layer(*parts)).states
        return *(s.clone() for s in new), *(s.clone() for s in new)

    inputs = [t.flip(0) if reverse else t.clone() for t in (x, masks) if t is not None]
    begin = [states[k].clone() for k in range(count)]
    with torch.no_grad():
        found = torch.ops.higher_order.scan(step, begin, inputs, tuple(given))
    last, every = found[:count], found[count:]
    every = [t.flip(0) if reverse else t for t in every]
    empty = x.new_empty(0)
    rest = [t for k, t in enumerate(every) if k != place]
    others = empty.clone()
    if keep:
        others = torch.stack(rest) if rest else x.new_empty((0, *every[place].shape))
    return every[place], torch.stack(list(last)), empty, others


def _step(cell: Cell, layer: Layer) -> Result:
    one = cell.type.kind in ("one product", "no recurrence")
    return derived(cell, layer, False, None) if one else plain(cell, layer)
