"""Sums over rows and units, for `record`: kept beside the time loop, one line of numbers a step.

A measured kernel adds to vectors on its stack while it works on a time step, and at the step's
end writes their sums into its thread's line of a table [threads, T, numbers] of float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from ...cells import Cell
from ...cells.measures import PARTS, Limits, Number, measured, part_of
from .emit import Emitter
from .loops import Loop, integer

__all__ = ["Sums", "add_norms", "add_slots"]

_WIDE = frozenset({"sum", "squares", "grad", "direct"})
"""Summed in float64: a gate's spread of 1e-4 around 1, or a gradient's square, needs its digits."""


def _is_wide(name: Number) -> bool:
    return name[1] in _WIDE


class Sums:
    """Vectors that are added to, by the name of a number of the table's line.

    In each function that uses them they begin at an address `start`: the step's function adds, the
    loop's clears them and writes them out.
    """

    def __init__(self, names: tuple[Number, ...], e: Emitter, start: Any = None) -> None:
        self.names, self.e = names, e
        self.double = ir.VectorType(
            ir.DoubleType(), min(e.target.lanes, e.target.vector_bytes // 8)
        )
        self.parts = e.target.lanes // self.double.count  # of a vector of numbers, in float64
        places = 0
        self.places: dict[Number, int] = {}
        for name in names:
            self.places[name] = places
            places += self.parts if _is_wide(name) else 1
        self.count = places
        self.start = e.buffer(places) if start is None else start

    def _at(self, name: Number, part: int = 0) -> Any:
        return self.e.at(self.start, (self.places[name] + part) * self.e.target.lanes)

    def clear(self) -> None:
        """Begin a time step."""
        for place in range(self.count):
            self.e.store(self.e.splat(0.0), self.e.at(self.start, place * self.e.target.lanes))

    def add(self, name: Number, value: Any, square: bool = False) -> None:
        """Add a vector, or its square, in float64."""
        b, align = self.e.builder, self.e.target.size
        for part in range(self.parts):
            place = self._at(name, part)
            number = self._double(value, part)
            number = b.fmul(number, number) if square else number
            old = b.load(place, align=align, typ=self.double)
            b.store(b.fadd(old, number), place, align=align)

    def _double(self, value: Any, part: int) -> Any:
        if self.e.target.size == 8:
            return value
        b, count = self.e.builder, self.double.count
        places = [part * count + k for k in range(count)]
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), count), places)
        undefined = ir.Constant(self.e.vector, ir.Undefined)
        return b.fpext(b.shuffle_vector(value, undefined, lanes), self.double)

    def count_where(self, name: Number, condition: Any) -> None:
        """Add 1 in the lanes where the condition holds. A lane's count is exact to 2^24."""
        e, place = self.e, self._at(name)
        one = e.builder.select(condition, e.splat(1.0), e.splat(0.0))
        e.store(e.builder.fadd(e.load(place), one), place)

    def largest(self, name: Number, value: Any) -> None:
        """Keep the larger; NaN is none."""
        e, place = self.e, self._at(name)
        old = e.load(place)
        e.store(e.builder.select(e.builder.fcmp_ordered(">", value, old), value, old), place)

    def write(self, line: Any) -> None:
        """All numbers, one float64 each, to the table's line."""
        e, b = self.e, self.e.builder
        for k, name in enumerate(self.names):
            if _is_wide(name):
                first, *rest = (
                    b.load(self._at(name, part), align=e.target.size, typ=self.double)
                    for part in range(self.parts)
                )
                for other in rest:
                    first = b.fadd(first, other)
                number = _across(b, first, b.fadd)
            else:
                number = _across(
                    b, e.load(self._at(name)), _larger(b) if name[1] == "max" else b.fadd
                )
                number = number if e.target.size == 8 else b.fpext(number, ir.DoubleType())
            place = b.gep(line, [integer(k)], source_etype=ir.DoubleType())
            b.store(number, place, align=8)

    def line(self, loop: Loop, t: Any) -> Any:
        """The address of this thread's line of step t in the table."""
        b = loop.builder
        row = b.add(b.mul(loop.thread, loop["steps"]), t)
        at = b.mul(row, integer(len(self.names)))
        return b.gep(loop["measures"], [at], source_etype=ir.DoubleType())


def _larger(b: ir.IRBuilder) -> Callable[[Any, Any], Any]:
    return lambda p, q: b.select(b.fcmp_ordered(">", p, q), p, q)


def _across(b: ir.IRBuilder, vector: Any, join: Callable[[Any, Any], Any]) -> Any:
    """One number of all lanes, by halves."""
    count = vector.type.count
    while count > 1:
        count //= 2
        undefined = ir.Constant(vector.type, ir.Undefined)
        halves = (
            b.shuffle_vector(
                vector,
                undefined,
                ir.Constant(
                    ir.VectorType(ir.IntType(32), count), [first + k for k in range(count)]
                ),
            )
            for first in (0, count)
        )
        vector = join(*halves)
    return b.extract_element(vector, ir.Constant(ir.IntType(32), 0))


def lanes_before(e: Emitter, count: Any) -> Any:
    """The lanes with an index below count (an i64): those that are hidden units."""
    b = e.builder
    numbers = ir.VectorType(ir.IntType(64), e.target.lanes)
    index = ir.Constant(numbers, list(range(e.target.lanes)))
    first = b.insert_element(
        ir.Constant(numbers, ir.Undefined), count, ir.Constant(ir.IntType(32), 0)
    )
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), e.target.lanes), [0] * e.target.lanes)
    limit = b.shuffle_vector(first, ir.Constant(numbers, ir.Undefined), zeros)
    return b.icmp_signed("<", index, limit)


def add_slots(sums: Sums, cell: Cell, outputs: dict[str, Any], units: Any) -> None:
    """Add the outputs of the measured forward Program for one vector of units, of which the first
    `units` are units of the layer, to the sums of the time step."""
    e = sums.e
    b, here = e.builder, lanes_before(e, units)
    zero = e.splat(0.0)
    for slot in cell.slots:
        value, slope, argument = (outputs[part_of(part, slot)] for part in PARTS)
        kept = b.select(here, value, zero)
        sums.add((slot, "sum"), kept)
        sums.add((slot, "squares"), kept, square=True)
        for name, condition in _conditions(e, measured(cell).limits[slot], value, slope, argument):
            sums.count_where((slot, name), b.and_(here, condition))
    for state in cell.type.states:
        if state != cell.type.output:
            size = b.select(here, e.call("fabs", outputs[state]), zero)
            sums.largest((state, "max"), size)


def _conditions(e: Emitter, held: Limits, value: Any, slope: Any, argument: Any) -> list[Any]:
    """Name and condition of each count that the formula has a limit for."""
    b = e.builder
    ordered, unordered = b.fcmp_ordered, b.fcmp_unordered
    found = [
        ("flat", ordered("==", slope, e.splat(0.0))),
        ("bad", unordered("uno", b.fsub(value, value), e.splat(0.0))),
    ]
    if held.slope is not None:
        small = ordered("<", e.call("fabs", slope), e.splat(held.slope))
        left = ordered("<", argument, e.splat(held.split))
        found += [("low", b.and_(small, left)), ("high", b.and_(small, b.not_(left)))]
    if held.low is not None and held.high is not None:
        found.append(("near_low", ordered("<", value, e.splat(held.low))))
        found.append(("near_high", ordered(">", value, e.splat(held.high))))
    return found


def add_norms(sums: Sums, vectors: dict[Number, Any], units: Any) -> None:
    """Squares of the gradients of one vector of units."""
    here = lanes_before(sums.e, units)
    for name, vector in vectors.items():
        kept = sums.e.builder.select(here, vector, sums.e.splat(0.0))
        sums.add(name, kept, square=True)
