"""A layer as two torch operators, so that torch sees one call and not its inside; what
`anygate.operators` declares is done here.

The argument `engine` names the engine that runs; "" is this one where it can, else eager. This
engine keeps values for its way back. Any other's backward runs the layer once more: a compiled
graph keeps only tensors that its compiler knows of.

An operator written in Python costs about 40 us a call with its gradient, which a single time step
would see. So plain calls, which nothing intercepts (no compiler, no tracing, no functional
transform, no dispatch mode), go to the machine code directly through an autograd Function.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ...cells import cell_of
from ..again import gradients, needs_operator, warn_once
from ..protocol import Layer, Measures, Request, Result, load, needs_gradient
from ..whole import output_state, run_whole, to_result
from . import plain

__all__ = [
    "backward",
    "backward_operator",
    "backward_shapes",
    "forward_operator",
    "forward_shapes",
    "needs_operator",
    "run",
    "save_forward",
    "vmap_backward",
    "vmap_forward",
]

_TENSORS = 9


def run(key: str, layer: Layer, keep: bool, measures: Measures | None) -> Result:
    """`Engine.run` in float32 and float64. Raises RuntimeError where measures are asked for under
    torch.compile, torch.func and the like."""
    training = needs_gradient(layer)
    if needs_operator(layer):
        if measures is not None:
            raise RuntimeError(
                "anygate.record measures plain calls; take torch.compile, torch.func, vmap, "
                "forward-mode differentiation and dispatch modes off while it records"
            )
        if _is_transformed(layer):
            warn_once("a transform of torch.func, or forward-mode differentiation, runs")
            return load("eager").run(key, layer, keep)
        return run_whole(key, layer, keep, training)
    x, states, *rest, reverse = layer
    if training:
        count = len(states)
        output, *results = plain.apply(key, reverse, keep, measures, count, *states, x, *rest)
        return to_result(key, output, results[:count], results[count] if keep else None)
    output, last, _, others = plain.forward(key, layer, False, keep, measures)
    return to_result(key, output, last, others if keep else None)


def _is_transformed(layer: Layer) -> bool:
    """torch.func's grad, vjp, jvp ..., or a dual tensor, asks for what the operator cannot:
    torch.library's operators know vmap alone."""
    if torch.compiler.is_compiling():
        return False
    stack = torch._C._functorch.get_interpreter_stack()
    if stack:
        vmap = torch._C._functorch.TransformType.Vmap
        if any(level.key() != vmap for level in stack):
            return True
    if forward_ad._current_level < 0:
        return False
    unpack: Any = forward_ad.unpack_dual
    tensors = (layer.x, *layer.states, *layer[2:9])
    return any(t is not None and unpack(t).tangent is not None for t in tensors)


# ---- the operators' halves ------------------------------------------------------------------


def _is_fused(key: str, x: Tensor, engine: str) -> bool:
    """This engine's machine code runs the operator, and not `Engine.run` of an engine."""
    if engine not in ("", "cpu"):
        return False
    return x.device.type == "cpu" and _serves(key, str(x.dtype).removeprefix("torch."))


@lru_cache(maxsize=512)
def _serves(key: str, dtype: str) -> bool:
    whole = dtype in ("float32", "float64")
    return whole and load("cpu").refuses(Request(cell_of(key), "cpu", dtype, True)) is None


def _run_of(engine: str, key: str, reverse: bool, keep: bool) -> Any:
    """The operator's differentiable results, of its nine tensors, by an engine's own run."""
    place = output_state(key)

    def run(x: Tensor, states: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
        parts: Any = (x, states.unbind(0), *rest, reverse)
        found = load(engine or "eager").run(key, Layer(*parts), keep)
        others = None
        if found.kept is not None:
            kept = [t for k, t in enumerate(found.kept) if k != place]
            others = torch.stack(kept) if kept else None
        return found.output, torch.stack(found.states), others

    return run


def forward_operator(*arguments: Any, engine: str = "") -> tuple[Tensor, ...]:
    x, states, *rest, key, reverse, training, keep = arguments
    saved = others = None
    if _is_fused(key, x, engine):
        parts: Any = (x, states.unbind(0), *rest, reverse)
        output, last, saved, others = plain.forward(key, Layer(*parts), training, keep)
        last = torch.stack(last)
    else:
        with torch.no_grad():
            output, last, others = _run_of(engine, key, reverse, keep)(x, states, *rest)
        output = output.contiguous()
        if others is None and keep:
            others = x.new_empty((0, *output.shape))
    # Operators return tensors, each of them its own.
    return output, last, *(x.new_empty(0) if t is None else t for t in (saved, others))


def forward_shapes(*arguments: Any, engine: str = "") -> tuple[Tensor, ...]:
    x, states = arguments[:2]
    key, _, training, keep = arguments[_TENSORS:]
    count, _, hidden = states.shape
    training = training and _is_fused(key, x, engine)
    output = x.new_empty((*x.shape[:-1], hidden))
    saved = x.new_empty((*x.shape[:-1], len(cell_of(key).saved) * hidden) if training else 0)
    others = x.new_empty((count - 1, *output.shape) if training or keep else 0)
    return output, _like(states), saved, others


def save_forward(
    ctx: Any, inputs: Any, output: Any, keyword_only_inputs: dict[str, Any] | None = None
) -> None:
    *tensors, key, reverse, _, keep = inputs
    result, _, saved, others = output
    ctx.call = key, reverse, keep
    ctx.engine = (keyword_only_inputs or {})["engine"]
    ctx.save_for_backward(*tensors, result, saved, others)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(saved, *(() if keep else (others,)))


def backward(ctx: Any, grad_output: Any, grad_states: Any, _: Any, grad_others: Any) -> Any:
    (key, reverse, keep), engine = ctx.call, ctx.engine
    arriving, tensors = (grad_output, grad_states, grad_others), ctx.saved_tensors
    own, need_x = tensors[:_TENSORS], ctx.needs_input_grad[0]
    if torch.is_grad_enabled():  # create_graph: these gradients will be differentiated
        other = "" if _is_fused(key, own[0], engine) else engine
        found = gradients(_run_of(other, key, reverse, keep), own, arriving)
    else:
        results = torch.ops.anygate.recurrent_backward(
            *arriving, *tensors, key, reverse, need_x, engine=engine
        )
        found = list(plain.present(results, own))
    return (found[0] if need_x else None, *found[1:], None, None, None, None)


def backward_operator(*arguments: Any, engine: str = "") -> tuple[Tensor, ...]:
    *arriving, x, states = arguments[:5]
    *weights, batch_sizes, output, saved, others, key, reverse, need_x = arguments[5:]
    grad_output, grad_states, grad_others = arriving
    if _is_fused(key, x, engine):
        grads = [None] * len(states) if grad_states is None else grad_states.unbind(0)
        parts: Any = (x, states.unbind(0), *weights, batch_sizes, reverse)
        kept = output, saved, others
        found = plain.backward(key, Layer(*parts), kept, grad_output, grads, grad_others, need_x)
        return (found.x, torch.stack(found.states), *found[2:])
    own = (x, states, *weights, batch_sizes)
    needed = (need_x, *(True,) * 6, False, False)
    run = _run_of(engine, key, reverse, grad_others is not None)
    grads = gradients(run, own, arriving, create_graph=False, needed=needed)
    shapes = backward_shapes(*arguments)
    return tuple(
        like.zero_() if found is None else found.contiguous()
        for found, like in zip(grads[:7], shapes, strict=True)
    )


def backward_shapes(*arguments: Any, engine: str = "") -> tuple[Tensor, ...]:
    x, states, weight_ih, weight_hh, bias_ih, bias_hh, vectors = arguments[3:10]
    empty = x.new_empty
    optional = (empty(0) if t is None else _like(t) for t in (bias_ih, bias_hh, vectors))
    weights = map(_like, (states, weight_ih, weight_hh))
    return (_like(x) if arguments[-1] else empty(0), *weights, *optional)


def _like(tensor: Tensor) -> Tensor:
    return tensor.new_empty(tensor.shape)


def vmap_forward(info: Any, in_dims: Any, *arguments: Any, engine: str = "") -> Any:
    """A batch of x, states or masks is more batch rows; a batch of weights is one layer after
    another."""
    operator = partial(torch.ops.anygate.recurrent, engine=engine)
    own_weights = any(d is not None for d in in_dims[2:7])
    fused = _is_fused(arguments[9], arguments[0], engine)
    if own_weights or arguments[8] is not None or not fused:
        return _vmap_each(operator, info, in_dims, arguments)
    count, places = info.batch_size, (0, 1, 7)

    def rows(place: int) -> Any:
        tensor, d = arguments[place], in_dims[place]
        if tensor is None:
            return None
        if d is None:
            tensor = tensor.unsqueeze(1).expand(tensor.shape[0], count, *tensor.shape[1:])
        else:
            tensor = tensor.movedim(d, 1)
        return tensor.flatten(1, 2)

    own = [rows(k) if k in places else a for k, a in enumerate(arguments)]
    results = operator(*own)
    training, keep = arguments[-2:]
    found_at = (1, 1, 1 if training else None, 2 if training or keep else None)
    parts = (
        t if place is None else t.unflatten(place, (count, -1))
        for t, place in zip(results, found_at, strict=True)
    )
    return tuple(parts), found_at


def vmap_backward(info: Any, in_dims: Any, *arguments: Any, engine: str = "") -> Any:
    operator = partial(torch.ops.anygate.recurrent_backward, engine=engine)
    return _vmap_each(operator, info, in_dims, arguments)


def _vmap_each(operator: Any, info: Any, in_dims: Any, arguments: Any) -> Any:
    """One call for each member of the batch."""
    calls = [
        operator(
            *(a if d is None else a.select(d, k) for a, d in zip(arguments, in_dims, strict=True))
        )
        for k in range(info.batch_size)
    ]
    results = tuple(torch.stack(parts) for parts in zip(*calls, strict=True))
    return results, (0,) * len(results)
