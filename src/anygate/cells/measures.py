"""The measurements of `record` inside a running cell: Programs with more outputs, and sums of them.

An engine runs `measured(cell)` in place of the cell's own Programs and adds up, for each time step,
over all rows and units, what `COUNTS` names for each slot, the largest size of each state, and
squared norms of gradients. Nothing is stored for single units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias

from sympy import Expr, S

from ..formulas.activation import Activation
from ..formulas.exact import substitute
from ..formulas.program import Program, lower
from ..formulas.sheet import sheet
from .cell import Cell
from .celltype import argument_of, before, symbol
from .derive import Step, grad, saved_name

__all__ = [
    "COUNTS",
    "PARTS",
    "Limits",
    "Measured",
    "Number",
    "direct",
    "limits",
    "measured",
    "part_of",
    "total",
    "totals",
]

COUNTS = ("sum", "squares", "low", "high", "near_low", "near_high", "flat", "bad")
"""For each slot and time step: the sum of its values and of their squares; how many lie where |f'|
is under a tenth of its largest, to the left and to the right of where it is largest; within a tenth
of the range of the lower and of the upper bound; where f' is exactly 0; and are not finite."""
PARTS = ("value", "slope", "argument")
"""Of each slot, outputs "PART SLOT" of the measured forward Program: f(a), f'(a) and a."""
_TENTH = 0.1

Number: TypeAlias = tuple[str, str]
"""A number of a line: (slot, one of COUNTS), (state, "max"), or (state, "grad" or "direct")."""


def part_of(part: str, slot: str) -> str:
    """The name of a measured output of the forward Program."""
    return f"{part} {slot}"


def total(state: str) -> str:
    """The name of dL by a state, through this step and later ones."""
    return f"total {state}"


def direct(state: str) -> str:
    """The name of the part of dL by a state that does not come through a later time step."""
    return f"direct {state}"


@dataclass(frozen=True)
class Limits:
    """The thresholds that a slot's values are counted by; None where the formula gives none.

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
    """The limits that follow from the property sheet, with the formula's own parameters."""
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

    forward: `Cell.forward` with the outputs "PART SLOT". backward: `Cell.backward` with one more
    input for each state, "direct STATE" (the part of "grad STATE" that does not come from a later
    step of this layer), and the outputs "total STATE", dL by the state, and "direct STATE", what of
    it does not come through a later step.
    numbers: of a forward line, in order: COUNTS of each slot, then each state but the output's
    (state, "max"), the largest size. norms: of a backward line: for each state (state, "grad") and
    (state, "direct"), squared norms over rows and units. limits: by slot.
    """

    forward: Program
    backward: Program
    numbers: tuple[Number, ...]
    norms: tuple[Number, ...]
    limits: dict[str, Limits]


@lru_cache(maxsize=256)
def measured(cell: Cell) -> Measured:
    """The Programs for a cell of the kind "one product"."""
    type = cell.type
    step = Step(type, cell.slots, cell.clip)
    outputs = {**step.forward_outputs(), **_outputs_by_slot(cell, step)}
    back = step.backward_outputs(tuple(cell.parameters))
    arriving: dict[Expr, Expr] = {
        symbol(grad(state)): symbol(direct(state)) for state in type.states
    }
    for state in type.states:
        back[total(state)] = step.total(state)
        back[direct(state)] = substitute(step.total(state), arriving)
    inputs = (
        *map(saved_name, step.saved),
        *(before(state) for state in type.states),
        *type.states,
        *map(grad, type.states),
        *map(direct, type.states),
        *type.masks,
        *cell.parameters,
    )
    others = tuple(state for state in type.states if state != type.output)
    return Measured(
        lower(outputs, cell.inputs),
        lower(back, inputs),
        (
            *((slot, name) for slot in cell.slots for name in COUNTS),
            *((state, "max") for state in others),
        ),
        tuple((state, kind) for state in type.states for kind in ("grad", "direct")),
        {slot: limits(activation) for slot, activation in cell.slots.items()},
    )


def _outputs_by_slot(cell: Cell, step: Step) -> dict[str, Expr]:
    """The outputs "PART SLOT" for all slots."""
    found: dict[str, Expr] = {}
    for slot in cell.slots:
        argument = symbol(argument_of(slot))
        slope = step.slopes[slot].get(argument, S.Zero)
        found[part_of("value", slot)] = step.values[symbol(slot)]
        found[part_of("slope", slot)] = substitute(slope, step.values)
        found[part_of("argument", slot)] = step.values[argument]
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
