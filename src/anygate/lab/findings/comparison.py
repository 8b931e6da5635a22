"""Differences from the first activation, paired by seed, and the ranking: the numbers, then the
sentences, which say no more than the seeds allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from ..statistics import (
    LEVEL,
    MIN_SEEDS_FOR_CLAIM,
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
    paired_difference,
    probability_of_improvement,
    seeds_needed,
    smallest_reachable_p,
)
from ..study.store.files import StudyError
from ..study.store.results import StudyResults
from ..study.store.schema import TaskInfo
from ..wording import join, plural, show_corrected


@dataclass(frozen=True)
class RivalComparison:
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
        """True if equivalence within the declared margin may be claimed."""
        if self.equivalence is None or self.equivalence_p is None:
            return False
        return is_equivalent(self.equivalence, self.equivalence_p)


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


def comparisons(results: StudyResults, margin: float | None = None) -> list[RivalComparison]:
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


def all_pairs(results: StudyResults) -> list[RivalComparison]:
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


def _compared(results: StudyResults, pairs: list[_Pair]) -> list[RivalComparison]:
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
) -> RivalComparison:
    low, high = sorted((sign * d.interval.low, sign * d.interval.high))
    gains = [sign * x for x in d.differences]
    return RivalComparison(
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
    found: list[RivalComparison], gains: list[tuple[Array, Array]], margin: float
) -> list[RivalComparison]:
    """The same comparisons with the two one-sided tests, corrected together."""
    tests = [equivalence(a, b, margin) for a, b in gains]
    corrected = holm([t.p_value for t in tests])
    return [
        replace(c, equivalence=t, equivalence_p=p)
        for c, t, p in zip(found, tests, corrected, strict=True)
    ]


def is_interval(interval: Interval) -> bool:
    """True if the seeds were enough for a 95% interval; else it is only their range."""
    return interval.confidence >= 0.95 - 1e-9


def interval_name(interval: Interval) -> str:
    """``95% interval`` where the seeds give one, else ``range`` (too few of them)."""
    return "95% interval" if is_interval(interval) else "range"


def interval_names(intervals: Sequence[Interval]) -> str:
    """The name of a column of them: ``interval`` if some are intervals and others ranges."""
    names = {interval_name(i) for i in intervals}
    return names.pop() if len(names) == 1 else "interval"


def overall(results: StudyResults, found: list[RivalComparison]) -> list[str]:
    """A sentence on what may be claimed about the differences as a whole."""
    if not found:
        return []
    most = max(c.difference.n for c in found)
    if most < MIN_SEEDS_FOR_CLAIM:
        need = seeds_needed(len(found))
        return [
            f"No claim possible: {plural(most, 'paired seed')} cannot show a difference, whatever "
            f"the numbers; {_comparing(len(found))} takes at least {need}."
        ]
    reachable = smallest_reachable_p(most, len(found))
    if reachable > LEVEL:
        # Equivalence takes half as many patterns, and may be reachable where a difference is not.
        nothing = (
            "No difference can be claimed"
            if any(c.equivalent for c in found)
            else ("No claim possible")
        )
        return [
            f"{nothing}: with {most} seeds and {plural(len(found), 'rival')} the smallest "
            f"Holm-corrected p value that could be reached is {reachable:.3g}, so no difference "
            "can be called significant; the intervals are shown, and "
            f"{seeds_needed(len(found))} seeds would be enough to decide."
        ]
    return [_held(results, found)]


def _comparing(k: int) -> str:
    return "one comparison" if k == 1 else f"a study of {k} comparisons"


def _held(results: StudyResults, found: list[RivalComparison]) -> str:
    held = [c for c in found if c.evidence is Evidence.HELD]
    against = f"from {results.first}"
    if not held:
        which = "The difference" if len(found) == 1 else f"None of the {len(found)} differences"
        verb = "did not hold" if len(found) == 1 else "held"
        return f"{which} {against} {verb} at the 5% level after correction."
    better = [c.rival for c in held if c.gain > 0]
    worse = [c.rival for c in held if c.gain < 0]
    parts = [f"{join(better)} did better"] if better else []
    parts += [f"{join(worse)} did worse"] if worse else []
    rest = len(found) - len(held)
    text = f"Compared with {results.first}, {join(parts)}: these differences held at the 5% level"
    text = text.replace("these differences", "this difference") if len(held) == 1 else text
    text += " after correction" if len(found) > 1 else ""
    if rest:
        text += f"; the other {plural(rest, 'rival')} showed no difference that held"
    return text + "."


def equivalent_ones(results: StudyResults, found: list[RivalComparison]) -> list[str]:
    """A sentence on who is equivalent to the first, where that was shown."""
    same = [c for c in found if c.equivalent]
    if not same or same[0].equivalence is None:
        return []
    margin = _size(results.task, same[0].equivalence.margin)
    return [
        f"Equivalent to {results.first} within the margin you declared ({margin}): "
        f"{join([c.rival for c in same])}."
    ]


def in_short(task: TaskInfo, c: RivalComparison) -> str:
    """The difference in a few words, for a table: ``2.1 points better``, with ``may be chance``
    unless it is a claim."""
    if not any(c.difference.differences):
        return "none in any seed"
    text = f"{_size(task, c.gain)} {'better' if c.gain > 0 else 'worse'}" if c.gain else "level"
    if c.equivalent and c.equivalence is not None:
        within = f"equivalent within {_size(task, c.equivalence.margin)}"
        return f"{text}, {within}"
    return text if c.evidence is Evidence.HELD else f"{text}, may be chance"


def compare(task: TaskInfo, c: RivalComparison, family: int) -> str:
    """One rival in one sentence: the difference, whether it may be claimed, and equivalence;
    ``family`` comparisons are corrected together."""
    pair, n = f"{c.rival} against {c.first}", plural(c.difference.n, "seed")
    within = _within_margin(task, c, family)
    if not any(c.difference.differences):
        return (
            f"{pair}: exactly the same {task.metric} in all {n}, so no difference is shown{within}."
        )
    corrected = show_corrected(c.corrected_p, family)
    nothing = "no difference is shown"
    told = {
        Evidence.HELD: f"; the difference held ({corrected})",
        Evidence.UNCORRECTED: "; the interval excludes zero, but the difference does not survive "
        f"the correction ({corrected}): a hint, no claim",
        Evidence.UNREACHABLE: "; every seed points the same way, but so few seeds cannot pass the "
        f"correction ({corrected}): no claim",
        Evidence.NOT_SHOWN: f"; {nothing} ({corrected})"
        if c.equivalent
        else f"; {nothing} ({corrected}), which does not mean that there is none",
        Evidence.TOO_FEW_SEEDS: f"; no claim possible with {n}",
    }
    return f"{pair}: {_gain(task, c)}{told[c.evidence]}{within}."


def _within_margin(task: TaskInfo, c: RivalComparison, family: int) -> str:
    """The end of the sentence, on equivalence; nothing without a declared margin or without
    seeds."""
    if c.equivalence is None or c.equivalence_p is None or c.difference.n < MIN_SEEDS_FOR_CLAIM:
        return ""
    size = _size(task, c.equivalence.margin)
    margin, p = "the margin you declared", show_corrected(c.equivalence_p, family)
    held = c.evidence is Evidence.HELD
    if c.equivalent:
        joined = ", yet it is too small to matter" if held else ", and the two are equivalent"
        return f"{joined}: within {margin} ({size}; {p})"
    if smallest_reachable_p(c.difference.n, family, sides=1) > LEVEL:
        return (
            f"; so few seeds cannot show equivalence within {margin} ({size}) either, "
            f"{plural(seeds_needed(family, sides=1), 'seed')} could"
        )
    other = ", and equivalence" if held else "; equivalence"
    return f"{other} within {margin} is not shown{'' if held else ' either'} ({size}; {p})"


def _gain(task: TaskInfo, c: RivalComparison) -> str:
    """``2.1 points better on average (95% interval 1.2 to 3 points; better in 9 of 10 seeds, on a
    new seed with a probability of 60% to 98%)``."""
    low, high = c.gain_interval.low, c.gain_interval.high
    if low < 0 < high:
        span = f"{_size(task, low)} worse to {_size(task, high)} better"
    else:
        near, far = sorted((abs(low), abs(high)))
        span = f"{task.show_difference(near, unit=False)} to {_size(task, far)}"
    word = "better" if c.gain > 0 else "worse"
    mean = f"{_size(task, c.gain)} {word}" if c.gain else "level"
    seeds = plural(c.difference.n, "seed")
    if c.difference.n == 1:
        return f"{mean} in the only seed"
    ties = c.difference.differences.count(0.0)
    tied = f" and tied in {ties}" if ties else ""
    return (
        f"{mean} on average ({interval_name(c.gain_interval)} {span}; "
        f"better in {c.better_in}{tied} of {seeds}{_on_a_new_seed(c, ties)})"
    )


def _on_a_new_seed(c: RivalComparison, ties: int) -> str:
    """A phrase on what the seeds say of the next one, if they are enough to say anything."""
    if c.difference.n < MIN_SEEDS_FOR_CLAIM:
        return ""
    i = c.improvement.interval
    text = f", on a new seed with a probability of {i.low:.0%} to {i.high:.0%}"
    return text + (", where a tie counts half" if ties else "")


def _size(task: TaskInfo, value: float) -> str:
    return task.show_difference(abs(value))


def no_pairs(results: StudyResults) -> list[str]:
    """A sentence on who cannot be compared yet."""
    lonely = [r for r in results.rivals if not results.paired(r, results.first)[0]]
    if not lonely:
        return []
    return [f"{join(lonely)}: no seed in common with {results.first} yet, so no comparison."]
