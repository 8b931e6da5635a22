"""Sums that the kernels make for anygate.record, on an emulated card, against the cpu engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from compiled import needs_compiler
from drawn_layers import Case, cast, draw, with_leaves
from emulated import Emulated, EmulatedDriver
from test_kernels import BRAIN, HALF, STEPS, Variant, plan

from anygate.cells import cell_key
from anygate.cells.measures import measured
from anygate.engines.cpu import CPU
from anygate.engines.cuda import source, sums
from anygate.engines.protocol import CREATE_GRAPH, Engine

pytestmark = needs_compiler


class Tables:
    """Receives what an engine measured: each time step's numbers, of all parts together."""

    def __init__(self, case: Case) -> None:
        self.names = measured(case.known.cell)
        self.found: dict[str, Any] = {}

    def forward(self, table: torch.Tensor) -> None:
        parts = table.numpy()
        largest = [name == "max" for _, name in self.names.numbers]
        self.found["forward"] = np.where(largest, parts.max(0, initial=0), parts.sum(0))

    def backward(self, table: torch.Tensor) -> None:
        self.found["backward"] = table.numpy().sum(0)


def tables(case: Case, engine: Engine, dtype: torch.dtype, keep: bool) -> dict[str, Any]:
    """Forward and backward, with gradients that arrive by every result."""
    received = Tables(case)
    layer = with_leaves(cast(case.layer, dtype), lambda t: t.clone().requires_grad_())
    result = engine.run(cell_key(case.known.cell), layer, keep, received)
    states = case.known.cell.type.states
    pairs = [(result.output, case.arriving["output"])]
    pairs += [(r, case.arriving[f"last {s}"]) for r, s in zip(result.states, states, strict=True)]
    if keep:
        kept = zip(result.kept or (), states, strict=True)
        pairs += [(r, case.arriving[f"kept {s}"]) for r, s in kept]
    torch.autograd.backward([r for r, _ in pairs], [g.to(dtype) for _, g in pairs])
    return received.found


def check(case: Case, engine: Engine, keep: bool = True) -> None:
    """Sums within the rounding of the dtype; counts exactly, but for half types, of which values
    near a limit fall to either side: at most a twentieth and three."""
    half = case.dtype in (HALF, BRAIN)
    room = (8 if half else 200) * torch.finfo(case.dtype).eps
    wanted = tables(case, CPU(), torch.float64, keep)
    found = tables(case, engine, case.dtype, keep)
    names = measured(case.known.cell)
    for way, of_line in (("forward", names.numbers), ("backward", names.norms)):
        assert found[way].shape == wanted[way].shape
        for k, name in enumerate(of_line):
            off = np.abs(found[way][:, k] - wanted[way][:, k])
            if name[1] in ("sum", "squares", "max", "grad", "direct"):
                assert off.max() <= room * max(1, np.abs(wanted[way][:, k]).max()), name
            else:
                values = np.prod(case.layer.states[0].shape)
                assert off.max() <= (3 + 0.05 * values if half else 0), name


VARIANTS = {
    "one block": Variant("peephole", 21, plan("one block", 3, 1, 1)),
    "cache, two splits, masks": Variant("zoneout lstm", 37, plan("cache", 2, 2, 2)),
    "cluster, float16": Variant("lstm", 24, plan("cluster", 1, 1, 1), HALF),
    "one block, products in no order": Variant("mixed", 9, plan("one block", 2, 1, 2)),
    "steps, float64": Variant("slstm", 10, STEPS, torch.float64),
    "steps, bfloat16": Variant("gru", 10, STEPS, BRAIN),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_tables(name: str, monkeypatch: Any) -> None:
    for module in (source, sums):  # several blocks of a time step
        monkeypatch.setattr(module, "MEASURE_CHUNK", 256)
    v = VARIANTS[name]
    shapes: list[tuple[int, int, dict[str, Any]]] = [
        (1, 1, {}),
        (5, 17, {"packed": True}),
        (4, 18, {"packed": True, "reverse": True}),
        (3, 40, {"reverse": True, "bias": False}),
    ]
    for k, (t, b, options) in enumerate(shapes):
        case = draw(v.cell, t, b, 3, v.hidden, dtype=v.dtype, **options)
        check(case, v.engine(seed=k), k % 2 == 0)


def test_the_same_bits_in_every_order_and_the_same_results_as_unmeasured() -> None:
    v = VARIANTS["one block"]
    case = draw(v.cell, 4, 11, 2, v.hidden, packed=True, dtype=v.dtype)
    first = tables(case, v.engine(seed=1), v.dtype, False)
    for seed in (2, 3):
        found = tables(case, v.engine(seed=seed), v.dtype, False)
        assert all((found[way] == first[way]).all() for way in first)
    layer, key = cast(case.layer, v.dtype), cell_key(case.known.cell)
    engine = v.engine()
    plain, seen = (engine.run(key, layer, True, m) for m in (None, Tables(case)))
    for a, b in zip((plain.output, *plain.states), (seen.output, *seen.states), strict=True):
        assert torch.equal(a, b)


def test_nothing_to_measure_and_what_cannot_be() -> None:
    v = VARIANTS["one block"]
    for t, b in ((0, 2), (3, 0)):
        found = tables(draw(v.cell, t, b, 2, v.hidden, dtype=v.dtype), v.engine(), v.dtype, True)
        assert {way: table.shape for way, table in found.items()} == {
            "forward": (t, 8 * 5 + 1),
            "backward": (t, 4),
        }
        assert not any(table.any() for table in found.values())
    case = draw(v.cell, 2, 2, 2, v.hidden, dtype=v.dtype)
    layer = with_leaves(cast(case.layer, v.dtype), lambda t: t.requires_grad_())
    result = v.engine().run(cell_key(case.known.cell), layer, False, Tables(case))
    with pytest.raises(RuntimeError, match="create_graph") as raised:
        torch.autograd.grad(result.output.sum(), layer.x, create_graph=True)
    assert str(raised.value) == CREATE_GRAPH


def test_a_sum_left_out_is_noticed() -> None:
    """The law above sees a warp that is not added, and a step's rows taken from its neighbour."""
    v = VARIANTS["one block"]
    case = draw(v.cell, 5, 17, 2, v.hidden, packed=True, dtype=v.dtype)
    for old, new in (("w < WARPS", "w < WARPS - 1"), ("last = beside(a, t, false)", "last = at")):
        driver = EmulatedDriver()
        driver.changes = {old: new}
        with pytest.raises(AssertionError):
            check(case, Emulated(driver, 3, None, **v.force))
