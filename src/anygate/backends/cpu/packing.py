"""Weights in the order in which the kernels read them, made once for each version of a weight."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .emit import Target
from .tile import WIDTH

__all__ = ["backward_weight", "forward_weights", "pack_gates", "pack_units", "pack_vectors"]


class _Kept:
    """What was made of some tensors, until one of them changes or dies.

    A change is seen by the tensor's version, which every in-place operation raises (optimizer
    steps, load_state_dict), and by its address (assignment to .data). Writing *into* weight.data
    raises no version that can be seen from here: call weight.add_ and the like under no_grad.
    torch.autograd.gradcheck does just that, and wants float64: so float64 is packed at each call.
    So are inference tensors, which have no version.
    Keyed by id with a weak reference, not by a WeakTensorKeyDictionary: that takes 3 us a look.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make
        self.found: dict[Any, tuple[Any, Any, Any]] = {}

    def of(self, tensors: tuple[Tensor, ...], target: Target) -> Any:
        """`make(target, *tensors)`, or what it gave before for these tensors as they are."""
        first = tensors[0]
        if first.dtype is torch.float64 or _has_no_version(tensors):
            return self.make(target, *tensors)
        key = tuple(map(id, tensors))
        state = [(t._version, t.data_ptr()) for t in tensors]
        kept = self.found.get(key)
        # A tensor that died takes its entry with it, unless the interpreter is in between.
        if kept is not None and kept[0] == state and _same(kept[1], tensors):
            return kept[2]
        made = self.make(target, *tensors)
        forget = self._forgetter(key)
        self.found[key] = (state, [weakref.ref(t, forget) for t in tensors], made)
        return made

    def _forgetter(self, key: Any) -> Callable[[Any], None]:
        found = self.found
        return lambda _: found.pop(key, None) and None


def _has_no_version(tensors: tuple[Tensor, ...]) -> bool:
    for tensor in tensors:  # noqa: SIM110 (twice as fast as any)
        if tensor.is_inference():
            return True
    return False


def _same(references: list[Any], tensors: tuple[Tensor, ...]) -> bool:
    for reference, tensor in zip(references, tensors, strict=True):  # noqa: SIM110 (twice as fast)
        if reference() is not tensor:
            return False
    return True


def _forward_weights(target: Target, *weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    weight_ih, weight_hh, *biases = (w.detach() for w in weights)
    bias = biases[0] + biases[1] if biases else weight_hh.new_zeros(weight_hh.shape[0])
    return (
        pack_gates(weight_ih, target),
        pack_gates(weight_hh, target),
        pack_gates(bias.unsqueeze(1), target),
    )


def _backward_weight(target: Target, weight_hh: Tensor) -> Tensor:
    return pack_units(weight_hh.detach(), target)


_forward, _backward = _Kept(_forward_weights), _Kept(_backward_weight)


def forward_weights(
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    target: Target,
) -> tuple[Tensor, Tensor, Tensor]:
    """weight_ih, weight_hh and the sum of the biases as the forward loop reads them."""
    if bias_ih is None or bias_hh is None:
        return _forward.of((weight_ih, weight_hh), target)  # type: ignore[no-any-return]
    return _forward.of((weight_ih, weight_hh, bias_ih, bias_hh), target)  # type: ignore[no-any-return]


def backward_weight(weight_hh: Tensor, target: Target) -> Tensor:
    """weight_hh as the backward loop reads it."""
    return _backward.of((weight_hh,), target)  # type: ignore[no-any-return]


def pack_gates(weight: Tensor, target: Target) -> Tensor:
    """[4H, K] to [panel, K, gate, lane]: one row of a panel is what a tile multiplies at once.
    Units beyond H are zeros."""
    gates, depth = weight.shape
    hidden, lanes = gates // 4, target.lanes
    panels = -(-hidden // lanes)
    if panels * lanes != hidden:
        padded = weight.new_zeros(4, panels * lanes, depth)
        padded[:, :hidden] = weight.view(4, hidden, depth)
        weight = padded
    return weight.reshape(4, panels, lanes, depth).permute(1, 3, 0, 2).contiguous()


def pack_units(weight: Tensor, target: Target) -> Tensor:
    """[4H, H] to [panel, 4H, unit], a panel being four vectors of units."""
    gates, hidden = weight.shape
    width = WIDTH * target.lanes
    panels = -(-hidden // width)
    if panels * width != hidden:
        padded = weight.new_zeros(gates, panels * width)
        padded[:, :hidden] = weight
        weight = padded
    return weight.reshape(gates, panels, width).permute(1, 0, 2).contiguous()


def pack_vectors(vectors: Tensor | None, target: Target) -> Tensor | None:
    """[number, H] to [number, padded H]."""
    if vectors is None:
        return None
    return torch.nn.functional.pad(vectors, (0, -vectors.shape[1] % target.lanes)).contiguous()
