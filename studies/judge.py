"""The judges: results in, verdicts out. No verdict depends on another, and none is on a whole
sentence: each part has its own.

A measured part is judged by its comparisons, one a task. Those that could not have told anything
do not count. A contrary outcome is a counterexample, and is named; it takes nothing from the tasks
that support the part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from .claims import CLAIMS, Claim, Derived, Diverging, Measured, Part, Timed
from .costs import Costs
from .effects import Effect, Outcome, Over, Share, judged_family, over_tasks
from .exact import Check, check
from .results import Results

__all__ = ["JudgedClaim", "JudgedPart", "Verdict", "judge", "judged"]


class Verdict(StrEnum):
    """The word for a part."""

    SUPPORTED = "supported"
    """In some tasks (how many stands beside it), and no counterexample was found."""
    COUNTEREXAMPLE = "counterexample found"
    """In some tasks the opposite was shown; in how many it was supported stands beside it."""
    OPEN = "not resolved"
    """Neither was shown in any task. This is no evidence for either side."""
    NOTHING = "says nothing"
    """No comparison could have told the two apart."""
    WAITING = "waiting for the first look"
    """Fewer runs than the rules look at."""
    DERIVED = "derived"
    """It follows from a formula."""
    DERIVED_NOT = "derived: it does not hold"
    """Its opposite follows from a formula."""


@dataclass(frozen=True)
class JudgedPart:
    """A part with its verdict.

    words: the verdict as a reader sees it, with its counts. effects: of its comparisons, in their
    order, None for those without a run. over: the effect over the tasks. check: of a derived part.
    shares: how many of the arms' runs diverged and how many of the others'. ratio: of times, the
    median with its interval.
    """

    part: Part
    verdict: Verdict
    words: str
    effects: tuple[Effect | None, ...] = ()
    over: Over | None = None
    check: Check | None = None
    shares: tuple[Share, Share] | None = None
    ratio: tuple[float, float, float] | None = None

    @property
    def supporting(self) -> tuple[str, ...]:
        """The tasks whose outcome supports the part."""
        return self._tasks(True)

    @property
    def contrary(self) -> tuple[str, ...]:
        """The tasks with a counterexample."""
        return self._tasks(False)

    def _tasks(self, supporting: bool) -> tuple[str, ...]:
        test = self.part.test
        if not isinstance(test, Measured):
            return ()
        wanted = test.expects.supported_by if supporting else test.expects.contradicted_by
        return tuple(e.comparison.task for e in self.effects if e and e.outcome in wanted)

    @property
    def diverged(self) -> tuple[Share, Share] | None:
        """Of all arms' runs and of all references' runs, how many diverged."""
        if self.shares is not None:
            return self.shares
        found = [e for e in self.effects if e is not None]
        if not found:
            return None
        return _sum(e.diverged for e in found), _sum(e.reference_diverged for e in found)


@dataclass(frozen=True)
class JudgedClaim:
    """A claim with its parts judged."""

    claim: Claim
    parts: tuple[JudgedPart, ...]

    def part(self, key: str) -> JudgedPart:
        """The part of this key. Raises KeyError for an unknown one."""
        return {part.part.key: part for part in self.parts}[key]


def judged(results: Results, costs: Costs | None = None) -> list[JudgedClaim]:
    """Every claim, in order."""
    return [judge(claim, results, costs) for claim in CLAIMS]


def judge(claim: Claim, results: Results, costs: Costs | None = None) -> JudgedClaim:
    """One claim. Its measured parts are one family."""
    family = claim.family
    effects = dict(zip(family, judged_family(results, family), strict=True))
    parts = []
    for part in claim.parts:
        test = part.test
        if isinstance(test, Measured):
            parts.append(_measured(part, test, [effects[c] for c in test.comparisons]))
        elif isinstance(test, Derived):
            parts.append(_derived(part, check(test.check)))
        elif isinstance(test, Diverging):
            parts.append(_diverging(part, test, results))
        else:
            parts.append(_timed(part, test, costs))
    return JudgedClaim(claim, tuple(parts))


def _measured(part: Part, test: Measured, effects: list[Effect | None]) -> JudgedPart:
    outcomes = [Outcome.WAITING if e is None else e.outcome for e in effects]
    count = len([o for o in outcomes if o is not Outcome.NOTHING])
    support = sum(o in test.expects.supported_by for o in outcomes)
    contrary = sum(o in test.expects.contradicted_by for o in outcomes)
    tasks = f"{count} task{'s' * (count != 1)}"
    if Outcome.WAITING in outcomes:
        least = min(0 if e is None else e.n for e in effects)
        verdict, words = Verdict.WAITING, f"{Verdict.WAITING} ({least} seeds)"
    elif not count:
        verdict, words = Verdict.NOTHING, str(Verdict.NOTHING)
    elif contrary:
        verdict = Verdict.COUNTEREXAMPLE
        words = f"{verdict} in {contrary} of {tasks}, supported in {support}"
    elif support:
        verdict, words = Verdict.SUPPORTED, f"{Verdict.SUPPORTED} in {support} of {tasks}"
    else:
        verdict, words = Verdict.OPEN, f"{Verdict.OPEN} in {tasks}"
    return JudgedPart(part, verdict, words, tuple(effects), over_tasks(effects))


def _derived(part: Part, found: Check) -> JudgedPart:
    verdict = Verdict.DERIVED if found.holds else Verdict.DERIVED_NOT
    return JudgedPart(part, verdict, str(verdict), check=found)


def _diverging(part: Part, test: Diverging, results: Results) -> JudgedPart:
    """The exact intervals of both shares at 95 % must not meet. Runs count as soon as each side has
    a run of every arm."""
    if not all(results.of(arm) for arm in (*test.arms, *test.references)):
        return JudgedPart(part, Verdict.WAITING, str(Verdict.WAITING))
    arms, references = (Share(*results.diverged(side)) for side in (test.arms, test.references))
    if arms.interval.low > references.interval.high:
        verdict = Verdict.SUPPORTED
    elif arms.interval.high < references.interval.low:
        verdict = Verdict.COUNTEREXAMPLE
    elif not arms.count and not references.count:
        verdict = Verdict.NOTHING
    else:
        verdict = Verdict.OPEN
    words = f"{verdict}: {arms} against {references}"
    return JudgedPart(part, verdict, words, shares=(arms, references))


CHEAPER = 0.98
"""A saving of less than 2 % of the time is none."""


def _timed(part: Part, test: Timed, costs: Costs | None) -> JudgedPart:
    """The whole 95 % interval of the median ratio must lie below 0.98, at every size."""
    ratios = [] if costs is None else costs.ratios(test.job, test.reference)
    if not ratios:
        return JudgedPart(part, Verdict.WAITING, "not measured")
    widest = max(ratios, key=lambda r: r[0])
    if all(high < CHEAPER for _, _, high in ratios):
        verdict = Verdict.SUPPORTED
    elif all(low >= CHEAPER for _, low, _ in ratios):
        verdict = Verdict.COUNTEREXAMPLE
    else:
        verdict = Verdict.OPEN
    said = ", ".join(f"{r:.2f} ({low:.2f} to {high:.2f})" for r, low, high in ratios)
    return JudgedPart(part, verdict, f"{verdict}: {said} of the time", ratio=widest)


def _sum(shares: Iterable[Share]) -> Share:
    found = list(shares)
    return Share(sum(s.count for s in found), sum(s.n for s in found))


def by_key(claims: Iterable[JudgedClaim]) -> Mapping[str, JudgedClaim]:
    """Judged claims by the key of their claim."""
    return {each.claim.key: each for each in claims}
