"""The sentences on differences from the first activation, with no more than the seeds allow."""

from __future__ import annotations

from .comparison import Comparison, interval_name
from .results import StudyResults, TaskInfo
from .statistics import (
    LEVEL,
    MIN_SEEDS_FOR_CLAIM,
    Evidence,
    seeds_needed,
    smallest_reachable_p,
)
from .words import join, plural, show_corrected


def overall(results: StudyResults, found: list[Comparison]) -> list[str]:
    """What may be claimed about the differences as a whole."""
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


def _held(results: StudyResults, found: list[Comparison]) -> str:
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


def equivalent_ones(results: StudyResults, found: list[Comparison]) -> list[str]:
    """Who is equivalent to the first, where that was shown."""
    same = [c for c in found if c.equivalent]
    if not same or same[0].equivalence is None:
        return []
    margin = _size(results.task, same[0].equivalence.margin)
    return [
        f"Equivalent to {results.first} within the margin you declared ({margin}): "
        f"{join([c.rival for c in same])}."
    ]


def compare(task: TaskInfo, c: Comparison, family: int) -> str:
    """One rival in one sentence or two; ``family`` comparisons are corrected together."""
    pair, n = f"{c.rival} against {c.first}", plural(c.difference.n, "seed")
    if not any(c.difference.differences):
        same = f"{pair}: exactly the same {task.metric} in all {n}, so no difference is shown."
        return same + _within_margin(task, c, family)
    numbers = f"{pair}: {_gain(task, c)}"
    corrected = show_corrected(c.corrected_p, family)
    return (
        numbers
        + {
            Evidence.HELD: f". The difference held ({corrected}).",
            Evidence.UNCORRECTED: f". The interval excludes zero, but the difference does not "
            f"survive the correction ({corrected}): a hint, no claim.",
            Evidence.UNREACHABLE: f". Every seed points the same way, but so few seeds cannot "
            f"pass the correction ({corrected}): no claim.",
            Evidence.NOT_SHOWN: f". No difference is shown ({corrected}), which does not mean that "
            "there is none.",
            Evidence.TOO_FEW_SEEDS: f". No claim possible with {n}.",
        }[c.evidence]
        + _within_margin(task, c, family)
    )


def _within_margin(task: TaskInfo, c: Comparison, family: int) -> str:
    """What may be said about equivalence; nothing without a declared margin or without seeds."""
    if c.equivalence is None or c.equivalence_p is None or c.difference.n < MIN_SEEDS_FOR_CLAIM:
        return ""
    size = _size(task, c.equivalence.margin)
    margin, p = "the margin you declared", show_corrected(c.equivalence_p, family)
    if c.equivalent and c.evidence is Evidence.HELD:
        return f" Yet it is smaller than {margin}: equivalent within it ({size}; {p})."
    if c.equivalent:
        return f" The two are equivalent within {margin} ({size}; {p})."
    if smallest_reachable_p(c.difference.n, family, sides=1) > LEVEL:
        return (
            f" So few seeds cannot show equivalence within {margin} ({size}) either; "
            f"{plural(seeds_needed(family, sides=1), 'seed')} could."
        )
    either = "" if c.evidence is Evidence.HELD else " either"
    return f" Equivalence within {margin} is not shown{either} ({size}; {p})."


def _gain(task: TaskInfo, c: Comparison) -> str:
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


def _on_a_new_seed(c: Comparison, ties: int) -> str:
    """What the seeds say of the next one, if they are enough to say anything."""
    if c.difference.n < MIN_SEEDS_FOR_CLAIM:
        return ""
    i = c.improvement.interval
    text = f", on a new seed with a probability of {i.low:.0%} to {i.high:.0%}"
    return text + (", where a tie counts half" if ties else "")


def _size(task: TaskInfo, value: float) -> str:
    return task.show_difference(abs(value))


def no_pairs(results: StudyResults) -> list[str]:
    """Who cannot be compared yet."""
    lonely = [r for r in results.rivals if not results.paired(r, results.first)[0]]
    if not lonely:
        return []
    return [f"{join(lonely)}: no seed in common with {results.first} yet, so no comparison."]
