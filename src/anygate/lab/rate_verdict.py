"""The sentences on learning rates: what was chosen for whom, and where that may not be enough."""

from __future__ import annotations

from collections.abc import Sequence

from .rates import LearningRates
from .results import StudyResults
from .statistics import LEVEL
from .words import join, plural

__all__ = ["both_answers", "rate_sentences"]


def both_answers(
    results: StudyResults, shared: Sequence[str], own: Sequence[str] | None
) -> list[str]:
    """The answer at the shared rate, then that at each one's own; own: None if all are best at the
    shared rate."""
    chosen = results.config.learning_rates
    if chosen is None or chosen.shared is None:
        return list(shared)
    if own is None:
        return [f"All at {chosen.shared:g}, the best learning rate for each:", *shared]
    whose = "as given" if chosen.given else f"the best for {results.first}"
    best = join([f"{label} {chosen.tuned[label].rate:g}" for label in results.labels])
    return [
        f"At one learning rate for all, {chosen.shared:g} ({whose}):",
        *shared,
        f"At each one's own best rate ({best}):",
        *own,
    ]


def rate_sentences(results: StudyResults) -> list[str]:
    """How the rates were chosen, what lies at an end of the grid, and which runs diverged."""
    chosen = results.config.learning_rates
    if chosen is None or chosen.shared is None:
        return []
    task, seeds = results.task, chosen.seeds
    best = [
        f"{label} {t.rate:g} ({task.show(t.means[t.rate])})"
        for label in results.labels
        for t in [chosen.tuned[label]]
    ]
    what = f"mean {task.metric}" if len(seeds) > 1 else task.metric
    sentences = [
        f"The learning rate was tuned for each activation among "
        f"{join([f'{rate:g}' for rate in chosen.rates])}, by the {what} over "
        f"{plural(len(seeds), 'seed')} that no comparison uses ({_span(seeds)}). "
        f"Best: {', '.join(best)}."
    ]
    for end, more in (("lowest", "lower"), ("highest", "higher")):
        if edge := [x for x in results.labels if chosen.tuned[x].edge == end]:
            verb = "is" if len(edge) == 1 else "are"
            rates = "rate" if len(edge) == 1 else "rates"
            sentences.append(
                f"The best {rates} of {join(edge)} {verb} the {end} of the grid: the grid ends "
                f"there, and a {more} one may be better."
            )
    sentences += _diverged(results, chosen)
    if results.own is not None:
        sentences.append(
            "The comparison at the shared rate and that at own rates are questions of their own: "
            f"the error rate of {LEVEL:.0%} is that of each."
        )
    return sentences


def _diverged(results: StudyResults, chosen: LearningRates) -> list[str]:
    bad = [
        f"{label} at {rate:g} ({n} of {len(chosen.seeds)})"
        for label in results.labels
        for rate, n in chosen.tuned[label].diverged.items()
        if n
    ]
    return [f"Runs diverged in the tuning: {', '.join(bad)}."] if bad else []


def _span(seeds: Sequence[int]) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else f"{seeds[0]}"
