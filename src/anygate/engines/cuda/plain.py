"""Plain calls of the kernels, differentiable by autograd: one direction of a layer, or both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...cells import cell_of
from ..again import gradients, have_memory, warn_once
from ..protocol import CREATE_GRAPH, Layer, Measures, load
from .compiler import Kernels
from .layer import Arriving, Backward, Forward, backward, forward

__all__ = ["Call", "apply", "flat", "run", "run_backward"]


class Call(NamedTuple):
    """The arguments of a run besides tensors. code: the kernels; reverse, measures: of
    each layer."""

    code: Kernels
    key: str
    reverse: tuple[bool, ...]
    keep: bool
    states: int
    measures: Sequence[Measures] | None = None


def run(call: Call, layers: Sequence[Layer], training: bool) -> list[Forward]:
    """Without autograd."""
    device = call.code.device.type
    if torch.is_autocast_enabled(device):  # the products inside are not for it to change
        with torch.autocast(device, enabled=False):
            return forward(call.code, layers, training, call.keep, call.measures)
    return forward(call.code, layers, training, call.keep, call.measures)


def run_backward(
    call: Call,
    layers: Sequence[Layer],
    results: Sequence[Forward],
    arriving: Sequence[Arriving],
    need_x: bool,
) -> list[Backward]:
    """Back through what `run` gave with training=True."""
    device = call.code.device.type
    if torch.is_autocast_enabled(device):
        with torch.autocast(device, enabled=False):
            return backward(call.code, layers, results, arriving, need_x, call.measures)
    return backward(call.code, layers, results, arriving, need_x, call.measures)


class _Fused(torch.autograd.Function):
    """tensors: of each layer x, the states one by one, and the rest. Results: of each layer the
    output, the last states and, with keep, the states but the output at all steps."""

    @staticmethod
    def forward(ctx: Any, call: Call, *tensors: Any) -> Any:
        layers = _layers(call, tensors)
        found = run(call, layers, True)
        ctx.call = call
        # The caller may change the output in place, as torch.nn.LSTM's. So what is saved shares
        # its memory but not its version; an empty tensor has the version alone.
        kept = [t for f in found for t in (f.output.data, f.saved, f.others)]
        ctx.save_for_backward(*tensors, *kept)
        ctx.versions = [f.output.detach() for f in found]
        for version in ctx.versions:
            version.data = version.new_empty(0)
        ctx.unchanged = [version._version for version in ctx.versions]
        ctx.set_materialize_grads(False)
        results: list[Any] = []
        for f in found:
            assert f.others is not None
            results += [f.output, *f.states, *([f.others.clone()] if call.keep else [])]
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        call: Call = ctx.call
        count = len(call.reverse)
        saved = ctx.saved_tensors
        tensors, kept = saved[: -3 * count], saved[-3 * count :]
        layers = _layers(call, tensors)
        width = 1 + call.states + call.keep
        arriving = [grads[k * width : (k + 1) * width] for k in range(count)]
        size = len(tensors) // count
        again = torch.is_grad_enabled()  # create_graph: these gradients will be differentiated
        if again or not have_memory(grads):
            if call.measures is not None:
                raise RuntimeError(CREATE_GRAPH)
            event = "a gradient of a gradient (create_graph=True) is taken"
            warn_once(f"{event if again else 'gradients come in batches'}: this backward runs")
            found: list[Any] = [None]
            for k in range(count):
                own = tensors[k * size : (k + 1) * size]
                found += gradients(_eager(call, k), own, arriving[k], again)
            return tuple(found)
        results = [Forward(kept[3 * k], [], *kept[3 * k + 1 : 3 * k + 3]) for k in range(count)]
        if [version._version for version in ctx.versions] != ctx.unchanged:
            results = run(call._replace(measures=None), layers, True)
        by = [
            Arriving(g[0], g[1 : 1 + call.states], g[1 + call.states] if call.keep else None)
            for g in arriving
        ]
        need_x = any(ctx.needs_input_grad[1 + k * size] for k in range(count))
        gives: list[Any] = [None]
        for one in run_backward(call, layers, results, by, need_x):
            gives += [one.x, *one.states, *one[2:], None, None]
        return tuple(gives)


apply: Callable[..., Any] = _Fused.apply


def _layers(call: Call, tensors: Sequence[Any]) -> list[Layer]:
    """The tensors of `flat` as layers again."""
    size = len(tensors) // len(call.reverse)
    found = []
    for k, reverse in enumerate(call.reverse):
        x, *rest = tensors[k * size : (k + 1) * size]
        parts: Any = (x, tuple(rest[: call.states]), *rest[call.states :], reverse)
        found.append(Layer(*parts))
    return found


def flat(layers: Sequence[Layer]) -> list[Tensor | None]:
    """The tensors of layers one after the other."""
    found: list[Tensor | None] = []
    for layer in layers:
        x, states, *rest, _ = layer
        found += [x, *states, *rest]
    return found


def _eager(call: Call, place: int) -> Callable[..., Any]:
    """One layer's results on the eager engine."""
    kind = cell_of(call.key).type
    output = kind.states.index(kind.output)

    def run(*tensors: Any) -> tuple[Tensor | None, ...]:
        (layer,) = _layers(call._replace(reverse=call.reverse[place : place + 1]), tensors)
        found = load("eager").run(call.key, layer, call.keep)
        if found.kept is None:
            return found.output, *found.states
        others = [t for k, t in enumerate(found.kept) if k != output]
        return found.output, *found.states, torch.stack(others) if others else None

    return run
