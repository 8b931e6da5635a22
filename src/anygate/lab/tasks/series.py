"""Series that statsmodels ships, and any series of numbers, as tasks of forecasting."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Task, TaskError
from .columns import Column, Columns
from .forecasting import WINDOW, forecast_columns

__all__ = ["SERIES", "forecast"]


def forecast(
    name: str,
    title: str,
    values: NDArray[np.float64],
    *,
    window: int = WINDOW,
    horizon: int = 1,
    data: str = "",
    source: str = "",
) -> Task:
    """The task of forecasting `values`, in the order of time. Raises TaskError for a series that
    is too short, constant, or holds what is no finite number."""
    if not np.isfinite(values).all():
        raise TaskError(f"{title} holds {values[~np.isfinite(values)][0]}, which is not finite")
    columns = Columns([Column(title, "number", values)], [])
    return forecast_columns(
        name, title, columns, window=window, horizon=horizon, data=data, source=source
    )


def _load(which: str) -> NDArray[np.float64]:
    """The series in the order of time. The months of CO2 without a measurement are interpolated;
    the sea's temperature is a row of months for each year."""
    try:
        frame: Any = import_module(f"statsmodels.datasets.{which}").load_pandas().data
    except ImportError:
        raise TaskError(
            f"the series {which} comes with statsmodels, which is not installed; "
            "pip install statsmodels brings it"
        ) from None
    if which == "co2":
        frame = frame["co2"].resample("MS").mean().interpolate()
    elif which == "elnino":
        frame = frame.drop(columns="YEAR")
    else:
        frame = frame[{"sunspots": "SUNACTIVITY", "nile": "volume"}[which]]
    return np.asarray(frame, dtype=np.float64).ravel()


def _shipped(which: str, title: str, source: str) -> Task:
    return forecast(which, title, _load(which), source=f"{source}, as statsmodels ships it")


SERIES = {
    name: partial(_shipped, name, title, source)
    for name, title, source in (
        (
            "sunspots",
            "yearly sunspot numbers 1700 to 2008",
            "NOAA National Geophysical Data Center",
        ),
        ("co2", "monthly CO2 at Mauna Loa 1958 to 2001", "Keeling & Whorf 2004"),
        ("nile", "yearly flow of the Nile at Aswan 1871 to 1970", "Durbin & Koopman 2001"),
        (
            "elnino",
            "monthly temperature of the sea off Peru 1950 to 2010",
            "NOAA Climate Prediction Center",
        ),
    )
}
"""Name -> a function that makes the task."""
