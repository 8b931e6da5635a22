"""Numbers that follow from formulas, and small runs that confirm them: seconds, no training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from mpmath import mp

from anygate.formulas import resolve, sheet
from anygate.formulas.activation import differentiate
from anygate.formulas.precise import PRECISE
from anygate.formulas.program import evaluate, lower
from anygate.nn import LSTM, LSTMCell
from anygate.nn.init import chrono_, forget_bias_, identity_

from .grid import Scale
from .survey import FUNCTIONS

__all__ = ["formulas", "limits"]

DEAD = 0.01
"""A second derivative is called dead where it stays below this, or this share of its peak."""
SECOND = ("tanh", "sigmoid", "softsign", "lecun_tanh", "erf", "arctan")
UNITS = ("tanh", "sigmoid", "hard_tanh", "relu", "leaky_relu")
CHRONO = (100, 784)
SLOPES = {"hard_sigmoid_onnx": 0.2, "hard_sigmoid": 1 / 6}
FOLLOWED = 1000
"""An overflow is waited for if it is expected in fewer steps."""
DRAWN = (20, 512)
"""Cells and units of each, from which the shares of chrono's biases are counted."""


# ---- formulas -------------------------------------------------------------------------------


def formulas(scale: Scale) -> dict[str, Any]:
    """Derivatives and second derivatives; the same at every scale."""
    return {
        "second": {name: _second(name) for name in SECOND},
        "sigmoid": _sigmoid(),
        "units": {name: _unit(name) for name in UNITS},
        "sheets": {name: _properties(name) for name in FUNCTIONS},
    }


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


def _sigmoid() -> dict[str, Any]:
    """The derivative by limit, by our formula, as printed, and as meant, at some points."""
    rows = []
    derivative = resolve("sigmoid").derivative()
    with mp.workdps(30):
        for z in (-2.0, 0.0, 1.0, 3.0):
            e = mp.exp(-z)
            rows.append(
                {
                    "z": z,
                    "limit": _short(mp.diff(lambda x: 1 / (1 + mp.exp(-x)), z)),
                    "derived": _short(
                        evaluate(derivative.program, PRECISE, {"x": mp.mpf(z)})["value"]
                    ),
                    "right": _short(e / (1 + e) ** 2),
                    "printed": _short(-e / 1 + e**2),
                    "printed_in_brackets": _short(-e / (1 + e) ** 2),
                }
            )
    return {"rows": rows, "formula": derivative.formula}


def _unit(name: str) -> dict[str, Any]:
    """The intervals where f' is zero and where it is small, and f' at +-0.5, +-2 and +-10."""
    found = sheet(name)
    slope = resolve(name).derivative()
    with mp.workdps(25):
        at = {
            str(x): _short(
                evaluate(slope.program, PRECISE, {"x": mp.mpf(x), **slope.parameters})["value"]
            )
            for x in (-10, -2, -0.5, 0.5, 2, 10)
        }
    return {
        "dead": [[_end(a), _end(b)] for a, b in found.dead_region.value],
        "saturated": [[_end(a), _end(b)] for a, b in found.saturated],
        "slope": at,
        "bounded": bool(found.bounded.value),
    }


def _properties(name: str) -> dict[str, Any]:
    """The properties that the survey's regressions take as given, from the property sheet."""
    found = sheet(name)
    second = found.second_dies.value
    return {
        "bounded": bool(found.bounded.value),
        "differentiable": not found.kinks.value,
        "monotone": found.monotone.value != "no",
        "second_dies": None if second is None else _short(second),
        "second_peak": _short(found.second_peak.value[0]),
        "saturated_from": _saturated_from(found.saturated),
    }


def _saturated_from(intervals: Any) -> float | None:
    """The smallest |x| with a saturated slope; None where nothing saturates."""
    nearest = [0.0 if a <= 0 <= b else min(abs(a), abs(b)) for a, b in intervals]
    return _short(min(nearest)) if nearest else None


def _end(x: float) -> float | str:
    return _short(x) if math.isfinite(x) else str(x)


def _short(x: Any) -> float:
    return float(f"{float(x):.6g}")


# ---- limits of the recurrence ---------------------------------------------------------------


def limits(scale: Scale) -> dict[str, Any]:
    """Points (c), (d) and (e): biases, growth and forgetting, by formula and in a running LSTM."""
    torch.manual_seed(0)
    return {
        "chrono": {f"{name} {t}": _chrono(name, t) for name in SLOPES for t in CHRONO},
        "growth": {str(b): _growth(b) for b in (0.0, 1.0, 1.2, 2.0)},
        "stable_below": _short(math.log(3)),  # sigmoid(b) + 1/4 = 1
        "forget": {str(b): _forget(b, 100) for b in (0.0, 1.0, 2.0, 5.0)},
    }


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
