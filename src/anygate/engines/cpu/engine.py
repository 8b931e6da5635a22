"""CPU: the engine's class."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..openmp import openmp_symbols
from ..protocol import (
    Engine,
    Layer,
    Measures,
    Prepared,
    PreparedTraining,
    Request,
    Result,
)
from . import plain
from .operator import needs_operator, run

__all__ = ["CPU"]

_KINDS = {
    "two products": (
        "two products a step: a product is of a line of the same step; it runs cells whose "
        "products are all of x and of the state before the step; eager runs it"
    ),
    "reduction": (
        "a mean over the hidden units, as of layer norm: it computes units apart from each other; "
        "eager runs it"
    ),
    "no recurrence": (
        "no product sees a state: one product for all steps would do, and there is no recurrence "
        "to fuse the cell into; eager runs it"
    ),
}
"""The reason for which a kind of cell is refused."""
_WHOLE = (torch.float32, torch.float64)
_HALF = (torch.float16, torch.bfloat16)


class CPU(Engine):
    """Cells of the kind "one product" on this processor, in float32 and float64; half types are
    computed in float32 and rounded once."""

    name = "cpu"
    has_operator = True
    devices = ("cpu",)

    def refuses(self, request: Request) -> str | None:
        if request.device != "cpu":
            return f"it runs on the CPU, not on {request.device}"
        if request.dtype not in ("float32", "float64", "bfloat16", "float16"):
            return f"it computes in float32 and float64, not {request.dtype}"
        if (kind := request.cell.type.kind) in _KINDS:
            return _KINDS[kind]
        if importlib.util.find_spec("llvmlite") is None:
            return "llvmlite is not installed; pip install llvmlite"
        if openmp_symbols() is None:
            return "it shares torch's OpenMP threads, and this torch uses none with GOMP_parallel"
        return None

    def run(
        self, key: str, layer: Layer, keep: bool = False, measures: Measures | None = None
    ) -> Result:
        dtype = layer.x.dtype
        if layer.batch_sizes is not None and not len(layer.batch_sizes):
            return self._no_steps(key, layer, keep, measures)
        if dtype not in _HALF:
            return run(key, layer, keep, measures)
        single = run(key, _single(layer), keep, measures)
        kept = None if single.kept is None else _rounded(single.kept, dtype)
        return Result(single.output.to(dtype), _rounded(single.states, dtype), kept)

    def _no_steps(self, key: str, layer: Layer, keep: bool, measures: Measures | None) -> Result:
        """A pack without rows, as a whole batch of no time steps."""
        x = layer.x.view(0, layer.states[0].shape[0], layer.x.shape[-1])
        masks = (
            None if layer.masks is None else layer.masks.view(*x.shape[:2], *layer.masks.shape[1:])
        )
        result = self.run(key, layer._replace(x=x, masks=masks, batch_sizes=None), keep, measures)
        kept = result.kept and tuple(state.flatten(0, 1) for state in result.kept)
        return Result(result.output.flatten(0, 1), result.states, kept)

    def prepare(self, key: str, layer: Layer) -> Prepared | None:
        if layer.x.dtype not in _WHOLE or needs_operator(layer):
            return None
        from .prepared import prepare  # needs llvmlite

        return prepare(plain.code(key, layer.x.dtype, training=False), layer)

    def prepare_training(
        self, key: str, layer: Layer, output: Sequence[int]
    ) -> PreparedTraining | None:
        if layer.x.dtype not in _WHOLE or needs_operator(layer):
            return None
        from .trained import trained  # needs llvmlite

        return trained(key, plain.code(key, layer.x.dtype, training=True), layer, output)


def _single(layer: Layer) -> Layer:
    """The layer in float32."""
    x, states, *others, batch_sizes, reverse = layer
    cast = (None if t is None else t.float() for t in others)
    parts: Any = (x.float(), tuple(s.float() for s in states), *cast, batch_sizes, reverse)
    return Layer(*parts)


def _rounded(tensors: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    return tuple(t.to(dtype) for t in tensors)
