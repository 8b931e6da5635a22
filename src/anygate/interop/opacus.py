"""Opacus: per-sample gradients of anygate's layers, for training with differential privacy.

Opacus computes them in a hook that sees a module's first argument and the gradient of its first
result. That is enough for a layer that begins with zeros and whose output alone is used; anything
else would give wrong gradients, and so a wrong promise of privacy, and raises here.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from ..nn.layers import RecurrentLayers
from ..nn.notices import UNPREPARED
from ..nn.step import StepCell

__all__ = ["prepare"]


def prepare(model: nn.Module) -> nn.Module:
    """Makes the layers of anygate in `model` ready for Opacus, in place, and returns the model.

        model = anygate.interop.opacus.prepare(model)
        model, optimizer, loader = PrivacyEngine().make_private(module=model, ...)

    Then GradSampleModule, PrivacyEngine and all that build on them take LSTM, GRU, RNN and
    Recurrent with any activation. Each layer runs once more in the backward pass, under torch.func,
    on the eager engine. A gradient that reaches a layer's final states, a state that is given to
    it, lengths, masks and packed batches raise RuntimeError.

    Raises ValueError for a layer that is not batch_first or that draws noise of its own (dropout
    between layers, zoneout), and for step cells with two states; ImportError without Opacus.
    """
    from opacus.grad_sample import register_grad_sampler

    layers = {name: m for name, m in model.named_modules() if isinstance(m, RecurrentLayers)}
    for name, module in model.named_modules():
        if isinstance(module, StepCell) and len(module.cell.type.states) > 1:
            raise ValueError(
                f"{name}: Opacus sees the gradient of a module's first result alone, and "
                f"{type(module).__name__} returns {len(module.cell.type.states)}; use the layer"
            )
    for name, layer in layers.items():
        if reason := _obstacle(layer):
            raise ValueError(f"{name}: {reason}")
    for layer in layers.values():
        register_grad_sampler(type(layer))(_per_sample)
        if not _is_prepared(layer):
            layer.register_forward_pre_hook(_check_call, with_kwargs=True)
            layer.register_forward_hook(_guard_states)
    return model


def _obstacle(layer: RecurrentLayers) -> str:
    if not layer.batch_first:
        return "Opacus takes the first dimension for the samples; make it batch_first=True"
    if layer.dropout and layer.num_layers > 1:
        return "dropout between layers would be drawn anew in Opacus' second pass; make it 0"
    if layer._design.noisy:
        return "zoneout and recurrent dropout would be drawn anew in Opacus' second pass"
    return ""


def _is_prepared(layer: nn.Module) -> bool:
    return _check_call in layer._forward_pre_hooks.values()


def _check_call(layer: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    given = [name for name, value in keywords.items() if value is not None and value is not False]
    given += ["hx"] if any(a is not None for a in arguments[1:]) else []
    if given or not arguments or not isinstance(arguments[0], Tensor) or arguments[0].dim() != 3:
        raise RuntimeError(
            f"Opacus sees the first argument of {type(layer).__name__} alone: give a padded batch "
            f"[B, T, input_size] and nothing else{', not ' + ', '.join(given) if given else ''}"
        )


def _guard_states(layer: nn.Module, arguments: tuple[Any, ...], results: tuple[Any, Any]) -> Any:
    output, states = results
    unseen: Any = _Unseen.apply

    def guard(state: Any) -> Any:
        return tuple(map(guard, state)) if isinstance(state, tuple) else unseen(state)

    return output, guard(states)


class _Unseen(torch.autograd.Function):
    """A state whose gradient Opacus would not see."""

    @staticmethod
    def forward(ctx: Any, state: Tensor) -> Tensor:
        return state.view_as(state)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        if not any(g is not None and bool(g.any()) for g in gradients):
            return gradients
        raise RuntimeError(
            "a gradient reaches the final state of a layer, which Opacus does not see: the "
            "per-sample gradients would lack it. Take the state from the output: output[:, -1]"
        )


def _per_sample(
    layer: RecurrentLayers, activations: list[Tensor], gradients: Tensor
) -> dict[nn.Parameter, Tensor]:
    """The gradient of each parameter for each sample. activations: [input [B, T, I]]; gradients:
    of the output."""
    if not _is_prepared(layer):
        raise RuntimeError(UNPREPARED.format(type(layer).__name__))
    bare = _WithoutHooks(layer)
    named = {n: p for n, p in bare.named_parameters() if p.requires_grad}

    def weighted(parameters: dict[str, Tensor], x: Tensor, gradient: Tensor) -> Tensor:
        output: Tensor = torch.func.functional_call(bare, parameters, (x[None],))
        return (output * gradient[None]).sum()

    values = {name: parameter.detach() for name, parameter in named.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "a transform of torch.func")  # said by `prepare`
        found = torch.func.vmap(torch.func.grad(weighted), (None, 0, 0))(
            values, activations[0].to(gradients.dtype), gradients
        )
    return {parameter: found[name] for name, parameter in named.items()}


class _WithoutHooks(nn.Module):
    """The output of a layer, past the hooks that Opacus has on it."""

    def __init__(self, layer: RecurrentLayers) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Any:
        return self.layer.forward(x)[0]
