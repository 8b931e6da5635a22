"""The backward time loop: from the gradients of output, h and c to those of the pre-activations."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from llvmlite import ir

from ...formulas.cell import GATES, Cell
from ...formulas.measures import NORMS, measured
from . import amx, overlap
from .emit import Emitter, Target, counted, function
from .formula import run, wanted
from .loops import Loop, integer
from .measuring import Sums, add_norms
from .tile import WIDTH

__all__ = ["BACKWARD", "emit_backward"]

BACKWARD = ("steps", "batch", "hidden", "offsets", "recurrent", "vectors", "c0", "cells", "saved",
            "grad_output", "grad_h", "grad_c", "grad_z", "grad_vectors", "reverse", "by_units",
            "first", "last", "arrived", "measures", "parts")  # fmt: skip
"""Rows as in FORWARD. recurrent packed [panel of 4 lanes' units, 4H, unit]; grad_output [N, H];
grad_c [B, H] is read and overwritten with the gradient of c0; grad_z [N, 4H] is the result;
grad_vectors [threads, number, padded H] is added to. Of the steps in the order
that they were taken forward, those from `last` - 1 down to `first` are done. measures [threads, T,
NORMS] float64, of a measuring kernel. By tiles (amx.py): recurrent holds the weight's parts; parts
is room for those of grad_z, zeros before the first call."""


def emit_step(module: ir.Module, target: Target, cell: Cell, measuring: bool) -> ir.Function:
    """backward_step(saved, c_previous, c, grad_h, grad_c, grad_z, vectors, grad_vectors, direct_h,
    direct_c, measures, saved_stride, grad_z_stride, vector_stride, units); grad_c is overwritten.
    direct_h, direct_c and measures are read by a measuring kernel alone."""
    step = function(module, "backward_step", 11, 4)
    step.linkage = "internal"
    e = Emitter(ir.IRBuilder(step.append_basic_block("entry")), target)
    b = e.builder
    saved, c_previous, c, grad_h, grad_c, grad_z, vectors, sums = step.args[:8]
    direct_h, direct_c, measures, saved_stride, stride, vector_stride, units = step.args[8:]
    inputs = {
        f"saved_{gate}": e.load(e.at(saved, b.mul(saved_stride, integer(k))))
        for k, gate in enumerate(GATES)
    }
    for name, place in (("c_previous", c_previous), ("c", c), ("grad_h", grad_h),
                        ("grad_c", grad_c)):  # fmt: skip
        inputs[name] = e.load(place)
    names = cell.per_unit
    numbers = tuple(f"grad_{p}" for p in cell.parameters if p not in names)
    program = cell.backward
    if measuring:
        program = measured(cell).backward
        inputs |= {"direct_h": e.load(direct_h), "direct_c": e.load(direct_c)}
    program = wanted(program, True, skip=numbers)
    outputs = run(e, cell, program, inputs, vectors, vector_stride)
    for k, gate in enumerate(GATES):
        e.store(outputs[f"grad_z_{gate}"], e.at(grad_z, b.mul(stride, integer(k))))
    e.store(outputs["grad_c_previous"], grad_c)
    for k, name in enumerate(names):
        place = e.at(sums, b.mul(vector_stride, integer(k)))
        e.store(b.fadd(e.load(place), outputs[f"grad_{name}"]), place)
    if measuring:
        norms = {"grad_h": inputs["grad_h"], "grad_h_direct": inputs["direct_h"],
                 "grad_c": outputs["grad_c_total"],
                 "grad_c_direct": outputs["grad_c_direct"]}  # fmt: skip
        add_norms(Sums(NORMS, e, measures), norms, units)
    b.ret_void()
    return step


def emit_backward(
    module: ir.Module, target: Target, cell: Cell, product: ir.Function, measuring: bool
) -> ir.Function:
    """Define backward_share(arguments, thread, threads)."""
    step = emit_step(module, target, cell, measuring)
    loop = Loop(module, "backward_share", target, BACKWARD)
    b, e = loop.builder, loop.e
    hidden = loop["hidden"]
    spare = {name: e.buffer(size) for name, size in
             (("saved", WIDTH), ("c_previous", 1), ("c", 1), ("grad_c", 1),
              ("grad_z", WIDTH), ("direct_h", 1), ("direct_c", 1))}  # fmt: skip
    norms = Sums(NORMS, e) if measuring else None
    padded = b.mul(loop.ceiling(hidden, loop.lanes), loop.lanes)
    share = b.mul(loop.thread, integer(len(cell.per_unit)))
    grad_vectors = loop.element(loop["grad_vectors"], (share, padded))
    parts = None
    if target.amx:
        blocks = loop.ceiling(hidden, integer(amx.DEPTH))
        parts = amx.Parts(loop, b.mul(blocks, integer(WIDTH)))
    ready = amx.configured(loop) if parts else nullcontext()
    with loop.body(), ready, counted(b, loop["first"], loop["last"]) as k:
        s = b.sub(b.add(loop["first"], b.sub(loop["last"], integer(1))), k)
        t, before, after = loop.times(s)
        now, count = loop.place(t)
        earlier, count_before = loop.place(before)
        later, count_after = loop.place(after)
        rows = loop.mine(count)
        continuing = loop.least(rows, loop.mine(count_after))
        if norms is not None:
            norms.clear()

        def finish(place: Any, unit: Any, grad_h: Any) -> None:
            here = loop.row(place)
            if norms is not None:
                _find_direct(loop, spare, now, here, unit, count_after)
            _finish_row(loop, step, spare, here, unit, grad_h, e.at(grad_vectors, unit),
                        padded, now, earlier, count_before, norms)  # fmt: skip

        if parts:
            _by_tiles(loop, parts, s, now, continuing, rows, finish)
        else:
            _by_vectors(loop, product, now, later, continuing, rows, finish)
        if norms is not None:
            norms.write(norms.line(loop, t))
        loop.finish_step(b.add(b.sub(k, loop["first"]), integer(1)))
    return loop.function


def _by_vectors(
    loop: Loop, product: ir.Function, now: Any, later: Any, continuing: Any, rows: Any, finish: Any
) -> None:
    """A time step whose products are made by vectors."""
    b, hidden = loop.builder, loop["hidden"]
    gates = b.mul(hidden, integer(4))
    with counted(b, *loop.panels(loop.line)) as panel, loop.groups(rows) as (first, group):
        unit = b.mul(panel, loop.line)
        size = loop.least(b.sub(hidden, unit), loop.line)
        _start_sums(loop, now, first, group, panel, loop.sums)
        going = loop.split(first, group, continuing)
        z = loop.element(loop["grad_z"], (b.add(later, loop.row(first)), gates))
        recurrent = loop.element(loop["recurrent"], (b.mul(panel, gates), loop.line))
        lda = b.mul(loop.row_step, gates)
        b.call(product, [z, recurrent, loop.sums, going, lda, gates])
        with counted(b, going, group) as i:  # the rows' last step
            sums = loop.element(loop.sums, (i, loop.line))
            _add_last(loop, loop.row(b.add(first, i)), panel, sums)
        with counted(b, integer(0), group) as i, \
                counted(b, integer(0), size, loop.target.lanes) as v:  # fmt: skip
            grad_h = loop.element(loop.sums, (i, loop.line), (v, integer(1)))
            finish(b.add(first, i), b.add(unit, v), grad_h)


def _by_tiles(
    loop: Loop, parts: amx.Parts, s: Any, now: Any, continuing: Any, rows: Any, finish: Any
) -> None:
    """A time step whose products are made by tiles. Rows whose last step it is have zeros as parts,
    because nothing was written there yet."""
    b, hidden = loop.builder, loop["hidden"]
    width = b.mul(loop.ceiling(hidden, integer(amx.DEPTH)), integer(amx.DEPTH))

    def start(group: overlap.Group) -> None:
        _start_sums(loop, now, group.first, group.size, group.panel, group.sums)

    def finish_row(group: overlap.Group, i: Any) -> None:
        place, unit = b.add(group.first, i), b.mul(group.panel, loop.line)
        sums = loop.element(group.sums, (i, loop.line))
        with b.if_then(b.icmp_signed(">=", place, continuing)):
            _add_last(loop, loop.row(place), group.panel, sums)
        size = loop.least(b.sub(hidden, unit), loop.line)
        with counted(b, integer(0), size, loop.target.lanes) as v:
            finish(place, b.add(unit, v), loop.e.at(sums, v))

    panels = loop.panels(loop.line)
    overlap.multiply(parts, b.add(s, integer(1)), panels, rows, start, finish_row)
    first, last = (b.mul(panel, loop.line) for panel in panels)
    size = b.sub(loop.least(last, hidden), first)
    with counted(b, integer(0), integer(WIDTH)) as gate:
        column = b.add(b.mul(width, gate), first)
        place = b.add(b.mul(hidden, gate), first)
        parts.write(s, (integer(0), rows), column, size, lambda i: loop.element(
            loop["grad_z"], (b.add(now, loop.row(i)), b.mul(hidden, integer(WIDTH))),
            (place, integer(1))))  # fmt: skip


def _start_sums(loop: Loop, now: Any, first: Any, group: Any, panel: Any, sums: Any) -> None:
    """The gradient of the output."""
    b, hidden, unit = loop.builder, loop["hidden"], loop.builder.mul(panel, loop.line)
    size = loop.least(b.sub(hidden, unit), loop.line)
    with counted(b, integer(0), group) as i:
        here = b.add(now, loop.row(b.add(first, i)))
        source = loop.element(loop["grad_output"], (here, hidden), (unit, integer(1)))
        loop.e.copy_line(source, loop.element(sums, (i, loop.line)), size, WIDTH)


def _add_last(loop: Loop, row: Any, panel: Any, sums: Any) -> None:
    """The gradient of a row's last h."""
    b, hidden, unit = loop.builder, loop["hidden"], loop.builder.mul(panel, loop.line)
    source = loop.element(loop["grad_h"], (row, hidden), (unit, integer(1)))
    _add(loop.e, source, sums, loop.least(b.sub(hidden, unit), loop.line))


def _finish_row(
    loop: Loop, step: Any, spare: dict[str, Any], here: Any, unit: Any, grad_h: Any,
    grad_vectors: Any, padded: Any, now: Any, earlier: Any, count_before: Any, norms: Sums | None,
) -> None:  # fmt: skip
    """The derivative of the cell's formula at one row and one vector of units."""
    b, e, hidden, lanes = loop.builder, loop.e, loop["hidden"], loop.target.lanes
    gates = b.mul(hidden, integer(4))
    at = b.add(now, here)
    saved = loop.element(loop["saved"], (at, gates), (unit, integer(1)))
    grad_z = loop.element(loop["grad_z"], (at, gates), (unit, integer(1)))
    c = loop.element(loop["cells"], (at, hidden), (unit, integer(1)))
    goes_on = b.icmp_signed("<", here, count_before)
    kept = b.select(goes_on, loop["cells"], loop["c0"])
    previous_row = b.select(goes_on, b.add(earlier, here), here)
    c_previous = loop.element(kept, (previous_row, hidden), (unit, integer(1)))
    grad_c = loop.element(loop["grad_c"], (here, hidden), (unit, integer(1)))
    vectors = e.at(loop["vectors"], unit)
    left = b.sub(hidden, unit)
    direct = [spare["direct_h"], spare["direct_c"],
              loop["measures"] if norms is None else norms.start]  # fmt: skip
    whole = b.icmp_signed(">=", left, loop.lanes)
    with b.if_else(whole) as (then, otherwise):
        with then:
            b.call(step, [saved, c_previous, c, grad_h, grad_c, grad_z, vectors, grad_vectors,
                          *direct, hidden, hidden, padded, loop.lanes])  # fmt: skip
        with otherwise:
            for g in range(WIDTH):
                source = loop.element(saved, (hidden, integer(g)))
                e.copy(source, e.at(spare["saved"], g * lanes), left)
            e.copy(c_previous, spare["c_previous"], left)
            e.copy(c, spare["c"], left)
            e.copy(grad_c, spare["grad_c"], left)
            b.call(step, [spare["saved"], spare["c_previous"], spare["c"], grad_h,
                          spare["grad_c"], spare["grad_z"], vectors, grad_vectors, *direct,
                          loop.lanes, loop.lanes, padded, left])  # fmt: skip
            e.copy(spare["grad_c"], grad_c, left)
            for g in range(WIDTH):
                to = loop.element(grad_z, (hidden, integer(g)))
                e.copy(e.at(spare["grad_z"], g * lanes), to, left)


def _find_direct(
    loop: Loop, spare: dict[str, Any], now: Any, here: Any, unit: Any, count_after: Any
) -> None:
    """What arrives at h and c of one row and one vector of units, but not from a later step: the
    output's gradient, and at the row's last step those of the end state, which grad_c still is."""
    b, e, hidden = loop.builder, loop.e, loop["hidden"]
    size = loop.least(b.sub(hidden, unit), loop.lanes)
    source = loop.element(loop["grad_output"], (b.add(now, here), hidden), (unit, integer(1)))
    e.copy_line(source, spare["direct_h"], size, 1)
    e.store(e.splat(0.0), spare["direct_c"])
    with b.if_then(b.icmp_signed(">=", here, count_after)):
        row = ((here, hidden), (unit, integer(1)))
        _add(e, loop.element(loop["grad_h"], *row), spare["direct_h"], size)
        e.copy_line(loop.element(loop["grad_c"], *row), spare["direct_c"], size, 1)


def _add(e: Emitter, source: Any, destination: Any, count: Any) -> None:
    b = e.builder
    with counted(b, integer(0), count) as i:
        place = e.at(destination, i)
        p = b.load(e.at(source, i), align=e.target.size, typ=e.scalar)
        q = b.load(place, align=e.target.size, typ=e.scalar)
        b.store(b.fadd(p, q), place, align=e.target.size)
