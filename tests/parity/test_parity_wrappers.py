"""Weights that are computed: parametrisations (weight norm, spectral norm, own ones) and pruning.

The truth gets the weights as the module computes them, differentiably, so that the gradients of
what lies beneath them are compared too.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from truth import ANYGATE, TORCH, B, H, I, Kind, T, loop, mix, normal, run, states

NAMES = (
    "weight_ih_l0",
    "weight_hh_l0",
    "bias_ih_l0",
    "bias_hh_l0",
    "weight_ih_l1",
    "weight_hh_l1",
    "bias_ih_l1",
    "bias_hh_l1",
)


def by_module(module: Any, x: Tensor, hx: Any) -> dict[str, Tensor]:
    return gradients(module, run(module, x, hx))


def by_truth(kind: Kind, module: Any, x: Tensor, hx: Any) -> dict[str, Tensor]:
    for hook in module._forward_pre_hooks.values():  # pruning computes its weights there
        hook(module, (x, hx))
    own = {n: getattr(module, n) for n in NAMES}
    return gradients(module, run(lambda x, hx: loop(kind, own, x, hx), x, hx))


def gradients(module: Any, results: dict[str, Tensor]) -> dict[str, Tensor]:
    module.zero_grad()
    mix(results).backward()
    own = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    return {n: r.detach() for n, r in results.items()} | own


def check(kind: Kind, module: Any) -> None:
    x, hx = normal(T, B, I, seed=3), states(module, B)
    results, truth = by_module(module, x, hx), by_truth(kind, module, x, hx)
    assert set(results) == set(truth)
    for name, value in truth.items():
        torch.testing.assert_close(results[name], value, rtol=1e-11, atol=1e-12, msg=name)


class Symmetric(nn.Module):
    """Of a parametrisation of one's own: the recurrent block of each gate made symmetric."""

    def forward(self, w: Tensor) -> Tensor:
        blocks = w.view(-1, H, H)
        return ((blocks + blocks.mT) / 2).reshape(-1, H)


WAYS: dict[str, Any] = {
    "weight norm": lambda m, n: parametrizations.weight_norm(m, n),
    "spectral norm": lambda m, n: parametrizations.spectral_norm(m, n, n_power_iterations=3),
    "orthogonal": lambda m, n: parametrizations.orthogonal(m, n),
    "own": lambda m, n: parametrize.register_parametrization(m, n, Symmetric()),
}


@pytest.mark.parametrize("way", WAYS)
def test_parametrized(any_layer: Kind, way: str) -> None:
    """In eval, so that spectral norm's estimate stands still between the two computations."""
    module = any_layer(I, H, 2, dtype=torch.float64)
    for name in ("weight_hh_l0", "weight_hh_l1"):
        WAYS[way](module, name)
    assert parametrize.is_parametrized(module, "weight_hh_l0")
    assert "weight_hh_l0" not in dict(module.named_parameters())
    check(any_layer, module.eval())


@pytest.mark.parametrize("way", WAYS)
def test_parametrized_weights_that_change(any_layer: Kind, way: str) -> None:
    """Without gradients every call computes a new weight, perhaps where an old one lay."""
    module = any_layer(I, H, 2, dtype=torch.float64)
    WAYS[way](module, "weight_hh_l0")
    module.eval()
    x, hx = normal(T, B, I, seed=3), states(module, B)
    seen = []
    for _ in range(5):
        with torch.no_grad():
            for name, p in module.named_parameters():
                if "parametrizations" in name:
                    p.add_(0.3 * torch.randn_like(p))
            output, _ = module(x, hx)
            truth, _ = loop(any_layer, {n: getattr(module, n) for n in NAMES}, x, hx)
        torch.testing.assert_close(output, truth, rtol=1e-12, atol=1e-13)
        seen.append(output)
    assert not torch.equal(seen[0], seen[-1])


def test_parametrized_in_training(any_layer: Kind) -> None:
    """Spectral norm in training, the norm held: after optimiser steps the largest singular value
    of the weight that is used is 1."""
    module = any_layer(I, H, dtype=torch.float64)
    parametrizations.spectral_norm(module, "weight_hh_l0", n_power_iterations=5)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    x, losses = normal(T, B, I, seed=3), []
    for _ in range(15):
        loss = (module(x)[0] - 0.3).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    norm = torch.linalg.matrix_norm(module.weight_hh_l0, 2)
    assert norm.item() == pytest.approx(1, abs=0.05)


def test_parametrized_follows_nn_lstm() -> None:
    """Names, state_dict both ways, and the same numbers."""
    theirs, ours = (kind(I, H, 2, dtype=torch.float64) for kind in (TORCH, ANYGATE))
    for module in (theirs, ours):
        parametrizations.weight_norm(module, "weight_hh_l0", dim=0)
        parametrizations.weight_norm(module, "weight_ih_l1", dim=1)
    assert list(theirs.state_dict()) == list(ours.state_dict())
    with torch.no_grad():
        for p in theirs.parameters():
            p.mul_(1.25)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = normal(T, B, I, seed=3)
    torch.testing.assert_close(ours(x)[0], theirs(x)[0], rtol=1e-12, atol=1e-13)


def test_parametrized_module_is_still_a_module(any_layer: Kind) -> None:
    """deepcopy, cached(), .float(), repr, and removal with the weight left as it was."""
    module = any_layer(I, H, dtype=torch.float64)
    parametrizations.weight_norm(module, "weight_hh_l0")
    x, other = normal(T, B, I, seed=3), copy.deepcopy(module)  # before a call: torch can no later
    truth = module(x)[0].detach()
    assert torch.equal(other(x)[0], truth)
    with parametrize.cached():
        assert torch.equal(module(x)[0], module(x)[0])
    assert f"Parametrized{any_layer.family}" in repr(module) and "4, 6" in repr(module)
    assert module.float()(x.float())[0].dtype == torch.float32
    module.double()
    parametrize.remove_parametrizations(module, "weight_hh_l0")
    assert type(module) is type(any_layer(I, H))
    assert isinstance(module.weight_hh_l0, nn.Parameter)
    torch.testing.assert_close(module(x)[0], truth, rtol=1e-6, atol=1e-7)  # it was float32
    module(x)[0].sum().backward()
    assert module.weight_hh_l0.grad is not None


# ---- pruning --------------------------------------------------------------------------------

PRUNINGS: dict[str, Any] = {
    "l1": lambda m, n: prune.l1_unstructured(m, n, 0.4),
    "random": lambda m, n: prune.random_unstructured(m, n, 0.4),
    "rows": lambda m, n: prune.ln_structured(m, n, 0.25, n=2, dim=0),
    "mask": lambda m, n: prune.custom_from_mask(m, n, torch.eye(len(getattr(m, n)), H)),
    "twice": lambda m, n: (prune.l1_unstructured(m, n, 5), prune.random_unstructured(m, n, 0.5)),
}


@pytest.mark.parametrize("way", PRUNINGS)
def test_pruned(any_layer: Kind, way: str) -> None:
    """Zeros stay zero, their gradients are zero, and training goes on around them."""
    module = any_layer(I, H, 2, dtype=torch.float64)
    for name in ("weight_hh_l0", "weight_hh_l1"):
        PRUNINGS[way](module, name)
    assert "weight_hh_l0_orig" in dict(module.named_parameters())
    check(any_layer, module)
    mask = module.weight_hh_l0_mask
    assert 0 < mask.sum() < mask.numel()
    assert (module.weight_hh_l0_orig.grad[mask == 0] == 0).all()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.step()
        check(any_layer, module)
    x = normal(T, B, I, seed=3)
    assert (module.weight_hh_l0[mask == 0] == 0).all()
    output = module(x)[0].detach()
    for name in ("weight_hh_l0", "weight_hh_l1"):
        prune.remove(module, name)
    assert isinstance(module.weight_hh_l0, nn.Parameter)
    assert torch.equal(module(x)[0], output)


def test_pruned_over_all_layers(layer: Kind) -> None:
    module = layer(I, H, 2, bidirectional=True)
    chosen = [(module, n) for n, _ in module.named_parameters() if n.startswith("weight_hh")]
    prune.global_unstructured(chosen, pruning_method=prune.L1Unstructured, amount=0.5)
    zeros = sum((getattr(m, n) == 0).sum().item() for m, n in chosen)
    assert zeros == sum(getattr(m, n).numel() for m, n in chosen) // 2
    x = normal(T, B, I, seed=3).float()
    before = module(x)[0].detach()
    other = layer(I, H, 2, bidirectional=True, seed=5)
    weights = {n: getattr(module, n).detach() for n in dict(other.named_parameters())}
    other.load_state_dict(weights)
    assert torch.equal(other(x)[0], before)
