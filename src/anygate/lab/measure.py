"""What happens inside an LSTM on given sequences: saturated and dead units, size of the state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..backends import eager
from ..nn import LSTM
from ..symbolic import sheet
from ..symbolic.cell import GATES, SLOTS

__all__ = ["Inside", "first_bad", "inside"]

_SATURATED = 0.1  # of the largest |f'|


@dataclass(frozen=True)
class Inside:
    """max_abs_cell: largest |c|. slots: slot -> {"saturated", "dead"}: the share of all (unit,
    step, sequence) whose |f'| is below a tenth of its largest value, and the share of units whose
    f' is exactly zero at every step of every sequence."""

    max_abs_cell: float
    slots: dict[str, dict[str, float]]


def inside(lstm: LSTM, x: Tensor) -> Inside:
    """Measure the first layer of `lstm` on x [T, B, I]."""
    arguments = _arguments(x, lstm)
    slots = {}
    for slot, argument in arguments.items():
        activation = lstm.cell.slots[slot]
        slope = eager.apply(activation.derivative(), argument).abs()
        largest = sheet(activation).largest_slope.value  # infinite: nothing counts as saturated
        limit = _SATURATED * largest if largest < float("inf") else 0.0
        slots[slot] = {
            "saturated": (slope < limit).double().mean().item(),
            "dead": (slope == 0).flatten(0, 1).all(0).double().mean().item(),
        }
    return Inside(arguments["cell_output"].abs().max().item(), slots)


def first_bad(lstm: LSTM, x: Tensor) -> dict[str, Any]:
    """Where the first number that is not finite appears: its slot, time step (from 1), and the
    largest |c| before it. Empty if all are finite."""
    arguments = _arguments(x, lstm)
    cells = arguments["cell_output"]
    bad = {slot: ~torch.isfinite(a).flatten(1).all(1) for slot, a in arguments.items()}
    steps = {slot: int(b.nonzero()[0]) for slot, b in bad.items() if b.any()}
    if not steps:
        return {}
    slot = min(SLOTS, key=lambda s: steps.get(s, len(x)))
    before = cells[: steps[slot]]
    return {
        "slot": slot,
        "time_step": steps[slot] + 1,
        "max_abs_cell_before": before.abs().max().item() if len(before) else 0.0,
    }


def _arguments(x: Tensor, lstm: LSTM) -> dict[str, Tensor]:
    """What each slot's activation is applied to, [T, B, H]."""
    zeros = x.new_zeros(x.size(1), lstm.hidden_size)
    z, c = eager.trace(lstm.cell, x, zeros, zeros, *lstm.layer_weights(0))
    return {**dict(zip(GATES, z.chunk(4, -1), strict=True)), "cell_output": c}
