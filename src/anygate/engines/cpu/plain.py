"""Plain calls of the machine code, where no operator is needed, differentiable by autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ...cells import cell_of
from ..again import gradients, have_memory, warn_once
from ..protocol import CREATE_GRAPH, Layer, Measures, load

__all__ = [
    "CREATE_GRAPH_RUNS",
    "apply",
    "backward",
    "code",
    "forward",
    "present",
]

CREATE_GRAPH_RUNS = "a gradient of a gradient (create_graph=True) is taken: this backward runs"


def forward(
    key: str, layer: Layer, training: bool, keep: bool = False, measures: Measures | None = None
) -> Any:
    """`layer.Forward` of a layer."""
    if torch.is_autocast_enabled("cpu"):  # the products inside are not for it to change
        with torch.autocast("cpu", enabled=False):
            return forward(key, layer, training, keep, measures)
    kernels = code(key, layer.x.dtype, training, measures is not None)
    receive = None if measures is None else measures.forward
    return _calls().forward(kernels, *layer, training, keep, receive)


def backward(
    key: str,
    layer: Layer,
    kept: Any,
    grad_output: Tensor | None,
    grad_states: Sequence[Tensor | None],
    grad_others: Tensor | None,
    need_x: bool,
    measures: Measures | None = None,
) -> Any:
    """`layer.Backward`; kept: output, saved and others of the forward run. The gradients of absent
    biases are empty."""
    if torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return backward(
                key, layer, kept, grad_output, grad_states, grad_others, need_x, measures
            )
    x, states, weight_ih, weight_hh, bias_ih, bias_hh, vectors, masks, sizes, reverse = layer
    kernels = code(key, x.dtype, True, measures is not None)
    receive = None if measures is None else measures.backward
    found = _calls().backward(
        kernels,
        grad_output,
        grad_states,
        grad_others,
        x,
        states,
        weight_ih,
        weight_hh,
        vectors,
        masks,
        sizes,
        *kept,
        reverse,
        need_x,
        receive,
    )
    if bias_ih is not None and bias_hh is not None:
        return found
    return found._replace(bias_ih=x.new_empty(0), bias_hh=x.new_empty(0))


@lru_cache(maxsize=1)
def _calls() -> ModuleType:
    """The module that needs llvmlite, imported at the first call."""
    from . import layer

    return layer


@lru_cache(maxsize=512)
def code(key: str, dtype: torch.dtype, training: bool, measuring: bool = False) -> Any:
    """Machine code by the key's text: hashing a Cell takes 15 us, which a single step would see."""
    from . import compiler

    return compiler.kernels(cell_of(key), str(dtype).removeprefix("torch."), training, measuring)


class _Fused(torch.autograd.Function):
    """tensors: the states, one by one, and the other tensors of a `Layer`. Results: the output, the
    last states one by one and, with keep, the states but the output at all steps."""

    @staticmethod
    def forward(
        ctx: Any,
        key: str,
        reverse: bool,
        keep: bool,
        measures: Measures | None,
        count: int,
        *tensors: Any,
    ) -> Any:
        layer = _layer_of(tensors, count, reverse)
        output, states, saved, others = forward(key, layer, True, keep, measures)
        ctx.call = key, reverse, keep, measures, count
        # The caller may change the output in place, as torch.nn.LSTM's. So what is saved shares
        # its memory but not its version; an empty tensor has the version alone.
        ctx.save_for_backward(*tensors, output.data, saved, others)
        ctx.version = output.detach()
        ctx.version.data = saved.new_empty(0)
        ctx.unchanged = ctx.version._version
        ctx.set_materialize_grads(False)
        return (output, *states, others.clone()) if keep else (output, *states)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        key, reverse, keep, measures, count = ctx.call
        *tensors, output, saved, others = ctx.saved_tensors
        plain = not torch.is_grad_enabled() and have_memory(grads)
        if measures is not None and not plain:
            raise RuntimeError(CREATE_GRAPH)
        nothing = (None,) * 5
        if torch.is_grad_enabled():  # create_graph: these gradients will be differentiated
            warn_once(CREATE_GRAPH_RUNS)
            return *nothing, *gradients(_eager(key, reverse, keep, count), tuple(tensors), grads)
        layer = _layer_of(tensors, count, reverse)
        if ctx.version._version != ctx.unchanged:
            output = forward(key, layer, True).output
        need_x = ctx.needs_input_grad[5 + count]
        grad_output, grad_states = grads[0], grads[1 : 1 + count]
        grad_others = grads[1 + count] if keep else None
        if not plain:
            results = torch.ops.anygate.recurrent_backward(
                grad_output,
                _stacked(grad_states),
                grad_others,
                layer.x,
                torch.stack(layer.states),
                *layer[2:9],
                output,
                saved,
                others,
                key,
                reverse,
                need_x,
            )
            states = results[1].unbind(0)
        else:
            results = backward(
                key,
                layer,
                (output, saved, others),
                grad_output,
                grad_states,
                grad_others,
                need_x,
                measures,
            )
            states = results.states
        x, _, *rest = present(results, (None, None, *layer[2:7]))
        return *nothing, *states, x if need_x else None, *rest


apply: Callable[..., Any] = _Fused.apply


def _layer_of(tensors: Sequence[Any], count: int, reverse: bool) -> Layer:
    parts: Any = (tensors[count], tuple(tensors[:count]), *tensors[count + 1 :], reverse)
    return Layer(*parts)


def present(results: Any, tensors: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """The gradients of a layer's nine tensors: of biases and vectors that there are, and none of
    masks and batch_sizes."""
    first, optional = tuple(results)[:4], tuple(results)[4:]
    given = (g if t is not None else None for g, t in zip(optional, tensors[4:7], strict=True))
    return (*first, *given, None, None)


def _stacked(grads: Sequence[Tensor | None]) -> Tensor | None:
    """[S, B, H] of gradients of which some may be None."""
    like = next((g for g in grads if g is not None), None)
    if like is None:
        return None
    return torch.stack([torch.zeros_like(like) if g is None else g for g in grads])


def _eager(key: str, reverse: bool, keep: bool, count: int) -> Callable[..., Any]:
    """`_Fused`'s results on the eager engine."""
    kind = cell_of(key).type
    place = kind.states.index(kind.output)

    def run(*tensors: Any) -> tuple[Tensor | None, ...]:
        found = load("eager").run(key, _layer_of(tensors, count, reverse), keep)
        if found.kept is None:
            return found.output, *found.states
        others = [t for k, t in enumerate(found.kept) if k != place]
        return found.output, *found.states, torch.stack(others) if others else None

    return run
