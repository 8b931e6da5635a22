"""A claim as data: a sentence with its sources, the experiments it needs, what would refute it, a
judge that turns results into a verdict, and the words of the answer for each verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from .grid import Arm, Scale

if TYPE_CHECKING:
    from .findings import Findings

__all__ = [
    "Claim",
    "Effect",
    "Experiment",
    "Judgement",
    "Part",
    "Question",
    "Sentence",
    "Verdict",
]


class Verdict(StrEnum):
    """The outcome for a claim or a part of it."""

    HELD = "held"
    """The measurements agree with the claim, as its rule demands."""
    REFUTED = "refuted"
    """The outcome was measured that had been declared beforehand to refute it."""
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
class Experiment:
    """Measurements that claims need; several claims may need the same.

    name: as results are filed. title: in words. arms: what is trained; `survey` says that these
    need a survey's seeds only. compute: numbers that need no training, from a function that worker
    processes can import. alone: nothing else may run meanwhile. inspected: arms whose inside is
    measured after training; a kernel that measures is compiled for each. snapshots: arms of which a
    snapshot is taken besides.
    """

    name: str
    title: str
    arms: tuple[Arm, ...] = ()
    survey: bool = False
    compute: Callable[[Scale], dict[str, Any]] | None = None
    alone: bool = False
    inspected: tuple[Arm, ...] = ()
    snapshots: tuple[Arm, ...] = ()


class Question(StrEnum):
    """The questions that the answer answers, in order."""

    GATES = "Why sigmoid in the gates?"
    TANH = "Why tanh at the input and the output?"
    NONLINEARITY = "Is it just a nonlinearity?"
    REPLACEMENT = "Can I change both: ReLU, hard tanh, leaky ReLU?"
    COST = "What do I lose and win?"
    CONSEQUENCES = "What must I change with it?"


@dataclass(frozen=True)
class Sentence:
    """A sentence of the answer that follows from a claim's verdict.

    question: where it stands. held, refuted, undecided: its wordings, in which {because} is the
    judge's reason and other names come from `values` of the judgement. part: the part of the claim
    whose verdict counts, "" for the whole.
    """

    question: Question
    held: str
    refuted: str
    undecided: str
    part: str = ""
    values: Callable[[Judgement], dict[str, object]] = lambda judgement: {}


@dataclass(frozen=True)
class Claim:
    """One claim, complete: whoever adds one writes it into a module of `studies/claims`, and
    touches nothing else.

    key: its name on the command line. row: its place in the project's list (letters are points that
    were derived on paper). sentence: the claim in words. said_by: sources, as they are cited.
    experiments: what it rests on. measure, held_if, refuted_if: the rule in words. judge: applies
    the rule. margin: what counts as equivalent or not worse, declared before any run, in the
    measure's unit ("" if no such test is made). family: which tests are corrected together.
    answers: its sentences of the answer. speaks_of: activations whose page in the catalogue says so
    if the verdict is withdrawn.
    """

    key: str
    row: str
    sentence: str
    said_by: tuple[str, ...]
    experiments: tuple[Experiment, ...]
    measure: str
    held_if: str
    refuted_if: str
    judge: Callable[[Findings], Judgement]
    margin: str = ""
    family: str = ""
    answers: tuple[Sentence, ...] = ()
    speaks_of: tuple[str, ...] = ()
