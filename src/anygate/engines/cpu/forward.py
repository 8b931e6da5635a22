"""The forward time loop: products, then the cell's formula on their sums while in cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from ...formulas.cell import GATES, Cell
from ...formulas.measures import NUMBERS, measured
from . import amx, overlap
from .emit import Emitter, Target, counted, function
from .formula import run, wanted
from .loops import Loop, integer
from .measuring import Sums, add_slots
from .tile import WIDTH

__all__ = ["FORWARD", "emit_forward"]

FORWARD = ("steps", "batch", "inputs", "hidden", "offsets", "x", "z_x", "weight", "recurrent",
           "bias", "vectors", "h0", "c0", "output", "cells", "keep_cells", "saved", "reverse",
           "by_units", "arrived", "measures", "parts", "x_blocks")  # fmt: skip
"""N rows in all: T*B, or those of a packed batch, where offsets [T + 1] tells the first row of each
time step (else it is null). x [N, I] with inputs = I, or z_x [N, 4H] with inputs = 0; weight and
recurrent packed [panel, K, gate, lane]; bias [panel, gate, lane]; vectors [number, padded H], the
cell's parameters of each unit; arrived: an i64 that is 0; output [N, H]; cells [N, H] with
keep_cells, else [B, H], which begins as c0; saved [N, 4H]; measures [threads, T, NUMBERS]
float64, of a measuring kernel. By tiles (amx.py): parts: room for the parts of x and h, x_blocks
blocks of K of x, 0 where x is multiplied by vectors; recurrent holds the parts of both weights, of
the blocks that there are."""


def emit_step(
    module: ir.Module, target: Target, cell: Cell, training: bool, measuring: bool
) -> ir.Function:
    """forward_step(z, c_previous, c, h, saved, vectors, sums, gate_stride, vector_stride, units) on
    one vector of units of one row, of which `units` are the layer's; z holds the four gates'
    vectors, sums what is measured."""
    step = function(module, "forward_step", 7, 3)
    step.linkage = "internal"
    e = Emitter(ir.IRBuilder(step.append_basic_block("entry")), target)
    z, c_previous, c, h, saved, vectors, sums, stride, vector_stride, units = step.args
    inputs = {f"z_{gate}": e.load(e.at(z, k * target.lanes)) for k, gate in enumerate(GATES)}
    inputs["c_previous"] = e.load(c_previous)
    program = measured(cell).forward if measuring else cell.forward
    outputs = run(e, cell, wanted(program, training), inputs, vectors, vector_stride)
    e.store(outputs["c"], c)
    e.store(outputs["h"], h)
    if training:
        for k, gate in enumerate(GATES):
            place = e.at(saved, e.builder.mul(stride, integer(k)))
            e.store(outputs[f"saved_{gate}"], place)
    if measuring:
        add_slots(Sums(NUMBERS, e, sums), cell, outputs, units)
    e.builder.ret_void()
    return step


def emit_forward(
    module: ir.Module, target: Target, cell: Cell, product: ir.Function, training: bool,
    measuring: bool,
) -> ir.Function:  # fmt: skip
    """Define forward_share(arguments, thread, threads)."""
    step = emit_step(module, target, cell, training, measuring)
    loop = Loop(module, "forward_share", target, FORWARD)
    b, e = loop.builder, loop.e
    hidden = loop["hidden"]
    spare = {name: e.buffer(size) for name, size in
             (("c_previous", 1), ("c", 1), ("h", 1), ("saved", WIDTH))}  # fmt: skip
    sums = Sums(NUMBERS, e) if measuring else None
    parts = None
    if target.amx:
        blocks = b.add(loop["x_blocks"], loop.ceiling(hidden, integer(amx.DEPTH)))
        parts = amx.Parts(loop, blocks)
    with loop.body(), _ready(loop, parts), counted(b, integer(0), loop["steps"]) as s:
        t, before, after = loop.times(s)
        now, count = loop.place(t)
        earlier, count_before = loop.place(before)
        rows = loop.mine(count)
        if sums is not None:
            sums.clear()

        def finish(place: Any, panel: Any, z: Any) -> None:
            _finish_row(loop, step, spare, training, z, loop.row(place), panel,
                        now, earlier, count_before, sums)  # fmt: skip

        if parts:
            _by_tiles(loop, product, parts, s, now, after, count, rows, finish)
        else:
            _by_vectors(loop, product, now, earlier, count_before, rows, finish)
        if sums is not None:
            sums.write(sums.line(loop, t))
        loop.finish_step(b.add(s, integer(1)))
    return loop.function


def _by_vectors(
    loop: Loop, product: ir.Function, now: Any, earlier: Any, count_before: Any, rows: Any,
    finish: Any,
) -> None:  # fmt: skip
    """A time step whose products are made by vectors."""
    b, hidden = loop.builder, loop["hidden"]
    from_x = b.icmp_signed(">", loop["inputs"], integer(0))
    continuing = loop.least(rows, loop.mine(count_before))
    with counted(b, *loop.panels(loop.lanes)) as panel, loop.groups(rows) as (first, size):
        row = loop.row(first)
        _start_sums(loop, from_x, now, first, size, panel, loop.sums)
        with b.if_then(from_x):
            _add_x(loop, product, now, first, size, panel, loop.sums)
        recurrent = loop.element(loop["recurrent"], (b.mul(panel, hidden), loop.line))
        lda = b.mul(loop.row_step, hidden)
        going = loop.split(first, size, continuing)
        h = loop.element(loop["output"], (b.add(earlier, row), hidden))
        b.call(product, [h, recurrent, loop.sums, going, lda, hidden])
        h = loop.element(loop["h0"], (loop.row(b.add(first, going)), hidden))
        sums = loop.element(loop.sums, (going, loop.line))
        b.call(product, [h, recurrent, sums, b.sub(size, going), lda, hidden])
        with counted(b, integer(0), size) as i:
            finish(b.add(first, i), panel, loop.element(loop.sums, (i, loop.line)))


def _by_tiles(
    loop: Loop, product: ir.Function, parts: amx.Parts, s: Any, now: Any, after: Any, count: Any,
    rows: Any, finish: Any,
) -> None:  # fmt: skip
    """A time step whose products are made by tiles; and the parts of x and h for the next one."""
    b, hidden = loop.builder, loop["hidden"]
    from_x = b.icmp_signed("==", loop["x_blocks"], integer(0))

    def start(group: overlap.Group) -> None:
        where = now, group.first, group.size, group.panel, group.sums
        _start_sums(loop, ir.Constant(ir.IntType(1), 1), *where)
        with b.if_then(from_x):
            _add_x(loop, product, *where)

    def finish_row(group: overlap.Group, i: Any) -> None:
        finish(b.add(group.first, i), group.panel, loop.element(group.sums, (i, loop.line)))

    first, last = (b.mul(p, integer(amx.DEPTH)) for p in loop.panels(integer(amx.DEPTH)))
    last = loop.least(last, hidden)
    panels = b.sdiv(first, loop.lanes), loop.ceiling(last, loop.lanes)
    overlap.multiply(parts, b.sub(s, integer(1)), panels, rows, start, finish_row)
    output = loop.element(loop["output"], (now, hidden), (first, integer(1)))
    column = b.add(b.mul(loop["x_blocks"], integer(amx.DEPTH)), first)
    parts.write(s, (integer(0), rows), column, b.sub(last, first),
                lambda i: loop.element(output, (loop.row(i), hidden)))  # fmt: skip
    later, count_later = loop.place(after)
    _begin(loop, parts, s, later, count, count_later, loop.unit_share, loop.unit_shares)


@contextmanager
def _ready(loop: Loop, parts: amx.Parts | None) -> Iterator[None]:
    """Before the first time step by tiles: of what threads share each writes all, and all the
    same."""
    b = loop.builder
    if parts is None:
        yield
        return
    with amx.configured(loop):
        with b.if_then(b.icmp_signed(">", loop["steps"], integer(0))):
            t, _, _ = loop.times(integer(0))
            now, count = loop.place(t)
            _begin(loop, parts, integer(-1), now, integer(0), count, integer(0), integer(1))
        yield


def _begin(
    loop: Loop, parts: amx.Parts, s: Any, now: Any, count_before: Any, count: Any, share: Any,
    shares: Any,
) -> None:  # fmt: skip
    """Parts of a time step's x, and of h0 for rows whose first step it is: a share of the rows."""
    b, hidden, inputs = loop.builder, loop["hidden"], loop["inputs"]

    def mine(first: Any, last: Any) -> tuple[Any, Any]:
        size = loop.most(b.sub(last, first), integer(0))
        ends = (b.sdiv(b.mul(size, k), shares) for k in (share, b.add(share, integer(1))))
        start, stop = (b.add(first, end) for end in ends)
        return start, stop

    rows, continuing = loop.mine(count), loop.mine(count_before)
    inputs = b.select(b.icmp_signed(">", loop["x_blocks"], integer(0)), inputs, integer(0))
    parts.write(s, mine(integer(0), rows), integer(0), inputs,
                lambda i: loop.element(loop["x"], (b.add(now, loop.row(i)), inputs)))  # fmt: skip
    column = b.mul(loop["x_blocks"], integer(amx.DEPTH))
    parts.write(s, mine(continuing, rows), column, hidden,
                lambda i: loop.element(loop["h0"], (loop.row(i), hidden)))  # fmt: skip


def _add_x(
    loop: Loop, product: ir.Function, now: Any, first: Any, size: Any, panel: Any, sums: Any
) -> None:
    """The product with x, by vectors."""
    b, inputs = loop.builder, loop["inputs"]
    x = loop.element(loop["x"], (b.add(now, loop.row(first)), inputs))
    weight = loop.element(loop["weight"], (b.mul(panel, inputs), loop.line))
    b.call(product, [x, weight, sums, size, b.mul(loop.row_step, inputs), inputs])


def _start_sums(
    loop: Loop, from_x: Any, now: Any, first: Any, size: Any, panel: Any, sums: Any
) -> None:
    """The bias, or the input's share z_x where that was computed before."""
    b, e, lanes = loop.builder, loop.e, loop.target.lanes
    unit = b.mul(panel, loop.lanes)
    left = b.sub(loop["hidden"], unit)
    bias = loop.element(loop["bias"], (panel, loop.line))
    with counted(b, integer(0), size) as i:
        to = loop.element(sums, (i, loop.line))
        with b.if_else(from_x) as (then, otherwise):
            with then:
                for g in range(WIDTH):
                    e.store(e.load(e.at(bias, g * lanes)), e.at(to, g * lanes))
            with otherwise:
                row = b.add(now, loop.row(b.add(first, i)))
                gates = b.mul(loop["hidden"], integer(4))
                source = loop.element(loop["z_x"], (row, gates), (unit, integer(1)))
                for g in range(WIDTH):
                    part = loop.element(source, (loop["hidden"], integer(g)))
                    e.copy_line(part, e.at(to, g * lanes), loop.least(left, loop.lanes), 1)


def _finish_row(
    loop: Loop, step: Any, spare: dict[str, Any], training: bool, z: Any, here: Any, panel: Any,
    now: Any, earlier: Any, count_before: Any, sums: Sums | None,
) -> None:  # fmt: skip
    """The cell's formula on one row's sums z."""
    b, e, hidden = loop.builder, loop.e, loop["hidden"]
    unit = b.mul(panel, loop.lanes)
    left = b.sub(hidden, unit)
    keep = b.icmp_signed("!=", loop["keep_cells"], integer(0))
    goes_on = b.icmp_signed("<", here, count_before)
    kept = b.select(goes_on, loop["cells"], loop["c0"])
    previous_row = b.select(b.and_(keep, goes_on), b.add(earlier, here), here)
    c_row = b.select(keep, b.add(now, here), here)
    c_previous = loop.element(kept, (previous_row, hidden), (unit, integer(1)))
    c = loop.element(loop["cells"], (c_row, hidden), (unit, integer(1)))
    h = loop.element(loop["output"], (b.add(now, here), hidden), (unit, integer(1)))
    saved = loop["saved"]
    if training:
        gates = b.mul(hidden, integer(4))
        saved = loop.element(saved, (b.add(now, here), gates), (unit, integer(1)))
    vectors = e.at(loop["vectors"], unit)
    vector_stride = b.mul(loop.ceiling(hidden, loop.lanes), loop.lanes)
    measures = loop["measures"] if sums is None else sums.start
    whole = b.icmp_signed(">=", left, loop.lanes)
    with b.if_else(whole) as (then, otherwise):
        with then:
            b.call(step, [z, c_previous, c, h, saved, vectors, measures, hidden, vector_stride,
                          loop.lanes])  # fmt: skip
        with otherwise:
            e.copy(c_previous, spare["c_previous"], left)
            b.call(step, [z, spare["c_previous"], spare["c"], spare["h"], spare["saved"],
                          vectors, measures, loop.lanes, vector_stride, left])  # fmt: skip
            e.copy(spare["c"], c, left)
            e.copy(spare["h"], h, left)
            if training:
                for g in range(WIDTH):
                    source = e.at(spare["saved"], g * loop.target.lanes)
                    e.copy(source, loop.element(saved, (hidden, integer(g))), left)
