"""Equivalence: that a difference is smaller than a margin which was declared beforehand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .claims import LEVEL, MIN_SEEDS_FOR_CLAIM
from .signflip import mean_interval, sign_flip_p
from .values import Interval, Values, check_positive, paired


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
    """Whether the mean of ``a - b`` lies within ``margin`` of zero; ``a[i]``, ``b[i]`` are pairs.

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
    """Whether equivalence may be claimed: six seeds or more, and a corrected p of at most 5%."""
    return found.n >= MIN_SEEDS_FOR_CLAIM and corrected_p <= LEVEL
