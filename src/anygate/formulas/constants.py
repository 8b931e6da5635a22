"""The values of expressions without symbols, in bounded time.

SymPy's own evaluation raises its precision inside every function it meets, again for each question
that it asks; nested around a number, twenty functions of the catalogue take minutes. Here each
part is computed once for each precision.
"""

from __future__ import annotations

from functools import lru_cache, reduce
from typing import Any

import sympy
from sympy import Expr

from .errors import FormulaError
from .precise import CONTEXT, OPS, working
from .primitives import Primitive, where

__all__ = ["compare", "constant_value"]

DIGITS = 60
_TRIES = 4  # each doubles the precision

_COMPARISONS: dict[Any, str] = {
    sympy.StrictLessThan: "lt",
    sympy.LessThan: "le",
    sympy.StrictGreaterThan: "gt",
    sympy.GreaterThan: "ge",
}


@lru_cache(maxsize=4096)
def constant_value(expression: Expr, digits: int = DIGITS) -> Any:
    """The value of an expression without symbols as a number of `CONTEXT`, right to `digits`
    decimal digits; NaN where it has no real value.

    Two precisions that agree settle it. What still shrinks after the precision was doubled three
    times is zero. Raises FormulaError for a part that is not in the vocabulary.
    """
    size = digits + 10
    before = _value_at_digits(expression, size)
    for _ in range(_TRIES):
        size *= 2
        value = _value_at_digits(expression, size)
        if not CONTEXT.isfinite(value) and not CONTEXT.isfinite(before):
            return value
        with working(digits + 10):
            if abs(value - before) <= abs(value) * CONTEXT.mpf(10) ** -digits:
                return value
        before = value
    return CONTEXT.zero if abs(before) < 1e-200 else before


def compare(kind: Any, left: Expr, right: Expr) -> bool:
    """A comparison of two expressions without symbols; `kind` is SymPy's class of it."""
    if not all(CONTEXT.isfinite(constant_value(side)) for side in (left, right)):
        raise FormulaError("a comparison of what is not a finite real number")
    return bool(OPS[_COMPARISONS[kind]](constant_value(left - right), CONTEXT.zero))


def _value_at_digits(expression: Expr, digits: int) -> Any:
    with working(digits):
        return _Values(digits).of(expression)


class _Values:
    """Values of the parts of an expression at one precision, each made once."""

    def __init__(self, digits: int) -> None:
        self.known: dict[Any, Any] = {}
        self.near = CONTEXT.mpf(10) ** (10 - digits)

    def of(self, part: Any) -> Any:
        if part not in self.known:
            self.known[part] = self._compute(part)
        return self.known[part]

    def _compute(self, part: Any) -> Any:
        if isinstance(part, sympy.Rational):
            return CONTEXT.mpf(int(part.p)) / int(part.q)
        if part in (sympy.pi, sympy.E):
            return +CONTEXT.pi if part == sympy.pi else +CONTEXT.e
        if part in (sympy.true, sympy.false):
            return bool(part)
        if isinstance(part, where):
            condition, a, b = part.args
            return self.of(a if self.of(condition) else b)
        values = [self.of(a) for a in part.args]
        if type(part) in _COMPARISONS:
            return self._compared(_COMPARISONS[type(part)], *values)
        match part:
            case Primitive():
                return OPS[type(part).__name__](*values)
            case sympy.Add():
                return reduce(OPS["add"], values)
            case sympy.Mul():
                return reduce(OPS["mul"], values)
            case sympy.Pow():
                return self._power(values[0], values[1], part.exp)
            case sympy.exp():
                return OPS["exp"](*values)
            case sympy.Abs():
                return abs(*values)
            case sympy.And():
                return all(values)
            case sympy.Or():
                return any(values)
            case sympy.Not():
                return not values[0]
        if part.has(sympy.I, sympy.oo, -sympy.oo, sympy.zoo, sympy.nan):
            return CONTEXT.nan
        raise FormulaError(f"{type(part).__name__} is outside the vocabulary of formulas")

    def _compared(self, name: str, a: Any, b: Any) -> bool:
        """Sides that differ by rounding alone are equal."""
        if abs(a - b) <= self.near * max(abs(a), abs(b)):
            return name in ("le", "ge")
        return bool(OPS[name](a, b))

    def _power(self, base: Any, power: Any, exact: Any) -> Any:
        if base == 0 and power < 0:
            return CONTEXT.nan
        if exact.is_Integer:
            return base ** int(exact)
        return CONTEXT.nan if base < 0 or CONTEXT.isnan(base) else CONTEXT.power(base, power)
