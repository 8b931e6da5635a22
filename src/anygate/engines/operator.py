"""The fused layer as registered torch operators, so that torch sees one call and not its inside.

`anygate::recurrent` runs one direction of one layer, `anygate::recurrent_backward` its gradients.
The gradient of the latter, for double backward, goes through the eager engine.

An operator written in Python costs about 40 us a call with its gradient, which a single time step
would see. So plain calls, which nothing intercepts (no compiler, no tracing, no functional
transform, no dispatch mode), go to the machine code directly through an autograd Function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..cells import cell_of
from .again import gradients, needs_operator, warn_once
from .protocol import Layer, Measures, Result, load, needs_gradient

__all__ = ["implement", "intercepted", "present", "result_of"]

_LAYER = (
    "Tensor x, Tensor states, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, "
    "Tensor? bias_hh, Tensor? vectors, Tensor? masks, Tensor? batch_sizes"
)
"""As in `Layer`, the states stacked: [S, B, H]."""
_TENSORS = 9
_LIBRARY: Any = cast(Any, torch.library.Library)("anygate", "FRAGMENT")
_LIBRARY.define(
    f"recurrent({_LAYER}, str cell, bool reverse, bool training, bool keep) "
    "-> (Tensor, Tensor, Tensor, Tensor)"
)
"""-> output [T, B, H], states [S, B, H], saved [T, B, K*H] for training, and, for training or with
keep, the states but the output at all steps [S - 1, T, B, H]; packed, with [N] for [T, B]."""
_LIBRARY.define(
    f"recurrent_backward(Tensor? grad_output, Tensor? grad_states, Tensor? grad_others, {_LAYER}, "
    "Tensor output, Tensor saved, Tensor others, str cell, bool reverse, bool need_x) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)
"""-> gradients of x, states, weight_ih, weight_hh, bias_ih, bias_hh and vectors; empty where there
is no such tensor, and for x where it is not needed."""


Forward = Callable[[str, Layer, bool, bool], Any]
"""(key, layer, training, keep) -> output, the last states, saved, others."""
Backward = Callable[..., Any]
"""(key, layer, (output, saved, others), grad_output, grad_states, grad_others, need_x) -> the
gradients of x, the states (a list) and the rest; None or empty where there is no such tensor."""


def implement(device: str, forward: Forward, backward: Backward) -> None:
    """Give the operators what they run on a kind of device, by torch's name ("CPU", "CUDA")."""

    def run_forward(*arguments: Any) -> Any:
        return _forward_operator(forward, *arguments)

    def run_backward(*arguments: Any) -> Any:
        return _backward_operator(backward, *arguments)

    _LIBRARY.impl("recurrent", run_forward, device)
    _LIBRARY.impl("recurrent_backward", run_backward, device)


def intercepted(key: str, layer: Layer, keep: bool, measures: Measures | None) -> Result | None:
    """`Engine.run` by the operators, or by eager, where `needs_operator`; else None. Raises
    RuntimeError where measures are asked for then."""
    if not needs_operator(layer):
        return None
    if measures is not None:
        raise RuntimeError(
            "anygate.record measures plain calls; take torch.compile, torch.func, vmap, "
            "forward-mode differentiation and dispatch modes off while it records"
        )
    if _is_transformed(layer):
        warn_once("a transform of torch.func, or forward-mode differentiation, runs")
        return load("eager").run(key, layer, keep)
    return _run_operator(key, layer, keep, needs_gradient(layer))


def _run_operator(key: str, layer: Layer, keep: bool, training: bool) -> Result:
    x, states, *rest, reverse = layer
    # A batched tensor of vmap does not say whether an outer transform wants its gradient.
    inside = torch._C._functorch.peek_interpreter_stack() is not None
    training = training or (inside and torch.is_grad_enabled())
    output, last, _, others = torch.ops.anygate.recurrent(
        x, torch.stack(states), *rest, key, reverse, training, keep
    )
    return result_of(key, output, [last[k] for k in range(len(states))], others if keep else None)


def result_of(key: str, output: Tensor, states: Sequence[Tensor], others: Tensor | None) -> Result:
    """others [S - 1, *, H]: the states but the output at every time step, where they are kept."""
    if others is None:
        return Result(output, tuple(states))
    place = _output_state(key)
    count = len(states) - 1
    # Of several each gets memory of its own, so that one may be changed in place.
    kept = [others[k].clone() if count > 1 else others[k] for k in range(count)]
    return Result(output, tuple(states), (*kept[:place], output.clone(), *kept[place:]))


def _output_state(key: str) -> int:
    """The number of the output state; a constant for torch.compile."""
    kind = cell_of(key).type
    return kind.states.index(kind.output)


_output_state = cast(Any, torch.compiler.assume_constant_result)(_output_state)


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


def present(results: Any, tensors: Sequence[Tensor | None]) -> tuple[Any, ...]:
    """The gradients of a layer's nine tensors: of biases and vectors that there are, and none of
    masks and batch_sizes."""
    first, optional = tuple(results)[:4], tuple(results)[4:]
    given = (g if t is not None else None for g, t in zip(optional, tensors[4:7], strict=True))
    return (*first, *given, None, None)


# ---- the operators' halves ------------------------------------------------------------------


def _forward_operator(forward: Forward, *arguments: Any) -> Any:
    x, states, *rest, key, reverse, training, keep = arguments
    parts: Any = (x, states.unbind(0), *rest, reverse)
    layer = Layer(*parts)
    output, last, saved, others = forward(key, layer, training, keep)
    empty = x.new_empty(0)  # operators return tensors
    return (
        output,
        torch.stack(last),
        empty if saved is None else saved,
        empty.clone() if others is None else others,
    )


def _forward_shapes(*arguments: Any) -> Any:
    x, states = arguments[:2]
    key, _, training, keep = arguments[_TENSORS:]
    count, _, hidden = states.shape
    output = x.new_empty((*x.shape[:-1], hidden))
    saved = x.new_empty((*x.shape[:-1], len(cell_of(key).saved) * hidden) if training else 0)
    others = x.new_empty((count - 1, *output.shape) if training or keep else 0)
    return output, _like(states), saved, others


def _save_forward(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, key, reverse, _, keep = inputs
    result, _, saved, others = output
    ctx.key, ctx.reverse = key, reverse
    ctx.save_for_backward(*tensors, result, saved, others)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(saved, *(() if keep else (others,)))


def _backward(
    ctx: Any, grad_output: Any, grad_states: Any, grad_saved: Any, grad_others: Any
) -> Any:
    tensors, need_x = ctx.saved_tensors, ctx.needs_input_grad[0]
    results = torch.ops.anygate.recurrent_backward(
        grad_output, grad_states, grad_others, *tensors, ctx.key, ctx.reverse, need_x
    )
    x, *rest = present(results, tensors)
    return (x if need_x else None, *rest, None, None, None, None, None, None)


def _backward_operator(backward: Backward, *arguments: Any) -> Any:
    grad_output, grad_states, grad_others, x, states, *rest = arguments
    *weights, batch_sizes, output, saved, others, key, reverse, need_x = rest
    count = len(states)
    grads = [None] * count if grad_states is None else grad_states.unbind(0)
    parts: Any = (x, states.unbind(0), *weights, batch_sizes, reverse)
    layer = Layer(*parts)
    kept = output, saved, others
    found = backward(key, layer, kept, grad_output, grads, grad_others, need_x)
    empty = x.new_empty
    others = (empty(0) if t is None else t for t in found[2:])
    return (empty(0) if found.x is None else found.x, torch.stack(found.states), *others)


def _backward_shapes(*arguments: Any) -> Any:
    x, states, weight_ih, weight_hh, bias_ih, bias_hh, vectors = arguments[3:10]
    empty = x.new_empty
    optional = (empty(0) if t is None else _like(t) for t in (bias_ih, bias_hh, vectors))
    weights = map(_like, (states, weight_ih, weight_hh))
    return (_like(x) if arguments[-1] else empty(0), *weights, *optional)


def _like(tensor: Tensor) -> Tensor:
    return tensor.new_empty(tensor.shape)


def _save_backward(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, key, reverse, need_x = inputs
    ctx.key, ctx.reverse, ctx.need_x = key, reverse, need_x
    ctx.save_for_backward(*tensors[: 3 + _TENSORS])
    ctx.set_materialize_grads(False)


def _double_backward(ctx: Any, *grads: Any) -> Any:
    """The gradient of the gradients."""
    inputs, again = ctx.saved_tensors, torch.is_grad_enabled()
    keep = inputs[2] is not None

    def run(*tensors: Any) -> tuple[Tensor | None, ...]:
        arriving, own = tensors[:3], tensors[3:]
        layer = _eager_operator(ctx.key, ctx.reverse, keep)
        return tuple(gradients(layer, own, arriving)[:7])

    found = gradients(run, inputs, grads, create_graph=again)
    return (*found, None, None, None, None, None, None)


def _eager_operator(key: str, reverse: bool, keep: bool) -> Any:
    """The operator's differentiable results on the eager engine."""
    place = _output_state(key)

    def run(x: Tensor, states: Tensor, *rest: Any) -> tuple[Tensor | None, ...]:
        parts: Any = (x, states.unbind(0), *rest, reverse)
        found = load("eager").run(key, Layer(*parts), keep)
        others = None
        if found.kept is not None:
            kept = [t for k, t in enumerate(found.kept) if k != place]
            others = torch.stack(kept) if kept else None
        return found.output, torch.stack(found.states), others

    return run


def _vmap_forward(info: Any, in_dims: Any, *arguments: Any) -> Any:
    """A batch of x, states or masks is more batch rows; a batch of weights is one layer after
    another."""
    if any(d is not None for d in in_dims[2:7]) or arguments[8] is not None:
        return _vmap_each(torch.ops.anygate.recurrent, info, in_dims, arguments)
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
    results = torch.ops.anygate.recurrent(*own)
    training, keep = arguments[-2:]
    found_at = (1, 1, 1 if training else None, 2 if training or keep else None)
    parts = (
        t if place is None else t.unflatten(place, (count, -1))
        for t, place in zip(results, found_at, strict=True)
    )
    return tuple(parts), found_at


def _vmap_backward(info: Any, in_dims: Any, *arguments: Any) -> Any:
    return _vmap_each(torch.ops.anygate.recurrent_backward, info, in_dims, arguments)


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


torch.library.register_fake("anygate::recurrent", _forward_shapes, lib=_LIBRARY)
torch.library.register_fake("anygate::recurrent_backward", _backward_shapes, lib=_LIBRARY)
torch.library.register_autograd(
    "anygate::recurrent", _backward, setup_context=_save_forward, lib=_LIBRARY
)
torch.library.register_autograd(
    "anygate::recurrent_backward", _double_backward, setup_context=_save_backward, lib=_LIBRARY
)
torch.library.register_vmap("anygate::recurrent", _vmap_forward, lib=_LIBRARY)
torch.library.register_vmap("anygate::recurrent_backward", _vmap_backward, lib=_LIBRARY)
