"""Packed batches for engines that run whole ones: stretch by stretch of equal batch size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .protocol import Layer, Measures, Result

__all__ = ["Run", "run_packed"]

Run = Callable[[Layer, "Measures | None", int], Result]
"""(layer, measures, go_on) -> its result: of a layer without batch_sizes, whose first `go_on` rows
have later steps in another stretch, so that the gradient of their states comes from there."""


def run_packed(
    run: Run, layer: Layer, keep: bool = False, measures: Measures | None = None
) -> Result:
    """A packed layer by `run`.

    Reversed, a row begins at its own last time step: the stretches are walked from the last, and
    the rows that end in one join with their starting states.
    """
    assert layer.batch_sizes is not None
    stretches = _stretches(layer.batch_sizes.tolist())
    numbers = list(range(len(stretches)))
    walked = numbers[::-1] if layer.reverse else numbers
    tables = None if measures is None else _Joined(measures, [s for _, s, _ in stretches], walked)
    states = tuple(s[:0] for s in layer.states)
    ended: list[tuple[Tensor, ...]] = []
    parts: list[Result] = []
    for k in walked:
        first, steps, rows = stretches[k]
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
        go_on = 0 if k == walked[-1] else min(rows, stretches[k - 1 if layer.reverse else k + 1][2])
        now = layer._replace(x=x, states=states, masks=masks, batch_sizes=None)
        part = run(now, None if tables is None else _Part(tables, k), go_on)
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


class _Joined:
    """The tables of the stretches of a pack, handed on as one of all time steps. Each time step
    lies in one stretch. steps: of each stretch. walked: the stretches in the order of the run."""

    def __init__(self, measures: Measures, steps: list[int], walked: list[int]) -> None:
        self.measures, self.steps, self.walked = measures, steps, walked
        self.values: dict[int, Tensor] = {}
        self.norms: dict[int, Tensor] = {}

    def joined(self, tables: dict[int, Tensor]) -> Tensor:
        """[1, T, numbers]; zeros for a stretch without a table, which no gradient reached."""
        like = next(iter(tables.values()))
        parts = [
            tables[k] if k in tables else like.new_zeros(1, steps, like.shape[-1])
            for k, steps in enumerate(self.steps)
        ]
        tables.clear()  # another backward through the same graph begins again
        return torch.cat(parts, 1)


class _Part:
    """Receives what was measured in one stretch (a `Measures`), and hands all on after the last:
    backward, that is the one that ran first, on which all others depend."""

    def __init__(self, joined: _Joined, number: int) -> None:
        self.whole, self.number = joined, number

    def forward(self, table: Tensor) -> None:
        self.whole.values[self.number] = table
        if self.number == self.whole.walked[-1]:
            self.whole.measures.forward(self.whole.joined(self.whole.values))

    def backward(self, table: Tensor) -> None:
        self.whole.norms[self.number] = table
        if self.number == self.whole.walked[0]:
            self.whole.measures.backward(self.whole.joined(self.whole.norms))


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
