"""What is cheaper? Ratios within rounds, their median and its exact interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ...statistics import median_interval
from ..contrast import contrast
from ..experiments import plain
from ..findings import Findings
from ..grid import Arm
from ..model import Effect, Judgement, Part, Verdict
from .common import from_contrasts, measured, not_run

__all__ = ["hard_tanh", "ratio", "tanh_gradient"]

LEAST = 0.02
"""A saving below this is none, declared beforehand."""
MIN_ROUNDS = 6
"""With fewer, the median has no 95% interval."""


def tanh_gradient(findings: Findings) -> Judgement:
    """tanh against sigmoid: the derivative alone, with the value, and a whole training step."""
    rounds = findings.experiment("functions").get("rounds", {})
    parts = [
        _cheaper("the derivative alone", [ratio("an element", rounds, ["tanh gradient"],
                                                ["sigmoid gradient"])]),
        _cheaper("value and derivative", [ratio("an element", rounds,
                                                ["tanh value", "tanh gradient"],
                                                ["sigmoid value", "sigmoid gradient"])]),
        _layers(findings, "a training step of an LSTM", "tanh", "sigmoid", "training"),
    ]  # fmt: skip
    return Judgement(tuple(parts))


def hard_tanh(findings: Findings) -> Judgement:
    """hard tanh against tanh: an element, a whole LSTM, and the slope beyond 1."""
    rounds = findings.experiment("functions").get("rounds", {})
    return Judgement((
        _cheaper("value and derivative", [ratio("an element", rounds,
                                                ["hard_tanh value", "hard_tanh gradient"],
                                                ["tanh value", "tanh gradient"])]),
        _layers(findings, "a training step of an LSTM", "hard_tanh", "tanh", "training"),
        _layers(findings, "inference of an LSTM", "hard_tanh", "tanh", "inference"),
        _flat(findings),
        _on_digits(findings),
    ))  # fmt: skip


def ratio(
    name: str, rounds: Mapping[str, Sequence[float]], above: list[str], below: list[str]
) -> Effect | None:
    """Time of one sum of jobs over another's, round by round: the median with its interval."""
    if not rounds or any(job not in rounds for job in (*above, *below)):
        return None
    tops, bottoms = (_sums(rounds, jobs) for jobs in (above, below))
    ratios = [a / b for a, b in zip(tops, bottoms, strict=True)]
    span = median_interval(ratios)
    return Effect(
        name=f"{above[0].split()[0]} over {below[0].split()[0]}, {name}",
        value=median(ratios), unit="of the time", low=span.low, high=span.high,
        confidence=span.confidence, n=len(ratios), format=".2f",
    )  # fmt: skip


def _sums(rounds: Mapping[str, Sequence[float]], jobs: list[str]) -> list[float]:
    return [sum(times) for times in zip(*(rounds[job] for job in jobs), strict=True)]


def _layers(findings: Findings, name: str, unit: str, other: str, mode: str) -> Part:
    sizes = findings.experiment("layers").get("rounds", {})
    return _cheaper(name, [ratio(f"{size} hidden units", rounds, [f"{unit} {mode}"],
                                 [f"{other} {mode}"])
                           for size, rounds in sizes.items()])  # fmt: skip


def _cheaper(name: str, found: list[Effect | None]) -> Part:
    """Held if every ratio is below 1 - LEAST, refuted if none is."""
    effects = tuple(e for e in found if e is not None)
    if not effects or len(effects) < len(found):
        return not_run(name)
    if any(e.n is None or e.n < MIN_ROUNDS for e in effects):
        return Part(name, Verdict.UNDECIDED, "Too few rounds for an interval.", effects)
    limit = 1 - LEAST
    below = [e.high is not None and e.high < limit for e in effects]
    above = [e.low is not None and e.low >= limit for e in effects]
    if all(below):
        return Part(name, Verdict.HELD, f"More than {LEAST:.0%} cheaper everywhere.", effects)
    if all(above):
        return Part(name, Verdict.REFUTED, f"Nowhere {LEAST:.0%} cheaper.", effects)
    where = [e.name.rpartition(", ")[2] for e, b in zip(effects, below, strict=True) if b]
    because = f"More than {LEAST:.0%} cheaper only at {' and '.join(where)}." if where else (
        f"The intervals reach to both sides of a saving of {LEAST:.0%}.")  # fmt: skip
    return Part(name, Verdict.UNDECIDED, because, effects)


def _flat(findings: Findings) -> Part:
    name = "the slope beyond |z| = 1 is zero"
    unit: Mapping[str, Any] = findings.experiment("formulas").get("units", {}).get("hard_tanh", {})
    if not unit:
        return not_run(name)
    flat = unit["dead"] == [["-inf", -1.0], [1.0, "inf"]]
    effect = Effect("slope at z = 2", unit["slope"]["2"], format=".3g")
    because = ("Exactly zero outside [-1, 1], by the formula: it saturates, which is a cost and no "
               "advantage.")  # fmt: skip
    return Part(name, Verdict.HELD if flat else Verdict.REFUTED, because, (effect,))


def _on_digits(findings: Findings) -> Part:
    """Context: what became of the zero slopes."""
    arm, reference = Arm("rows", "activation", "hard_tanh"), plain("rows")
    effects = [c.effect() for c in from_contrasts([contrast(findings, arm, reference)])]
    shares = measured(findings, arm, "zero_slope", "candidate")
    if shares:
        effects.append(Effect("zero slopes of the candidate after training",
                              100 * median(shares), "%", n=len(shares), format=".1f",
                              diverged=findings.diverged_of(arm)))  # fmt: skip
    return Part("on digits by rows", None, "For comparison, not part of the claim.", tuple(effects))
