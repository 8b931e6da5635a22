"""The derived parts of claims: what follows from formulas, computed here and, where it speaks of a
running LSTM, seen in one. Seconds, no training, the same on every machine but for the last digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from mpmath import mp

from anygate.formulas import resolve, sheet
from anygate.formulas.derivative import differentiate
from anygate.formulas.precise import PRECISE
from anygate.formulas.program import evaluate, lower
from anygate.nn import LSTM, LSTMCell
from anygate.nn.init import chrono_, forget_bias_, identity_

__all__ = ["Check", "check"]


@dataclass(frozen=True)
class Check:
    """A derivation. holds: True if what the part says follows. says: why, in words with numbers.
    numbers: behind it."""

    holds: bool
    says: str
    numbers: Mapping[str, Any]


DEAD = 0.01
"""A second derivative is called dead where it stays below this, or this share of its peak."""
SECOND = ("tanh", "sigmoid", "softsign")
CHRONO = (100, 784)
SLOPES = {"hard_sigmoid_onnx": 0.2, "hard_sigmoid": 1 / 6}
FOLLOWED = 1000
"""An overflow is waited for if it is expected in fewer steps."""
DRAWN = (20, 512)
"""Cells and units of each, from which the shares of chrono's biases are counted."""


# ---- formulas -------------------------------------------------------------------------------


def _second(name: str) -> dict[str, float]:
    """Peak of |f''|, where it lies, and beyond which |x| it stays under 0.01 and under a hundredth
    of its peak."""
    found = sheet(name)
    peak, at = found.second_peak.value
    program = lower({"value": differentiate(resolve(name).closed, 2)}, ("x",))

    def size(x: float) -> float:
        return max(
            abs(float(evaluate(program, PRECISE, {"x": mp.mpf(s * x)})["value"])) for s in (-1, 1)
        )

    return {
        "peak": _short(peak),
        "at": _short(abs(at)),
        "dies": _short(found.second_dies.value),
        "dies_relative": _short(_last_above(size, DEAD * peak)),
    }


def _last_above(size: Any, level: float) -> float:
    """The largest x whose size is at least the level; sizes fall beyond 2."""
    low, high = 2.0, 4.0
    while size(high) >= level:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) >= level else (low, middle)
    return high


def _slope(name: str, *points: float) -> dict[str, float]:
    """f' at some points."""
    slope = resolve(name).derivative()
    with mp.workdps(25):
        return {
            f"{x:g}": _short(
                evaluate(slope.program, PRECISE, {"x": mp.mpf(x), **slope.parameters})["value"]
            )
            for x in points
        }


def _value(name: str, x: float) -> Any:
    with mp.workdps(400):
        return evaluate(resolve(name).program, PRECISE, {"x": mp.mpf(x)})["value"]


def _short(x: Any) -> float:
    return float(f"{float(x):.6g}")


# ---- limits of the recurrence ---------------------------------------------------------------


def _chrono(name: str, t_max: int) -> dict[str, float]:
    """The share of units whose hard forget gate starts with no gradient, and whose input gate
    starts exactly closed; weights' contribution left out, as by formula."""
    gate = resolve(name)
    edge = 0.5 / SLOPES[name]
    by_formula = max(0.0, (t_max - 1 - max(math.exp(edge), 1)) / (t_max - 2))
    slopes, closed = [], []
    for _ in range(DRAWN[0]):
        cell = LSTMCell(1, DRAWN[1], gate_activation=gate)
        chrono_(cell, t_max)
        i, f = cell.bias_ih.detach().double().chunk(4)[:2]
        slopes.append(_zero(gate.derivative(), f))
        closed.append(_zero(gate, i))
    return {
        "by_formula": _short(by_formula),
        "forget_without_gradient": _short(np.mean(slopes)),
        "input_closed": _short(np.mean(closed)),
        "units": DRAWN[0] * DRAWN[1],
    }


def _zero(activation: Any, x: torch.Tensor) -> float:
    return float((activation(x) == 0).double().mean().item())


def _growth(bias: float) -> dict[str, Any]:
    """A ReLU LSTM whose gates are frozen at their start and whose candidate's recurrent matrix is
    the identity: the factor of c each step, by formula and seen, and when float32 overflows."""
    factor = 1 / (1 + math.exp(-bias)) + 0.25
    largest = float(np.finfo(np.float32).max)
    expected = math.log(largest) / math.log(factor) if factor > 1 else math.inf
    steps = 2 * math.ceil(expected) if expected < FOLLOWED else 50
    cell = LSTMCell(1, 4, activation="relu")
    with torch.no_grad():
        for weight in cell.parameters():
            weight.zero_()
    forget_bias_(identity_(cell), bias)
    h, c = torch.zeros(1, 4), torch.ones(1, 4)
    overflow, seen, x = None, [], torch.zeros(1, 1)
    with torch.no_grad():
        for step in range(1, steps + 1):
            before = c
            h, c = cell(x, (h, c))
            if not torch.isfinite(c).all():
                overflow = step
                break
            if 10 < step < 50:
                seen.append((c / before).mean().item())
    return {
        "factor": _short(factor),
        "seen": _short(np.mean(seen)),
        "overflow_by_formula": _short(expected) if math.isfinite(expected) else None,
        "overflow_seen": overflow,
    }


def _forget(bias: float, steps: int) -> dict[str, float]:
    """The share of a gradient that the forget gate lets through in T steps: sigmoid(b)^T by
    formula, and the gradient of an LSTM whose other weights are zero."""
    lstm = LSTM(1, 1).double()
    with torch.no_grad():
        for weight in lstm.parameters():
            weight.zero_()
    forget_bias_(lstm, bias)
    c0 = torch.ones(1, 1, 1, dtype=torch.float64, requires_grad=True)
    _, (_, c) = lstm(torch.zeros(steps, 1, 1, dtype=torch.float64), (torch.zeros_like(c0), c0))
    (slope,) = torch.autograd.grad(c.sum(), c0)
    return {
        "by_formula": _short((1 / (1 + math.exp(-bias))) ** steps),
        "seen": _short(slope.item()),
    }


# ---- checks -------------------------------------------------------------------------------------

AGREES = 1e-3
"""Relative: a running LSTM agrees with a formula."""
COUNTED = 0.02
"""A share that is counted over drawn biases agrees with its expectation."""
BIASES = (0.0, 1.0, 1.2, 2.0, 5.0)


def sigmoid_range() -> Check:
    """0 < sigmoid < 1."""
    found = sheet("sigmoid")
    low, high = float(found.low.value), float(found.high.value)
    return Check((low, high) == (0, 1), "Its range is (0, 1).", {"low": low, "high": high})


def sigmoid_ends() -> Check:
    """Neither 0 nor 1 is reached, but for rounding."""
    with mp.workdps(400):
        ends = [_value("sigmoid", x) for x in (-500.0, 500.0)]
        inside = all(0 < end < 1 for end in ends)
    return Check(
        inside,
        "In exact arithmetic neither end is ever reached; in float32 1 is, from z = 17 on, and 0 "
        "below z = -104.",
        {"sigmoid(-500)": float(ends[0]), "1 - sigmoid(500)": float(1 - ends[1])},
    )


def second_derivative() -> Check:
    """tanh'' is the last of three to die; it is the first."""
    found = {name: _second(name) for name in SECOND}
    last = all(
        found["tanh"][key] >= max(found[n][key] for n in SECOND)
        for key in ("dies", "dies_relative")
    )
    ends = ", ".join(f"{name} {row['dies']:.2f}" for name, row in found.items())
    shares = ", ".join(f"{name} {row['dies_relative']:.2f}" for name, row in found.items())
    return Check(
        last,
        f"|f''| stays below 0.01 beyond |z| = {ends}; below a hundredth of its own peak beyond "
        f"{shares}. tanh is the first to die by both, though its peak is the highest but one.",
        found,
    )


def forgetting_check() -> Check:
    """The forget gates' product is all that the direct path lets through."""
    found = {f"{bias:g}": _forget(bias, 100) for bias in BIASES}
    agrees = all(
        math.isclose(row["by_formula"], row["seen"], rel_tol=AGREES) for row in found.values()
    )
    return Check(
        agrees,
        "dc_t/dc_(t-1) along the cell is f_t. After 100 steps sigmoid(b)^100 is left: "
        + ", ".join(f"{row['by_formula']:.2g} at b = {b}" for b, row in found.items())
        + "; an LSTM's gradient agrees.",
        found,
    )


def relu_qualities() -> Check:
    """Bounded, differentiable, monotonic: ReLU is the last alone."""
    found = sheet("relu")
    numbers = {
        "bounded": bool(found.bounded.value),
        "differentiable": not found.kinks.value,
        "monotonic": found.monotone.value != "no",
    }
    return Check(
        all(numbers.values()),
        "ReLU is monotonic, not bounded above, and has a kink at 0.",
        numbers,
    )


def hard_tanh_saturates() -> Check:
    """The slope outside [-1, 1] is zero."""
    found = _slope("hard_tanh", -10, -2, -0.5, 0.5, 2, 10)
    flat = all((slope == 0) == (abs(float(x)) > 1) for x, slope in found.items())
    return Check(flat, "Its slope is 1 inside [-1, 1] and exactly 0 outside.", found)


def relu_slope() -> Check:
    """The slope for z > 0 is 1."""
    found = _slope("relu", 0.5, 2, 10, 1000)
    return Check(all(v == 1 for v in found.values()), "Its slope is 1 for every z > 0.", found)


def relu_dead_half() -> Check:
    """The slope for z < 0 is 0."""
    found = _slope("relu", -1000, -10, -2, -0.5)
    return Check(
        all(v == 0 for v in found.values()),
        "For every z < 0 value and slope are 0, as saturated as a unit can be.",
        found,
    )


def leaky_slope() -> Check:
    """The slope for z < 0 is k for leaky ReLU and 0 for ReLU."""
    found = {name: _slope(name, -2, -10) for name in ("leaky_relu", "relu")}
    k = found["leaky_relu"]["-2"]
    return Check(
        k > 0 and found["relu"]["-2"] == 0,
        f"For z < 0 the slope of leaky ReLU is k (here {k:g}), that of ReLU 0.",
        found,
    )


def growth_check() -> Check:
    """Growth by sigmoid(b) + 1/4 a step, with its border at ln 3."""
    found = {f"{bias:g}": _growth(bias) for bias in BIASES}
    agrees = all(
        math.isclose(row["factor"], row["seen"], rel_tol=AGREES)
        and (row["factor"] < 1) == (float(bias) < math.log(3))
        for bias, row in found.items()
    )
    overflow = found["2"]
    return Check(
        agrees,
        "A running LSTM grows by the same factor: "
        + ", ".join(f"{row['seen']:.3f} at b = {b}" for b, row in found.items())
        + f". At b = 2 float32 overflowed after {overflow['overflow_seen']} steps.",
        found,
    )


def sigmoid_derivative() -> Check:
    """The printed formula against the limit of the difference quotient at four points."""
    rows = {}
    derived = resolve("sigmoid").derivative()
    with mp.workdps(30):
        for z in (-2.0, 0.0, 1.0, 3.0):
            e = mp.exp(-z)
            rows[f"{z:g}"] = {
                "limit": _short(mp.diff(lambda x: 1 / (1 + mp.exp(-x)), z)),
                "derived": _short(evaluate(derived.program, PRECISE, {"x": mp.mpf(z)})["value"]),
                "printed": _short(-e / 1 + e**2),
                "printed with brackets": _short(-e / (1 + e) ** 2),
            }
    off = {
        name: max(abs(row[name] - row["limit"]) for row in rows.values())
        for name in ("derived", "printed", "printed with brackets")
    }
    assert off["derived"] < 1e-5
    return Check(
        off["printed"] < 1e-5,
        "At four points the printed formula is wrong by up to "
        f"{off['printed']:.2g}, with brackets put in by {off['printed with brackets']:.2g} (its "
        "sign); exp(-z) / (1 + exp(-z))^2 agrees with the limit of the difference quotient.",
        rows,
    )


def chrono_check() -> Check:
    """More than half of the hard forget gates without a gradient, counted and by formula."""
    found = {f"{name}, T = {t}": _chrono(name, t) for name in SLOPES for t in CHRONO}
    holds = all(
        row["by_formula"] > 0.5
        and abs(row["by_formula"] - row["forget_without_gradient"]) < COUNTED
        and abs(row["by_formula"] - row["input_closed"]) < COUNTED
        for row in found.values()
    )
    shares = ", ".join(f"{row['by_formula']:.1%} ({name})" for name, row in found.items())
    return Check(holds, f"Without gradient start {shares}; counts of drawn biases agree.", found)


_CHECKS: Mapping[str, Callable[[], Check]] = {
    "sigmoid range": sigmoid_range,
    "sigmoid ends": sigmoid_ends,
    "second derivative": second_derivative,
    "forgetting": forgetting_check,
    "relu qualities": relu_qualities,
    "hard tanh saturates": hard_tanh_saturates,
    "relu slope": relu_slope,
    "relu dead half": relu_dead_half,
    "leaky slope": leaky_slope,
    "growth": growth_check,
    "sigmoid derivative": sigmoid_derivative,
    "chrono": chrono_check,
}


@cache
def check(name: str) -> Check:
    """The check of this name. Raises KeyError for an unknown one."""
    return _CHECKS[name]()
