"""A time step's products on AMX tiles, interleaved with the cell's formula on vectors.

The products of one group of rows are multiplied on tiles while the formula (activations, new
states) runs on the sums of the group before it. The tile unit works beside the vector units: it
needs 384 cycles for 32 rows and a block of 32 columns K, in which the formula finishes two rows.
Done one after the other, products and formula take a thread 1.35 times as long at [20 32 64 128]
and 1.45 times at [50 16 1 128] (T B I H, Xeon). One of the two vector units is idle while tiles are
multiplied, so the gain cannot be larger.
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
"""Bits after the binary point in `rate`, the rows that the formula finishes for each third of a
block's product."""


@dataclass(frozen=True)
class Group:
    """Up to 32 of this thread's rows and one panel of hidden units: what is multiplied at a time.

    panel: the panel's number. first, size: the rows first to first + size - 1 of the thread. sums:
    the address of their sums, one of two buffers in turn.
    """

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
    """Emit z = A B for every group of this thread's rows and panels, with the formula between.

    start(group) writes the initial sums (the biases); A, which step s wrote to `parts`, times the
    weights is added; finish(group, i) runs the formula on the sums of row i of the group. Pass n of
    the loop multiplies group n and finishes the rows of group n - 1 evenly spread over it; one pass
    more finishes the last group.
    """
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
    """The addresses of a turn's four 16 x 16 tiles of sums. A group of two blocks of rows takes two
    turns of 2 blocks x 2 vectors; one of a single block takes one turn of 1 x 4. two: true for two
    blocks."""
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
    """Addresses of a block of 32 columns K. rows: in A, of its two blocks of rows; pairs: in B, of
    two pairs of vectors. Of the second ones only one is read: rows[1] by 2 x 2 products, pairs[1]
    by 1 x 4."""

    def __init__(self, parts: Parts, a: Any, weights: Any, block: Any, place: Any) -> None:
        b = parts.loop.builder
        row = at(b, a, b.mul(block, integer(PARTS * TILE)))
        self.rows = (row, at(b, row, parts.row_bytes))
        pair = at(b, weights, b.mul(place, integer(_PAIR)))
        self.pairs = (pair, at(b, pair, b.mul(parts.row_bytes, integer(2))))


def _multiply_third(b: Any, here: _Block, two: Any, third: Any) -> None:
    """Emit a third of the products of a block of K: rows of `finish` come between the thirds."""
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
    """Instructions of each third of a block, as (name, arguments...), for two blocks of rows and
    two vectors: 14 tiles are read for 24 products."""
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
    """Instructions of each third of a block for one block of rows and four vectors: 15 tiles are
    read for 24 products."""
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
    """Prefetches the next block of B, a few cache lines after each product: 15 % faster where B
    does not fit the second-level cache."""

    def __init__(self, b: Any, places: tuple[Any, ...], third: int) -> None:
        self.b = b
        lines = [(p, _PAIR + line * 64) for p in places for line in range(_PAIR // 64)]
        count = len(lines) // _THIRDS
        self.left = lines[third * count : (third + 1) * count]
        self.each = -(-count // 7)

    def lines(self) -> None:
        """Emit the prefetch of the next few cache lines."""
        kind = ir.FunctionType(ir.VoidType(), [PTR, I32, I32, I32])
        hint = external(self.b.module, "llvm.prefetch.p0", kind)
        for place, offset in self.left[: self.each]:
            line = at(self.b, place, integer(offset))
            self.b.call(hint, [line, *(ir.Constant(I32, k) for k in (0, 3, 1))])
        del self.left[: self.each]
