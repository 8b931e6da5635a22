"""A call whose shape was there before goes a prepared way, which no caller can tell from the long
one."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from typing import Any

import pytest
import torch
from torch import nn

import anygate
from anygate.engines.cpu import compiler, plain
from anygate.engines.protocol import load, register
from anygate.nn import shortcuts

MODULES: dict[str, Any] = {
    "LSTM": lambda: anygate.LSTM(3, 5),
    "GRU, no bias": lambda: anygate.GRU(3, 5, bias=False),
    "RNN, batch first": lambda: anygate.RNN(3, 5, batch_first=True),
    "LSTM, relu, float64": lambda: anygate.LSTM(3, 5, activation="relu", dtype=torch.float64),
    "LSTMCell": lambda: anygate.LSTMCell(3, 5),
    "GRUCell": lambda: anygate.GRUCell(3, 5),
    "zoneout": lambda: anygate.LSTM(3, 5, zoneout=0.5).eval(),
}
SHAPES = {
    "LSTM": [(1, 1, 3), (1, 4, 3), (6, 1, 3), (6, 4, 3), (6, 3)],
    "Cell": [(1, 3), (4, 3), (3,)],
}


def flat(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    return [t for part in result for t in flat(part)]


def long_way(module: nn.Module, x: torch.Tensor, hx: Any) -> list[torch.Tensor]:
    """A copy has no shortcuts yet."""
    with torch.enable_grad():
        return [t.detach() for t in flat(copy.deepcopy(module)(x, hx))]


def found(module: nn.Module, x: torch.Tensor, training: bool = False) -> Any:
    """The shortcut for inputs like x, if the module has one."""
    kept = module.__dict__.get("_shortcuts")
    return None if kept is None else kept.found.get((x.shape, training))


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("name", MODULES)
def test_the_results_are_those_of_the_long_way(name: str, given: bool) -> None:
    torch.manual_seed(0)
    module = MODULES[name]()
    dtype = next(module.parameters()).dtype
    for shape in SHAPES["Cell" if name.endswith("Cell") else "LSTM"]:
        x, hx = torch.randn(shape, dtype=dtype), None
        with torch.no_grad():
            if given:
                state = module(x)[1] if not name.endswith("Cell") else module(x)
                hx = (
                    torch.rand_like(state)
                    if isinstance(state, torch.Tensor)
                    else tuple(map(torch.rand_like, state))
                )
            expected = long_way(module, x, hx)
            before = [t.clone() for t in flat((x, () if hx is None else hx))]
            for _ in range(4):
                results = flat(module(x, hx))
                assert all(map(torch.equal, results, expected))
                assert [r.shape for r in results] == [e.shape for e in expected]
                for result in results:
                    result.add_(1)  # each has memory of its own
            assert all(map(torch.equal, flat((x, () if hx is None else hx)), before))
        blocked = "batch first" in name and len(shape) == 3 and min(shape[:2]) > 1
        assert (found(module, x) is not None) != blocked


def test_one_state_given_twice_and_one_that_is_not_contiguous() -> None:
    module, x = anygate.LSTM(3, 5), torch.randn(6, 4, 3)
    state = torch.randn(1, 5, 4).transpose(1, 2)
    same = state.contiguous()
    with torch.no_grad():
        for hx in ((same, same), (state, same)):
            expected = long_way(module, x, hx)
            for _ in range(3):
                assert all(map(torch.equal, flat(module(x, hx)), expected))


def _data(module: Any) -> None:
    module.weight_hh_l0.data[3, 2] += 1


def _numpy(module: Any) -> None:
    module.bias_ih_l0.detach().numpy()[0] = 3


def _replaced(module: Any) -> None:
    module.weight_ih_l0 = nn.Parameter(torch.randn(20, 3))


def _turned(module: Any) -> None:
    module.weight_hh_l0.data = torch.randn(5, 20).t()


def _parametrized(module: Any) -> None:
    nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
    module.parametrizations.weight_hh_l0.original0.data *= 2


def _loaded(module: Any) -> None:
    module.load_state_dict({k: torch.randn_like(v) for k, v in module.state_dict().items()})


@pytest.mark.parametrize("change", [_data, _numpy, _replaced, _turned, _parametrized, _loaded])
@pytest.mark.parametrize("steps", [1, 6])
def test_changed_weights_are_seen(change: Any, steps: int) -> None:
    torch.manual_seed(0)
    module, x = anygate.LSTM(3, 5), torch.randn(steps, 2, 3)
    hx = torch.randn(1, 2, 5), torch.randn(1, 2, 5)
    with torch.no_grad():
        for _ in range(3):
            old = flat(module(x, hx))
        change(module)
        for _ in range(4):
            results = flat(module(x, hx))
            assert all(map(torch.equal, results, long_way(module, x, hx)))
        assert not torch.equal(results[0], old[0])


def test_what_must_see_the_operator_goes_the_long_way() -> None:
    module, x = anygate.LSTM(3, 5), torch.randn(6, 2, 3)
    with torch.no_grad():
        for _ in range(3):
            expected = module(x)[0]
        batched = torch.vmap(lambda v: module(v)[0])(torch.stack([x, x]))
        torch.testing.assert_close(batched[1], expected)
        with torch.autocast("cpu", torch.bfloat16):
            assert module(x)[0].dtype == torch.bfloat16
        with anygate.record(module) as recording:
            module(x)
        assert recording
        with pytest.raises(ValueError, match="dtype of input"):
            module(x.double())
        with pytest.raises(RuntimeError, match="Expected hidden"):
            module(x, (torch.zeros(1, 3, 5), torch.zeros(1, 3, 5)))


def test_copies_have_none_and_pickles_hold_none() -> None:
    module, x = anygate.LSTM(3, 5), torch.randn(6, 2, 3)
    with torch.no_grad():
        for _ in range(3):
            expected = module(x)[0]
        assert found(module, x) is not None
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert found(twin, x) is None
            twin.weight_hh_l0.mul_(2)
            assert not torch.equal(twin(x)[0], expected)
        assert torch.equal(module(x)[0], expected)


def test_noise_and_engines_that_change() -> None:
    module, x = anygate.LSTM(3, 5, zoneout=0.5).eval(), torch.randn(6, 2, 3)
    with torch.no_grad():
        for _ in range(3):
            expected = module(x)[0]
        module.train()
        assert not torch.equal(module(x)[0], expected)
        module.eval()
        assert torch.equal(module(x)[0], expected)
        register(load("cpu"))
        assert found(module, x) is None


def test_shapes_that_come_and_go_are_forgotten() -> None:
    module = anygate.LSTM(3, 5)
    with torch.no_grad():
        for steps in range(1, 3 * shortcuts._MOST):
            for _ in range(2):
                module(torch.randn(steps, 2, 3))
    assert len(module._shortcuts.found) <= shortcuts._MOST


def test_machine_code_lives_as_long_as_a_shortcut_to_it() -> None:
    """The cache of kernels forgets the oldest, and of several threads that compile one formula at
    once only one's is kept: a shortcut made with another's must not call freed memory."""
    lstm, x = anygate.LSTM(3, 4, candidate="tanh(x) + 0.03125*x"), torch.randn(2, 1, 3)
    with torch.no_grad():
        expected = lstm(x)[0]
        assert all(torch.equal(lstm(x)[0], expected) for _ in range(2))
        for cache in (compiler.kernels, plain.code):
            cache.cache_clear()
        gc.collect()
        for k in range(3):  # what lies in the freed memory now
            anygate.LSTM(3, 4, candidate=f"tanh(x) + {k}/64*x")(x)
        assert torch.equal(lstm(x)[0], expected)


# ---- with gradients ------------------------------------------------------------------------------


def state_of(module: nn.Module, x: torch.Tensor) -> Any:
    """A state for inputs like x, whose gradient is wanted."""
    with torch.no_grad():
        result = copy.deepcopy(module)(x)
    state = result if type(module).__name__.endswith("Cell") else result[1]
    if isinstance(state, torch.Tensor):
        return torch.rand_like(state).requires_grad_()
    return tuple(torch.rand_like(t).requires_grad_() for t in state)


def learn(module: nn.Module, x: torch.Tensor, hx: Any) -> list[torch.Tensor]:
    """Results, and gradients of all that learns, of a loss that uses each result differently."""
    leaves = [
        *module.parameters(),
        *[t for t in flat((x, () if hx is None else hx)) if t.requires_grad],
    ]
    results = flat(module(x, hx))
    loss = sum((k + 1) * r.square().sum() for k, r in enumerate(results))
    assert isinstance(loss, torch.Tensor)
    return [*(r.detach() for r in results), *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("name", [n for n in MODULES if n != "zoneout"])
def test_training_has_the_bits_of_the_long_way(name: str, given: bool) -> None:
    """While the weights change from step to step, as an optimizer changes them."""
    torch.manual_seed(0)
    module = MODULES[name]()
    dtype = next(module.parameters()).dtype
    for shape in SHAPES["Cell" if name.endswith("Cell") else "LSTM"]:
        x = torch.randn(shape, dtype=dtype, requires_grad=given)
        hx = state_of(module, x) if given else None
        for _ in range(4):
            expected = learn(copy.deepcopy(module), x, hx)
            assert all(map(torch.equal, learn(module, x, hx), expected))
            with torch.no_grad():
                for weight in module.parameters():
                    weight.mul_(0.9)
        blocked = "batch first" in name and len(shape) == 3 and min(shape[:2]) > 1
        assert (found(module, x, training=True) is not None) != blocked


@pytest.mark.parametrize("change", [_data, _numpy, _replaced, _turned, _parametrized, _loaded])
def test_changed_weights_are_seen_in_training(change: Any) -> None:
    torch.manual_seed(0)
    module, x = anygate.LSTM(3, 5), torch.randn(6, 2, 3)
    for _ in range(3):
        learn(module, x, None)
    change(module)
    expected = learn(copy.deepcopy(module), x, None)
    for _ in range(3):
        assert all(map(torch.equal, learn(module, x, None), expected))


@pytest.mark.parametrize("steps", [1, 6])
def test_the_output_may_be_changed_and_the_graph_used_again(steps: int) -> None:
    module, x = anygate.RNN(3, 5), torch.randn(steps, 2, 3, requires_grad=True)

    def twice(change: bool) -> list[torch.Tensor]:
        output, h = module(x)
        loss = output.sum() + h.square().sum()
        if change:
            output.mul_(3)  # h and the way back have their own
        leaves = [x, *module.parameters()]
        first = torch.autograd.grad(loss, leaves, retain_graph=True)
        assert all(map(torch.equal, first, torch.autograd.grad(loss, leaves)))
        return list(first)

    expected = twice(False)
    for _ in range(3):
        assert all(map(torch.equal, twice(False), expected))
    assert found(module, x, training=True) is not None
    loss = module(x)[0].sum()
    with torch.no_grad():
        module.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.filterwarnings("ignore:a gradient of a gradient")
@pytest.mark.parametrize("name", ["LSTM, relu, float64", "LSTMCell"])
def test_gradients_of_gradients_and_batches_of_gradients(name: str) -> None:
    torch.manual_seed(0)
    module = MODULES[name]().double()
    cell = name.endswith("Cell")
    x = torch.randn(*((4,) if cell else (3, 4)), 3, dtype=torch.float64, requires_grad=True)
    hx = state_of(module, x)

    def penalty(module: nn.Module) -> list[torch.Tensor]:
        loss = sum(t.square().sum() for t in flat(module(x, hx)))
        slopes = torch.autograd.grad(loss, [x, *hx], create_graph=True)
        whole = sum(s.square().sum() for s in slopes)
        assert isinstance(whole, torch.Tensor)
        return list(torch.autograd.grad(whole, [x, *hx, *module.parameters()]))

    def batched(module: nn.Module) -> torch.Tensor:
        result = flat(module(x, hx))[0]
        many = torch.eye(result.numel(), dtype=torch.float64).view(-1, *result.shape)
        return torch.autograd.grad(result, x, many, is_grads_batched=True)[0]

    for call in (penalty, batched):
        expected = flat(call(copy.deepcopy(module)))
        for _ in range(3):
            for p, q in zip(flat(call(module)), expected, strict=True):
                torch.testing.assert_close(p, q)
    assert found(module, x, training=True) is not None


def test_frozen_weights_and_what_is_kept_between_calls() -> None:
    module, x = anygate.LSTM(3, 5), torch.randn(6, 2, 3)
    for _ in range(3):
        learn(module, x, None)
    seen = weakref.ref(x.untyped_storage())
    del x
    gc.collect()
    assert seen() is None  # no batch is kept alive
    x = torch.randn(6, 2, 3, requires_grad=True)
    module.requires_grad_(False)
    expected = torch.autograd.grad(copy.deepcopy(module)(x)[0].sum(), x)[0]
    for _ in range(3):
        output = module(x)[0]
        assert torch.equal(torch.autograd.grad(output.sum(), x)[0], expected)
    assert not module(x.detach())[0].requires_grad
