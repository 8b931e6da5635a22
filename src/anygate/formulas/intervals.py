"""Interval arithmetic over a Program: bounds that hold for every x of an interval.
`bound_below` covers every x that float64 can hold.

Ends are numbers of `precise.CONTEXT`, infinite ends stand for unbounded reals, and every result is
widened by 1e-15 of itself, far more than mpmath's own rounding. So a bound found here is proved.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

from .precise import CONTEXT as mp
from .precise import OPS, constant
from .program import Program, bind

__all__ = ["INTERVAL_OPS", "bound_below", "enclose"]

Interval = tuple[Any, Any]
_ALL: Interval = (-mp.inf, mp.inf)
_WIDEN = mp.mpf("1e-15")
_END = mp.mpf("1e309")
"""Beyond every float64."""


def enclose(program: Program, x: Interval, parameters: Mapping[str, Any]) -> Interval:
    """An interval that contains the program's only output for every x in the interval `x`."""
    fixed = {name: (mp.mpf(v), mp.mpf(v)) for name, v in parameters.items()}
    (result,) = _runner(program)({"x": x, **fixed}).values()
    return result  # type: ignore[no-any-return]


@lru_cache(maxsize=256)
def _runner(program: Program) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    return bind(_with_squares(program), INTERVAL_OPS)


def _with_squares(program: Program) -> Program:
    """The Program with `square` where a node is multiplied by itself. That two factors have equal
    intervals does not make a square of them; that they are one node does."""
    nodes = tuple(
        replace(node, op="square", arguments=node.arguments[:1])
        if node.op == "mul" and node.arguments[0] == node.arguments[1]
        else node
        for node in program.nodes
    )
    return replace(program, nodes=nodes)


def bound_below(
    program: Program, parameters: Mapping[str, Any], goal: Any, boxes: int = 250
) -> tuple[Any, bool]:
    """A lower bound over all x of float64, and whether it reaches `goal`. Splits the interval
    with the lowest bound again and again, up to `boxes` times."""
    heap: list[tuple[Any, int, Interval]] = []
    for count in range(boxes):
        box = heapq.heappop(heap)[2] if heap else (-_END, _END)
        middle = _middle(*box)
        for part in ((box[0], middle), (middle, box[1])):
            low = enclose(program, part, parameters)[0]
            heapq.heappush(heap, (low, len(heap) + 2 * count, part))
        if heap[0][0] >= goal:
            return heap[0][0], True
    return heap[0][0], False


def _middle(low: Any, high: Any) -> Any:
    if low == -_END and high == _END:
        return mp.zero
    if high == _END:
        return max(2 * low, mp.one)
    if low == -_END:
        return min(2 * high, -mp.one)
    return (low + high) / 2


def _widened(low: Any, high: Any) -> Interval:
    if mp.isnan(low) or mp.isnan(high):
        return _ALL
    return low - abs(low) * _WIDEN if mp.isfinite(low) else low, (
        high + abs(high) * _WIDEN if mp.isfinite(high) else high
    )


def _product(a: Any, b: Any) -> Any:
    """The product of two ends. An infinite end is a limit of reals, so 0 times it is 0."""
    return mp.zero if a == 0 or b == 0 else a * b


def _square(a: Interval) -> Interval:
    low, high = _even(lambda v: v * v)(a)
    return low, min(high, mp.one) if a[0] >= -1 and a[1] <= 1 else high


def _mul(a: Interval, b: Interval) -> Interval:
    ends = [_product(p, q) for p in a for q in b]
    return _widened(min(ends), max(ends))


def _div(a: Interval, b: Interval) -> Interval:
    if b[0] <= 0 <= b[1]:
        if b[0] == 0 and b[1] > 0:
            return _mul(a, (1 / b[1] if mp.isfinite(b[1]) else mp.zero, mp.inf))
        return _ALL
    return _mul(a, tuple(sorted((1 / b[0], 1 / b[1]))))


def _increasing(name: str) -> Callable[[Interval], Interval]:
    function = OPS[name]

    def apply(a: Interval) -> Interval:
        low, high = a
        if name in _SATURATES:
            reach = _SATURATES[name]
            low, high = min(low, reach), (max(high, -reach) if mp.isfinite(high) else high)
        low, high = _widened(_at_end(name, function, low), _at_end(name, function, high))
        floor, ceiling = _RANGES.get(name, _ALL)
        return max(low, floor), min(high, ceiling)

    return apply


_SATURATES = {
    **dict.fromkeys(("sigmoid", "tanh", "exp", "expm1", "softplus", "sinh", "erf"), 9e8),
    "normal_cdf": 9e3,
}
"""OPS answers with the limit beyond these; a bound must stay on the near side of it."""

_RANGES = {
    "sigmoid": (mp.zero, mp.one),
    "normal_cdf": (mp.zero, mp.one),
    "tanh": (-mp.one, mp.one),
    "softsign": (-mp.one, mp.one),
    "isru": (-mp.one, mp.one),
    "erf": (-mp.one, mp.one),
    "exp": (mp.zero, mp.inf),
    "softplus": (mp.zero, mp.inf),
}
"""Widening must not leave these: 1 - sigmoid(x) is never negative."""


_LIMITS = {
    "atan": (-mp.pi / 2, mp.pi / 2),
    "softplus": (mp.zero, mp.inf),
    "erf": (-mp.one, mp.one),
    "normal_cdf": (mp.zero, mp.one),
}


def _at_end(name: str, function: Callable[[Any], Any], end: Any) -> Any:
    if mp.isinf(end) and name in _LIMITS:
        return _LIMITS[name][1 if end > 0 else 0]
    return function(end)


def _even(function: Callable[[Any], Any], reach: Any = mp.inf) -> Callable[[Interval], Interval]:
    """A function of |x| that is monotone in it. OPS answers with its limit beyond `reach`,
    which is no bound."""

    def apply(a: Interval) -> Interval:
        near = mp.zero if a[0] <= 0 <= a[1] else min(abs(a[0]), abs(a[1]))
        near = min(near, reach)
        ends = sorted((function(near), function(max(abs(a[0]), abs(a[1])))))
        return _widened(*ends)

    return apply


def _hypot(a: Interval, b: Interval) -> Interval:
    low, high = zip(_even(abs)(a), _even(abs)(b), strict=True)
    return _widened(mp.hypot(*low), mp.inf if mp.inf in high else mp.hypot(*high))


def _compare(holds: Callable[[Any, Any], bool], fails: Callable[[Any, Any], bool]) -> Any:
    """True, False or None where the intervals leave it open. `a` comes before `b`."""

    def apply(a: Interval, b: Interval) -> bool | None:
        if holds(a[1], b[0]):
            return True
        return False if fails(a[0], b[1]) else None

    return apply


_lt = _compare(lambda a, b: a < b, lambda a, b: a >= b)
_le = _compare(lambda a, b: a <= b, lambda a, b: a > b)


def _where(condition: bool | None, a: Interval, b: Interval) -> Interval:
    if condition is None:
        return min(a[0], b[0]), max(a[1], b[1])
    return a if condition else b


def _and(a: bool | None, b: bool | None) -> bool | None:
    if a is False or b is False:
        return False
    return None if a is None or b is None else True


def _not(a: bool | None) -> bool | None:
    return None if a is None else not a


def _sub(a: Interval, b: Interval) -> Interval:
    return _widened(a[0] - b[1], a[1] - b[0])


def _increasing_in_all(function: Callable[..., Any]) -> Callable[..., Interval]:
    """A function that increases in all its arguments."""
    return lambda *a: (function(*(v[0] for v in a)), function(*(v[1] for v in a)))


def _constant(value: Fraction) -> Interval:
    number = constant(value)
    exact = value.denominator & (value.denominator - 1) == 0 and abs(value.numerator) < 2**53
    return (number, number) if exact else _widened(number, number)


_INCREASING = (
    "sigmoid",
    "tanh",
    "exp",
    "expm1",
    "log",
    "log1p",
    "softplus",
    "softsign",
    "isru",
    "erf",
    "normal_cdf",
    "sinh",
    "asinh",
    "atan",
    "sign",
    "rounded",
    "floor",
    "sqrt",
)

INTERVAL_OPS: Mapping[str, Callable[..., Any]] = {
    **{name: _increasing(name) for name in _INCREASING},
    "const": _constant,
    "add": lambda a, b: _widened(a[0] + b[0], a[1] + b[1]),
    "sub": _sub,
    "mul": _mul,
    "square": _square,
    "div": _div,
    "neg": lambda a: (-a[1], -a[0]),
    "lt": _lt,
    "le": _le,
    "gt": lambda a, b: _lt(b, a),
    "ge": lambda a, b: _le(b, a),
    "and": _and,
    "or": lambda a, b: _not(_and(_not(a), _not(b))),
    "not": _not,
    "where": _where,
    "maximum": _increasing_in_all(max),
    "minimum": _increasing_in_all(min),
    "clip": _increasing_in_all(lambda x, low, high: min(max(x, low), high)),
    "erfc": lambda a: _sub((mp.one, mp.one), _increasing("erf")(a)),
    "gaussian": _even(OPS["gaussian"], 3e4),
    "normal_pdf": _even(OPS["normal_pdf"], 3e4),
    "absolute": _even(abs),
    "cosh": _even(OPS["cosh"], 9e8),
    "sin": lambda a: (-mp.one, mp.one),
    "cos": lambda a: (-mp.one, mp.one),
    "hypot": _hypot,
}
