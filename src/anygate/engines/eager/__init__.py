"""torch operations: any device, any dtype, any order of derivative.

The first derivative runs the cell's derived backward Program; a derivative of that (double
backward) is taken through `Pointwise`, whose own derivative is the derived formula again. In
neither does autograd go through a `where`.
"""

from __future__ import annotations

from ..base import Request
from .layer import gradients, plain, run, step, trace
from .operations import OPS, apply

__all__ = [
    "FRAMEWORK",
    "NAME",
    "OPS",
    "apply",
    "gradients",
    "plain",
    "refuses",
    "run",
    "step",
    "trace",
]

NAME = "eager"
FRAMEWORK = "torch"


def refuses(request: Request) -> str | None:
    """Nothing is refused but numbers without a fraction."""
    if request.dtype.startswith(("float", "bfloat")):
        return None
    return f"it computes with real numbers, not {request.dtype}"
