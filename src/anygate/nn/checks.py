"""Checks of inputs and states, with torch's error messages where it has them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["autocasting", "check_dim", "check_pack", "check_shapes", "check_tensor", "read_states"]

_TORCHS_NAMES: dict[tuple[str, ...], tuple[str, ...]] = {("h", "c"): ("hx", "cx")}


def autocasting(device_type: str) -> bool:
    """Autocast is on for a device; there is none on "meta"."""
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


def read_states(hx: Any, names: tuple[str, ...]) -> tuple[Tensor, ...]:
    """hx as one tensor for each state: a tensor where the cell has one state, else a tuple."""
    if len(names) == 1:
        hx = (hx,)
    elif not isinstance(hx, (tuple, list)) or len(hx) != len(names):
        what = f"{len(hx)} of them" if isinstance(hx, (tuple, list)) else type(hx).__name__
        raise (RuntimeError if isinstance(hx, (tuple, list)) else TypeError)(
            f"the state must be {len(names)} tensors ({', '.join(names)}), not {what}"
        )
    for name, state in zip(names, hx, strict=True):
        if not isinstance(state, Tensor):
            raise TypeError(f"{name} must be a tensor, not {type(state).__name__}")
    return tuple(hx)


def check_dim(states: tuple[Tensor, ...], names: tuple[str, ...], batched: bool) -> None:
    """All states have three dimensions, or two beside an input without a batch."""
    dim, kind = (3, "batched 3-D") if batched else (2, "unbatched 2-D")
    if any(state.dim() != dim for state in states):
        called = " and ".join(_TORCHS_NAMES.get(names, ("hx",) if len(names) == 1 else names))
        found = ", ".join(f"{state.dim()}-D" for state in states)
        found = f"({found}) tensors" if len(states) > 1 else f"{found} tensor"
        raise RuntimeError(f"For {kind} input, {called} should also be {dim}-D but got {found}")


def check_shapes(
    states: tuple[Tensor, ...], names: tuple[str, ...], shapes: tuple[Any, ...], weight: Tensor
) -> None:
    """Shapes [layers, B, H], dtype and device of the states."""
    for place, (state, shape) in enumerate(zip(states, shapes, strict=True)):
        if state.shape != shape:
            where = f"[{place}]" if len(states) > 1 else ""
            raise RuntimeError(
                f"Expected hidden{where} size {tuple(shape)}, got {tuple(state.shape)}"
            )
        if state.dtype != weight.dtype or state.device != weight.device:
            check_tensor(names[place], state, weight)


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
