"""How far back a gradient reaches in one LSTM, and what its forget gates alone would let through:
measured by `anygate.record` inside the engine that trains."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...nn.record import record
from ...nn.recording import LayerRecord
from ..tasks import Data
from ..trial import Model

__all__ = ["after_training", "decades", "flow"]

SEQUENCES = 64
"""Test sequences on which the gradient is measured."""
_TINY = 1e-300

Loss = Callable[[Tensor, Tensor], Tensor]


def flow(model: Model, loss: Loss, x: Tensor, y: Tensor) -> dict[str, Any]:
    """Of a loss after the last of T steps, on x [T, B, I], y [B]: the fall of ||dL/dc|| and
    ||dL/dh|| over half and nearly all of the steps in decades, that of the product of the mean
    forget gates, the share of slopes that are exactly zero by slot, and the largest |c|. None for
    what is not finite."""
    with record(model) as recording:
        loss(model(x), y).backward()  # type: ignore[no-untyped-call]
    seen: LayerRecord = recording.records[0]
    assert seen.grad_c is not None and seen.grad_h is not None
    half, whole = len(x) // 2, len(x) - 1
    forget = np.log10(np.maximum(np.abs(seen.slots["forget_gate"].mean), _TINY))
    largest = float(seen.max_abs_cell.max())
    return {
        "cell_half": decades(seen.grad_c, half),
        "cell_whole": decades(seen.grad_c, whole),
        "hidden_half": decades(seen.grad_h, half),
        "forget_half": float(forget[-half:].sum()),
        "forget_whole": float(forget[-whole:].sum()),
        "zero_slope": {slot: float(s.zero_slope.mean()) for slot, s in seen.slots.items()},
        "max_abs_cell": largest if math.isfinite(largest) else None,
    }


def decades(norms: NDArray[np.float64], lag: int) -> float | None:
    """log10 of the norm `lag` steps before the last one over that at the last one: -3 is a
    thousandth. None where there is no such number."""
    late, early = float(norms[-1]), float(norms[-1 - lag])
    if not (math.isfinite(late) and math.isfinite(early)) or late <= 0:
        return None
    return math.log10(max(early, _TINY) / late)


def after_training(loss: Loss, model: Model, data: Data) -> dict[str, Any]:
    """For run_trial's `after`: the flow on the first test sequences; nothing for tasks with a loss
    at every step, where a gradient has no lag."""
    if data.every_step:
        return {}
    x, y = data.test_x[:SEQUENCES].transpose(0, 1), data.test_y[:SEQUENCES]
    return flow(model, loss, x, y)
