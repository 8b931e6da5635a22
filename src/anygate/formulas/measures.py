"""What `record` measures inside a running cell: Programs with more outputs, and the sums over them.

An engine runs `measured(cell)` in place of the cell's own Programs and adds up, for each time step,
over all rows and units, what `COUNTS` names for each slot and `NORMS` for the gradients. Nothing
is stored for single units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy
from sympy import Expr, Symbol

from .activation import Activation
from .cell import GATES, SLOTS, Cell, backward_outputs, forward_outputs, line_slopes, values_of
from .program import Program, lower
from .sheet import sheet

__all__ = [
    "COUNTS",
    "NORMS",
    "NUMBERS",
    "PARTS",
    "Limits",
    "Measured",
    "limits",
    "measured",
    "totals",
]

COUNTS = ("sum", "squares", "low", "high", "near_low", "near_high", "flat", "bad")
"""For each slot and time step: the sum of its values and of their squares; how many lie where |f'|
is under a tenth of its largest, to the left and to the right of where it is largest; within a tenth
of the range of the lower and of the upper bound; where f' is exactly 0; and are not finite."""
NORMS = ("grad_h", "grad_h_direct", "grad_c", "grad_c_direct")
"""For each time step, the squared norm of dL/dh and dL/dc, and of what of them does not come
through a later time step."""
NUMBERS = (*((slot, name) for slot in SLOTS for name in COUNTS), ("cell", "max"))
"""What forward gives for a time step: COUNTS of every slot, and the largest |c|."""
PARTS = ("value", "slope", "argument")
"""Of each slot, outputs PART_SLOT of the measured forward Program: f(a), f'(a) and a."""
_TENTH = 0.1


@dataclass(frozen=True)
class Limits:
    """What a slot's values are held against; None where the formula gives no such number.

    slope: a tenth of the largest |f'|, where that is finite and not 0. split: an x where |f'| is
    not that small, between what is saturated to its left and to its right. low, high: a tenth of
    the range above the lower bound and below the upper one, where f has both.
    """

    slope: float | None
    split: float
    low: float | None
    high: float | None


@lru_cache(maxsize=256)
def limits(activation: Activation) -> Limits:
    """From the property sheet, with the formula's own parameters."""
    known = sheet(activation)
    largest = float(known.largest_slope.value)
    slope = _TENTH * largest if 0 < largest < math.inf else None
    low, high = float(known.low.value), float(known.high.value)
    span = high - low
    if not 0 < span < math.inf:
        return Limits(slope, _split(known.saturated), None, None)
    return Limits(slope, _split(known.saturated), low + _TENTH * span, high - _TENTH * span)


def _split(saturated: tuple[tuple[float, float], ...]) -> float:
    """The middle of the gap between saturated intervals that lies nearest to 0; 1 inside of the end
    of one that has no other end (which itself may be saturated: relu at 0)."""
    ends = [-math.inf, *(x for interval in saturated for x in interval), math.inf]
    gaps = [(a, b) for a, b in zip(ends[::2], ends[1::2], strict=True) if a < b]
    if not gaps:
        return 0.0
    low, high = min(gaps, key=lambda g: (max(g[0], -g[1], 0.0), g[0] - g[1]))
    if math.isinf(low) or math.isinf(high):
        return low + 1 if math.isfinite(low) else high - 1 if math.isfinite(high) else 0.0
    return (low + high) / 2


@dataclass(frozen=True)
class Measured:
    """A cell's Programs with what is measured.

    forward: `Cell.forward` and PART_SLOT. backward: `Cell.backward` with two more inputs, direct_h
    and direct_c (what arrives at h and c, but not from a later step of this layer), and the outputs
    grad_c_total and grad_c_direct: dL/dc, and what of it does not come through a later step.
    limits: by slot.
    """

    forward: Program
    backward: Program
    limits: dict[str, Limits]


@lru_cache(maxsize=256)
def measured(cell: Cell) -> Measured:
    """The Programs for a cell."""
    outputs = {**forward_outputs(cell), **_parts(cell)}
    inputs = (*(f"z_{gate}" for gate in GATES), "c_previous", *cell.parameters)
    arriving = {"grad_h": "direct_h", "grad_c": "direct_c"}
    back = backward_outputs(cell)
    only_direct: dict[Expr, Expr] = {_symbol(a): _symbol(b) for a, b in arriving.items()}
    back["grad_c_direct"] = back["grad_c_total"].xreplace(only_direct)
    saved = (f"saved_{gate}" for gate in GATES)
    back_inputs = (*saved, "c_previous", "c", *arriving, *arriving.values(), *cell.parameters)
    held = {slot: limits(cell.slots[slot]) for slot in SLOTS}
    if cell.coupled:  # f = 1 - i
        gate = held["input_gate"]
        low, high = gate.low, gate.high
        flipped = None if low is None or high is None else (1 - high, 1 - low)
        held["forget_gate"] = Limits(gate.slope, gate.split, *(flipped or (None, None)))
    return Measured(lower(outputs, inputs), lower(back, back_inputs), held)


def _parts(cell: Cell) -> dict[str, Expr]:
    """PART_SLOT for all slots. A coupled forget gate has the input gate's argument and slope."""
    values, slopes = values_of(cell), line_slopes(cell)
    found: dict[str, Expr] = {}
    for slot in SLOTS:
        active = "input_gate" if cell.coupled and slot == "forget_gate" else slot
        argument = _symbol("c" if slot == "cell_output" else f"a_{active}")
        found[f"value_{slot}"] = values[_symbol(slot)]
        found[f"slope_{slot}"] = slopes[active].get(argument, sympy.S.Zero).xreplace(values)
        found[f"argument_{slot}"] = values[argument]
    return found


def totals(held: Limits, value: Any, slope: Any, argument: Any) -> list[Any]:
    """`COUNTS` of one slot, from float64 arrays of NumPy or torch; 0 where there is no limit."""
    small = abs(slope) < (held.slope or 0.0)
    near = (held.low, held.high)
    return [
        value.sum(),
        (value * value).sum(),
        (small & (argument < held.split)).sum(),
        (small & (argument >= held.split)).sum(),
        0 * value.sum() if near[0] is None else (value < near[0]).sum(),
        0 * value.sum() if near[1] is None else (value > near[1]).sum(),
        (slope == 0).sum(),
        (value - value != 0).sum(),
    ]


def _symbol(name: str) -> Symbol:
    return Symbol(name, real=True)
