"""What a study says, in sentences: no more than its seeds allow, and what they do not allow.

``verdict(results)`` is the whole text. The numbers behind it are public too (``comparisons``,
``ranking``, ``costs``), so that tables and text can never disagree. The rule for a claim is in
:mod:`anygate.lab.statistics`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from statistics import median

from .comparison import (
    Comparison,
    Cost,
    comparisons,
    costs,
    interval_name,
    interval_names,
    is_interval,
    ranking,
    show_p,
)
from .results import Health, StudyResults, TaskInfo
from .statistics import (
    LEVEL,
    MIN_SEEDS_FOR_CLAIM,
    Evidence,
    Interval,
    mean_interval,
    seeds_needed,
    smallest_reachable_p,
    wilson,
)

__all__ = [
    "Comparison",
    "Cost",
    "Verdict",
    "comparisons",
    "costs",
    "interval_name",
    "interval_names",
    "is_interval",
    "judge",
    "ranking",
    "show_p",
    "verdict",
]

SATURATED_WORTH_SAYING = 0.2
DEAD_WORTH_SAYING = 0.05


@dataclass(frozen=True)
class Verdict:
    """The sentences by subject, in reading order; ``answer`` alone is the short version."""

    answer: list[str]
    comparisons: list[str]
    stability: list[str]
    health: list[str]
    cost: list[str]
    caveats: list[str]

    def sentences(self) -> list[str]:
        """All of them, in order."""
        groups = (self.answer, self.comparisons, self.stability, self.health, self.cost)
        return [s for group in (*groups, self.caveats) for s in group]


def verdict(results: StudyResults) -> list[str]:
    """The verdict on a study as plain sentences, the answer first and the caveats last."""
    return judge(results).sentences()


def judge(results: StudyResults) -> Verdict:
    """The verdict by subject (see :class:`Verdict`). Works on an unfinished or empty study too."""
    if results.present == 0:
        return Verdict([_presence(results)], [], [], [], [], [])
    found = comparisons(results)
    return Verdict(
        answer=_answer(results, found),
        comparisons=[_compare(results.task, c, len(found)) for c in found] + _no_pairs(results),
        stability=_stability(results),
        health=_health(results),
        cost=_cost(results),
        caveats=_caveats(results),
    )


# ------------------------------------------------------------------------------ the sentences


def _join(items: list[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _plural(n: int, word: str) -> str:
    return f"{n} {word}{'' if n == 1 else 's'}"


def _presence(results: StudyResults) -> str:
    missing = results.expected - results.present
    return (
        f"{results.present} of {results.expected} trials present: {_plural(missing, 'run')} "
        f"{'is' if missing == 1 else 'are'} missing, so everything below is preliminary."
        if results.present
        else f"0 of {results.expected} trials present: there is nothing to report yet."
    )


def _answer(results: StudyResults, found: list[Comparison]) -> list[str]:
    sentences = [_presence(results)] if results.present < results.expected else []
    sentences.append(_best(results, found) if results.rivals else _alone(results))
    sentences += _overall(results, found)
    failed = [x for x in results.labels if results.diverged(x)]
    if failed:
        runs = sum(len(results.diverged(x)) for x in failed)
        sentences.append(f"{_plural(runs, 'run')} diverged ({_join(failed)}); all are counted.")
    return sentences


def _best(results: StudyResults, found: list[Comparison]) -> str:
    """Who is ahead: "the best" only where that held, else what was observed."""
    task, order = results.task, ranking(results)
    name, top = order[0]
    ties = [label for label, mean in order if mean == top]
    extreme = "highest" if task.higher_is_better else "lowest"
    if len(ties) > 1:
        return f"{_join(ties)} share the {extreme} mean {task.metric}, {task.show(top)}."
    what = "best mean" if _stands_out(results, name, found) else f"{extreme} observed mean"
    text = f"{name} has the {what} {task.metric} on {task.title}: {_reached(results, name)}"
    if len(order) > 1:
        text += f"; next is {order[1][0]} with {task.show(order[1][1])}"
    return text + "."


def _stands_out(results: StudyResults, name: str, found: list[Comparison]) -> bool:
    """Whether differences that held put ``name`` ahead of every other activation.

    Rivals were compared with the first only: one is ahead of another if it is better than the
    first and the other is worse.
    """
    held = [c for c in found if c.evidence is Evidence.HELD]
    better = {c.rival for c in held if c.gain > 0}
    worse = {c.rival for c in held if c.gain < 0}
    others = set(results.labels) - {name, results.first}
    return (name == results.first or name in better) and others <= worse


def _alone(results: StudyResults) -> str:
    """What the only activation reached."""
    name, task = results.first, results.task
    mean = "mean " if len(results.final(name)) > 1 else ""
    return (
        f"{name} alone was trained on {task.title}; its {mean}{task.metric} is "
        f"{_reached(results, name)}. A comparison needs another activation."
    )


def _reached(results: StudyResults, name: str) -> str:
    """``93.1% over 8 seeds (95% interval ...)``."""
    runs, task = results.final(name), results.task
    mean = task.show(float(runs.mean()))
    if len(runs) == 1:
        return f"{mean} in its only seed"
    spread = mean_interval(runs)
    over = f"over {_plural(len(runs), 'seed')}"
    return f"{mean} {over} ({interval_name(spread)} {_span(task, spread)})"


def _span(task: TaskInfo, interval: Interval) -> str:
    return f"{task.show(interval.low)} to {task.show(interval.high)}"


def _overall(results: StudyResults, found: list[Comparison]) -> list[str]:
    """What may be claimed about the differences as a whole."""
    if not found:
        return []
    most = max(c.difference.n for c in found)
    if most < MIN_SEEDS_FOR_CLAIM:
        need = seeds_needed(len(found))
        return [
            f"No claim possible: {_plural(most, 'paired seed')} cannot show a difference, whatever "
            f"the numbers; {_comparing(len(found))} takes at least {need}."
        ]
    reachable = smallest_reachable_p(most, len(found))
    if reachable > LEVEL:
        return [
            f"No claim possible: with {most} seeds and {_plural(len(found), 'rival')} the smallest "
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
    parts = [f"{_join(better)} did better"] if better else []
    parts += [f"{_join(worse)} did worse"] if worse else []
    rest = len(found) - len(held)
    text = f"Compared with {results.first}, {_join(parts)}: these differences held at the 5% level"
    text = text.replace("these differences", "this difference") if len(held) == 1 else text
    text += " after correction" if len(found) > 1 else ""
    if rest:
        text += f"; the other {_plural(rest, 'rival')} showed no difference that held"
    return text + "."


def _gain(task: TaskInfo, c: Comparison) -> str:
    """``2.1 points better (95% interval 1.2 points better to ...; better in 9 of 10 seeds)``."""
    low, high = c.gain_interval.low, c.gain_interval.high
    if low < 0 < high:
        span = f"{_size(task, low)} worse to {_size(task, high)} better"
    else:
        near, far = sorted((abs(low), abs(high)))
        span = f"{task.show_difference(near, unit=False)} to {_size(task, far)}"
    word = "better" if c.gain > 0 else "worse"
    mean = f"{_size(task, c.gain)} {word}" if c.gain else "level"
    seeds = _plural(c.difference.n, "seed")
    if c.difference.n == 1:
        return f"{mean} in the only seed"
    return (
        f"{mean} on average ({interval_name(c.gain_interval)} {span}; "
        f"better in {c.better_in} of {seeds})"
    )


def _size(task: TaskInfo, value: float) -> str:
    return task.show_difference(abs(value))


def _compare(task: TaskInfo, c: Comparison, family: int) -> str:
    pair, n = f"{c.rival} against {c.first}", _plural(c.difference.n, "seed")
    if not any(c.difference.differences):
        return f"{pair}: exactly the same {task.metric} in all {n}, so no difference is shown."
    numbers = f"{pair}: {_gain(task, c)}"
    corrected = show_p(c.corrected_p)
    corrected += f" after Holm's correction for {family} comparisons" if family > 1 else ""
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
    )


def _no_pairs(results: StudyResults) -> list[str]:
    lonely = [r for r in results.rivals if not results.paired(r, results.first)[0]]
    if not lonely:
        return []
    return [f"{_join(lonely)}: no seed in common with {results.first} yet, so no comparison."]


def _stability(results: StudyResults) -> list[str]:
    failed = [label for label in results.labels if results.diverged(label)]
    if not failed:
        return [f"No run diverged (0 of {results.present})."]
    sentences = [_divergence(results, label) for label in failed]
    guess = results.task.show(results.task.baseline)
    sentences.append(f"A diverged run is scored with the value of guessing, {guess}.")
    return sentences


def _divergence(results: StudyResults, label: str) -> str:
    bad = [t.diverged for t in results.diverged(label) if t.diverged is not None]
    total = len(results.runs(label))
    rate = wilson(len(bad), total)
    text = f"{label}: {len(bad)} of {_plural(total, 'run')} diverged"
    epochs = [d.epoch for d in bad if d.epoch is not None]
    if epochs:
        when = f"{median(epochs):g}"
        text += f", in epoch {when}" if len(epochs) == 1 else f", typically in epoch {when}"
    places = Counter(d.slot for d in bad if d.slot).most_common(1)
    if places:
        text += f", first seen in the {places[0][0].replace('_', ' ')}"
    return f"{text} (95% interval of the rate: {rate.low:.0%} to {rate.high:.0%})."


def _health(results: StudyResults) -> list[str]:
    """The slot where most is saturated, and where most is dead, per activation."""
    saturated = _worst(results, "saturated", SATURATED_WORTH_SAYING)
    dead = _worst(results, "dead", DEAD_WORTH_SAYING)
    if saturated is None:
        return []
    sentences = [
        f"Where most values were saturated at the last epoch: {'; '.join(saturated)}."
        if saturated
        else f"At the last epoch no slot had {SATURATED_WORTH_SAYING:.0%} of its values saturated."
    ]
    if dead:
        sentences.append(f"Where most units were dead: {'; '.join(dead)}.")
    elif dead is not None:
        sentences.append(f"No slot had {DEAD_WORTH_SAYING:.0%} of its units dead.")
    return sentences


def _worst(results: StudyResults, health: Health, least: float) -> list[str] | None:
    """``relu 40% (candidate)`` for each activation above ``least``; None if nothing measured."""
    found, measured = [], False
    for label in results.labels:
        means = {
            slot: float(values.mean())
            for slot in results.measured_slots
            if (values := results.share(label, slot, health)).size
        }
        measured = measured or bool(means)
        slot = max(means, key=lambda s: means[s], default="")
        if slot and means[slot] >= least:
            found.append(f"{label} {means[slot]:.0%} ({slot.replace('_', ' ')})")
    return found if measured else None


def _cost(results: StudyResults) -> list[str]:
    found = costs(results)
    if not found:
        return ["No times to compare were recorded."] if results.rivals else []
    parts = []
    for c in found:
        span = f"{interval_name(c.interval)} {c.interval.low:.2f} to {c.interval.high:.2f}"
        note = ", within noise" if c.within_noise else ""
        parts.append(f"{c.label} {c.ratio:.2f} times" + (f" ({span}{note})" if c.n > 1 else ""))
    return [f"Time per training step relative to {results.first}: {'; '.join(parts)}."]


def _caveats(results: StudyResults) -> list[str]:
    settings = results.config.settings
    rate, size = settings.get("learning_rate"), settings.get("hidden_size")
    scope = f"This is one task ({results.task.title})"
    scope += f", one learning rate ({rate:g})" if isinstance(rate, int | float) else ""
    scope += f" and one size ({size} hidden units)" if size is not None else ""
    order = "order. A rate shared by all suits some activations better than others."
    caveats = [
        f"{scope}: another task, rate or size can change the "
        + (order if results.rivals else "result."),
        "The seeds vary the initial weights and the data (how it is drawn or split, and its "
        "order); the conclusions reach no further than that.",
    ]
    if len(results.rivals) > 1:
        caveats.append(
            f"Each rival was tested against {results.first} only; "
            "the order among the rivals is what was observed, not tested."
        )
    return caveats
