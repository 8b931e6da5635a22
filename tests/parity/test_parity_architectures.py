"""anygate.swap on three architectures: outputs, gradients and training stay what they were."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from architectures import LanguageModel, Tagger, Translator, train
from torch import nn
from truth import size

import anygate

ARCHITECTURES = (Tagger, Translator, LanguageModel)
EACH = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.__name__)
STEPS = 110


def twins(architecture: Any, dtype: torch.dtype, **options: Any) -> tuple[Any, Any]:
    """The model as it is, and a copy with its LSTMs swapped."""
    torch.manual_seed(0)
    plain = architecture().to(dtype)
    swapped = copy.deepcopy(plain)
    anygate.swap(swapped, **options)
    return plain, swapped


def results(model: Any) -> dict[str, Any]:
    """The loss and all gradients, over two batches in turn (a state may be carried)."""
    torch.manual_seed(1)
    model.zero_grad()
    losses = []
    for seed in (7, 8):
        loss = model.loss(*model.batch(seed))
        loss.backward()
        losses.append(loss.detach())
    return {"losses": torch.stack(losses)} | {n: p.grad for n, p in model.named_parameters()}


@EACH
def test_every_lstm_is_swapped(architecture: Any) -> None:
    plain, swapped = twins(architecture, torch.float32)
    kinds = [type(m) for m in swapped.modules()]
    assert nn.LSTM not in kinds and nn.LSTMCell not in kinds
    count = sum(isinstance(m, nn.LSTM | nn.LSTMCell) for m in plain.modules())
    assert sum(isinstance(m, anygate.LSTM | anygate.LSTMCell) for m in swapped.modules()) == count
    assert list(swapped.state_dict()) == list(plain.state_dict())
    assert [n for n, _ in swapped.named_parameters()] == [n for n, _ in plain.named_parameters()]


@EACH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_losses_and_gradients_stay(architecture: Any, dtype: torch.dtype) -> None:
    """In training, with the same dropout; to rounding: sums over up to 9 steps of 24 products,
    with their errors handed on through as many steps."""
    plain, swapped = twins(architecture, dtype)
    wanted, found = results(plain), results(swapped)
    assert set(wanted) == set(found)
    for name, value in wanted.items():
        room = 9 * 24 * torch.finfo(dtype).eps * max(1.0, size(value))
        assert size(found[name] - value) <= room, name


@EACH
def test_outputs_stay_in_eval(architecture: Any) -> None:
    plain, swapped = twins(architecture, torch.float64)
    outputs = []
    for model in (plain, swapped):
        model.eval()
        with torch.no_grad():
            outputs.append(model(*model.batch(3)[: 1 if architecture is LanguageModel else 2]))
    assert outputs[0].abs().sum() > 0
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-12, atol=1e-13)


@EACH
def test_training_follows_the_same_curve(architecture: Any) -> None:
    """Loss by loss, in float64: an error of rounding grows a little at each step."""
    plain, swapped = twins(architecture, torch.float64)
    wanted, found = train(plain, STEPS), train(swapped, STEPS)
    assert sum(wanted[-5:]) < 0.7 * sum(wanted[:5])
    assert found == pytest.approx(wanted, rel=1e-8)
    for a, b in zip(swapped.parameters(), plain.parameters(), strict=True):
        assert size(a.detach() - b.detach()) <= 1e-7


@EACH
def test_training_in_single_precision(architecture: Any) -> None:
    """The same curve, as far as rounding lets two runs stay together."""
    plain, swapped = twins(architecture, torch.float32)
    wanted, found = train(plain, STEPS // 3), train(swapped, STEPS // 3)
    assert found[:5] == pytest.approx(wanted[:5], rel=1e-4)
    assert sum(found[-5:]) == pytest.approx(sum(wanted[-5:]), rel=0.05)


@EACH
def test_another_activation_trains(architecture: Any) -> None:
    """With softsign instead of tanh a swapped model has other losses, and learns."""
    plain, swapped = twins(architecture, torch.float64, activation="softsign")
    first = results(plain)["losses"]
    assert size(results(swapped)["losses"] - first) > 1e-4
    _, swapped = twins(architecture, torch.float64, activation="softsign")
    losses = train(swapped, STEPS)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
