"""One effect over several tasks, and what it says of a task that nobody has run yet."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import optimize, stats

from .values import Interval, Values, check_confidence, paired


@dataclass(frozen=True)
class RandomEffects:
    """The mean effect over tasks, with the spread of the tasks' own effects around it.

    ``interval`` is the mean's; ``prediction`` is where the effect in a new task of the same kind
    is expected. ``tau`` is the standard deviation of the true effects between tasks.
    """

    tasks: int
    mean: float
    interval: Interval
    tau: float
    prediction: Interval


def random_effects(
    effects: Values, standard_errors: Values, *, confidence: float = 0.95
) -> RandomEffects:
    """The random-effects mean of one effect a task, each with its standard error.

    The model is ``effect = mean + u + error``, with ``u`` of variance ``tau**2`` and an error of
    the task's own. ``tau`` is Paule and Mandel's (1982): with weights ``w = 1/(se**2 + tau**2)``
    and the weighted mean over k tasks, ``sum(w*(effect - mean)**2)`` is ``k - 1``; tau is 0 if
    the sum is no larger there. It assumes no distribution, and its equation has at most one root.

    The interval is Hartung and Knapp's (2001), ``mean +- t[k-1]*sqrt(q/sum(w))`` with
    ``q = sum(w*(effect - mean)**2)/(k - 1)``. That is 1 wherever tau is above 0, and is counted
    as 1 where it would be smaller (Röver, Knapp and Friede 2015): a few effects that agree by
    chance must not make the interval shorter than their errors do. The prediction interval is
    that of Higgins, Thompson and Spiegelhalter (2009),
    ``mean +- t[k-2]*sqrt(tau**2 + q/sum(w))``; for two tasks it is the whole line.

    Raises ``ValueError`` for fewer than two tasks, lengths that differ, values that are not
    finite, a standard error that is not positive, or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    effect, error = paired(effects, standard_errors, "random_effects")
    if effect.size < 2:
        raise ValueError("random_effects: at least two tasks are needed")
    if not (error > 0).all():
        raise ValueError("random_effects: every standard error must be positive")
    unit = float(error.max())  # all in this unit, so that no square is lost
    effect, error = effect / unit, error / unit
    degrees = effect.size - 1

    def weighted(variance: float) -> tuple[float, float, float]:
        """The mean, the sum of weights and the weighted squares around it less k - 1."""
        w = 1 / (error**2 + variance)
        mean = float(w @ effect / w.sum())
        return mean, float(w.sum()), float(w @ (effect - mean) ** 2) - degrees

    variance = 0.0
    if weighted(0.0)[2] > 0:
        # At this variance every weighted square is at most its share of k - 1.
        enough = float(((effect - effect.mean()) ** 2).sum()) / degrees
        variance = float(optimize.brentq(lambda v: weighted(v)[2], 0.0, enough, rtol=1e-12))
    mean, weights, _ = weighted(variance)
    half = float(stats.t.isf((1 - confidence) / 2, degrees)) / math.sqrt(weights)
    reach = math.inf
    if degrees > 1:
        quantile = float(stats.t.isf((1 - confidence) / 2, degrees - 1))
        reach = quantile * math.sqrt(variance + 1 / weights)
    return RandomEffects(
        tasks=effect.size,
        mean=mean * unit,
        interval=Interval((mean - half) * unit, (mean + half) * unit, confidence),
        tau=math.sqrt(variance) * unit,
        prediction=Interval((mean - reach) * unit, (mean + reach) * unit, confidence),
    )
