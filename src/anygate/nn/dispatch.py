"""Between torch modules and engines: which engine runs, and how it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..backends import reference
from ..backends.base import Choice, Request, choose, load
from ..symbolic.cell import Cell
from . import operator

__all__ = ["Wiring"]

Triple = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Wiring:
    """What a module needs to call engines: its cell, the cell as text, the engine asked for."""

    cell: Cell
    key: str
    engine: str

    @classmethod
    def of(cls, cell: Cell, engine: str) -> Wiring:
        """Raises EngineError for an unknown engine."""
        if engine != "auto":
            load(engine)
        return cls(cell, operator.cell_key(cell), engine)

    def explain(self, x: Tensor, weight: Tensor) -> Choice:
        """The engine for x and weights like `weight`, and why no faster one."""
        return _choose(self.key, self.engine, *_circumstances(x, weight))

    def run(
        self,
        x: Tensor,
        h0: Tensor,
        c0: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias: Tensor | None,
        reverse: bool = False,
    ) -> Triple:
        """One direction of one layer; shapes as in `Engine.run`. Under autocast in its dtype, as
        torch.nn.LSTM."""
        arguments = (x, h0, c0, weight_ih, weight_hh, bias)
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            with torch.autocast(x.device.type, enabled=False):
                x, h0, c0, weight_ih, weight_hh, bias = (_cast(a, dtype) for a in arguments)
                return self.run(x, h0, c0, weight_ih, weight_hh, bias, reverse)
        name = _name(self.key, self.engine, *_circumstances(x, weight_ih))
        if name == "cpu":
            return operator.run(self.key, *arguments, reverse)
        engine = load(name)
        if engine.FRAMEWORK == "numpy":
            return cast(Triple, _apply_numpy(self.cell, reverse, *arguments))
        return cast(Triple, engine.run(self.cell, *arguments, parameters={}, reverse=reverse))


def _cast(tensor: Any, dtype: torch.dtype) -> Any:
    """As autocast does: float64 stays."""
    return tensor if tensor is None or tensor.dtype == torch.float64 else tensor.to(dtype)


def _circumstances(x: Tensor, weight: Tensor) -> tuple[str, str, bool]:
    """Device, dtype, and whether gradients will be needed."""
    training = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return x.device.type, str(x.dtype), training


@lru_cache(maxsize=512)
def _choose(key: str, engine: str, device: str, dtype: str, training: bool) -> Choice:
    request = Request(operator.cell_of(key), device, dtype.removeprefix("torch."), training)
    return choose(request, engine)


def _name(key: str, engine: str, device: str, dtype: str, training: bool) -> str:
    """The engine's name; a constant for torch.compile, which cannot trace a registry."""
    return _choose(key, engine, device, dtype, training).name


_name = cast(Any, torch.compiler.assume_constant_result)(_name)


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
