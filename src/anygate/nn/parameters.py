"""Parameters of activations and the cells' vectors as nn.Parameters."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from .design import Design

__all__ = ["cell_vectors", "register_parameters", "reset_cell_parameters"]


def attribute(name: str, suffix: str) -> str:
    """What a parameter of the cell is called in the module: candidate.k -> candidate_k_l0."""
    return name.replace(".", "_") + suffix


def register_parameters(
    module: nn.Module, design: Design, suffixes: list[str], **where: Any
) -> None:
    """A parameter with each suffix for each of the cell's per_unit: [H], or [1] where one number is
    learnt for a whole layer."""
    learnt = dict(design.learnt)
    for suffix in suffixes:
        for name in design.cell.per_unit:
            shape = (1,) if learnt.get(name) == "shared" else (module.hidden_size,)
            value = nn.Parameter(torch.empty(shape, **where))  # type: ignore[arg-type]
            module.register_parameter(attribute(name, suffix), value)
    reset_cell_parameters(module, design, suffixes)


@torch.no_grad()
def reset_cell_parameters(module: nn.Module, design: Design, suffixes: list[str]) -> None:
    """Activations' parameters to the numbers of their formula, vectors to the number they begin
    with, or, where they are drawn, uniform in +-1/sqrt(H) as torch's weights."""
    begin = dict(design.cell.type.vectors)
    for suffix in suffixes:
        for name in design.cell.per_unit:
            value = getattr(module, attribute(name, suffix))
            if name in begin and begin[name] is None:
                bound = 1 / math.sqrt(module.hidden_size)  # type: ignore[arg-type]
                nn.init.uniform_(value, -bound, bound)
            else:
                nn.init.constant_(value, design.cell.parameters[name])


def cell_vectors(module: nn.Module, design: Design, suffix: str) -> Tensor | None:
    """The cell's per_unit, [number, H]."""
    if not design.cell.per_unit:
        return None
    hidden = module.hidden_size
    rows = [getattr(module, attribute(name, suffix)) for name in design.cell.per_unit]
    return torch.stack([row.expand(hidden) for row in rows])
