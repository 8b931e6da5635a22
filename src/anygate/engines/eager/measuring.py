"""What `record` measures, for one time step: a line of sums over rows and units."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...formulas.cell import SLOTS, Cell
from ...formulas.measures import NORMS, PARTS, measured, totals

__all__ = ["backward_line", "forward_line", "in_order"]


def forward_line(cell: Cell, now: Mapping[str, Tensor]) -> Tensor:
    """NUMBERS, from what the measured forward Program gave."""
    held = measured(cell).limits
    numbers: list[Tensor] = []
    for slot in SLOTS:
        value, slope, argument = (now[f"{part}_{slot}"].double() for part in PARTS)
        numbers += totals(held[slot], value, slope, argument)
    size = now["c"].double().abs()
    largest = size.nan_to_num(0.0, posinf=torch.inf).amax() if size.numel() else size.sum()
    return torch.stack([n.double() for n in (*numbers, largest)])


def backward_line(inputs: Mapping[str, Tensor], back: Mapping[str, Tensor]) -> Tensor:
    """NORMS, from what the measured backward Program took and gave."""
    gradients = {
        "grad_h": inputs["grad_h"],
        "grad_h_direct": inputs["direct_h"],
        "grad_c": back["grad_c_total"],
        "grad_c_direct": back["grad_c_direct"],
    }
    return torch.stack([gradients[name].double().square().sum() for name in NORMS])


def in_order(lines: Mapping[int, Tensor]) -> Tensor:
    """The lines of all time steps, [1, T, numbers]."""
    return torch.stack([lines[t] for t in sorted(lines)]).detach().cpu().unsqueeze(0)
