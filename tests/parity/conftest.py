"""The classes that every test of this folder is run on."""

from __future__ import annotations

from typing import Any

import pytest
from truth import (
    ANYGATE,
    FORMULA,
    GRU,
    GRU_FORMULA,
    RELU,
    RNN,
    RNN_RELU,
    TORCH,
    TORCH_GRU,
    TORCH_RNN,
    Kind,
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Only LSTMs have projections and a state c: tests of those are not run on the others."""

    def needless(item: pytest.Item) -> bool:
        parameters = getattr(item, "callspec", None)
        values = [] if parameters is None else list(parameters.params.values())
        others = any(isinstance(v, Kind) and v.family != "LSTM" for v in values)
        return others and ("projected" in item.name or "c0" in values)

    dropped = [item for item in items if needless(item)]
    config.hook.pytest_deselected(items=dropped)
    items[:] = [item for item in items if not needless(item)]


def _each(*kinds: Kind) -> Any:
    return pytest.fixture(params=[pytest.param(k, id=k.name) for k in kinds])


@_each(TORCH, ANYGATE)
def lstm(request: pytest.FixtureRequest) -> Kind:
    """torch.nn.LSTM itself, and anygate.LSTM with its defaults."""
    return request.param  # type: ignore[no-any-return]


@_each(TORCH, ANYGATE, RELU, FORMULA)
def any_lstm(request: pytest.FixtureRequest) -> Kind:
    """nn.LSTM and anygate.LSTM, and anygate.LSTM with other activations."""
    return request.param  # type: ignore[no-any-return]


@_each(ANYGATE, RELU, FORMULA)
def our_lstm(request: pytest.FixtureRequest) -> Kind:
    """For what nn.LSTM itself cannot do, such as vmap or torch.compile in one graph."""
    return request.param  # type: ignore[no-any-return]


@_each(TORCH, ANYGATE, RELU, FORMULA, TORCH_GRU, GRU, GRU_FORMULA, TORCH_RNN, RNN, RNN_RELU)
def any_layer(request: pytest.FixtureRequest) -> Kind:
    """LSTM, GRU and RNN: torch's, ours, and ours with other activations."""
    return request.param  # type: ignore[no-any-return]


@_each(ANYGATE, RELU, FORMULA, GRU, RNN)
def our_layer(request: pytest.FixtureRequest) -> Kind:
    """For what torch's classes themselves cannot do, of all three families."""
    return request.param  # type: ignore[no-any-return]


@_each(TORCH, ANYGATE, TORCH_GRU, GRU, TORCH_RNN, RNN)
def layer(request: pytest.FixtureRequest) -> Kind:
    """torch's class and ours of each family."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(autouse=True)
def _torch_as_it_was() -> Any:
    """Nothing that a test sets in torch reaches the next one."""
    import torch

    dtype = torch.get_default_dtype()
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(dtype)
