"""One Program over an array, by the vector code that the fused kernels are made of: to measure what
a formula or a derivative costs by itself."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from ...symbolic.program import Program, bind
from .compiler import _compile, _link, target_for
from .emit import I64, Emitter, counted, function
from .ops import operations

__all__ = ["elementwise"]

_ALIGNED = 16  # the largest number of lanes


def elementwise(program: Program, x: NDArray[Any], y: NDArray[Any]) -> Callable[[int], None]:
    """run(times): fill y with the Program's only output for its only input x, so many times, on
    this thread and without any Python in between.

    x, y: contiguous float32 or float64 arrays of one length, a multiple of 16; ValueError else.
    """
    if x.dtype != y.dtype or x.dtype not in (np.float32, np.float64) or x.shape != y.shape:
        raise ValueError(f"two equal arrays of float32 or float64 are needed, not {x.dtype} "
                         f"{x.shape} and {y.dtype} {y.shape}")  # fmt: skip
    if x.size % _ALIGNED or not (x.flags.c_contiguous and y.flags.c_contiguous):
        raise ValueError(f"contiguous arrays of a multiple of {_ALIGNED} numbers are needed")
    engine = _link(_compile(_module(program, x.dtype.name)))
    assert engine is not None
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 2)
    call = signature(engine.get_function_address("apply"))
    addresses = x.ctypes.data, y.ctypes.data, x.size

    def run(times: int) -> None:
        call(*addresses, times)

    run.keep = engine, x, y  # type: ignore[attr-defined]  # the machine code and its arrays
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
