"""On a CUDA device: the laws that tests/cuda holds on an emulated card, on the real one; the eager
engine equals the reference; modules do what they do on the CPU.

Skipped where there is no such device; CI has none. `python benchmarks/gpu.py --quick` runs this
first.
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
from torch.nn.utils.rnn import pack_padded_sequence

import anygate
from anygate.engines.cuda.engine import CUDA
from anygate.engines.cuda.source import template
from anygate.engines.cuda.table import statements
from anygate.formulas import ACTIVATIONS
from anygate.formulas.precise import PRECISE
from anygate.formulas.primitives import PRIMITIVES
from anygate.formulas.program import Node, Program

sys.path.insert(0, str(Path(__file__).parent / "cuda"))
from drawn_layers import by_engine, check, draw
from forced import Forced
from mpmath import mp

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

T, B, INPUTS, H = 6, 4, 3, 10


def results(lstm: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Output, end state, and gradients by x and all parameters."""
    x = x.detach().clone().requires_grad_()
    output, (h, c) = lstm(x)
    loss = output.sin().sum() + h.cos().sum() + (c * 0.5).sum()
    grads = torch.autograd.grad(loss, [x, *lstm.parameters()])
    return [t.detach().cpu().double() for t in (output, h, c, *grads)]


def close(found: list[torch.Tensor], wanted: list[torch.Tensor], eps: float) -> None:
    """Within k*eps, k = (T + 1)(I + H), of the largest number of each result."""
    for f, w in zip(found, wanted, strict=True):
        size = max(1.0, w.abs().max().item())
        assert (f - w).abs().max().item() <= (T + 1) * (INPUTS + H) * eps * size


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_every_activation_equals_the_reference(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    truth = anygate.LSTM(INPUTS, H, candidate=name, engine="reference", dtype=torch.float64)
    with torch.no_grad():  # numbers that float32 holds
        for p in truth.parameters():
            p.copy_(p.float())
    ours = anygate.LSTM(INPUTS, H, candidate=name, device="cuda", dtype=dtype)
    ours.load_state_dict(truth.state_dict())
    x = torch.randn(T, B, INPUTS).double()
    close(results(ours, x.cuda().to(dtype)), results(truth, x), torch.finfo(dtype).eps)


def test_the_default_equals_cudnn_and_the_choice_is_told() -> None:
    torch.manual_seed(0)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        peer = nn.LSTM(INPUTS, H, 2, bidirectional=True, dropout=0.0).cuda()
        ours = anygate.LSTM(INPUTS, H, 2, bidirectional=True, dropout=0.0).cuda()
        ours.load_state_dict(peer.state_dict())
        x = torch.randn(T, B, INPUTS).cuda()
        close(results(ours, x), results(peer, x), 4 * torch.finfo(torch.float32).eps)
    choice = ours.explain(x)
    assert choice.name in ("cuda", "eager") and (
        choice.name == "cuda" or "not cuda:" in str(choice)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_and_autocast(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    lstm = anygate.LSTM(INPUTS, H, activation="relu").cuda()
    half = copy.deepcopy(lstm).to(dtype)
    x = torch.randn(T, B, INPUTS).cuda()
    wanted = lstm(x)[0]
    tolerance = {"rtol": 0.0, "atol": 20 * torch.finfo(dtype).eps}
    torch.testing.assert_close(half(x.to(dtype))[0].float(), wanted, **tolerance)
    with torch.autocast("cuda", dtype=dtype):
        output, _ = lstm(x)
    assert output.dtype == dtype
    torch.testing.assert_close(output.float(), wanted, **tolerance)


def test_packs_projections_cells_and_variants() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"activation": "relu", "peephole": True, "proj_size": 4}
    cpu = anygate.LSTM(INPUTS, H, bidirectional=True, dtype=torch.float64, **options)
    gpu = copy.deepcopy(cpu).cuda()
    x = torch.randn(T, B, INPUTS, dtype=torch.float64)
    wanted = cpu(pack_padded_sequence(x, [6, 5, 2, 1]))[0].data
    found = gpu(pack_padded_sequence(x.cuda(), [6, 5, 2, 1]))[0].data
    torch.testing.assert_close(found.cpu(), wanted, rtol=1e-12, atol=1e-12)
    cell = anygate.LSTMCell(INPUTS, H, activation="gelu", dtype=torch.float64)
    twin = copy.deepcopy(cell).cuda()
    for ours, theirs in zip(twin(x[0].cuda()), cell(x[0]), strict=True):
        torch.testing.assert_close(ours.cpu(), theirs, rtol=1e-12, atol=1e-12)


def test_training_swap_and_double_backward() -> None:
    torch.manual_seed(0)
    model = nn.LSTM(INPUTS, H, device="cuda")
    anygate.swap(model, activation="leaky_relu")
    x = torch.randn(T, B, INPUTS, device="cuda")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(30):
        loss = (model(x)[0] - 0.3).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    small = anygate.LSTM(2, 3, activation="tanh", dtype=torch.float64, device="cuda")
    y = torch.randn(3, 2, 2, dtype=torch.float64, device="cuda", requires_grad=True)
    torch.autograd.gradgradcheck(lambda x: small(x)[0], (y,))


def test_record_equals_the_cpus() -> None:
    torch.manual_seed(0)
    cpu = anygate.LSTM(INPUTS, H, activation="relu", dtype=torch.float64)
    gpu = copy.deepcopy(cpu).cuda()
    x = torch.randn(T, B, INPUTS, dtype=torch.float64)
    found = []
    for lstm, data in ((cpu, x), (gpu, x.cuda())):
        with anygate.record(lstm) as recording:
            lstm(data)[0].sum().backward()
        found.append(recording.arrays())
    for name, values in found[0].items():
        np.testing.assert_allclose(found[1][name], values, rtol=1e-9, atol=1e-9, err_msg=name)


# ---- the engine cuda ---------------------------------------------------------------------------


def plan(exchange: str, units: int, splits: int, tiles: int) -> dict[str, Any]:
    return {"exchange": exchange, "units": units, "splits": splits, "tiles": tiles}


HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32
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
]


def skip_clusters(exchange: str) -> None:
    if exchange == "cluster" and torch.cuda.get_device_capability() < (9, 0):
        pytest.skip("this card has no clusters")


@pytest.mark.parametrize(("cell", "hidden", "force", "dtype", "parts"), KERNELS)
def test_kernels(cell: str, hidden: int, force: Any, dtype: torch.dtype, parts: int) -> None:
    skip_clusters(force["exchange"])
    engine = Forced(None, parts, **force)
    eps = 2.0**-16 if parts == 2 else None
    shapes: list[tuple[int, int, int, dict[str, Any]]] = [
        (1, 1, 1, {}),
        (2, 3, 4, {"reverse": True}),
        (5, 17, 2, {"packed": True}),
        (4, 18, 3, {"packed": True, "reverse": True, "bias": False}),
        (60, 70, 16, {"packed": True, "seed": 3}),
    ]
    for k, (t, b, i, options) in enumerate(shapes):
        case = draw(cell, t, b, i, hidden, dtype=dtype, **options)
        check(case, k % 2 == 0, engine, eps, "cuda")
    torch.cuda.synchronize()


@pytest.mark.parametrize(("cell", "hidden", "force", "dtype", "parts"), KERNELS)
def test_the_same_bits(cell: str, hidden: int, force: Any, dtype: torch.dtype, parts: int) -> None:
    skip_clusters(force["exchange"])
    engine = Forced(None, parts, **force)
    case = draw(cell, 100, 64, 8, hidden, packed=True, dtype=dtype)
    first = by_engine(case, True, engine, "cuda")
    for _ in range(20):
        for key, value in by_engine(case, True, engine, "cuda").items():
            assert (value == first[key]).all(), key


UNARY = sorted({c.__name__ for c in PRIMITIVES.values() if c.arity() == 1} | {"sqrt"})


def unary(name: str) -> Program:
    return Program(("x",), (Node("input", name="x"), Node(name, (0,))), (("y", 1),))


def test_functions_are_within_four_ulp() -> None:
    """On the machine, whose approximate instructions the emulator only imitates."""
    driver, device = CUDA().driver, torch.device("cuda")
    card = driver.card(device)
    draw_ = np.random.default_rng(0)
    some = np.concatenate([draw_.uniform(-15, 15, 4000), 10 ** draw_.uniform(-7, 1.9, 2000)])
    x = torch.from_numpy(np.concatenate([some, -some]).astype(np.float32)).cuda()
    parts = [template("functions")]
    for name in UNARY:
        body = statements(unary(name), {"x": "x"}, {"y": "a.y[i]"})
        parts.append(
            f"struct A_{name} {{ const float* x; float* y; long long n; }};\n"
            f'extern "C" __global__ void k_{name}(const __grid_constant__ A_{name} a) {{\n'
            "  const int i = blockIdx.x * 128 + threadIdx.x; if (i >= a.n) return;\n"
            f"  const float x = a.x[i];\n{body}}}\n"
        )
    code = driver.compile("\n".join(parts), card)
    for name in UNARY:
        function = driver.load(code, f"k_{name}", 128, 0, 1, device)
        y = torch.empty_like(x)
        arguments = struct.pack("<3q", x.data_ptr(), y.data_ptr(), len(x))
        driver.launch(function, -(-len(x) // 128), False, arguments, device)
        for value, found in zip(x.tolist(), y.cpu().numpy(), strict=True):
            with mp.workdps(30):
                true = PRECISE[name](mp.mpf(value))
                if mp.isnan(true):
                    assert np.isnan(found), (name, value)
                elif abs(true) < float(np.finfo(np.float32).max):
                    ulp = float(np.spacing(np.float32(abs(float(true)))))
                    assert abs(mp.mpf(float(found)) - true) <= 4 * ulp, (name, value, found)


@pytest.mark.parametrize("dtype", [SINGLE, HALF, BRAIN])
@pytest.mark.parametrize("hidden", [32, 128, 256, 512, 1024])
def test_errors_are_at_most_cudnns(dtype: torch.dtype, hidden: int) -> None:
    torch.manual_seed(0)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        peer = nn.LSTM(hidden, hidden, device="cuda", dtype=dtype)
        ours = anygate.LSTM(hidden, hidden, device="cuda", dtype=dtype, engine="cuda")
        ours.load_state_dict(peer.state_dict())
        truth = copy.deepcopy(peer).double()
        x = torch.randn(60, 24, hidden, device="cuda").to(dtype)
        found, theirs, true = (
            results(m, x.to(p)) for m, p in ((ours, dtype), (peer, dtype), (truth, torch.float64))
        )
    for one, other, t in zip(found, theirs, true, strict=True):
        error, bar = (float((a - t).norm() / t.norm()) for a in (one, other))
        assert error <= 1.2 * bar + torch.finfo(dtype).eps, (error, bar)


def test_streams_threads_and_graphs() -> None:
    torch.manual_seed(0)
    lstm = anygate.LSTM(16, 128, device="cuda", engine="cuda", bidirectional=True)
    x = torch.randn(20, 9, 16, device="cuda")
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
        assert torch.equal(captured, wanted)


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
            torch.testing.assert_close(*data, rtol=1e-3, atol=1e-4)  # TF32's parts


def test_named_engines_say_their_way() -> None:
    text = str(anygate.LSTM(8, 256, device="cuda", engine="cuda").explain(x_of(256)))
    assert "batch rows" in text


def x_of(batch: int) -> torch.Tensor:
    return torch.zeros(2, batch, 8, device="cuda")
