"""What inputs and states must be, and the errors that say so."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["autocasting", "check_pack", "check_states", "check_tensor", "two_states"]

State = tuple[Tensor, Tensor]


def autocasting(device_type: str) -> bool:
    """Whether autocast is on for a device; there is none on "meta"."""
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def check_tensor(name: str, tensor: Tensor, weight: Tensor) -> None:
    """The weights' device and, without autocast, their dtype."""
    if tensor.device != weight.device:
        raise RuntimeError(
            "Input and parameter tensors are not at the same device, found input tensor at "
            f"{tensor.device} and parameter tensor at {weight.device}"
        )
    if tensor.dtype != weight.dtype and not autocasting(weight.device.type):
        error = ValueError if name == "input" else RuntimeError  # as torch.nn.LSTM
        raise error(
            f"dtype of {name} is {tensor.dtype} but the weights are {weight.dtype}. Convert "
            f"{name}.to({weight.dtype}), or the model: model.to({tensor.dtype})"
        )


def two_states(hx: Any) -> State:
    """hx as (h, c)."""
    if not isinstance(hx, (tuple, list)) or len(hx) != 2:
        what = f"{len(hx)} of them" if isinstance(hx, (tuple, list)) else type(hx).__name__
        raise (RuntimeError if isinstance(hx, (tuple, list)) else TypeError)(
            f"the state must be 2 tensors (h, c), not {what}"
        )
    for name, state in zip("hc", hx, strict=True):
        if not isinstance(state, Tensor):
            raise TypeError(f"{name} must be a tensor, not {type(state).__name__}")
    return hx[0], hx[1]


def check_states(hx: State, shapes: tuple[Any, Any], weight: Tensor) -> None:
    """Shapes, dtype and device of h and c [layers, B, H]."""
    for place, (state, shape) in enumerate(zip(hx, shapes, strict=True)):
        if state.shape != shape:
            raise RuntimeError(
                f"Expected hidden[{place}] size {tuple(shape)}, got {tuple(state.shape)}"
            )
        if state.dtype != weight.dtype or state.device != weight.device:
            check_tensor("h" if place == 0 else "c", state, weight)


def check_pack(data: Tensor, batch_sizes: Tensor) -> None:
    """A PackedSequence that a function of torch made passes; one made by hand may not."""
    if data.dim() != 2:
        raise RuntimeError(f"Expected packed data to be 2D, got {data.dim()}D instead")
    sizes = batch_sizes
    falls = len(sizes) > 0 and int(sizes[-1]) > 0 and bool((sizes[1:] <= sizes[:-1]).all())
    if not falls or int(sizes.sum()) != len(data):
        raise RuntimeError(
            f"batch_sizes of a PackedSequence must be positive, must not grow and must sum to the "
            f"{len(data)} rows of data, not {sizes.tolist()[:20]}"
        )
