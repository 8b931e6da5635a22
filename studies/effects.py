"""From runs to effects: two arms compared seed by seed.

The score of a run is the number of epochs until its test metric reached the setup's level. A run
that did not reach it within its epochs counts with all of them, and so does one that diverged, even
if it had reached the level before: a failed run has the worst score. An effect is the geometric
mean over the seeds of the ratio of the scores, 2 for twice the epochs. Since failures are cut off
at the last epoch, it understates how much worse an arm is that fails; what failed stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

import numpy as np

from .arms import Arm
from .experiments import RATES
from .lab import (
    Array,
    Interval,
    clopper_pearson,
    max_t,
    mean_interval,
    random_effects,
    spending,
)
from .results import Results
from .store import Run

__all__ = [
    "LOOKS",
    "MARGIN",
    "Comparison",
    "Effect",
    "Outcome",
    "Over",
    "Share",
    "differences",
    "judged_family",
    "look",
    "over_tasks",
]

LOOKS = (16, 32)
"""Seeds at which a family is looked at; in between nothing is judged, and 32 are the end. A look at
16 of 64 could decide nothing: O'Brien and Fleming ask for p = 0.000015 there, and the exact
sign-flip test of 16 seeds cannot go below 0.00003."""
MARGIN = 1.25
"""Ratios within 1/1.25 and 1.25 are called the same."""
EARLY = 2
"""An arm that is at the level by this epoch in every run leaves no room for better."""


class Outcome(StrEnum):
    """The outcome of one comparison."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "same"
    OPEN = "open"
    """None of the three was shown. This is no evidence of equality."""
    NOTHING = "says nothing"
    """The experiment could not have told the two apart: nobody reached the level, or everybody at
    once."""
    WAITING = "waiting"
    """Fewer seeds than the first look needs."""


@dataclass(frozen=True)
class Comparison:
    """Arms against others with the same seeds: of several on a side the mean of the logarithms
    counts, as for the main effect of a factorial. own_rate: each side at the rate that suits it
    best (see `differences`)."""

    task: str
    name: str
    arms: tuple[Arm, ...]
    references: tuple[Arm, ...]
    own_rate: bool = False

    @property
    def all(self) -> tuple[Arm, ...]:
        """Every arm that must have run."""
        both = (*self.arms, *self.references)
        rates = RATES if self.own_rate else (None,)
        return tuple(a if r is None else a.times(r) for a in both for r in rates)


@dataclass(frozen=True)
class Share:
    """A number of n runs, with the exact interval of Clopper and Pearson at 95 %."""

    count: int
    n: int

    @property
    def interval(self) -> Interval:
        """Of the probability."""
        return clopper_pearson(self.count, self.n)

    def __str__(self) -> str:
        low, high = self.interval.low, self.interval.high
        return f"{self.count} of {self.n} ({100 * low:.1f} to {100 * high:.1f} %)"


@dataclass(frozen=True)
class Effect:
    """A comparison in numbers.

    ratio: of the epochs until the level, arm over reference, with its 95 % interval, which is not
    corrected for other comparisons (confidence: what so few seeds reach). spread: the standard
    deviation of log2 of it between seeds. p: of ratio 1, corrected over the family (maxT). p_same:
    of a ratio outside the margin, corrected likewise. level: what p must not exceed at this look.
    reached, diverged: of the arms; reference_reached, reference_diverged: of the references.
    finals: the median test metric at the end, of the arms and of the references.
    """

    comparison: Comparison
    outcome: Outcome
    n: int
    ratio: float
    low: float
    high: float
    confidence: float
    spread: float
    p: float | None
    p_same: float | None
    level: float | None
    reached: Share
    diverged: Share
    reference_reached: Share
    reference_diverged: Share
    finals: tuple[float, float]


def look(seeds: int) -> int:
    """The number of seeds at the last look that so many allow; 0 before the first."""
    return max((n for n in LOOKS if n <= seeds), default=0)


def differences(results: Results, comparison: Comparison, seeds: Sequence[int]) -> Array:
    """log2 of the ratio of the scores for each of these seeds, with which all arms ran.

    At own rates, the rate for every second seed is the one with the best mean over the seeds
    between them, and the other way round, so that no seed chooses its own.
    """
    score = _at_own_rate if comparison.own_rate else _scores
    arms, references = (
        np.mean([score(results, arm, seeds) for arm in side], axis=0)
        for side in (comparison.arms, comparison.references)
    )
    return np.asarray(arms - references)


def _scores(results: Results, arm: Arm, seeds: Sequence[int]) -> Array:
    """log2 of the epochs until the level."""
    budget = arm.settings.epochs
    found = []
    for seed in seeds:
        run = results.run(arm, seed)
        failed = run.diverged is not None or run.reached is None
        found.append(math.log2(budget if failed else run.reached or budget))
    return np.array(found)


def _at_own_rate(results: Results, arm: Arm, seeds: Sequence[int]) -> Array:
    scores = np.array([_scores(results, arm.times(rate), seeds) for rate in RATES])
    found = np.empty(len(seeds))
    for half in (0, 1):
        best = scores[:, 1 - half :: 2].mean(1).argmin() if len(seeds) > 1 else 1
        found[half::2] = scores[best, half::2]
    return found


def judged_family(results: Results, family: Sequence[Comparison]) -> list[Effect | None]:
    """The effects of a family, judged together on the seeds of the last look that all of it has
    reached. Before the first look nothing is judged, and each has the seeds that it has; None
    without any."""
    common = [results.common(*c.all) for c in family]
    n = look(min(map(len, common), default=0))
    if n == 0:
        return [
            _effect(results, c, seeds) if seeds else None
            for c, seeds in zip(family, common, strict=True)
        ]
    seeds = results.seeds[:n]
    level = spending(LOOKS)[LOOKS.index(n)]
    telling = [c for c in family if tells(results, c, seeds)]
    judged = dict(zip(telling, _p_values(results, telling, seeds), strict=True))
    return [_effect(results, c, seeds, judged.get(c), level) for c in family]


def _p_values(
    results: Results, family: Sequence[Comparison], seeds: Sequence[int]
) -> list[tuple[float, float]]:
    """Of no difference and of a difference beyond the margin, corrected over the family."""
    if not family:
        return []
    found = np.stack([differences(results, c, seeds) for c in family])
    margin = math.log2(MARGIN)
    above = max_t(found + margin, sides=1)
    below = max_t(margin - found, sides=1)
    same = [max(pair) for pair in zip(above, below, strict=True)]
    return list(zip(max_t(found), same, strict=True))


def tells(results: Results, comparison: Comparison, seeds: Sequence[int]) -> bool:
    """False if nobody reached the level, or everybody within the first epochs."""
    runs = [results.run(arm, seed) for arm in comparison.all for seed in seeds]
    reached = [r.reached for r in runs if r.diverged is None and r.reached is not None]
    return bool(reached) and not (len(reached) == len(runs) and max(reached) <= EARLY)


def _effect(
    results: Results,
    comparison: Comparison,
    seeds: Sequence[int],
    judged: tuple[float, float] | None = None,
    level: float | None = None,
) -> Effect:
    found = differences(results, comparison, seeds)
    span = mean_interval(found)
    mean = float(found.mean())
    sides = (comparison.arms, comparison.references)
    runs = [[results.run(arm, seed) for arm in side for seed in seeds] for side in sides]
    return Effect(
        comparison=comparison,
        outcome=_outcome(mean, judged, level),
        n=len(seeds),
        ratio=2**mean,
        low=2**span.low,
        high=2**span.high,
        confidence=span.confidence,
        spread=float(found.std(ddof=1)) if len(seeds) > 1 else math.nan,
        p=None if judged is None else judged[0],
        p_same=None if judged is None else judged[1],
        level=level,
        reached=_share(runs[0], "reached"),
        diverged=_share(runs[0], "diverged"),
        reference_reached=_share(runs[1], "reached"),
        reference_diverged=_share(runs[1], "diverged"),
        finals=(median(r.final for r in runs[0]), median(r.final for r in runs[1])),
    )


def _share(runs: Sequence[Run], what: str) -> Share:
    return Share(sum(getattr(run, what) is not None for run in runs), len(runs))


def _outcome(mean: float, judged: tuple[float, float] | None, level: float | None) -> Outcome:
    if level is None:
        return Outcome.WAITING
    if judged is None:
        return Outcome.NOTHING
    p, p_same = judged
    if p_same <= level / 2:
        return Outcome.SAME
    if p <= level:
        return Outcome.WORSE if mean > 0 else Outcome.BETTER
    return Outcome.OPEN


@dataclass(frozen=True)
class Over:
    """Effects of one kind over several tasks, as a random-effects mean: the ratio with the interval
    of Hartung and Knapp, the standard deviation between tasks (of log2), and the interval in which
    a new task's ratio is expected. None where there are fewer than three tasks."""

    tasks: int
    ratio: float
    low: float
    high: float
    tau: float
    new_low: float
    new_high: float


def over_tasks(effects: Sequence[Effect | None]) -> Over | None:
    """The mean over tasks of the effects that say something."""
    used = [e for e in effects if e is not None and e.outcome is not Outcome.NOTHING and e.n > 1]
    if len(used) < 3:
        return None
    errors = [max(e.spread, LEAST_SPREAD) / math.sqrt(e.n) for e in used]
    found = random_effects([math.log2(e.ratio) for e in used], errors)
    new = found.prediction
    return Over(
        len(used),
        2**found.mean,
        2**found.interval.low,
        2**found.interval.high,
        found.tau,
        2**new.low,
        2**new.high,
    )


LEAST_SPREAD = 0.05
"""Of log2 ratios: where every pair is censored alike the spread would be 0 and the weight
infinite."""
