"""How far back a gradient reaches in one LSTM, and what its forget gates alone would let through:
measured by `anygate.record` inside the engine that trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...nn.record import record
from ..study.store.schema import Snapshot
from ..study.trial import Model

__all__ = ["decades", "flow", "trained"]

_TINY = 1e-300

Loss = Callable[[Tensor, Tensor], Tensor]


def flow(model: Model, loss: Loss, x: Tensor, y: Tensor) -> dict[str, float | None]:
    """Of a loss after the last of T steps, on x [T, B, I], y [B]: the change of ||dL/dc|| and
    ||dL/dh|| over half and nearly all of the steps in decades, and that of the product of the mean
    forget gates. None for what is not finite."""
    with record(model) as recording:
        loss(model(x), y).backward()  # type: ignore[no-untyped-call]
    seen = recording.records[0]
    assert seen.grad_c is not None and seen.grad_h is not None
    half, whole = len(x) // 2, len(x) - 1
    forget = np.log10(np.maximum(np.abs(seen.slots["forget_gate"].mean), _TINY))
    return {
        "cell_half": decades(seen.grad_c, half),
        "cell_whole": decades(seen.grad_c, whole),
        "hidden_half": decades(seen.grad_h, half),
        "forget_half": float(forget[-half:].sum()),
        "forget_whole": float(forget[-whole:].sum()),
    }


def decades(norms: Sequence[float] | NDArray[np.float64], lag: int) -> float | None:
    """log10 of the norm `lag` places before the last one over that at the last one: -3 is a
    thousandth. None where there is no such number."""
    late, early = float(norms[-1]), float(norms[-1 - lag])
    if not (math.isfinite(late) and math.isfinite(early)) or late <= 0:
        return None
    return math.log10(max(early, _TINY) / late)


def trained(seen: Snapshot | None) -> dict[str, Any]:
    """Of the snapshot at the end of a trial: the change of ||dL/dc|| over half of the time steps,
    and slot -> the share of slopes that are exactly zero. Empty without a snapshot."""
    if seen is None:
        return {}
    norms = seen.states.get("grad_c")
    shares = {slot: found.get("zero_slope", ()) for slot, found in seen.slots.items()}
    return {
        "cell_half": decades(norms, len(norms) // 2) if norms else None,
        "zero_slope": {slot: float(np.mean(s)) for slot, s in shares.items() if len(s)},
    }
