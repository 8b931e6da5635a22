"""A plan's kernels, compiled when they are first launched and kept: in memory and on disk."""

from __future__ import annotations

import hashlib
import threading
from functools import lru_cache

import torch

from ...cells import Cell
from .. import cache
from ..layout import Layout, layout_of
from .driver import Driver, Function
from .plan import Card, Plan
from .source import Direction, source

__all__ = ["Kernels", "kernels"]

_lock = threading.Lock()


class Kernels:
    """The kernels of one cell by one plan on one device."""

    def __init__(self, driver: Driver, cell: Cell, plan: Plan, device: torch.device) -> None:
        self.driver, self.cell, self.plan, self.device = driver, cell, plan, device
        self.layout: Layout = layout_of(cell)
        self.card: Card = driver.card(device)
        self._functions: dict[tuple[Direction, bool], tuple[Function, int]] = {}

    def get(self, direction: Direction, save: bool) -> tuple[Function, int]:
        """A kernel, and how many groups of blocks the card runs at the same time."""
        found = self._functions.get((direction, save))
        if found is None:
            with _lock:
                found = self._functions.get((direction, save)) or self._make(direction, save)
                self._functions[direction, save] = found
        return found

    def _make(self, direction: Direction, save: bool) -> tuple[Function, int]:
        plan, driver = self.plan, self.driver
        text = source(self.cell, plan, direction, save)
        of = f"{driver.version()} {self.card.architecture}\n{text}"
        key = f"cuda-{hashlib.sha256(of.encode()).hexdigest()}"
        code = cache.read(key)
        if code is None:
            code = driver.compile(text, self.card)
            cache.write(key, code)
        shared = plan.shared[direction == "backward"]
        cluster = plan.blocks if plan.exchange == "cluster" else 1
        function = driver.load(code, direction, plan.threads, shared, cluster, self.device)
        resident = driver.resident(function, self.card)
        groups = resident // plan.blocks if plan.exchange == "cache" else resident
        return function, groups


@lru_cache(maxsize=256)
def kernels(driver: Driver, cell: Cell, plan: Plan, device: torch.device) -> Kernels:
    """Compiled once for each of these."""
    return Kernels(driver, cell, plan, device)
