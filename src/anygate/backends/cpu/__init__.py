"""The CPU engine: any formula, fused into the recurrence, as machine code made by LLVM.

`ops` spells each primitive in vectors, `tile` is the matrix kernel, `forward` and `backward` are
the time loops with the cell's Program in them, `loops` what both share, `compiler` makes machine
code of it, `layer` calls it. `amx` and `overlap` are the other matrix kernel, of processors with
AMX. The operator that torch sees is in `nn/operator.py`.
"""

from __future__ import annotations

import importlib.util

from ..base import Request
from .openmp import openmp_symbols

__all__ = ["FRAMEWORK", "NAME", "refuses"]

NAME = "cpu"
FRAMEWORK = "torch"


def refuses(request: Request) -> str | None:
    """Anything but real numbers on this processor; half types are computed in float32."""
    if request.device != "cpu":
        return f"it runs on the CPU, not on {request.device}"
    if request.dtype not in ("float32", "float64", "bfloat16", "float16"):
        return f"it computes in float32 and float64, not {request.dtype}"
    if importlib.util.find_spec("llvmlite") is None:
        return "llvmlite is not installed; pip install llvmlite"
    if openmp_symbols() is None:
        return "it shares torch's OpenMP threads, and this torch uses none with GOMP_parallel"
    return None
