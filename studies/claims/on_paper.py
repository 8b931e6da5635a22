"""Points (a) to (e): what follows from formulas, and whether a running LSTM agrees."""

from __future__ import annotations

import math
from typing import Any

from .. import experiments, sources
from ..findings import Findings
from ..model import Claim, Effect, Judgement, Part, Question, Sentence, Verdict
from ..rules import not_run

__all__ = ["CLAIMS"]

AGREES = 1e-3
"""Relative: a running LSTM agrees with the formula (float32 where it overflows)."""
DRAWN = 0.02
"""A share that is counted over drawn biases agrees with its expectation."""


def _part(name: str, held: bool, because: str, effects: list[Effect]) -> Part:
    return Part(name, Verdict.HELD if held else Verdict.REFUTED, because, tuple(effects))


def second_derivative_dies(findings: Findings) -> Judgement:
    """tanh'' dies before those of sigmoid and softsign, absolutely and relative to its peak."""
    found = findings.experiment("formulas").get("second", {})
    names = ("tanh", "sigmoid", "softsign")
    parts = []
    for key, name in (("dies", "under 0.01"), ("dies_relative", "under a hundredth of its peak")):
        if not found:
            parts.append(not_run(name))
            continue
        ends = {n: found[n][key] for n in names}
        first = min(ends, key=lambda n: ends[n])
        effects = [
            Effect(
                f"|{n}''| stays {name} beyond |x| =",
                e,
                format=".2f",
                note=f"peak {found[n]['peak']:.3g} at {found[n]['at']:.2f}",
            )
            for n, e in ends.items()
        ]
        parts.append(_part(name, first == "tanh", f"The first to die is that of {first}.", effects))
    return Judgement(tuple(parts))


def sigmoid_derivative(findings: Findings) -> Judgement:
    """The derivative as derived here is the limit; as printed, it is not."""
    rows = findings.experiment("formulas").get("sigmoid", {}).get("rows", [])
    if not rows:
        return Judgement((not_run("against the limit of the difference quotient"),))

    def off(column: str) -> float:
        return max(abs(float(row[column] - row["limit"])) for row in rows)

    effects = [
        Effect(f"largest error, {said}", off(column), format=".3g")
        for column, said in (
            ("derived", "as derived here"),
            ("right", "exp(-z)/(1 + exp(-z))^2"),
            ("printed", "as printed, -exp(-z)/1 + exp(-z)^2"),
            ("printed_in_brackets", "the same with brackets, -exp(-z)/(1 + exp(-z))^2"),
        )
    ]
    right = max(off("derived"), off("right")) < 1e-5
    wrong = min(off("printed"), off("printed_in_brackets")) > 1e-3
    because = "At four points, against the limit of the difference quotient with 30 digits."
    return Judgement((_part("against the limit", right and wrong, because, effects),))


def chrono_hard(findings: Findings) -> Judgement:
    """Chrono's biases with a hard sigmoid: most forget gates start without a gradient."""
    found = findings.experiment("limits").get("chrono", {})
    parts = []
    for t in (100, 784):
        for gate, slope in (("hard_sigmoid_onnx", "0.2"), ("hard_sigmoid", "1/6")):
            name = f"T = {t}, slope {slope}"
            if not found:
                parts.append(not_run(name))
                continue
            row = found[f"{gate} {t}"]
            counted = [row["forget_without_gradient"], row["input_closed"]]
            agrees = all(abs(c - row["by_formula"]) < DRAWN for c in counted)
            effects = [
                Effect(
                    "forget gates without gradient, by formula",
                    100 * row["by_formula"],
                    "%",
                    format=".1f",
                ),
                Effect("the same, counted", 100 * counted[0], "%", n=row["units"], format=".1f"),
                Effect(
                    "input gates exactly closed, counted",
                    100 * counted[1],
                    "%",
                    n=row["units"],
                    format=".1f",
                ),
            ]
            because = "More than half, and the count agrees." if agrees else "The count disagrees."
            parts.append(_part(name, agrees and row["by_formula"] > 0.5, because, effects))
    return Judgement(tuple(parts))


def growth(findings: Findings) -> Judgement:
    """A ReLU LSTM with gates frozen at their start grows by sigmoid(b) + 1/4 a step."""
    found = findings.experiment("limits").get("growth", {})
    parts = []
    for bias, row in found.items():
        factor, seen = row["factor"], row["seen"]
        agrees = math.isclose(factor, seen, rel_tol=AGREES)
        effects = [
            Effect("factor a step, by formula", factor, format=".4f"),
            Effect("factor a step, seen", seen, format=".4f"),
        ]
        expected, overflow = row["overflow_by_formula"], row["overflow_seen"]
        if overflow is not None:
            agrees = agrees and math.isclose(expected, overflow, rel_tol=0.02)
            effects.append(
                Effect("float32 overflows after, by formula", expected, "steps", format=".0f")
            )
            effects.append(Effect("the same, seen", overflow, "steps", format=".0f"))
        stable = factor < 1
        because = f"{'Shrinks' if stable else 'Grows'}; the border lies at a forget bias of "
        because += f"ln 3 = {math.log(3):.2f}."
        agrees = agrees and stable == (float(bias) < math.log(3))
        parts.append(_part(f"forget bias {float(bias):g}", agrees, because, effects))
    return Judgement(tuple(parts) or (not_run("growth"),))


def forgetting(findings: Findings) -> Judgement:
    """The forget gate alone lets sigmoid(b)^T of a gradient through."""
    found: dict[str, Any] = findings.experiment("limits").get("forget", {})
    parts = []
    for bias, row in found.items():
        agrees = math.isclose(row["by_formula"], row["seen"], rel_tol=AGREES)
        effects = [
            Effect(
                "left of the gradient after 100 steps, by formula", row["by_formula"], format=".2g"
            ),
            Effect("the same, as the gradient of an LSTM", row["seen"], format=".2g"),
        ]
        because = "The gradient is the product of the gates." if agrees else "It is not."
        parts.append(_part(f"forget bias {float(bias):g}", agrees, because, effects))
    return Judgement(tuple(parts) or (not_run("forgetting"),))


CLAIMS = (
    Claim(
        key="second-derivative-dies",
        row="a",
        sentence="The second derivative of tanh dies before those of the sigmoid and softsign.",
        said_by=(
            sources.HERE,
            sources.LECUN_1998,
        ),
        experiments=(experiments.FORMULAS,),
        measure="the |x| beyond which |f''| stays below 0.01, and below a hundredth of its peak",
        held_if="that of tanh is the smallest of the three",
        refuted_if="it is not",
        judge=second_derivative_dies,
        answers=(
            Sentence(
                Question.TANH,
                "Of the three, the second derivative of tanh dies first, before those of the "
                "sigmoid and of softsign.",
                "The second derivative of tanh does not die before those of the sigmoid and of "
                "softsign.",
                "Where the second derivative of tanh dies was not computed.",
            ),
        ),
    ),
    Claim(
        key="sigmoid-derivative",
        row="b",
        sentence="The derivative of the sigmoid is exp(-z)/(1 + exp(-z))^2; the question prints it "
        "with a wrong sign.",
        said_by=(sources.HERE,),
        experiments=(experiments.FORMULAS,),
        measure="the largest difference from the limit of the difference quotient at four points",
        held_if="the formula agrees and the printed one does not",
        refuted_if="otherwise",
        judge=sigmoid_derivative,
    ),
    Claim(
        key="chrono-hard",
        row="c",
        sentence="With chrono initialisation and a hard sigmoid, most forget gates start without "
        "any gradient, and as many input gates exactly closed.",
        said_by=(
            sources.HERE,
            sources.TALLEC_2018,
            sources.KERAS,
        ),
        experiments=(experiments.LIMITS,),
        measure="the share of units by formula, and counted over drawn biases, for T = 100 and 784",
        held_if="it is more than half, and both agree within 2 points",
        refuted_if="otherwise",
        judge=chrono_hard,
        answers=(
            Sentence(
                Question.CONSEQUENCES,
                "Do not pair chrono initialisation with a hard sigmoid: most gates would start "
                "without a gradient.",
                "Chrono initialisation and a hard sigmoid went together.",
                "Chrono initialisation with a hard sigmoid was not computed.",
            ),
        ),
    ),
    Claim(
        key="relu-growth",
        row="d",
        sentence="With ReLU as candidate and cell output, gates frozen at their start and the "
        "identity as recurrent matrix, the state grows by sigmoid(b) + 1/4 a step: it is stable "
        "only for forget biases b below ln 3 = 1.10.",
        said_by=(sources.HERE,),
        experiments=(experiments.LIMITS,),
        measure="the factor a step and the step of float32's overflow, by formula and in an LSTM",
        held_if="both agree (0.1 %; the overflow 2 %), and the border lies there",
        refuted_if="otherwise",
        judge=growth,
        answers=(
            Sentence(
                Question.CONSEQUENCES,
                "Initialisation: with ReLU in both places and the identity as recurrent matrix "
                "the state grows by sigmoid(b) + 1/4 a step, so keep the forget bias b below 1.1 "
                "or the recurrent weights smaller.",
                "The growth of a ReLU LSTM did not follow sigmoid(b) + 1/4.",
                "The growth of a ReLU LSTM was not computed.",
            ),
        ),
    ),
    Claim(
        key="forgetting",
        row="e",
        sentence="Through the memory alone, sigmoid(b)^T of a gradient arrives T steps earlier: "
        "whatever the units are, the forget bias decides.",
        said_by=(
            sources.HERE,
            sources.JOZEFOWICZ_2015,
        ),
        experiments=(experiments.LIMITS,),
        measure="sigmoid(b)^100, by formula and as the gradient of an LSTM without other weights",
        held_if="both agree (0.1 %)",
        refuted_if="otherwise",
        judge=forgetting,
        answers=(
            Sentence(
                Question.GATES,
                "Through the memory cell alone a gradient shrinks by the product of the forget "
                "gates and by nothing else: with a forget bias of 1 a fraction of {one:.2g} is "
                "left after 100 steps, with a bias of 5 it is {five:.2f}.",
                "The gradient through the memory cell did not follow the product of the forget "
                "gates.",
                "The gradient through the memory cell was not measured.",
                values=lambda judgement: {
                    name: judgement.part(f"forget bias {bias}").effects[1].value
                    for name, bias in (("one", 1), ("five", 5))
                },
            ),
            Sentence(
                Question.NONLINEARITY,
                "No activation of the input or output stands on the direct path of the gradient "
                "through the memory: only the forget gate's value does.",
                "The direct path of the gradient did not follow the forget gates.",
                "The direct path of the gradient was not measured.",
            ),
        ),
    ),
)
