"""Gradients of x, weights and biases from grad_z = dL/dz, by the same tile as the time loops.

    dL/dx = grad_z W    dL/dW = grad_z^T x    dL/dR = grad_z^T h_before    dL/db = sum grad_z

dL/dW and dL/dR have the rows as the inner dimension. x and the states before are packed in panels
of four vectors (the last of as many as it needs), each thread a share of them; then a thread turns
32 columns of grad_z round, so that they are the first factor of a product as any other, and
multiplies them with every panel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from .emit import I32, I64, PTR, Target, counted
from .loops import GROUP, Loop, external_product, integer
from .tile import WIDTH

__all__ = ["ARGUMENTS", "PANELS", "emit_pack", "emit_products", "emit_start", "room_size"]

ARGUMENTS = (
    "by_units",
    "steps",
    "batch",
    "inputs",
    "hidden",
    "offsets",
    "reverse",
    "all_rows",
    "width",
    "end_of_x",
    "begin_of_h",
    "x",
    "states",
    "start",
    "before",
    "weight",
    "recurrent",
    "grad_x",
    "grad_ih",
    "grad_hh",
    "grad_bias",
    "grad_start",
    "order_x",
    "order_h",
    "room",
    "turned",
    "row",
    "rows",
    "grad_z",
    "first_batch_row",
    "add",
)
"""steps to reverse as in `forward_arguments`, all_rows = N; by_units is 0. The last five are of a
piece: its rows are row ... row + rows - 1 of x, grad_z [rows, width] is theirs.

grad_z's first end_of_x columns are of products that see x and those from begin_of_h on of products
that see a state. x [N, inputs], states [N, hidden] after every step, start [B, hidden]. before
[N] (or null for a whole batch): for each row the row of `states` before it, or -1 - b for row b of
start. weight [panel, end_of_x, 4 vectors] and recurrent [panel, width - begin_of_h, 4 vectors] are
packed as for the backward loop, and null where what they give is not wanted.

grad_x [N, inputs] (or null), grad_ih [end_of_x, inputs], grad_hh [width - begin_of_h, hidden]
and grad_bias [width] are written, or with `add` the last three added to. grad_start [B, hidden] (or
null): the gradient of the states before the first step, written from first_batch_row on.
order_x, order_h: for each block of H columns of grad_z that grad_ih and grad_hh are of, the number
of the block of rows to which it goes (null: its own).
room: `room_size` numbers, of which those from `turned` on are the threads'.
"""
PANELS = tuple((columns, WIDTH) for columns in (1, 2, WIDTH))
"""Columns and stride of the products by panels."""
_PAD = 16
"""Numbers between the turned columns, whose distance would else be a power of two: they would meet
in a few sets of the cache."""


def room_size(rows: int, inputs: int, hidden: int, lanes: int, threads: int) -> tuple[int, int]:
    """Numbers of room for pieces of so many rows, and how many of them all threads share."""
    width = WIDTH * lanes
    shared = (-(-inputs // width) - (-hidden // width)) * width * rows
    return shared + threads * GROUP * (rows + _PAD), shared


def emit_pack(module: ir.Module, target: Target) -> ir.Function:
    """Define pack_share(arguments, thread, threads): the panels of x and of the states before a
    piece's rows. A thread packs a share of the rows."""
    loop = Loop(module, "pack_share", target, ARGUMENTS, WIDTH)
    b, hidden, batch = loop.builder, loop["hidden"], loop["batch"]
    of_h = _panels_of_h(loop)
    reverse = b.icmp_signed("!=", loop["reverse"], integer(0))
    packed = b.icmp_unsigned("!=", b.ptrtoint(loop["before"], I64), integer(0))
    last_rows = b.sub(loop["all_rows"], batch)

    with b.goto_entry_block():
        place = b.alloca(I64)
        place.type = PTR

    def state_before(row: Any) -> Any:
        """The address of the state before a row."""
        with b.if_else(packed) as (then, otherwise):
            with then:
                at = b.gep(loop["before"], [row], source_etype=I64)
                b.store(b.load(at, typ=I64), place)
            with otherwise:
                of_start = b.select(reverse, b.sub(row, last_rows), row)
                begins = b.icmp_signed(">=", row, last_rows)
                begins = b.select(reverse, begins, b.icmp_signed("<", row, batch))
                earlier = b.select(reverse, b.add(row, batch), b.sub(row, batch))
                b.store(b.select(begins, b.not_(of_start), earlier), place)
        found = b.load(place, typ=I64)
        is_start = b.icmp_signed("<", found, integer(0))
        base = b.select(is_start, loop["start"], loop["states"])
        return loop.element(base, (b.select(is_start, b.not_(found), found), hidden))

    with loop.body():
        share = _share(loop, loop["rows"])
        _pack(
            loop,
            share,
            lambda row: loop.element(loop["x"], (row, loop["inputs"])),
            "inputs",
            loop["room"],
        )
        _pack(loop, share, state_before, "hidden", of_h)
    return loop.function


def emit_products(module: ir.Module, target: Target) -> ir.Function:
    """Define products_share(arguments, thread, threads): a piece's share of all gradients but that
    of the states before the first step."""
    loop = Loop(module, "products_share", target, ARGUMENTS, WIDTH)
    b, rows = loop.builder, loop["rows"]
    lda = b.add(rows, integer(_PAD))
    turned_size = b.mul(integer(GROUP), lda)
    turned = loop.element(loop["room"], (loop["turned"], integer(1)), (loop.thread, turned_size))
    product = external_product(module, target, WIDTH, WIDTH)
    with b.goto_entry_block():
        place = b.alloca(I64)
        place.type = PTR
    with loop.body():
        groups = _share(loop, loop.ceiling(loop["width"], integer(GROUP)))
        with counted(b, *groups) as group:
            first = b.mul(group, integer(GROUP))
            last = loop.minimum(loop["width"], b.add(first, integer(GROUP)))
            _turn(loop, first, b.sub(last, first), turned, lda)

            def row_of(order: str, column: Any, at: Any, n: Any) -> Any:
                """The address of the row of a weight's gradient that a column of grad_z gives."""
                b.store(column, place)
                with b.if_then(_given(loop, order)):
                    block = b.sdiv(column, loop["hidden"])
                    to = b.load(b.gep(loop[order], [block], source_etype=I64), typ=I64)
                    moved = b.mul(b.sub(to, block), loop["hidden"])
                    b.store(b.add(column, moved), place)
                return loop.element(at, (b.load(place, typ=I64), n))

            def multiply(
                begin: Any, end: Any, packed: Any, to: str, columns: str, order: str
            ) -> None:
                skipped = loop["begin_of_h"] if to == "grad_hh" else integer(0)
                count = loop.maximum(b.sub(end, begin), integer(0))
                a = loop.element(turned, (b.sub(begin, first), lda))
                n = loop[columns]
                with counted(b, integer(0), loop.ceiling(n, loop.line)) as panel:
                    _clear(loop, count)
                    second = loop.element(packed, (panel, b.mul(loop.line, rows)))

                    def call(vectors: int, second: Any = second) -> None:
                        product = external_product(module, target, vectors, WIDTH)
                        b.call(product, [a, second, loop.sums, count, lda, rows])

                    _by_width(loop, _size(loop, n, panel), call)
                    at = loop.element(loop[to], (panel, loop.line))
                    column = b.sub(begin, skipped)
                    _give(
                        loop,
                        lambda i: row_of(order, b.add(column, i), at, n),
                        count,
                        n,
                        panel,
                        add=True,
                    )

            end = loop.minimum(last, loop["end_of_x"])
            multiply(first, end, loop["room"], "grad_ih", "inputs", "order_x")
            begin = loop.maximum(first, loop["begin_of_h"])
            multiply(begin, last, _panels_of_h(loop), "grad_hh", "hidden", "order_h")
        with b.if_then(_given(loop, "grad_x")):
            to = loop.element(loop["grad_x"], (loop["row"], loop["inputs"]))
            _rows_times(loop, product, integer(0), "weight", loop["end_of_x"], to, "inputs")
    return loop.function


def emit_start(module: ir.Module, target: Target) -> ir.Function:
    """Define start_share(arguments, thread, threads): the gradient of the states before the first
    step, of the piece's rows."""
    loop = Loop(module, "start_share", target, ARGUMENTS, WIDTH)
    b, begin = loop.builder, loop["begin_of_h"]
    product = external_product(module, target, WIDTH, WIDTH)
    with loop.body(), b.if_then(_given(loop, "grad_start")):
        to = loop.element(loop["grad_start"], (loop["first_batch_row"], loop["hidden"]))
        depth = b.sub(loop["width"], begin)
        _rows_times(loop, product, begin, "recurrent", depth, to, "hidden")
    return loop.function


def _share(loop: Loop, count: Any) -> tuple[Any, Any]:
    """This thread's share of so many: from, to (exclusive)."""
    b, threads = loop.builder, loop.function.args[2]
    after = b.add(loop.thread, integer(1))
    return b.sdiv(b.mul(count, loop.thread), threads), b.sdiv(b.mul(count, after), threads)


def _panels_of_h(loop: Loop) -> Any:
    """The address of the packed states, after x."""
    b = loop.builder
    panels = loop.ceiling(loop["inputs"], loop.line)
    return loop.element(loop["room"], (b.mul(panels, loop.line), loop["rows"]))


def _given(loop: Loop, name: str) -> Any:
    return loop.builder.icmp_unsigned("!=", loop.builder.ptrtoint(loop[name], I64), integer(0))


def _rows_times(
    loop: Loop, product: Any, begin: Any, weight: str, depth: Any, to: Any, columns: str
) -> None:
    """to [rows, columns] = the columns of grad_z from `begin` on, `depth` of them, times a weight:
    this thread's share of the rows, in groups."""
    b, n = loop.builder, loop[columns]
    start, stop = _share(loop, loop["rows"])
    groups = loop.ceiling(b.sub(stop, start), integer(GROUP))
    panels = loop.ceiling(n, loop.line)
    with counted(b, integer(0), groups) as group, counted(b, integer(0), panels) as panel:
        row = b.add(start, b.mul(group, integer(GROUP)))
        count = loop.minimum(integer(GROUP), b.sub(stop, row))
        _clear(loop, count)
        packed = loop.element(loop[weight], (b.mul(panel, depth), loop.line))
        a = loop.element(loop["grad_z"], (row, loop["width"]), (begin, integer(1)))
        b.call(product, [a, packed, loop.sums, count, loop["width"], depth])
        at = loop.element(to, (row, n), (panel, loop.line))
        _give(loop, lambda i: loop.element(at, (i, n)), count, n, panel, add=False)


def _clear(loop: Loop, count: Any) -> None:
    with counted(loop.builder, integer(0), count) as i:
        to = loop.element(loop.sums, (i, loop.line))
        for k in range(WIDTH):
            loop.e.store(loop.e.splat(0.0), loop.e.at(to, k * loop.target.lanes))


def _give(
    loop: Loop,
    row_at: Callable[[Any], Any],
    count: Any,
    columns: Any,
    panel: Any,
    add: bool,
) -> None:
    """Write the sums of a panel to rows of so many columns, the i-th at row_at(i), or add them with
    the argument."""
    b, e, lanes = loop.builder, loop.e, loop.target.lanes
    size = loop.minimum(b.sub(columns, b.mul(panel, loop.line)), loop.line)
    with counted(b, integer(0), count) as i:
        sums = loop.element(loop.sums, (i, loop.line))
        place = row_at(i)
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
                        other = e.load_one(e.at(place, j))
                        e.store_one(b.fadd(e.load_one(own), other), own)
        e.copy_line(sums, place, size, WIDTH)


def _pack(
    loop: Loop, share: tuple[Any, Any], source: Callable[[Any], Any], columns: str, to: Any
) -> None:
    """A share of the piece's rows in panels of four vectors; source(row) is the address of a row of
    x. What lies beyond the last column is never given out, and may be anything."""
    b, n = loop.builder, loop[columns]
    with counted(b, *share) as i:
        own = source(b.add(loop["row"], i))
        with counted(b, integer(0), loop.ceiling(n, loop.line)) as panel:
            size, column = _size(loop, n, panel), b.mul(panel, loop.line)
            begin = loop.element(to, (panel, b.mul(loop["rows"], loop.line)))

            def copy(vectors: int, begin: Any = begin, size: Any = size, at: Any = column) -> None:
                place = loop.element(begin, (i, integer(vectors * loop.target.lanes)))
                loop.e.copy_line(loop.e.at(own, at), place, size, vectors)

            _by_width(loop, size, copy)


def _size(loop: Loop, columns: Any, panel: Any) -> Any:
    """The columns in a panel of so many."""
    b = loop.builder
    return loop.minimum(b.sub(columns, b.mul(panel, loop.line)), loop.line)


def _by_width(loop: Loop, size: Any, emit: Callable[[int], None]) -> None:
    """emit(1, 2 or 4 vectors): as many as hold the columns of a panel, of which the last may have a
    few only. With four always, [784 32 1 128] multiplied 192 columns for 129."""
    b = loop.builder
    with b.if_else(b.icmp_signed(">", size, integer(2 * loop.target.lanes))) as (wide, other):
        with wide:
            emit(WIDTH)
        with other:
            one = b.icmp_signed("<=", size, loop.lanes)
            with b.if_else(one) as (narrow, middle):
                with narrow:
                    emit(1)
                with middle:
                    emit(2)


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
            for r, turned in enumerate(e.transposed(lines)):
                e.store(turned, loop.element(to, (b.add(i, integer(r)), lda), (k, integer(1))))
        with counted(b, whole_rows, rows) as k:
            line = e.load(loop.element(source, (k, width), (i, integer(1))))
            e.store(b.fadd(e.load(total), line), total)
            for r in range(lanes):
                place = loop.element(to, (b.add(i, integer(r)), lda), (k, integer(1)))
                one = b.extract_element(line, ir.Constant(I32, r))
                e.store_one(one, place)
        with b.if_then(keep):
            e.store(b.fadd(e.load(total), e.load(e.at(bias, i))), total)
        e.store(e.load(total), e.at(bias, i))
    with counted(b, whole_columns, count) as i:
        place = e.at(bias, i)
        with b.if_then(b.not_(keep)):
            e.store_one(ir.Constant(e.scalar, 0.0), place)
        with counted(b, integer(0), rows) as k:
            one = e.load_one(loop.element(source, (k, width), (i, integer(1))))
            e.store_one(one, loop.element(to, (i, lda), (k, integer(1))))
            e.store_one(b.fadd(e.load_one(place), one), place)
