"""The spelling of each operation in mpmath: the values that all others are measured against.

mpmath's own context is one for all threads of a process. Everything inside this package computes
with `CONTEXT` instead, under the lock that `working` takes; `PRECISE` is for a caller who holds
mpmath's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from operator import add, and_, ge, gt, le, lt, mul, neg, or_, sub
from typing import Any

import mpmath

__all__ = ["CONTEXT", "OPS", "PRECISE", "constant", "operations", "working"]

CONTEXT: Any = mpmath.MPContext()
"""The numbers of this package. Its precision holds inside `working` only."""
_LOCK = threading.RLock()
_HUGE = 1e9  # exp beyond this is 10^(4e8): no float holds it, and mpmath would fill memory


@contextmanager
def working(digits: int = 0, bits: int = 0) -> Iterator[Any]:
    """CONTEXT for this thread alone, with so many decimal digits or bits."""
    with _LOCK, CONTEXT.workdps(digits) if digits else CONTEXT.workprec(bits):
        yield CONTEXT


def constant(value: Fraction, mp: Any = CONTEXT) -> Any:
    """The mpf nearest to a rational number, at the working precision of `mp`."""
    return mp.mpf(value.numerator) / value.denominator


def operations(mp: Any) -> Mapping[str, Callable[..., Any]]:
    """The table of operations on the numbers of one mpmath context, at its working precision.

    NaN in gives NaN out; what is not real is NaN.
    """

    def bounded(function: Callable[[Any], Any], below: Any, above: Any) -> Callable[[Any], Any]:
        """The function with its limits beyond +-1e9."""

        def apply(x: Any) -> Any:
            if mp.isnan(x) or -_HUGE < x < _HUGE:
                return function(x)
            return above if x > 0 else below

        return apply

    exp = bounded(mp.exp, mp.zero, mp.inf)

    def sigmoid(x: Any) -> Any:
        e = exp(-abs(x))
        return 1 / (1 + e) if x >= 0 else e / (1 + e)

    def divide(a: Any, b: Any) -> Any:
        if b == 0:
            return mp.nan if a == 0 or mp.isnan(a) else mp.sign(a) * mp.inf
        return a / b

    def nan_first(function: Callable[..., Any]) -> Callable[..., Any]:
        """NaN if any argument is NaN; Python's max and min would depend on their order."""
        return lambda *arguments: mp.nan if any(map(mp.isnan, arguments)) else function(*arguments)

    def real(function: Callable[[Any], Any], low: float, at_low: Any) -> Callable[[Any], Any]:
        """A function of the reals from `low` up: NaN below, never complex."""

        def apply(x: Any) -> Any:
            if mp.isnan(x) or x < low:
                return mp.nan
            return at_low if x == low else function(x)

        return apply

    def periodic(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def apply(x: Any) -> Any:
            if not mp.isfinite(x) or mp.mag(x) > 2000:  # beyond float64: 10^600
                return mp.nan
            with mp.extraprec(max(0, int(mp.mag(x)) if x else 0)):
                return function(x)

        return apply

    def erfc_near(x: Any) -> Any:
        return mp.erfc(x) if mp.isnan(x) or abs(x) < 10_000 else mp.mpf(2 * (x < 0))

    erfc = bounded(erfc_near, mp.mpf(2), mp.zero)
    return {
        "const": lambda value: constant(value, mp),
        "add": add,
        "sub": sub,
        "mul": mul,
        "div": divide,
        "neg": neg,
        "sqrt": real(mp.sqrt, 0.0, mp.zero),
        "lt": lt,
        "le": le,
        "gt": gt,
        "ge": ge,
        "and": and_,
        "or": or_,
        "not": lambda a: not a,
        "where": lambda condition, a, b: a if condition else b,
        "sigmoid": sigmoid,
        "tanh": bounded(mp.tanh, -mp.one, mp.one),
        "exp": exp,
        "expm1": bounded(mp.expm1, -mp.one, mp.inf),
        "log": real(mp.log, 0.0, -mp.inf),
        "log1p": real(mp.log1p, -1.0, -mp.inf),
        "softplus": lambda x: nan_first(max)(x, mp.zero) + mp.log1p(exp(-abs(x))),
        "softsign": lambda x: mp.sign(x) if mp.isinf(x) else x / (1 + abs(x)),
        "erf": bounded(mp.erf, -mp.one, mp.one),
        "erfc": erfc,
        "gaussian": lambda x: exp(-x * x),
        "normal_cdf": lambda x: erfc(-x / mp.sqrt(2)) / 2,
        "normal_pdf": lambda x: exp(-x * x / 2) / mp.sqrt(2 * mp.pi),
        "absolute": abs,
        "sign": nan_first(mp.sign),
        "rounded": lambda x: mp.nint(x) if mp.isfinite(x) else x,
        "floor": lambda x: mp.floor(x) if mp.isfinite(x) else x,
        "sin": periodic(mp.sin),
        "cos": periodic(mp.cos),
        "sinh": bounded(mp.sinh, -mp.inf, mp.inf),
        "cosh": bounded(mp.cosh, mp.inf, mp.inf),
        "asinh": mp.asinh,
        "atan": mp.atan,
        "hypot": nan_first(mp.hypot),
        "isru": lambda x: mp.sign(x) if mp.isinf(x) else x / mp.hypot(x, 1),
        "maximum": nan_first(max),
        "minimum": nan_first(min),
        "clip": nan_first(lambda x, low, high: min(max(x, low), high)),
    }


OPS: Mapping[str, Callable[..., Any]] = operations(CONTEXT)
"""The operations on numbers of CONTEXT, for use inside `working`."""
PRECISE: Mapping[str, Callable[..., Any]] = operations(mpmath.mp)
"""The operations on mpmath's own numbers, at mpmath's own working precision."""
