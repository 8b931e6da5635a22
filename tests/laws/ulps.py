"""The error that a float result may have, worked out from the formula itself.

A Program is evaluated on pairs (value, unit): the true value and the size of one rounding unit of
the result. A sum is good to a unit of its largest term, so cancellation is allowed for; a product
passes its factors' units on; a function is good to one unit of its own value, so a rounded
argument is NOT an excuse; `where` takes the unit of its branch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mpmath import mp

from anygate.formulas.precise import PRECISE
from anygate.formulas.program import Program, evaluate

DIGITS = 50


@dataclass(frozen=True)
class Float:
    """A float format: bits of the significand, least exponent of a normal number, largest."""

    name: str
    bits: int
    least: int
    most: int

    @property
    def tiny(self) -> Any:
        """The smallest subnormal number."""
        return mp.ldexp(1, self.least - self.bits + 1)

    @property
    def least_normal(self) -> Any:
        return mp.ldexp(1, self.least)

    @property
    def largest(self) -> Any:
        return mp.ldexp(2 - mp.ldexp(1, 1 - self.bits), self.most)

    def ulp(self, value: Any) -> Any:
        """The gap between floats at this value."""
        if not mp.isfinite(value) or value == 0:
            return self.tiny
        # mp.mag(v) is the n with 2^(n-1) <= |v| < 2^n, or one more.
        exponent = int(mp.mag(value)) - 1
        if mp.ldexp(1, exponent) > abs(value):
            exponent -= 1
        return mp.ldexp(1, max(exponent, self.least) - self.bits + 1)

    def exact(self, value: Fraction) -> bool:
        """True if a constant is a float of this format."""
        power_of_two = value.denominator & (value.denominator - 1) == 0
        return power_of_two and abs(value.numerator).bit_length() <= self.bits


FLOATS = {
    "float64": Float("float64", 53, -1022, 1023),
    "float32": Float("float32", 24, -126, 127),
    "float16": Float("float16", 11, -14, 15),
    "bfloat16": Float("bfloat16", 8, -126, 127),
}


@dataclass(frozen=True)
class Known:
    """A true value and the size of its rounding unit."""

    value: Any
    unit: Any


def truths(
    program: Program, inputs: Mapping[str, Any], kind: Float, flushed: frozenset[str] = frozenset()
) -> dict[str, list[Known]]:
    """The outputs of a program at exact inputs. Where rounding may turn a comparison round, the
    result of the other branch stands beside the true one. Functions in `flushed` may be 0 where
    the true value is subnormal."""
    with mp.workdps(DIGITS):
        known = {name: Known(mp.mpf(v), mp.zero) for name, v in inputs.items()}
        table = _Table(kind, flushed)
        found = {name: [v] for name, v in evaluate(program, table.ops, known).items()}
        if table.open:
            table.flip = True
            for name, other in evaluate(program, table.ops, known).items():
                found[name].append(other)
    return found


class _Table:
    """The operations on pairs; `flip` answers an open comparison the other way."""

    def __init__(self, kind: Float, flushed: frozenset[str]) -> None:
        self.kind = kind
        self.flushed = flushed
        self.open = False
        self.flip = False
        functions = {name: self._function(name) for name in PRECISE}
        self.ops: dict[str, Callable[..., Any]] = {
            **functions,
            "const": self._const,
            "add": lambda a, b: self._sum(a, b, a.value + b.value),
            "sub": lambda a, b: self._sum(a, b, a.value - b.value),
            "mul": self._mul,
            "div": self._div,
            "neg": lambda a: Known(-a.value, a.unit),
            "absolute": lambda a: Known(abs(a.value), a.unit),
            "where": lambda condition, a, b: a if condition else b,
            "maximum": lambda a, b: a if a.value >= b.value else b,
            "minimum": lambda a, b: a if a.value <= b.value else b,
            "clip": self._clip,
            "and": lambda a, b: a and b,
            "or": lambda a, b: a or b,
            "not": lambda a: not a,
            **{name: self._compare(name) for name in ("lt", "le", "gt", "ge")},
        }

    def _const(self, value: Fraction) -> Known:
        number = PRECISE["const"](value)
        return Known(number, mp.zero if self.kind.exact(value) else self.kind.ulp(number))

    def _function(self, name: str) -> Callable[..., Known]:
        def apply(*arguments: Known) -> Known:
            value = PRECISE[name](*(a.value for a in arguments))
            flushes = name in self.flushed and abs(value) < self.kind.least_normal
            return Known(value, self.kind.least_normal / 4 if flushes else self.kind.ulp(value))

        return apply

    def _sum(self, a: Known, b: Known, value: Any) -> Known:
        return Known(value, max(self.kind.ulp(value), a.unit, b.unit))

    def _mul(self, a: Known, b: Known) -> Known:
        value = a.value * b.value
        passed = [
            mp.zero if u == 0 or v == 0 else abs(v) * u
            for v, u in ((a.value, b.unit), (b.value, a.unit))
        ]
        return Known(value, max(self.kind.ulp(value), *passed))

    def _div(self, a: Known, b: Known) -> Known:
        value = PRECISE["div"](a.value, b.value)
        if b.value == 0:
            return Known(value, self.kind.tiny)
        passed = a.unit / abs(b.value), abs(value / b.value) * b.unit
        return Known(value, max(self.kind.ulp(value), *passed))

    def _clip(self, x: Known, low: Known, high: Known) -> Known:
        return low if x.value < low.value else high if x.value > high.value else x

    def _compare(self, name: str) -> Callable[[Known, Known], bool]:
        def apply(a: Known, b: Known) -> bool:
            truth = bool(PRECISE[name](a.value, b.value))
            room = a.unit + b.unit
            if room and abs(a.value - b.value) <= 2 * room:
                self.open = True
                return truth != self.flip
            return truth

        return apply


def units_off(result: float, known: list[Known], kind: Float) -> Any:
    """The error of a float result in units of its last place, by the nearest of the true values;
    infinite where it is not finite though the true value can be represented."""
    return min(_off(result, k, kind) / max(k.unit, kind.ulp(k.value)) for k in known)


def excess(result: float, known: list[Known], inner: Float, kind: Float) -> Any:
    """For a result computed in `inner` and rounded once to the narrower `kind`: how many units
    of `inner` it is off beyond that last rounding."""
    return min(_beyond(result, k, inner, kind) for k in known)


def _beyond(result: float, known: Known, inner: Float, kind: Float) -> Any:
    rounding = kind.ulp(known.value) / 2
    return max(_off(result, known, kind) - rounding, 0) / max(known.unit, inner.ulp(known.value))


def _off(result: float, known: Known, kind: Float) -> Any:
    true, number = known.value, mp.mpf(result)
    if mp.isnan(true):
        return mp.zero if mp.isnan(number) else mp.inf
    if mp.isnan(number):
        return mp.inf
    if mp.isinf(number):
        room = max(4 * known.unit, kind.ulp(kind.largest))
        beyond = abs(true) > kind.largest - room and mp.sign(true) == mp.sign(number)
        return mp.zero if beyond else mp.inf
    if abs(true) > kind.largest:  # it rounds to the largest float or to infinity
        true = mp.sign(true) * kind.largest
    return abs(number - true)
