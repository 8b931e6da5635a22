"""Half types, double, and autocast on the CPU: which dtype comes out, and how near the truth."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from autocasting import REASON, torch_autocasts
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from truth import (
    ANYGATE,
    FORMULA,
    GRU,
    PAIRS,
    RNN,
    TORCH,
    TORCH_GRU,
    B,
    H,
    I,
    Kind,
    T,
    as_tuple,
    change,
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


NARROW = torch.bfloat16
DOCUMENTED = {
    "LSTM": {"output": NARROW, "h": NARROW, "c": NARROW},
    "RNN": {"output": NARROW, "h": NARROW},
}
"""The dtypes of results for padded input. A GRU's are the state's; c of a projected LSTM has the
input's."""


def needs_torchs_kernel(kind: Kind, backward: bool = True) -> None:
    """Skip torch's own LSTM where torch cannot run it."""
    if kind is TORCH and not torch_autocasts("LSTM", backward):
        pytest.skip(REASON)


@pytest.mark.parametrize("state", ["none", "float32", "bfloat16"])
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("build", BUILDS)
def test_autocast(any_layer: Kind, build: str, given: torch.dtype, state: str) -> None:
    """float32 weights under bfloat16: the dtypes that torch gives, gradients in float32."""
    needs_torchs_kernel(any_layer)
    if any_layer.family == "LSTM" and state not in ("none", str(given).removeprefix("torch.")):
        pytest.skip("torch.nn.LSTM takes no state of another dtype than its input's")
    module = any_layer(I, H, **BUILDS[build])
    shape = (B, T, I) if module.batch_first else (T, B, I)
    x, hx = normal(*shape, seed=3).to(given).requires_grad_(), None
    if state != "none":
        hx = change(states(module, B), lambda s: s.to(getattr(torch, state)))
    with torch.autocast("cpu", torch.bfloat16):
        results = run(module, x, hx)
    found = {name: value.dtype for name, value in results.items()}
    if any_layer.family == "GRU":
        wide = given if hx is None else hx.dtype
        assert found == {"output": wide, "h": wide}
    elif not module.proj_size:
        assert found == DOCUMENTED[any_layer.family]
    else:
        assert found == {"output": NARROW, "h": NARROW, "c": given}
    if torch_autocasts(any_layer.family):
        torchs = next(a for a, _ in PAIRS if a.family == any_layer.family)
        with torch.autocast("cpu", torch.bfloat16):
            theirs = run(torchs(I, H, **BUILDS[build]), x, hx)
        assert found == {name: value.dtype for name, value in theirs.items()}
    truth = expected(any_layer, module, x.detach(), hx)
    for name, value in results.items():
        near_bfloat16(value, truth[name], module.num_layers)
    results["output"].float().sum().backward()
    assert x.grad is not None and x.grad.dtype == given
    assert {p.grad.dtype for p in module.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "kind", [TORCH, ANYGATE, FORMULA, TORCH_GRU, GRU, RNN], ids=lambda k: k.name
)
def test_autocast_gradients(kind: Kind) -> None:
    """Of what has no kink; see truth.near_kink."""
    needs_torchs_kernel(kind)
    module = kind(I, H, 2)
    x = normal(T, B, I, seed=3).float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        results = run(module, x).values()
        loss = sum((t * torch.linspace(-1, 1, t.numel()).view_as(t)).sum() for t in results)
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
    needs_torchs_kernel(layer, backward=False)
    module, x = layer(I, H), normal(T, B, I, seed=3).float()
    with torch.autocast("cpu", torch.bfloat16):
        with torch.autocast("cpu", enabled=False):
            inner = module(x)[0]
        outer = module(x)[0]
    wide = torch.float32 if layer.family == "GRU" else torch.bfloat16
    assert torch.equal(inner, module(x)[0]) and outer.dtype == wide
    with torch.autocast("cpu", enabled=False), pytest.raises(ValueError, match="bfloat16"):
        module(x.bfloat16())


def test_autocast_of_a_pack(any_layer: Kind) -> None:
    """torch computes packs under autocast too, and hands them back as float32, but for an RNN's."""
    module, lengths = any_layer(I, H), [5, 3, 1]
    x = normal(T, B, I, seed=3).float()
    with torch.autocast("cpu", torch.bfloat16):
        results = run(module, pack_padded_sequence(x, lengths))
    results["output"] = results["output"].data
    narrow = any_layer.family == "RNN"
    assert {t.dtype for t in results.values()} == {torch.bfloat16 if narrow else torch.float32}
    truth = expected(any_layer, module, x, None, lengths)
    truth["output"] = pack_padded_sequence(truth["output"], lengths).data
    for name, value in results.items():
        near_bfloat16(value, truth[name])


def test_autocast_of_one_step(any_layer: Kind) -> None:
    """LSTMCell and GRUCell under autocast return float32 states in torch, from float32 states or
    none; RNNCell does not."""
    cell = any_layer.cell(I, H)
    x, h0, c0 = (normal(B, n, seed=n).float() for n in (I, H, H))
    narrow = any_layer.family == "RNN"
    for hx in (None, (h0, c0) if any_layer.family == "LSTM" else h0):
        plain = as_tuple(cell(x, hx))
        with torch.autocast("cpu", torch.bfloat16):
            found = as_tuple(cell(x, hx))
        for a, b in zip(found, plain, strict=True):
            assert a.dtype == (torch.bfloat16 if narrow else torch.float32)
            near_bfloat16(a, b.double())


def test_autocast_in_training() -> None:
    """A training run under autocast ends as near to the one in float32 as nn.LSTM's does."""
    ends = {}
    kinds = (TORCH, ANYGATE) if torch_autocasts("LSTM", backward=True) else (ANYGATE,)
    for kind in kinds:
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
    assert ends["anygate", True] == pytest.approx(ends["anygate", False], rel=0.1)
    if TORCH not in kinds:
        pytest.skip(f"the comparison alone: {REASON}")
    assert ends["torch", False] == pytest.approx(ends["anygate", False], rel=1e-4)
    assert ends["torch", True] == pytest.approx(ends["torch", False], rel=0.1)
