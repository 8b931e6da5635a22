"""A layer as one call of the operator `anygate::recurrent`, for what must not see its time loop.

torch.jit.trace and torch.export would write every time step down, right at the traced length alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from ..cells import cell_of
from .protocol import Layer, Result, needs_gradient

__all__ = ["output_state", "run_whole", "saved_layer", "to_result", "writes_down"]


def writes_down() -> bool:
    """torch.jit.trace or torch.export writes down what runs."""
    exporting = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)
    return _tracing() or bool(exporting())


def _tracing() -> bool:
    return torch._C._get_tracing_state() is not None


def _check_onnx() -> None:
    """Raises RuntimeError in torch.onnx.export(dynamo=False), which knows no such operator."""
    if torch.onnx.is_in_onnx_export():
        raise RuntimeError(
            "torch.onnx.export(dynamo=False) cannot write an anygate layer, whose time loop would "
            "be frozen at the traced length; anygate.interop.onnx.export(model, args, path) does"
        )


def run_whole(key: str, layer: Layer, keep: bool, training: bool, engine: str = "") -> Result:
    """The operator's result for a layer. engine: the one that will run, wherever the program does;
    "": cpu where it can, else eager. training: gradients are wanted. In a trace they are where a
    weight learns, whatever the mode it was traced in: the program will run in both."""
    x, states, *rest, reverse = layer
    if _tracing():
        _check_onnx()
        tensors = (x, *states, *rest)
        training = any(isinstance(t, Tensor) and t.requires_grad for t in tensors)
    # A batched tensor of vmap does not say whether an outer transform wants its gradient.
    inside = torch._C._functorch.peek_interpreter_stack() is not None
    training = training or (inside and torch.is_grad_enabled())
    output, last, _, others = torch.ops.anygate.recurrent(
        x, torch.stack(states), *rest, key, reverse, training, keep, engine=engine
    )
    if training:
        output = output.clone()  # the caller may change it, and backward needs the operator's own
    return to_result(key, output, [last[k] for k in range(len(states))], others if keep else None)


def saved_layer(x: Tensor, states: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The operator `anygate::layer` of programs that were saved when only the cpu engine ran
    `anygate::recurrent`: the output, the last states and, with keep, all states (else empty)."""
    *rest, engine, key, reverse, keep = arguments
    parts: Any = (x, states.unbind(0), *rest, reverse)
    layer = Layer(*parts)
    found = run_whole(key, layer, keep, needs_gradient(layer), engine)
    kept = states.new_empty(0) if found.kept is None else torch.stack(found.kept)
    return found.output, torch.stack(found.states), kept


def to_result(key: str, output: Tensor, states: Sequence[Tensor], others: Tensor | None) -> Result:
    """others [S - 1, *, H]: the states but the output at every time step, where they are kept."""
    if others is None:
        return Result(output, tuple(states))
    place = output_state(key)
    count = len(states) - 1
    # Of several each gets memory of its own, so that one may be changed in place.
    kept = [others[k].clone() if count > 1 else others[k] for k in range(count)]
    return Result(output, tuple(states), (*kept[:place], output.clone(), *kept[place:]))


def output_state(key: str) -> int:
    """The number of the output state; a constant for torch.compile."""
    kind = cell_of(key).type
    return kind.states.index(kind.output)


output_state = cast(Any, torch.compiler.assume_constant_result)(output_state)
