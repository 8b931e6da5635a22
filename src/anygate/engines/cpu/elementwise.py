"""One Program over numbers in memory, by the vector code that the fused kernels are made of: to
measure what a formula or a derivative costs by itself."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from llvmlite import ir

from ...formulas.program import Program, bind
from .compiler import compile_module, link, target_for
from .emit import I64, Emitter, counted, function
from .ops import operations

__all__ = ["elementwise"]

_ALIGNED = 16  # the largest number of lanes


def elementwise(program: Program, dtype: str) -> Callable[[int, int, int, int], None]:
    """run(x, y, count, times): for `count` numbers at the address x, write the Program's only
    output for its only input at the address y; so many times, on this thread and without any
    Python in between.

    dtype: "float32" or "float64". ValueError for a count that is no multiple of 16.
    """
    engine = link(compile_module(_module(program, dtype)))
    assert engine is not None
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 2)
    call = signature(engine.get_function_address("apply"))

    def run(x: int, y: int, count: int, times: int) -> None:
        if count % _ALIGNED:
            raise ValueError(f"count must be a multiple of {_ALIGNED}, not {count}")
        call(x, y, count, times)

    run.keep = engine  # type: ignore[attr-defined]  # the machine code
    return run


def _module(program: Program, dtype: str) -> ir.Module:
    """apply(x, y, count, times)."""
    (name,) = program.inputs
    target = target_for(dtype)
    module = ir.Module("elementwise")
    code = function(module, "apply", 2, 2)
    builder = ir.IRBuilder(code.append_basic_block())
    e = Emitter(builder, target)
    x, y, count, times = code.args
    formula = bind(program, operations(e))
    zero = ir.Constant(I64, 0)
    with counted(builder, zero, times), counted(builder, zero, count, target.lanes) as i:
        (value,) = formula({name: e.load(e.at(x, i))}).values()
        e.store(value, e.at(y, i))
    builder.ret_void()
    return module
