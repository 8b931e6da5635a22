"""Rates and probabilities: solved runs, and who is better on a new seed."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from scipy import stats

from .values import Estimate, Interval, Scores, check_confidence, matrix


def wilson(successes: float, trials: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval (1927) for a rate of ``successes`` in ``trials``, in [0, 1].

    All rates p with ``|successes/trials - p| <= z * sqrt(p*(1-p)/trials)``. Unlike the textbook
    ``p +- z*sqrt(p(1-p)/n)`` it stays inside [0, 1] and has a width at 0 of n. Half a success (a
    tie) is allowed. Raises ``ValueError`` unless ``0 <= successes <= trials`` and ``trials >= 1``.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"wilson: need 0 <= successes <= trials >= 1, got {successes}/{trials}")
    check_confidence(confidence)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (successes + z * z / 2) / (trials + z * z)
    spread = successes * (trials - successes) / trials + z * z / 4
    half = z * math.sqrt(spread) / (trials + z * z)
    high = 1.0 if successes == trials else min(1.0, centre + half)  # else 1 - 1e-16 for 9 of 9
    return Interval(max(0.0, centre - half), high, confidence)


def clopper_pearson(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """The exact interval for a rate of ``successes`` in ``trials``: Clopper and Pearson (1934).

    All rates p at which neither ``P(X >= successes)`` nor ``P(X <= successes)`` is below half of
    ``1 - confidence``, for binomial X; from SciPy. It covers at least ``confidence`` at every rate,
    where Wilson's does so on average: for 0 of n divergences it ends at about ``3.7/n``. Raises
    ``ValueError`` unless both are whole, ``0 <= successes <= trials`` and ``trials >= 1``.
    """
    whole = successes == int(successes) and trials == int(trials)
    if not whole or not 0 <= successes <= trials or trials < 1:
        raise ValueError(
            "clopper_pearson: need whole numbers 0 <= successes <= trials >= 1, "
            f"got {successes}/{trials}"
        )
    check_confidence(confidence)
    found = stats.binomtest(int(successes), int(trials)).proportion_ci(confidence, method="exact")
    return Interval(float(found.low), float(found.high), confidence)


def probability_of_improvement(
    a: Scores, b: Scores, *, paired: bool = True, confidence: float = 0.95
) -> Estimate:
    """The probability that ``a`` is larger than ``b`` on new seeds, ties counted half.

    ``[seeds]`` or ``[seeds, tasks]``; with several tasks their mean. ``paired``: both on the same
    new seed, estimated by the share of seeds in which ``a`` is larger. Not ``paired``: on two
    independent ones, the Mann-Whitney statistic over ``seeds**2`` (Agarwal et al. 2021, as rliable
    computes it; the number of seeds may then differ).

    The interval is Wilson's with ``seeds * tasks`` trials (the smaller number of seeds). It is
    meant to be wide rather than narrow: a mean of K task probabilities has a variance of at most
    ``p*(1-p)/(n*K)``, ties and the Mann-Whitney statistic included. Unlike rliable's bootstrap it
    does not shrink to a point when every seed points the same way. Raises ``ValueError`` for
    shapes that do not match, no values or values that are not finite.
    """
    left, right = (matrix(x, "probability_of_improvement") for x in (a, b))
    if left.shape[1] != right.shape[1] or (paired and left.shape != right.shape):
        raise ValueError(
            f"probability_of_improvement: {left.shape} and {right.shape} ([seeds, tasks]) do not "
            "match"
        )
    if not paired:
        left, right = left[:, None], right[None]
    value = float(np.mean((left > right) + 0.5 * (left == right)))
    trials = min(left.shape[0], right.shape[-2]) * left.shape[-1]
    return Estimate(value, wilson(min(value * trials, trials), trials, confidence=confidence))
