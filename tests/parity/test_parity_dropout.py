"""Dropout between layers: where it acts, and that the same seed drops the same units as in torch.

torch draws one mask for a layer's whole output, time first ([T, B, ...], or the rows of a pack),
by torch.dropout. So what is comparable is everything: with the same seed the results are the
same numbers, and the generator stands at the same place afterwards.
"""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from truth import PAIRS, B, H, I, Kind, T, as_tuple, loop, mix, normal, run, states

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

BUILDS: dict[str, dict[str, Any]] = {
    "2 layers": {"num_layers": 2},
    "3 layers, bidirectional": {"num_layers": 3, "bidirectional": True},
    "batch first": {"num_layers": 2, "batch_first": True},
    "projected": {"num_layers": 3, "proj_size": 2},
}


def packed(x: Tensor) -> Any:
    lengths = [2, T, 1][: x.shape[1]]
    return pack_padded_sequence(x, lengths, enforce_sorted=False)


@pytest.mark.parametrize("form", ["padded", "packed", "unbatched"])
@pytest.mark.parametrize("build", BUILDS)
@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: p[0].name)
def test_same_seed_same_results_as_torch(pair: tuple[Kind, Kind], build: str, form: str) -> None:
    seen = []
    for kind in pair:
        module = kind(I, H, dropout=0.4, dtype=torch.float64, **BUILDS[build])
        x = normal(T, I, seed=1) if form == "unbatched" else normal(T, B, I, seed=1)
        if form == "padded" and module.batch_first:
            x = x.transpose(0, 1)
        x.requires_grad_()
        torch.manual_seed(5)
        results = run(module, packed(x) if form == "packed" else x)
        after = torch.rand(())
        results["output"] = results["output"].data if form == "packed" else results["output"]
        mix(results).backward()
        seen.append([*results.values(), x.grad, *(p.grad for p in module.parameters()), after])
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("build", ["2 layers", "3 layers, bidirectional", "projected"])
def test_where_it_acts(any_layer: Kind, build: str) -> None:
    """On the output of every layer but the last, one mask each, in the order of the layers."""
    module = any_layer(I, H, dropout=0.4, dtype=torch.float64, **BUILDS[build])
    x, hx = normal(T, B, I, seed=1), states(module, B)
    torch.manual_seed(5)
    output, ends = module(x, hx)
    torch.manual_seed(5)
    weights = {n: p.detach() for n, p in module.named_parameters()}
    truth, wanted = loop(any_layer, weights, x, hx, lambda t: nn.functional.dropout(t, 0.4))
    pairs = zip(as_tuple(ends), as_tuple(wanted), strict=True)
    for a, b in ((output, truth), *pairs):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_gradients_pass_the_same_mask(any_layer: Kind) -> None:
    """The loss as a function of x with the mask held fixed, against differences."""
    module = any_layer(2, 3, 2, dropout=0.5, dtype=torch.float64)

    def run(x: Tensor) -> Tensor:
        torch.manual_seed(3)
        return module(x)[0]  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(run, normal(3, 2, 2, seed=1).requires_grad_(), fast_mode=True)


def test_training_and_eval(any_layer: Kind) -> None:
    module = any_layer(I, 32, 2, dropout=0.5)
    x = normal(T, B, I, seed=1).float()
    first, second = module(x)[0], module(x)[0]
    assert not torch.equal(first, second)
    module.eval()
    before = torch.get_rng_state()
    assert torch.equal(module(x)[0], module(x)[0])
    assert torch.equal(before, torch.get_rng_state())
    plain = any_layer(I, 32, 2).eval()
    plain.load_state_dict(module.state_dict())
    assert torch.equal(plain(x)[0], module(x)[0])
    assert module.train().training


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_all_or_nothing(any_layer: Kind, p: float) -> None:
    """1: the second layer sees zeros; 0: no random number is drawn."""
    module = any_layer(I, H, 2, dropout=p, dtype=torch.float64)
    x, hx = normal(T, B, I, seed=1), states(module, B)
    before = torch.get_rng_state()
    output, _ = module(x, hx)
    assert torch.equal(before, torch.get_rng_state()) or p == 1
    weights = {n: w.detach() for n, w in module.named_parameters()}
    truth, _ = loop(any_layer, weights, x, hx, lambda t: t * (1 - p))
    torch.testing.assert_close(output, truth, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("p", [0.25, 1])
def test_warning_with_one_layer(layer: Kind, p: float) -> None:
    """It says p and num_layers; with more layers, or p = 0, there is none."""
    words = rf"dropout after all but last recurrent layer.*got dropout={p} and num_layers=1"
    with pytest.warns(UserWarning, match=words) as seen:
        module = layer(I, H, dropout=p)
    assert len(seen) == 1
    x = normal(T, B, I, seed=1).float()
    assert torch.equal(module(x)[0], module(x)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(I, H, dropout=0)
        layer(I, H, 2, dropout=p)


def test_dropout_changed_later(any_layer: Kind) -> None:
    """Schedules set `lstm.dropout` while training."""
    module = any_layer(I, H, 2)
    x = normal(T, B, I, seed=1).float()
    without = module(x)[0]
    module.dropout = 0.5
    assert not torch.equal(module(x)[0], without)
    module.dropout = 0.0
    assert torch.equal(module(x)[0], without)
