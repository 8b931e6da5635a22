"""The specification: any cell in NumPy float64, line by line. Every engine is tested against it."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ...cells import cell_of
from ..measuring import check_measurable
from ..packed import run_packed
from ..protocol import Engine, Layer, Measures, Request, Result, needs_gradient
from .loop import Arrays, backward, forward
from .operations import OPS, Array, apply

__all__ = ["OPS", "Reference", "apply"]


class Reference(Engine):
    """Computes every cell on every device and in every dtype: in float64 on the CPU, slowly.
    Differentiable once."""

    name = "reference"

    def refuses(self, request: Request) -> str | None:
        """Nothing is refused."""
        return None

    def run(
        self, key: str, layer: Layer, keep: bool = False, measures: Measures | None = None
    ) -> Result:
        if measures is not None:
            check_measurable(cell_of(key))
        if layer.batch_sizes is not None:
            return run_packed(partial(_whole, key, keep), layer, keep, measures)
        return _whole(key, keep, layer, measures)


def _whole(key: str, keep: bool, layer: Layer, measures: Measures | None, go_on: int = 0) -> Result:
    training = needs_gradient(layer)
    fixed = (key, layer.masks, layer.reverse, keep, measures, training, go_on)
    tensors = (*layer[2:7], *layer.states)
    results = cast(Any, _Loop.apply)(*fixed, layer.x, *tensors)
    count = len(layer.states)
    kept = results[1 + count :] if keep else None
    return Result(results[0], results[1 : 1 + count], kept)


class _Loop(torch.autograd.Function):
    """The loop under autograd: float64 inside, the tensors' own dtype outside."""

    @staticmethod
    def forward(
        ctx: Any,
        key: str,
        masks: Tensor | None,
        reverse: bool,
        keep: bool,
        measures: Measures | None,
        training: bool,
        go_on: int,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, ...]:
        cell = cell_of(key)
        x, weight_ih, weight_hh, bias_ih, bias_hh, vectors, *states = map(_array, tensors)
        layer = Arrays(
            cast(Array, x),
            cast(tuple[Array, ...], tuple(states)),
            cast(Array, weight_ih),
            cast(Array, weight_hh),
            bias_ih,
            bias_hh,
            vectors,
            _array(masks),
            reverse,
        )
        trace = forward(cell, layer)
        if measures is not None:
            measures.forward(torch.from_numpy(trace.numbers()))
        if training:
            ctx.trace, ctx.like, ctx.measures, ctx.go_on = trace, tensors, measures, go_on
        names = cell.type.states
        results = [trace.all(cell.type.output), *trace.states]
        results += [trace.all(name) for name in names] if keep else []
        return tuple(_tensor(array, tensors[0]) for array in results)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        output, *rest = (cast(Array, _array(grad)) for grad in grads)
        count = len(ctx.trace.layer.states)
        kept = tuple(rest[count:]) or None
        measuring = ctx.measures is not None
        back = backward(ctx.trace, output, tuple(rest[:count]), kept, measuring, ctx.go_on)
        if measuring:
            ctx.measures.backward(torch.from_numpy(back.norms))
        arrays = (back.x, back.weight_ih, back.weight_hh, back.bias_ih, back.bias_hh, back.vectors)
        pairs = zip((*arrays, *back.states), ctx.like, strict=True)
        found = (None if like is None else _tensor(array, like) for array, like in pairs)
        return None, None, None, None, None, None, None, *found


def _array(tensor: Tensor | None) -> Array | None:
    """A copy: what the caller does with the tensor afterwards is not seen."""
    if tensor is None:
        return None
    return np.array(tensor.detach().cpu().to(torch.float64).numpy())


def _tensor(array: Array, like: Tensor | None) -> Tensor:
    assert like is not None
    return torch.from_numpy(np.array(array)).to(like)
