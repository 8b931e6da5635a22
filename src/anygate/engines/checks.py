"""Checks of shapes, dtypes and devices before machine code reads a layer's tensors."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from .layout import Layout

__all__ = ["check_layer"]


def check_layer(
    layout: Layout,
    x: Tensor,
    states: Sequence[Tensor],
    weight_ih: Tensor,
    weight_hh: Tensor,
    vectors: Tensor | None,
    masks: Tensor | None,
    rows: int,
    device: str = "cpu",
) -> None:
    """Raises where machine code would read what is not there. device: "cpu" or "cuda"."""
    dtype = x.dtype
    where = "the CPU" if device == "cpu" else f"one {device.upper()} device"
    for tensor in (x, *states, weight_ih, weight_hh, vectors, masks):
        if tensor is None:
            continue
        if tensor.device.type != device or tensor.device != x.device:
            raise RuntimeError(f"input, state and weights must all be on {where}")
        if tensor.dtype != dtype:
            dtypes = f"{dtype} and {tensor.dtype}"
            raise ValueError(f"input, state and weights must have one dtype, not {dtypes}")
    shape = states[0].shape
    hidden = shape[-1]
    fits = len(states) == layout.states and all(state.shape == shape for state in states)
    if not fits or x.numel() != rows * x.shape[-1]:
        shapes = ", ".join(str(list(state.shape)) for state in states)
        raise ValueError(
            f"x {list(x.shape)} and the states {shapes} do not fit together; the cell has "
            f"{layout.states} states"
        )
    if weight_hh.shape != (len(layout.from_h) * hidden, hidden):
        raise ValueError(
            f"weight_hh {list(weight_hh.shape)} does not fit hidden size {hidden}: it must be "
            f"[{len(layout.from_h)}H, H]"
        )
    if weight_ih.shape != (len(layout.from_x) * hidden, x.shape[-1]):
        raise ValueError(
            f"weight_ih {list(weight_ih.shape)} does not fit hidden size {hidden} and input size "
            f"{x.shape[-1]}: it must be [{len(layout.from_x)}H, I]"
        )
    if layout.vectors and (vectors is None or vectors.shape != (layout.vectors, hidden)):
        given = None if vectors is None else list(vectors.shape)
        raise ValueError(f"vectors must be {[layout.vectors, hidden]}, not {given}")
    if layout.masks and (masks is None or masks.shape != (*x.shape[:-1], layout.masks, hidden)):
        given = None if masks is None else list(masks.shape)
        needed = [*x.shape[:-1], layout.masks, hidden]
        raise ValueError(f"masks must be {needed}, not {given}")
