"""Missing values (NaN) in rows in the order of time: what is known before and after them."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

__all__ = ["filled_forward", "filled_linear", "moments", "next_known", "root_mean_square"]

Array = NDArray[np.float64]


def filled_forward(values: Array) -> Array:
    """Values [R, V] with the last known one in each gap; NaN before the first."""
    rows = np.arange(len(values))[:, None]
    last = np.maximum.accumulate(np.where(np.isnan(values), -1, rows), axis=0)
    filled = np.take_along_axis(values, np.maximum(last, 0), axis=0)
    return np.where(last < 0, np.nan, filled)


def filled_linear(values: Array) -> Array:
    """Values [R, V] with a straight line over each gap between two known ones; the last known one
    after it, and NaN before the first."""
    filled, rows = filled_forward(values), np.arange(len(values))
    for k in range(values.shape[1]):
        known = ~np.isnan(values[:, k])
        if not known.all() and known.any():
            gap = ~known & (rows > known.argmax())
            filled[gap, k] = np.interp(rows[gap], rows[known], values[known, k])
    return filled


def next_known(values: Array) -> NDArray[np.int64]:
    """For each of values [R, V] the row of the first known value that is not before it; R if there
    is none."""
    rows = np.arange(len(values))[:, None]
    known = np.where(np.isnan(values), len(values), rows)
    return np.minimum.accumulate(known[::-1], axis=0)[::-1]


def moments(values: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of what is known in each column of values [R, V]; 0 if nothing
    is."""
    known = [column[~np.isnan(column)] for column in values.T]
    mean = [column.mean() if len(column) else 0.0 for column in known]
    return np.array(mean), np.array([column.std() if len(column) else 0.0 for column in known])


def root_mean_square(values: Array) -> Array:
    """That of what is known in each column of values [R, ...]; 0 if nothing is."""
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    known = [column[~np.isnan(column)] for column in flat.T]
    found = [np.sqrt(np.square(column).mean()) if len(column) else 0.0 for column in known]
    return np.array(found).reshape(values.shape[1:])
