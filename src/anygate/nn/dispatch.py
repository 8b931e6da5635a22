"""Between torch modules and engines: which engine runs, and how it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..backends import reference
from ..backends.base import Choice, Request, load
from ..symbolic.cell import Cell

__all__ = ["request_for", "run_layer"]

Triple = tuple[Tensor, Tensor, Tensor]


def request_for(cell: Cell, x: Tensor, weight: Tensor) -> Request:
    """What running `cell` on x with weights like `weight` asks of an engine."""
    training = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return Request(cell, x.device.type, str(x.dtype).removeprefix("torch."), training)


def run_layer(
    choice: Choice,
    cell: Cell,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    reverse: bool = False,
) -> Triple:
    """One direction of one layer on the chosen engine; shapes as in `Engine.run`."""
    arguments = (x, h0, c0, weight_ih, weight_hh, bias)
    engine = load(choice.name)
    if engine.FRAMEWORK == "numpy":
        return cast(Triple, _apply_numpy(cell, reverse, *arguments))
    return engine.run(cell, *arguments, parameters={}, reverse=reverse)  # type: ignore[no-any-return]


def _array(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().cpu().to(torch.float64).numpy()


class _Numpy(torch.autograd.Function):
    """The reference engine under autograd: float64 inside, the tensors' own dtype outside."""

    @staticmethod
    def forward(ctx: Any, cell: Cell, reverse: bool, *arguments: Any) -> Triple:
        *arrays, bias = (_array(a) for a in arguments)
        ctx.cell, ctx.reverse, ctx.like = cell, reverse, arguments
        x, h0, c0, weight_ih, weight_hh = ctx.arrays = arrays
        ctx.run = reference.run(cell, x, h0, c0, weight_ih, weight_hh, bias, reverse=reverse)
        like = arguments[0]
        return _tensor(ctx.run.output, like), _tensor(ctx.run.h, like), _tensor(ctx.run.c, like)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, h0, c0, weight_ih, weight_hh = ctx.arrays
        grad_output, grad_h, grad_c = (_array(g) for g in grads)
        back = reference.backward(
            ctx.cell,
            ctx.run,
            x,
            h0,
            c0,
            weight_ih,
            weight_hh,
            grad_output,
            grad_h,
            grad_c,
            reverse=ctx.reverse,
        )
        names = ("x", "h0", "c0", "weight_ih", "weight_hh", "bias")
        tensors = [
            None if like is None else _tensor(back[name], like)
            for name, like in zip(names, ctx.like, strict=True)
        ]
        return None, None, *tensors


def _tensor(array: Any, like: Tensor) -> Tensor:
    return torch.from_numpy(np.array(array)).to(like)


_apply_numpy: Callable[..., Any] = _Numpy.apply
