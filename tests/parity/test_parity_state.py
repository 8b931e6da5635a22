"""Weights: into and out of files and other modules, to other dtypes, and every way to change them
between two calls."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from truth import PAIRS, B, H, I, Kind, T, check, normal, states

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

BUILDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deep": {"num_layers": 2, "bidirectional": True},
    "no bias": {"bias": False, "batch_first": True},
    "projected": {"proj_size": 2, "num_layers": 2},
}


def x_for(module: Any) -> Tensor:
    return normal(T, B, I, seed=3, dtype=next(module.parameters()).dtype)


# ---- state_dict -----------------------------------------------------------------------------


@pytest.mark.parametrize("build", BUILDS)
def test_state_dict_both_ways(our_layer: Kind, build: str) -> None:
    options = BUILDS[build]
    torchs = next(a for a, _ in PAIRS if a.family == our_layer.family)
    theirs, ours = torchs(I, H, seed=1, **options), our_layer(I, H, seed=2, **options)
    is_torchs = any(our_layer is ours for _, ours in PAIRS)
    cell = [] if is_torchs else ["_extra_state"]  # weights of another cell say so
    assert [*theirs.state_dict(), *cell] == list(ours.state_dict())
    assert theirs.state_dict()._metadata == ours.state_dict()._metadata
    for target, source in ((ours, theirs), (torchs(I, H, seed=3, **options), ours)):
        kept = {n: w.clone() for n, w in source.state_dict().items() if n not in cell}
        result = target.load_state_dict(kept, strict=True)
        assert not result.missing_keys and not result.unexpected_keys
        assert all(torch.equal(target.state_dict()[n], w) for n, w in kept.items())
        x = x_for(ours)
        if is_torchs:
            torch.testing.assert_close(target(x)[0], source(x)[0], rtol=1e-5, atol=1e-6)
    check(our_layer, ours, x_for(ours).transpose(0, 1) if ours.batch_first else x_for(ours))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.pop("weight_hh_l0"), 'Missing key.*"weight_hh_l0"'),
        (lambda d: d.update(other=torch.zeros(1)), 'Unexpected key.*"other"'),
        (
            lambda d: d.update(weight_hh_l0=torch.zeros(len(d["weight_hh_l0"]), H + 1)),
            "size mismatch for weight_hh",
        ),
    ],
)
def test_a_wrong_state_dict(layer: Kind, change: Callable[[Any], Any], words: str) -> None:
    module, other = layer(I, H), layer(I, H).state_dict()
    change(other)
    with pytest.raises(RuntimeError, match=words):
        module.load_state_dict(other)


def test_inside_a_model(layer: Kind) -> None:
    model = nn.ModuleDict({"encoder": layer(I, H), "head": nn.Linear(H, 2)})
    assert [n for n in model.state_dict() if n.startswith("encoder")] == [
        f"encoder.{n}" for n in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    ]


# ---- copies and files -----------------------------------------------------------------------


def saved(module: Any) -> Any:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "oldest pickle": lambda m: pickle.loads(pickle.dumps(m, 2)),
    "torch.save": saved,
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("build", ["deep", "projected"])
def test_copies(any_layer: Kind, way: str, build: str) -> None:
    """The same outputs, own weights, before and after a call, and a deepcopy of the copy."""
    module = any_layer(I, H, dtype=torch.float64, **BUILDS[build]).eval()
    x = x_for(module)
    fresh = COPIES[way](module)
    truth = module(x)[0].detach()
    for other in (fresh, COPIES[way](module), COPIES[way](fresh)):
        assert type(other) is type(module) and repr(other) == repr(module)
        assert not other.training
        assert torch.equal(other(x)[0], truth)
        with torch.no_grad():
            other.weight_hh_l0.zero_()
        assert not torch.equal(other(x)[0], truth)
        check(any_layer, other, x, states(other, B))
    assert torch.equal(module(x)[0], truth)


def test_weights_only_file(layer: Kind) -> None:
    file = io.BytesIO()
    module, other = layer(I, H, 2, seed=1), layer(I, H, 2, seed=2)
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(x_for(other))[0], module(x_for(module))[0])


def test_state_from_before_projections(lstm: Kind) -> None:
    """A pickle of torch 1.7 has no proj_size."""
    module = lstm(I, H, 2)
    old = dict(module.__getstate__())
    del old["proj_size"]
    again = lstm.layer.__new__(type(module))
    again.__setstate__(copy.deepcopy(old))
    assert again.proj_size == 0
    assert torch.equal(again(x_for(again))[0], module(x_for(module))[0])
    assert [n for n, _ in again.named_parameters()] == [n for n, _ in module.named_parameters()]


# ---- dtypes and devices ---------------------------------------------------------------------


def test_to_and_back(any_layer: Kind) -> None:
    module = any_layer(I, H, 2)
    x = x_for(module)
    first = module(x)[0]
    assert module.double() is module
    check(any_layer, module, x_for(module), states(module, B))
    module.to(torch.bfloat16)
    assert module(x.bfloat16())[0].dtype == torch.bfloat16
    module.float()
    off = (module(x)[0] - first).abs().max()
    assert 0 < off < 0.1  # the weights were rounded to bfloat16 on the way
    assert module.to("cpu", torch.float64).weight_hh_l0.dtype == torch.float64
    assert all(p.is_leaf and p.requires_grad for p in module.parameters())


def test_gradients_survive_to(layer: Kind) -> None:
    module = layer(I, H)
    module(x_for(module))[0].sum().backward()
    kept = module.weight_hh_l0.grad.clone()
    module.double()
    assert torch.equal(module.weight_hh_l0.grad, kept.double())


# ---- tied weights, vectors, optimisers ------------------------------------------------------


def test_tied_weights(any_layer: Kind) -> None:
    """One parameter in two layers: counted once, its gradient the sum of both places."""
    module = any_layer(H, H, 2, dtype=torch.float64)
    apart = copy.deepcopy(module)
    module.weight_hh_l1 = module.weight_hh_l0
    module.weight_ih_l1 = module.weight_hh_l0
    assert len(list(module.parameters())) == len(list(apart.parameters())) - 2
    with torch.no_grad():
        for name in ("weight_hh_l1", "weight_ih_l1"):
            getattr(apart, name).copy_(module.weight_hh_l0)
    x = normal(T, B, H, seed=3)
    grads = []
    for each in (module, apart):
        output, _ = each(x)
        output.square().sum().backward()
        grads.append({n: p.grad for n, p in each.named_parameters()})
    total = sum(grads[1][n] for n in ("weight_hh_l0", "weight_hh_l1", "weight_ih_l1"))
    torch.testing.assert_close(grads[0]["weight_hh_l0"], total, rtol=1e-12, atol=1e-13)
    other = copy.deepcopy(module)
    assert other.weight_hh_l1 is other.weight_hh_l0 is other.weight_ih_l1
    assert torch.equal(other(x)[0], module(x)[0])


def test_tied_between_modules(layer: Kind) -> None:
    first, second = layer(I, H, seed=1), layer(I, H, seed=2)
    second.weight_hh_l0 = first.weight_hh_l0
    x = x_for(first)
    (first(x)[0].sum() + second(x)[0].sum()).backward()
    both = first.weight_hh_l0.grad.clone()
    alone = []
    for module in (first, second):
        first.zero_grad()
        module(x)[0].sum().backward()
        alone.append(module.weight_hh_l0.grad.clone())
    torch.testing.assert_close(both, alone[0] + alone[1], rtol=1e-5, atol=1e-6)


def test_vector_of_parameters(any_layer: Kind) -> None:
    module, other = (any_layer(I, H, 2, seed=s, dtype=torch.float64) for s in (1, 2))
    vector = parameters_to_vector(module.parameters())
    assert vector.numel() == sum(p.numel() for p in module.parameters())
    vector_to_parameters(vector.detach().clone(), other.parameters())  # views of one memory
    check(any_layer, other, x_for(other))
    assert torch.equal(other(x_for(other))[0], module(x_for(module))[0])


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "LBFGS"])
@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: p[0].name)
def test_training_follows_torch(pair: tuple[Kind, Kind], name: str) -> None:
    """Ten steps from the same weights: the same losses to rounding."""
    losses = []
    for kind in pair:
        module, x = kind(I, H, dtype=torch.float64), normal(T, B, I, seed=3)
        target = normal(T, B, H, seed=4)
        fewer = {"max_iter": 4} if name == "LBFGS" else {}  # of 20 evaluations a step
        optimizer = getattr(torch.optim, name)(module.parameters(), lr=0.05, **fewer)

        def closure(module: Any = module, x: Tensor = x, target: Tensor = target) -> Tensor:
            module.zero_grad()
            loss = nn.functional.mse_loss(module(x)[0], target)
            loss.backward()
            return loss

        losses.append([optimizer.step(closure).item() for _ in range(10)])
    assert losses[0][-1] < losses[0][0]
    # L-BFGS divides by differences of gradients, so rounding grows from step to step: torch's own
    # GRU is 1.3e-10 from the loop at the tenth loss (AMD EPYC without AVX-512).
    rtol = 1e-9 if name == "LBFGS" else 1e-10
    np.testing.assert_allclose(losses[1], losses[0], rtol=rtol)


def test_averaged_model(layer: Kind) -> None:
    """A moving average of weights is a deepcopy that is changed in place after every step."""
    module = layer(I, H)
    average = torch.optim.swa_utils.AveragedModel(module)
    x = x_for(module)
    with torch.no_grad():
        for _ in range(3):
            module.weight_hh_l0.add_(0.5)
            average.update_parameters(module)
            average(x)
        fresh = layer(I, H, seed=4)
        fresh.load_state_dict(average.module.state_dict())
        assert torch.equal(average(x)[0], fresh(x)[0])
        assert not torch.equal(average(x)[0], module(x)[0])
