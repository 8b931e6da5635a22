"""The statistics of paired comparisons, and the rule for what may be called a claim.

A study runs every activation with the same seeds, so two activations are compared through their
differences ``d_1 .. d_n``, one per seed. Everything here rests on one reference distribution: if
the two activations were interchangeable, each difference could as well have had the other sign.

The p value
    The exact sign-flip test of the mean: the share of the ``2**n`` sign patterns whose mean is at
    least as far from zero as the one observed. It needs no ranks and no normality, copes with ties
    and zeros, and tests the number that is reported. Its smallest possible value is ``2**(1-n)``.

The interval
    The same test, inverted (Hartigan 1969, "typical values"): sort the means of all ``2**n - 1``
    non-empty subsets of the differences and cut the same number off both ends. It contains zero
    exactly when the test does not reject, so the interval and the p value never contradict each
    other. Its coverage is exact if the differences are spread symmetrically around their centre.
    The usual bootstrap is *not* used, because it promises too much for few seeds. Simulated
    coverage of nominal 95% intervals, normal / skewed (exponential) differences:

        ======== ============= ============= ============= =============
        seeds    this one      percentile    BCa           Student t
        ======== ============= ============= ============= =============
        6        .97 / .93     .86 / .80     .86 / .85     .95 / .89
        10       .95 / .91     .90 / .86     .90 / .89     .96 / .89
        ======== ============= ============= ============= =============

    With fewer than 6 values no 95% interval of this kind exists. The range of the values is given
    instead, with the confidence that it does reach (n = 5: 93.75%, n = 3: 75%, n = 1: 0).

A claim
    "The difference held" needs all of: at least :data:`MIN_SEEDS_FOR_CLAIM` paired seeds, and a
    p value of at most 5% after Holm's correction for the number of comparisons in the study. The
    interval then excludes zero as well, by construction. Nothing less is ever called a difference,
    and a missing claim is never called equality: see :class:`Evidence`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Values: TypeAlias = Sequence[float] | Array

MIN_SEEDS_FOR_CLAIM = 6
"""Below this the exact two-sided p value cannot reach 5%: ``2**(1-5) = 0.0625``."""

LEVEL = 0.05
"""The error rate of a study's claims taken together (family-wise, after Holm)."""

ENUMERATE_UP_TO = 14
"""Up to this many values all ``2**n`` patterns are visited; beyond it, a seeded random sample."""


class Evidence(StrEnum):
    """How far the seeds carry a difference. Only ``HELD`` is a claim."""

    HELD = "held"
    """The corrected p value is at most 5%."""
    UNCORRECTED = "uncorrected"
    """The interval excludes zero, but the p value does not survive the correction."""
    UNREACHABLE = "unreachable"
    """Same sign in every seed, but no outcome of so few seeds could pass the correction."""
    NOT_SHOWN = "not shown"
    """Zero is compatible with the data. This is not evidence of equality."""
    TOO_FEW_SEEDS = "too few seeds"
    """Fewer than six pairs: no claim possible, whatever the numbers."""


@dataclass(frozen=True)
class Interval:
    """``[low, high]`` for a mean, and the confidence it truly has.

    ``confidence`` is the coverage reached, not the one asked for. For few values it is below the
    request, and the interval is then simply the range of the values.
    """

    low: float
    high: float
    confidence: float

    def contains(self, value: float) -> bool:
        """Whether ``value`` lies in the closed interval."""
        return self.low <= value <= self.high


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
        """Whether every seed points the same way (and none is a tie)."""
        return all(d > 0 for d in self.differences) or all(d < 0 for d in self.differences)


def _finite(values: Values, what: str) -> Array:
    """``values`` as a flat float64 array; ``ValueError`` if empty or not finite."""
    array = np.asarray(values, dtype=np.float64).ravel()
    if array.size == 0:
        raise ValueError(f"{what}: at least one value is needed")
    if not np.isfinite(array).all():
        raise ValueError(f"{what}: every value must be finite")
    return array


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
    """The interval for the mean of ``values`` from their subset means (see the module text).

    With ``N`` subset means (all ``2**n - 1`` of them, or ``resamples`` random ones for more than
    14 values) the ends are the k-th smallest and k-th largest, ``k = floor((1-confidence)/2 *
    (N+1))`` but at least 1, and the confidence reached is ``1 - 2k/(N+1)``. Equal values give an
    interval of no width. Raises ``ValueError`` for no values, values that are not finite, or a
    confidence outside (0, 1).
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie strictly between 0 and 1, not {confidence}")
    data = _finite(values, "mean_interval")
    sums, sizes = _subset_sums(data, resamples, seed)
    means = np.sort(sums / sizes)
    total = means.size + 1
    cut = max(1, math.floor((1 - confidence) / 2 * total + 1e-9))
    low, high = float(means[cut - 1]), float(means[-cut])
    if data.min() == data.max():  # spare the reader the last bits of a rounded mean
        low = high = float(data[0])
    return Interval(low, high, 1 - 2 * cut / total)


def sign_flip_p(differences: Values, *, resamples: int = 10_000, seed: int = 0) -> float:
    """The two-sided sign-flip p value of the mean of ``differences`` being zero.

    Exact up to 14 differences, where it equals ``scipy.stats.permutation_test(...,
    permutation_type="samples")``; else over ``resamples`` random patterns and the observed one,
    so never 0. All zeros give 1.
    """
    data = _finite(differences, "sign_flip_p")
    sums, _ = _subset_sums(data, resamples, seed)
    # Flipping the subset S turns the total t into t - 2*sum(S), which is at least as far from zero
    # on the side of t exactly when sum(S) is not on that side. The empty subset is the "1 +".
    side = 1.0 if float(data.sum()) > 0 else -1.0
    hits = 1 + int(np.count_nonzero(side * sums <= 0))
    return min(1.0, 2 * hits / (sums.size + 1))


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
    and ``seed`` matter only beyond 14 pairs. Raises ``ValueError`` for different lengths, no pairs
    or values that are not finite.
    """
    left, right = _finite(a, "paired_difference"), _finite(b, "paired_difference")
    if left.size != right.size:
        raise ValueError(f"paired values must match one to one, got {left.size} and {right.size}")
    delta = left - right
    return PairedDifference(
        n=delta.size,
        differences=tuple(float(d) for d in delta),
        mean=float(delta.mean()),
        interval=mean_interval(delta, confidence=confidence, resamples=resamples, seed=seed),
        p_value=sign_flip_p(delta, resamples=resamples, seed=seed),
        improvement=float(np.mean((delta > 0) + 0.5 * (delta == 0))),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down corrected p values, in the order given.

    The smallest is multiplied by m, the next by m - 1, and so on; running maximum, at most 1.
    Rejecting where the result is <= alpha keeps the chance of any false claim at alpha, whatever
    the dependence between the tests. Raises ``ValueError`` for a value outside [0, 1].
    """
    if any(not 0 <= p <= 1 for p in p_values):
        raise ValueError("p values must lie between 0 and 1")
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = running
    return corrected


def smallest_reachable_p(seeds: int, comparisons: int) -> float:
    """The smallest Holm-corrected p value that a study of this size can give at all.

    ``min(1, comparisons * 2**(1 - seeds))``: every seed pointing the same way in every comparison.
    """
    if seeds < 1 or comparisons < 1:
        return 1.0
    return min(1.0, comparisons * 2.0 ** (1 - seeds))


def seeds_needed(comparisons: int) -> int:
    """The fewest seeds with which all ``comparisons`` could reach a corrected p of 5%."""
    seeds = MIN_SEEDS_FOR_CLAIM
    while smallest_reachable_p(seeds, comparisons) > LEVEL:
        seeds += 1
    return seeds


def evidence(difference: PairedDifference, corrected_p: float, comparisons: int) -> Evidence:
    """Grade one comparison; ``corrected_p`` is its Holm value among ``comparisons`` of them."""
    if difference.n < MIN_SEEDS_FOR_CLAIM:
        return Evidence.TOO_FEW_SEEDS
    if corrected_p <= LEVEL:
        return Evidence.HELD
    if difference.same_sign and smallest_reachable_p(difference.n, comparisons) > LEVEL:
        return Evidence.UNREACHABLE
    if difference.p_value <= LEVEL:
        return Evidence.UNCORRECTED
    return Evidence.NOT_SHOWN


def wilson(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a rate of ``successes`` in ``trials``, as fractions in [0, 1].

    Unlike the textbook ``p +- z*sqrt(p(1-p)/n)`` it stays inside [0, 1] and has a width at 0 of n.
    Raises ``ValueError`` unless ``0 <= successes <= trials`` and ``trials >= 1``.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"wilson: need 0 <= successes <= trials >= 1, got {successes}/{trials}")
    from scipy.stats import binomtest

    limits = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return Interval(float(limits.low), float(limits.high), confidence)


def iqm(values: Values) -> float:
    """The interquartile mean: the mean without the lowest and the highest quarter of the values.

    ``floor(n/4)`` values are cut from each end, so below 4 values it is the plain mean. It resists
    a single odd run, which the mean does not. Raises ``ValueError`` for none or not finite values.
    """
    from scipy.stats import trim_mean

    return float(trim_mean(_finite(values, "iqm"), 0.25))
