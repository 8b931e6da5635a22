"""What LSTM and LSTMCell share: parameters of the activations and peepholes as nn.Parameters."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..formulas.cell import PEEPHOLES, Cell

__all__ = ["cell_parameters", "register_parameters", "reset_cell_parameters"]


def _attribute(name: str, suffix: str) -> str:
    return name.replace(".", "_") + suffix


def register_parameters(
    module: nn.Module, cell: Cell, learnt: dict[str, str], suffixes: list[str], **where: Any
) -> None:
    """A parameter SLOT_NAME with each suffix for each of the cell's per_unit: [H], or one number
    where `learnt` says "shared"."""
    for suffix in suffixes:
        for name in cell.per_unit:
            shape = () if learnt.get(name) == "shared" else (module.hidden_size,)
            value = nn.Parameter(torch.empty(shape, **where))  # type: ignore[arg-type]
            module.register_parameter(_attribute(name, suffix), value)
    reset_cell_parameters(module, cell, suffixes)


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
        name: getattr(module, _attribute(name, suffix)).expand(module.hidden_size)
        for name in cell.per_unit
    }
