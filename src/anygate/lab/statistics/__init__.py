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
    With fewer than 6 values no 95% interval of this kind exists. The range of the values is given
    instead, with the confidence that it does reach (n = 5: 93.75%, n = 3: 75%, n = 1: 0).

The bootstrap
    Intervals by the percentile and the BCa bootstrap are there because readers expect them, and
    for the IQM, which has no other. They promise too much for few seeds (the table below), so no
    claim rests on one; their type, :class:`NominalInterval`, says so.

Solved or not, and when
    A rate has Wilson's interval, and so has the probability to be better on a new seed. A run that
    never solved is censored: the median time has an exact interval from order statistics, the
    restricted mean counts such a run with the whole horizon, and two activations are tested by
    sign flips of their ranks, unsolved runs sharing the last one.

Equivalence
    Two one-sided sign-flip tests against a margin that was declared beforehand (TOST), which agree
    with the 90% interval as the test above does with the 95% one. Only this may be called
    equivalence. The test takes the differences to be spread symmetrically around their mean: where
    they are strongly skewed away from zero, as when a run fails now and then, it claims too often,
    and so does Student's version (the table below, "TOST on the margin").

A claim
    "The difference held" needs all of: at least :data:`MIN_SEEDS_FOR_CLAIM` paired seeds, and a
    p value of at most 5% after Holm's correction for the number of comparisons in the study. The
    interval then excludes zero as well, by construction. Nothing less is ever called a difference,
    and a missing claim is never called equality: see :class:`Evidence`. Difference, equivalence and
    time to solve are three questions, each corrected over the rivals on its own.

A family, looks, several tasks
    :func:`max_t` corrects a family of comparisons without giving away what binds them.
    :func:`spending` says what p value a study needs that looks at its results while seeds are still
    to come. :func:`random_effects` sets the effects of several tasks in one mean, with its spread
    from task to task and what it predicts for a new one.

What the intervals cover
    Simulated by ``benchmarks/coverage.py`` (4000 repetitions, so a share of .95 has a standard
    error of .003; ``benchmarks/results/coverage.json``). Share of intervals that hold the true
    value, nominal 95%, for 6, 10 and 20 seeds. Left: normal values, or exponential times. Right:
    skewed (exponential) values, or log-normal times. 30% of the times are censored.

    =================================  ===========  ===========
    seeds                              6   10  20   6   10  20
    =================================  ===========  ===========
    mean: sign flips                   .97 .95 .94  .93 .91 .91
    mean: percentile bootstrap         .85 .91 .93  .81 .85 .90
    mean: BCa bootstrap                .87 .90 .93  .82 .88 .91
    mean: Student t, for comparison    .95 .95 .95  .88 .90 .91
    IQM, one task                      .91 .94 .94  .91 .94 .95
    IQM, four tasks                    .92 .93 .94  .90 .92 .94
    difference of IQM, one task        .91 .93 .94  .91 .94 .95
    difference of IQM, four tasks      .93 .93 .94  .91 .93 .95
    rate: Wilson, p = .5 | .95         .97 .98 .96  .97 .91 .93
    improvement, not paired: Wilson    .98 .98 .99  .97 .99 .99
    the same: bootstrap                .89 .93 .94  .87 .93 .94
    median time                        .97 .98 .95  .97 .98 .96
    restricted mean time               .97 .95 .95  .97 .95 .95
    its paired difference              .97 .95 .94  .97 .95 .95
    =================================  ===========  ===========

    The sign-flip intervals for 6 seeds promise 97%. Wilson's covers 95% on average over the rates,
    not at each; for the probability of improvement it is wide on purpose.

    Share of false claims at the 5% level, where the null hypothesis is just true. Left: normal
    values, or exponential times. Right: skewed values (for TOST: away from zero), or log-normal
    times.

    =================================  ===========  ===========
    seeds                              6   10  20   6   10  20
    =================================  ===========  ===========
    no difference                      .03 .04 .06  .03 .05 .05
    mean 0, differences skewed         .06 .09 .09
    same times, 30% censored           .02 .04 .05  .01 .04 .06
    TOST on the margin                 .05 .05 .04  .13 .14 .11
    the same, Student t                .05 .05 .05  .15 .13 .11
    =================================  ===========  ===========
"""

from typing import TYPE_CHECKING

from .aggregate import (
    aggregate_iqm,
    bootstrap_interval,
    iqm,
    iqm_difference,
    normalised,
    performance_profile,
)
from .censored import (
    CensoredTimes,
    KaplanMeier,
    PairedTimes,
    TimeToSolve,
    common_horizon,
    kaplan_meier,
    median_interval,
    paired_times,
    time_to_solve,
)
from .evidence import (
    LEVEL,
    MIN_SEEDS_FOR_CLAIM,
    Equivalence,
    Evidence,
    equivalence,
    evidence,
    holm,
    is_equivalent,
    seeds_needed,
    smallest_reachable_p,
)
from .family import max_t
from .looks import spending
from .proportions import clopper_pearson, probability_of_improvement, wilson
from .signflips import (
    ENUMERATE_UP_TO,
    PairedDifference,
    mean_interval,
    paired_difference,
    sign_flip_p,
)
from .tasks import RandomEffects, random_effects
from .values import Array, Estimate, Interval, NominalInterval, Scores, Values

if TYPE_CHECKING:
    from ..comparison import paired

__all__ = [
    "ENUMERATE_UP_TO",
    "LEVEL",
    "MIN_SEEDS_FOR_CLAIM",
    "Array",
    "CensoredTimes",
    "Equivalence",
    "Estimate",
    "Evidence",
    "Interval",
    "KaplanMeier",
    "NominalInterval",
    "PairedDifference",
    "PairedTimes",
    "RandomEffects",
    "Scores",
    "TimeToSolve",
    "Values",
    "aggregate_iqm",
    "bootstrap_interval",
    "clopper_pearson",
    "common_horizon",
    "equivalence",
    "evidence",
    "holm",
    "iqm",
    "iqm_difference",
    "is_equivalent",
    "kaplan_meier",
    "max_t",
    "mean_interval",
    "median_interval",
    "normalised",
    "paired",
    "paired_difference",
    "paired_times",
    "performance_profile",
    "probability_of_improvement",
    "random_effects",
    "seeds_needed",
    "sign_flip_p",
    "smallest_reachable_p",
    "spending",
    "time_to_solve",
    "wilson",
]


def __getattr__(name: str) -> object:
    """`paired`, on first use: it makes the sentences too, which rest on this package."""
    if name == "paired":
        from ..comparison import paired

        return paired
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
