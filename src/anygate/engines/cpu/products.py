"""The weights' gradients by the same tile as the time loops: sums over the rows of a stretch.

grad_ih = grad_z^T x and grad_hh = grad_z^T (state before) have the rows as the inner dimension. A
thread turns 32 columns of grad_z round, so that they are the first factor of a product as any
other, and multiplies them with x and with the states before in panels of four vectors.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .emit import I32, I64, Emitter, Target, counted
from .loops import GROUP, Loop, emit_product, integer
from .tile import WIDTH

__all__ = ["ARGUMENTS", "emit_gradients", "room_size"]

ARGUMENTS = (
    "by_units",
    "rows",
    "width",
    "hidden",
    "inputs",
    "end_of_x",
    "begin_of_h",
    "grad_z",
    "x",
    "before",
    "before_rows",
    "after",
    "weight",
    "recurrent",
    "grad_x",
    "grad_ih",
    "grad_hh",
    "grad_bias",
    "grad_start",
    "start_row",
    "start_rows",
    "add",
    "room",
)
"""grad_z [rows, width], of which the first end_of_x columns are of products that see x and those
from begin_of_h on of products that see a state; x [rows, inputs]. The states before are the first
before_rows rows at `before`, and the others at `after`. weight [panel, end_of_x, 4 vectors] and
recurrent [panel, width - begin_of_h, 4 vectors] are packed as for the backward loop.

grad_x [rows, inputs] (or null), grad_ih [end_of_x, inputs], grad_hh [width - begin_of_h, hidden]
and grad_bias [width] are written, or with `add` the last three added to. grad_start [start_rows,
hidden] (or null): the gradient of the states before the rows from start_row on. by_units is 0.
room: `room_size` numbers for each thread.
"""
_PAD = 16
"""Numbers between the turned columns, whose distance would else be a power of two: they would meet
in a few sets of the cache."""


def room_size(rows: int, inputs: int, hidden: int, lanes: int) -> int:
    """Numbers of room for a thread."""
    width = WIDTH * lanes
    panels = -(-inputs // width) - (-hidden // width)
    return GROUP * (rows + _PAD) + panels * width * rows


def emit_gradients(module: ir.Module, target: Target) -> ir.Function:
    """Define gradients_share(arguments, thread, threads)."""
    loop = Loop(module, "gradients_share", target, ARGUMENTS, WIDTH)
    b, rows = loop.builder, loop["rows"]
    threads = loop.function.args[2]
    line = loop.line
    lda = b.add(rows, integer(_PAD))
    x_panels, h_panels = (loop.ceiling(loop[name], line) for name in ("inputs", "hidden"))
    turned_size = b.mul(integer(GROUP), lda)
    panel_size = b.mul(line, rows)
    size = b.add(turned_size, b.mul(b.add(x_panels, h_panels), panel_size))
    turned = loop.element(loop["room"], (loop.thread, size))
    of_x = loop.e.at(turned, turned_size)
    of_h = loop.element(of_x, (x_panels, panel_size))
    product = emit_product(module, target, WIDTH, WIDTH)

    def share(count: Any) -> tuple[Any, Any]:
        after = b.add(loop.thread, integer(1))
        return b.sdiv(b.mul(count, loop.thread), threads), b.sdiv(b.mul(count, after), threads)

    with loop.body():
        _pack(loop, loop["x"], integer(0), rows, loop["inputs"], of_x)
        _pack(loop, loop["before"], integer(0), loop["before_rows"], loop["hidden"], of_h)
        _pack(loop, loop["after"], loop["before_rows"], rows, loop["hidden"], of_h)
        groups = share(loop.ceiling(loop["width"], integer(GROUP)))
        with counted(b, *groups) as group:
            first = b.mul(group, integer(GROUP))
            last = loop.minimum(loop["width"], b.add(first, integer(GROUP)))
            _turn(loop, first, b.sub(last, first), turned, lda)

            def multiply(begin: Any, end: Any, panels: Any, packed: Any, to: str, n: Any) -> None:
                skipped = loop["begin_of_h"] if to == "grad_hh" else integer(0)
                count = loop.maximum(b.sub(end, begin), integer(0))
                a = loop.element(turned, (b.sub(begin, first), lda))
                with counted(b, integer(0), panels) as panel:
                    _clear(loop, count)
                    second = loop.element(packed, (panel, panel_size))
                    b.call(product, [a, second, loop.sums, count, lda, rows])
                    place = ((b.sub(begin, skipped), n), (panel, line))
                    _give(loop, loop.element(loop[to], *place), count, n, panel, add=True)

            end = loop.minimum(last, loop["end_of_x"])
            multiply(first, end, x_panels, of_x, "grad_ih", loop["inputs"])
            begin = loop.maximum(first, loop["begin_of_h"])
            multiply(begin, last, h_panels, of_h, "grad_hh", loop["hidden"])
        with b.if_then(_given(loop, "grad_x")):
            work = (loop["grad_z"], "weight", loop["end_of_x"], "grad_x", loop["inputs"])
            _rows_times(loop, product, share(rows), work, x_panels)
        with b.if_then(_given(loop, "grad_start")):
            begin = loop["begin_of_h"]
            z = loop.element(
                loop["grad_z"], (loop["start_row"], loop["width"]), (begin, integer(1))
            )
            depth = b.sub(loop["width"], begin)
            work = (z, "recurrent", depth, "grad_start", loop["hidden"])
            _rows_times(loop, product, share(loop["start_rows"]), work, h_panels)
    return loop.function


def _given(loop: Loop, name: str) -> Any:
    return loop.builder.icmp_unsigned("!=", loop.builder.ptrtoint(loop[name], I64), integer(0))


def _rows_times(
    loop: Loop,
    product: Any,
    share: tuple[Any, Any],
    work: tuple[Any, str, Any, str, Any],
    panels: Any,
) -> None:
    """A share of the rows of `z weight`, in groups. work: z, the weight's name, depth, the
    result's name and its columns."""
    b = loop.builder
    z, weight, depth, to, columns = work
    start, stop = share
    groups = loop.ceiling(b.sub(stop, start), integer(GROUP))
    with counted(b, integer(0), groups) as group, counted(b, integer(0), panels) as panel:
        row = b.add(start, b.mul(group, integer(GROUP)))
        count = loop.minimum(integer(GROUP), b.sub(stop, row))
        _clear(loop, count)
        packed = loop.element(loop[weight], (b.mul(panel, depth), loop.line))
        a = loop.element(z, (row, loop["width"]))
        b.call(product, [a, packed, loop.sums, count, loop["width"], depth])
        place = loop.element(loop[to], (row, columns), (panel, loop.line))
        _give(loop, place, count, columns, panel, add=False)


def _clear(loop: Loop, count: Any) -> None:
    with counted(loop.builder, integer(0), count) as i:
        to = loop.element(loop.sums, (i, loop.line))
        for k in range(WIDTH):
            loop.e.store(loop.e.splat(0.0), loop.e.at(to, k * loop.target.lanes))


def _give(loop: Loop, to: Any, count: Any, columns: Any, panel: Any, add: bool) -> None:
    """Write the sums of a panel to rows of so many columns, or add them with the argument."""
    b, e, lanes = loop.builder, loop.e, loop.target.lanes
    size = loop.minimum(b.sub(columns, b.mul(panel, loop.line)), loop.line)
    with counted(b, integer(0), count) as i:
        sums = loop.element(loop.sums, (i, loop.line))
        place = loop.element(to, (i, columns))
        if add:
            with b.if_then(b.icmp_signed("!=", loop["add"], integer(0))):
                whole = b.icmp_signed("==", size, loop.line)
                with b.if_else(whole) as (then, otherwise):
                    with then:
                        for k in range(WIDTH):
                            own = e.at(sums, k * lanes)
                            other = e.load(e.at(place, k * lanes))
                            e.store(b.fadd(e.load(own), other), own)
                    with otherwise, counted(b, integer(0), size) as j:
                        own = e.at(sums, j)
                        other = _one(e, e.at(place, j))
                        b.store(b.fadd(_one(e, own), other), own, align=loop.target.size)
        e.copy_line(sums, place, size, WIDTH)


def _one(e: Emitter, place: Any) -> Any:
    """The number at an address."""
    return e.builder.load(place, align=e.target.size, typ=e.scalar)


def _pack(loop: Loop, source: Any, start: Any, stop: Any, columns: Any, to: Any) -> None:
    """The rows from start to stop - 1, of which the first lies at `source`, in panels of four
    vectors. What lies beyond the last column is never given out, and may be anything."""
    b = loop.builder
    with counted(b, integer(0), loop.ceiling(columns, loop.line)) as panel:
        column = b.mul(panel, loop.line)
        size = loop.minimum(b.sub(columns, column), loop.line)
        place = loop.element(to, (panel, b.mul(loop["rows"], loop.line)))
        with counted(b, start, stop) as row:
            own = loop.element(source, (b.sub(row, start), columns), (column, integer(1)))
            loop.e.copy_line(own, loop.element(place, (row, loop.line)), size, WIDTH)


def _turn(loop: Loop, first: Any, count: Any, to: Any, lda: Any) -> None:
    """`count` columns of grad_z from `first` on as rows, lda apart; and their sums, the gradients
    of the biases."""
    b, e, lanes = loop.builder, loop.e, loop.target.lanes
    rows, width = loop["rows"], loop["width"]
    source = e.at(loop["grad_z"], first)
    bias = e.at(loop["grad_bias"], first)
    whole_columns = b.and_(count, integer(-lanes))
    whole_rows = b.and_(rows, integer(-lanes))
    total = e.buffer(1)
    keep = b.icmp_signed("!=", loop["add"], integer(0))

    with counted(b, integer(0), whole_columns, lanes) as i:
        e.store(e.splat(0.0), total)
        with counted(b, integer(0), whole_rows, lanes) as k:
            lines = [
                e.load(loop.element(source, (b.add(k, integer(r)), width), (i, integer(1))))
                for r in range(lanes)
            ]
            sums = list(lines)
            while len(sums) > 1:
                pairs = zip(sums[::2], sums[1::2], strict=True)
                sums = [b.fadd(p, q) for p, q in pairs]
            e.store(b.fadd(e.load(total), sums[0]), total)
            for r, turned in enumerate(_transposed(e, lines)):
                e.store(turned, loop.element(to, (b.add(i, integer(r)), lda), (k, integer(1))))
        with counted(b, whole_rows, rows) as k:
            line = e.load(loop.element(source, (k, width), (i, integer(1))))
            e.store(b.fadd(e.load(total), line), total)
            for r in range(lanes):
                place = loop.element(to, (b.add(i, integer(r)), lda), (k, integer(1)))
                one = b.extract_element(line, ir.Constant(I32, r))
                b.store(one, place, align=loop.target.size)
        with b.if_then(keep):
            e.store(b.fadd(e.load(total), e.load(e.at(bias, i))), total)
        e.store(e.load(total), e.at(bias, i))
    with counted(b, whole_columns, count) as i:
        place = e.at(bias, i)
        with b.if_then(b.not_(keep)):
            b.store(ir.Constant(e.scalar, 0.0), place, align=loop.target.size)
        with counted(b, integer(0), rows) as k:
            one = _one(e, loop.element(source, (k, width), (i, integer(1))))
            b.store(one, loop.element(to, (i, lda), (k, integer(1))), align=loop.target.size)
            b.store(b.fadd(_one(e, place), one), place, align=loop.target.size)


def _transposed(e: Emitter, lines: list[Any]) -> list[Any]:
    """As many vectors as each has numbers, rows and columns exchanged."""
    lanes, step = len(lines), 1
    while step < lanes:
        low = [
            k % (2 * step) // step * lanes + k - k % (2 * step) // step * step for k in range(lanes)
        ]
        high = [place + step for place in low]
        masks = [
            ir.Constant(ir.VectorType(I32, lanes), [ir.Constant(I32, p) for p in places])
            for places in (low, high)
        ]
        found = list(lines)
        for k in range(lanes):
            if not k & step:
                pair = lines[k], lines[k + step]
                found[k], found[k + step] = (e.builder.shuffle_vector(*pair, m) for m in masks)
        lines, step = found, 2 * step
    return lines
