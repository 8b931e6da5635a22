"""SymPy expressions to the vocabulary: what users bring is rewritten into our primitives."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import sympy
from sympy import Expr

from .errors import FormulaError
from .parse import is_condition
from .primitives import PRIMITIVES, VARIABLE, Primitive, maximum, minimum, where

__all__ = ["normalise"]

_SAME_NAME = ("tanh", "log", "erf", "erfc", "sign", "sin", "cos", "sinh", "cosh", "asinh", "atan")
_TO_PRIMITIVE: dict[Any, Callable[..., Expr]] = {
    **{getattr(sympy, name): PRIMITIVES[name] for name in _SAME_NAME},
    sympy.exp: PRIMITIVES["exp"],
    sympy.Abs: PRIMITIVES["abs"],
    sympy.Max: lambda *arguments: reduce(maximum, arguments),
    sympy.Min: lambda *arguments: reduce(minimum, arguments),
}
_KNOWN = (Primitive, sympy.Add, sympy.Mul, sympy.Pow, *_TO_PRIMITIVE)


def normalise(expr: Any) -> Expr:
    """An expression in the vocabulary, its variable and parameters real.

    Piecewise, Max, Min, Abs and SymPy's own functions are rewritten; decimal numbers become
    exact. Raises FormulaError naming the part that is outside the vocabulary.
    """
    expr = sympy.sympify(expr)
    if not isinstance(expr, Expr):
        raise FormulaError(f"a formula is a real expression, not {type(expr).__name__}")
    if expr.has(sympy.I, sympy.oo, -sympy.oo, sympy.zoo, sympy.nan):
        raise FormulaError(f"the formula '{expr}' is not finite and real")
    return _walk(expr)


def _walk(expr: Any) -> Any:
    if isinstance(expr, sympy.Symbol):
        return VARIABLE if expr.name in ("x", "z") else sympy.Symbol(expr.name, real=True)
    if isinstance(expr, sympy.Float):
        return sympy.Rational(repr(float(expr)))
    if not expr.args:
        return expr
    if isinstance(expr, sympy.Piecewise):
        return _piecewise(expr)
    if not (isinstance(expr, _KNOWN) or is_condition(expr)):
        raise FormulaError(_outside(expr))
    arguments = [_walk(a) for a in expr.args]
    for function, primitive in _TO_PRIMITIVE.items():
        if isinstance(expr, function):
            return primitive(*arguments)
    if isinstance(expr, sympy.Pow):
        return _power(expr, *arguments)
    return expr.func(*arguments)


def _piecewise(expr: sympy.Piecewise) -> Expr:
    *branches, (last, condition) = expr.args
    if condition != sympy.true:
        raise FormulaError(f"'{expr}' must end with a branch for all other x: (value, True)")
    result = _walk(last)
    for value, condition in reversed(branches):
        result = where(_walk(condition), _walk(value), result)
    return result


def _power(expr: Expr, base: Expr, power: Expr) -> Expr:
    if base == sympy.E:
        return PRIMITIVES["exp"](power)
    if base.is_number and base.is_positive and not power.is_number:
        return PRIMITIVES["exp"](power * PRIMITIVES["log"](base))
    if not (2 * power).is_Integer:
        raise FormulaError(
            f"'{expr}': a power must be an integer or a half; write exp(p*log(x)) for x > 0"
        )
    return base**power


def _outside(expr: Expr) -> str:
    name = type(expr).__name__
    if isinstance(expr, sympy.Heaviside):
        return (
            f"'{expr}' has the derivative DiracDelta, which is no function; "
            "write where(x > 0, 1, 0), whose derivative is 0"
        )
    try:
        slope = f", and its derivative is {expr.diff(*sorted(expr.free_symbols, key=str)[:1])}"
    except (ValueError, TypeError, AttributeError):
        slope = ""
    known = ", ".join(sorted(PRIMITIVES))
    return (
        f"'{name}' in '{expr}' is outside the vocabulary of formulas{slope}. "
        f"Write it with: {known}, max, min, clip"
    )
