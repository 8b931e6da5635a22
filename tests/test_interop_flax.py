"""Flax's and Equinox's cells in and out: trees of arrays, and the libraries themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from anygate import GRU, LSTM, RNN
from anygate.interop import equinox, flax

MODULES = [
    LSTM(3, 4, activation="relu", gate_activation="hard_sigmoid"),
    LSTM(3, 4, bidirectional=True),
    GRU(3, 4, activation="gelu"),
    RNN(3, 4, activation="softsign"),
    LSTM(3, 4, bias=False),
]


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), expected.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nnx", [False, True, "optimized"])
@pytest.mark.parametrize("module", MODULES, ids=str)
def test_out_and_in_again(module: Any, nnx: Any) -> None:
    if isinstance(module, GRU) and nnx:
        with pytest.raises(ValueError, match="no bias for h"):
            flax.to_params(module, nnx)
        with torch.no_grad():
            module = GRU(3, 4, activation="gelu")
            module.bias_hh_l0[8:] = 0
    slots = module.cell.slots
    gate = slots.get("input_gate", slots.get("reset_gate", "sigmoid"))
    params = {"params": flax.to_params(module, nnx)}
    again = flax.from_params(params, slots["candidate"], gate, batch_first=False)
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(again(x)[0], module(x)[0])


def test_directions_that_are_no_one_layer() -> None:
    for other in (LSTM(3, 5), GRU(3, 4)):
        tree = {
            "forward_rnn": {"cell": flax.to_params(LSTM(3, 4))},
            "backward_rnn": {"cell": flax.to_params(other)},
        }
        with pytest.raises(ValueError, match="read each by itself"):
            flax.from_params(tree)
        (name, cell) = list(tree.items())[1]
        assert flax.from_params(cell)(torch.randn(2, 6, 3))[0].shape[:2] == (2, 6), name


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "there are: nothing"),
        ({"hf": {"kernel": np.zeros((2, 2))}, "hn": {"kernel": np.zeros((2, 2))}}, "hf, hn"),
        ({"i": {"kernel": np.zeros((3, 4))}, "h": {"kernel": np.zeros((4, 4), int)}}, "int64"),
        ({"i": {"kernel": np.zeros((3, 5))}, "h": {"kernel": np.zeros((4, 4))}}, "weights of x"),
        (
            {
                "i": {"kernel": np.zeros((3, 4)), "x": np.zeros(2)},
                "h": {"kernel": np.zeros((4, 4))},
            },
            "i has other arrays",
        ),
    ],
)
def test_other_trees_are_refused(params: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        flax.from_params(params)


def test_unknown_functions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"none of jax\.nn's"):
        flax.from_params(flax.to_params(LSTM(3, 4)), activation=np.tanh)


def test_linen() -> None:
    """A sequence through linen's cells and ours, both ways."""
    jax = pytest.importorskip("jax")
    linen = pytest.importorskip("flax.linen")
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    key = jax.random.key(0)
    kinds: list[Any] = [
        (linen.LSTMCell, LSTM, {"activation_fn": jax.nn.silu, "gate_fn": jax.nn.hard_sigmoid}),
        (linen.OptimizedLSTMCell, LSTM, {"activation_fn": jax.nn.gelu}),
        (linen.GRUCell, GRU, {"activation_fn": jax.nn.soft_sign}),
        (linen.SimpleCell, RNN, {"activation_fn": jax.nn.relu}),
    ]
    for kind, _, functions in kinds:
        rnn = linen.RNN(kind(4, **functions))
        variables = rnn.init(key, x)
        chosen = {n.removesuffix("_fn"): f for n, f in functions.items()}
        chosen = {{"gate": "gate_activation"}.get(n, n): f for n, f in chosen.items()}
        module = flax.from_params(variables, **chosen)
        close(rnn.apply(variables, x), module(torch.from_numpy(x))[0])
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_()
        again = {"params": {"cell": flax.to_params(module)}}
        close(rnn.apply(again, x), module(torch.from_numpy(x))[0])


def test_nnx() -> None:
    jax = pytest.importorskip("jax")
    nnx = pytest.importorskip("flax.nnx")
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    kinds = [
        (nnx.LSTMCell, True),
        (nnx.OptimizedLSTMCell, "optimized"),
        (nnx.GRUCell, True),
        (nnx.SimpleCell, True),
    ]
    for kind, layout in kinds:
        cell = kind(3, 4, rngs=nnx.Rngs(0), activation_fn=jax.nn.relu)
        rnn = nnx.RNN(cell)
        module = flax.from_params(nnx.to_pure_dict(nnx.state(cell, nnx.Param)), "relu")
        close(rnn(x), module(torch.from_numpy(x))[0])
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.normal_()
                if kind is nnx.GRUCell and name == "bias_hh_l0":
                    parameter.zero_()
        nnx.update(cell, flax.to_params(module, layout))
        close(rnn(x), module(torch.from_numpy(x))[0])


def test_equinox_arrays() -> None:
    for module in (LSTM(3, 4), GRU(3, 4), GRU(3, 4, bias=False)):
        again = equinox.from_cell(equinox.to_arrays(module))
        x = torch.randn(5, 2, 3)
        torch.testing.assert_close(again(x)[0], module(x)[0])
    with pytest.raises(ValueError, match="tanh and sigmoid"):
        equinox.to_arrays(LSTM(3, 4, activation="relu"))
    with pytest.raises(ValueError, match="no weight_ih"):
        equinox.from_cell({})


def test_equinox() -> None:
    jax = pytest.importorskip("jax")
    eqx = pytest.importorskip("equinox")
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    for kind, ours in ((eqx.nn.LSTMCell, LSTM), (eqx.nn.GRUCell, GRU)):
        cell = kind(3, 4, key=jax.random.key(0))
        arrays = equinox.to_arrays(ours(3, 4))
        names = list(arrays)
        changed = eqx.tree_at(
            lambda c, names=names: [getattr(c, n) for n in names], cell, list(arrays.values())
        )
        for one in (cell, changed):
            state = np.zeros(4, np.float32)
            state = (state, state) if ours is LSTM else state
            outputs = []
            for row in x:
                state = one(row, state)
                outputs.append(np.asarray(state[0] if ours is LSTM else state))
            close(np.stack(outputs), equinox.from_cell(one)(torch.from_numpy(x))[0])
