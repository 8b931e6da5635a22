"""The layout of a layer on the card: which blocks compute what, and what that takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ..layout import Layout

__all__ = ["EXCHANGES", "Card", "Plan", "blocks_at_once", "held_tiles", "plans"]

Exchange = Literal["one block", "cluster", "cache"]
EXCHANGES: dict[Exchange, str] = {"one block": "LOCAL", "cluster": "CLUSTER", "cache": "L2"}
"""The ways in which the blocks of a group tell each other h, with their names in the kernels."""
_MOST_WARPS = 16
_REGISTERS = 65536
"""Of a multiprocessor."""
_BUSY = {1: 100, 2: 116, 3: 132}
_MORE = 24
"""Registers of a thread that hold no weights, by parts, for four products and two states and one
batch tile, as the compiler reports them (tests/cuda/test_compile.py) and some room; and how many
more there are backward."""


@dataclass(frozen=True)
class Card:
    """A GPU. capability: such as (9, 0); shared: bytes of shared memory that a block may have."""

    capability: tuple[int, int]
    processors: int
    shared: int
    name: str = ""

    @property
    def architecture(self) -> str:
        """The architecture that NVRTC compiles for: the instructions of clusters are sm_90's and
        later ones'."""
        major, minor = self.capability
        return f"sm_{major}{minor}"

    @property
    def has_tensor_cores(self) -> bool:
        """True if it has the instructions of the persistent kernels' products, sm_80's."""
        return self.capability >= (8, 0)

    @property
    def has_clusters(self) -> bool:
        return self.capability >= (9, 0) and self.capability[0] != 12


@dataclass(frozen=True)
class Plan:
    """The numbers that a kernel is compiled for; kernels/layer.cu says what they mean.

    units: UW, groups of 8 hidden units of a block. splits: KW, warps that share the columns of R.
    blocks: CL, of a group. tiles: NT, of 8 batch rows of a group. parts: bfloat16 numbers that a
    float32 is made of; 1 in half types. half: float16 and not bfloat16. held: tiles of R's columns
    in registers, forward and backward; the rest lies in shared memory.
    """

    layout: Layout
    hidden: int
    exchange: Exchange
    units: int
    splits: int
    blocks: int
    tiles: int
    parts: int
    half: bool
    held: tuple[int, int]

    @property
    def threads(self) -> int:
        return 32 * self.units * self.splits

    @property
    def rows(self) -> int:
        """Batch rows of a group."""
        return 8 * self.tiles

    @property
    def _from_h(self) -> int:
        return len(self.layout.from_h)

    @property
    def columns(self) -> int:
        """Tiles of 16 columns of R that one warp multiplies, forward."""
        pairs = -(-self.hidden // 32)
        return -(-pairs // self.splits) * 2

    @property
    def _back(self) -> tuple[int, int, int]:
        """Backward: warps that share a tile of grad h, tiles of a warp, their tiles of rows."""
        warps, all_units = self.units * self.splits, 8 * self.units * self.blocks
        pairs, across = -(-self._from_h * 8 * self.units // 32), -(-all_units // 16)
        shared = max(1, min(warps // across, pairs))
        return shared, -(-across // (warps // shared)), -(-pairs // shared) * 2

    @property
    def shared(self) -> tuple[int, int]:
        """Bytes of shared memory of a block, forward and backward."""
        warps, all_units = self.units * self.splits, 8 * self.units * self.blocks
        two = -(-self._from_h // 2)
        wide = -(-max(all_units, self.columns * self.splits * 16) // 32) * 32
        h = 2 * self.parts * self.rows * (wide + 8) * 2
        r = warps * (self.columns - self.held[0]) * self.parts * two * 512
        sums = warps * self.tiles * two * 512 if self.splits > 1 else 0
        sharing, mine, deep = self._back
        z = 2 * self.parts * self.rows * (sharing * deep * 16 + 8) * 2
        back = warps * mine * (deep - self.held[1]) * self.parts * 512
        slots = 2 * self.blocks * sharing * 8 * self.units * self.rows * 4
        if self.exchange == "cache":
            slots = 0
        return h + r + sums + 16, z + back + slots + 16

    def mail(self, groups: int) -> tuple[int, int]:
        """Bytes of messages through the second-level cache, forward and backward; zeros before a
        launch."""
        if self.exchange != "cache":
            return 0, 0
        all_units = 8 * self.units * self.blocks
        forward = 2 * groups * self.parts * self.rows * all_units * 4
        sharing = self._back[0]
        return forward, 2 * groups * all_units * self.blocks * sharing * self.rows * 8

    def __str__(self) -> str:
        ways = {
            "one block": "one block",
            "cluster": f"a cluster of {self.blocks} blocks",
            "cache": f"{self.blocks} blocks that exchange h through the second-level cache",
        }
        parts = f", float32 as {self.parts} bfloat16 parts" if self.parts > 1 else ""
        return f"{ways[self.exchange]} for {self.rows} batch rows{parts}"


def _busy(plan: Plan) -> int:
    layout = plan.layout
    extra = 4 * (layout.panels + layout.saved + 2 * layout.states + layout.masks - 12)
    return _BUSY[plan.parts] + max(extra, -24) // 2 + 40 * (-(-plan.tiles // plan.splits) - 1)


def blocks_at_once(plan: Plan, card: Card) -> int:
    """Blocks that one processor holds, forward, as far as can be said before compiling."""
    two = -(-len(plan.layout.from_h) // 2)
    registers = min(255, _busy(plan) + plan.held[0] * 4 * plan.parts * two)
    by_registers = _REGISTERS // (plan.threads * -(-registers // 8) * 8)
    return max(
        1, min(by_registers, card.shared // plan.shared[0], _MOST_WARPS * 4 * 32 // plan.threads)
    )


def held_tiles(plan: Plan) -> tuple[int, int]:
    """As many of R's tiles as the registers of a thread take, forward and backward."""
    most = min(255, _REGISTERS // plan.threads // 8 * 8)
    layout = plan.layout
    room = max(0, most - _busy(plan))
    _, mine, deep = plan._back
    forward = room // (4 * plan.parts * -(-len(layout.from_h) // 2))
    backward = max(0, room - _MORE) // (4 * plan.parts * mine)
    return min(plan.columns, forward // 2 * 2), min(deep, backward // 2 * 2)


def plans(layout: Layout, hidden: int, parts: int, half: bool, card: Card) -> list[Plan]:
    """Every way to compute a layer that this card has room for."""
    found = []
    groups = -(-hidden // 8)
    for units in sorted({1, 2, 4, 8, 16, groups, *(-(-groups // n) for n in (2, 4, 8, 16))}):
        blocks = -(-groups // units)
        if units > min(_MOST_WARPS, groups):
            continue
        if blocks == 1:
            ways: list[Exchange] = ["one block"]
        else:
            ways = ["cache"] if blocks <= card.processors else []
        if card.has_clusters and 1 < blocks <= 16:
            ways.append("cluster")
        for way in ways:
            for splits in (1, 2, 4, 8):
                if units * splits > _MOST_WARPS or splits > max(1, -(-hidden // 32)):
                    continue
                for tiles in (1, 2, 4):
                    bare = Plan(
                        layout, hidden, way, units, splits, blocks, tiles, parts, half, (0, 0)
                    )
                    whole = replace(bare, held=held_tiles(bare))
                    if max(whole.shared) <= card.shared:
                        found.append(whole)
    return found
