"""The forward time loop: products, then the cell's formula on their sums while in cache."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from ...cells import Cell
from ...cells.celltype import before
from ...cells.derive import saved_name
from ...cells.measures import measured
from ..layout import Layout, layout_of
from . import amx, overlap
from .emit import Emitter, Target, counted, function
from .formula import evaluate, only
from .loops import Loop, external_product, integer
from .measuring import Sums, add_slots
from .strips import Strip, call_step

__all__ = ["emit_forward", "forward_arguments"]


def forward_arguments(states: int) -> tuple[str, ...]:
    """The names of the kernel's arguments for a cell of so many states.

    N rows in all: T*B, or those of a packed batch, where offsets [T + 1] has the first row of each
    time step (else it is null). P panels, of which the first n_x see x and the last n_h state 0.
    x [N, I] with inputs = I, or z_x [N, n_x*H], in the order of weight_ih, with inputs = 0; weight
    packed [group of units, I, n_x, lane], recurrent [group, H, n_h, lane]; bias [group, P, lane];
    vectors [number, padded H], the cell's parameters of each unit; masks [N, M*H]; saved [N, K*H].
    start0, start1 ...: the states before the first step, [B, H]; state0, state1 ...: the states of
    all steps, [N, H]. Without `keep`, those that are neither state 0 nor the output are [B, H] in
    place, begin as what start0 ... hold, and start0 ... are the same addresses.
    arrived: an i64 that is 0. measures [threads, T, numbers] float64, of a measuring kernel. By
    tiles (amx.py): parts: room for the parts of x and h, x_blocks blocks of K of x, 0 where x is
    multiplied by vectors; recurrent holds the parts of both weights, of the blocks that there are.
    """
    return (
        "steps",
        "batch",
        "inputs",
        "hidden",
        "offsets",
        "x",
        "z_x",
        "weight",
        "recurrent",
        "bias",
        "vectors",
        "masks",
        "saved",
        "keep",
        "reverse",
        "by_units",
        "arrived",
        "measures",
        "parts",
        "x_blocks",
        *(f"start{k}" for k in range(states)),
        *(f"state{k}" for k in range(states)),
    )


@dataclass(frozen=True)
class _Step:
    """The cell's formula on one vector of units of one row: forward_step(z, STATE_before that are
    used..., masks if there are any, new states..., saved for training, vectors, measures, stride,
    vector_stride, units). reads: the numbers of the states that are used."""

    function: ir.Function
    reads: tuple[int, ...]


def _emit_step(
    module: ir.Module, target: Target, cell: Cell, training: bool, measuring: bool
) -> _Step:
    kind, layout = cell.type, layout_of(cell)
    saved = cell.saved if training else ()
    program = measured(cell).forward if measuring else cell.forward
    unused = {saved_name(name) for name in cell.saved} - {saved_name(name) for name in saved}
    program = only(program, tuple(name for name, _ in program.outputs if name not in unused))
    reads = tuple(k for k, s in enumerate(kind.states) if before(s) in program.inputs)
    pointers = 1 + len(reads) + bool(layout.masks) + layout.states + bool(saved) + 2
    step = function(module, "forward_step", pointers, 3)
    step.linkage = "internal"
    e = Emitter(ir.IRBuilder(step.append_basic_block("entry")), target)
    places = iter(step.args)
    z = next(places)
    inputs = {p.name: e.load(e.at(z, k * target.lanes)) for k, p in enumerate(cell.products)}
    inputs |= {before(kind.states[k]): e.load(next(places)) for k in reads}
    stride, vector_stride, units = step.args[-3:]
    if layout.masks:
        inputs |= _load_all(e, kind.masks, next(places), stride)
    results = [(state, next(places)) for state in kind.states]
    saved_at = next(places) if saved else None
    vectors, sums = next(places), next(places)
    outputs = evaluate(e, cell, program, inputs, vectors, vector_stride)
    for state, place in results:
        e.store(outputs[state], place)
    for k, name in enumerate(saved):
        e.store(outputs[saved_name(name)], e.at(saved_at, e.builder.mul(stride, integer(k))))
    if measuring:
        add_slots(Sums(measured(cell).numbers, e, sums), cell, outputs, units)
    e.builder.ret_void()
    return _Step(step, reads)


def _load_all(e: Emitter, names: tuple[str, ...], place: Any, stride: Any) -> dict[str, Any]:
    """Vectors that lie `stride` numbers apart, by name."""
    return {
        name: e.load(e.at(place, e.builder.mul(stride, integer(k)))) for k, name in enumerate(names)
    }


def emit_forward(
    module: ir.Module, target: Target, cell: Cell, training: bool, measuring: bool
) -> ir.Function:
    """Define forward_share(arguments, thread, threads)."""
    layout = layout_of(cell)
    step = _emit_step(module, target, cell, training, measuring)
    names = forward_arguments(layout.states)
    loop = Loop(module, "forward_share", target, names, layout.panels)
    b = loop.builder
    sums = Sums(measured(cell).numbers, loop.e) if measuring else None
    parts = None
    if target.amx:
        blocks = b.add(loop["x_blocks"], loop.ceiling(loop["hidden"], integer(amx.DEPTH)))
        parts = amx.Parts(loop, blocks)
    with loop.body(), _prepared(loop, parts), counted(b, integer(0), loop["steps"]) as s:
        t, t_before, t_after = loop.times(s)
        now, count = loop.place(t)
        earlier, count_before = loop.place(t_before)
        rows = loop.thread_rows(count)
        if sums is not None:
            sums.clear()

        def finish(place: Any, panel: Any, z: Any) -> None:
            row = loop.row(place)
            _finish_row(
                loop, layout, step, training, z, row, panel, now, earlier, count_before, sums
            )

        if parts:
            _by_tiles(loop, layout, parts, s, now, t_after, count, rows, finish)
        else:
            _by_vectors(loop, layout, now, earlier, count_before, rows, finish)
        if sums is not None:
            sums.write(sums.line(loop, t))
        loop.finish_step(b.add(s, integer(1)))
    return loop.function


def _by_vectors(
    loop: Loop, layout: Layout, now: Any, earlier: Any, count_before: Any, rows: Any, finish: Any
) -> None:
    """A time step whose products are made by vectors."""
    b, hidden = loop.builder, loop["hidden"]
    from_x = b.icmp_signed(">", loop["inputs"], integer(0))
    continuing = loop.minimum(rows, loop.thread_rows(count_before))
    columns = len(layout.from_h)
    product = external_product(loop.module, loop.target, columns, layout.panels)
    width = integer(columns * loop.target.lanes)
    with counted(b, *loop.panels(loop.lanes)) as panel, loop.groups(rows) as (first, size):
        row = loop.row(first)
        _start_sums(loop, layout, from_x, now, first, size, panel, loop.sums)
        if layout.from_x:
            with b.if_then(from_x):
                _add_x(loop, layout, now, first, size, panel, loop.sums)
        recurrent = loop.element(loop["recurrent"], (b.mul(panel, hidden), width))
        lda = b.mul(loop.row_step, hidden)
        going = loop.split(first, size, continuing)
        state_sums = loop.e.at(loop.sums, layout.first_from_h * loop.target.lanes)
        h = loop.element(loop["state0"], (b.add(earlier, row), hidden))
        b.call(product, [h, recurrent, state_sums, going, lda, hidden])
        h = loop.element(loop["start0"], (loop.row(b.add(first, going)), hidden))
        rest = loop.element(state_sums, (going, loop.line))
        b.call(product, [h, recurrent, rest, b.sub(size, going), lda, hidden])
        with counted(b, integer(0), size) as i:
            finish(b.add(first, i), panel, loop.element(loop.sums, (i, loop.line)))


def _by_tiles(
    loop: Loop,
    layout: Layout,
    parts: amx.Parts,
    s: Any,
    now: Any,
    t_after: Any,
    count: Any,
    rows: Any,
    finish: Any,
) -> None:
    """A time step whose products are made by tiles; and the parts of x and h for the next one."""
    b, hidden = loop.builder, loop["hidden"]
    from_x = b.icmp_signed("==", loop["x_blocks"], integer(0))

    def start(group: overlap.Group) -> None:
        where = now, group.first, group.size, group.panel, group.sums
        _start_sums(loop, layout, ir.Constant(ir.IntType(1), 1), *where)
        with b.if_then(from_x):
            _add_x(loop, layout, *where)

    def finish_row(group: overlap.Group, i: Any) -> None:
        finish(b.add(group.first, i), group.panel, loop.element(group.sums, (i, loop.line)))

    first, last = (b.mul(p, integer(amx.DEPTH)) for p in loop.panels(integer(amx.DEPTH)))
    last = loop.minimum(last, hidden)
    panels = b.sdiv(first, loop.lanes), loop.ceiling(last, loop.lanes)
    overlap.multiply(parts, b.sub(s, integer(1)), panels, rows, start, finish_row)
    states = loop.element(loop["state0"], (now, hidden), (first, integer(1)))
    column = b.add(b.mul(loop["x_blocks"], integer(amx.DEPTH)), first)
    parts.write(
        s,
        (integer(0), rows),
        column,
        b.sub(last, first),
        lambda i: loop.element(states, (loop.row(i), hidden)),
    )
    later, count_later = loop.place(t_after)
    _begin(loop, parts, s, later, count, count_later, loop.unit_share, loop.unit_shares)


@contextmanager
def _prepared(loop: Loop, parts: amx.Parts | None) -> Iterator[None]:
    """The kernel's code, before it by tiles the parts of the first time step: of what threads share
    each writes all, and all the same."""
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
    loop: Loop,
    parts: amx.Parts,
    s: Any,
    now: Any,
    count_before: Any,
    count: Any,
    share: Any,
    shares: Any,
) -> None:
    """Parts of a time step's x, and of start0 for rows whose first step it is: a share of the
    rows."""
    b, hidden, inputs = loop.builder, loop["hidden"], loop["inputs"]

    def share_of(first: Any, last: Any) -> tuple[Any, Any]:
        size = loop.maximum(b.sub(last, first), integer(0))
        ends = (b.sdiv(b.mul(size, k), shares) for k in (share, b.add(share, integer(1))))
        start, stop = (b.add(first, end) for end in ends)
        return start, stop

    rows, continuing = loop.thread_rows(count), loop.thread_rows(count_before)
    inputs = b.select(b.icmp_signed(">", loop["x_blocks"], integer(0)), inputs, integer(0))
    parts.write(
        s,
        share_of(integer(0), rows),
        integer(0),
        inputs,
        lambda i: loop.element(loop["x"], (b.add(now, loop.row(i)), inputs)),
    )
    column = b.mul(loop["x_blocks"], integer(amx.DEPTH))
    parts.write(
        s,
        share_of(continuing, rows),
        column,
        hidden,
        lambda i: loop.element(loop["start0"], (loop.row(i), hidden)),
    )


def _add_x(
    loop: Loop, layout: Layout, now: Any, first: Any, size: Any, panel: Any, sums: Any
) -> None:
    """The product with x, by vectors."""
    b, inputs, columns = loop.builder, loop["inputs"], len(layout.from_x)
    product = external_product(loop.module, loop.target, columns, layout.panels)
    x = loop.element(loop["x"], (b.add(now, loop.row(first)), inputs))
    width = integer(columns * loop.target.lanes)
    weight = loop.element(loop["weight"], (b.mul(panel, inputs), width))
    b.call(product, [x, weight, sums, size, b.mul(loop.row_step, inputs), inputs])


def _start_sums(
    loop: Loop,
    layout: Layout,
    from_x: Any,
    now: Any,
    first: Any,
    size: Any,
    panel: Any,
    sums: Any,
) -> None:
    """The bias, or the input's share z_x where that was computed before."""
    b, e, lanes = loop.builder, loop.e, loop.target.lanes
    unit = b.mul(panel, loop.lanes)
    left = b.sub(loop["hidden"], unit)
    bias = loop.element(loop["bias"], (panel, loop.line))

    def copy_bias(to: Any, panels: range) -> None:
        for k in panels:
            e.store(e.load(e.at(bias, k * lanes)), e.at(to, k * lanes))

    with counted(b, integer(0), size) as i:
        to = loop.element(sums, (i, loop.line))
        if not layout.from_x:
            copy_bias(to, range(layout.panels))
            return
        with b.if_else(from_x) as (then, otherwise):
            with then:
                copy_bias(to, range(layout.panels))
            with otherwise:
                row = b.add(now, loop.row(b.add(first, i)))
                width = b.mul(loop["hidden"], integer(len(layout.from_x)))
                source = loop.element(loop["z_x"], (row, width), (unit, integer(1)))
                for k, block in enumerate(layout.from_x):
                    part = loop.element(source, (loop["hidden"], integer(block)))
                    e.copy_line(part, e.at(to, k * lanes), loop.minimum(left, loop.lanes), 1)
                copy_bias(to, range(len(layout.from_x), layout.panels))


def _finish_row(
    loop: Loop,
    layout: Layout,
    step: _Step,
    training: bool,
    z: Any,
    here: Any,
    panel: Any,
    now: Any,
    earlier: Any,
    count_before: Any,
    sums: Sums | None,
) -> None:
    """The cell's formula on one row's sums z."""
    b, e, hidden = loop.builder, loop.e, loop["hidden"]
    unit = b.mul(panel, loop.lanes)
    row = b.add(now, here)
    goes_on = b.icmp_signed("<", here, count_before)
    keep = b.icmp_signed("!=", loop["keep"], integer(0))

    def strip(name: str, at_row: Any, vectors: int = 1) -> Strip:
        width = b.mul(hidden, integer(vectors))
        return Strip(loop.element(loop[name], (at_row, width), (unit, integer(1))), vectors)

    def is_kept(state: int) -> Any:
        always = state in (0, layout.output)
        return ir.Constant(ir.IntType(1), 1) if always else keep

    reads = []
    for k in step.reads:
        base = b.select(goes_on, loop[f"state{k}"], loop[f"start{k}"])
        row_before = b.select(b.and_(is_kept(k), goes_on), b.add(earlier, here), here)
        place = loop.element(base, (row_before, hidden), (unit, integer(1)))
        reads.append(Strip(place))
    if layout.masks:
        reads.append(strip("masks", row, layout.masks))
    writes = [strip(f"state{k}", b.select(is_kept(k), row, here)) for k in range(layout.states)]
    if training and layout.saved:
        writes.append(strip("saved", row, layout.saved))
    vector_stride = b.mul(loop.ceiling(hidden, loop.lanes), loop.lanes)
    measures = loop["measures"] if sums is None else sums.start
    after = [e.at(loop["vectors"], unit), measures]
    call_step(loop, step.function, b.sub(hidden, unit), [z], reads, writes, after, vector_stride)
