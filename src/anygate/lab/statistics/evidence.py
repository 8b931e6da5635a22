"""The rule for what may be called a claim: of a difference, and of equivalence, which is a
difference smaller than a margin that was declared beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from .signflips import PairedDifference, mean_interval, sign_flip_p
from .values import Interval, Values, check_positive, paired

MIN_SEEDS_FOR_CLAIM = 6
"""Below this the exact two-sided p value cannot reach 5%: ``2**(1-5) = 0.0625``."""

LEVEL = 0.05
"""The error rate of a study's claims on one question taken together (family-wise, after Holm)."""


class Evidence(StrEnum):
    """The grade of a difference, by the seeds that show it. Only ``HELD`` is a claim."""

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


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided tests (TOST) of the mean of ``a - b`` against ``-margin`` and ``margin``.

    ``p_above`` tests that the mean is above ``-margin`` (alone: ``a`` is not lower than ``b`` by
    the margin, non-inferiority if more is better), ``p_below`` that it is below ``margin``.
    ``interval`` is the 90% one, for each test takes 5% on its own side: the p value is at most 5%
    exactly when the interval lies inside ``(-margin, margin)``.
    """

    n: int
    margin: float
    interval: Interval
    p_above: float
    p_below: float

    @property
    def p_value(self) -> float:
        """The p value of equivalence, not yet corrected: the larger of the two."""
        return max(self.p_above, self.p_below)


def equivalence(
    a: Values, b: Values, margin: float, *, resamples: int = 10_000, seed: int = 0
) -> Equivalence:
    """The test that the mean of ``a - b`` lies within ``margin`` of zero; ``a[i]``, ``b[i]`` are
    pairs.

    Schuirmann's two one-sided tests (1987), each the exact sign-flip test of the differences
    shifted by the margin, so that test and interval rest on the same distribution as
    :func:`paired_difference`. It assumes differences that are spread symmetrically around their
    mean. The margin, in the unit of the values, is part of the question: chosen after seeing the
    results it proves nothing. The smallest p value is ``2**-n``. Raises ``ValueError`` for a
    margin that is not positive and finite, different lengths, no pairs or values not finite.
    """
    check_positive(margin, "the margin")
    left, right = paired(a, b, "equivalence")
    delta = left - right
    # A difference that equals the margin but for the rounding of a - b is on it, not inside.
    rounding = 1e-12 * max(float(np.abs(left).max()), float(np.abs(right).max()))
    above, below = delta + margin, margin - delta
    for shifted in (above, below):
        shifted[np.abs(shifted) <= rounding] = 0.0
    return Equivalence(
        n=delta.size,
        margin=margin,
        interval=mean_interval(delta, confidence=1 - 2 * LEVEL, resamples=resamples, seed=seed),
        p_above=sign_flip_p(above, alternative="greater", resamples=resamples, seed=seed),
        p_below=sign_flip_p(below, alternative="greater", resamples=resamples, seed=seed),
    )


def is_equivalent(found: Equivalence, corrected_p: float) -> bool:
    """True if equivalence may be claimed: six seeds or more, and a corrected p of at most 5%."""
    return found.n >= MIN_SEEDS_FOR_CLAIM and corrected_p <= LEVEL
