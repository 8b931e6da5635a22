"""One direction of one layer: packing weights, calling the machine code, the weights' gradients."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .compiler import Kernels
from .emit import Target
from .loops import BACKWARD, FORWARD
from .tile import WIDTH

__all__ = ["backward", "forward"]

_SMALL = 1_000_000
"""Multiply-adds in a whole sequence below which a second thread costs more than it brings."""
_FEW_ROWS = 4
"""With fewer batch rows than this the input's share of z is one product for all steps: a tile of
one row reads all of W from memory at each step, a product over time reads it once."""


def forward(
    code: Kernels,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    reverse: bool,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """output [T, B, H], h and c [B, H] after the last step, saved [T, B, 4H] and cells [T, B, H];
    the last two are empty if not training."""
    steps, batch, inputs = x.shape
    hidden = h0.shape[1]
    x, h0 = x.contiguous(), h0.contiguous()
    by_product = batch < _FEW_ROWS and steps > 1
    z_x = torch.nn.functional.linear(x, weight_ih, bias) if by_product else None
    weight = None if by_product else _packed(weight_ih, pack_gates, code.target)
    recurrent = _packed(weight_hh, pack_gates, code.target)
    biases = None if by_product else pack_bias(bias, weight_hh, code.target)
    output = x.new_empty(steps, batch, hidden)
    saved = x.new_empty(steps, batch, 4 * hidden) if training else x.new_empty(0)
    cells = x.new_empty(steps, batch, hidden) if training else x.new_empty(0)
    c = c0.contiguous() if training else c0.clone(memory_format=torch.contiguous_format)
    arguments = _arguments(
        FORWARD,
        {
            "steps": steps,
            "batch": batch,
            "inputs": 0 if by_product else inputs,
            "hidden": hidden,
            "x": x,
            "z_x": z_x,
            "weight": weight,
            "recurrent": recurrent,
            "bias": biases,
            "h0": h0,
            "c0": c,
            "output": output,
            "cells": cells if training else c,
            "cell_stride": batch * hidden if training else 0,
            "saved": saved,
            "reverse": int(reverse),
        },
    )
    code.forward(arguments, _threads(steps * batch * 4 * hidden * (inputs + hidden), batch))
    last = 0 if reverse else -1
    h = output[last].clone() if steps else h0.clone()
    if training:
        c = cells[last].clone() if steps else c.clone()
    return output, h, c, saved, cells


def backward(
    code: Kernels,
    grad_output: Tensor,
    grad_h: Tensor,
    grad_c: Tensor,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    output: Tensor,
    saved: Tensor,
    cells: Tensor,
    reverse: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, h0, c0, weight_ih, weight_hh and bias."""
    assert code.backward is not None
    steps, batch, inputs = x.shape
    hidden = h0.shape[1]
    recurrent = _packed(weight_hh, pack_units, code.target)
    grad_z = torch.empty_like(saved)
    grad_output, grad_h = grad_output.contiguous(), grad_h.contiguous()
    grad_c0 = grad_c.clone(memory_format=torch.contiguous_format)
    c0 = c0.contiguous()
    arguments = _arguments(
        BACKWARD,
        {
            "steps": steps,
            "batch": batch,
            "hidden": hidden,
            "recurrent": recurrent,
            "c0": c0,
            "cells": cells,
            "saved": saved,
            "grad_output": grad_output,
            "grad_h": grad_h,
            "grad_c": grad_c0,
            "grad_z": grad_z,
            "reverse": int(reverse),
        },
    )
    code.backward(arguments, _threads(steps * batch * 4 * hidden * hidden, batch))
    flat = grad_z.view(steps * batch, 4 * hidden)
    first = grad_z[-1 if reverse else 0] if steps else None
    return (
        grad_z @ weight_ih,
        grad_h.clone() if first is None else first @ weight_hh,
        grad_c0,
        flat.t() @ x.reshape(steps * batch, inputs),
        _recurrent_gradient(grad_z, output, h0, reverse),
        flat.sum(0),
    )


def _recurrent_gradient(grad_z: Tensor, output: Tensor, h0: Tensor, reverse: bool) -> Tensor:
    """The sum over time of grad_z[t]^T h[t before], without a copy of the shifted output."""
    later, before = (grad_z[:-1], output[1:]) if reverse else (grad_z[1:], output[:-1])
    total = later.flatten(0, 1).t() @ before.flatten(0, 1)
    if len(grad_z):
        total.addmm_(grad_z[-1 if reverse else 0].t(), h0)
    return total


_packs: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def _packed(weight: Tensor, pack: Callable[[Tensor, Target], Tensor], target: Target) -> Tensor:
    """`pack(weight, target)`, kept until the weight changes or dies.

    A change is seen by the tensor's version, which every in-place operation raises (optimizer
    steps, load_state_dict), and by its address (assignment to .data). Writing *into* weight.data
    raises no version that can be seen from here: call weight.add_ and the like under no_grad.
    """
    if weight.is_inference():  # it has no version
        return pack(weight, target)
    state = (weight._version, weight.data_ptr())
    found = _packs.get(weight)  # type: ignore[no-untyped-call]
    if found is None or found[0] != state:
        found = (state, {})
        _packs[weight] = found
    made: dict[Any, Tensor] = found[1]
    if pack not in made:
        made[pack] = pack(weight.detach(), target)
    return made[pack]


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


def pack_bias(bias: Tensor | None, like: Tensor, target: Target) -> Tensor:
    """[4H] to [panel, gate, lane]; zeros without a bias."""
    column = like.new_zeros(like.shape[0]) if bias is None else bias
    return pack_gates(column.reshape(-1, 1), target)


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


def _threads(work: int, batch: int) -> int:
    return 1 if work < _SMALL else max(1, min(torch.get_num_threads(), batch))


def _arguments(names: tuple[str, ...], values: dict[str, Any]) -> Any:
    """The array of i64 that the machine code reads: numbers, and addresses of tensors. The caller
    keeps the tensors alive until the code has run."""
    numbers = []
    for name in names:
        value = values[name]
        if isinstance(value, Tensor):
            value = value.data_ptr()
        numbers.append(value or 0)
    return (ctypes.c_int64 * len(numbers))(*numbers)
