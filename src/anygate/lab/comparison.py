"""The numbers behind a verdict: differences from the first activation, the ranking, the cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .results import StudyResults
from .statistics import (
    Evidence,
    Interval,
    PairedDifference,
    evidence,
    holm,
    mean_interval,
    paired_difference,
)


@dataclass(frozen=True)
class Comparison:
    """One rival against the first activation, over the seeds that both have.

    ``difference`` is rival minus first in the metric's own direction; ``gain`` and
    ``gain_interval`` count an improvement as positive, whichever way the metric points.
    """

    rival: str
    first: str
    seeds: tuple[int, ...]
    difference: PairedDifference
    gain: float
    gain_interval: Interval
    better_in: int
    corrected_p: float
    evidence: Evidence


@dataclass(frozen=True)
class Cost:
    """Time per training step of ``label`` relative to the first activation, paired by seed.

    The ratio is a geometric mean; ``interval`` is that of :func:`mean_interval` on the logarithms.
    """

    label: str
    n: int
    ratio: float
    interval: Interval

    @property
    def within_noise(self) -> bool:
        """Whether equal speed is compatible with what was measured."""
        return self.interval.contains(1.0)


def ranking(results: StudyResults) -> list[tuple[str, float]]:
    """``(label, mean final metric)`` of every activation with a result, the best first."""
    means = [(x, float(results.final(x).mean())) for x in results.labels if results.final(x).size]
    return sorted(means, key=lambda pair: pair[1], reverse=results.task.higher_is_better)


def comparisons(results: StudyResults) -> list[Comparison]:
    """Every rival with at least one shared seed against the first, Holm-corrected together."""
    sign = 1.0 if results.task.higher_is_better else -1.0
    pairs = [(rival, *results.paired(rival, results.first)) for rival in results.rivals]
    pairs = [pair for pair in pairs if pair[1]]
    differences = [paired_difference(a, b) for _, _, a, b in pairs]
    corrected = holm([d.p_value for d in differences])
    return [
        _comparison(results.first, rival, seeds, difference, p, sign, len(pairs))
        for (rival, seeds, _, _), difference, p in zip(pairs, differences, corrected, strict=True)
    ]


def _comparison(
    first: str,
    rival: str,
    seeds: list[int],
    d: PairedDifference,
    p: float,
    sign: float,
    family: int,
) -> Comparison:
    low, high = sorted((sign * d.interval.low, sign * d.interval.high))
    return Comparison(
        rival=rival,
        first=first,
        seeds=tuple(seeds),
        difference=d,
        gain=sign * d.mean,
        gain_interval=Interval(low, high, d.interval.confidence),
        better_in=sum(sign * x > 0 for x in d.differences),
        corrected_p=p,
        evidence=evidence(d, p, family),
    )


def costs(results: StudyResults) -> list[Cost]:
    """Every rival's time per step over the first's, for the seeds where both were timed."""
    base = results.seconds_per_step(results.first)
    found = []
    for label in results.rivals:
        times = results.seconds_per_step(label)
        logs = [math.log(times[s] / base[s]) for s in results.seeds if s in times and s in base]
        if logs:
            i = mean_interval(logs)
            interval = Interval(math.exp(i.low), math.exp(i.high), i.confidence)
            found.append(Cost(label, len(logs), math.exp(float(np.mean(logs))), interval))
    return found


def is_interval(interval: Interval) -> bool:
    """Whether the seeds were enough for a 95% interval; else it is only their range."""
    return interval.confidence >= 0.95 - 1e-9


def interval_name(interval: Interval) -> str:
    """``95% interval`` where the seeds give one, else ``range`` (too few of them)."""
    return "95% interval" if is_interval(interval) else "range"


def interval_names(intervals: Sequence[Interval]) -> str:
    """The name of a column of them: ``interval`` if some are intervals and others ranges."""
    names = {interval_name(i) for i in intervals}
    return names.pop() if len(names) == 1 else "interval"


def show_p(p: float) -> str:
    """A p value for people: ``p = 0.031``, ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
