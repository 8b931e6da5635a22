"""The backward time loop: from the gradients of states to those of the pre-activations."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from ...cells import Cell
from ...cells.celltype import before
from ...cells.derive import grad, saved_name
from ...cells.measures import direct, measured, total
from ..layout import Layout, layout_of
from . import amx, overlap
from .emit import PTR, Emitter, Target, counted, function
from .formula import evaluate, only
from .loops import Loop, external_product, integer
from .measuring import Sums, add_norms
from .strips import Strip, call_step
from .tile import WIDTH

__all__ = ["backward_arguments", "emit_backward"]


def backward_arguments(states: int) -> tuple[str, ...]:
    """The names of the kernel's arguments for a cell of so many states.

    Rows, panels, start0 ... and state0 ... as in `forward_arguments`, all states of all steps.
    recurrent packed [group of 4 lanes' units, n_h*H, unit]; grad_z [N, P*H] is the result; the
    step after the last one of this call has its own at grad_z_after, where row 0 would be.
    step0, step1 ... [N, H]: dL by each state that does not come through another of this layer's
    values; step0 is there always, the others may be null. grad0, grad1 ... [B, H]: dL by the last
    states; each but grad0 is overwritten with the gradient of the state before the first step,
    grad0 where a line uses state 0 before the step: then with its part besides R^T grad_z.
    grad_vectors [threads, number, padded H] is added to. Of the steps in the order that they were
    taken forward, those from `last` - 1 down to `first` are done. measures [threads, T, norms]
    float64, of a measuring kernel. By tiles (amx.py): recurrent holds the weight's parts; parts is
    room for those of grad_z, zeros before the first call.
    """
    return (
        "steps",
        "batch",
        "hidden",
        "offsets",
        "recurrent",
        "vectors",
        "masks",
        "saved",
        "grad_z",
        "grad_z_after",
        "grad_vectors",
        "reverse",
        "by_units",
        "first",
        "last",
        "arrived",
        "measures",
        "parts",
        *(f"{name}{k}" for name in ("start", "state", "step", "grad") for k in range(states)),
    )


@dataclass(frozen=True)
class _Step:
    """The derivative of the cell's formula on one vector of units of one row: backward_step(grad of
    state 0, direct gradients (2 or more when measuring), saved if there is any, STATE_before and
    STATE that are used..., masks if there are any, grads of the states from 1 on..., grad_z, new
    grads of the states that are carried on..., vectors, grad_vectors, measures, stride,
    vector_stride, units).

    reads, news: the numbers of the states that are used, before and after the step. carried: those
    whose running gradients are written.
    """

    function: ir.Function
    reads: tuple[int, ...]
    news: tuple[int, ...]
    carried: tuple[int, ...]


def _emit_step(module: ir.Module, target: Target, cell: Cell, measuring: bool) -> _Step:
    kind, layout = cell.type, layout_of(cell)
    states = range(layout.states)
    carried = tuple(k for k in states if k or layout.carried)
    names = [grad(p.name) for p in cell.products]
    names += [grad(before(kind.states[k])) for k in carried]
    names += [grad(name) for name in cell.per_unit]
    program = cell.backward
    if measuring:
        program = measured(cell).backward
        names += [f(state) for f in (total, direct) for state in kind.states]
    program = only(program, tuple(names))
    reads = tuple(k for k in states if before(kind.states[k]) in program.inputs)
    news = tuple(k for k in states if kind.states[k] in program.inputs)
    directs = layout.states if measuring else 0
    pointers = 1 + directs + bool(layout.saved) + len(reads) + len(news) + bool(layout.masks)
    pointers += layout.states - 1 + 1 + len(carried) + 3
    step = function(module, "backward_step", pointers, 3)
    step.linkage = "internal"
    e = Emitter(ir.IRBuilder(step.append_basic_block("entry")), target)
    b = e.builder
    places = iter(step.args)
    stride, vector_stride, units = step.args[-3:]

    def load_all(names: tuple[str, ...]) -> None:
        place = next(places)
        for k, name in enumerate(names):
            inputs[name] = e.load(e.at(place, b.mul(stride, integer(k))))

    inputs = {grad(kind.states[0]): e.load(next(places))}
    if measuring:
        inputs |= {direct(state): e.load(next(places)) for state in kind.states}
    if layout.saved:
        load_all(tuple(saved_name(name) for name in cell.saved))
    inputs |= {before(kind.states[k]): e.load(next(places)) for k in reads}
    inputs |= {kind.states[k]: e.load(next(places)) for k in news}
    if layout.masks:
        load_all(kind.masks)
    inputs |= {grad(state): e.load(next(places)) for state in kind.states[1:]}
    grad_z = next(places)
    running = [(k, next(places)) for k in carried]
    vectors, grad_vectors, measures = (next(places) for _ in range(3))
    outputs = evaluate(e, cell, program, inputs, vectors, vector_stride)
    for k, product in enumerate(cell.products):
        e.store(outputs[grad(product.name)], e.at(grad_z, b.mul(stride, integer(k))))
    for k, place in running:
        e.store(outputs[grad(before(kind.states[k]))], place)
    for k, name in enumerate(cell.per_unit):
        place = e.at(grad_vectors, b.mul(vector_stride, integer(k)))
        e.store(b.fadd(e.load(place), outputs[grad(name)]), place)
    if measuring:
        names_of = {"grad": total, "direct": direct}
        norms = {(s, what): outputs[f(s)] for s in kind.states for what, f in names_of.items()}
        add_norms(Sums(measured(cell).norms, e, measures), norms, units)
    b.ret_void()
    return _Step(step, reads, news, carried)


def emit_backward(module: ir.Module, target: Target, cell: Cell, measuring: bool) -> ir.Function:
    """Define backward_share(arguments, thread, threads)."""
    layout = layout_of(cell)
    step = _emit_step(module, target, cell, measuring)
    loop = Loop(module, "backward_share", target, backward_arguments(layout.states), WIDTH)
    b, e = loop.builder, loop.e
    hidden = loop["hidden"]
    norms = Sums(measured(cell).norms, e) if measuring else None
    directs = [e.buffer(1) for _ in range(layout.states)] if measuring else []
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
        t, t_before, t_after = loop.times(s)
        now, count = loop.place(t)
        earlier, count_before = loop.place(t_before)
        later, count_after = loop.place(t_after)
        rows = loop.thread_rows(count)
        continuing = loop.minimum(rows, loop.thread_rows(count_after))
        if norms is not None:
            norms.clear()

        def finish(place: Any, unit: Any, grad_0: Any) -> None:
            here = loop.row(place)
            for k, buffer in enumerate(directs):
                _find_direct(loop, k, buffer, now, here, unit, count_after)
            for k in range(1, layout.states):
                _add_step_gradient(loop, k, now, here, unit)
            measures = loop["measures"] if norms is None else norms.start
            vectors = [e.at(loop["vectors"], unit), e.at(grad_vectors, unit), measures]
            _finish_row(
                loop,
                layout,
                step,
                [grad_0, *directs],
                vectors,
                here,
                unit,
                padded,
                now,
                earlier,
                count_before,
            )

        if parts:
            _by_tiles(loop, layout, parts, s, now, continuing, rows, finish)
        else:
            ends = b.icmp_signed("==", k, loop["first"])
            after = b.select(ends, loop["grad_z_after"], loop["grad_z"])
            _by_vectors(loop, layout, now, after, later, continuing, rows, finish)
        if norms is not None:
            norms.write(norms.line(loop, t))
        loop.finish_step(b.add(b.sub(k, loop["first"]), integer(1)))
    return loop.function


def _by_vectors(
    loop: Loop,
    layout: Layout,
    now: Any,
    grad_z: Any,
    later: Any,
    continuing: Any,
    rows: Any,
    finish: Any,
) -> None:
    """A time step whose products are made by vectors. grad_z: where that of the step after is."""
    b, hidden = loop.builder, loop["hidden"]
    product = external_product(loop.module, loop.target, WIDTH, WIDTH)
    width = b.mul(hidden, integer(layout.panels))
    depth = b.mul(hidden, integer(len(layout.from_h)))
    column = b.mul(hidden, integer(layout.first_from_h))
    with counted(b, *loop.panels(loop.line)) as panel, loop.groups(rows) as (first, group):
        unit = b.mul(panel, loop.line)
        size = loop.minimum(b.sub(hidden, unit), loop.line)
        _start_sums(loop, now, first, group, panel, loop.sums)
        going = loop.split(first, group, continuing)
        row = b.add(later, loop.row(first))
        z = loop.element(grad_z, (row, width), (column, integer(1)))
        recurrent = loop.element(loop["recurrent"], (b.mul(panel, depth), loop.line))
        lda = b.mul(loop.row_step, width)
        b.call(product, [z, recurrent, loop.sums, going, lda, depth])
        # At a row's last step there is the gradient of its last state; at each, what a line that
        # uses the state before the step has left there.
        with counted(b, integer(0) if layout.carried else going, group) as i:
            sums = loop.element(loop.sums, (i, loop.line))
            _add_running(loop, loop.row(b.add(first, i)), panel, sums)
        with (
            counted(b, integer(0), group) as i,
            counted(b, integer(0), size, loop.target.lanes) as v,
        ):
            grad_0 = loop.element(loop.sums, (i, loop.line), (v, integer(1)))
            finish(b.add(first, i), b.add(unit, v), grad_0)


def _by_tiles(
    loop: Loop,
    layout: Layout,
    parts: amx.Parts,
    s: Any,
    now: Any,
    continuing: Any,
    rows: Any,
    finish: Any,
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
        if layout.carried:
            _add_running(loop, loop.row(place), group.panel, sums)
        else:
            with b.if_then(b.icmp_signed(">=", place, continuing)):
                _add_running(loop, loop.row(place), group.panel, sums)
        size = loop.minimum(b.sub(hidden, unit), loop.line)
        with counted(b, integer(0), size, loop.target.lanes) as v:
            finish(place, b.add(unit, v), loop.e.at(sums, v))

    panels = loop.panels(loop.line)
    overlap.multiply(parts, b.add(s, integer(1)), panels, rows, start, finish_row)
    first, last = (b.mul(panel, loop.line) for panel in panels)
    size = b.sub(loop.minimum(last, hidden), first)
    with counted(b, integer(0), integer(WIDTH)) as gate:
        column = b.add(b.mul(width, gate), first)
        place = b.add(b.mul(hidden, gate), first)
        parts.write(
            s,
            (integer(0), rows),
            column,
            size,
            lambda i: loop.element(
                loop["grad_z"],
                (b.add(now, loop.row(i)), b.mul(hidden, integer(WIDTH))),
                (place, integer(1)),
            ),
        )


def _start_sums(loop: Loop, now: Any, first: Any, group: Any, panel: Any, sums: Any) -> None:
    """The gradient of state 0 at this step, without what comes through others of this layer."""
    b, hidden, unit = loop.builder, loop["hidden"], loop.builder.mul(panel, loop.line)
    size = loop.minimum(b.sub(hidden, unit), loop.line)
    with counted(b, integer(0), group) as i:
        here = b.add(now, loop.row(b.add(first, i)))
        source = loop.element(loop["step0"], (here, hidden), (unit, integer(1)))
        loop.e.copy_line(source, loop.element(sums, (i, loop.line)), size, WIDTH)


def _add_running(loop: Loop, row: Any, panel: Any, sums: Any) -> None:
    """grad0 of a batch row."""
    b, hidden, unit = loop.builder, loop["hidden"], loop.builder.mul(panel, loop.line)
    source = loop.element(loop["grad0"], (row, hidden), (unit, integer(1)))
    _add(loop.e, source, sums, loop.minimum(b.sub(hidden, unit), loop.line))


def _finish_row(
    loop: Loop,
    layout: Layout,
    step: _Step,
    first: list[Any],
    vectors: list[Any],
    here: Any,
    unit: Any,
    padded: Any,
    now: Any,
    earlier: Any,
    count_before: Any,
) -> None:
    """The derivative of the cell's formula at one row and one vector of units."""
    b, hidden = loop.builder, loop["hidden"]
    row = b.add(now, here)
    goes_on = b.icmp_signed("<", here, count_before)

    def strip(base: Any, at_row: Any, vectors: int = 1) -> Strip:
        width = b.mul(hidden, integer(vectors))
        return Strip(loop.element(base, (at_row, width), (unit, integer(1))), vectors)

    reads = [strip(loop["saved"], row, layout.saved)] if layout.saved else []
    row_before = b.select(goes_on, b.add(earlier, here), here)
    for k in step.reads:
        base = b.select(goes_on, loop[f"state{k}"], loop[f"start{k}"])
        reads.append(strip(base, row_before))
    reads += [strip(loop[f"state{k}"], row) for k in step.news]
    if layout.masks:
        reads.append(strip(loop["masks"], row, layout.masks))
    reads += [strip(loop[f"grad{k}"], here) for k in range(1, layout.states)]
    writes = [strip(loop["grad_z"], row, layout.panels)]
    writes += [strip(loop[f"grad{k}"], here) for k in step.carried]
    left = b.sub(hidden, unit)
    call_step(loop, step.function, left, first, reads, writes, vectors, padded)


def _find_direct(
    loop: Loop, state: int, buffer: Any, now: Any, here: Any, unit: Any, count_after: Any
) -> None:
    """dL by a state at one row and one vector of units, without what comes through a later step:
    the step's own gradient, and at the row's last step that of the last state."""
    b, e, hidden = loop.builder, loop.e, loop["hidden"]
    size = loop.minimum(b.sub(hidden, unit), loop.lanes)
    e.store(e.splat(0.0), buffer)
    with b.if_then(_is_given(loop, f"step{state}")):
        row = ((b.add(now, here), hidden), (unit, integer(1)))
        e.copy_line(loop.element(loop[f"step{state}"], *row), buffer, size, 1)
    with b.if_then(b.icmp_signed(">=", here, count_after)):
        _add(
            e, loop.element(loop[f"grad{state}"], (here, hidden), (unit, integer(1))), buffer, size
        )


def _add_step_gradient(loop: Loop, state: int, now: Any, here: Any, unit: Any) -> None:
    """To a state's running gradient what this step alone gives to it."""
    b, hidden = loop.builder, loop["hidden"]
    with b.if_then(_is_given(loop, f"step{state}")):
        size = loop.minimum(b.sub(hidden, unit), loop.lanes)
        source = loop.element(loop[f"step{state}"], (b.add(now, here), hidden), (unit, integer(1)))
        to = loop.element(loop[f"grad{state}"], (here, hidden), (unit, integer(1)))
        _add(loop.e, source, to, size)


def _is_given(loop: Loop, name: str) -> Any:
    return loop.builder.icmp_unsigned("!=", loop[name], ir.Constant(PTR, None))


def _add(e: Emitter, source: Any, destination: Any, count: Any) -> None:
    b = e.builder
    with counted(b, integer(0), count) as i:
        place = e.at(destination, i)
        p = b.load(e.at(source, i), align=e.target.size, typ=e.scalar)
        q = b.load(place, align=e.target.size, typ=e.scalar)
        b.store(b.fadd(p, q), place, align=e.target.size)
