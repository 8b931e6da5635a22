"""Expressions put together within bounds, and what SymPy is not asked."""

from __future__ import annotations

import random
from typing import Any

import pytest
import sympy
from drawn_formulas import formula

from anygate.cells import LSTM, make
from anygate.formulas import Activation, FormulaError, resolve
from anygate.formulas.exact import constant_parts, is_constant, power, product, substitute
from anygate.formulas.parse import parse
from anygate.formulas.primitives import VARIABLE

Y = sympy.Symbol("y", real=True)


@pytest.mark.parametrize("seed", range(40))
def test_substitute_is_xreplace(seed: int) -> None:
    """But that comparisons stay as they are."""
    try:
        expression = resolve(formula(random.Random(seed), 12).replace("k", "-0.6")).expression
    except FormulaError:
        expression = resolve("where(x > 0, sqrt(2*x)*tanh(x), x**3)").expression
    assert substitute(expression, {VARIABLE: Y}) == expression.xreplace({VARIABLE: Y})
    assert substitute(expression, {}) is expression
    assert is_constant(expression) == (not expression.free_symbols)
    for part in constant_parts(expression):
        assert not part.free_symbols


def test_a_comparison_stays_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """SymPy would decide x*x >= 0, which does not hold at NaN, and works on both sides for it."""

    def asked(*_: Any) -> None:
        raise AssertionError("SymPy was asked to decide a comparison")

    for name in ("is_ge", "is_gt", "is_le", "is_lt"):
        monkeypatch.setattr(sympy.core.relational, name, asked)
    inner = sympy.sqrt(2) * parse("hard_swish(x) - 1", {"hard_swish": lambda x: x * x})
    kept = parse("where(x*x >= 0, x, 1)")
    assert kept.args[0].args == (VARIABLE**2, 0)
    for text in ("relu(hard_swish(x*x))", "relu(tanh(2))*x", "clip(sqrt(2)*x, -sqrt(3), 1)"):
        resolve(text)
    Activation("f", inner)
    leaky = Activation("f", "where(x >= k, x, k*x)", k=-0.5)
    assert leaky(k=0.25).closed.has(sympy.GreaterThan)
    cell = make(LSTM, {"candidate": leaky, "forget_gate": resolve("where(x*x >= 0, x, 1)")})
    assert [n.op for n in cell.backward.nodes].count("ge") == 2


def test_roots_are_bounded() -> None:
    """SymPy factors 1,100 bits in 0.1 s and 2,200 in 1.1 s, again for each product."""
    long = sympy.Integer(7) ** 300 + 1
    for wrong in (
        lambda: power(long * Y, sympy.Rational(1, 2)),
        lambda: power(sympy.Integer(1) / long, sympy.Rational(-3, 2)),
        lambda: product(*[sympy.sqrt(sympy.Integer(10) ** 11 + k) * Y for k in range(1, 400)]),
        lambda: substitute(sympy.sqrt(Y), {Y: long}),
        lambda: power(power(sympy.Integer(2), sympy.Rational(1, 64)) * Y, sympy.Rational(1, 2)),
    ):
        with pytest.raises(FormulaError, match="root"):
            wrong()
    assert power(4 * Y**2, sympy.Rational(1, 2)) == 2 * sympy.Abs(Y)
    assert power(long, sympy.Integer(2)) == long**2


def test_a_number_of_many_operations_is_refused() -> None:
    text = "hard_swish(" * 9 + "sqrt(3)" + ")" * 9
    with pytest.raises(FormulaError, match="write its value"):
        resolve(f"x*{text}")
    resolve(text.replace("hard_swish(", "tanh("))
