"""The engine cuda by a plan that a test asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from anygate.cells import Cell
from anygate.engines.cuda.cost import microseconds
from anygate.engines.cuda.driver import Driver
from anygate.engines.cuda.engine import CUDA
from anygate.engines.cuda.plan import Plan, plans
from anygate.engines.cuda.stepwise import Steps
from anygate.engines.layout import layout_of


class Forced(CUDA):
    """parts: of float32; held: R's tiles in registers, in place of the plan's; force: what the plan
    must be (fields of Plan; exchange="steps": a product and a kernel for each time step)."""

    def __init__(
        self,
        driver: Driver | None,
        parts: int = 3,
        held: tuple[int, int] | None = None,
        **force: Any,
    ) -> None:
        super().__init__(driver)
        self.parts, self.force, self.held = parts, force, held

    def plan(
        self,
        cell: Cell,
        hidden: int,
        batch: int,
        directions: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Plan | Steps:
        card = self.driver.card(device)
        half, parts = dtype == torch.float16, self.parts if dtype == torch.float32 else 1
        parts = 0 if dtype == torch.float64 else parts
        if parts == 0 or self.force.get("exchange") == "steps":
            return Steps(layout_of(cell), hidden, parts, half, "forced")
        fitting = [
            p
            for p in plans(layout_of(cell), hidden, parts, half, card)
            if all(getattr(p, k) == v for k, v in self.force.items())
        ]
        assert fitting, f"no plan with {self.force}"
        best = min(fitting, key=lambda p: microseconds(p, batch, directions, card))
        return replace(best, held=self.held) if self.held else best
