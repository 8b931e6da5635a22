"""How far back a gradient reaches in one LSTM: its norm at every time step, and what its forget
gates alone would let through."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...backends import eager
from ...symbolic.cell import SLOTS
from ..tasks import Data
from ..trial import Model

__all__ = ["Flow", "after_training", "flow", "summary"]

SEQUENCES = 32
"""Test sequences on which the gradient is measured."""
_TINY = 1e-300


@dataclass(frozen=True)
class Flow:
    """Of a loss after the last of T steps: cell[t] = ||dL/dc_t|| and hidden[t] = ||dL/dh_t||,
    through all paths; log_forget: the mean of ln|f| over steps, units and sequences; zero_slope:
    slot -> the share of exactly zero derivatives; max_abs_cell: the largest |c|."""

    cell: NDArray[np.float64]
    hidden: NDArray[np.float64]
    log_forget: float
    zero_slope: dict[str, float]
    max_abs_cell: float


def flow(model: Model, loss: Any, x: Tensor, y: Tensor) -> Flow:
    """Measure on x [T, B, I], y [B], in float64. loss(output, y) is the task's."""
    lstm, cell = model.lstm, model.lstm.cell
    w_ih, w_hh, bias = (w.detach().double() for w in lstm.layer_weights(0)[:3])
    h = c = torch.zeros(x.size(1), lstm.hidden_size, dtype=torch.float64)
    steps: list[dict[str, Tensor]] = []
    for z_x in x.double() @ w_ih.T + bias:
        z = dict(zip(SLOTS, (z_x + h @ w_hh.T).chunk(4, -1), strict=False))
        i, f, g, o = (eager.apply(cell.slots[slot], a) for slot, a in z.items())
        c = f * c + i * g
        if not c.requires_grad:  # the first: nothing before it has a gradient
            c.requires_grad_()
        h = o * eager.apply(cell.slots["cell_output"], c)
        c.retain_grad()
        h.retain_grad()
        steps.append({**z, "cell_output": c, "h": h, "f": f})
    head = model.head
    output = h @ head.weight.detach().double().T + head.bias.detach().double()
    loss(output, y.double() if y.is_floating_point() else y).backward()
    seen = {k: torch.stack([s[k] for s in steps]).detach() for k in (*SLOTS, "f")}
    slopes = {slot: eager.apply(cell.slots[slot].derivative(), seen[slot]) for slot in SLOTS}
    return Flow(
        cell=np.array([_norm(s["cell_output"]) for s in steps]),
        hidden=np.array([_norm(s["h"]) for s in steps]),
        log_forget=seen["f"].abs().clamp_min(_TINY).log().mean().item(),
        zero_slope={slot: (f == 0).double().mean().item() for slot, f in slopes.items()},
        max_abs_cell=seen["cell_output"].abs().max().item(),
    )


def _norm(t: Tensor) -> float:
    return 0.0 if t.grad is None else t.grad.norm().item()


def decades(norms: NDArray[np.float64], lag: int) -> float | None:
    """log10 of the norm `lag` steps before the last one over that at the last one: -3 is a
    thousandth. None where there is no such number."""
    late, early = float(norms[-1]), float(norms[-1 - lag])
    if not (math.isfinite(late) and math.isfinite(early)) or late <= 0:
        return None
    return math.log10(max(early, _TINY) / late)


def summary(found: Flow) -> dict[str, Any]:
    """A flow in a few numbers: the fall of ||dL/dc|| and ||dL/dh|| over half and nearly all of the
    steps in decades, the same of the forget gates' product, zero slopes and the largest |c|."""
    steps = len(found.cell)
    half, whole = steps // 2, steps - 1
    per_step = found.log_forget / math.log(10)
    return {
        "cell_half": decades(found.cell, half),
        "cell_whole": decades(found.cell, whole),
        "hidden_half": decades(found.hidden, half),
        "forget_half": half * per_step,
        "forget_whole": whole * per_step,
        "zero_slope": found.zero_slope,
        "max_abs_cell": found.max_abs_cell if math.isfinite(found.max_abs_cell) else None,
    }


def after_training(spec_loss: Any, model: Model, data: Data) -> dict[str, Any]:
    """For run_trial's `after`: the summary on the first test sequences; nothing for tasks with a
    loss at every step, where a gradient has no lag, and for variants of the cell."""
    cell = model.lstm.cell
    if data.every_step or cell.coupled or cell.peephole:
        return {}
    x, y = data.test_x[:SEQUENCES].transpose(0, 1), data.test_y[:SEQUENCES]
    return summary(flow(model, spec_loss, x, y))
