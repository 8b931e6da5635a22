"""An expression as formula text that `parse` reads, and as LaTeX for people."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import sympy
from sympy import Expr, Integer
from sympy.printing.str import StrPrinter

__all__ = ["latex", "write"]

_LONG = 16  # digits
_READ, _SMALL = 8, 1000
"""Digits of a fraction that people read, and the largest denominator of a small one."""
_BEYOND = 2**1024  # float64 ends before


def write(expression: Expr) -> str:
    """The formula as a person would type it: x*sigmoid(x), where(x > 0, x, a*expm1(x))."""
    return str(_Printer().doprint(expression))


def latex(expression: Expr) -> str:
    """LaTeX, in which a number reads as people write it: 0.16666666666666666 as 1/6, another long
    one in six digits."""
    numbers = (r for r in expression.atoms(sympy.Rational) if not r.is_Integer)
    long = {r: _readable(r) for r in numbers if len(f"{r.p}{r.q}") > _READ}
    return str(sympy.latex(expression.xreplace(long)))


def _readable(number: Any) -> Any:
    """A small fraction that rounds to the same number in float64, or six digits."""
    exact = Fraction(int(number.p), int(number.q))
    near = exact.limit_denominator(_SMALL)
    if abs(near - exact) <= abs(exact) / 2**53:
        return sympy.Rational(near.numerator, near.denominator)
    return sympy.Float(number, 6)


class _Printer(StrPrinter):
    """SymPy's, in the words of our grammar."""

    def _print_Exp1(self, expr: Any) -> str:
        return "e"

    def _print_Integer(self, expr: Any) -> str:
        """Long ones as 1e+300, where that is the same number."""
        digits = str(int(expr.p))
        if len(digits) <= _LONG or abs(expr.p) >= _BEYOND:
            return digits
        short = repr(float(expr.p))
        return short if Fraction(short) == int(expr.p) else digits

    def _print_Rational(self, expr: Any) -> str:
        above, below = (self._print_Integer(Integer(k)) for k in (expr.p, expr.q))
        return f"{above}/{below}"

    def _print_And(self, expr: Any) -> str:
        return " and ".join(f"({self._print(a)})" for a in expr.args)

    def _print_Or(self, expr: Any) -> str:
        return " or ".join(f"({self._print(a)})" for a in expr.args)

    def _print_Not(self, expr: Any) -> str:
        return f"not ({self._print(expr.args[0])})"

    def _print_BooleanTrue(self, expr: Any) -> str:
        return "0 <= 0"

    def _print_BooleanFalse(self, expr: Any) -> str:
        return "0 < 0"
