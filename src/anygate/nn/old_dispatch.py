"""Between torch modules and engines: which engine runs, and how it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..engines import eager, reference
from ..engines.base import Choice, Measures, Request, choose, load
from ..formulas.cell import Cell
from . import operator
from .checks import autocasting
from .packed import run_packed
from .parameters import summed

__all__ = ["Wiring", "without_autocast"]

Triple = tuple[Tensor, Tensor, Tensor]
Parameters = dict[str, Tensor]


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

    def infer(
        self, x: Tensor, h0: Tensor, c0: Tensor, weights: tuple[Any, ...], batch_sizes: Any
    ) -> Triple | None:
        """`run` where it is the cpu engine without gradients, by the shortest way: a single time
        step takes less than all checks together. States [1, B, H]. None where anything else is
        asked for."""
        if torch.is_grad_enabled() or self.cell.per_unit or torch._C._is_any_autocast_enabled():
            return None
        if operator.watched((x, h0, c0, *weights)) or x.dtype not in _WHOLE:
            return None
        if _name(self.key, self.engine, x.device.type, x.dtype, False) != "cpu":
            return None
        return operator.infer(self.key, (x, h0, c0, *weights, None, batch_sizes))

    def run(
        self,
        x: Tensor,
        h0: Tensor,
        c0: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias_ih: Tensor | None,
        bias_hh: Tensor | None,
        parameters: Parameters | None = None,
        batch_sizes: Tensor | None = None,
        reverse: bool = False,
        measures: Measures | None = None,
    ) -> Triple:
        """One direction of one layer. x [T, B, I], or [N, I] packed with batch_sizes [T]; the other
        shapes and the results as in `Engine.run`; parameters: those of the cell's per_unit, each
        [H]; measures: told what happens inside. Under autocast in its dtype, as torch.nn.LSTM."""
        tensors = (x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh)
        if autocasting(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            with torch.autocast(x.device.type, enabled=False):
                x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh = (
                    _cast(t, dtype) for t in tensors
                )
                own = {k: _cast(v, dtype) for k, v in (parameters or {}).items()}
                return self.run(
                    x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, own, batch_sizes, reverse,
                    measures,
                )  # fmt: skip
        name = _name(self.key, self.engine, *_circumstances(x, weight_ih))
        if name == "cpu":
            vectors = torch.stack([*parameters.values()]) if parameters else None
            if x.dtype in _HALF:  # computed in float32, rounded once
                single = (None if t is None else t.float() for t in (*tensors, vectors))
                results = operator.run(self.key, reverse, *single, batch_sizes, measures=measures)
                return cast(Triple, tuple(t.to(x.dtype) for t in results))
            return operator.run(
                self.key, reverse, *tensors, vectors, batch_sizes, measures=measures
            )
        if measures is not None and batch_sizes is not None:
            raise RuntimeError(
                f"anygate.record measures packed sequences on the cpu engine alone, not on {name}; "
                "pad them, or record them on the CPU"
            )
        weights = (weight_ih, weight_hh, summed(bias_ih, bias_hh))

        def whole(x: Tensor, h: Tensor, c: Tensor) -> Triple:
            arguments = (x, h, c, *weights)
            return self._whole(_ENGINES[name], arguments, parameters or {}, reverse, measures)

        if batch_sizes is None:
            return whole(x, h0, c0)
        return run_packed(whole, x, batch_sizes, h0, c0, reverse)

    def _whole(
        self, engine: Any, tensors: Any, parameters: Parameters, reverse: bool,
        measures: Measures | None,
    ) -> Triple:  # fmt: skip
        """A batch of equal lengths on another engine."""
        if engine.FRAMEWORK == "numpy":
            fixed = (self.cell, reverse, measures, tuple(parameters))
            return cast(Triple, _apply_numpy(*fixed, *tensors, *parameters.values()))
        return cast(Triple, engine.run(self.cell, *tensors, parameters, reverse, measures))


def without_autocast(
    run: Callable[[Tensor, Tensor, Tensor], Triple], x: Tensor, h0: Tensor, c0: Tensor,
    dtype: torch.dtype, projected: bool = False,
) -> Triple:  # fmt: skip
    """run(x, h0, c0) in the weights' dtype even under autocast, with the dtypes that torch gives
    where it has no half-precision kernel (packs, LSTMCell): x's, but autocast's for what a
    projection gives."""
    device = x.device.type
    if not autocasting(device):
        return run(x, h0, c0)
    with torch.autocast(device, enabled=False):
        output, h, c = run(x.to(dtype), h0.to(dtype), c0.to(dtype))
    narrow = torch.get_autocast_dtype(device) if projected else x.dtype
    return output.to(narrow), h.to(narrow), c.to(x.dtype)


_WHOLE = (torch.float32, torch.float64)
_HALF = (torch.float16, torch.bfloat16)
_ENGINES: dict[str, Any] = {"eager": eager, "reference": reference}
"""Those that are called here; torch.compile cannot trace `load`."""


def _cast(tensor: Any, dtype: torch.dtype) -> Any:
    """As autocast does: float64 stays."""
    return tensor if tensor is None or tensor.dtype == torch.float64 else tensor.to(dtype)


def _circumstances(x: Tensor, weight: Tensor) -> tuple[str, torch.dtype, bool]:
    """Device, dtype, and whether gradients will be needed."""
    training = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
    return x.device.type, x.dtype, training


@lru_cache(maxsize=512)
def _choose(key: str, engine: str, device: str, dtype: torch.dtype, training: bool) -> Choice:
    request = Request(operator.cell_of(key), device, str(dtype).removeprefix("torch."), training)
    return choose(request, engine)


def _name(key: str, engine: str, device: str, dtype: torch.dtype, training: bool) -> str:
    """The engine's name; a constant for torch.compile, which cannot trace a registry."""
    return _choose(key, engine, device, dtype, training).name


_name = cast(Any, torch.compiler.assume_constant_result)(_name)


def _array(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.detach().cpu().to(torch.float64).numpy()


class _Numpy(torch.autograd.Function):
    """The reference engine under autograd: float64 inside, the tensors' own dtype outside."""

    @staticmethod
    def forward(
        ctx: Any, cell: Cell, reverse: bool, measures: Any, names: tuple[str, ...], *tensors: Any
    ) -> Triple:
        x, h0, c0, weight_ih, weight_hh, bias, *values = (_array(t) for t in tensors)
        ctx.parameters = dict(zip(names, values, strict=True))
        ctx.cell, ctx.reverse, ctx.like, ctx.measures = cell, reverse, tensors, measures
        ctx.arrays = x, h0, c0, weight_ih, weight_hh
        run: Callable[..., Any] = reference.run
        ctx.run = run(cell, *ctx.arrays, bias, ctx.parameters, reverse, measures)
        like = tensors[0]
        return _tensor(ctx.run.output, like), _tensor(ctx.run.h, like), _tensor(ctx.run.c, like)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        backward: Callable[..., Any] = reference.backward
        back = backward(
            ctx.cell, ctx.run, *ctx.arrays, *map(_array, grads), ctx.parameters, ctx.reverse,
            ctx.measures,
        )  # fmt: skip
        names = ("x", "h0", "c0", "weight_ih", "weight_hh", "bias")
        found = [back[name] for name in names]
        found += [back["parameters"][name].sum(0) for name in ctx.parameters]
        results = (
            None if like is None else _tensor(array, like)
            for array, like in zip(found, ctx.like, strict=True)
        )
        return None, None, None, None, *results


def _tensor(array: Any, like: Tensor) -> Tensor:
    return torch.from_numpy(np.array(array)).to(like)


_apply_numpy: Callable[..., Any] = _Numpy.apply
