"""round and floor: exact values, slope 1 in every engine and order, and a sheet that says so."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import sympy
import torch

import anygate
from anygate.engines import reference
from anygate.formulas import Activation
from anygate.formulas.closed import derivative_in_value
from anygate.formulas.lookup import resolve

GRID = "clip(round(4*x)/4, -1, 1)"
TIES = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 8388607.5, 1e30]


@pytest.mark.parametrize("engine", ["reference", "eager", "cpu"])
def test_of_two_the_even_one(engine: str) -> None:
    """As NumPy's rint and floor, to the last bit, whatever the engine."""
    layer = {}
    for name, expected in (("round", np.rint), ("floor", np.floor)):
        x = torch.tensor(TIES)
        if engine == "reference":
            found = reference.apply(Activation("f", f"{name}(x)"), x.numpy())
        else:
            model = anygate.RNN(1, 1, activation=f"{name}(x)", bias=False, engine=engine)
            with torch.no_grad():
                model.weight_ih_l0.fill_(1.0)
                model.weight_hh_l0.zero_()
                found = model(x[None, :, None])[0].flatten().numpy()
        layer[name] = found
        np.testing.assert_array_equal(found, expected(x.numpy()))
    assert (layer["round"] != layer["floor"]).any()


@pytest.mark.parametrize("engine", ["eager", "cpu"])
@pytest.mark.parametrize("kind", [anygate.LSTM, anygate.GRU])
def test_the_gradient_passes_through(kind: Any, engine: str) -> None:
    """With the rounding finer than any number, values and gradients are those without it."""
    torch.manual_seed(0)
    fine = f"round({2.0**40!r}*tanh(x))/{2.0**40!r}"
    model = kind(3, 5, activation=fine, engine=engine, dtype=torch.float64)
    plain = kind(3, 5, engine=engine, dtype=torch.float64)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "extra" not in k})
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    for own in (model, plain):
        own(x)[0].square().sum().backward()
    for p, q in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("engine", ["eager", "cpu"])
def test_second_derivatives_too(engine: str) -> None:
    """x*round(x) has the slope x + round(x), and that the slope 2."""
    f = anygate.RNN(1, 1, activation="x*round(x)", bias=False, engine=engine)
    with torch.no_grad():
        f.weight_ih_l0.fill_(1.0)
        f.weight_hh_l0.zero_()
    x = torch.tensor([[[1.3]]], requires_grad=True)
    (slope,) = torch.autograd.grad(f(x)[0].sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x)
    assert slope.item() == pytest.approx(2.3) and second.item() == pytest.approx(2.0)


def test_the_sheet_tells_steps_from_slopes() -> None:
    sheet = anygate.sheet(GRID)
    assert sheet.straight_through and sheet.lipschitz.value == math.inf
    assert sheet.monotone.value == "increasing" and sheet.monotone.how == "sampled"
    assert sheet.largest_slope.value == 1.0
    jumps = {k.x for k in sheet.kinks.value if k.kind == "jump"}
    assert jumps == {k / 8 for k in (-7, -5, -3, -1, 1, 3, 5, 7)}
    assert sheet.kinks.how == "sampled" and (sheet.low.value, sheet.high.value) == (-1, 1)
    assert abs(sheet.mean_output.value) < 1e-12 and sheet.odd.value
    assert "straight-through" in str(sheet)
    assert not anygate.sheet("tanh").straight_through
    assert not anygate.sheet("x + round(2.5)").straight_through


@pytest.mark.parametrize(
    ("formula", "monotone"),
    [
        ("floor(x)", "increasing"),
        ("x - floor(x)", "no"),
        ("round(x) - 2*x", "no"),
        ("-round(x)", "decreasing"),
    ],
)
def test_monotony_is_the_functions_own(formula: str, monotone: str) -> None:
    """The straight-through slope of x - floor(x) is 0 and of round(x) - 2x is -1 everywhere."""
    assert anygate.sheet(formula).monotone.value == monotone


def test_the_slope_does_not_follow_from_a_rounded_value() -> None:
    """tanh' = 1 - y^2 needs y, which round(8*tanh(x))/8 no longer has; of round(x) it is 1."""
    assert derivative_in_value(Activation("f", "round(8*tanh(x))/8").expression) is None
    assert derivative_in_value(Activation("f", "round(x)").expression) == 1


def test_as_text_and_from_sympy() -> None:
    x = sympy.Symbol("x", real=True)
    assert resolve(sympy.floor(3 * x)).formula == "floor(3*x)"
    formula = resolve("floor(2*x) + round(x/3)").formula
    assert resolve(formula).formula == formula
    with pytest.raises(anygate.FormulaError, match=r"round"):
        resolve(torch.round)
