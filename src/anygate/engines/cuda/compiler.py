"""A plan's kernels, compiled when they are first launched and kept: in memory and on disk."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import lru_cache

import torch

from ...cells import Cell
from .. import cache
from ..layout import Layout, layout_of
from .driver import Driver, Function
from .plan import Card, Plan
from .source import MEASURE_THREADS, Direction, measure_shared, measure_source, source
from .stepwise import Steps

__all__ = ["Kernels", "kernels", "machine_code"]

_lock = threading.Lock()


def machine_code(driver: Driver, card: Card, text: str) -> bytes:
    """A source compiled for a card, or what is on disk of that; needs no card."""
    of = f"{driver.version()} {card.architecture}\n{text}"
    key = f"cuda-{hashlib.sha256(of.encode()).hexdigest()}"
    code = cache.read(key)
    if code is None:
        code = driver.compile(text, card)
        cache.write(key, code)
    return code


class Kernels:
    """The kernels of one cell by one plan on one device."""

    def __init__(
        self, driver: Driver, cell: Cell, plan: Plan | Steps, device: torch.device
    ) -> None:
        self.driver, self.cell, self.plan, self.device = driver, cell, plan, device
        self.layout: Layout = layout_of(cell)
        self.card: Card = driver.card(device)
        self._functions: dict[tuple[str, bool, bool], tuple[Function, int]] = {}

    def get(self, direction: Direction, save: bool, measure: bool) -> tuple[Function, int]:
        """A kernel, and how many groups of blocks the card runs at the same time."""
        key = (direction, save, measure)
        return self._functions.get(key) or self._once(key, lambda: self._make(*key))

    def measuring(self, direction: Direction) -> Function:
        """The kernel that adds up what a measured run has kept."""
        key = (f"measure_{direction}", False, True)
        found = self._functions.get(key)
        return (found or self._once(key, lambda: self._make_measuring(direction)))[0]

    def _once(
        self, key: tuple[str, bool, bool], make: Callable[[], tuple[Function, int]]
    ) -> tuple[Function, int]:
        with _lock:
            found = self._functions.get(key) or make()
            self._functions[key] = found
        return found

    def _make(self, direction: Direction, save: bool, measure: bool) -> tuple[Function, int]:
        plan, driver = self.plan, self.driver
        text = source(self.cell, plan, direction, save, measure)
        code = machine_code(driver, self.card, text)
        shared = plan.shared[direction == "backward"]
        if isinstance(plan, Steps):
            name = f"step_{direction}"
            return driver.load(code, name, plan.threads, shared, 1, self.device), 1
        cluster = plan.blocks if plan.exchange == "cluster" else 1
        function = driver.load(code, direction, plan.threads, shared, cluster, self.device)
        resident = driver.resident(function, self.card, self.device)
        groups = resident // plan.blocks if plan.exchange == "cache" else resident
        return function, groups

    def _make_measuring(self, direction: Direction) -> tuple[Function, int]:
        code = machine_code(self.driver, self.card, measure_source(self.cell, self.plan))
        shared = measure_shared(self.cell)[direction == "backward"]
        name, threads = f"measure_{direction}", MEASURE_THREADS
        return self.driver.load(code, name, threads, shared, 1, self.device), 1


@lru_cache(maxsize=256)
def kernels(driver: Driver, cell: Cell, plan: Plan | Steps, device: torch.device) -> Kernels:
    """Compiled once for each of these."""
    return Kernels(driver, cell, plan, device)
