"""The fused layer as registered torch operators, so that torch sees one call and not its inside.

`anygate::lstm` runs one direction of one layer, `anygate::lstm_backward` its gradients. The
gradient of the latter, for double backward, goes through the eager engine's operations.

An operator written in Python costs about 40 us a call with its gradient, which a single time step
would see. So plain calls, where nothing watches (no compiler, no tracing, no functional transform,
no dispatch mode), go to the engine directly through an autograd Function.
"""

from __future__ import annotations

import json
import warnings
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..engines import eager
from ..engines.base import CREATE_GRAPH, Measures
from ..formulas.activation import Activation
from ..formulas.cell import SLOTS, Cell
from .packed import run_packed
from .parameters import summed

__all__ = ["cell_key", "cell_of", "run"]

Triple = tuple[Tensor, Tensor, Tensor]

_LAYER = (
    "Tensor x, Tensor h0, Tensor c0, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, "
    "Tensor? bias_hh, Tensor? vectors, Tensor? batch_sizes"
)
"""x [T, B, I], or [N, I] with batch_sizes [T]; vectors [number, H], the cell's per_unit."""
_TENSORS = 9
_LIBRARY: Any = cast(Any, torch.library.Library)("anygate", "DEF")
_LIBRARY.define(
    f"lstm({_LAYER}, str cell, bool reverse, bool training) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    f"lstm_backward(Tensor? grad_output, Tensor? grad_h, Tensor? grad_c, {_LAYER}, "
    "Tensor output, Tensor saved, Tensor cells, str cell, bool reverse, bool need_x) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


@lru_cache(maxsize=512)
def cell_key(cell: Cell) -> str:
    """The cell as text, for an operator's argument."""
    slots = {s: [a.formula, dict(a.parameters)] for s, a in cell.slots.items()}
    rest = {name: getattr(cell, name) for name in ("peephole", "coupled", "clip", "per_unit")}
    return json.dumps({**slots, **rest})


@lru_cache(maxsize=512)
def cell_of(key: str) -> Cell:
    """The cell of a `cell_key`."""
    content = json.loads(key)
    for slot in SLOTS:
        formula, parameters = content[slot]
        content[slot] = Activation(formula, formula, **parameters)
    return Cell(**{**content, "per_unit": tuple(content["per_unit"])})


def run(
    key: str, reverse: bool, *tensors: Tensor | None, measures: Measures | None = None
) -> Triple:
    """One direction of one layer; key is the cell's `cell_key`, tensors those of the operator;
    measures: told what happens inside. Raises RuntimeError where that is asked for under
    torch.compile, torch.func and the like."""
    training = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
    if measures is not None:
        if watched(tensors):
            raise RuntimeError(
                "anygate.record measures plain calls; take torch.compile, torch.func, vmap, "
                "forward-mode differentiation and dispatch modes off while it records"
            )
        if training:
            return cast(Triple, _Measured.apply(key, reverse, measures, *tensors))  # type: ignore[no-untyped-call]
        return cast(Triple, _forward_cpu(*tensors, key, reverse, False, measures=measures)[:3])
    if watched(tensors):
        if _transformed(tensors):
            _say_once("a transform of torch.func, or forward-mode differentiation, runs")
            return _again(key, reverse, tensors, eager.plain)
        # A batched tensor of vmap does not say whether an outer transform wants its gradient.
        inside = torch._C._functorch.peek_interpreter_stack() is not None
        training = training or (inside and torch.is_grad_enabled())
        output, h, c, _, _ = torch.ops.anygate.lstm(*tensors, key, reverse, training)
        return output, h, c
    if training:
        return cast(Triple, _Fused.apply(key, reverse, *tensors))  # type: ignore[no-untyped-call]
    return cast(Triple, _forward_cpu(*tensors, key, reverse, False)[:3])


def infer(key: str, tensors: tuple[Any, ...]) -> Triple:
    """`run` without gradients where nothing watches; h0, c0, h and c may be [1, B, H]."""
    code = _code(key, tensors[0].dtype, False)
    return cast(Triple, _layer().forward(code, *tensors, False, False)[:3])


def _transformed(tensors: tuple[Any, ...]) -> bool:
    """Whether torch.func's grad, vjp, jvp ..., or a dual tensor, asks for what the operator cannot:
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
    return any(t is not None and unpack(t).tangent is not None for t in tensors)


_PLAIN = frozenset({Tensor, torch.nn.Parameter, type(None)})


def watched(tensors: tuple[Any, ...]) -> bool:
    """Whether something must see the operator and not its inside."""
    return (
        torch.compiler.is_compiling()
        or forward_ad._current_level >= 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._get_tracing_state() is not None
        or not _PLAIN.issuperset(map(type, tensors))
    )


def _forward_cpu(*arguments: Any, measures: Measures | None = None) -> Any:
    if torch.is_autocast_enabled("cpu"):  # the products inside are not for it to change
        with torch.autocast("cpu", enabled=False):
            return _forward_cpu(*arguments, measures=measures)
    *tensors, key, reverse, training = arguments
    code = _code(key, tensors[0].dtype, training, measures is not None)
    told = None if measures is None else measures.forward
    return _layer().forward(code, *tensors, reverse, training, told)


def _backward_cpu(*arguments: Any, measures: Measures | None = None) -> Any:
    if torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return _backward_cpu(*arguments, measures=measures)
    *tensors, key, reverse, need_x = arguments
    code = _code(key, tensors[3].dtype, True, measures is not None)
    told = None if measures is None else measures.backward
    return _layer().backward(code, *tensors, reverse, need_x, told)


@lru_cache(maxsize=1)
def _layer() -> Any:
    from ..engines.cpu import layer

    return layer


@lru_cache(maxsize=512)
def _code(key: str, dtype: torch.dtype, training: bool, measuring: bool = False) -> Any:
    """Machine code by the key's text: hashing a Cell takes 15 us, which a single step would see."""
    from ..engines.cpu.compiler import kernels

    return kernels(cell_of(key), str(dtype).removeprefix("torch."), training, measuring)


# ---- plain calls ----------------------------------------------------------------------------


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, key: str, reverse: bool, *tensors: Any) -> Any:
        output, h, c, saved, cells = _forward_cpu(*tensors, key, reverse, True)
        ctx.key, ctx.reverse = key, reverse
        _keep(ctx, tensors, output, saved, cells)
        return output, h, c

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        tensors = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: these gradients will be differentiated
            _say_once("a gradient of a gradient (create_graph=True) is taken: this backward runs")
            results = _gradients(ctx.key, ctx.reverse, tensors[:_TENSORS], grads)
            return None, None, *results
        needed = ctx.needs_input_grad[2:]
        run = _backward_cpu if _have_memory(grads) else torch.ops.anygate.lstm_backward
        results = run(*grads, *_as_computed(ctx, tensors), ctx.key, ctx.reverse, needed[0])
        return None, None, *_placed(results, tensors, needed)


class _Measured(torch.autograd.Function):
    """`_Fused` with kernels that measure."""

    @staticmethod
    def forward(ctx: Any, key: str, reverse: bool, measures: Measures, *tensors: Any) -> Any:
        output, h, c, saved, cells = _forward_cpu(*tensors, key, reverse, True, measures=measures)
        ctx.key, ctx.reverse, ctx.measures = key, reverse, measures
        _keep(ctx, tensors, output, saved, cells)
        return output, h, c

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled() or not _have_memory(grads):
            raise RuntimeError(CREATE_GRAPH)
        tensors, needed = ctx.saved_tensors, ctx.needs_input_grad[3:]
        call = (*grads, *_as_computed(ctx, tensors), ctx.key, ctx.reverse, needed[0])
        results = _backward_cpu(*call, measures=ctx.measures)
        return None, None, None, *_placed(results, tensors, needed)


def _keep(ctx: Any, tensors: Any, output: Tensor, saved: Tensor, cells: Tensor) -> None:
    """Keeps what the backward needs. The caller may change `output` in place, as torch.nn.LSTM's:
    so what is kept shares its memory but not its count of changes, and beside it stands an empty
    tensor that has the count alone."""
    ctx.save_for_backward(*tensors, output.data, saved, cells)
    ctx.set_materialize_grads(False)
    ctx.count = output.detach()
    ctx.count.data = saved.new_empty(0)
    ctx.unchanged = ctx.count._version


def _as_computed(ctx: Any, tensors: Any) -> tuple[Any, ...]:
    """The saved tensors, with the output computed again if it was changed in place."""
    if ctx.count._version == ctx.unchanged:
        return cast(tuple[Any, ...], tensors)
    inputs, kept = tensors[:_TENSORS], tensors[_TENSORS + 1 :]
    output = _forward_cpu(*inputs, ctx.key, ctx.reverse, True)[0]
    return (*inputs, output, *kept)


def _have_memory(tensors: Any) -> bool:
    """False for the batched gradients of torch.autograd.grad(is_grads_batched=True)."""
    try:
        return all(t is None or t.data_ptr() is not None for t in tensors)
    except RuntimeError:
        return False


def _placed(results: Any, tensors: Any, needed: Any) -> tuple[Any, ...]:
    """The gradients of the operator's nine tensors; needed: which are wanted. Both biases have the
    same numbers, but each its own tensor: the caller may change one in place."""
    grad_x, *middle, grad_bias, grad_vectors = results
    other = grad_bias.clone() if needed[5] and needed[6] else grad_bias
    biases = (None, None) if tensors[5] is None else (grad_bias, other)
    vectors = None if tensors[7] is None else grad_vectors
    return (grad_x if needed[0] else None, *middle, *biases, vectors, None)


@lru_cache(maxsize=4)
def _say_once(what: str) -> None:
    warnings.warn(f"{what} on the eager engine, which is slower than cpu", stacklevel=4)


# ---- again, differentiable ------------------------------------------------------------------


def _again(key: str, reverse: bool, tensors: Any, run: Any = None) -> Triple:
    """The layer in operations that can be differentiated as often as one likes."""
    x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, vectors, batch_sizes = tensors
    cell = cell_of(key)
    bias = summed(bias_ih, bias_hh)
    units = dict(zip(cell.per_unit, () if vectors is None else vectors.unbind(0), strict=True))
    values = tuple(units.get(name, number) for name, number in cell.parameters.items())

    def whole(x: Tensor, h: Tensor, c: Tensor) -> Triple:
        if run is None:
            return eager.run(cell, x, h, c, weight_ih, weight_hh, bias, units, reverse)
        return cast(Triple, run(cell, reverse, x, h, c, weight_ih, weight_hh, bias, *values))

    if batch_sizes is None:
        return whole(x, h0, c0)
    return run_packed(whole, x, batch_sizes, h0, c0, reverse)


def _gradients(key: str, reverse: bool, tensors: Any, grads: Any) -> list[Tensor | None]:
    """Gradients of the operator's nine tensors, as a graph that can be differentiated again."""
    with torch.enable_grad():
        # A view of each: one tensor given twice (h0 as c0) has its own gradient in each place.
        own = [
            None if t is None else t.view_as(t) if t.requires_grad else t.detach() for t in tensors
        ]
        for tensor in own[:-1]:
            if tensor is not None and not tensor.requires_grad:
                tensor.requires_grad_()
        results = _again(key, reverse, own)
        given = [(r, g) for r, g in zip(results, grads, strict=True) if g is not None]
        wanted = [t for t in own[:-1] if t is not None]
        found = iter(
            torch.autograd.grad(
                [r for r, _ in given], wanted, [g for _, g in given],
                create_graph=True, allow_unused=True,
            )
        )  # fmt: skip
    return [None if t is None else next(found) for t in own[:-1]] + [None]


# ---- the operators' other halves --------------------------------------------------------------


def _forward_shapes(*arguments: Any) -> Any:
    x, h0, c0 = arguments[:3]
    training, hidden = arguments[-1], h0.shape[1]
    output = x.new_empty((*x.shape[:-1], hidden))
    saved = x.new_empty((*x.shape[:-1], 4 * hidden)) if training else x.new_empty(0)
    cells = x.new_empty(output.shape) if training else x.new_empty(0)
    return output, _like(h0), _like(c0), saved, cells


def _backward_shapes(*arguments: Any) -> Any:
    x, h0, c0, weight_ih, weight_hh, _, _, vectors, _ = arguments[3 : 3 + _TENSORS]
    gradients = [_like(t) for t in (h0, c0, weight_ih, weight_hh)]
    grad_x = _like(x) if arguments[-1] else x.new_empty(0)
    grad_vectors = x.new_empty(0) if vectors is None else _like(vectors)
    return (grad_x, *gradients, weight_hh.new_empty(weight_hh.shape[0]), grad_vectors)


def _like(tensor: Tensor) -> Tensor:
    return tensor.new_empty(tensor.shape)


def _save_forward(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, key, reverse, _training = inputs
    result, _, _, saved, cells = output
    ctx.key, ctx.reverse = key, reverse
    ctx.save_for_backward(*tensors, result, saved, cells)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(saved, cells)


def _backward(ctx: Any, grad_output: Any, grad_h: Any, grad_c: Any, *_unused: Any) -> Any:
    tensors, needed = ctx.saved_tensors, ctx.needs_input_grad
    results = torch.ops.anygate.lstm_backward(
        grad_output, grad_h, grad_c, *tensors, ctx.key, ctx.reverse, needed[0]
    )
    return (*_placed(results, tensors, needed), None, None, None)


def _save_backward(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, key, reverse, need_x = inputs
    ctx.key, ctx.reverse, ctx.need_x = key, reverse, need_x
    ctx.save_for_backward(*tensors[: 3 + _TENSORS])
    ctx.set_materialize_grads(False)


def _double_backward(ctx: Any, *grads: Any) -> Any:
    """The gradient of the gradients."""
    inputs = ctx.saved_tensors
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        own = [
            None if t is None else t.view_as(t) if again and t.requires_grad else t.detach()
            for t in inputs
        ]
        for tensor in own[:-1]:
            if tensor is not None and not tensor.requires_grad:
                tensor.requires_grad_()
        first = _gradients(ctx.key, ctx.reverse, own[3:], tuple(own[:3]))
        x, h0, c0, w, r, bias, _, vectors, _ = first
        pairs = [
            (f, g)
            for f, g in zip((x, h0, c0, w, r, bias, vectors), grads, strict=True)
            if f is not None and g is not None and f.requires_grad and g.shape == f.shape
        ]
        wanted = [t for t in own[:-1] if t is not None]
        found = iter(
            torch.autograd.grad(
                [f for f, _ in pairs], wanted, [g for _, g in pairs],
                create_graph=again, allow_unused=True,
            )
            if pairs
            else [None] * len(wanted)
        )  # fmt: skip
    results = [None if t is None else next(found) for t in own[:-1]]
    return (*results, None, None, None, None, None, None, None)


def _forward_operator(*arguments: Any) -> Any:
    *results, saved, cells = _forward_cpu(*arguments)
    if saved is None:  # operators return tensors
        saved, cells = results[0].new_empty(0), results[0].new_empty(0)
    return (*results, saved, cells)


def _vmap_forward(info: Any, in_dims: Any, *arguments: Any) -> Any:
    """A batch of x, h0 or c0 is more batch rows; a batch of weights is one layer after another."""
    if any(d is not None for d in in_dims[3:_TENSORS]) or arguments[8] is not None:
        return _vmap_each(torch.ops.anygate.lstm, info, in_dims, arguments)
    count = info.batch_size
    x, h0, c0 = (
        t.movedim(d, k)
        if d is not None
        else t.unsqueeze(k).expand(*t.shape[:k], count, *t.shape[k:])
        for t, d, k in zip(arguments, in_dims[:3], (1, 0, 0), strict=False)
    )
    rows = (x.flatten(1, 2), h0.flatten(0, 1), c0.flatten(0, 1))
    output, h, c, saved, cells = torch.ops.anygate.lstm(*rows, *arguments[3:])
    places = [1, 0, 0, *([1, 1] if arguments[-1] else [None, None])]
    parts = (
        t if place is None else t.unflatten(place, (count, -1))
        for t, place in zip((output, h, c, saved, cells), places, strict=True)
    )
    return tuple(parts), tuple(places)


def _vmap_backward(info: Any, in_dims: Any, *arguments: Any) -> Any:
    return _vmap_each(torch.ops.anygate.lstm_backward, info, in_dims, arguments)


def _vmap_each(operator: Any, info: Any, in_dims: Any, arguments: Any) -> Any:
    """One call for each member of the batch."""
    calls = [
        operator(*(
            a if d is None else a.select(d, k) for a, d in zip(arguments, in_dims, strict=True)
        ))
        for k in range(info.batch_size)
    ]  # fmt: skip
    results = tuple(torch.stack(parts) for parts in zip(*calls, strict=True))
    return results, (0,) * len(results)


_LIBRARY.impl("lstm", _forward_operator, "CPU")
_LIBRARY.impl("lstm_backward", _backward_cpu, "CPU")
torch.library.register_fake("anygate::lstm", _forward_shapes, lib=_LIBRARY)
torch.library.register_fake("anygate::lstm_backward", _backward_shapes, lib=_LIBRARY)
torch.library.register_autograd(
    "anygate::lstm", _backward, setup_context=_save_forward, lib=_LIBRARY
)
torch.library.register_autograd(
    "anygate::lstm_backward", _double_backward, setup_context=_save_backward, lib=_LIBRARY
)
torch.library.register_vmap("anygate::lstm", _vmap_forward, lib=_LIBRARY)
torch.library.register_vmap("anygate::lstm_backward", _vmap_backward, lib=_LIBRARY)
