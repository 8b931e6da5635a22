"""torch operations: any cell, any device, any dtype, any order of derivative.

Where a step needs one product, the first derivative runs the cell's derived backward Program. All
else (other cells, derivatives of derivatives, torch.func, forward mode) goes line by line through
`pointwise`, whose derivative is the derived formula again. In neither does autograd go through a
`where`.
"""

from __future__ import annotations

import sys
from functools import partial

import torch
from torch.autograd import forward_ad

from ...cells import Cell, cell_of
from ..measuring import check_measurable
from ..packed import run_packed
from ..protocol import Engine, EngineError, Layer, Measures, Request, Result, needs_gradient
from ..whole import run_whole, writes_down
from .layer import derived
from .operations import OPS
from .plain import plain
from .pointwise import Formula, apply, pointwise

__all__ = ["OPS", "Eager", "Formula", "apply", "pointwise"]


class Eager(Engine):
    """Runs every cell in torch operations."""

    name = "eager"

    def refuses(self, request: Request) -> str | None:
        """Nothing is refused but numbers without a fraction."""
        if request.dtype.startswith(("float", "bfloat")):
            return None
        return f"it computes with real numbers, not {request.dtype}"

    def run(
        self, key: str, layer: Layer, keep: bool = False, measures: Measures | None = None
    ) -> Result:
        cell = cell_of(key)
        if measures is None and writes_down():
            return run_whole(key, layer, keep, needs_gradient(layer), self.name)
        _refuse_export(layer)
        if measures is not None:
            check_measurable(cell)
        if measures is None and (_one_by_one(cell) or _transformed()):
            return self.plain(key, layer, keep)
        if _transformed():
            raise EngineError(
                "anygate.record measures plain calls; take torch.compile, torch.func, vmap and "
                "forward-mode differentiation off while it records"
            )
        if layer.batch_sizes is not None:
            return run_packed(partial(_derived, cell, keep), layer, keep, measures)
        return derived(cell, layer, keep, measures)

    def plain(self, key: str, layer: Layer, keep: bool = False) -> Result:
        """`run` in operations that torch differentiates itself: in both modes, to any order, under
        torch.func's transforms; slower."""
        cell = cell_of(key)
        if layer.batch_sizes is not None:
            return run_packed(lambda part, _, __: plain(cell, part, keep), layer, keep)
        return plain(cell, layer, keep)


def _derived(cell: Cell, keep: bool, layer: Layer, measures: Measures | None, go_on: int) -> Result:
    return derived(cell, layer, keep, measures, go_on)


def _one_by_one(cell: Cell) -> bool:
    """True if a step has no Programs of its own."""
    return cell.type.kind in ("two products", "reduction")


def _refuse_export(layer: Layer) -> None:
    """torch.onnx.export would write the time loop out, step by step."""
    if torch.compiler.is_dynamo_compiling():
        return
    exporter = sys.modules.get("torch.onnx")  # importing it takes longer than all of anygate
    if exporter is not None and exporter.is_in_onnx_export() and layer.x.shape[0] != 1:
        raise EngineError(
            "the eager engine's time loop would be written out, so that the file is right at the "
            "example's length alone; anygate.interop.onnx.export(model, args, path) writes it for "
            "every length"
        )


def _transformed() -> bool:
    """True if torch.func or forward mode looks inside, where an autograd Function may not stand."""
    if torch.compiler.is_compiling():
        return False
    return (
        torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
    )
