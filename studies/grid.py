"""The grid of slot and activation: a word for every cell, with the effects that it stands on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .arms import BOTH, Arm
from .claims import against_usual
from .effects import Comparison, Effect, Outcome, Share, judged_family
from .experiments import grid, trials
from .judge import JudgedClaim
from .results import Results
from .setups import CORE

__all__ = ["PLACES", "UNITS", "Cell", "cells", "tally"]

PLACES = {
    "gate_activation": "in all three gates",
    "candidate": "as candidate (the input)",
    "cell_output": "as cell output",
    BOTH: "as candidate and cell output",
}
UNITS = {
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "relu": "ReLU",
    "hard_tanh": "hard tanh",
    "leaky_relu": "leaky ReLU",
    "hard_sigmoid": "hard sigmoid",
}
USUAL = {"gate_activation": "sigmoid"}


@dataclass(frozen=True)
class Cell:
    """One activation in one place.

    usual: it is what stands there anyhow. effects: one a task. diverged, reference: of all runs
    with it there, at every setting that was also run with the usual function, and of the latter.
    """

    place: str
    unit: str
    usual: bool
    effects: tuple[Effect, ...] = ()
    diverged: Share | None = None
    reference: Share | None = None

    @property
    def anchor(self) -> str:
        """Its place on the page of the grid."""
        return f"{self.place}-{self.unit}".replace("_", "-")

    @property
    def unstable(self) -> bool:
        """Its runs diverge more often than the usual ones: the exact intervals do not meet."""
        if self.diverged is None or self.reference is None:
            return False
        return self.diverged.interval.low > self.reference.interval.high

    @property
    def word(self) -> str:
        """The outcome over the tasks in one word: worse and better need one task each and none of
        the other; same needs a task, and no worse or better."""
        if self.usual:
            return "usual"
        found = tally(self.effects)
        if not self.effects:
            return "not run"
        if Outcome.WAITING in found:
            return "waiting"
        if Outcome.WORSE in found and Outcome.BETTER in found:
            return "both"
        for outcome in (Outcome.WORSE, Outcome.BETTER, Outcome.SAME):
            if outcome in found:
                return str(outcome)
        return "not resolved"

    @property
    def seeds(self) -> int:
        """The fewest of a task."""
        return min((e.n for e in self.effects), default=0)

    @property
    def text(self) -> str:
        """The word with its counts."""
        found = tally(self.effects)
        tasks = sum(len(v) for k, v in found.items() if k is not Outcome.NOTHING)
        count = {outcome: len(found.get(outcome, ())) for outcome in Outcome}
        if self.word in ("usual", "not run"):
            return self.word
        if self.word == "waiting":
            said = f"waiting: {self.seeds} seeds"
        elif self.word == "both":
            said = f"worse {count[Outcome.WORSE]}, better {count[Outcome.BETTER]} of {tasks}"
        elif self.word == "not resolved":
            said = "not resolved"
        else:
            said = f"{self.word} in {count[Outcome(self.word)]} of {tasks}"
        return said + (", unstable" if self.unstable else "")


def tally(effects: Iterable[Effect]) -> dict[Outcome, list[str]]:
    """Outcome -> the setups with it."""
    found: dict[Outcome, list[str]] = {}
    for effect in effects:
        found.setdefault(effect.outcome, []).append(effect.comparison.task)
    return found


def cells(results: Results, claims: Sequence[JudgedClaim]) -> dict[tuple[str, str], Cell]:
    """(place, activation) -> its cell. An effect has the outcome that its claim gave it (the first
    that has judged it); cells that are in no claim are a family each."""
    known = _effects(claims)
    planned = list(dict.fromkeys(arm for arm, _ in trials()))
    found = {}
    for place in PLACES:
        for unit in UNITS:
            usual = USUAL.get(place, "tanh") == unit
            own = () if usual else tuple(_of(results, known, planned, place, unit))
            pair = (None, None) if usual else _diverged(results, planned, place, unit)
            found[place, unit] = Cell(place, unit, usual, own, *pair)
    return found


def _effects(claims: Sequence[JudgedClaim]) -> dict[tuple[tuple[Arm, ...], ...], Effect]:
    """Of every comparison at one rate, as the first claim that has judged it has it."""
    found: dict[tuple[tuple[Arm, ...], ...], Effect] = {}
    parts = [part for claim in claims for part in claim.parts]
    effects = [e for part in parts for e in part.effects if e is not None]
    for effect in sorted(effects, key=lambda e: e.outcome is Outcome.WAITING):
        if not effect.comparison.own_rate:
            found.setdefault(_key(effect.comparison), effect)
    return found


def _key(comparison: Comparison) -> tuple[tuple[Arm, ...], ...]:
    return comparison.arms, comparison.references


def _of(
    results: Results,
    known: Mapping[tuple[tuple[Arm, ...], ...], Effect],
    planned: Sequence[Arm],
    place: str,
    unit: str,
) -> Iterator[Effect]:
    family = [c for c in against_usual(grid(s, place, unit) for s in CORE) if c.arms[0] in planned]
    judged = [known[_key(c)] for c in family if _key(c) in known]
    if judged:
        yield from judged
    elif family:
        yield from (e for e in judged_family(results, family) if e is not None)


def _diverged(
    results: Results, planned: Sequence[Arm], place: str, unit: str
) -> tuple[Share | None, Share | None]:
    """Of all settings with this alone changed, and of the usual function at the same settings."""
    pairs = [(a, a.usual) for a in planned if a.slots == ((place, unit),)]
    ran = [(a, b) for a, b in pairs if results.of(a) and results.of(b)]
    if not ran:
        return None, None
    arms, references = zip(*ran, strict=True)
    return Share(*results.diverged(arms)), Share(*results.diverged(references))
