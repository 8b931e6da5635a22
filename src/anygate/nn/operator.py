"""The fused layer as registered torch operators, so that torch sees one call and not its inside.

`anygate::lstm` runs one direction of one layer, `anygate::lstm_backward` its gradients. The
gradient of the latter, for double backward, goes through the eager engine's operations.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor

from ..backends import eager
from ..symbolic.activation import Activation
from ..symbolic.cell import Cell

__all__ = ["cell_key", "cell_of", "run"]

Triple = tuple[Tensor, Tensor, Tensor]

_LIBRARY: Any = cast(Any, torch.library.Library)("anygate", "DEF")
_LIBRARY.define(
    "lstm(Tensor x, Tensor h0, Tensor c0, Tensor weight_ih, Tensor weight_hh, Tensor? bias, "
    "str cell, bool reverse, bool training) -> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    "lstm_backward(Tensor grad_output, Tensor grad_h, Tensor grad_c, Tensor x, Tensor h0, "
    "Tensor c0, Tensor weight_ih, Tensor weight_hh, Tensor? bias, Tensor output, Tensor saved, "
    "Tensor cells, str cell, bool reverse) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


@lru_cache(maxsize=512)
def cell_key(cell: Cell) -> str:
    """The cell as text, for an operator's argument: each slot's formula and parameters."""
    return json.dumps({s: [a.formula, dict(a.parameters)] for s, a in cell.slots.items()})


@lru_cache(maxsize=512)
def cell_of(key: str) -> Cell:
    """The cell of a `cell_key`."""
    slots = json.loads(key)
    return Cell(**{s: Activation(f, f, **parameters) for s, (f, parameters) in slots.items()})


def run(
    key: str,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    reverse: bool,
) -> Triple:
    """One direction of one layer through the operator; key is the cell's `cell_key`, shapes as in
    `Engine.run`."""
    arguments = (x, h0, c0, weight_ih, weight_hh, bias)
    training = torch.is_grad_enabled() and any(a is not None and a.requires_grad for a in arguments)
    output, h, c, _, _ = torch.ops.anygate.lstm(*arguments, key, reverse, training)
    return output, h, c


def _forward_cpu(*arguments: Any) -> Any:
    from ..backends.cpu.layer import forward

    *tensors, key, reverse, training = arguments
    code = _code(key, tensors[0].dtype, training)
    return cast(Any, forward)(code, *tensors, reverse, training)


def _backward_cpu(*arguments: Any) -> Any:
    from ..backends.cpu.layer import backward

    *tensors, key, reverse = arguments
    return cast(Any, backward)(_code(key, tensors[0].dtype, True), *tensors, reverse)


@lru_cache(maxsize=512)
def _code(key: str, dtype: torch.dtype, training: bool) -> Any:
    """Machine code by the key's text: hashing a Cell takes 15 us, which a single step would see."""
    from ..backends.cpu.compiler import kernels

    return kernels(cell_of(key), str(dtype).removeprefix("torch."), training)


def _forward_shapes(*arguments: Any) -> Any:
    x, h0, c0, _, _, _, _, _, training = arguments
    steps, batch = x.shape[:2]
    hidden = h0.shape[1]
    saved = x.new_empty(steps, batch, 4 * hidden) if training else x.new_empty(0)
    cells = x.new_empty(steps, batch, hidden) if training else x.new_empty(0)
    return x.new_empty(steps, batch, hidden), _like(h0), _like(c0), saved, cells


def _backward_shapes(*arguments: Any) -> Any:
    _, _, _, x, h0, c0, weight_ih, weight_hh = arguments[:8]
    gradients = (_like(t) for t in (x, h0, c0, weight_ih, weight_hh))
    return (*gradients, weight_hh.new_empty(weight_hh.shape[0]))


def _like(tensor: Tensor) -> Tensor:
    return tensor.new_empty(tensor.shape)


_LIBRARY.impl("lstm", _forward_cpu, "CPU")
_LIBRARY.impl("lstm_backward", _backward_cpu, "CPU")
torch.library.register_fake("anygate::lstm", _forward_shapes, lib=_LIBRARY)
torch.library.register_fake("anygate::lstm_backward", _backward_shapes, lib=_LIBRARY)


def _save_forward(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, key, reverse, _training = inputs
    result, _, _, saved, cells = output
    ctx.key, ctx.reverse = key, reverse
    ctx.save_for_backward(*tensors, result, saved, cells)
    ctx.mark_non_differentiable(saved, cells)


def _backward(ctx: Any, grad_output: Any, grad_h: Any, grad_c: Any, *_unused: Any) -> Any:
    results = torch.ops.anygate.lstm_backward(
        grad_output, grad_h, grad_c, *ctx.saved_tensors, ctx.key, ctx.reverse
    )
    *gradients, grad_bias = results
    biased = ctx.saved_tensors[5] is not None
    return (*gradients, grad_bias if biased else None, None, None, None)


def _save_backward(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, key, reverse = inputs
    ctx.key, ctx.reverse = key, reverse
    ctx.save_for_backward(*tensors[:9])


def _double_backward(ctx: Any, *grads: Any) -> Any:
    """The gradient of the gradients: the layer again, in operations that can be differentiated as
    often as one likes."""
    inputs = ctx.saved_tensors
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        # A view of each: one tensor given twice has its own gradient in each place.
        own = [None if t is None else t.view_as(t) if again else t.detach() for t in inputs]
        for tensor in own:
            if tensor is not None and not tensor.requires_grad:
                tensor.requires_grad_()
        cell = cell_of(ctx.key)
        arguments = [*own[3:], *cell.parameters.values()]
        first = eager.gradients(cell, ctx.reverse, arguments, tuple(own[:3]))
        pairs = [
            (f, g) for f, g in zip(first, grads, strict=False) if f is not None and f.requires_grad
        ]
        wanted = [t for t in own if t is not None]
        found = iter(
            torch.autograd.grad(
                [f for f, _ in pairs], wanted, [g for _, g in pairs],
                create_graph=again, allow_unused=True,
            )
        )  # fmt: skip
    results = [None if t is None else next(found) for t in own]
    return (*results, None, None, None, None, None)


torch.library.register_autograd(
    "anygate::lstm", _backward, setup_context=_save_forward, lib=_LIBRARY
)
torch.library.register_autograd(
    "anygate::lstm_backward", _double_backward, setup_context=_save_backward, lib=_LIBRARY
)
