"""The way by a product and a kernel for each time step, on an emulated card: its graphs of a few
steps give the bits of steps launched one by one, whatever comes between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from compiled import needs_compiler
from drawn_layers import by_engine, cast, check, draw
from emulated import H100, Chosen, Emulated, EmulatedDriver
from test_kernels import STEPS

from anygate.cells import cell_key
from anygate.engines.cuda import stepwise
from anygate.engines.cuda.plan import Card

pytestmark = needs_compiler
H = 10
KEYS = [
    {"t": 8, "packed": False},
    {"t": 9, "packed": True},
    {"t": 7, "packed": True, "reverse": True},
    {"t": 3, "packed": False, "reverse": True},
    {"t": 2, "packed": False},
]


@pytest.fixture(autouse=True)
def graphs_of_three(monkeypatch: Any) -> Iterator[None]:
    monkeypatch.setattr(stepwise, "GRAPHED", 3)
    stepwise._seen.clear()
    yield
    stepwise._seen.clear()


def engine_of(driver: EmulatedDriver) -> Emulated:
    return Emulated(driver, 3, None, **STEPS)


def drawn(options: dict[str, Any], seed: int) -> Any:
    given = {"seed": seed, "dtype": torch.float32, **options}
    return draw("peephole", given.pop("t"), 4, 3, H, **given)


class OneByOne(EmulatedDriver):
    def records(self, device: torch.device) -> bool:
        return False


def test_graphs_give_the_same_bits() -> None:
    driver, plain = EmulatedDriver(), OneByOne()
    engine, twin = engine_of(driver), engine_of(plain)
    for turn in range(3):
        for k, options in enumerate(KEYS):
            case = drawn(options, 10 * turn + k)
            found, wanted = (by_engine(case, True, e) for e in (engine, twin))
            for name, value in wanted.items():
                assert (found[name] == value).all(), (turn, options, name)
    # One of forward and one of backward, for all T, packs and directions
    assert driver.recorded == 2 and plain.recorded == 0
    assert len(stepwise._seen) == 2


def test_between_inference_and_training() -> None:
    driver = EmulatedDriver()
    engine = engine_of(driver)
    case = drawn({"t": 6}, 0)
    key, layer = cell_key(case.known.cell), cast(case.layer, torch.float32)
    results = []
    for mode in (torch.no_grad, torch.inference_mode, torch.no_grad, torch.inference_mode):
        with mode():
            results.append(engine.run(key, layer).output.clone())
    assert driver.recorded == 1 and all(torch.equal(r, results[0]) for r in results)


def test_threads_take_turns_with_a_graph() -> None:
    driver = EmulatedDriver()
    engine = engine_of(driver)
    cases = [drawn({"t": 6}, seed) for seed in range(4)]
    wanted = [by_engine(case, False, engine) for case in cases]
    wrong: list[str] = []

    def work(k: int) -> None:
        for _ in range(5):
            found = by_engine(cases[k], False, engine)
            wrong.extend(n for n, value in wanted[k].items() if not (found[n] == value).all())

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not wrong


def test_graphs_are_few(monkeypatch: Any) -> None:
    monkeypatch.setattr(stepwise, "_MOST_GRAPHS", 2)
    engine = engine_of(EmulatedDriver())
    for batch in (1, 2, 3, 1, 2, 3):
        case = draw("elman", 4, batch, 2, H, dtype=torch.float32)
        with torch.no_grad():
            engine.run(cell_key(case.known.cell), cast(case.layer, torch.float32))
    assert len(stepwise._seen) == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a.step + (a.base ? *a.base : 0)", "a.step"),
        ("at.n >= rows.count", "at.n >= rows.count - 1"),
        ("write(operand + p * H, 0);", ";"),
        ("H_ROW[p] * H + at.u", "p * H + at.u"),
        ("carried[0] += ", "carried[0] = "),
    ],
)
def test_a_change_of_the_kernels_is_noticed(old: str, new: str) -> None:
    driver = EmulatedDriver()
    driver.changes = {old: new}
    engine, twin = engine_of(driver), engine_of(OneByOne())
    case = draw("mixed", 9, 4, 3, 9, dtype=torch.float32, packed=True, reverse=True)
    results = [by_engine(case, True, engine) for _ in range(3)]
    wanted = by_engine(case, True, twin)
    assert any((found[n] != wanted[n]).any() for found in results for n in wanted)


@pytest.mark.parametrize(
    ("card", "dtype", "why"),
    [
        (Card((7, 5), 40, 65536, "T4"), torch.float32, "T4 is older than sm_80"),
        (H100, torch.float64, "float64 has no tensor-core products"),
    ],
)
def test_what_takes_this_way_says_why(card: Card, dtype: torch.dtype, why: str) -> None:
    engine = Chosen(EmulatedDriver(card))
    case = draw("lstm", 3, 2, 3, H, dtype=dtype)
    check(case, False, engine)
    detail = engine.detail(case.known.cell, H, 2, str(dtype).removeprefix("torch."))
    assert detail.startswith("a product and a fused kernel for each time step") and why in detail
