"""The runs that solved the task, and when: the numbers of each activation and of each pair, and the
sentences on them.

Time is counted in epochs, up to the last one for which every run was followed. A run that was never
at the solved level is censored there; one that diverged counts as never solving, even if it had
been at that level before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..statistics import (
    CensoredTimes,
    Evidence,
    Interval,
    PairedTimes,
    TimeToSolve,
    common_horizon,
    evidence,
    holm,
    paired_times,
    time_to_solve,
    wilson,
)
from ..study.store.results import StudyResults
from ..study.store.schema import TaskInfo, Trial
from ..wording import join, plural, show_corrected
from .comparison import interval_name


@dataclass(frozen=True)
class Solving:
    """The reliability with which ``label`` solves the task, and the time it takes.

    ``solved`` of ``runs`` were at the solved level at the end, with Wilson's 95% interval of that
    ``rate``. ``time`` counts epochs until that level was first reached; None without curves.
    """

    label: str
    runs: int
    solved: int
    rate: Interval
    time: TimeToSolve | None


@dataclass(frozen=True)
class TimeComparison:
    """The time to solve of a rival against the first activation, over the seeds both have.

    Negative differences mean that the rival is sooner. ``corrected_p`` is corrected over the
    rivals' times to solve, which are a question of their own.
    """

    rival: str
    first: str
    seeds: tuple[int, ...]
    times: PairedTimes
    corrected_p: float
    evidence: Evidence


def solving(results: StudyResults) -> list[Solving]:
    """Every activation with a run; none if the task has no solved level."""
    if results.task.solved is None:
        return []
    horizon, times = _times(results)
    found = []
    for label in results.labels:
        runs, solved = len(results.runs(label)), results.solved(label)
        if runs:
            time = time_to_solve(_group(times[label].values()), horizon) if horizon else None
            found.append(Solving(label, runs, solved, wilson(solved, runs), time))
    return found


def time_comparisons(results: StudyResults) -> list[TimeComparison]:
    """Every rival with a shared seed against the first, Holm-corrected together.

    Empty if the task has no solved level, no run ever reached it or the runs have no curves.
    """
    horizon, times = _times(results)
    if not any(solved for group in times.values() for _, solved in group.values()):
        return []
    base, found = times[results.first], []
    for rival in results.rivals:
        seeds = tuple(s for s in times[rival] if s in base)
        if seeds:
            a, b = (_group([x[s] for s in seeds]) for x in (times[rival], base))
            found.append((rival, seeds, paired_times(a, b, horizon)))
    corrected = holm([pair.p_value for _, _, pair in found])
    return [
        TimeComparison(rival, results.first, seeds, pair, p, evidence(pair.ranks, p, len(found)))
        for (rival, seeds, pair), p in zip(found, corrected, strict=True)
    ]


_Time = tuple[float, bool]


def _times(results: StudyResults) -> tuple[float, dict[str, dict[int, _Time]]]:
    """The common horizon in epochs and every run's time by label and seed; horizon 0 if unknown."""
    times: dict[str, dict[int, _Time]] = {}
    for label in results.labels:
        found = {run.seed: _first_solved(results.task, run) for run in results.runs(label)}
        if results.task.solved is None or any(t == 0 for t, _ in found.values()):
            return 0.0, {}
        times[label] = found
    groups = [_group(x.values()) for x in times.values() if x]
    return common_horizon(groups, results.epochs), times


def _first_solved(task: TaskInfo, run: Trial) -> _Time:
    """The first epoch at the solved level; else how long the run was followed (0: no curve)."""
    if run.diverged is not None:
        return math.inf, False
    for record in run.epochs:
        metric = record.metric
        if math.isfinite(metric) and task.is_solved(metric):
            return float(record.epoch), True
    return float(run.epochs[-1].epoch if run.epochs else 0), False


def _group(pairs: Iterable[_Time]) -> CensoredTimes:
    """Runs as the statistics take them."""
    pairs = tuple(pairs)
    return CensoredTimes(tuple(t for t, _ in pairs), tuple(solved for _, solved in pairs))


# ------------------------------------------------------------------------------ the sentences


def solve_rates(results: StudyResults) -> list[str]:
    """Sentences on how many runs solved the task at the end, and after how many epochs."""
    found = solving(results)
    if not found or results.task.solved is None:
        return []
    task, level = results.task, results.task.show(results.task.solved)
    rates = [
        f"{s.label} {s.solved} of {plural(s.runs, 'run')} ({s.rate.low:.0%} to {s.rate.high:.0%})"
        for s in found
    ]
    said = [
        f"At the solved level ({task.metric} {level}) at the end, with the 95% interval of the "
        f"rate: {'; '.join(rates)}."
    ]
    timed = [(s.label, s.time) for s in found if s.time]
    if not any(time.solved for _, time in timed):
        return said
    medians = [f"{label} {_median(time)}" for label, time in timed]
    horizon = timed[0][1].horizon
    return [
        *said,
        f"Median number of epochs until that level was first reached, of {horizon:g}: "
        f"{'; '.join(medians)}.",
    ]


def _median(time: TimeToSolve) -> str:
    """``4 (95% interval 3 to 9)``; what lies beyond the horizon is only said to be more."""
    middle, interval = time.median.value, time.median.interval
    if time.n == 1:
        return _epochs(middle, time.horizon)
    ends = f"{_epochs(interval.low, time.horizon)} to {_epochs(interval.high, time.horizon)}"
    return f"{_epochs(middle, time.horizon)} ({interval_name(interval)} {ends})"


def _epochs(value: float, horizon: float) -> str:
    return f"{value:g}" if math.isfinite(value) else f"more than {horizon:g}"


def compare_times(found: Sequence[TimeComparison]) -> list[str]:
    """One sentence a rival."""
    return [_compare(c, len(found)) for c in found]


def _compare(c: TimeComparison, family: int) -> str:
    pair, n = f"{c.rival} against {c.first}, epochs until solved", plural(c.times.n, "seed")
    if c.times.a_first == c.times.b_first == 0:
        return f"{pair}: the same (or never) in all {n}, so no difference in time is shown."
    corrected = show_corrected(c.corrected_p, family)
    numbers = f"{pair}: sooner in {c.times.a_first} and later in {c.times.b_first} of {n}"
    return (
        f"{numbers}, {_saved(c.times)}"
        + {
            Evidence.HELD: f"; the difference in time held ({corrected}, by ranks).",
            Evidence.UNCORRECTED: "; the difference in time does not survive the correction "
            f"({corrected}, by ranks): a hint, no claim.",
            Evidence.UNREACHABLE: "; every seed points the same way, but so few seeds cannot pass "
            f"the correction ({corrected}, by ranks): no claim.",
            Evidence.NOT_SHOWN: f"; no difference in time is shown ({corrected}, by ranks), which "
            "does not mean that there is none.",
            Evidence.TOO_FEW_SEEDS: f"; no claim possible with {n}.",
        }[c.evidence]
    )


def _saved(times: PairedTimes) -> str:
    """``3.2 epochs sooner on average within 20 (95% interval 1.1 to 5 sooner)``."""
    mean, interval = times.restricted.mean, times.restricted.interval
    unit = "epoch" if _size(mean) == "1" else "epochs"
    size = f"{_size(mean)} {unit} {_side(mean)}" if mean else "level"
    text = f"{size} on average within {times.horizon:g}"
    if times.n == 1:
        return text
    if interval.low < 0 < interval.high:
        span = f"{_size(interval.low)} sooner to {_size(interval.high)} later"
    else:
        near, far = sorted((abs(interval.low), abs(interval.high)))
        span = f"{_size(near)} to {_size(far)} {_side(interval.low + interval.high)}"
    return f"{text} ({interval_name(interval)} {span})"


def _side(epochs: float) -> str:
    return "sooner" if epochs < 0 else "later"


def _size(epochs: float) -> str:
    return f"{abs(epochs):.3g}"


def held_times(found: Sequence[TimeComparison]) -> list[str]:
    """The short version: what held."""
    held = [c for c in found if c.evidence is Evidence.HELD]
    if not held:
        return []
    # The test is of ranks, so they say the direction.
    sooner = [c.rival for c in held if c.times.ranks.mean < 0]
    later = [c.rival for c in held if c.times.ranks.mean > 0]
    parts = [f"{join(sooner)} reached the solved level sooner"] if sooner else []
    if later:
        verb = "" if sooner else "reached the solved level "
        parts.append(f"{join(later)} {verb}later or not at all")
    return [
        f"Compared with {held[0].first}, {join(parts)}: this held at the 5% level"
        + (" after correction." if len(found) > 1 else ".")
    ]
