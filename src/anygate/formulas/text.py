"""An expression as formula text that `parse` reads."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from sympy import Expr, Integer
from sympy.printing.str import StrPrinter

__all__ = ["write"]

_LONG = 16  # digits
_BEYOND = 2**1024  # float64 ends before


def write(expression: Expr) -> str:
    """The formula as a person would type it: x*sigmoid(x), where(x > 0, x, a*expm1(x))."""
    return str(_Printer().doprint(expression))


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
