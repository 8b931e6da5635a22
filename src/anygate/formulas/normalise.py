"""SymPy expressions to the vocabulary: what users bring is rewritten into our primitives."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import sympy
from sympy import Expr

from .canonical import canonical
from .errors import FormulaError, short
from .exact import MAX_POWER, allowed_power, beyond_float64, power, rebuild
from .parse import MAX_SIZE, is_condition, parse_own
from .primitives import PRIMITIVES, VARIABLE, Primitive, maximum, minimum, where
from .text import write

__all__ = ["normalise", "settle"]

_MAX_DEPTH = 100
_SAME_NAME = (
    *("tanh", "log", "erf", "erfc", "sign", "sin", "cos", "sinh", "cosh", "asinh", "atan"),
    "floor",
)
_TO_PRIMITIVE: dict[Any, Callable[..., Expr]] = {
    **{getattr(sympy, name): PRIMITIVES[name] for name in _SAME_NAME},
    sympy.exp: PRIMITIVES["exp"],
    sympy.Abs: PRIMITIVES["abs"],
    sympy.Max: lambda *arguments: reduce(maximum, arguments),
    sympy.Min: lambda *arguments: reduce(minimum, arguments),
}
_KNOWN = (Primitive, sympy.Add, sympy.Mul, sympy.Pow, *_TO_PRIMITIVE)


_ROUNDS = 4


def settle(expression: Expr) -> Expr:
    """The expression in a form that its own text is read back as: SymPy puts the same parts
    together in several ways, such as 2*x + 2 and 2*(x + 1), by how they came.

    Raises FormulaError where there is none, and for an expression without canonical text.
    """
    for _ in range(_ROUNDS):
        again = parse_own(write(expression))
        if again == expression:
            canonical(expression)
            return expression
        expression = again
    raise FormulaError(f"the formula {short(write(expression))} reads each time as another one")


def normalise(expr: Any) -> Expr:
    """An expression in the vocabulary, its variable and parameters real.

    Piecewise, Max, Min, Abs and SymPy's own functions are rewritten; decimal numbers become
    exact. Raises FormulaError naming the part that is outside the vocabulary. Size and powers
    are bounded before anything is evaluated.
    """
    try:
        expr = sympy.sympify(expr, strict=True)
    except sympy.SympifyError:
        raise FormulaError(
            f"a formula is a text or a SymPy expression, not {short(repr(expr))}"
        ) from None
    if not isinstance(expr, Expr):
        raise FormulaError(f"a formula is a real expression, not {type(expr).__name__}")
    _check_size(expr)
    _check_variable(expr)
    if expr.has(sympy.I, sympy.oo, -sympy.oo, sympy.zoo, sympy.nan):
        raise FormulaError(f"the formula '{short(str(expr))}' is not finite and real")
    return _walk(expr)


def _check_size(expr: Any) -> None:
    """Counts the parts, bounds the nesting, and refuses powers that would take for ever."""
    todo, count = [(expr, 0)], 0
    while todo:
        part, depth = todo.pop()
        count += 1
        if count > MAX_SIZE:
            raise FormulaError(f"the formula has more than {MAX_SIZE} operations")
        if depth > _MAX_DEPTH:
            raise FormulaError(f"the formula is nested more than {_MAX_DEPTH} levels deep")
        if isinstance(part, sympy.Pow):
            _check_power(*part.args)
        todo += [(a, depth + 1) for a in part.args]


def _check_power(base: Expr, power: Expr) -> None:
    if isinstance(power, sympy.Number):
        if abs(power) > MAX_POWER and base != sympy.E:
            raise FormulaError(f"a power may be at most {MAX_POWER}")
        return
    made = isinstance(power, sympy.Pow | sympy.Mul | sympy.Add) and not power.free_symbols
    if made and isinstance(base, sympy.Number):
        raise FormulaError("a number to the power of an expression of numbers: write its value")


def _check_variable(expr: Expr) -> None:
    if {"x", "z"} <= {s.name for s in expr.free_symbols}:
        raise FormulaError("the formula uses both x and z; its one variable is x or z")


def _within_float64(result: Any) -> Any:
    """The result, if its numbers fit into float64."""
    for part in (result, *result.args):
        if isinstance(part, sympy.Rational) and beyond_float64(part):
            raise FormulaError("a number of the formula is outside the range of float64")
    return result


def _walk(expr: Any) -> Any:
    if isinstance(expr, sympy.Symbol):
        return VARIABLE if expr.name in ("x", "z") else sympy.Symbol(expr.name, real=True)
    if isinstance(expr, sympy.Float):
        return _decimal(expr)
    if not expr.args:
        return _within_float64(expr)
    if isinstance(expr, sympy.Piecewise):
        return _piecewise(expr)
    if not (isinstance(expr, _KNOWN) or is_condition(expr)):
        raise FormulaError(_outside(expr))
    arguments = [_walk(a) for a in expr.args]
    for function, primitive in _TO_PRIMITIVE.items():
        if isinstance(expr, function):
            return primitive(*arguments)
    if isinstance(expr, sympy.Pow):
        return _within_float64(_power(expr, *arguments))
    return _within_float64(rebuild(expr, arguments))


def _decimal(number: sympy.Float) -> sympy.Rational:
    value = float(number)
    if not math.isfinite(value) or (value == 0 and number != 0):
        raise FormulaError(f"the number {short(str(number))} is outside the range of float64")
    return sympy.Rational(repr(value))


def _piecewise(expr: sympy.Piecewise) -> Expr:
    *branches, (last, condition) = expr.args
    if condition != sympy.true:
        raise FormulaError(f"'{expr}' must end with a branch for all other x: (value, True)")
    result = _walk(last)
    for value, condition in reversed(branches):
        result = where(_walk(condition), _walk(value), result)
    return result


def _power(expr: Expr, base: Expr, exponent: Expr) -> Expr:
    if base == sympy.E:
        return PRIMITIVES["exp"](exponent)
    if base.is_number and base.is_positive and not exponent.is_number:
        return PRIMITIVES["exp"](exponent * PRIMITIVES["log"](base))
    if not allowed_power(base, exponent):
        raise FormulaError(
            f"'{expr}': a power must be an integer or a half; write exp(p*log(x)) for x > 0"
        )
    return power(base, exponent)


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
