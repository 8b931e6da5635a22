"""The numbers behind a verdict: differences from the first activation, the ranking, the cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from .results import StudyError, StudyResults
from .statistics import (
    Array,
    Equivalence,
    Estimate,
    Evidence,
    Interval,
    NominalInterval,
    PairedDifference,
    bootstrap_interval,
    equivalence,
    evidence,
    holm,
    is_equivalent,
    mean_interval,
    paired_difference,
    probability_of_improvement,
)
from .words import show_p

__all__ = [
    "CLOCK",
    "Comparison",
    "Cost",
    "all_pairs",
    "comparisons",
    "costs",
    "declared_margin",
    "disturbed_clocks",
    "interval_name",
    "interval_names",
    "is_interval",
    "ranking",
    "show_p",
]

CLOCK = 1.25
"""The seeds' ratios of time may differ by this factor; beyond it no cost is told."""


@dataclass(frozen=True)
class Comparison:
    """One rival against the first activation, over the seeds that both have.

    ``difference`` is rival minus first in the metric's own direction; ``gain`` and
    ``gain_interval`` count an improvement as positive, whichever way the metric points, and so do
    the other numbers: ``bootstrap``, the BCa interval of the gain, which promises more than it
    keeps with few seeds; ``improvement``, the probability that the rival is better on a new seed;
    and ``equivalence`` (its ``p_above`` alone: the rival is not worse by the margin), if the study
    declared a margin. ``equivalence_p`` is corrected over the rivals, as ``corrected_p`` is.
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
    bootstrap: NominalInterval
    improvement: Estimate
    equivalence: Equivalence | None = None
    equivalence_p: float | None = None

    @property
    def equivalent(self) -> bool:
        """Whether equivalence within the declared margin may be claimed."""
        if self.equivalence is None or self.equivalence_p is None:
            return False
        return is_equivalent(self.equivalence, self.equivalence_p)


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


def declared_margin(results: StudyResults, margin: float | None = None) -> float | None:
    """The margin of equivalence, in the metric's unit: ``margin``, else the study's own, if any.

    A study declares it as ``margin`` among the settings in study.json, before its first run. Raises
    ``StudyError`` if that is no positive number, or if ``margin`` is another one: a margin that is
    chosen after the results proves nothing.
    """
    declared = results.config.settings.get("margin")
    for value, where in ((declared, "the margin in study.json"), (margin, "the margin")):
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value is not None and not (number and math.isfinite(value) and value > 0):
            raise StudyError(f"{where} must be a positive number, not {value!r}")
    if margin is not None and declared is not None and margin != declared:
        raise StudyError(
            f"the study declared a margin of {declared:g}; {margin:g} cannot be used afterwards. "
            "Leave margin out, or declare it in a new study"
        )
    return declared if margin is None else margin


def comparisons(results: StudyResults, margin: float | None = None) -> list[Comparison]:
    """Every rival with at least one shared seed against the first, Holm-corrected together.

    ``margin``: see :func:`declared_margin`, which also says what is raised. Equivalence is a
    question of its own, corrected over the rivals on its own.
    """
    margin = declared_margin(results, margin)
    pairs = _pairs(results, [(rival, results.first) for rival in results.rivals])
    found = _compared(results, pairs)
    if margin is None:
        return found
    sign = _sign(results)
    return _with_equivalence(found, [(sign * a, sign * b) for _, _, _, a, b in pairs], margin)


def all_pairs(results: StudyResults) -> list[Comparison]:
    """Every two activations with a shared seed, the earlier one as ``first``, Holm-corrected over
    all of these pairs: more questions than those of :func:`comparisons`, so a stricter answer."""
    names = [(rival, first) for first, rival in combinations(results.labels, 2)]
    return _compared(results, _pairs(results, names))


_Pair = tuple[str, str, list[int], Array, Array]
"""Rival, first, their shared seeds, and the final metrics of both."""


def _pairs(results: StudyResults, names: list[tuple[str, str]]) -> list[_Pair]:
    pairs = [(rival, first, *results.paired(rival, first)) for rival, first in names]
    return [pair for pair in pairs if pair[2]]


def _sign(results: StudyResults) -> float:
    return 1.0 if results.task.higher_is_better else -1.0


def _compared(results: StudyResults, pairs: list[_Pair]) -> list[Comparison]:
    differences = [paired_difference(a, b) for *_, a, b in pairs]
    corrected = holm([d.p_value for d in differences])
    return [
        _comparison(first, rival, seeds, difference, p, _sign(results), len(pairs))
        for (rival, first, seeds, _, _), difference, p in zip(
            pairs, differences, corrected, strict=True
        )
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
    gains = [sign * x for x in d.differences]
    return Comparison(
        rival=rival,
        first=first,
        seeds=tuple(seeds),
        difference=d,
        gain=sign * d.mean,
        gain_interval=Interval(low, high, d.interval.confidence),
        better_in=sum(x > 0 for x in gains),
        corrected_p=p,
        evidence=evidence(d, p, family),
        bootstrap=bootstrap_interval(gains),
        improvement=probability_of_improvement(gains, [0.0] * d.n),
    )


def _with_equivalence(
    found: list[Comparison], gains: list[tuple[Array, Array]], margin: float
) -> list[Comparison]:
    """The same comparisons with the two one-sided tests, corrected together."""
    tests = [equivalence(a, b, margin) for a, b in gains]
    corrected = holm([t.p_value for t in tests])
    return [
        replace(c, equivalence=t, equivalence_p=p)
        for c, t, p in zip(found, tests, corrected, strict=True)
    ]


def costs(results: StudyResults) -> list[Cost]:
    """Every rival's time per step over the first's, for the seeds where both were timed; without
    those whose clock was disturbed (see `disturbed_clocks`), of which nothing can be said."""
    found = []
    for label, ratios in _time_ratios(results).items():
        if _spread(ratios) <= CLOCK:
            logs = [math.log(ratio) for ratio in ratios]
            i = mean_interval(logs)
            interval = Interval(math.exp(i.low), math.exp(i.high), i.confidence)
            found.append(Cost(label, len(logs), math.exp(float(np.mean(logs))), interval))
    return found


def disturbed_clocks(results: StudyResults) -> dict[str, float]:
    """The rivals of which no cost is told -> how many times as large the largest ratio of a seed
    is as the smallest, more than CLOCK.

    A training step is the same work in every seed, so that the ratio of two activations is the same
    but for the clock: where it is not, something else ran on the machine during some trials.
    """
    spreads = {label: _spread(ratios) for label, ratios in _time_ratios(results).items()}
    return {label: spread for label, spread in spreads.items() if spread > CLOCK}


def _time_ratios(results: StudyResults) -> dict[str, list[float]]:
    """Each rival that was timed -> its time per step over that of the first, seed by seed."""
    base = results.seconds_per_step(results.first)
    found = {}
    for label in results.rivals:
        times = results.seconds_per_step(label)
        found[label] = [times[s] / base[s] for s in results.seeds if s in times and s in base]
    return {label: ratios for label, ratios in found.items() if ratios}


def _spread(ratios: Sequence[float]) -> float:
    return max(ratios) / min(ratios)


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
