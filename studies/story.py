"""The parts of the answer in words, each made of results: what a page, README and `anygate show`
say alike. No number is typed here; sentences without one follow from the formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from .arms import BOTH, Arm, arm
from .costs import Costs
from .effects import LOOKS, Outcome, Share
from .exact import check
from .experiments import (
    FACTORS,
    HIGH_RATES,
    MAP_BIASES,
    MAP_CLIPS,
    MAP_RATES,
    MAP_SETUPS,
    RATES,
    map_arm,
    rated,
    trials,
)
from .grid import UNITS, Cell, cells, tally
from .judge import JudgedClaim, JudgedPart, by_key, judged
from .results import Results
from .setups import CORE, SETUPS

__all__ = ["Story", "number"]


def number(value: float) -> str:
    """Two digits, as a reader takes them in: 0.62, 1.5, 12."""
    if not math.isfinite(value):
        return "any number of"
    return f"{value:.0f}" if value >= 9.95 else f"{value:.1f}" if value >= 0.995 else f"{value:.2g}"


@dataclass(frozen=True)
class Story:
    """Everything that the pages are made of."""

    results: Results
    costs: Costs | None

    @cached_property
    def claims(self) -> list[JudgedClaim]:
        """Judged."""
        return judged(self.results, self.costs)

    @cached_property
    def grid(self) -> dict[tuple[str, str], Cell]:
        """(place, activation) -> cell."""
        return cells(self.results, self.claims)

    def part(self, claim: str, part: str) -> JudgedPart:
        """One judged part."""
        return by_key(self.claims)[claim].part(part)

    # ---- how far the run is ---------------------------------------------------------------------

    @cached_property
    def seeds(self) -> int:
        """With how many seeds tanh and all that is compared with it in both places ran."""
        return min(
            (c.seeds for (p, u), c in self.grid.items() if p == BOTH and c.effects), default=0
        )

    @property
    def so_far(self) -> str:
        """A word for figures that are not judged yet; "" once they are."""
        return f" (so far, {self.seeds} seeds)" if self.seeds < LOOKS[0] else ""

    @staticmethod
    def scope() -> str:
        """The size of the tasks of every comparison, in one sentence."""
        steps = [SETUPS[name].task.steps for name in CORE]
        units = [SETUPS[name].settings.hidden_size for name in CORE]
        return (
            f"Compared on {len(CORE)} small tasks: {min(steps)} to {max(steps)} steps, "
            f"{min(units)} to {max(units)} units."
        )

    def run_line(self) -> str:
        """The state of the confirming run, and the size of its tasks."""
        planned, held = sum(1 for _ in trials()), self.results.held.count
        if not held:
            return "The confirming run has not begun: nothing below is measured yet."
        last = self.results.stretches[-1]
        runs = [run for found in self.results.held.runs.values() for run in found.values()]
        hours = sum(run.seconds for run in runs) / 3600
        *more, last_rules = sorted({s["rules"][:7] for s in self.results.stretches})
        rules = f"{', '.join(more)} and {last_rules}" if more else last_rules
        return (
            f"The confirming run is at {held:,} of {planned:,} runs ({hours:.1f} core-hours of "
            f"training, {last['date']}, {last['machine']['cores']} cores of "
            f"{last['machine']['cpu']}), made by `python -m studies run` under the rules of commit "
            f"{rules}; a part is judged at {' and '.join(map(str, LOOKS))} seeds, not before. "
            f"{self.scope()}"
        )

    # ---- comparisons ----------------------------------------------------------------------------

    def compared(self, place: str, unit: str) -> str:
        """Slower or faster, on how many tasks, and the range of the ratios."""
        span, outcome = self._compared(place, unit)
        if not span:
            return "not measured yet"
        usual = "the sigmoid" if place == "gate_activation" else "tanh"
        times = f"{span} times {usual}'s epochs"
        if not outcome:
            return f"{times}, by the task (so far, {self.grid[place, unit].seeds} seeds)"
        return f"{outcome} ({times})"

    def outcome(self, place: str, unit: str) -> str:
        """The outcome alone; before it is judged, the range."""
        span, outcome = self._compared(place, unit)
        return outcome or (f"{span} times the epochs so far" if span else "not measured yet")

    def brief(self, place: str, unit: str) -> str:
        """The outcome alone, as short as it goes; before it is judged, the range."""
        span, outcome = self._compared(place, unit)
        short = outcome.replace(" on ", " ").removesuffix(" tasks")
        return short or (f"{span.replace(' to ', '–')} so far" if span else "not measured yet")

    def _compared(self, place: str, unit: str) -> tuple[str, str]:
        """The range of the ratios, and the outcome where it is judged."""
        telling = [e for e in self.grid[place, unit].effects if e.outcome is not Outcome.NOTHING]
        if not telling:
            return "", ""
        low, high = (number(f(e.ratio for e in telling)) for f in (min, max))
        span, found = f"{low} to {high}", tally(telling)
        if Outcome.WAITING in found:
            return span, ""
        words = {Outcome.WORSE: "slower", Outcome.BETTER: "faster", Outcome.SAME: "the same"}
        told = [f"{w} on {len(found[o])}" for o, w in words.items() if o in found]
        shown = f"{', '.join(told)} of" if told else "no difference shown on"
        return span, f"{shown} {len(telling)} tasks"

    def factors(self, place: str) -> str:
        """The cost of leaving out each part of tanh, over the tasks."""
        found = []
        for factor in FACTORS:
            over = self.part("symmetric", f"{factor} {place}").over
            if over is not None:
                found.append((over.ratio, factor))
        if not found:
            return "not measured yet"
        found.sort(reverse=True)
        return ", ".join(f"{factor} {number(ratio)}" for ratio, factor in found)

    # ---- divergence -----------------------------------------------------------------------------

    def mapped(
        self,
        unit: str,
        beside: str | None = None,
        *,
        setups: Sequence[str] = MAP_SETUPS,
        rates: Sequence[float] = HIGH_RATES,
        biases: Sequence[float] = MAP_BIASES,
        clips: Sequence[float] = MAP_CLIPS,
    ) -> Share | None:
        """The number of runs that diverged in these cells of the divergence map, of the seeds with
        which all of them ran, and those of the function `beside`; None before there is one."""

        def of(unit: str) -> list[Arm]:
            settings = product(setups, rates, biases, clips)
            return [map_arm(setup, unit, *others) for setup, *others in settings]

        own = of(unit)
        seeds = self.results.common(*own, *([] if beside is None else of(beside)))
        runs = [self.results.held.runs[arm.name][seed] for arm in own for seed in seeds]
        return Share(sum(r.diverged is not None for r in runs), len(runs)) if runs else None

    def risk(self) -> str:
        """Divergences of the functions of the question, over the map."""
        told = []
        for unit in ("relu", "leaky_relu", "hard_tanh", "tanh"):
            share = self.mapped(unit, "relu" if unit == "tanh" else "tanh")
            if share is not None:
                told.append(f"{name(unit)} {_briefly(share)}")
        return ", ".join(told) or "not measured yet"

    def diverged(self, unit: str) -> str:
        """A function's divergences over the map, as a clause."""
        share = self.mapped(unit, "tanh")
        if share is None:
            return "the map of divergence is not measured yet"
        return f"{share.count} of {share.n} diverged"

    def unstable(self) -> str:
        """ReLU's divergences beside tanh's, by the length of the task."""
        told = []
        for setup in MAP_SETUPS:
            pairs = ("relu", "tanh"), ("tanh", "relu")
            relu, tanh = (self.mapped(*pair, setups=(setup,)) for pair in pairs)
            if relu and tanh:
                steps = SETUPS[setup].task.steps
                told.append(f"{relu.count} of {relu.n} with {steps} steps (tanh {_briefly(tanh)})")
        return ", ".join(told) or "not measured yet"

    # ---- what to change -------------------------------------------------------------------------

    def best_rates(self, unit: str) -> str:
        """On how many tasks each factor of the rate needed the fewest epochs in the mean."""
        votes: dict[float, int] = {}
        for setup in CORE:
            arms = {rate: rated(setup, unit, rate) for rate in RATES}
            seeds = self.results.common(*arms.values())
            if not seeds:
                return "not run yet"
            means = {}
            for rate, each in arms.items():
                runs = [self.results.run(each, seed) for seed in seeds]
                budget = each.settings.epochs
                means[rate] = sum(
                    math.log(budget if r.diverged is not None else r.reached or budget)
                    for r in runs
                )
            best = min(means, key=lambda rate: (means[rate], abs(math.log(rate))))
            votes[best] = votes.get(best, 0) + 1
        order = sorted(votes.items(), key=lambda pair: -pair[1])
        return ", ".join(f"{_factor(rate)} on {count}" for rate, count in order)

    def clipping(self, unit: str) -> str:
        """Divergences with and without clipping, at every rate that ran."""
        found = [self.mapped(unit, rates=MAP_RATES, clips=(clip,)) for clip in (1.0, 0.0)]
        if not all(found):
            return "not run yet"
        return ", ".join(
            f"{word} {share.count} of {share.n}"
            for word, share in zip(("clipped", "not clipped"), found, strict=True)
            if share
        )

    def biases(self, unit: str) -> str:
        """Divergences by forget bias."""
        found = {bias: self.mapped(unit, rates=MAP_RATES, biases=(bias,)) for bias in MAP_BIASES}
        told = [f"{b:g}: {s.count} of {s.n}" for b, s in found.items() if s]
        return ", ".join(told) or "not run yet"

    # ---- cost -----------------------------------------------------------------------------------

    def cost(self, unit: str) -> str:
        """The time of a training step over tanh's."""
        if self.costs is None:
            return "not measured yet"
        ratios = self.costs.ratios(f"step {unit}", "step tanh")
        return " and ".join(f"{r:.2f}" for r, _, _ in ratios) or "not measured yet"


def _briefly(share: Share) -> str:
    return f"{share.count} of {share.n}" if share.count else "0"


def _factor(rate: float) -> str:
    return {1 / 3: "a third", 1.0: "the same", 3.0: "three times"}[rate]


def forgetting(bias: float) -> str:
    """The share of a gradient that is left after 100 steps at this forget bias."""
    return f"{check('forgetting').numbers[f'{bias:g}']['by_formula']:.2g}"


def setup_names() -> str:
    """The tasks of every comparison."""
    return ", ".join(SETUPS[name].title for name in CORE)


def name(unit: str) -> str:
    """As a reader says it."""
    return UNITS.get(unit, unit)


def usual_runs(results: Results) -> Share:
    """The number of runs of the usual LSTM that diverged."""
    return Share(*results.diverged([arm(setup) for setup in CORE]))
