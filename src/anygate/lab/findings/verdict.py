"""The verdict of a study in sentences: no more than its seeds allow, and what they do not allow.

``verdict(results)`` is the whole text, learning rates included. It is made of the numbers of
`comparison`, `cost` and `solving`, so that tables and text can never disagree. The rule for a claim
is in :mod:`anygate.lab.statistics`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from ..statistics import LEVEL, Evidence, Interval, mean_interval, wilson
from ..study.store.results import Health, StudyResults
from ..study.store.schema import LearningRates, TaskInfo
from ..wording import at_own, at_shared, join, plural
from .advice import after_divergence
from .comparison import (
    RivalComparison,
    compare,
    comparisons,
    equivalent_ones,
    interval_name,
    no_pairs,
    overall,
    ranking,
)
from .cost import cost_sentences
from .solving import (
    TimeComparison,
    compare_times,
    held_times,
    solve_rates,
    time_comparisons,
)

SATURATED_WORTH_SAYING = 0.2
DEAD_WORTH_SAYING = 0.05


@dataclass(frozen=True)
class Verdict:
    """The sentences by subject, in reading order; ``answer`` alone is the short version.

    ``tuning`` and ``own``: of a study that tuned a setting, how its values were chosen and what was
    found at each activation's own; the rest is then at the shared one.
    """

    answer: list[str]
    comparisons: list[str]
    stability: list[str]
    health: list[str]
    cost: list[str]
    caveats: list[str]
    tuning: list[str] = field(default_factory=list)
    own: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """All of them, in order."""
        groups = (
            self.answer,
            self.comparisons,
            self.stability,
            self.health,
            self.cost,
            self.tuning,
            self.own,
        )
        return [s for group in (*groups, self.caveats) for s in group]


def verdict(results: StudyResults, margin: float | None = None) -> list[str]:
    """The verdict on a study as plain sentences, the answer first and the caveats last.

    ``margin``: what counts as equivalent, in the metric's unit; by default what the study declared.
    """
    return judge(results, margin).sentences()


def judge(results: StudyResults, margin: float | None = None) -> Verdict:
    """The verdict by subject (see :class:`Verdict`). Works on an unfinished or empty study too.

    ``margin`` as in :func:`verdict`. Raises ``StudyError`` for one that is not positive, or not
    the one that the study declared.
    """
    if results.present == 0:
        return Verdict([_presence(results)], [], [], [], [], [])
    found, times = comparisons(results, margin), time_comparisons(results)
    answer = _answer(results, found, times)
    own = None if results.own is None else judge(results.own, margin)
    chosen = results.config.learning_rates
    place = "" if chosen is None else at_own(chosen.setting)
    if not _is_own(results):
        answer = both_answers(results, answer, None if own is None else own.answer)
    return Verdict(
        answer=answer,
        comparisons=[compare(results.task, c, len(found)) for c in found]
        + no_pairs(results)
        + compare_times(times),
        stability=_stability(results) + solve_rates(results),
        health=_health(results),
        cost=cost_sentences(results),
        caveats=_caveats(results, found, times),
        tuning=tuning_sentences(results),
        own=[f"A{place[1:]}: {s}" for s in own.comparisons + own.stability] if own else [],
    )


def _is_own(results: StudyResults) -> bool:
    """True if these are the results at each activation's own value of what was tuned."""
    chosen = results.config.learning_rates
    return chosen is not None and isinstance(results.config.settings.get(chosen.setting), str)


# ------------------------------------------------------------------------------ the sentences


def _presence(results: StudyResults) -> str:
    missing = results.expected - results.present
    return (
        f"{results.present} of {results.expected} trials present: {plural(missing, 'run')} "
        f"{'is' if missing == 1 else 'are'} missing, so everything below is preliminary."
        if results.present
        else f"0 of {results.expected} trials present: there is nothing to report yet."
    )


def _answer(
    results: StudyResults, found: list[RivalComparison], times: list[TimeComparison]
) -> list[str]:
    sentences = [_presence(results)] if results.present < results.expected else []
    sentences.append(_best(results, found) if results.rivals else _alone(results))
    sentences += overall(results, found) + equivalent_ones(results, found) + held_times(times)
    failed = [x for x in results.labels if results.diverged(x)]
    if failed:
        runs = sum(len(results.diverged(x)) for x in failed)
        sentences.append(f"{plural(runs, 'run')} diverged ({join(failed)}); all are counted.")
    return sentences


def _best(results: StudyResults, found: list[RivalComparison]) -> str:
    """A sentence on who is ahead: "the best" only where that held, else what was observed."""
    task, order = results.task, ranking(results)
    name, top = order[0]
    ties = [label for label, mean in order if mean == top]
    extreme = "highest" if task.higher_is_better else "lowest"
    if len(ties) > 1:
        return f"{join(ties)} share the {extreme} mean {task.metric}, {task.show(top)}."
    what = "best mean" if _stands_out(results, name, found) else f"{extreme} observed mean"
    text = f"{name} has the {what} {task.metric} on {task.title}: {_reached(results, name)}"
    if len(order) > 1:
        text += f"; next is {order[1][0]} with {task.tell(order[1][1])}"
    if len(results.diverged(name)) == len(results.runs(name)):
        text += f"; but every run of {name} diverged and counts as {task.baseline_name}"
    return text + "."


def _stands_out(results: StudyResults, name: str, found: list[RivalComparison]) -> bool:
    """True if differences that held put ``name`` ahead of every other activation.

    Rivals were compared with the first only: one is ahead of another if it is better than the
    first and the other is worse.
    """
    held = [c for c in found if c.evidence is Evidence.HELD]
    better = {c.rival for c in held if c.gain > 0}
    worse = {c.rival for c in held if c.gain < 0}
    others = set(results.labels) - {name, results.first}
    return (name == results.first or name in better) and others <= worse


def _alone(results: StudyResults) -> str:
    """A sentence on what the only activation reached."""
    name, task = results.first, results.task
    mean = "mean " if len(results.final(name)) > 1 else ""
    return (
        f"{name} alone was trained on {task.title}; its {mean}{task.metric} is "
        f"{_reached(results, name)}. A comparison needs another activation."
    )


def _reached(results: StudyResults, name: str) -> str:
    """``93.1% over 8 seeds (95% interval ...)``."""
    runs, task = results.final(name), results.task
    mean = task.tell(float(runs.mean()))
    if len(runs) == 1:
        return f"{mean} in its only seed"
    spread = mean_interval(runs)
    over = f"over {plural(len(runs), 'seed')}"
    return f"{mean} {over} ({interval_name(spread)} {_span(task, spread)})"


def _span(task: TaskInfo, interval: Interval) -> str:
    return f"{task.show(interval.low)} to {task.show(interval.high)}"


def _stability(results: StudyResults) -> list[str]:
    failed = [label for label in results.labels if results.diverged(label)]
    if not failed:
        runs = min(len(results.runs(label)) for label in results.labels if results.runs(label))
        rare = f"{wilson(0, runs).high:.0%}"
        return [
            f"No run diverged (0 of {results.present}); with {plural(runs, 'run')} of each, a "
            f"failure in up to {rare} of them could have stayed unseen."
        ]
    sentences = [text for label in failed for text in _failure(results, label)]
    guess = results.task.show(results.task.baseline)
    name = results.task.baseline_name
    sentences.append(f"A diverged run is scored with the value of {name}, {guess}.")
    return sentences


def _failure(results: StudyResults, label: str) -> list[str]:
    """Sentences on how many runs diverged, the earliest of them, and what to try."""
    found = after_divergence(results, label)
    if found is None:
        return []
    options = f" ({found.options})" if found.options else ""
    return [
        _divergence(results, label),
        found.because,
        f"To try with {label}: {found.do.rstrip('.')}{options}.",
    ]


def _divergence(results: StudyResults, label: str) -> str:
    bad = [t.diverged for t in results.diverged(label) if t.diverged is not None]
    total = len(results.runs(label))
    rate = wilson(len(bad), total)
    text = f"{label}: {len(bad)} of {plural(total, 'run')} diverged"
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


def _caveats(
    results: StudyResults, found: list[RivalComparison], times: list[TimeComparison]
) -> list[str]:
    settings = results.config.settings
    rate, size = settings.get("learning_rate"), settings.get("hidden_size")
    scope = f"This is one task ({results.task.title})"
    by_arms = {name for a in results.config.activations for name in a.settings}
    if isinstance(rate, int | float) and "learning_rate" not in by_arms:
        scope += f", one learning rate ({rate:g})"
    if size is not None and "hidden_size" not in by_arms:
        scope += f" and one size ({size} hidden units)"
    if (tuned := results.config.learning_rates) is not None and _is_own(results):
        scope += f", each activation's own {tuned.word} ({settings.get(tuned.setting)})"
    order = "order."
    if tuned is None or tuned.setting != "learning_rate":
        order += " A rate shared by all suits some activations better than others."
    varied = "the data (how it is drawn or split, and its order)"
    if results.task.own:
        varied = "whatever else train draws with them"
    elif results.task.same_data:
        varied = "the order of the training data, which are the same in every seed"
    caveats = [
        f"{scope}: another task, rate or size can change the "
        + (order if results.rivals else "result."),
        f"The seeds vary the initial weights and {varied}; the conclusions reach no further "
        "than that.",
    ]
    if len(results.rivals) > 1:
        caveats.append(
            f"Each rival was tested against {results.first} only; the report's table of all "
            "pairs also tests the others, with a stricter correction."
        )
    return caveats + _questions(results.task, found, times) + _unseen(found)


def _questions(
    task: TaskInfo, found: list[RivalComparison], times: list[TimeComparison]
) -> list[str]:
    """A sentence: each question has an error rate of its own."""
    asked = [f"the difference in {task.metric}"] if found else []
    asked += ["equivalence"] if any(c.equivalence for c in found) else []
    asked += ["the time to solve"] if times else []
    if len(asked) < 2 or all(c.evidence is Evidence.TOO_FEW_SEEDS for c in found):
        return []
    return [
        f"{join(asked)[:1].upper()}{join(asked)[1:]} are questions of their own: the error rate "
        f"of {LEVEL:.0%} is that of each, not of all together."
    ]


def _unseen(found: list[RivalComparison]) -> list[str]:
    """A sentence on what equivalence does not say: a rare failure lies outside of the seeds that
    were run."""
    same = [c.difference.n for c in found if c.equivalent]
    if not same:
        return []
    rare = wilson(0, min(same)).high
    return [
        "Equivalence is about the mean, and takes the differences to be spread evenly around it: "
        f"a failure in up to {rare:.0%} of the runs can stay unseen in {min(same)} seeds."
    ]


def both_answers(
    results: StudyResults, shared: Sequence[str], own: Sequence[str] | None
) -> list[str]:
    """The answer at the shared value of what was tuned, then that at each one's own; own: None if
    all are best at the shared one."""
    chosen = results.config.learning_rates
    if chosen is None or chosen.shared is None:
        return list(shared)
    if own is None:
        return [f"All at {chosen.shared:g}, the best {chosen.word} for each:", *shared]
    whose = "as given" if chosen.given else f"the best for {results.first}"
    best = join([f"{label} {chosen.tuned[label].rate:g}" for label in results.labels])
    return [
        f"At one {chosen.word} for all, {chosen.shared:g} ({whose}):",
        *shared,
        f"At each one's own best {_short(chosen)} ({best}):",
        *own,
    ]


def tuning_sentences(results: StudyResults) -> list[str]:
    """Sentences on how the values of a tuned setting were chosen, which of them lie at an end of
    the grid, and which runs diverged."""
    chosen = results.config.learning_rates
    if chosen is None or chosen.shared is None:
        return []
    task, seeds = results.task, chosen.seeds
    fixed = [a.label for a in results.config.activations if chosen.setting in a.settings]
    best = [
        f"{label} {t.rate:g} ({task.show(t.means[t.rate])})"
        for label in results.labels
        for t in [chosen.tuned[label]]
        if label not in fixed
    ]
    what = f"mean {task.metric}" if len(seeds) > 1 else task.metric
    among = f"among {join([f'{rate:g}' for rate in chosen.rates])}"
    if chosen.tuner != "grid":
        most = max(len(t.tried) for t in chosen.tuned.values())
        among = f"between {min(chosen.rates):g} and {max(chosen.rates):g} by Optuna "
        among += f"({plural(most, chosen.noun)})"
    sentences = [
        f"The {chosen.word} was tuned for each activation {among}, by the {what} over "
        f"{plural(len(seeds), 'seed')} that no comparison uses ({_seed_range(seeds)}). "
        f"Best: {', '.join(best)}."
    ]
    if fixed:
        its = "its value is the one that the arm sets"
        theirs = "their values are those that the arms set"
        sentences.append(
            f"For {join(fixed)} nothing was tuned: {its if len(fixed) == 1 else theirs}."
        )
    ends = (("lowest", "lower"), ("highest", "higher")) if chosen.tuner == "grid" else ()
    for end, more in ends:
        if edge := [x for x in results.labels if chosen.tuned[x].edge == end]:
            verb = "is" if len(edge) == 1 else "are"
            ends_there = chosen.noun + ("" if len(edge) == 1 else "s")
            sentences.append(
                f"The best {ends_there} of {join(edge)} {verb} the {end} of the grid: the grid "
                f"ends there, and a {more} one may be better."
            )
    sentences += _diverged_in_tuning(results, chosen)
    if results.own is not None:
        sentences.append(
            f"The comparison {at_shared(chosen.setting)} and that {at_own(chosen.setting)} are "
            f"questions of their own: the error rate of {LEVEL:.0%} is that of each."
        )
    return sentences


def _short(chosen: LearningRates) -> str:
    """The setting in a sentence that follows its name: rate, gradient clip."""
    return "rate" if chosen.setting == "learning_rate" else chosen.word


def _diverged_in_tuning(results: StudyResults, chosen: LearningRates) -> list[str]:
    bad = [
        f"{label} at {rate:g} ({n} of {len(chosen.seeds)})"
        for label in results.labels
        for rate, n in chosen.tuned[label].diverged.items()
        if n
    ]
    return [f"Runs diverged in the tuning: {', '.join(bad)}."] if bad else []


def _seed_range(seeds: Sequence[int]) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"
