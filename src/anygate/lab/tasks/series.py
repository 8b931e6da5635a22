"""Forecasting: the next value of a series from a window of past ones."""

from __future__ import annotations

import math
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .base import RELATIVE_ERROR, Data, Settings, Task, TaskError

__all__ = ["SERIES", "WINDOW", "forecast", "passes"]

WINDOW = 24
"""Past values in one sequence: two years of months, two cycles of yearly sunspots."""
LEAST = 20
"""Windows that a series must have at least: 16 for training, 4 for testing."""
LARGEST = 256 * 2**20
"""Bytes of all windows together: each value twice, as float32."""
_TESTED = 5  # every fifth window, the latest ones, is for testing


def forecast(
    name: str,
    title: str,
    values: NDArray[np.float64],
    *,
    window: int = WINDOW,
    data: str = "",
    source: str = "",
) -> Task:
    """The task of forecasting `values`, in the order of time. Raises TaskError for a series that
    is too short, constant, or holds what is no finite number."""
    split = _split(title, values, window)
    _windows(values, window, split, title)  # refuses what cannot be scaled
    return Task(
        name=name,
        title=f"{title}, one step ahead",
        description=f"Forecast the next value from the {window} before it. The last fifth of the "
        "series is for testing, for every seed. The relative error is the root mean square error "
        "over that of 'the next value is the last one': below 1 is better than that.",
        metric=RELATIVE_ERROR,
        baseline=1.0,
        solved=None,
        steps=window,
        outputs=1,
        make=partial(_make, values, window, split, title),
        settings=_settings(len(values) - window),
        data=data,
        source=source,
        baseline_name="persistence",
        same_data=True,
    )


def _make(values: NDArray[np.float64], window: int, split: int, what: str, seed: int) -> Data:
    """The same data for every seed: time decides what is for testing."""
    return _windows(values, window, split, what)


def _split(what: str, values: NDArray[np.float64], window: int) -> int:
    """The number of windows for training."""
    if window < 1:
        raise TaskError(f"the window must be 1 or more past values, not {window}")
    count = len(values) - window
    if count < LEAST:
        raise TaskError(
            f"{what} has {len(values)} values; windows of {window} need {window + LEAST} or more"
            + (f": set --window {len(values) - LEAST} or less" if len(values) > LEAST else "")
        )
    if (size := count * window * 8) > LARGEST:
        raise TaskError(
            f"{what}: {count:,} windows of {window:,} values hold {size / 2**20:,.0f} MiB; at most "
            f"{LARGEST >> 20} are made: set --window {LARGEST // 8 // len(values)} or less, or "
            "leave out rows"
        )
    return count - count // _TESTED


def _windows(values: NDArray[np.float64], window: int, split: int, what: str) -> Data:
    """x [N, window, 2]: each value, and its change from the one before; y [N]: the change to the
    next value. So the answer 0 is 'the next value is the last one', and a series that grows gives
    no targets in its last fifth that its beginning never had. Values are centred and scaled by the
    part for training, changes are scaled by it."""
    known = values[: split + window]  # all that is seen or asked for in training
    with np.errstate(over="ignore", invalid="ignore"):
        change = np.diff(values, prepend=values[:1])
        spread = known.std()
        step = math.sqrt(np.square(change[1 : len(known)]).mean())
        tested = np.square(change[len(known) :] / (step or 1.0)).mean()
        if not np.isfinite([spread, step, tested]).all():
            raise TaskError(_too_large(what, values))
        if spread == 0 or step == 0:
            raise TaskError(f"{what} is constant where it is for training: nothing can be learned")
        if tested == 0:
            raise TaskError(
                f"the last fifth of {what} is constant: every forecast of it is trivial"
            )
        features = np.stack([(values - known.mean()) / spread, change / step], -1)
        features = features.astype(np.float32)
    if not np.isfinite(features).all():
        raise TaskError(_too_large(what, values))
    x = np.lib.stride_tricks.sliding_window_view(features[:-1], window, axis=0)
    inputs = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 2, 1)))
    targets = torch.from_numpy(features[window:, 1].copy())
    return Data(inputs[:split], targets[:split], inputs[split:], targets[split:])


def _too_large(what: str, values: NDArray[np.float64]) -> str:
    return f"{what} holds values too large to be scaled, up to {abs(values).max():g}"


def _settings(windows: int) -> Settings:
    """Few units and steps: with 32 units and 600 steps the error on the sunspots rose again."""
    return Settings(
        hidden_size=16, epochs=passes(windows, 32, 300), batch_size=32, learning_rate=0.005
    )


def passes(sequences: int, batch_size: int, steps: int) -> int:
    """Epochs that make about so many steps, from 5 to 100: for data whose size is the user's."""
    return min(100, max(5, math.ceil(steps * batch_size / sequences)))


# ---- series that statsmodels ships ----------------------------------------------------------


def _load(which: str) -> NDArray[np.float64]:
    """The yearly sunspot numbers 1700 to 2008, or the monthly means of CO2 at Mauna Loa 1958 to
    2001 (months without a measurement are interpolated)."""
    try:
        frame: Any = import_module(f"statsmodels.datasets.{which}").load_pandas().data
    except ImportError:
        raise TaskError(
            f"the series {which} comes with statsmodels, which is not installed; "
            "pip install statsmodels brings it"
        ) from None
    if which == "sunspots":
        return np.asarray(frame["SUNACTIVITY"], dtype=np.float64)
    return np.asarray(frame["co2"].resample("MS").mean().interpolate(), dtype=np.float64)


def _shipped(which: str, title: str, source: str) -> Task:
    return forecast(which, title, _load(which), source=source)


SERIES = {
    "sunspots": partial(
        _shipped,
        "sunspots",
        "yearly sunspot numbers 1700 to 2008",
        "NOAA National Geophysical Data Center, as statsmodels ships it",
    ),
    "co2": partial(
        _shipped,
        "co2",
        "monthly CO2 at Mauna Loa 1958 to 2001",
        "Keeling & Whorf 2004, as statsmodels ships it",
    ),
}
"""Name -> a function that makes the task."""
