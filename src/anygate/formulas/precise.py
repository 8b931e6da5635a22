"""How mpmath spells each operation: the values that all others are measured against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from operator import add, and_, ge, gt, le, lt, mul, neg, or_, sub
from typing import Any

import mpmath
from mpmath import mp

__all__ = ["PRECISE", "constant"]


def constant(value: Fraction) -> Any:
    """The mpf nearest to a rational number, at the working precision."""
    return mp.mpf(value.numerator) / value.denominator


_HUGE = 1e9  # exp beyond this is 10^(4e8): no float holds it, and mpmath would fill memory


def _bounded(function: Callable[[Any], Any], below: Any, above: Any) -> Callable[[Any], Any]:
    """The function with its limits beyond +-1e9."""

    def apply(x: Any) -> Any:
        if mp.isnan(x) or -_HUGE < x < _HUGE:
            return function(x)
        return above if x > 0 else below

    return apply


_exp = _bounded(mp.exp, mp.zero, mp.inf)


def _sigmoid(x: Any) -> Any:
    e = _exp(-abs(x))
    return 1 / (1 + e) if x >= 0 else e / (1 + e)


_erfc = _bounded(
    lambda x: mp.erfc(x) if abs(x) < 10_000 else mp.mpf(2 * (x < 0)), mp.mpf(2), mp.zero
)


def _softplus(x: Any) -> Any:
    return max(x, mp.zero) + mp.log1p(_exp(-abs(x)))


def _divide(a: Any, b: Any) -> Any:
    if b == 0:
        return mp.nan if a == 0 or mp.isnan(a) else mp.sign(a) * mp.inf
    return a / b


def _nan_first(function: Callable[..., Any]) -> Callable[..., Any]:
    """NaN if any argument is NaN; Python's max and min would depend on their order."""
    return lambda *arguments: mp.nan if any(map(mp.isnan, arguments)) else function(*arguments)


def _real(function: Callable[[Any], Any], low: float) -> Callable[[Any], Any]:
    """A function of the reals from `low` up: NaN below, never complex."""

    def apply(x: Any) -> Any:
        if mp.isnan(x) or x < low:
            return mp.nan
        return -mp.inf if function is not mp.sqrt and x == low else function(x)

    return apply


def _periodic(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def apply(x: Any) -> Any:
        if not mp.isfinite(x) or mp.mag(x) > 2000:  # beyond float64: 10^600
            return mp.nan
        with mp.extraprec(max(0, int(mp.mag(x)) if x else 0)):
            return function(x)

    return apply


PRECISE: Mapping[str, Callable[..., Any]] = {
    "const": constant,
    "add": add,
    "sub": sub,
    "mul": mul,
    "div": _divide,
    "neg": neg,
    "sqrt": _real(mp.sqrt, 0.0),
    "lt": lt,
    "le": le,
    "gt": gt,
    "ge": ge,
    "and": and_,
    "or": or_,
    "not": lambda a: not a,
    "where": lambda condition, a, b: a if condition else b,
    "sigmoid": _sigmoid,
    "tanh": _bounded(mp.tanh, -mp.one, mp.one),
    "exp": _exp,
    "expm1": _bounded(mp.expm1, -mp.one, mp.inf),
    "log": _real(mp.log, 0.0),
    "log1p": _real(mp.log1p, -1.0),
    "softplus": _softplus,
    "softsign": lambda x: mp.sign(x) if mp.isinf(x) else x / (1 + abs(x)),
    "erf": _bounded(mp.erf, -mp.one, mp.one),
    "erfc": _erfc,
    "gaussian": lambda x: _exp(-x * x),
    "normal_cdf": lambda x: _erfc(-x / mp.sqrt(2)) / 2,
    "normal_pdf": lambda x: _exp(-x * x / 2) / mp.sqrt(2 * mp.pi),
    "absolute": abs,
    "sign": mpmath.sign,
    "sin": _periodic(mp.sin),
    "cos": _periodic(mp.cos),
    "sinh": _bounded(mp.sinh, -mp.inf, mp.inf),
    "cosh": _bounded(mp.cosh, mp.inf, mp.inf),
    "asinh": mp.asinh,
    "atan": mp.atan,
    "hypot": mp.hypot,
    "isru": lambda x: mp.sign(x) if mp.isinf(x) else x / mp.hypot(x, 1),
    "maximum": _nan_first(max),
    "minimum": _nan_first(min),
    "clip": _nan_first(lambda x, low, high: min(max(x, low), high)),
}
