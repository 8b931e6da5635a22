"""Modules without memory: the meta device, skip_init, to_empty, and weights that come later."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils.rnn import pack_padded_sequence
from truth import ANYGATE, TORCH, B, H, I, Kind, T, as_tuple, check, mix, normal, run, states

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

BUILDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deep": {"num_layers": 2, "bidirectional": True, "batch_first": True},
    "projected": {"proj_size": 2},
}


@pytest.mark.parametrize("build", BUILDS)
def test_shapes_on_meta(any_layer: Kind, build: str) -> None:
    """By the argument and by the context; forward and backward give shapes."""
    with torch.device("meta"):
        module = any_layer(I, H, **BUILDS[build])
    for each in (module, any_layer(I, H, device="meta", **BUILDS[build])):
        assert {p.device.type for p in each.parameters()} == {"meta"}
        real = any_layer(I, H, **BUILDS[build])
        x = torch.empty(T, B, I, device="meta", requires_grad=True)
        results = run(each, x)
        wanted = run(real, torch.zeros(T, B, I)).values()
        for a, b in zip(results.values(), wanted, strict=True):
            assert a.device.type == "meta" and a.shape == b.shape and a.dtype == b.dtype
            assert a.stride() == b.stride()  # generated code reads memory by what meta promises
        mix(results).backward()
        assert x.grad is not None and x.grad.shape == x.shape
        assert all(p.grad.shape == p.shape for p in each.parameters())


def test_a_pack_on_meta(layer: Kind) -> None:
    module = layer(I, H, 2, bidirectional=True, device="meta")
    packed = pack_padded_sequence(torch.zeros(T, B, I), [5, 3, 1]).to("meta")
    output, ends = module(packed)
    assert output.data.shape == (9, 2 * H) and output.data.device.type == "meta"
    assert all(s.shape == (4, B, H) for s in as_tuple(ends))


def test_fake_tensors(any_layer: Kind) -> None:
    """Fake tensors, on which torch.compile and memory estimators run a model."""
    with FakeTensorMode():
        module = any_layer(I, H, 2, bidirectional=True)
        x = torch.randn(T, B, I, requires_grad=True)
        output, ends = module(x)
        (output.sum() + as_tuple(ends)[0].sum()).backward()
        assert output.shape == (T, B, 2 * H) and as_tuple(ends)[-1].shape == (4, B, H)
        assert x.grad is not None and x.grad.shape == x.shape


@pytest.mark.parametrize("build", BUILDS)
def test_from_meta_to_memory(any_layer: Kind, build: str) -> None:
    """to_empty and reset_parameters are a fresh construction; assign=True takes a checkpoint."""
    options = BUILDS[build]
    fresh = any_layer(I, H, **options)
    late = any_layer(I, H, device="meta", **options).to_empty(device="cpu")
    torch.manual_seed(0)
    late.reset_parameters()
    taken = any_layer(I, H, device="meta", **options)
    taken.load_state_dict(fresh.state_dict(), assign=True)
    shape = (B, T, I) if fresh.batch_first else (T, B, I)
    x = normal(*shape, seed=3).float()
    for module in (late, taken):
        for a, b in zip(module.parameters(), fresh.parameters(), strict=True):
            assert isinstance(a, nn.Parameter) and torch.equal(a, b)
        assert torch.equal(module(x)[0], fresh(x)[0])
        check(any_layer, module, x, states(module, B))


def test_meta_cannot_be_copied(layer: Kind) -> None:
    with pytest.raises(NotImplementedError, match="to_empty"):
        layer(I, H, device="meta").to("cpu")


def test_skip_init() -> None:
    """torch.nn.LSTM itself cannot: its signature hides the device. Ours shows it."""
    with pytest.raises(RuntimeError, match="must support a 'device' arg"):
        nn.utils.skip_init(nn.LSTM, I, H)
    state = torch.get_rng_state()
    module = nn.utils.skip_init(ANYGATE.layer, I, H, num_layers=2, bidirectional=True)
    assert torch.equal(state, torch.get_rng_state())  # nothing was drawn
    assert {p.device.type for p in module.parameters()} == {"cpu"}
    module.load_state_dict(TORCH(I, H, 2, bidirectional=True).state_dict())
    check(ANYGATE, module, normal(T, B, I, seed=3).float())


def test_skip_init_of_one_step(lstm: Kind) -> None:
    state = torch.get_rng_state()
    cell = nn.utils.skip_init(lstm.one_step, I, H)
    assert torch.equal(state, torch.get_rng_state())
    cell.load_state_dict(lstm.cell(I, H).state_dict())
    x = normal(B, I, seed=3).float()
    assert torch.equal(cell(x)[0], lstm.cell(I, H)(x)[0])


def test_one_step_on_meta(any_lstm: Kind) -> None:
    with torch.device("meta"):
        cell, x = any_lstm.cell(I, H), torch.randn(B, I, requires_grad=True)
        h, c = cell(x)
        h, c = cell(x, (h, c))
    (h.sum() + c.sum()).backward()
    assert h.shape == c.shape == (B, H) and h.device.type == "meta"
    assert x.grad is not None and x.grad.shape == (B, I)


def test_a_model_of_both(layer: Kind) -> None:
    """A whole model made on meta, its memory given module by module."""

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(10, I)
            self.layer = layer.layer(I, H, bidirectional=True)
            self.head = nn.Linear(2 * H, 3)

        def forward(self, tokens: Any) -> Any:
            return self.head(self.layer(self.embedding(tokens))[0])

    with torch.device("meta"):
        model = Tagger()
        assert model(torch.zeros(T, B, dtype=torch.long)).shape == (T, B, 3)
    model.to_empty(device="cpu")
    torch.manual_seed(2)
    for module in (model.embedding, model.layer, model.head):
        module.reset_parameters()
    model(torch.arange(T * B).view(T, B) % 10).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
