"""The engine cuda on a card: the laws that tests/cuda holds on an emulated one, on the real one.

Skipped where there is no such device; CI has none. benchmarks/gpu.py runs this first. To see that
it runs at all before a card is to be had: ANYGATE_EMULATED=1 (small sizes on an emulated card).
"""

from __future__ import annotations

import copy
import struct
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence

import anygate
from anygate.engines.cuda import stepwise
from anygate.engines.cuda.source import template
from anygate.engines.cuda.table import statements
from anygate.engines.protocol import load
from anygate.formulas.precise import PRECISE
from anygate.formulas.primitives import PRIMITIVES
from anygate.formulas.program import Node, Program

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "cuda"))
from drawn_layers import by_engine, check, draw
from forced import Forced
from mpmath import mp
from stand_in import EMULATED, install
from test_cuda import results

if EMULATED:
    from emulated import Emulated, EmulatedDriver

    install(EmulatedDriver())

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

T, B, INPUTS, H = 6, 4, 3, 10


def long(steps: int) -> int:
    """So many on a card, a few on an emulated one."""
    return 3 if EMULATED else steps


def forced(parts: int, **force: Any) -> Forced:
    return (
        Emulated(EmulatedDriver(), parts, None, **force)
        if EMULATED
        else Forced(None, parts, **force)
    )


@pytest.fixture(autouse=True)
def whole_float32() -> Any:
    """Without TF32, but where a test asks for two parts."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def plan(exchange: str, units: int, splits: int, tiles: int) -> dict[str, Any]:
    return {"exchange": exchange, "units": units, "splits": splits, "tiles": tiles}


HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32
STEPS = {"exchange": "steps"}
KERNELS = [
    ("lstm", 21, plan("one block", 3, 1, 1), SINGLE, 3),
    ("lstm", 64, plan("one block", 8, 1, 1), HALF, 1),
    ("peephole", 37, plan("cache", 2, 2, 2), SINGLE, 3),
    ("lstm", 256, plan("cache", 4, 2, 1), BRAIN, 1),
    ("gru", 23, plan("cluster", 1, 1, 1), SINGLE, 2),
    ("lstm", 128, plan("cluster", 4, 1, 1), SINGLE, 3),
    ("lstm", 256, plan("cluster", 4, 1, 1), HALF, 1),
    ("elman", 39, plan("one block", 5, 2, 1), BRAIN, 1),
    ("zoneout lstm", 24, plan("cache", 1, 1, 1), HALF, 1),
    ("slstm", 34, plan("cluster", 3, 2, 2), SINGLE, 3),
    ("mixed", 9, plan("one block", 2, 1, 2), SINGLE, 3),
    ("mixed", 13, STEPS, torch.float64, 0),
    ("lstm", 64, STEPS, SINGLE, 3),
    ("gru", 40, STEPS, SINGLE, 2),
    ("zoneout lstm", 24, STEPS, HALF, 1),
    ("peephole", 33, STEPS, BRAIN, 1),
]
if EMULATED:
    KERNELS = [KERNELS[0], KERNELS[4], KERNELS[-2]]


def skip_clusters(exchange: str) -> None:
    if exchange == "cluster" and torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("this card has no clusters")


@pytest.mark.parametrize(("cell", "hidden", "force", "dtype", "parts"), KERNELS)
def test_kernels(cell: str, hidden: int, force: Any, dtype: torch.dtype, parts: int) -> None:
    skip_clusters(force["exchange"])
    engine = forced(parts, **force)
    eps = 2.0**-16 if parts == 2 else None
    shapes: list[tuple[int, int, int, dict[str, Any]]] = [
        (1, 1, 1, {}),
        (2, 3, 4, {"reverse": True}),
        (5, 17, 2, {"packed": True}),
        (4, 18, 3, {"packed": True, "reverse": True, "bias": False}),
        (long(60), long(70), 16, {"packed": True, "seed": 3}),
    ]
    for k, (t, b, i, options) in enumerate(shapes):
        case = draw(cell, t, b, i, hidden, dtype=dtype, **options)
        check(case, k % 2 == 0, engine, eps, "cuda")
    torch.cuda.synchronize()


@pytest.mark.parametrize(("cell", "hidden", "force", "dtype", "parts"), KERNELS)
def test_the_same_bits(cell: str, hidden: int, force: Any, dtype: torch.dtype, parts: int) -> None:
    skip_clusters(force["exchange"])
    engine = forced(parts, **force)
    case = draw(cell, long(100), long(64), 8, hidden, packed=True, dtype=dtype)
    first = by_engine(case, True, engine, "cuda")
    for _ in range(long(20)):
        for key, value in by_engine(case, True, engine, "cuda").items():
            assert (value == first[key]).all(), key


UNARY = sorted({c.__name__ for c in PRIMITIVES.values() if c.arity() == 1} | {"sqrt"})


def unary(name: str) -> Program:
    return Program(("x",), (Node("input", name="x"), Node(name, (0,))), (("y", 1),))


@pytest.mark.parametrize("real", ["float", "double"])
def test_functions_are_within_four_ulp(real: str) -> None:
    """On the machine, whose approximate instructions the emulator only imitates."""
    engine: Any = load("cuda")
    driver, device, double = engine.driver, torch.device("cuda"), real == "double"
    number: Any = np.float64 if double else np.float32
    card = driver.card(device)
    draw_ = np.random.default_rng(0)
    some = np.concatenate([draw_.uniform(-15, 15, 1500), 10 ** draw_.uniform(-7, 1.9, 500)])
    some = some[: long(2000)]
    x = torch.from_numpy(np.concatenate([some, -some]).astype(number)).cuda()
    parts = ["// functions", template("double" if double else "functions")]
    for name in UNARY:
        body = statements(unary(name), {"x": "x"}, {"y": "a.y[i]"}, double)
        parts.append(
            f"constexpr int K_{name.upper()}_SHARED = 0;\n"
            f"struct A_{name} {{ const {real}* x; {real}* y; long long n; }};\n"
            f'extern "C" __global__ void k_{name}(const __grid_constant__ A_{name} a) {{\n'
            "  const int i = blockIdx.x * 128 + threadIdx.x; if (i >= a.n) return;\n"
            f"  const {real} x = a.x[i];\n{body}}}\n"
        )
    code = driver.compile("#define EXCHANGE LOCAL\n#define HALF 1\n" + "\n".join(parts), card)
    for name in UNARY[: long(len(UNARY))]:
        function = driver.load(code, f"k_{name}", 128, 0, 1, device)
        y = torch.empty_like(x)
        arguments = struct.pack("<3q", x.data_ptr(), y.data_ptr(), len(x))
        driver.launch(function, -(-len(x) // 128), False, arguments, device)
        for value, found in zip(x.tolist(), y.cpu().numpy(), strict=True):
            with mp.workdps(30):
                true = PRECISE[name](mp.mpf(value))
                if mp.isnan(true):
                    assert np.isnan(found), (name, value)
                elif abs(true) < float(np.finfo(number).max):
                    ulp = float(np.spacing(number(abs(float(true)))))
                    assert abs(mp.mpf(float(found)) - true) <= 4 * ulp, (name, value, found)


@pytest.mark.parametrize("dtype", [SINGLE, HALF, BRAIN])
@pytest.mark.parametrize("hidden", [32] if EMULATED else [32, 128, 256, 512, 1024])
def test_errors_are_at_most_cudnns(dtype: torch.dtype, hidden: int) -> None:
    torch.manual_seed(0)
    peer = nn.LSTM(hidden, hidden, device="cuda", dtype=dtype)
    ours = anygate.LSTM(hidden, hidden, device="cuda", dtype=dtype, engine="cuda")
    ours.load_state_dict(peer.state_dict())
    truth = copy.deepcopy(peer).double()
    x = torch.randn(long(60), 24, hidden, device="cuda").to(dtype)
    found, theirs, true = (
        results(m, x.to(p)) for m, p in ((ours, dtype), (peer, dtype), (truth, torch.float64))
    )
    for one, other, t in zip(found, theirs, true, strict=True):
        error, bar = (float((a - t).norm() / t.norm()) for a in (one, other))
        assert EMULATED or error <= 1.2 * bar + torch.finfo(dtype).eps, (error, bar)


def test_streams_threads_and_graphs() -> None:
    torch.manual_seed(0)
    hidden = 16 if EMULATED else 128
    lstm = anygate.LSTM(16, hidden, device="cuda", engine="cuda", bidirectional=True)
    x = torch.randn(long(20), 9, 16, device="cuda")
    with torch.no_grad():
        wanted = lstm(x)[0]
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            found = lstm(x)[0]
        stream.synchronize()
        assert torch.equal(found, wanted)
        results_: list[torch.Tensor] = []
        threads = [threading.Thread(target=lambda: results_.append(lstm(x)[0])) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        torch.cuda.synchronize()
        assert len(results_) == 4 and all(torch.equal(r, wanted) for r in results_)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = lstm(x)[0]
        captured.zero_()
        graph.replay()
        torch.cuda.synchronize()
        assert EMULATED or torch.equal(captured, wanted)


def test_modules_on_the_engine_equal_eager() -> None:
    torch.manual_seed(0)
    x = torch.randn(T, B, INPUTS, device="cuda")
    for make in (anygate.LSTM, anygate.GRU, anygate.RNN):
        torch.manual_seed(1)
        ours = make(INPUTS, H, 2, bidirectional=True, device="cuda", engine="cuda")
        twin = make(INPUTS, H, 2, bidirectional=True, device="cuda", engine="eager")
        twin.load_state_dict(ours.state_dict())
        for pack in (x, pack_padded_sequence(x, [6, 5, 2, 1])):
            found, wanted = (m(pack)[0] for m in (ours, twin))
            data = [t.data if hasattr(t, "batch_sizes") else t for t in (found, wanted)]
            torch.testing.assert_close(*data, rtol=1e-5, atol=1e-6)
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=True):
                with_tf32 = ours(pack)[0]
            both = [with_tf32.data if hasattr(with_tf32, "batch_sizes") else with_tf32, data[1]]
            torch.testing.assert_close(*both, rtol=1e-3, atol=1e-4)


def test_named_engines_say_their_way() -> None:
    lstm = anygate.LSTM(8, 256, device="cuda", engine="cuda")
    assert "batch rows" in str(lstm.explain(torch.zeros(2, 256, 8, device="cuda")))
    wide = anygate.LSTM(8, 64, device="cuda", engine="cuda", dtype=torch.float64)
    x = torch.zeros(2, 256, 8, device="cuda", dtype=torch.float64)
    assert "a fused kernel for each time step" in str(wide.explain(x))


# ---- a product and a kernel for each time step -------------------------------------------------


@pytest.mark.parametrize(("dtype", "parts"), [(torch.float64, 0), (SINGLE, 3), (HALF, 1)])
def test_graphs_of_steps_give_the_same_bits(
    dtype: torch.dtype, parts: int, monkeypatch: Any
) -> None:
    """The first call launches steps one by one, the second records, later ones launch graphs."""
    if EMULATED:
        monkeypatch.setattr(stepwise, "GRAPHED", 2)
    engine = forced(parts, **STEPS)
    cases = [
        draw("peephole", long(t), 16, 8, 40, packed=True, dtype=dtype, reverse=reverse, seed=t)
        for t, reverse in ((100, False), (70, True), (64, False))
    ]
    first = [by_engine(case, True, engine, "cuda") for case in cases]
    stepwise._seen.clear()
    for _ in range(3):
        for case, wanted in zip(cases, first, strict=True):
            for key, value in by_engine(case, True, engine, "cuda").items():
                assert (value == wanted[key]).all(), key
    assert any(sequence is not None for sequence in stepwise._seen.values())


def test_graphs_of_steps_beside_the_users() -> None:
    """Inference mode, other streams, and a graph of the user's own."""
    lstm = anygate.LSTM(16, 40, device="cuda", engine="cuda", dtype=torch.float64)
    x = torch.randn(long(80), 5, 16, device="cuda", dtype=torch.float64)
    wanted = lstm(x)[0].detach()
    for mode in (torch.inference_mode, torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(lstm(x)[0], wanted)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        assert torch.equal(lstm(x)[0], wanted)
        assert torch.equal(lstm(x)[0], wanted)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        captured = lstm(x)[0]
    captured.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert EMULATED or torch.equal(captured, wanted)


# ---- what is asked for -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [SINGLE, torch.float64])
def test_only_some_gradients_and_results(dtype: torch.dtype) -> None:
    like: dict[str, Any] = {"device": "cuda", "dtype": dtype}
    ours = anygate.LSTM(8, 24, engine="cuda", **like).requires_grad_(False)
    twin = anygate.LSTM(8, 24, engine="eager", **like).requires_grad_(False)
    twin.load_state_dict(ours.state_dict())
    x = torch.randn(5, 7, 8, **like).transpose(0, 1)  # not contiguous
    grads = []
    for module in (ours, twin):
        found = []
        for use in (
            lambda o, h, c: o[-1].sum(),
            lambda o, h, c: c.sum(),
            lambda o, h, c: o[0, :1].sum(),
        ):
            start = [torch.zeros(1, 5, 24, **like).requires_grad_(k == 0) for k in range(2)]
            output, (h, c) = module(x, tuple(start))
            found += torch.autograd.grad(use(output, h, c), start[0])
        grads.append(found)
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_thread_that_has_not_used_the_card() -> None:
    lstm = anygate.LSTM(8, 24, device="cuda", engine="cuda")
    x = torch.randn(3, 2, 8, device="cuda")
    found: list[Any] = []

    def work() -> None:
        output = lstm(x)[0]
        found.append(torch.autograd.grad(output, list(lstm.parameters()), torch.ones_like(output)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(found) == 1 and all(g.isfinite().all() for g in found[0])


def test_waves_of_blocks_give_the_same_bits(monkeypatch: Any) -> None:
    """Blocks that exchange through the second-level cache, in several launches."""
    engine = forced(1, **plan("cache", 1, 1, 1))
    case = draw("lstm", long(30), 35, 2, 24, dtype=HALF)
    whole = by_engine(case, False, engine, "cuda")
    few = forced(1, **plan("cache", 1, 1, 1))
    monkeypatch.setattr(few.driver, "resident", lambda *arguments: 7)
    for key, value in by_engine(case, False, few, "cuda").items():
        assert (value == whole[key]).all(), key


@pytest.mark.parametrize("dtype", [SINGLE, torch.float64])
def test_measures_are_the_cpus(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"activation": "leaky_relu", "dtype": dtype, "bidirectional": True}
    ours = anygate.LSTM(INPUTS, 40, device="cuda", engine="cuda", **options)
    twin = anygate.LSTM(INPUTS, 40, engine="eager", **{**options, "dtype": torch.float64})
    twin.load_state_dict(ours.state_dict())
    x = torch.randn(T, 9, INPUTS, dtype=dtype)
    found = []
    for module, given in ((ours, x.cuda()), (twin, x.double())):
        with anygate.record(module) as recording:
            module(given)[0].square().sum().backward()
        found.append(recording.arrays())
    near = {"rtol": 1e-4, "atol": 1e-4} if dtype == SINGLE else {"rtol": 1e-9, "atol": 1e-9}
    for name, values in found[1].items():
        np.testing.assert_allclose(found[0][name], values, err_msg=name, **near)
    lengths = (6, 4, 1)
    rows = [torch.randn(n, INPUTS, dtype=dtype).cuda() for n in lengths]
    with anygate.record(ours) as whole:
        ours(pack_sequence(rows))[0].data.sum().backward()
    with anygate.record(ours) as single:
        for row in rows:
            ours(row[:, None])[0].sum().backward()
    for direction in range(2):
        alone = [r for r in single if r.layer == whole.layers[direction]]
        for t in range(6):
            norms = [r.grad_h[t] for r in alone if r.time_steps > t]
            expected = float(np.sqrt(np.square(norms).sum()))
            np.testing.assert_allclose(list(whole)[direction].grad_h[t], expected, rtol=1e-4)


def test_measured_bits_are_the_same() -> None:
    lstm = anygate.LSTM(8, 64, device="cuda", engine="cuda")
    x = torch.randn(long(50), 300, 8, device="cuda")
    tables = []
    for _ in range(3):
        with anygate.record(lstm) as recording:
            lstm(x)[0].sum().backward()
        tables.append(recording.arrays())
    for name, values in tables[0].items():
        assert all(np.array_equal(t[name], values, equal_nan=True) for t in tables[1:]), name
