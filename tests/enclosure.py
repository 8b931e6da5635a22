"""Between which numbers a float result must lie, whatever engine computed it.

A Program is evaluated on intervals whose ends move outwards after every operation, by what a
float operation may be off: `UNITS` rounding units (the laws hold every primitive to 4) and a few
subnormal numbers, and to infinity where float ends.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from anygate.formulas import Program, evaluate
from anygate.formulas.intervals import INTERVAL_OPS
from anygate.formulas.precise import CONTEXT, working

Interval = tuple[Any, Any]
ANYTHING = "infinite or NaN, perhaps"
UNITS = 8
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23}
TINY = {"float64": 2.0**-1022, "float32": 2.0**-126}
LARGEST = {"float64": 1.7976931348623157e308, "float32": 3.4028234663852886e38}


def table(dtype: str) -> Mapping[str, Callable[..., Any]]:
    """The operations on intervals of one float format."""

    def loose(operation: Callable[..., Any]) -> Callable[..., Any]:
        def apply(*arguments: Any) -> Any:
            if ANYTHING in arguments:
                return ANYTHING
            result = operation(*arguments)
            return widened(*result) if isinstance(result, tuple) else result

        return apply

    def compare(operation: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *sides: None if ANYTHING in sides else operation(*sides)

    def where(condition: bool | None, a: Any, b: Any) -> Any:
        if condition is None and ANYTHING in (a, b):
            return ANYTHING
        return a if condition else b if condition is False else INTERVAL_OPS["where"](None, a, b)

    def widened(low: Any, high: Any) -> Any:
        room = UNITS * CONTEXT.mpf(EPSILON[dtype])
        tiny = UNITS * CONTEXT.mpf(TINY[dtype])
        low = low - abs(low) * room - tiny if CONTEXT.isfinite(low) else low
        high = high + abs(high) * room + tiny if CONTEXT.isfinite(high) else high
        edge = LARGEST[dtype]
        return ANYTHING if low < -edge or high > edge else (low, high)

    return {
        **{k: loose(v) for k, v in INTERVAL_OPS.items()},
        **{k: compare(INTERVAL_OPS[k]) for k in ("lt", "le", "gt", "ge")},
        **{k: INTERVAL_OPS[k] for k in ("and", "or", "not")},
        "where": where,
    }


def enclosed(program: Program, x: float, dtype: str) -> Interval | None:
    """The bounds of the program's only output at the float x; None where anything may come."""
    with working(25):
        ops = table(dtype)
        values = evaluate(program, ops, {"x": (CONTEXT.mpf(x), CONTEXT.mpf(x))})
        (bounds,) = values.values()
    return None if bounds is ANYTHING else bounds
