"""The module of one cell: forward and backward, each on torch's own OpenMP team."""

from __future__ import annotations

from llvmlite import ir

from ...cells import Cell
from .amx import emit_split_weights
from .backward import emit_backward
from .emit import I32, I64, PTR, Target, external, function
from .fingerprint import emit_fingerprints
from .forward import emit_forward
from .loops import integer

__all__ = ["emit_kernels"]


def emit_kernels(target: Target, cell: Cell, training: bool, measuring: bool = False) -> ir.Module:
    """A module with `forward(arguments, threads)`, for training also `backward`; and `fingerprint`
    and `sample` of weights; by tiles `split_weights`. measuring: kernels that fill `measures`
    too."""
    module = ir.Module("anygate")
    _emit_team(module, "forward", emit_forward(module, target, cell, training, measuring))
    emit_fingerprints(module, target)
    if target.amx:
        emit_split_weights(module, target)
    if training:
        _emit_team(module, "backward", emit_backward(module, target, cell, measuring))
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
