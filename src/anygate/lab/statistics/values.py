"""Shared by all statistics: values in, intervals and estimates out, and the checks on both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Values: TypeAlias = Sequence[float] | Array
Scores: TypeAlias = Sequence[float] | Sequence[Sequence[float]] | Array
"""One value a seed ``[seeds]``, or one a seed and task ``[seeds, tasks]``."""


@dataclass(frozen=True)
class Interval:
    """``[low, high]``, and the confidence it truly has.

    ``confidence`` is the coverage reached, not the one asked for. For few values it is below the
    request, and the interval is then simply the range of the values.
    """

    low: float
    high: float
    confidence: float

    def contains(self, value: float) -> bool:
        """True if ``value`` lies in the closed interval."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class NominalInterval(Interval):
    """An interval whose ``confidence`` is only the one asked for.

    It is reached for many values and missed for few; the module text of
    :mod:`anygate.lab.statistics` says by how much. No claim rests on one.
    """


@dataclass(frozen=True)
class Estimate:
    """A number with its interval."""

    value: float
    interval: Interval


def finite(values: Values, what: str) -> Array:
    """``values`` as a flat float64 array; ``ValueError`` if empty or not finite."""
    array = np.asarray(values, dtype=np.float64).ravel()
    if array.size == 0:
        raise ValueError(f"{what}: at least one value is needed")
    if not np.isfinite(array).all():
        raise ValueError(f"{what}: every value must be finite")
    return array


def matrix(scores: Scores, what: str) -> Array:
    """``scores`` as ``[seeds, tasks]`` (one task if flat); ``ValueError`` if not that, or empty."""
    try:
        array = np.asarray(scores, dtype=np.float64)
    except ValueError as error:
        raise ValueError(f"{what}: every task needs the same number of seeds") from error
    if array.ndim not in (1, 2):
        raise ValueError(f"{what}: [seeds] or [seeds, tasks] is needed, not {array.ndim} axes")
    finite(array, what)
    return array[:, None] if array.ndim == 1 else array


def paired(a: Values, b: Values, what: str) -> tuple[Array, Array]:
    """Both flat, of one length and finite; ``ValueError`` else."""
    left, right = finite(a, what), finite(b, what)
    if left.size != right.size:
        raise ValueError(
            f"{what}: paired values must match one to one, got {left.size} and {right.size}"
        )
    return left, right


def check_confidence(confidence: float) -> None:
    """``ValueError`` unless ``0 < confidence < 1``."""
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie strictly between 0 and 1, not {confidence}")


def check_positive(value: float, what: str) -> None:
    """``ValueError`` unless ``value`` is finite and above 0."""
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{what} must be a positive number, not {value}")
