"""Paired comparisons, and the rule for what may be called a claim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from .signflip import mean_interval, sign_flip_p
from .values import Interval, Values, paired

MIN_SEEDS_FOR_CLAIM = 6
"""Below this the exact two-sided p value cannot reach 5%: ``2**(1-5) = 0.0625``."""

LEVEL = 0.05
"""The error rate of a study's claims on one question taken together (family-wise, after Holm)."""


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


def smallest_reachable_p(seeds: int, comparisons: int, *, sides: int = 2) -> float:
    """The smallest Holm-corrected p value that a study of this size can give at all.

    ``min(1, comparisons * sides * 2**-seeds)``: every seed pointing the same way in every
    comparison. ``sides`` is 2 for a difference and 1 for equivalence.
    """
    if seeds < 1 or comparisons < 1:
        return 1.0
    return min(1.0, comparisons * sides * 2.0**-seeds)


def seeds_needed(comparisons: int, *, sides: int = 2) -> int:
    """The fewest seeds with which all ``comparisons`` could reach a corrected p of 5%."""
    seeds = MIN_SEEDS_FOR_CLAIM
    while smallest_reachable_p(seeds, comparisons, sides=sides) > LEVEL:
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
