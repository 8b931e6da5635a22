"""Float32 products by AMX tiles of bfloat16: the laws, their accuracy, where they are not used."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
import torch
from anygate.formulas.cell import Cell
from hypothesis import given, settings
from test_cpu import by_cpu, forget, twin
from test_engines import Case, cases, check, difference, make

import anygate
from anygate import LSTM
from anygate.engines.cpu import amx, compiler, layer, overlap
from anygate.engines.cpu import gradients as cpu_gradients
from anygate.engines.cpu.emit import Target
from anygate.engines.cpu.kernels import emit_kernels
from anygate.formulas import resolve
from anygate.nn import operator

here = pytest.mark.skipif(
    compiler.tile_target("float32") is None, reason="this processor or system has no AMX tiles"
)


def always(code: Any, team: Any, batch: int, hidden: int, few: bool) -> Any:
    return code.by_tiles and code.by_tiles()


def never(code: Any, team: Any, batch: int, hidden: int, few: bool) -> Any:
    return None


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles for every shape, however small."""
    monkeypatch.setattr(layer, "_tiles", always)


def team(threads: int, by_units: bool) -> Callable[..., tuple[int, bool]]:
    return lambda width, steps, batch, inputs, hidden: (threads, by_units)


# ---- the laws of every engine ---------------------------------------------------------------


@here
@pytest.mark.parametrize("hidden", [1, 15, 16, 17, 31, 32, 33, 48, 63, 65, 130])
def test_every_remainder(hidden: int, tiles: None) -> None:
    shapes = ((1, 3), (2, 1), (5, 17), (16, 8), (17, 9), (31, 32), (32, 7), (33, 33), (70, 64))
    for place, (batch, inputs) in enumerate(shapes):
        case = make(Cell(), 3, batch, inputs, hidden, dtype=torch.float32, reverse=place % 2 == 1)
        off, what = difference(case, by_cpu)
        assert off <= 1, (batch, inputs, what)


@here
@pytest.mark.parametrize("by_units", [False, True])
@pytest.mark.parametrize("threads", [2, 3])
def test_threads(
    threads: int, by_units: bool, tiles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Units that are no multiple of a tile, more threads than panels, rows of uneven shares."""
    monkeypatch.setattr(layer, "_team", team(threads, by_units))
    torch.set_num_threads(threads)
    for batch, hidden in ((37, 80), (3, 20), (65, 33)):
        case = make(Cell(), 5, batch, 12, hidden, dtype=torch.float32)
        off, what = difference(case, by_cpu)
        assert off <= 1, (batch, hidden, what)
    torch.set_num_threads(1)


@here
@settings(max_examples=25)
@given(case=cases())
def test_any_two_activations_in_any_two_slots(case: Case) -> None:
    single = make(
        case.cell, *case.arrays["x"].shape, case.arrays["h0"].shape[1],
        dtype=torch.float32, reverse=case.reverse, size=0.4,
    )  # fmt: skip
    if len(single.arrays["x"]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layer, "_tiles", always)
            check(single, by_cpu)


@here
@pytest.mark.parametrize("by_units", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_packed_batches_and_stretches(
    reverse: bool, by_units: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that end or begin at different steps, gradients in stretches: as by vectors."""
    monkeypatch.setattr(layer, "_team", team(2, by_units))
    torch.set_num_threads(2)
    torch.manual_seed(0)
    cell, hidden = Cell(candidate=resolve("softsign")), 40
    sizes = torch.tensor([40, 40, 33, 20, 17, 16, 3, 1])
    x = torch.randn(int(sizes.sum()), 10)
    weights = [torch.randn(160, 10), torch.randn(160, hidden) / 6, torch.randn(160)]
    state = [torch.randn(40, hidden), torch.randn(40, hidden)]
    leaves = [t.requires_grad_() for t in (x, *state, *weights, torch.zeros(160))]

    def run(choice: Any, rows: int) -> Any:
        monkeypatch.setattr(layer, "_tiles", choice)
        monkeypatch.setattr(cpu_gradients, "_ROWS", rows)
        results = operator.run(operator.cell_key(cell), reverse, *leaves, None, sizes)
        grads = torch.autograd.grad([r.square().sum() for r in results], leaves)
        return [*results, *grads]

    expected = run(never, 1000)
    for rows in (1000, 50, 7):
        for p, q in zip(expected, run(always, rows), strict=True):
            torch.testing.assert_close(q, p, rtol=1e-4, atol=1e-4)
    torch.set_num_threads(1)


@here
def test_a_row_does_not_depend_on_the_others(tiles: None) -> None:
    """To the last bit: 2 x 2 tiles add in the order in which 1 x 4 do."""
    torch.manual_seed(0)
    lstm = LSTM(40, 70, engine="cpu")
    x, h, c = torch.randn(4, 33, 40), torch.randn(1, 33, 70), torch.randn(1, 33, 70)
    whole = lstm(x, (h, c))[0]
    for first, last in ((0, 4), (3, 16), (16, 33), (5, 32)):
        some = slice(first, last)
        part = lstm(x[:, some], (h[:, some], c[:, some]))[0]
        assert torch.equal(part, whole[:, some])


@here
@pytest.mark.parametrize("by_units", [False, True])
def test_what_is_recorded_is_the_same(by_units: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is counted twice or left out, forward and backward."""
    monkeypatch.setattr(layer, "_team", team(2, by_units))
    torch.set_num_threads(2)
    torch.manual_seed(0)
    lstm = LSTM(20, 70, engine="cpu")
    x = torch.randn(6, 37, 20)
    found = []
    for choice in (always, never):
        monkeypatch.setattr(layer, "_tiles", choice)
        with anygate.record(lstm) as recording:
            lstm(x)[0].square().sum().backward()
        found.append(recording.arrays())
    assert found[0].keys() == found[1].keys()
    for name, values in found[0].items():
        np.testing.assert_allclose(values, found[1][name], rtol=1e-4, atol=1e-5, err_msg=name)
    torch.set_num_threads(1)


# ---- accuracy -------------------------------------------------------------------------------


def sums(scaled: bool, batch: int = 32) -> tuple[Any, Any, Any]:
    """h of a cell that is W x + R h0 and nothing else, the same in float64, and sum |w||x|."""
    draw = np.random.default_rng(0)
    cell = Cell(
        input_gate=resolve("1"), forget_gate=resolve("1"), candidate=resolve("x"),
        output_gate=resolve("1"), cell_output=resolve("x"),
    )  # fmt: skip

    def numbers(*shape: int) -> Any:
        size = 10.0 ** draw.uniform(-6, 6, shape) if scaled else 1.0
        return (draw.standard_normal(shape) * size).astype(np.float32)

    x, h0, weight_ih, weight_hh = (
        numbers(*s) for s in ((batch, 256), (batch, 64), (256, 256), (256, 64))
    )
    weight_ih, weight_hh = np.clip(weight_ih, -6e4, 6e4), np.clip(weight_hh, -6e4, 6e4)
    tensors = map(torch.tensor, (x[None], h0, np.zeros_like(h0), weight_ih, weight_hh))
    found = operator.run(operator.cell_key(cell), False, *tensors, None, None, None, None)[0][0]
    a = np.concatenate([x, h0], 1).astype(float)
    w = np.concatenate([weight_ih, weight_hh], 1)[128:192].astype(float)
    return found.double().numpy(), a @ w.T, np.abs(a) @ np.abs(w).T


def error(scaled: bool, batch: int = 32) -> float:
    """Root mean square of the error, in units of eps sum |w||x|."""
    found, exact, size = sums(scaled, batch)
    return float(np.sqrt(np.mean(((found - exact) / size) ** 2)) / 2.0**-23)


@here
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("batch", [16, 32])
def test_tiles_are_as_accurate_as_vectors(
    batch: int, scaled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Normal numbers, and numbers of 12 orders of magnitude. Measured: 0.11 for 0.22 and 0.62 for
    0.82."""
    monkeypatch.setattr(layer, "_tiles", never)
    vectors = error(scaled, batch)
    monkeypatch.setattr(layer, "_tiles", always)
    assert 0 < error(scaled, batch) <= vectors < 1.5


@here
@pytest.mark.parametrize("batch", [16, 32])
@pytest.mark.parametrize("dropped", range(6))
def test_each_product_of_parts_counts(
    dropped: int, batch: int, tiles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any one of the six the error is more than twice that of all six."""
    monkeypatch.setenv("ANYGATE_CACHE", "")
    name = "_two_by_two" if batch == 32 else "_one_by_four"
    whole, emit = error(False, batch), getattr(overlap, name)

    def lame(block: Any) -> Any:
        orders, seen = emit(block), [0] * 4
        for third in orders:
            for order in list(third):
                if order[0] == "tdpbf16ps":
                    if seen[order[1]] == dropped:
                        third.remove(order)
                    seen[order[1]] += 1
        assert seen == [6] * 4
        return orders

    monkeypatch.setattr(overlap, name, lame)
    forget()
    try:
        assert error(False, batch) > 2 * whole
    finally:
        forget()


# ---- extremes -------------------------------------------------------------------------------


@here
@pytest.mark.parametrize(
    "value", [1e30, -1e30, 3.3e38, -3.4e38, np.inf, -np.inf, np.nan, 1e-40, 1e-37, -0.0]
)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_extreme_numbers(activation: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """In x, h0 and c0: what eager computes, infinities and NaN included, and in its own row only;
    to rounding of the row's largest number, or 8 bits of it above bfloat16's largest. The zero
    weight makes NaN of infinity, as everywhere."""
    torch.manual_seed(0)
    lstm = LSTM(20, 40, activation=activation, engine="cpu")
    with torch.no_grad():
        lstm.weight_ih_l0[3, 5] = 0
    x, h, c = torch.randn(4, 33, 20), torch.randn(1, 33, 40), torch.randn(1, 33, 40)
    x[1, 2, 5], h[0, 9, 1], c[0, 20, 39] = value, value, value
    other = twin(lstm, "eager")
    for choice in (always, never):
        monkeypatch.setattr(layer, "_tiles", choice)
        (output, states), (expected, others) = lstm(x, (h, c)), other(x, (h, c))
        for p, q in zip((output, *states), (expected, *others), strict=True):
            for row in range(33):
                ours, theirs = p[..., row, :], q[..., row, :]
                size = max(1.0, theirs.nan_to_num(0, 0, 0).abs().max().item())
                atol = 2.0**-8 * 3.4e38 if abs(value) == 3.4e38 else 1e-5 * size
                torch.testing.assert_close(ours, theirs, rtol=0, atol=atol, equal_nan=True)
        rest = [k for k in range(33) if k not in (2, 9, 20)]
        assert lstm(x, (h, c))[0][:, rest].isfinite().all()


@here
@pytest.mark.parametrize("value", [1e6, -3e38, float("inf"), float("nan")])
def test_weights_that_cannot_be_split_go_by_vectors(
    value: float, tiles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit, forward and backward."""
    torch.manual_seed(0)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        lstm = LSTM(20, 40, engine="cpu")
        with torch.no_grad():
            getattr(lstm, name)[159, 19] = value
        x = torch.randn(4, 33, 20)
        results = []
        for choice in (always, never):
            monkeypatch.setattr(layer, "_tiles", choice)
            lstm.zero_grad()
            output = lstm(x)[0]
            output.sum().backward()
            results.append([output, *(p.grad.clone() for p in lstm.parameters())])
        backward_too = name == "weight_hh_l0"
        for p, q in list(zip(*results, strict=True))[: None if backward_too else 1]:
            torch.testing.assert_close(p, q, rtol=0, atol=0, equal_nan=True)


@here
def test_a_weight_that_becomes_small_again_is_seen(tiles: None) -> None:
    lstm = LSTM(20, 40, engine="cpu")
    x = torch.randn(4, 33, 20)
    with torch.no_grad():
        for value in (1.0, 1e6, 0.5):
            lstm.weight_hh_l0[0, 0] = value
            torch.testing.assert_close(lstm(x)[0], twin(lstm, "eager")(x)[0])


# ---- where it is used -----------------------------------------------------------------------


def test_where_tiles_are_used() -> None:
    def used(threads: int, by_units: bool, batch: int, hidden: int, few: bool) -> bool:
        return layer._tiles(code, (threads, by_units), batch, hidden, few) is not None

    code: Any = SimpleNamespace(by_tiles=lambda: "machine code")
    assert used(2, False, 32, 64, False)
    assert not used(2, False, 31, 64, False)  # 15 rows for a thread
    assert used(2, False, 16, 64, True)  # few weights
    assert used(2, True, 16, 64, False)  # all rows for each thread
    assert not used(1, False, 32, 63, False)
    code = SimpleNamespace(by_tiles=None)
    assert not used(1, False, 64, 512, False)
    assert compiler.tile_target("float64") is None
    assert compiler.kernels(Cell(), "float64", False).by_tiles is None


def test_a_system_that_refuses_gets_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a processor without them. Both kinds of machine code have keys of their own."""
    features = {"avx512f": True, "amx-bf16": True}
    monkeypatch.setattr(compiler, "_features", lambda: features)
    monkeypatch.setattr(amx, "allowed", lambda: True)
    given = compiler.tile_target("float32")
    assert given is not None and given.amx
    vectors = compiler.target_for("float32")
    assert len({compiler._key(Cell(), target, False) for target in (given, vectors)}) == 2
    monkeypatch.setattr(amx, "allowed", lambda: False)
    assert compiler.tile_target("float32") is None
    monkeypatch.setattr(amx, "allowed", lambda: True)
    features["amx-bf16"] = False
    assert compiler.tile_target("float32") is None


def test_code_for_amx_has_tiles_and_no_other_has() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple = "x86_64-unknown-linux-gnu"
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu="sapphirerapids", opt=3)
    for tiled in (True, False):
        target = Target("float32", 64, 6, mode="mxcsr", amx=tiled)
        module = llvm.parse_assembly(str(emit_kernels(target, Cell(), True, False)))
        module.triple = triple
        tuning = llvm.create_pipeline_tuning_options(speed_level=2)
        builder = llvm.create_pass_builder(machine, tuning)
        builder.getModulePassManager().run(module, builder)
        assembly = machine.emit_assembly(module)
        assert (assembly.count("tdpbf16ps\t") > 2 * 24) == tiled == ("tdpbf16ps" in assembly)
        assert assembly.count("ldtilecfg\t") == assembly.count("tilerelease") == 2 * tiled
