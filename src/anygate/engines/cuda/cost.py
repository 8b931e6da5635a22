"""Microseconds of a time step by a plan, to choose between plans.

Fitted to what prototypes of these kernels took on an H100 (tests/cuda/test_plan.py holds the choice
to those tables); the exchange through the second-level cache has another form since then, and its
numbers are a guess until it has been measured.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from ..layout import Layout
from .plan import Card, Plan, blocks_at_once, plans
from .stepwise import Steps

__all__ = ["choose", "microseconds", "step_microseconds"]

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
"""A way that has not been measured must be clearly better to be chosen."""
_SHARING = 1.15
"""More, where two blocks share a processor."""
_TILE = 0.25
"""Of each batch tile after a group's first: the cell once more."""
_LAUNCHES = 8.0
"""Of a product and a kernel that follow each other, however small. FlashRNN's kernels of this kind
take 8.2 us a step on an H100 at H = 64 and 10.5 at H = 768; ours, in a graph, are not measured."""
_FLOPS = {0: 30e6, 1: 350e6, 2: 180e6, 3: 35e6}
"""Operations in a microsecond of torch's products of a middle size on an H100, by parts."""
_BYTES = {0: 8, 1: 2, 2: 4, 3: 4}
_MEMORY = 2.2e6
"""Bytes that an H100 reads in a microsecond."""


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


def step_microseconds(steps: Steps, batch: int, directions: int, card: Card) -> float:
    """Of a time step by a product and a kernel."""
    layout, hidden = steps.layout, steps.hidden
    weights = directions * len(layout.from_h) * hidden * hidden
    rows = directions * batch * hidden * (3 * layout.panels + 2 * layout.states)
    of_h100 = card.processors / 132
    product = max(
        2 * batch * weights / _FLOPS[steps.parts], weights * _BYTES[steps.parts] / _MEMORY
    )
    return _LAUNCHES + (product + rows * _BYTES[steps.parts] / _MEMORY) / of_h100


@lru_cache(maxsize=1024)
def choose(
    layout: Layout,
    hidden: int,
    batch: int,
    directions: int,
    parts: int,
    half: bool,
    card: Card,
) -> Plan | Steps:
    """The plan that should take the least time."""
    steps = Steps(layout, hidden, parts, half, "float64 has no tensor-core products here")
    if parts == 0:
        return steps
    if not card.has_tensor_cores:
        return replace(steps, reason=f"{card.name or 'the card'} is older than sm_80")
    found = [
        (microseconds(plan, batch, directions, card), plan)
        for plan in plans(layout, hidden, parts, half, card)
    ]
    took, best = min(found, key=lambda pair: pair[0], default=(float("inf"), None))
    if best is None or took == float("inf"):
        return replace(steps, reason="the recurrent weights do not fit on the card's processors")
    by_steps = step_microseconds(steps, batch, directions, card) * _UNSEEN
    if by_steps < took:
        reason = f"{by_steps:.0f} us, where kernels that wait for each other should take {took:.0f}"
        return replace(steps, reason=reason)
    return best
