"""Any engine's run of a layer as one operator, for torch.compile and torch.export.

A compiler would follow an engine's loop over time step by step: a graph for one T alone, through
code that it cannot read. It sees the operator `anygate::layer` instead, with any T and B, and
`anygate::layer_backward`, which runs the layer once more and back: a compiled graph keeps only
tensors that its compiler knows of. An engine with an operator of its own (`Engine.has_operator`)
is called as it is. The operators are declared in `operators.py`; their halves stand here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .again import gradients
from .protocol import Layer, Result, load

__all__ = [
    "backward",
    "backward_operator",
    "backward_shapes",
    "forward_operator",
    "forward_shapes",
    "run_operator",
    "save_forward",
]

_DIFFERENTIABLE = 7
"""The first arguments of the operator, x to vectors, which have gradients."""


def run_operator(engine: str, key: str, layer: Layer, keep: bool) -> Result:
    """`Engine.run` of the engine of this name, as one operator."""
    x, states, *rest, reverse = layer
    output, last, kept = torch.ops.anygate.layer(
        x, torch.stack(states), *rest, engine, key, reverse, keep
    )
    each = range(len(states))
    # Each in memory of its own, so that one may be changed in place.
    every = tuple(kept[k].clone() for k in each) if keep else None
    return Result(output, tuple(last[k].clone() for k in each), every)


def _run_engine(*arguments: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    x, states, *rest, engine, key, reverse, keep = arguments
    parts: Any = (x, states.unbind(0), *rest, reverse)
    result = load(engine).run(key, Layer(*parts), keep)
    kept = None if result.kept is None else torch.stack(result.kept)
    return result.output, torch.stack(result.states), kept


def forward_operator(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    with torch.no_grad():
        output, states, kept = _run_engine(*arguments)
    return output.contiguous(), states, states.new_empty(0) if kept is None else kept


def forward_shapes(*arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    x, states = arguments[:2]
    count, _, hidden = states.shape
    output = states.new_empty((*x.shape[:-1], hidden))
    kept = states.new_empty((count, *output.shape) if arguments[-1] else 0)
    return output, states.new_empty(states.shape), kept


def _gradients(
    grads: Sequence[Tensor | None], needed: Sequence[bool], arguments: Sequence[Any], again: bool
) -> list[Tensor | None]:
    """By the first _DIFFERENTIABLE arguments, where needed. again: as a graph that can be
    differentiated once more."""
    own, fixed = arguments[:_DIFFERENTIABLE], arguments[_DIFFERENTIABLE:]
    return gradients(lambda *tensors: _run_engine(*tensors, *fixed), own, grads, again, needed)


def backward_operator(grads: Any, needed: Any, *arguments: Any) -> tuple[Tensor, ...]:
    found = _gradients(grads, needed, arguments, again=False)
    like = arguments[0]
    results: list[Tensor] = []
    for argument, gradient, need in zip(arguments, found, needed, strict=False):
        if not need:
            results.append(like.new_empty(0))
        elif gradient is None:
            results.append(torch.zeros_like(argument, memory_format=torch.contiguous_format))
        else:
            results.append(gradient.contiguous())
    return tuple(results)


def backward_shapes(grads: Any, needed: Any, *arguments: Any) -> tuple[Tensor, ...]:
    like = arguments[0]
    return tuple(
        argument.new_empty(argument.shape) if need else like.new_empty(0)
        for argument, need in zip(arguments, needed, strict=False)
    )


def save_forward(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, engine, key, reverse, keep = inputs
    ctx.fixed = engine, key, reverse, keep
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)
    if not keep:
        ctx.mark_non_differentiable(output[2])


def backward(ctx: Any, *grads: Any) -> Any:
    needed = list(ctx.needs_input_grad[:_DIFFERENTIABLE])
    arguments = (*ctx.saved_tensors, *ctx.fixed)
    found: Sequence[Tensor | None]
    if torch.is_grad_enabled():  # create_graph: these gradients will be differentiated
        found = _gradients(grads, needed, arguments, again=True)
    else:
        results = torch.ops.anygate.layer_backward(list(grads), needed, *arguments)
        found = [r if need else None for r, need in zip(results, needed, strict=True)]
    return (*found, *[None] * (len(arguments) - _DIFFERENTIABLE))
