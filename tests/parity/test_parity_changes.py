"""Weights that change between two calls, by whatever way: the next call uses the new ones.

An engine may keep a weight in a form of its own. But `p.data.add_` in old training loops, clamping
`p.data` in WGANs, NumPy and shared memory in Hogwild training, and what FSDP gathers, leave the
version counter of the weight as it is.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from truth import B, H, I, Kind, T, check, normal, states


def x_for(module: Any) -> Tensor:
    return normal(T, B, I, seed=3, dtype=next(module.parameters()).dtype)


def _by_optimizer(p: Tensor) -> None:
    p.grad = torch.ones_like(p)
    torch.optim.SGD([p], lr=0.3).step()
    p.grad = None


def _by_vector(p: Any) -> None:
    vector_to_parameters(parameters_to_vector([p]) * 2, [p])


def _by_swap(p: Any) -> None:
    p.data = p.data * 2


def _by_numpy(p: Tensor) -> None:
    array = p.detach().numpy()
    array *= np.asarray(2, array.dtype)


def _by_set(p: Tensor) -> None:
    with torch.no_grad():
        p.set_(p.detach() * 2)


def _by_no_grad(p: Tensor) -> None:
    with torch.no_grad():
        p.mul_(2)


def _by_data(p: Tensor) -> None:
    p.data.mul_(2)


def _by_foreach(p: Tensor) -> None:
    torch._foreach_mul_([p.data], 2.0)


def _by_storage(p: Tensor) -> None:
    other = torch.empty(0, dtype=p.dtype).set_(p.untyped_storage(), 0, p.shape)  # type: ignore[call-overload]
    other.mul_(2)


def _by_inference_mode(p: Tensor) -> None:
    with torch.inference_mode():
        p.data.mul_(2)


def _under_preserved_version(p: Tensor) -> None:
    with torch.autograd._unsafe_preserve_version_counter(p), torch.no_grad():
        p.mul_(2)  # as FSDP does when it gathers a weight


CHANGES = (
    _by_optimizer,
    _by_vector,
    _by_swap,
    _by_numpy,
    _by_set,
    _by_no_grad,
    _by_data,
    _by_foreach,
    _by_storage,
    _by_inference_mode,
    _under_preserved_version,
)


@pytest.mark.parametrize("size", [(T, B), (1, 1)], ids=("a batch", "one step"))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.__name__.strip("_"))
def test_changed_weights_are_seen(
    layer: Kind, change: Any, training: bool, dtype: torch.dtype, size: tuple[int, int]
) -> None:
    """In both dtypes, in training and not, and for one step a call, as policies are played."""
    module = layer(I, H, 2, dtype=dtype)
    x, hx = normal(*size, I, seed=3, dtype=dtype), states(module, size[1])

    def call() -> Tensor:
        with torch.set_grad_enabled(training):
            output, _ = module(x, hx)
        if training:
            output.sum().backward()
        return output.detach()

    before = [call(), call()][1]
    for name in ("weight_ih_l0", "weight_hh_l0", "bias_hh_l0", "weight_ih_l1", "weight_hh_l1"):
        change(getattr(module, name))
        after = call()
        fresh = layer(I, H, 2, seed=9, dtype=dtype)
        fresh.load_state_dict(module.state_dict())
        with torch.set_grad_enabled(training):
            assert torch.equal(after, fresh(x, hx)[0]), name
        assert not torch.equal(after, before), name
        before = after
    module.zero_grad()
    check(layer, module, x, hx)


def _by_two_signs(p: Tensor) -> None:
    p.data.view(-1)[0] *= -1
    p.data.view(-1)[128] *= -1


# What a check of the weight's bytes may take for no change: bits that cancel, words that move.
STRUCTURED: dict[str, Callable[[Tensor], Any]] = {
    "negated": lambda p: p.data.neg_(),
    "every second row negated": lambda p: p.data[::2].neg_(),
    "two signs": _by_two_signs,
    "doubled": lambda p: p.data.mul_(2),
    "halved": lambda p: p.data.mul_(0.5),
    "times 2^10": lambda p: p.data.mul_(1024),
    "rows exchanged": lambda p: p.data.copy_(p.data.roll(1, 0)),
    "columns exchanged": lambda p: p.data.copy_(p.data.roll(1, 1)),
    "turned round": lambda p: p.data.copy_(p.data.flip(0)),
    "zeros": lambda p: p.data.zero_(),
    "one element": lambda p: p.data.view(-1)[129].add_(0.5),
    "the last element": lambda p: p.data.view(-1)[-1].add_(0.5),
}


@pytest.mark.parametrize("size", [(T, 4), (T, 1), (1, 1)], ids=("rows", "one row", "one step"))
@pytest.mark.parametrize("hidden", [16, 64])
@pytest.mark.parametrize("change", STRUCTURED)
def test_structured_changes_are_seen(
    lstm: Kind, change: str, hidden: int, size: tuple[int, int]
) -> None:
    """At sizes that fill vectors, without gradients, each change on top of the one before."""
    module, fresh = lstm(hidden, hidden), lstm(hidden, hidden, seed=9)
    x = normal(*size, hidden, seed=3).float()
    hx = (normal(1, size[1], hidden, seed=4).float(), normal(1, size[1], hidden, seed=5).float())
    with torch.no_grad():
        before = [module(x, hx)[0], module(x, hx)[0]][1]
        for name in ("weight_ih_l0", "weight_hh_l0"):
            STRUCTURED[change](getattr(module, name))
            fresh.load_state_dict(module.state_dict())
            after = module(x, hx)[0]
            assert torch.equal(after, fresh(x, hx)[0]), name
            assert not torch.equal(after, before), name
            before = after


def test_new_parameters_are_seen(any_layer: Kind) -> None:
    """Assigned by name, or loaded with assign=True; both in a loop, where memory is reused."""
    module = any_layer(I, H)
    x = x_for(module)
    for turn in range(4):
        other = any_layer(I, H, seed=turn + 1)
        if turn % 2:
            module.load_state_dict(other.state_dict(), assign=True)
        else:
            for name, p in other.named_parameters():
                setattr(module, name, nn.Parameter(p.detach().clone()))
        with torch.no_grad():
            assert torch.equal(module(x)[0], other(x)[0])
        check(any_layer, module, x)


def test_shared_memory(layer: Kind) -> None:
    """share_memory() moves the weights; a change through another handle on them is seen."""
    module = layer(I, H).share_memory()
    assert all(p.is_shared() for p in module.parameters())
    x = x_for(module)
    with torch.no_grad():
        module(x)
        handle = pickle.loads(pickle.dumps(module))
        for mine, p in zip(handle.parameters(), module.parameters(), strict=True):
            np.asarray(p.detach().numpy())[...] = 0.25
            mine.fill_(0.25)
        assert torch.equal(module(x)[0], handle(x)[0])
