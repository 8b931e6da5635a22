"""The module of one cell: forward and backward, each on torch's own OpenMP team."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ...cells import Cell
from ..layout import Layout, layout_of
from .amx import emit_split_weights
from .backward import emit_backward
from .emit import I32, I64, PTR, Target, external, function, symbol
from .forward import emit_forward, forward_arguments
from .loops import integer
from .sweep import emit_sweep

__all__ = ["emit_kernels", "emit_way_back"]


def emit_kernels(target: Target, cell: Cell, training: bool, measuring: bool = False) -> ir.Module:
    """A module with `forward(arguments, threads)` and `prepared`, for training also
    `backward_share` for `sweep`; by tiles `split_weights`. measuring: kernels that fill `measures`
    too."""
    module = ir.Module("anygate")
    _emit_team(module, "forward", emit_forward(module, target, cell, training, measuring))
    if target.amx:
        emit_split_weights(module, target)
    if training:
        emit_backward(module, target, cell, measuring).linkage = ""
    _emit_prepared(module, target, layout_of(cell), training)
    return module


def emit_way_back(target: Target) -> ir.Module:
    """A module with `sweep(arguments, threads)`, the same for every cell."""
    module = ir.Module("anygate sweep")
    _emit_team(module, "sweep", emit_sweep(module, target))
    return module


def _emit_team(module: ir.Module, name: str, share: ir.Function) -> None:
    """name(arguments, threads): the shares on torch's own OpenMP team, whose idle threads would
    otherwise spin beside ours. name_share(arguments, thread, threads) is one thread's."""
    team = ir.Function(module, ir.FunctionType(ir.VoidType(), [PTR]), name + "_team")
    team.linkage = "internal"
    b = ir.IRBuilder(team.append_basic_block("entry"))
    counts = []
    for question in ("omp_get_thread_num", "omp_get_num_threads"):
        asked = external(module, question, ir.FunctionType(I32, []))
        counts.append(b.sext(b.call(asked, []), I64))
    b.call(share, [team.args[0], *counts])
    b.ret_void()

    start = ir.FunctionType(ir.VoidType(), [PTR, PTR, I32, I32])
    parallel = external(module, "GOMP_parallel", start)
    run = function(module, name, 1, 1)
    b = ir.IRBuilder(run.append_basic_block("entry"))
    arguments, threads = run.args
    alone = b.icmp_signed("==", threads, integer(1))
    with b.if_else(alone) as (then, otherwise):
        with then:
            b.call(share, [arguments, integer(0), integer(1)])
        with otherwise:
            zero = ir.Constant(I32, 0)
            b.call(parallel, [team, arguments, b.trunc(threads, I32), zero])
    b.ret_void()


def _emit_prepared(module: ir.Module, target: Target, layout: Layout, training: bool) -> None:
    """prepared(constants, x, z_x, output, saved, others, start0, start1 ..., last0, last1 ...) ->
    i64: `forward` with the arguments in `constants`, unless the weights have changed since they
    were packed: then 1.

    constants: what `forward_arguments` names, the addresses given here being 0; then the table of
    the weights, their number, the fingerprint that they had (or the sample, where the number after
    it is not 0), threads, the bytes of a state, and those of a state at all steps (training).
    start0 ... and last0 ... [B, H]: the states before the first step and after the last. output
    [T, B, H], or null for a single step of inference. saved, others: as in `layer.Forward`, null in
    inference.
    """
    names = forward_arguments(layout.states)
    kinds = [PTR] * (6 + 2 * layout.states)
    made = ir.Function(module, ir.FunctionType(I64, kinds), "prepared")
    b = ir.IRBuilder(made.append_basic_block("entry"))
    constants, x, z_x, output, saved, others, *states = made.args
    starts, lasts = states[: layout.states], states[layout.states :]

    def word(array: Any, place: int) -> Any:
        return b.gep(array, [integer(place)], source_etype=I64)

    def constant(place: int, kind: Any = I64) -> Any:
        return b.load(word(constants, place), typ=kind)

    def at(array: Any, size: Any) -> Any:
        return b.gep(array, [size], source_etype=ir.IntType(8))

    table, count, known, sampled, threads, size, whole = range(len(names), len(names) + 7)
    place = b.alloca(ir.ArrayType(I64, len(names)))
    arrived = b.alloca(I64)
    place.type = arrived.type = PTR
    sums = [b.alloca(I64)]
    sums[0].type = PTR
    with b.if_else(b.icmp_signed("!=", constant(sampled), integer(0))) as (then, otherwise):
        for block, name in ((then, "sample"), (otherwise, "fingerprint")):
            with block:
                kind = ir.FunctionType(I64, [PTR, I64])
                asked = external(module, symbol(name, target), kind)
                b.store(b.call(asked, [constant(table, PTR), constant(count)]), sums[0])
    with b.if_then(b.icmp_unsigned("!=", b.load(sums[0], typ=I64), constant(known))):
        b.ret(integer(1))
    _copy(module, b, place, constants, integer(8 * len(names)))
    b.store(integer(0), arrived)
    steps, reverse = (constant(names.index(name)) for name in ("steps", "reverse"))
    single = b.icmp_signed("==", steps, integer(1))
    end = b.mul(b.sub(steps, integer(1)), constant(size))
    end = b.select(b.icmp_signed("!=", reverse, integer(0)), integer(0), end)
    given = {"x": x, "z_x": z_x, "saved": saved, "arrived": arrived}
    given |= {f"start{k}": start for k, start in enumerate(starts)}
    for k, (start, last) in enumerate(zip(starts, lasts, strict=True)):
        if training:
            number = k - (k > layout.output)
            other = at(others, b.mul(constant(whole), integer(number)))
            given[f"state{k}"] = output if k == layout.output else other
        elif k == layout.output:
            given[f"state{k}"] = b.select(single, last, output)
        else:  # running states are changed in place
            given |= {f"state{k}": last, f"start{k}": b.select(single, start, last)}
            with b.if_then(b.not_(single)):
                _copy(module, b, last, start, constant(size))
    for name, value in given.items():
        b.store(value, word(place, names.index(name)))
    b.call(module.globals["forward"], [place, constant(threads)])
    if training:
        for k, last in enumerate(lasts):
            _copy(module, b, last, at(given[f"state{k}"], end), constant(size))
        b.ret(integer(0))
        return
    last = lasts[layout.output]
    with b.if_else(single) as (then, otherwise):
        with then:
            wanted = b.icmp_unsigned("!=", b.ptrtoint(output, I64), integer(0))
            with b.if_then(wanted):
                _copy(module, b, output, last, constant(size))
        with otherwise:
            _copy(module, b, last, at(output, end), constant(size))
    b.ret(integer(0))


def _copy(module: ir.Module, b: ir.IRBuilder, to: Any, source: Any, size: Any) -> None:
    """`size` bytes."""
    kind = ir.FunctionType(ir.VoidType(), [PTR, PTR, I64, ir.IntType(1)])
    copy = external(module, "llvm.memcpy.p0.p0.i64", kind)
    b.call(copy, [to, source, size, ir.Constant(ir.IntType(1), 0)])
