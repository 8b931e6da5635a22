"""Packed batches for engines that run whole ones: stretch by stretch of equal batch size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .protocol import Layer, Result

__all__ = ["run_packed"]


def run_packed(run: Callable[[Layer], Result], layer: Layer, keep: bool = False) -> Result:
    """A packed layer by `run`, which takes layers without batch_sizes.

    Reversed, a row begins at its own last time step: the stretches are walked from the last, and
    the rows that end in one join with their starting states.
    """
    assert layer.batch_sizes is not None
    stretches = _stretches(layer.batch_sizes.tolist())
    states = tuple(s[:0] for s in layer.states)
    ended: list[tuple[Tensor, ...]] = []
    parts: list[Result] = []
    for first, steps, rows in reversed(stretches) if layer.reverse else stretches:
        if layer.reverse:
            pairs = zip(states, layer.states, strict=True)
            states = tuple(torch.cat([s, start[len(s) : rows]]) for s, start in pairs)
        elif not parts:
            states = layer.states
        else:
            ended.append(tuple(s[rows:] for s in states))
            states = tuple(s[:rows] for s in states)
        span = slice(first, first + steps * rows)
        x, masks = (
            None if t is None else t[span].view(steps, rows, *t.shape[1:])
            for t in (layer.x, layer.masks)
        )
        assert x is not None
        part = run(layer._replace(x=x, states=states, masks=masks, batch_sizes=None))
        parts.append(part)
        states = part.states
    if not parts:
        return _nothing(layer, keep)
    for rest in reversed(ended):
        states = tuple(torch.cat(pair) for pair in zip(states, rest, strict=True))
    if layer.reverse:
        parts.reverse()
    output = torch.cat([part.output.flatten(0, 1) for part in parts])
    if not keep:
        return Result(output, states)
    kept = zip(*(part.kept or () for part in parts), strict=True)
    joined = tuple(torch.cat([t.flatten(0, 1) for t in tensors]) for tensors in kept)
    return Result(output, states, joined)


def _nothing(layer: Layer, keep: bool) -> Result:
    """The result of a pack without rows."""
    output = layer.x.new_zeros(0, layer.states[0].shape[1])
    kept = tuple(output.clone() for _ in layer.states) if keep else None
    return Result(output, tuple(s.clone() for s in layer.states), kept)


def _stretches(batch_sizes: list[int]) -> list[tuple[int, int, int]]:
    """Stretches of time steps with the same number of rows: the first row of x, steps, rows."""
    found: list[tuple[int, int, int]] = []
    at = 0
    for rows in batch_sizes:
        if found and found[-1][2] == rows:
            first, steps, _ = found[-1]
            found[-1] = (first, steps + 1, rows)
        else:
            found.append((at, 1, rows))
        at += rows
    return found
