"""Between which numbers a float result must lie, whatever engine computed it.

A Program is evaluated on intervals whose ends move outwards after every operation, by what a
float operation may be off: `UNITS` rounding units (the laws hold every primitive to 4) and a few
subnormal numbers, and to infinity where float ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anygate.symbolic import Program, evaluate
from anygate.symbolic.intervals import INTERVAL_OPS
from anygate.symbolic.precise import CONTEXT, working

Interval = tuple[Any, Any]
UNITS = 8
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23}
TINY = {"float64": 2.0**-1022, "float32": 2.0**-126}
LARGEST = {"float64": 1.7976931348623157e308, "float32": 3.4028234663852886e38}


def table(dtype: str) -> Mapping[str, Callable[..., Any]]:
    """The operations on intervals of one float format."""

    def loose(operation: Callable[..., Any]) -> Callable[..., Any]:
        def apply(*arguments: Any) -> Any:
            result = operation(*arguments)
            return widened(*result) if isinstance(result, tuple) else result

        return apply

    def widened(low: Any, high: Any) -> Interval:
        room = UNITS * CONTEXT.mpf(EPSILON[dtype])
        tiny = UNITS * CONTEXT.mpf(TINY[dtype])
        low = low - abs(low) * room - tiny if CONTEXT.isfinite(low) else low
        high = high + abs(high) * room + tiny if CONTEXT.isfinite(high) else high
        edge = LARGEST[dtype]
        low = -CONTEXT.inf if low < -edge else min(low, CONTEXT.mpf(edge))
        high = CONTEXT.inf if high > edge else max(high, -CONTEXT.mpf(edge))
        return low, high

    exact = {"neg", "absolute", "maximum", "minimum", "clip", "where", "sign"}
    return {k: v if k in exact else loose(v) for k, v in INTERVAL_OPS.items()}


def enclosed(program: Program, x: float, dtype: str) -> Interval | None:
    """Where the program's only output must lie at the float x; None where anything may come."""
    with working(25):
        ops = table(dtype)
        values = evaluate(program, ops, {"x": (CONTEXT.mpf(x), CONTEXT.mpf(x))})
        (low, high) = next(iter(values.values()))
    if CONTEXT.isinf(low) or CONTEXT.isinf(high):
        return None
    return low, high
