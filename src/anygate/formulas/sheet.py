"""The property sheet of an activation, and its curve: what is known before anything runs."""

from __future__ import annotations

import math
from functools import lru_cache

from sympy import Expr

from .activation import Activation
from .derivative import differentiate
from .lookup import resolve
from .precise import OPS, working
from .program import Program, evaluate, lower
from .properties import Kink, Property, Sheet
from .survey import survey

__all__ = ["Kink", "Property", "Sheet", "curve", "sheet"]

_DIGITS = 25


def sheet(activation: Activation | str | Expr | float) -> Sheet:
    """The property sheet of anything that `resolve` accepts; about a second for a formula not
    seen before, up to five for the largest, whose kinks are then searched for in part only
    (`Sheet.skipped`)."""
    return _sheet(resolve(activation))


@lru_cache(maxsize=256)
def _sheet(activation: Activation) -> Sheet:
    with working(_DIGITS):
        return survey(activation)


@lru_cache(maxsize=256)
def _orders(expression: Expr, inputs: tuple[str, ...], orders: int) -> Program:
    return lower({f"d{n}": differentiate(expression, n) for n in range(orders + 1)}, inputs)


def curve(
    activation: Activation | str | Expr | float, low: float, high: float, n: int, orders: int = 2
) -> list[dict[str, float | None]]:
    """f and its derivatives at n points from low to high: rows of x, f, d1, d2 ...; None where
    the value is not finite."""
    activation = resolve(activation)
    program = _orders(activation.expression, activation.inputs, orders)
    names = ("f", *(f"d{k}" for k in range(1, orders + 1)))
    rows: list[dict[str, float | None]] = []
    with working(_DIGITS) as mp:
        parameters = {k: mp.mpf(v) for k, v in activation.parameters.items()}
        for k in range(n):
            x = low + (high - low) * k / (n - 1)
            values = evaluate(program, OPS, {"x": mp.mpf(x), **parameters})
            row: dict[str, float | None] = {"x": x}
            for name, value in zip(names, values.values(), strict=True):
                row[name] = float(value) if math.isfinite(float(value)) else None
            rows.append(row)
    return rows
