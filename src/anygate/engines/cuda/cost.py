"""Microseconds of a time step by a plan, to choose between plans.

Fitted to what prototypes of these kernels took on an H100 (tests/cuda/test_plan.py holds the choice
to those tables); the exchange through the second-level cache has another form since then, and its
numbers are a guess until it has been measured.
"""

from __future__ import annotations

from functools import lru_cache

from ..layout import Layout
from .plan import Card, Plan, blocks_at_once, plans

__all__ = ["choose", "microseconds"]

_PRODUCTS = {1: 1, 2: 3, 3: 6}
_START = {"one block": 0.30, "cluster": 0.50, "cache": 0.90}
"""Of a step without products: synchronisation, the cell, loads and stores."""
_PRODUCT = {"one block": 0.0024, "cluster": 0.0013, "cache": 0.0013}
"""Of a tensor-core product in a block; there are up to 16 warps."""
_FROM_SHARED = 0.0009
"""More, where R's tile lies in shared memory."""
_NEIGHBOUR = 0.034
"""Of a message to each block of a cluster."""
_BYTE = 1.0 / 2.5e6
"""Of a byte that all blocks read through the cache."""
_UNSEEN = 1.25
"""What has not been measured must be clearly better to be chosen."""
_SHARING = 1.15
"""More, where two blocks share a processor."""
_TILE = 0.25
"""Of each batch tile after a group's first: the cell once more."""


def microseconds(plan: Plan, batch: int, directions: int, card: Card) -> float:
    """Of a time step, forward. Infinite if the card cannot hold a group at once."""
    groups = -(-batch // plan.rows) * directions
    room = card.processors * _in_clusters(plan) * blocks_at_once(plan, card)
    at_once = int(room) // plan.blocks
    if at_once < 1:
        return float("inf")
    two = -(-len(plan.layout.from_h) // 2)
    warps = plan.units * plan.splits
    products = warps * plan.columns * two * plan.tiles * _PRODUCTS[plan.parts]
    spilled = 1 - min(plan.held[0], plan.columns) / plan.columns
    step = _START[plan.exchange] + products * (_PRODUCT[plan.exchange] + spilled * _FROM_SHARED)
    step += _TILE * (-(-plan.tiles // plan.splits) - 1) + 0.12 * (plan.splits > 1)
    if plan.exchange == "cluster":
        step += _NEIGHBOUR * plan.blocks * (1 + (plan.parts - 1) / 2) * plan.tiles
    if plan.exchange == "cache":
        letters = plan.parts * plan.rows * 8 * plan.units * plan.blocks * 4
        step += letters * plan.blocks * min(groups, at_once) * _BYTE
        step *= _UNSEEN
    if min(groups, at_once) * plan.blocks > card.processors:
        step *= _SHARING
    return step * -(-groups // at_once)


def _in_clusters(plan: Plan) -> float:
    """The part of the processors that clusters can use: a cluster lies in one group of 16 to 18 of
    them, so that some are left over."""
    return 0.9 if plan.exchange == "cluster" else 1.0


@lru_cache(maxsize=1024)
def choose(
    layout: Layout,
    hidden: int,
    batch: int,
    directions: int,
    parts: int,
    half: bool,
    card: Card,
    exchange: str = "",
) -> Plan | None:
    """The plan that should take the least time; None if none fits the card. exchange: only plans of
    this kind."""
    fitting = [
        plan for plan in plans(layout, hidden, parts, half, card) if exchange in ("", plan.exchange)
    ]
    best = min(fitting, key=lambda p: microseconds(p, batch, directions, card), default=None)
    if best is None or microseconds(best, batch, directions, card) == float("inf"):
        return None
    return best
