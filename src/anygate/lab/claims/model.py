"""What a claim is: a sentence with a source, the experiments it needs, what would refute it, and
a judge that turns results into a verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .findings import Findings

__all__ = ["Claim", "Effect", "Judgement", "Part", "Verdict"]


class Verdict(StrEnum):
    """How far the measurements carry a claim."""

    HELD = "held"
    """What the claim says was measured, as its rule demands."""
    REFUTED = "refuted"
    """What was declared beforehand to refute it was measured."""
    UNDECIDED = "undecided"
    """Neither. This is no evidence for either side."""
    WITHDRAWN = "withdrawn"
    """A verdict was given and does not stand (see history.py)."""


@dataclass(frozen=True)
class Effect:
    """One number that a verdict rests on.

    value, with its interval [low, high] of the given confidence (None where a number is exact or
    has no interval), in a unit. n: pairs or rounds behind it. format: how to print it. diverged: of
    the runs behind it how many did, in words; "" where there are no runs.
    """

    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    n: int | None = None
    format: str = ".3g"
    note: str = ""
    diverged: str = ""


@dataclass(frozen=True)
class Part:
    """One assertion within a claim, with its own verdict; verdict None is context, not judged."""

    name: str
    verdict: Verdict | None
    because: str
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True)
class Judgement:
    """The parts of one claim. The whole is refuted if a part is, and held if all that are judged
    held; with nothing judged it is undecided. withdrawn: why its verdict does not stand, if so."""

    parts: tuple[Part, ...]
    withdrawn: str = ""

    @property
    def verdict(self) -> Verdict:
        """Of the whole."""
        if self.withdrawn:
            return Verdict.WITHDRAWN
        found = [part.verdict for part in self.parts if part.verdict is not None]
        if Verdict.REFUTED in found:
            return Verdict.REFUTED
        if found and all(v is Verdict.HELD for v in found):
            return Verdict.HELD
        return Verdict.UNDECIDED

    def part(self, name: str) -> Part:
        """The part of this name. Raises KeyError for an unknown one."""
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(name)


@dataclass(frozen=True)
class Claim:
    """One claim of the question.

    key: its name on the command line. row: its place in the project's list ("a" to "e" are points
    that were derived on paper). sentence: the claim in words. said_by: keys of SOURCES.
    experiments: names in EXPERIMENTS. measure, held_if, refuted_if: the rule in words. margin: what
    counts as equivalent or not worse, declared before any run, in the measure's unit ("" if no such
    test is made). family: which tests are corrected together.
    """

    key: str
    row: str
    sentence: str
    said_by: tuple[str, ...]
    experiments: tuple[str, ...]
    measure: str
    held_if: str
    refuted_if: str
    judge: Callable[[Findings], Judgement]
    margin: str = ""
    family: str = ""
