"""The paired comparison, with one reference distribution for test and interval: the means of all
subsets of the differences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

import numpy as np

from .values import Array, Interval, Values, check_confidence, finite, paired

Alternative: TypeAlias = Literal["two-sided", "greater", "less"]

ENUMERATE_UP_TO = 14
"""Up to this many values all ``2**n`` patterns are visited; beyond it, a seeded random sample."""


@cache
def _all_subsets(n: int) -> Array:
    """All ``2**n - 1`` non-empty subsets of n values as rows of zeros and ones."""
    codes = np.arange(1, 2**n)[:, None]
    table = ((codes >> np.arange(n)) & 1).astype(np.float64)
    table.flags.writeable = False
    return table


def _random_subsets(n: int, count: int, seed: int) -> Array:
    """``count`` uniformly drawn non-empty subsets, as rows of zeros and ones."""
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 2, size=(count, n)).astype(np.float64)
    while (empty := ~table.any(axis=1)).any():
        table[empty] = rng.integers(0, 2, size=(int(empty.sum()), n))
    return table


def _subset_sums(data: Array, resamples: int, seed: int) -> tuple[Array, Array]:
    """Sum and size of each subset of ``data``: all subsets for small n, else random ones.

    Sums that are zero but for rounding are made zero, so that the test and the interval agree on
    which side of zero they lie.
    """
    few = data.size <= ENUMERATE_UP_TO
    table = _all_subsets(data.size) if few else _random_subsets(data.size, resamples, seed)
    sums: Array = table @ data
    sums[np.abs(sums) <= 1e-12 * np.abs(data).sum()] = 0.0
    return sums, table.sum(axis=1)


def mean_interval(
    values: Values, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The interval for the mean of ``values`` from their subset means (Hartigan 1969).

    With ``N`` subset means (all ``2**n - 1`` of them, or ``resamples`` random ones for more than
    14 values) the ends are the k-th smallest and k-th largest, ``k = floor((1-confidence)/2 *
    (N+1))`` but at least 1, and the confidence reached is ``1 - 2k/(N+1)``. Equal values give an
    interval of no width. Raises ``ValueError`` for no values, values that are not finite, or a
    confidence outside (0, 1).
    """
    check_confidence(confidence)
    data = finite(values, "mean_interval")
    sums, sizes = _subset_sums(data, resamples, seed)
    means = np.sort(sums / sizes)
    total = means.size + 1
    cut = max(1, math.floor((1 - confidence) / 2 * total + 1e-9))
    low, high = float(means[cut - 1]), float(means[-cut])
    if data.min() == data.max():  # spare the reader the last bits of a rounded mean
        low = high = float(data[0])
    return Interval(low, high, 1 - 2 * cut / total)


def sign_flip_p(
    differences: Values,
    *,
    alternative: Alternative = "two-sided",
    resamples: int = 10_000,
    seed: int = 0,
) -> float:
    """The sign-flip p value of the mean of ``differences`` being zero.

    ``alternative``: the mean is not 0 (``"two-sided"``), is ``"greater"`` or is ``"less"``. Exact
    up to 14 differences, where it equals ``scipy.stats.permutation_test(...,
    permutation_type="samples")``; else over ``resamples`` random patterns and the observed one,
    so never 0. All zeros give 1. Raises ``ValueError`` for values that are none or not finite, or
    an unknown alternative.
    """
    if alternative not in ("two-sided", "greater", "less"):
        raise ValueError(f"alternative is two-sided, greater or less, not {alternative!r}")
    data = finite(differences, "sign_flip_p")
    sums, _ = _subset_sums(data, resamples, seed)
    # Flipping the subset S turns the total t into t - 2*sum(S), which is at least as far from zero
    # on the side of t exactly when sum(S) is not on that side. The empty subset is the "1 +".
    upwards = float(data.sum()) > 0 if alternative == "two-sided" else alternative == "greater"
    hits = 1 + int(np.count_nonzero(sums <= 0 if upwards else sums >= 0))
    sides = 2 if alternative == "two-sided" else 1
    return min(1.0, sides * hits / (sums.size + 1))


@dataclass(frozen=True)
class PairedDifference:
    """The outcome of one paired comparison; ``mean`` is the mean of ``a - b``.

    ``improvement`` is the share of seeds in which ``a`` was the larger one, ties counted half.
    """

    n: int
    differences: tuple[float, ...]
    mean: float
    interval: Interval
    p_value: float
    improvement: float

    @property
    def same_sign(self) -> bool:
        """True if every seed points the same way (and none is a tie)."""
        return all(d > 0 for d in self.differences) or all(d < 0 for d in self.differences)


def paired_difference(
    a: Values,
    b: Values,
    *,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> PairedDifference:
    """Compare ``a`` with ``b``, where ``a[i]`` and ``b[i]`` share a seed.

    Gives the mean of ``a - b`` with its interval, the two-sided exact sign-flip p value (not yet
    corrected for other comparisons) and the share of seeds in which ``a`` is larger. ``resamples``
    and ``seed`` matter only beyond 14 pairs. Of 0 and 1 (solved or not) the p value is that of
    McNemar's exact test. Raises ``ValueError`` for different lengths, no pairs or values that are
    not finite.
    """
    left, right = paired(a, b, "paired_difference")
    delta = left - right
    return PairedDifference(
        n=delta.size,
        differences=tuple(float(d) for d in delta),
        mean=float(delta.mean()),
        interval=mean_interval(delta, confidence=confidence, resamples=resamples, seed=seed),
        p_value=sign_flip_p(delta, resamples=resamples, seed=seed),
        improvement=float(np.mean((delta > 0) + 0.5 * (delta == 0))),
    )
