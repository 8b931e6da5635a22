"""Parameters of activations and the cells' vectors as nn.Parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .design import Design
from .widths import width_of

__all__ = [
    "Designs",
    "cell_vectors",
    "register_parameters",
    "reset_cell_parameters",
    "with_two_dimensions",
]


Designs: TypeAlias = Mapping[str, Design]
"""By what the names of its parameters end with: "_l0", "_l0_reverse" ...; "" of a single step."""


def attribute(name: str, suffix: str) -> str:
    """The name in the module of a parameter of the cell: candidate.k -> candidate_k_l0."""
    return name.replace(".", "_") + suffix


def register_parameters(module: nn.Module, designs: Designs, **where: Any) -> None:
    """A parameter with each suffix for each of the cell's per_unit: [1, H], or [1, 1] where one
    number is learnt for a whole layer. Two dimensions, because the usual loops over `parameters()`
    hand all that is no bias to `nn.init.xavier_uniform_` and the like, which take nothing else."""
    for suffix, design in designs.items():
        learnt = dict(design.learnt)
        for name in design.cell.per_unit:
            width = 1 if learnt.get(name) == "shared" else width_of(module, suffix)
            value = nn.Parameter(torch.empty((1, width), **where))
            module.register_parameter(attribute(name, suffix), value)
    reset_cell_parameters(module, designs)


def with_two_dimensions(
    module: nn.Module, designs: Designs, state: dict[str, Any], prefix: str
) -> None:
    """Gives values in `state` that older versions saved as [H] or without a dimension the shape
    that they have now."""
    for suffix, design in designs.items():
        for name in design.cell.per_unit:
            key = attribute(name, suffix)
            own, value = getattr(module, key), state.get(prefix + key)
            if isinstance(value, Tensor) and value.dim() < 2 and value.numel() == own.numel():
                state[prefix + key] = value.reshape(own.shape)


@torch.no_grad()
def reset_cell_parameters(module: nn.Module, designs: Designs) -> None:
    """Activations' parameters to the numbers of their formula, vectors to the number they begin
    with, or, where they are drawn, uniform in +-1/sqrt(H) as torch's weights."""
    for suffix, design in designs.items():
        begin = dict(design.cell.type.vectors)
        for name in design.cell.per_unit:
            value = getattr(module, attribute(name, suffix))
            if name in begin and begin[name] is None:
                bound = 1 / math.sqrt(width_of(module, suffix))
                nn.init.uniform_(value, -bound, bound)
            else:
                nn.init.constant_(value, design.cell.parameters[name])


def cell_vectors(module: nn.Module, design: Design, suffix: str) -> Tensor | None:
    """The cell's per_unit, [number, H]."""
    if not design.cell.per_unit:
        return None
    hidden = width_of(module, suffix)
    rows = [getattr(module, attribute(name, suffix)) for name in design.cell.per_unit]
    return torch.stack([row.reshape(-1).expand(hidden) for row in rows])
