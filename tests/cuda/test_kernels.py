"""The kernels' own source, emulated, against cells written by hand: values and gradients, of shapes
that fit nothing, packs and both directions, in several orders of threads and messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from compiled import needs_compiler
from drawn_layers import by_engine, check, draw
from emulated import Emulated, EmulatedDriver

pytestmark = needs_compiler
HALF, BRAIN = torch.float16, torch.bfloat16


@dataclass(frozen=True)
class Variant:
    """A kernel that is compiled once: of a cell, H, a dtype, a plan. parts: bfloat16 numbers of a
    float32, good to 2^-16 for two; held: R's tiles in registers, the rest in shared memory."""

    cell: str
    hidden: int
    force: dict[str, Any] = field(hash=False)
    dtype: torch.dtype = torch.float32
    parts: int = 3
    held: tuple[int, int] | None = None

    def engine(self, seed: int = 0, **driver: Any) -> Emulated:
        return Emulated(EmulatedDriver(seed=seed, **driver), self.parts, self.held, **self.force)

    @property
    def eps(self) -> float | None:
        return 2.0**-16 if self.dtype == torch.float32 and self.parts == 2 else None


def plan(exchange: str, units: int, splits: int, tiles: int) -> dict[str, Any]:
    return {"exchange": exchange, "units": units, "splits": splits, "tiles": tiles}


STEPS = {"exchange": "steps"}


VARIANTS = {
    "one block, odd H": Variant("lstm", 21, plan("one block", 3, 1, 1)),
    "cache, two splits, two tiles": Variant("peephole", 37, plan("cache", 2, 2, 2), held=(0, 2)),
    "cluster of three, two parts": Variant("gru", 23, plan("cluster", 1, 1, 1), parts=2),
    "one block, bfloat16, two splits": Variant(
        "elman", 39, plan("one block", 5, 2, 1), BRAIN, held=(0, 0)
    ),
    "cache, float16, masks": Variant("zoneout lstm", 24, plan("cache", 1, 1, 1), HALF),
    "cluster, two splits, two tiles": Variant("slstm", 34, plan("cluster", 3, 2, 2)),
    "one block, products in no order": Variant("mixed", 9, plan("one block", 2, 1, 2)),
    "steps, products in no order, float64": Variant("mixed", 13, STEPS, torch.float64),
    "steps, float16": Variant("zoneout lstm", 11, STEPS, HALF),
    "steps, float32": Variant("gru", 10, STEPS),
}
EVERY = pytest.mark.parametrize("name", VARIANTS)


@EVERY
def test_values_and_gradients(name: str) -> None:
    v = VARIANTS[name]
    shapes = [
        (1, 1, 1, {}),
        (2, 3, 4, {"reverse": True}),
        (5, 17, 2, {"packed": True}),
        (4, 18, 3, {"packed": True, "reverse": True, "bias": False}),
        (6, 9, 2, {"seed": 3}),
    ]
    for k, (t, b, i, options) in enumerate(shapes):
        case = draw(v.cell, t, b, i, v.hidden, dtype=v.dtype, **options)
        check(case, k % 2 == 0, v.engine(seed=k), v.eps)


@EVERY
def test_the_same_bits_in_every_order(name: str) -> None:
    v = VARIANTS[name]
    case = draw(v.cell, 4, 11, 2, v.hidden, packed=True, dtype=v.dtype)
    first = by_engine(case, True, v.engine(seed=100))
    for seed in range(101, 105):
        for key, value in by_engine(case, True, v.engine(seed=seed)).items():
            assert (value == first[key]).all(), key


def test_waves() -> None:
    """Blocks that wait for each other run only as many as the card holds; results are the same."""
    v = VARIANTS["cache, float16, masks"]
    case = draw(v.cell, 3, 35, 2, v.hidden, dtype=v.dtype)
    whole = by_engine(case, False, v.engine())
    engine = v.engine(fit=7)  # two groups of three blocks
    for key, value in by_engine(case, False, engine).items():
        assert (value == whole[key]).all(), key
    driver: Any = engine.driver
    assert [grid for _, grid in driver.launches] == [6, 6, 3, 6, 6, 3]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("cluster of three, two parts", "((s - 1) / 2) & 1", "(s / 2) & 1"),
        ("one block, odd H", "b[RIGHT[x]][half * 2]", "b[LEFT[x]][half * 2]"),
        ("one block, odd H", "l.col + j < at.count && real_unit", "l.col < at.count && real_unit"),
        ("one block, odd H", "#elif EXCHANGE == LOCAL\n    __syncthreads();", "#elif 0"),
    ],
)
def test_a_change_of_the_kernels_is_noticed(name: str, old: str, new: str) -> None:
    """A parity, the order of operands, the last row of a pack, a barrier."""
    v = VARIANTS[name]
    engine = v.engine()
    driver: Any = engine.driver
    driver.changes = {old: new}
    case = draw(v.cell, 5, 17, 2, v.hidden, dtype=v.dtype, packed=True)
    with pytest.raises(AssertionError):
        check(case, True, engine, v.eps)
