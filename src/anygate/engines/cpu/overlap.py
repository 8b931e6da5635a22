"""A time step's products by tiles, while the formula runs on the sums of the group before.

The unit that multiplies tiles works beside the vector units: a block of K takes it 384 cycles for
32 rows, in which the processor finishes two rows of the last group. One after the other, a thread
takes 1.35 times as long at [20 32 64 128] and 1.45 times at [50 16 1 128] (Xeon). While tiles are
multiplied one of the two vector units stands still, else it would be more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from .amx import PARTS, ROWS, STRIDE, TILE, Parts, at, call
from .emit import I32, PTR, counted, external
from .loops import GROUP, Loop, integer
from .tile import WIDTH

__all__ = ["Group", "multiply"]

_PAIR = 2 * PARTS * TILE
"""Bytes of a block of K of two vectors of B."""
_THIRDS = 3
_SUM_ROW = 4 * ROWS * WIDTH
_FRACTION = 16
"""Bits behind the point of the number of rows that are finished for each piece of a product."""


@dataclass(frozen=True)
class Group:
    """Up to 32 of this thread's rows, from `first` on, and one panel of hidden units; sums is where
    their sums lie."""

    panel: Any
    first: Any
    size: Any
    sums: Any


def multiply(
    parts: Parts,
    s: Any,
    panels: tuple[Any, Any],
    rows: Any,
    start: Callable[[Group], None],
    finish: Callable[[Group, Any], None],
) -> None:
    """For all panels and all of this thread's rows: start(group) writes what the sums begin with,
    the products of the parts that step s wrote are added, finish(group, i) is done for each row."""
    loop, b = parts.loop, parts.loop.builder
    groups = loop.maximum(loop.ceiling(rows, integer(GROUP)), integer(1))
    count = b.mul(b.sub(panels[1], panels[0]), groups)
    count = b.select(b.icmp_signed(">", rows, integer(0)), count, integer(0))
    with counted(b, integer(0), b.add(count, integer(1))) as n:
        now = _group(loop, panels[0], groups, rows, n)
        last = _group(loop, panels[0], groups, rows, b.sub(n, integer(1)))
        going = b.icmp_signed("<", n, count)
        with b.if_then(going):
            start(now)
        two = b.icmp_signed(">", now.size, integer(ROWS))
        turns = b.select(two, integer(2), integer(1))
        blocks = b.select(going, parts.blocks, integer(1))
        pieces = b.mul(b.mul(turns, blocks), integer(_THIRDS))
        to_finish = b.select(b.icmp_signed(">", n, integer(0)), last.size, integer(0))
        rate = loop.ceiling(b.shl(to_finish, integer(_FRACTION)), pieces)
        a = parts.rows(s, now.first)
        panel_bytes = b.mul(parts.row_bytes, integer(WIDTH))
        weights = at(b, loop["recurrent"], b.mul(now.panel, panel_bytes))
        with counted(b, integer(0), turns) as turn:
            sums = _sums(b, now.sums, two, turn)
            with b.if_then(going):
                _call_each(b, "tileloadd64", sums)
            with counted(b, integer(0), blocks) as block:
                place = b.add(b.mul(turn, blocks), block)
                here = _Block(parts, a, weights, block, place)
                with counted(b, integer(0), integer(_THIRDS)) as third:
                    with b.if_then(going):
                        _multiply_third(b, here, two, third)
                    piece = b.add(b.mul(place, integer(_THIRDS)), third)
                    done = b.lshr(b.mul(rate, piece), integer(_FRACTION))
                    due = b.lshr(b.mul(rate, b.add(piece, integer(1))), integer(_FRACTION))
                    with counted(b, done, loop.minimum(due, to_finish)) as i:
                        finish(last, i)
            with b.if_then(going):
                _call_each(b, "tilestored64", sums)


def _group(loop: Loop, first_panel: Any, groups: Any, rows: Any, n: Any) -> Group:
    b = loop.builder
    first = b.mul(b.srem(n, groups), integer(GROUP))
    sums = b.mul(b.and_(n, integer(1)), integer(GROUP * _SUM_ROW))
    return Group(
        panel=b.add(first_panel, b.sdiv(n, groups)),
        first=first,
        size=loop.minimum(b.sub(rows, first), integer(GROUP)),
        sums=at(b, loop.sums, sums),
    )


def _sums(b: Any, start: Any, two: Any, turn: Any) -> list[Any]:
    """Where the four tiles of sums lie: 2 x 2 with two blocks of rows, in two turns, or 1 x 4."""
    places = []
    for k in range(4):
        square = b.add(
            integer(k // 2 * ROWS * _SUM_ROW + k % 2 * STRIDE), b.mul(turn, integer(128))
        )
        places.append(at(b, start, b.select(two, square, integer(k * STRIDE))))
    return places


def _call_each(b: Any, name: str, places: list[Any]) -> None:
    for tile, place in enumerate(places):
        call(b, name, tile, place, integer(_SUM_ROW))


class _Block:
    """Where a block of K lies: in A in one or two blocks of rows, in B in one or two pairs of
    vectors; and what to ask for ahead."""

    def __init__(self, parts: Parts, a: Any, weights: Any, block: Any, place: Any) -> None:
        b = parts.loop.builder
        row = at(b, a, b.mul(block, integer(PARTS * TILE)))
        self.rows = (row, at(b, row, parts.row_bytes))
        pair = at(b, weights, b.mul(place, integer(_PAIR)))
        self.pairs = (pair, at(b, pair, b.mul(parts.row_bytes, integer(2))))


def _multiply_third(b: Any, here: _Block, two: Any, third: Any) -> None:
    """A third of the products of a block of K."""
    done = b.append_basic_block("multiplied")
    case = b.add(b.select(two, integer(0), integer(_THIRDS)), third)
    choice = b.switch(case, done)
    for k, orders in enumerate([*_two_by_two(here), *_one_by_four(here)]):
        target = b.append_basic_block("third")
        choice.add_case(integer(k), target)
        b.position_at_end(target)
        ahead = _Prefetch(b, here.pairs[: 1 + k // _THIRDS], k % _THIRDS)
        for name, *arguments in orders:
            if name == "tdpbf16ps":
                call(b, name, *arguments)
                ahead.lines()
            else:
                tile, place, offset = arguments
                call(b, name, tile, at(b, place, integer(offset)), integer(STRIDE))
        b.branch(done)
    b.position_at_end(done)


def _two_by_two(here: _Block) -> list[list[tuple[Any, ...]]]:
    """The instructions of each third of a block: seven times two tiles are read for 24 products."""
    rows = [
        [("tileloadd64", 4 + r, here.rows[r], part * TILE) for r in range(2)]
        for part in range(PARTS)
    ]
    columns = [
        [("tileloadd64", 6 + v, here.pairs[0], (2 * part + v) * TILE) for v in range(2)]
        for part in range(PARTS)
    ]
    products = [("tdpbf16ps", k, 4 + k // 2, 6 + k % 2) for k in range(4)]
    return [
        [*rows[0], *columns[2], *products, *columns[1], *products],
        [*rows[1], *products, *columns[0], *products],
        [*rows[0], *products, *rows[2], *products],
    ]


def _one_by_four(here: _Block) -> list[list[tuple[Any, ...]]]:
    """The same for one block of rows: 15 tiles are read for 24 products."""
    rows = [("tileloadd64", 4 + part, here.rows[0], part * TILE) for part in range(PARTS)]

    def column(part: int, v: int) -> list[tuple[Any, ...]]:
        read = ("tileloadd64", 7, here.pairs[v // 2], (2 * part + v % 2) * TILE)
        others = ((1, 0, 2), (0, 1), (0,))[part]  # so that both ways add in one order
        return [read, *(("tdpbf16ps", v, 4 + other, 7) for other in others)]

    columns = [column(part, v) for part in reversed(range(PARTS)) for v in range(WIDTH)]
    thirds = columns[:6], columns[6:9], columns[9:]
    found = [[order for one in third for order in one] for third in thirds]
    return [[*rows, *found[0]], *found[1:]]


class _Prefetch:
    """Asks for the next block of B, a few lines at a time: 15 % more where B is larger than the
    second-level cache."""

    def __init__(self, b: Any, places: tuple[Any, ...], third: int) -> None:
        self.b = b
        lines = [(p, _PAIR + line * 64) for p in places for line in range(_PAIR // 64)]
        count = len(lines) // _THIRDS
        self.left = lines[third * count : (third + 1) * count]
        self.each = -(-count // 7)

    def lines(self) -> None:
        """A few lines more."""
        kind = ir.FunctionType(ir.VoidType(), [PTR, I32, I32, I32])
        hint = external(self.b.module, "llvm.prefetch.p0", kind)
        for place, offset in self.left[: self.each]:
            line = at(self.b, place, integer(offset))
            self.b.call(hint, [line, *(ir.Constant(I32, k) for k in (0, 3, 1))])
        del self.left[: self.each]
