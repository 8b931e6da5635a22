"""What LSTM and LSTMCell share: parameters of the activations and peepholes as nn.Parameters."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..symbolic.cell import PEEPHOLES, Cell

__all__ = [
    "cell_parameters",
    "register_parameters",
    "reset_cell_parameters",
    "summed",
    "with_two_dimensions",
]


def summed(bias_ih: Tensor | None, bias_hh: Tensor | None) -> Tensor | None:
    """bias_ih + bias_hh [4H], None without. The derivative of a plain sum is one tensor for both;
    here each has its own, which the caller may change in place."""
    if bias_ih is None or bias_hh is None:
        return None
    if torch.is_grad_enabled() and bias_ih.requires_grad:
        return bias_ih * 1 + bias_hh
    return bias_ih + bias_hh


def _attribute(name: str, suffix: str) -> str:
    return name.replace(".", "_") + suffix


def register_parameters(
    module: nn.Module, cell: Cell, learnt: dict[str, str], suffixes: list[str], **where: Any
) -> None:
    """A parameter SLOT_NAME with each suffix for each of the cell's per_unit: [1, H], or [1, 1]
    where `learnt` says "shared". Two dimensions, because the usual loops over `parameters()` hand
    all that is no bias to `nn.init.xavier_uniform_` and the like, which take nothing else."""
    for suffix in suffixes:
        for name in cell.per_unit:
            width = 1 if learnt.get(name) == "shared" else cast(int, module.hidden_size)
            value = nn.Parameter(torch.empty((1, width), **where))
            module.register_parameter(_attribute(name, suffix), value)
    reset_cell_parameters(module, cell, suffixes)


def with_two_dimensions(
    module: nn.Module, cell: Cell, suffixes: list[str], state: dict[str, Any], prefix: str
) -> None:
    """Gives values in `state` that older versions saved as [H] or without a dimension, the one that
    they have now."""
    for suffix in suffixes:
        for name in cell.per_unit:
            own, key = getattr(module, _attribute(name, suffix)), prefix + _attribute(name, suffix)
            value = state.get(key)
            if isinstance(value, Tensor) and value.dim() < 2 and value.numel() == own.numel():
                state[key] = value.reshape(own.shape)


@torch.no_grad()
def reset_cell_parameters(module: nn.Module, cell: Cell, suffixes: list[str]) -> None:
    """Activations' parameters to the numbers of their formula, peepholes as torch.nn.LSTM's other
    weights: uniform in +-1/sqrt(H)."""
    for suffix in suffixes:
        for name in cell.per_unit:
            value = getattr(module, _attribute(name, suffix))
            if name in PEEPHOLES:
                bound = 1 / math.sqrt(module.hidden_size)  # type: ignore[arg-type]
                nn.init.uniform_(value, -bound, bound)
            else:
                nn.init.constant_(value, cell.parameters[name])


def cell_parameters(module: nn.Module, cell: Cell, suffix: str) -> dict[str, Tensor] | None:
    """The cell's per_unit by name, each [H]."""
    if not cell.per_unit:
        return None
    return {
        name: getattr(module, _attribute(name, suffix)).reshape(-1).expand(module.hidden_size)
        for name in cell.per_unit
    }
