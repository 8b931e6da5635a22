"""Cost: ratios of times within rounds, their median and its exact interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from .. import experiments, sources
from ..contrast import contrast
from ..experiments import plain
from ..findings import Findings
from ..grid import Arm
from ..lab import median_interval
from ..model import Claim, Effect, Judgement, Part, Question, Sentence, Verdict
from ..rules import from_contrasts, measured, not_run

__all__ = ["CLAIMS", "ratio"]

LEAST = 0.02
"""A saving below this is none, declared beforehand."""
MIN_ROUNDS = 6
"""With fewer, the median has no 95% interval."""


def tanh_gradient(findings: Findings) -> Judgement:
    """tanh against sigmoid: the derivative alone, with the value, and a whole training step."""
    rounds = findings.experiment("functions").get("rounds", {})
    parts = [
        _cheaper(
            "the derivative alone",
            [ratio("an element", rounds, ["tanh gradient"], ["sigmoid gradient"])],
        ),
        _cheaper(
            "value and derivative",
            [
                ratio(
                    "an element",
                    rounds,
                    ["tanh value", "tanh gradient"],
                    ["sigmoid value", "sigmoid gradient"],
                )
            ],
        ),
        _layers(findings, "a training step of an LSTM", "tanh", "sigmoid", "training"),
    ]
    return Judgement(tuple(parts))


def hard_tanh(findings: Findings) -> Judgement:
    """hard tanh against tanh: an element, a whole LSTM, and the slope beyond 1."""
    rounds = findings.experiment("functions").get("rounds", {})
    return Judgement(
        (
            _cheaper(
                "value and derivative",
                [
                    ratio(
                        "an element",
                        rounds,
                        ["hard_tanh value", "hard_tanh gradient"],
                        ["tanh value", "tanh gradient"],
                    )
                ],
            ),
            _layers(findings, "a training step of an LSTM", "hard_tanh", "tanh", "training"),
            _layers(findings, "inference of an LSTM", "hard_tanh", "tanh", "inference"),
            _flat(findings),
            _on_digits(findings),
        )
    )


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
        value=median(ratios),
        unit="of the time",
        low=span.low,
        high=span.high,
        confidence=span.confidence,
        n=len(ratios),
        format=".2f",
    )


def _sums(rounds: Mapping[str, Sequence[float]], jobs: list[str]) -> list[float]:
    return [sum(times) for times in zip(*(rounds[job] for job in jobs), strict=True)]


def _layers(findings: Findings, name: str, unit: str, other: str, mode: str) -> Part:
    sizes = findings.experiment("layers").get("rounds", {})
    return _cheaper(
        name,
        [
            ratio(f"{size} hidden units", rounds, [f"{unit} {mode}"], [f"{other} {mode}"])
            for size, rounds in sizes.items()
        ],
    )


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
    because = (
        f"More than {LEAST:.0%} cheaper only at {' and '.join(where)}."
        if where
        else (f"The intervals reach to both sides of a saving of {LEAST:.0%}.")
    )
    return Part(name, Verdict.UNDECIDED, because, effects)


def _flat(findings: Findings) -> Part:
    name = "the slope beyond |z| = 1 is zero"
    unit: Mapping[str, Any] = findings.experiment("formulas").get("units", {}).get("hard_tanh", {})
    if not unit:
        return not_run(name)
    flat = unit["dead"] == [["-inf", -1.0], [1.0, "inf"]]
    effect = Effect("slope at z = 2", unit["slope"]["2"], format=".3g")
    because = (
        "Exactly zero outside [-1, 1], by the formula: it saturates, which is a cost and no "
        "advantage."
    )
    return Part(name, Verdict.HELD if flat else Verdict.REFUTED, because, (effect,))


def _on_digits(findings: Findings) -> Part:
    """Context: what became of the zero slopes."""
    arm, reference = Arm("rows", "activation", "hard_tanh"), plain("rows")
    effects = [c.effect() for c in from_contrasts([contrast(findings, arm, reference)])]
    shares = measured(findings, arm, "zero_slope", "candidate")
    if shares:
        effects.append(
            Effect(
                "zero slopes of the candidate after training",
                100 * median(shares),
                "%",
                n=len(shares),
                format=".1f",
                diverged=findings.diverged_of(arm),
            )
        )
    return Part("on digits by rows", None, "For comparison, not part of the claim.", tuple(effects))


CLAIMS = (
    Claim(
        key="tanh-gradient",
        row="3",
        sentence="The gradient of tanh is cheaper to compute.",
        said_by=(sources.QUESTION,),
        experiments=(
            experiments.FUNCTIONS_COST,
            experiments.LAYERS_COST,
        ),
        measure="time of tanh over that of sigmoid within rounds of alternated measurements, one "
        "thread, float32, in this library's kernels",
        held_if="the interval of the median ratio lies below 0.98 everywhere",
        refuted_if="it lies above 0.98 everywhere",
        judge=tanh_gradient,
        margin="2 % of the time",
        family="none: intervals at 95 % each",
        answers=(
            Sentence(
                Question.TANH,
                "The derivative of tanh alone is cheaper than that of the sigmoid.",
                "The derivative of tanh alone is no cheaper than that of the sigmoid: both are "
                "one multiplication away from the value.",
                "Whether the derivative of tanh alone is cheaper than that of the sigmoid was not "
                "settled.",
                part="the derivative alone",
            ),
            Sentence(
                Question.TANH,
                "A training step of a whole LSTM was cheaper with tanh than with the sigmoid.",
                "A training step of a whole LSTM was not cheaper with tanh than with the sigmoid.",
                "Whether a training step of a whole LSTM is cheaper with tanh was not settled.",
                part="a training step of an LSTM",
            ),
        ),
    ),
    Claim(
        key="hard-tanh",
        row="4",
        sentence="Hard tanh is computationally cheaper than tanh, and saturates for |z| above 1.",
        said_by=(sources.QUESTION,),
        experiments=(
            experiments.FUNCTIONS_COST,
            experiments.LAYERS_COST,
            experiments.FORMULAS,
            experiments.HARD_TANH,
        ),
        measure="time of hard tanh over that of tanh, an element and a whole LSTM; the slope",
        held_if="the interval of the median ratio lies below 0.98 everywhere; the slope is zero",
        refuted_if="the ratio lies above 0.98 everywhere; the slope is not zero",
        judge=hard_tanh,
        margin="2 % of the time",
        family="none: intervals at 95 % each",
        answers=(
            Sentence(
                Question.COST,
                "Hard tanh made a training step cheaper than tanh at every size that was timed.",
                "Hard tanh made no training step 2 % cheaper than tanh at any size that was timed.",
                "Hard tanh made a training step cheaper than tanh at some sizes only, or not "
                "measurably.",
                part="a training step of an LSTM",
            ),
            Sentence(
                Question.COST,
                "Beyond |z| = 1 the slope of hard tanh is exactly zero.",
                "Beyond |z| = 1 the slope of hard tanh is not zero.",
                "The slope of hard tanh beyond |z| = 1 was not computed.",
                part="the slope beyond |z| = 1 is zero",
            ),
        ),
    ),
)
