"""The rules that judges share: too few seeds, one-sided verdicts, their words."""

from __future__ import annotations

from collections.abc import Sequence

from .contrast import Contrast, enough
from .findings import Findings
from .grid import Arm
from .lab import LEVEL, MIN_SEEDS_FOR_CLAIM, holm
from .model import Effect, Part, Verdict

__all__ = [
    "better_worse_same",
    "from_contrasts",
    "holm_of",
    "lacking",
    "measured",
    "no_worse",
    "not_run",
]


LOSS = "the share of the epochs until the task is solved (1 if never or diverged)"
TIME_MARGIN = "0.2 of the epochs (full: 0.1)"
"""Measure and margin of most trainings, in words."""


def not_run(name: str) -> Part:
    """A part whose experiment is not there."""
    return Part(name, Verdict.UNDECIDED, "This has not been run.")


def lacking(name: str, found: Sequence[Contrast | None]) -> Part | None:
    """An undecided part if contrasts are missing or have too few pairs for any claim."""
    if enough(found):
        return None
    pairs = [c.n for c in found if c is not None]
    if not pairs:
        return not_run(name)
    return Part(
        name,
        Verdict.UNDECIDED,
        f"Only {min(pairs)} paired seeds: no test can decide with fewer than "
        f"{MIN_SEEDS_FOR_CLAIM}.",
        tuple(c.effect() for c in found if c is not None),
    )


def from_contrasts(found: Sequence[Contrast | None]) -> list[Contrast]:
    """The contrasts without those that could not be made."""
    return [c for c in found if c is not None]


def no_worse(groups: dict[str, list[Contrast | None]], family: int) -> list[Part]:
    """For each label: held if its arm is not worse than the reference by the margin in all of its
    contrasts, refuted if it is worse in at least one; p values corrected over `family` labels and,
    for "at least one", over the contrasts of a label."""
    complete = {label: from_contrasts(g) for label, g in groups.items()}
    bad = {label: part for label, g in groups.items() if (part := lacking(label, g)) is not None}
    labels = [label for label in groups if label not in bad]
    good = holm_of([max(c.not_worse for c in complete[k]) for k in labels], family)
    worse = holm_of(
        [min(1.0, len(complete[k]) * min(c.worse for c in complete[k])) for k in labels], family
    )
    parts = dict(bad)
    for label, p_good, p_worse in zip(labels, good, worse, strict=True):
        effects = tuple(c.effect() for c in complete[label])
        parts[label] = _no_worse_part(label, p_good, p_worse, effects, family)
    return [parts[label] for label in groups]


def _no_worse_part(
    label: str, good: float, worse: float, effects: tuple[Effect, ...], family: int
) -> Part:
    corrected = f" (corrected for {family})" if family > 1 else ""
    if good <= LEVEL:
        because = f"Not worse by the margin: p = {good:.3f}{corrected}."
        if worse <= LEVEL:
            because += f" A smaller loss is there: p = {worse:.3f}."
        return Part(label, Verdict.HELD, because, effects)
    if worse <= LEVEL:
        return Part(label, Verdict.REFUTED, f"Worse: p = {worse:.3f}{corrected}.", effects)
    because = f"Neither not worse by the margin (p = {good:.3f}) nor worse (p = {worse:.3f})."
    return Part(label, Verdict.UNDECIDED, because, effects)


def holm_of(p_values: list[float], family: int) -> list[float]:
    """Holm over a family of which some members could not be tested: those count as p = 1."""
    padded = [*p_values, *[1.0] * (family - len(p_values))]
    return holm(padded)[: len(p_values)]


def better_worse_same(
    c: Contrast, p_difference: float, p_same: float, family: int, *, first: str, second: str
) -> tuple[str, str]:
    """("reference", "arm", "same" or "open": which of both the contrast shows to be better), and
    the sentence, in which they are called first and second. The p values are corrected."""
    corrected = f" (corrected for {family})" if family > 1 else ""
    if p_difference <= LEVEL:
        ahead = c.difference.mean > 0
        sooner = "sooner" if c.measure == "time" else "better"
        said = f"{first if ahead else second} is {sooner}: p = {p_difference:.3f}{corrected}."
        return ("reference" if ahead else "arm"), said
    if p_same <= LEVEL:
        return "same", f"Equivalent within the margin: p = {p_same:.3f}{corrected}."
    return "open", (
        f"Neither a difference (p = {p_difference:.3f}) nor equivalence "
        f"(p = {p_same:.3f}) is shown."
    )


def measured(findings: Findings, arm: Arm, *path: str) -> list[float]:
    """A number of `after` of the runs that have it."""
    found = []
    for run in findings.of(arm):
        value: object = run.after
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, int | float):
            found.append(float(value))
    return found
