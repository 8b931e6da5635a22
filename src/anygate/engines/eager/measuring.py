"""The sums over rows and units that `record` reports of one time step: a line of numbers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...cells import Cell
from ...cells.measures import PARTS, direct, measured, part_of, total, totals

__all__ = ["backward_line", "forward_line", "in_order"]


def forward_line(cell: Cell, now: Mapping[str, Tensor]) -> Tensor:
    """`Measured.numbers`, from what the measured forward Program gave."""
    found = measured(cell)
    numbers: list[Tensor] = []
    for slot in cell.slots:
        parts = (now[part_of(part, slot)].double() for part in PARTS)
        numbers += totals(found.limits[slot], *parts)
    for state, _ in found.numbers[len(numbers) :]:
        size = now[state].double().abs()
        largest = size.nan_to_num(0.0, posinf=torch.inf).amax() if size.numel() else size.sum()
        numbers.append(largest)
    return torch.stack([n.double() for n in numbers])


def backward_line(cell: Cell, back: Mapping[str, Tensor]) -> Tensor:
    """`Measured.norms`, from what the measured backward Program gave."""
    names = {"grad": total, "direct": direct}
    norms = measured(cell).norms
    return torch.stack([back[names[kind](s)].double().square().sum() for s, kind in norms])


def in_order(lines: Mapping[int, Tensor], width: int) -> Tensor:
    """The lines of all time steps, [1, T, width]."""
    if not lines:
        return torch.zeros(1, 0, width, dtype=torch.float64)
    return torch.stack([lines[t] for t in sorted(lines)]).detach().cpu().unsqueeze(0)
