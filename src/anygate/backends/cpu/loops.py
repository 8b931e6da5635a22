"""The time loops: forward and backward through all steps for a thread's own rows of the batch.

No thread ever waits for another: each takes its rows through every time step. The matrix products
are tiles; after each the cell's Program runs on the tile's sums while they are in the first-level
cache. Arguments come as one array of i64 (`FORWARD`, `BACKWARD` name its places).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ...symbolic.cell import GATES, Cell
from ...symbolic.program import Program, bind
from .emit import I32, I64, PTR, Emitter, Target, counted, function
from .ops import operations
from .tile import WIDTH, emit_tiles

__all__ = ["BACKWARD", "FORWARD", "emit_kernels"]

FORWARD = ("steps", "batch", "inputs", "hidden", "x", "z_x", "weight", "recurrent", "bias", "h0",
           "c0", "output", "cells", "cell_stride", "saved", "reverse")  # fmt: skip
"""x [T, B, I] with inputs = I, or z_x [T, B, 4H] with inputs = 0; weight and recurrent packed
[panel, K, gate, lane]; bias [panel, gate, lane]; cells [T, B, H] with cell_stride = B*H, or [B, H]
with 0; saved [T, B, 4H]."""
BACKWARD = ("steps", "batch", "hidden", "recurrent", "c0", "cells", "saved", "grad_output",
            "grad_h", "grad_c", "grad_z", "reverse")  # fmt: skip
"""recurrent packed [panel of 4 lanes' units, 4H, unit]; grad_c [B, H] is read and overwritten with
the gradient of c0; grad_z [T, B, 4H] is the result."""


def emit_kernels(target: Target, cell: Cell, training: bool) -> ir.Module:
    """A module with `forward(arguments, threads)`, for training also `backward`."""
    module = ir.Module("anygate")
    tile = emit_tiles(module, target)
    step = _emit_forward_step(module, target, cell, training)
    _emit_parallel(module, "forward", _emit_forward(module, target, tile, step, training))
    if training:
        step = _emit_backward_step(module, target, cell)
        _emit_parallel(module, "backward", _emit_backward(module, target, tile, step))
    return module


# ---- the cell on one vector of units of one row -------------------------------------------


def _emit_forward_step(module: ir.Module, target: Target, cell: Cell, training: bool) -> Any:
    """forward_step(z, c_previous, c, h, saved, gate_stride): z holds the four gates' vectors."""
    step = function(module, "forward_step", 5, 1)
    step.linkage = "internal"
    e = Emitter(ir.IRBuilder(step.append_basic_block("entry")), target)
    z, c_previous, c, h, saved, stride = step.args
    inputs = {f"z_{gate}": e.load(e.at(z, k * target.lanes)) for k, gate in enumerate(GATES)}
    inputs["c_previous"] = e.load(c_previous)
    outputs = _run(e, cell, _wanted(cell.forward, training), inputs)
    e.store(outputs["c"], c)
    e.store(outputs["h"], h)
    if training:
        for k, gate in enumerate(GATES):
            e.store(outputs[f"saved_{gate}"], e.at(saved, _times(e, stride, k)))
    e.builder.ret_void()
    return step


def _emit_backward_step(module: ir.Module, target: Target, cell: Cell) -> Any:
    """backward_step(saved, c_previous, c, grad_h, grad_c, grad_z, saved_stride, grad_z_stride);
    grad_c is read and overwritten."""
    step = function(module, "backward_step", 6, 2)
    step.linkage = "internal"
    e = Emitter(ir.IRBuilder(step.append_basic_block("entry")), target)
    saved, c_previous, c, grad_h, grad_c, grad_z, saved_stride, stride = step.args
    inputs = {
        f"saved_{gate}": e.load(e.at(saved, _times(e, saved_stride, k)))
        for k, gate in enumerate(GATES)
    }
    for name, place in (("c_previous", c_previous), ("c", c), ("grad_h", grad_h),
                        ("grad_c", grad_c)):  # fmt: skip
        inputs[name] = e.load(place)
    program = _wanted(cell.backward, True, skip=tuple(f"grad_{p}" for p in cell.parameters))
    outputs = _run(e, cell, program, inputs)
    for k, gate in enumerate(GATES):
        e.store(outputs[f"grad_z_{gate}"], e.at(grad_z, _times(e, stride, k)))
    e.store(outputs["grad_c_previous"], grad_c)
    e.builder.ret_void()
    return step


def _wanted(program: Program, saving: bool, skip: tuple[str, ...] = ()) -> Program:
    """The Program without outputs that nobody takes; LLVM drops what they alone needed."""
    outputs = tuple(
        (name, node)
        for name, node in program.outputs
        if name not in skip and (saving or not name.startswith("saved_"))
    )
    return Program(program.inputs, program.nodes, outputs)


def _run(e: Emitter, cell: Cell, program: Program, inputs: dict[str, Any]) -> dict[str, Any]:
    numbers = {name: e.splat(value) for name, value in cell.parameters.items()}
    return bind(program, operations(e))({**inputs, **numbers})


def _times(e: Emitter, stride: Any, k: int) -> Any:
    return e.builder.mul(stride, ir.Constant(I64, k))


# ---- the loops ------------------------------------------------------------------------------


class _Loop:
    """What both time loops share: arguments by name, rows in blocks, units in vectors."""

    def __init__(self, module: ir.Module, name: str, target: Target, names: tuple[str, ...]):
        self.function = function(module, name, 1, 2)
        self.builder = ir.IRBuilder(self.function.append_basic_block("entry"))
        self.e = Emitter(self.builder, target)
        self.target = target
        arguments, self.thread, self.threads = self.function.args
        self.names, self.arguments = names, arguments
        batch = self["batch"]
        self.first_row = self.share(batch, self.thread)
        self.last_row = self.share(batch, self.builder.add(self.thread, _int(1)))
        self.sums = self.e.buffer(target.rows * WIDTH)

    def __getitem__(self, name: str) -> Any:
        """An argument: an address, or an i64."""
        b = self.builder
        place = b.gep(self.arguments, [_int(self.names.index(name))], source_etype=I64)
        numbers = ("steps", "batch", "inputs", "hidden", "cell_stride", "reverse")
        return b.load(place, typ=I64 if name in numbers else PTR)

    def share(self, count: Any, thread: Any) -> Any:
        return self.builder.sdiv(self.builder.mul(count, thread), self.threads)

    def blocks(self) -> Any:
        """Blocks of at most target.rows rows, as even as they come."""
        b, most = self.builder, self.target.rows
        rows = b.sub(self.last_row, self.first_row)
        count = b.sdiv(b.add(rows, _int(most - 1)), _int(most))
        return rows, count

    def block(self, rows: Any, count: Any, k: Any) -> tuple[Any, Any]:
        """First row and number of rows of block k."""
        b = self.builder
        start = b.sdiv(b.mul(rows, k), count)
        stop = b.sdiv(b.mul(rows, b.add(k, _int(1))), count)
        return b.add(self.first_row, start), b.sub(stop, start)

    def element(self, base: Any, *terms: tuple[Any, Any]) -> Any:
        """The address base + sum of factor * factor."""
        total: Any = _int(0)
        for p, q in terms:
            total = self.builder.add(total, self.builder.mul(p, q))
        return self.e.at(base, total)


def _int(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


def _time(loop: _Loop, s: Any) -> tuple[Any, Any]:
    """The time step of the s-th step taken, and of the one before it."""
    b = loop.builder
    reverse = b.icmp_signed("!=", loop["reverse"], _int(0))
    mirrored = b.sub(b.sub(loop["steps"], _int(1)), s)
    t = b.select(reverse, mirrored, s)
    before = b.select(reverse, b.add(t, _int(1)), b.sub(t, _int(1)))
    return t, before


def _emit_forward(
    module: ir.Module, target: Target, tile: Any, step: Any, training: bool
) -> ir.Function:
    loop = _Loop(module, "forward_rows", target, FORWARD)
    loop.function.linkage = "internal"
    b, e, lanes = loop.builder, loop.e, _int(target.lanes)
    hidden, batch, inputs = loop["hidden"], loop["batch"], loop["inputs"]
    gates = b.mul(hidden, _int(4))
    panels = b.sdiv(b.add(hidden, _int(target.lanes - 1)), lanes)
    rows, blocks = loop.blocks()
    line = _int(WIDTH * target.lanes)
    spare = {name: e.buffer(size) for name, size in
             (("c_previous", 1), ("c", 1), ("h", 1), ("saved", WIDTH))}  # fmt: skip
    bh = b.mul(batch, hidden)
    with counted(b, _int(0), loop["steps"]) as s:
        t, before = _time(loop, s)
        first = b.icmp_signed("==", s, _int(0))
        h_previous = b.select(first, loop["h0"], loop.element(loop["output"], (before, bh)))
        c_previous = b.select(
            first, loop["c0"], loop.element(loop["cells"], (before, loop["cell_stride"]))
        )
        h_now = loop.element(loop["output"], (t, bh))
        c_now = loop.element(loop["cells"], (t, loop["cell_stride"]))
        with counted(b, _int(0), panels) as panel:
            unit = b.mul(panel, lanes)
            left = b.sub(hidden, unit)
            with counted(b, _int(0), blocks) as k:
                row, count = loop.block(rows, blocks, k)
                _start_sums(loop, t, row, count, panel, unit, left)
                from_x = b.icmp_signed(">", inputs, _int(0))
                with b.if_then(from_x):
                    x = loop.element(loop["x"], (b.add(b.mul(t, batch), row), inputs))
                    w = loop.element(loop["weight"], (b.mul(panel, inputs), line))
                    b.call(tile, [x, w, loop.sums, count, inputs, inputs])
                h = loop.element(h_previous, (row, hidden))
                r = loop.element(loop["recurrent"], (b.mul(panel, hidden), line))
                b.call(tile, [h, r, loop.sums, count, hidden, hidden])
                with counted(b, _int(0), count) as i:
                    here = b.add(row, i)
                    z = loop.element(loop.sums, (i, line))
                    places = [loop.element(p, (here, hidden), (unit, _int(1)))
                              for p in (c_previous, c_now, h_now)]  # fmt: skip
                    saved = loop["saved"]
                    if training:
                        at = b.add(b.mul(t, batch), here)
                        saved = loop.element(saved, (at, gates), (unit, _int(1)))
                    whole = b.icmp_signed(">=", left, lanes)
                    with b.if_else(whole) as (then, otherwise):
                        with then:
                            b.call(step, [z, *places, saved, hidden])
                        with otherwise:
                            e.copy(places[0], spare["c_previous"], left)
                            b.call(step, [z, spare["c_previous"], spare["c"], spare["h"],
                                          spare["saved"], lanes])  # fmt: skip
                            e.copy(spare["c"], places[1], left)
                            e.copy(spare["h"], places[2], left)
                            if training:
                                for g in range(4):
                                    source = e.at(spare["saved"], g * target.lanes)
                                    to = loop.element(saved, (hidden, _int(g)))
                                    e.copy(source, to, left)
    b.ret_void()
    return loop.function


def _start_sums(
    loop: _Loop, t: Any, row: Any, count: Any, panel: Any, unit: Any, left: Any
) -> None:
    """The bias, or the input's share z_x where that was computed before."""
    b, e, lanes = loop.builder, loop.e, loop.target.lanes
    hidden = loop["hidden"]
    line = _int(WIDTH * lanes)
    size = b.select(b.icmp_signed("<", left, _int(lanes)), left, _int(lanes))
    from_x = b.icmp_signed(">", loop["inputs"], _int(0))
    with counted(b, _int(0), count) as i:
        to = loop.element(loop.sums, (i, line))
        with b.if_else(from_x) as (then, otherwise):
            with then:
                bias = loop.element(loop["bias"], (panel, line))
                for g in range(4):
                    e.store(e.load(e.at(bias, g * lanes)), e.at(to, g * lanes))
            with otherwise:
                at = b.add(b.mul(t, loop["batch"]), b.add(row, i))
                source = loop.element(loop["z_x"], (at, b.mul(hidden, _int(4))), (unit, _int(1)))
                whole = b.icmp_signed("==", size, _int(lanes))
                with b.if_else(whole) as (full, partly):
                    with full:
                        for g in range(4):
                            value = e.load(loop.element(source, (hidden, _int(g))))
                            e.store(value, e.at(to, g * lanes))
                    with partly:
                        for g in range(4):
                            e.copy(loop.element(source, (hidden, _int(g))),
                                   e.at(to, g * lanes), size)  # fmt: skip


def _emit_backward(module: ir.Module, target: Target, tile: Any, step: Any) -> ir.Function:
    loop = _Loop(module, "backward_rows", target, BACKWARD)
    loop.function.linkage = "internal"
    b, e, lanes = loop.builder, loop.e, target.lanes
    hidden, batch = loop["hidden"], loop["batch"]
    gates, bh = b.mul(hidden, _int(4)), b.mul(batch, hidden)
    wide = _int(WIDTH * lanes)
    panels = b.sdiv(b.add(hidden, b.sub(wide, _int(1))), wide)
    rows, blocks = loop.blocks()
    spare = {name: e.buffer(size) for name, size in
             (("saved", WIDTH), ("c_previous", 1), ("c", 1), ("grad_c", 1),
              ("grad_z", WIDTH))}  # fmt: skip
    last = b.sub(loop["steps"], _int(1))
    with counted(b, _int(0), loop["steps"]) as backwards:
        s = b.sub(last, backwards)
        t, before = _time(loop, s)
        after, _ = _time(loop, b.add(s, _int(1)))
        first = b.icmp_signed("==", s, _int(0))
        end = b.icmp_signed("==", s, last)
        c_previous = b.select(first, loop["c0"], loop.element(loop["cells"], (before, bh)))
        with counted(b, _int(0), panels) as panel:
            unit = b.mul(panel, wide)
            left = b.sub(hidden, unit)
            size = b.select(b.icmp_signed("<", left, wide), left, wide)
            with counted(b, _int(0), blocks) as k:
                row, count = loop.block(rows, blocks, k)
                with counted(b, _int(0), count) as i:
                    at = b.add(b.mul(t, batch), b.add(row, i))
                    source = loop.element(loop["grad_output"], (at, hidden), (unit, _int(1)))
                    e.copy_line(source, loop.element(loop.sums, (i, wide)), size, WIDTH)
                with b.if_else(end) as (then, otherwise):
                    with then, counted(b, _int(0), count) as i:
                        here = b.add(row, i)
                        source = loop.element(loop["grad_h"], (here, hidden), (unit, _int(1)))
                        _add(e, source, loop.element(loop.sums, (i, wide)), size)
                    with otherwise:
                        at = b.add(b.mul(after, batch), row)
                        z = loop.element(loop["grad_z"], (at, gates))
                        r = loop.element(loop["recurrent"], (b.mul(panel, gates), wide))
                        b.call(tile, [z, r, loop.sums, count, gates, gates])
                with counted(b, _int(0), count) as i, counted(b, _int(0), size, lanes) as v:
                    here, u = b.add(row, i), b.add(unit, v)
                    at = b.add(b.mul(t, batch), here)
                    grad_h = loop.element(loop.sums, (i, wide), (v, _int(1)))
                    saved = loop.element(loop["saved"], (at, gates), (u, _int(1)))
                    grad_z = loop.element(loop["grad_z"], (at, gates), (u, _int(1)))
                    c_now = loop.element(loop["cells"], (at, hidden), (u, _int(1)))
                    before_c = loop.element(c_previous, (here, hidden), (u, _int(1)))
                    grad_c = loop.element(loop["grad_c"], (here, hidden), (u, _int(1)))
                    rest = b.sub(hidden, u)
                    whole = b.icmp_signed(">=", rest, _int(lanes))
                    with b.if_else(whole) as (then, otherwise):
                        with then:
                            b.call(step, [saved, before_c, c_now, grad_h, grad_c, grad_z, hidden,
                                          hidden])  # fmt: skip
                        with otherwise:
                            for g in range(4):
                                e.copy(loop.element(saved, (hidden, _int(g))),
                                       e.at(spare["saved"], g * lanes), rest)  # fmt: skip
                            e.copy(before_c, spare["c_previous"], rest)
                            e.copy(c_now, spare["c"], rest)
                            e.copy(grad_c, spare["grad_c"], rest)
                            b.call(step, [spare["saved"], spare["c_previous"], spare["c"], grad_h,
                                          spare["grad_c"], spare["grad_z"], _int(lanes),
                                          _int(lanes)])  # fmt: skip
                            e.copy(spare["grad_c"], grad_c, rest)
                            for g in range(4):
                                e.copy(e.at(spare["grad_z"], g * lanes),
                                       loop.element(grad_z, (hidden, _int(g))), rest)  # fmt: skip
    b.ret_void()
    return loop.function


def _add(e: Emitter, source: Any, destination: Any, count: Any) -> None:
    b = e.builder
    with counted(b, _int(0), count) as i:
        place = e.at(destination, i)
        p = b.load(e.at(source, i), align=e.target.size, typ=e.scalar)
        q = b.load(place, align=e.target.size, typ=e.scalar)
        b.store(b.fadd(p, q), place, align=e.target.size)


# ---- threads --------------------------------------------------------------------------------


def _emit_parallel(module: ir.Module, name: str, rows: ir.Function) -> None:
    """name(arguments, threads): the rows on torch's own OpenMP team, whose idle threads would
    otherwise spin beside ours. name_part(arguments, thread, threads): one thread's share."""
    team = ir.Function(module, ir.FunctionType(ir.VoidType(), [PTR]), name + "_team")
    team.linkage = "internal"
    builder = ir.IRBuilder(team.append_basic_block("entry"))
    counts = []
    for question in ("omp_get_thread_num", "omp_get_num_threads"):
        asked = _external(module, question, ir.FunctionType(I32, []))
        counts.append(builder.sext(builder.call(asked, []), I64))
    builder.call(rows, [team.args[0], *counts])
    builder.ret_void()

    start = ir.FunctionType(ir.VoidType(), [PTR, PTR, I32, I32])
    parallel = _external(module, "GOMP_parallel", start)
    run = function(module, name, 1, 1)
    builder = ir.IRBuilder(run.append_basic_block("entry"))
    arguments, threads = run.args
    alone = builder.icmp_signed("==", threads, _int(1))
    with builder.if_else(alone) as (then, otherwise):
        with then:
            builder.call(rows, [arguments, _int(0), _int(1)])
        with otherwise:
            zero = ir.Constant(I32, 0)
            builder.call(parallel, [team, arguments, builder.trunc(threads, I32), zero])
    builder.ret_void()

    part = function(module, name + "_part", 1, 2)
    builder = ir.IRBuilder(part.append_basic_block("entry"))
    builder.call(rows, list(part.args))
    builder.ret_void()


def _external(module: ir.Module, name: str, signature: ir.FunctionType) -> ir.Function:
    found = module.globals.get(name)
    return found if found is not None else ir.Function(module, signature, name)
