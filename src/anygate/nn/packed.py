"""Packed batches for engines that know only whole ones: stretch by stretch of equal batch size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["run_packed"]

Triple = tuple[Tensor, Tensor, Tensor]


def run_packed(
    run: Callable[[Tensor, Tensor, Tensor], Triple],
    data: Tensor,
    batch_sizes: Tensor,
    h0: Tensor,
    c0: Tensor,
    reverse: bool,
) -> Triple:
    """data [N, I], the rows of all time steps, batch_sizes [T] falling; h0 and c0 [B, H]. run takes
    x [T, B, I], h and c, and walks in the direction that is asked for.
    Returns output [N, H] and each row's h and c after its last step, [B, H]."""
    stretches = _stretches(batch_sizes.tolist())
    outputs: list[Tensor] = []
    h, c = h0[:0], c0[:0]
    ended: list[tuple[Tensor, Tensor]] = []
    for first, steps, rows in reversed(stretches) if reverse else stretches:
        if reverse:  # rows whose last time step this is begin here
            h, c = (torch.cat([s, s0[len(s) : rows]]) for s, s0 in ((h, h0), (c, c0)))
        elif not outputs:
            h, c = h0, c0
        else:
            ended.append((h[rows:], c[rows:]))
            h, c = h[:rows], c[:rows]
        x = data[first : first + steps * rows].view(steps, rows, -1)
        output, h, c = run(x, h, c)
        outputs.append(output.flatten(0, 1))
    if reverse:
        outputs.reverse()
    for h_end, c_end in reversed(ended):
        h, c = torch.cat([h, h_end]), torch.cat([c, c_end])
    return torch.cat(outputs), h, c


def _stretches(batch_sizes: list[int]) -> list[tuple[int, int, int]]:
    """Stretches of time steps with the same number of rows: the first row of data, steps, rows."""
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
