"""Dates as features: where in the day, the week and the year a row lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["cycles", "season_of"]

_DAY = 86_400.0
_CYCLES = {"time of day": _DAY, "day of week": 7 * _DAY, "time of year": 365.25 * _DAY}
"""Name -> seconds."""
_SEASONS = (  # seconds of a step, from and to -> steps of the season that it is part of
    (3_540, 3_660, 24),
    (_DAY - 3_601, _DAY + 3_601, 7),
    (7 * _DAY - 3_601, 7 * _DAY + 3_601, 52),
    (28 * _DAY - 3_601, 31 * _DAY + 3_601, 12),
    (89 * _DAY, 93 * _DAY, 4),
)
Times = NDArray[np.datetime64]


def cycles(times: Times, step: float, span: float) -> dict[str, NDArray[np.float32]]:
    """Name of a cycle -> sine and cosine [R, 2] of the place of each time in it: for the cycles
    that hold two steps or more and that the span (both in seconds) holds once or more."""
    return {
        name: _circle(_share(times, name))
        for name, length in _CYCLES.items()
        if 0 < 2 * step <= length <= span
    }


def _share(times: Times, cycle: str) -> NDArray[np.float64]:
    """The share of the cycle that has passed, from 0 to 1."""
    start = times.astype(f"datetime64[{'Y' if cycle == 'time of year' else 'D'}]")
    passed = (times - start) / np.timedelta64(1, "D")
    if cycle == "day of week":
        passed = passed + (start.astype(np.int64) + 3) % 7  # 1970 began with a Thursday
        length = np.full(len(times), 7.0)
    else:
        end = (start + 1).astype("datetime64[D]")
        length = (end - start.astype("datetime64[D]")) / np.timedelta64(1, "D")
    share: NDArray[np.float64] = passed / length
    return share


def _circle(share: NDArray[np.float64]) -> NDArray[np.float32]:
    angle = 2 * np.pi * share
    return np.stack([np.sin(angle), np.cos(angle)], -1).astype(np.float32)


def season_of(step: float) -> int | None:
    """Steps of the season that steps of so many seconds usually have: 24 hours, 7 days, 52 weeks,
    12 months, 4 quarters; None for others."""
    return next((season for low, high, season in _SEASONS if low <= step <= high), None)
