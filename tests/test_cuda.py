"""On a CUDA device: modules do what they do on the CPU, by the engine that "auto" takes there, cuda
with ANYGATE_CUDA=1. test_cuda_engine.py has that engine's own laws.

Skipped where there is no such device; CI has none. benchmarks/gpu.py runs this first.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import anygate
from anygate.formulas import ACTIVATIONS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

T, B, INPUTS, H = 6, 4, 3, 10


@pytest.fixture(autouse=True)
def whole_float32() -> Any:
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


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


def test_autocast_casts_what_torch_casts() -> None:
    """Packs, projections, every family and single steps."""
    torch.manual_seed(0)
    x = torch.randn(T, B, INPUTS, device="cuda")
    pack = pack_padded_sequence(x, [6, 5, 2, 1])
    cases: list[tuple[str, dict[str, Any], Any]] = [
        ("LSTM", {"bidirectional": True}, x), ("LSTM", {"bidirectional": True}, pack),
        ("LSTM", {"proj_size": 4}, x), ("GRU", {}, pack), ("RNN", {}, x), ("LSTMCell", {}, x[0]),
        ("GRUCell", {}, x[0]), ("RNNCell", {}, x[0]),
    ]  # fmt: skip
    for name, options, given in cases:
        peer = getattr(nn, name)(INPUTS, H, **options).cuda()
        ours = getattr(anygate, name)(INPUTS, H, **options).cuda()
        ours.load_state_dict(peer.state_dict())
        with torch.autocast("cuda", dtype=torch.float16):
            found, wanted = (_first(module(given)) for module in (ours, peer))
        assert found.dtype == wanted.dtype, name
        torch.testing.assert_close(found, wanted, rtol=0.0, atol=0.02)


def _first(result: Any) -> torch.Tensor:
    output = result[0] if isinstance(result, tuple) and not hasattr(result, "data") else result
    return output.data if hasattr(output, "batch_sizes") else output


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
