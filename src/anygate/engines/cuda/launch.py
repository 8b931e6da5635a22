"""One launch or several for all groups of blocks of a layer, and the numbers a kernel reads."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..protocol import EngineError
from .compiler import Kernels
from .source import Direction as Way
from .stepwise import Steps, run_steps

__all__ = ["Direction", "address", "launch"]


@dataclass
class Direction:
    """The struct of this name in kernels/layer.cu; None: there is no such tensor."""

    states: int
    reverse: bool
    z_x: Tensor | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None
    vectors: Tensor | None = None
    masks: Tensor | None = None
    offsets: Tensor | None = None
    start: Sequence[Tensor | None] = ()
    kept: Sequence[Tensor | None] = ()
    last: Sequence[Tensor | None] = ()
    saved: Tensor | None = None
    step_grad: Sequence[Tensor | None] = ()
    last_grad: Sequence[Tensor | None] = ()
    grad_z: Tensor | None = None
    start_grad: Sequence[Tensor | None] = ()
    vector_grad: Tensor | None = None
    products: Tensor | None = None
    arriving: Tensor | None = None

    def packed(self) -> list[int]:
        """The struct's numbers, in order."""

        def each(tensors: Sequence[Tensor | None]) -> list[int]:
            return [address(t) for t in tensors] if tensors else [0] * self.states

        found = [self.z_x, self.weight, self.bias, self.vectors, self.masks, self.offsets]
        return [
            *map(address, found),
            *each(self.start),
            *each(self.kept),
            *each(self.last),
            address(self.saved),
            *each(self.step_grad),
            *each(self.last_grad),
            address(self.grad_z),
            *each(self.start_grad),
            address(self.vector_grad),
            address(self.products),
            address(self.arriving),
            int(self.reverse),
        ]


def address(tensor: Tensor | None) -> int:
    """The address of a tensor; 0 for none."""
    return 0 if tensor is None else tensor.data_ptr()


def launch(
    code: Kernels,
    way: Way,
    save: bool,
    directions: Sequence[Direction],
    steps: int,
    batch: int,
    measure: bool = False,
) -> None:
    """Run a kernel over all time steps of one direction of a layer, or of two side by side.

    Blocks that wait for others are launched only as many at once as the card holds; the rest of
    the batch rows, or the other direction, comes after.
    """
    plan, device = code.plan, code.device
    if isinstance(plan, Steps):
        here = _packed([steps, batch, 0, 0, 0, 0], directions)
        run_steps(code, way, save, measure, directions, steps, batch, here)
        return
    function, fit = code.get(way, save, measure)
    if fit < 1:
        raise EngineError(
            f"{code.card.name or 'the card'} cannot hold {plan} at once at this moment: another "
            'process or stream may hold a part of it; engine="eager" runs without that'
        )
    tiles = -(-batch // plan.rows)
    exchanging = plan.exchange == "cache"
    sides = [directions]
    if exchanging and fit < len(directions):
        sides = [[direction] for direction in directions]
    for side in sides:
        at_once = min(tiles, fit // len(side)) if exchanging else tiles
        mail = None
        for first in range(0, tiles, at_once):
            now = min(at_once, tiles - first)
            size = plan.mail(now * len(side))[way == "backward"]
            if size:
                if mail is None or mail.numel() != size:
                    mail = torch.empty(size, dtype=torch.uint8, device=device)
                mail.zero_()
            numbers = [steps, batch, first, now, address(mail), code.driver.status(device)]
            grid = now * len(side) * plan.blocks
            code.driver.launch(function, grid, exchanging, _packed(numbers, side), device)


def _packed(numbers: list[int], directions: Sequence[Direction]) -> bytes:
    """The struct Args of kernels/layer.cu."""
    for direction in (*directions, *directions[:1])[:2]:
        numbers = numbers + direction.packed()
    return struct.pack(f"<{len(numbers)}q", *numbers)
