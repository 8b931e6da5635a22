"""Points (a) to (e): what follows from formulas, and whether a running LSTM agrees."""

from __future__ import annotations

import math
from typing import Any

from ..findings import Findings
from ..model import Effect, Judgement, Part, Verdict
from .common import not_run

__all__ = ["chrono_hard", "forgetting", "growth", "second_derivative_dies", "sigmoid_derivative"]

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
        effects = [Effect(f"|{n}''| stays {name} beyond |x| =", e, format=".2f",
                          note=f"peak {found[n]['peak']:.3g} at {found[n]['at']:.2f}")
                   for n, e in ends.items()]  # fmt: skip
        parts.append(_part(name, first == "tanh", f"The first to die is that of {first}.", effects))
    return Judgement(tuple(parts))


def sigmoid_derivative(findings: Findings) -> Judgement:
    """The derivative as derived here is the limit; as printed, it is not."""
    rows = findings.experiment("formulas").get("sigmoid", {}).get("rows", [])
    if not rows:
        return Judgement((not_run("against the limit of the difference quotient"),))

    def off(column: str) -> float:
        return max(abs(float(row[column] - row["limit"])) for row in rows)

    effects = [Effect(f"largest error, {said}", off(column), format=".3g") for column, said in (
        ("derived", "as derived here"), ("right", "exp(-z)/(1 + exp(-z))^2"),
        ("printed", "as printed, -exp(-z)/1 + exp(-z)^2"),
        ("printed_in_brackets", "the same with brackets, -exp(-z)/(1 + exp(-z))^2"),
    )]  # fmt: skip
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
                Effect("forget gates without gradient, by formula", 100 * row["by_formula"], "%",
                       format=".1f"),
                Effect("the same, counted", 100 * counted[0], "%", n=row["units"], format=".1f"),
                Effect("input gates exactly closed, counted", 100 * counted[1], "%",
                       n=row["units"], format=".1f"),
            ]  # fmt: skip
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
        effects = [Effect("factor a step, by formula", factor, format=".4f"),
                   Effect("factor a step, seen", seen, format=".4f")]  # fmt: skip
        expected, overflow = row["overflow_by_formula"], row["overflow_seen"]
        if overflow is not None:
            agrees = agrees and math.isclose(expected, overflow, rel_tol=0.02)
            effects.append(Effect("float32 overflows after, by formula", expected, "steps",
                                  format=".0f"))  # fmt: skip
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
            Effect("left of the gradient after 100 steps, by formula", row["by_formula"],
                   format=".2g"),
            Effect("the same, as the gradient of an LSTM", row["seen"], format=".2g"),
        ]  # fmt: skip
        because = "The gradient is the product of the gates." if agrees else "It is not."
        parts.append(_part(f"forget bias {float(bias):g}", agrees, because, effects))
    return Judgement(tuple(parts) or (not_run("forgetting"),))
