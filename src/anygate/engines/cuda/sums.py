"""The sums of `record`, from what a measured run of the kernels has kept."""

from __future__ import annotations

import struct

import torch
from torch import Tensor

from ...cells.measures import measured
from .compiler import Kernels
from .launch import Direction, address
from .source import MEASURE_CHUNK
from .source import Direction as Way

__all__ = ["table_of"]


def table_of(code: Kernels, way: Way, direction: Direction, steps: int, batch: int) -> Tensor:
    """[1, T, numbers of `Measured`] (backward: norms), float64, on the device."""
    found = measured(code.cell)
    names = found.numbers if way == "forward" else found.norms
    if not steps or not batch or not names:
        return torch.zeros(1, steps, len(names), dtype=torch.float64, device=code.device)
    chunks = -(-batch * code.plan.hidden // MEASURE_CHUNK)
    lines = torch.empty(chunks, steps, len(names), dtype=torch.float64, device=code.device)
    numbers = [steps, batch, chunks, address(lines), *direction.packed()]
    arguments = struct.pack(f"<{len(numbers)}q", *numbers)
    code.driver.launch(code.measuring(way), steps * chunks, False, arguments, code.device)
    if chunks == 1:
        return lines
    largest = sum(name == "max" for _, name in names)  # the last ones
    first = len(names) - largest
    parts = [lines[..., :first].sum(0), lines[..., first:].amax(0)]
    return torch.cat(parts, -1).unsqueeze(0)
