"""The time of a training step, relative to the first activation: the numbers and the sentences.

They are measured in turn, in a run of their own (study/costs.py); where there was none, nothing is
told: the trials of a study run side by side, and their clocks say little.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..statistics import Interval, mean_interval
from ..study.store.results import StudyResults
from ..study.store.schema import CLOCK
from ..wording import join
from .comparison import interval_name


@dataclass(frozen=True)
class Cost:
    """Time per training step of ``label`` relative to the first activation, of ``n`` rounds.

    The ratio is a geometric mean; ``interval`` is that of :func:`mean_interval` on the logarithms.
    """

    label: str
    n: int
    ratio: float
    interval: Interval

    @property
    def within_noise(self) -> bool:
        """True if equal speed is compatible with what was measured."""
        return self.interval.contains(1.0)


def costs(results: StudyResults) -> list[Cost]:
    """Every rival's time per step over the first's, without
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
    """The rivals of which no cost is told -> how many times as large the largest ratio of a round
    is as the smallest, more than CLOCK.

    A training step is the same work in every round, so that the ratio of two activations is the
    same but for the clock: where it is not, something else ran on the machine.
    """
    spreads = {label: _spread(ratios) for label, ratios in _time_ratios(results).items()}
    return {label: spread for label, spread in spreads.items() if spread > CLOCK}


def _time_ratios(results: StudyResults) -> dict[str, list[float]]:
    """Each rival that was timed -> its time per step over that of the first, round by round."""
    base = results.costs.get(results.first, ())
    found = {x: results.costs[x] for x in results.rivals if x in results.costs}
    return {
        label: [t / first for t, first in zip(times, base, strict=False)]
        for label, times in found.items()
        if times and base
    }


def _spread(ratios: Sequence[float]) -> float:
    return max(ratios) / min(ratios)


def cost_sentences(results: StudyResults) -> list[str]:
    found, untold = costs(results), untold_costs(results)
    if not found and not untold:
        return ["The time of a training step was not measured."] if results.rivals else []
    parts = []
    for c in found:
        span = f"{interval_name(c.interval)} {c.interval.low:.2f} to {c.interval.high:.2f}"
        note = f"{span}, within noise" if c.within_noise else span
        parts.append(f"{c.label} {c.ratio:.2f} times ({note if c.n > 1 else 'measured once'})")
    told = (
        f"Time per training step relative to {results.first}, measured in turn: {'; '.join(parts)}."
    )
    return ([told] if parts else []) + untold


def untold_costs(results: StudyResults) -> list[str]:
    """A sentence on the activations of which no cost is told; none if there are none."""
    found = disturbed_clocks(results)
    if not found:
        return []
    return [
        f"Time per training step relative to {results.first} is not told for {join(list(found))}: "
        f"the clock was disturbed, for the ratio of one round is up to {max(found.values()):.1f} "
        f"times that of another, though the work is the same (more than {CLOCK:g} is too much). "
        "The same command, on a machine that does nothing else, measures it again."
    ]
