"""Half types, double, and autocast on the CPU: which dtype comes out, and how near the truth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from truth import (
    ANYGATE,
    FORMULA,
    TORCH,
    B,
    H,
    I,
    Kind,
    T,
    check,
    expected,
    normal,
    run,
    size,
    states,
)

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

BUILDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deep": {"num_layers": 2, "bidirectional": True},
    "no bias, batch first": {"bias": False, "batch_first": True},
    "projected": {"proj_size": 2},
}
DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


@pytest.mark.parametrize("way", ["argument", "to"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("build", BUILDS)
def test_every_dtype(any_layer: Kind, build: str, dtype: torch.dtype, way: str) -> None:
    options = BUILDS[build]
    if way == "argument":
        module = any_layer(I, H, dtype=dtype, **options)
    else:
        module = any_layer(I, H, **options).to(dtype)
    shape = (B, T, I) if module.batch_first else (T, B, I)
    results = check(any_layer, module, normal(*shape, seed=3, dtype=dtype), states(module, B))
    assert {r.dtype for r in results.values()} == {dtype}


@pytest.mark.parametrize("name", ["half", "bfloat16", "double", "float"])
def test_by_method(layer: Kind, name: str) -> None:
    module = getattr(layer(I, H), name)()
    x = getattr(normal(T, B, I, seed=0), name)()
    assert {t.dtype for t in run(module, x).values()} == {x.dtype}


def test_long_half_sequence_stays_finite(any_layer: Kind) -> None:
    module = any_layer(I, H, dtype=torch.float16)
    x = 4 * normal(200, B, I, seed=0, dtype=torch.float16)
    results = run(module, x)
    sum(t.float().mean() for t in results.values()).backward()
    assert all(t.isfinite().all() for t in results.values())
    assert all(p.grad.isfinite().all() for p in module.parameters())


# ---- autocast -------------------------------------------------------------------------------


def near_bfloat16(found: Tensor, truth: Tensor, layers: int = 1) -> None:
    """Sums in float32 of numbers rounded to bfloat16, states rounded once a step."""
    assert size(found.double() - truth) <= 4 * layers * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("build", BUILDS)
def test_autocast(any_lstm: Kind, build: str, given: torch.dtype) -> None:
    """float32 weights under bfloat16: results bfloat16, gradients float32."""
    module = any_lstm(I, H, **BUILDS[build])
    shape = (B, T, I) if module.batch_first else (T, B, I)
    x, hx = normal(*shape, seed=3).to(given).requires_grad_(), states(module, B)
    with torch.autocast("cpu", torch.bfloat16):
        output, (h, c) = module(x, tuple(s.to(given) for s in hx))
    wanted = TORCH(I, H, **BUILDS[build])
    with torch.autocast("cpu", torch.bfloat16):
        theirs, (h2, c2) = wanted(x, tuple(s.to(given) for s in hx))
    assert [t.dtype for t in (output, h, c)] == [t.dtype for t in (theirs, h2, c2)]
    truth = expected(any_lstm, module, x.detach(), tuple(s.to(given) for s in hx))
    for name, value in (("output", output), ("h", h), ("c", c)):
        near_bfloat16(value, truth[name], module.num_layers)
    output.float().sum().backward()
    assert x.grad is not None and x.grad.dtype == given
    assert {p.grad.dtype for p in module.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", [TORCH, ANYGATE, FORMULA], ids=lambda k: k.name)
def test_autocast_gradients(kind: Kind) -> None:
    """Of what has no kink; see truth.near_kink."""
    module = kind(I, H, 2)
    x = normal(T, B, I, seed=3).float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        output, (h, c) = module(x)
        loss = sum((t * torch.linspace(-1, 1, t.numel()).view_as(t)).sum() for t in (output, h, c))
    loss.backward()  # type: ignore[union-attr]
    truth = expected(kind, module, x.detach(), None)
    found = {"grad x": x.grad} | {f"grad {n}": p.grad for n, p in module.named_parameters()}
    for name, grad in found.items():
        room = 8 * torch.finfo(torch.bfloat16).eps * max(1.0, size(truth[name]))
        assert size(grad.double() - truth[name]) <= room, name  # type: ignore[union-attr]


def test_autocast_leaves_double_alone(layer: Kind) -> None:
    module = layer(I, H, dtype=torch.float64)
    x = normal(T, B, I, seed=3)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = module(x)
    assert output.dtype == torch.float64
    assert torch.equal(output, module(x)[0])


def test_autocast_off_inside(layer: Kind) -> None:
    module, x = layer(I, H), normal(T, B, I, seed=3).float()
    with torch.autocast("cpu", torch.bfloat16):
        with torch.autocast("cpu", enabled=False):
            inner = module(x)[0]
        outer = module(x)[0]
    assert torch.equal(inner, module(x)[0]) and outer.dtype == torch.bfloat16
    with torch.autocast("cpu", enabled=False), pytest.raises(ValueError, match="bfloat16"):
        module(x.bfloat16())


def test_autocast_of_a_pack(any_lstm: Kind) -> None:
    """torch computes packs under autocast too, and hands them back as float32."""
    module, lengths = any_lstm(I, H), [5, 3, 1]
    x = normal(T, B, I, seed=3).float()
    with torch.autocast("cpu", torch.bfloat16):
        output, (h, c) = module(pack_padded_sequence(x, lengths))
    assert output.data.dtype == h.dtype == c.dtype == torch.float32
    truth = expected(any_lstm, module, x, None, lengths)
    near_bfloat16(h, truth["h"])
    near_bfloat16(c, truth["c"])
    near_bfloat16(output.data, pack_padded_sequence(truth["output"], lengths).data)


def test_autocast_of_one_step(any_lstm: Kind) -> None:
    """LSTMCell under autocast returns float32 states in torch, from float32 states or none."""
    cell = any_lstm.cell(I, H)
    x, h0, c0 = (normal(B, n, seed=n).float() for n in (I, H, H))
    for hx in (None, (h0, c0)):
        plain = cell(x, hx)
        with torch.autocast("cpu", torch.bfloat16):
            found = cell(x, hx)
        for a, b in zip(found, plain, strict=True):
            assert a.dtype == torch.float32
            near_bfloat16(a, b.double())


def test_autocast_in_training() -> None:
    """A training run under autocast ends as near to the one in float32 as nn.LSTM's does."""
    ends = {}
    for kind in (TORCH, ANYGATE):
        for enabled in (False, True):
            module, head = kind(I, H), nn.Linear(H, 1)
            nn.init.constant_(head.weight, 0.3)
            nn.init.zeros_(head.bias)
            optimizer = torch.optim.Adam([*module.parameters(), *head.parameters()], lr=0.02)
            x = normal(T, 16, I, seed=3).float()
            target = x.sum((0, 2)).unsqueeze(-1) / 4
            for _ in range(40):
                with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                    loss = nn.functional.mse_loss(head(module(x)[0][-1]).float(), target)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            ends[kind.name, enabled] = loss.item()
    assert ends["torch", False] == pytest.approx(ends["anygate", False], rel=1e-4)
    assert ends["anygate", True] == pytest.approx(ends["anygate", False], rel=0.1)
    assert ends["torch", True] == pytest.approx(ends["torch", False], rel=0.1)
