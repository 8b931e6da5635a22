"""config, apply, describe, build: what travels as JSON comes back as it was, and nothing else."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import anygate

LEAKY = anygate.CellType(
    "leaky integrator",
    products=("z",),
    states=("h",),
    slots={"candidate": "tanh"},
    vectors={"rate": 0.1},
    lines="h = (1 - rate)*h_before + rate*candidate(z)",
)
TWO_STATES = anygate.CellType(
    "two states",
    products=("z_a", anygate.Product("z_b", input=False)),
    states=("a", "b"),
    slots={"gate": "sigmoid", "candidate": anygate.Activation("mine", "k*tanh(x)", k=0.5)},
    gates=("gate",),
    output="b",
    lines="""a = gate(z_a)*a_before + z_b
             b = candidate(a)""",
)
MINE = anygate.Activation("mine", "where(x > 0, x, a*expm1(x))", a=0.7)
MODULES = {
    "plain": lambda: anygate.LSTM(3, 4),
    "names": lambda: anygate.LSTM(3, 4, 2, activation="relu", gate_activation="hard_sigmoid"),
    "formulas": lambda: anygate.LSTM(3, 4, candidate="x*sigmoid(1.5*x)", cell_output=MINE),
    "parameters": lambda: anygate.LSTM(
        3, 4, candidate="leaky_relu(k=0.2)", forget_gate=MINE(a=0.1)
    ),
    "options": lambda: anygate.LSTM(
        3, 4, peephole=True, coupled=True, clip=3.0, zoneout={"c": 0.25}, recurrent_dropout=0.1
    ),
    "learnt": lambda: anygate.LSTM(3, 4, candidate=MINE, trainable={"candidate.a": "unit"}),
    "norm": lambda: anygate.LSTM(3, 4, layer_norm=True, dtype=torch.float64),
    "sizes": lambda: anygate.LSTM(3, 4, 2, False, True, 0.5, True, 2),
    "gru": lambda: anygate.GRU(3, 4, reset_after=False, candidate="relu"),
    "rnn": lambda: anygate.RNN(3, 4, nonlinearity="relu"),
    "cells": lambda: anygate.LSTMCell(3, 4, activation="softsign", peephole=True),
    "gru cell": lambda: anygate.GRUCell(3, 4, zoneout=0.1),
    "rnn cell": lambda: anygate.RNNCell(3, 4, activation=MINE, trainable=True),
    "own": lambda: anygate.Recurrent(LEAKY, 3, 4, 2, bidirectional=True, candidate="relu"),
    "two states": lambda: anygate.Recurrent(TWO_STATES, 3, 4, engine="eager"),
    "own cell": lambda: anygate.RecurrentCell(LEAKY, 3, 4, clip=2.0),
}


def equal(a: Any, b: Any) -> bool:
    """The same class, cells, options that matter, and parameters' names and shapes."""
    shapes = [{n: p.shape for n, p in m.named_parameters()} for m in (a, b)]
    return bool(type(a) is type(b) and a._design == b._design and shapes[0] == shapes[1])


@pytest.mark.parametrize("name", MODULES)
def test_a_module_comes_back_from_json(name: str) -> None:
    module = MODULES[name]()
    data = json.loads(json.dumps(anygate.describe(module)))
    built = anygate.build(data)
    assert equal(module, built)
    assert anygate.describe(built) == data
    copy.deepcopy(built).load_state_dict(module.state_dict())


@pytest.mark.parametrize("activation", anygate.ACTIVATIONS.values(), ids=lambda a: a.name)
def test_every_activation_comes_back(activation: Any) -> None:
    changed = activation(**{k: v * 0.75 for k, v in activation.parameters.items()})
    for given_one in (activation, changed):
        cell = anygate.RNNCell(1, 1, activation=given_one)
        data = json.loads(json.dumps(anygate.describe(cell)))
        assert isinstance(data["activations"]["candidate"], str)
        assert anygate.build(data).cell == cell.cell


def model(plain: bool) -> nn.ModuleDict:
    """A module of each kind, torch's where there is one or ours with other activations; one stands
    in two places."""
    other = {} if plain else {"activation": MINE}
    home: Any = nn if plain else anygate
    lstm = home.LSTM(3, 4, 2, bidirectional=True, **other)
    made = {
        "lstm": lstm,
        "shared": nn.ModuleDict({"again": lstm}),
        "gru": home.GRU(3, 4, **other),
        "rnn": home.RNN(3, 4, **other),
        "step": home.LSTMCell(3, 4, **other),
        "own": anygate.Recurrent(LEAKY, 3, 4, **({} if plain else {"candidate": "relu"})),
        "head": nn.Linear(4, 1),
    }
    return nn.ModuleDict(made)


def test_a_model_gets_the_cells_of_another() -> None:
    source, target = model(plain=False), model(plain=True)
    data = json.loads(json.dumps(anygate.config(source)))
    before = dict(target.named_parameters())
    done = anygate.apply(target, data)
    assert [e.names[0] for e in done.replaced] == ["lstm", "gru", "rnn", "step", "own"]
    assert done.replaced[0].names == ("lstm", "shared.again")
    assert anygate.config(target) == data
    assert all(before[name] is p for name, p in target.named_parameters())
    target.load_state_dict(source.state_dict())
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(target["lstm"](x)[0], source["lstm"](x)[0], rtol=0, atol=0)
    again = anygate.apply(target, data)
    assert not again.replaced and "already" in str(again)


def test_a_swap_travels_as_json() -> None:
    source, target = model(plain=True), model(plain=True)
    done = anygate.swap(source, "relu", match=["lstm", "step"], peephole=True)
    assert set(done.config["modules"]) == {"lstm", "step"}
    anygate.apply(target, done.to_json())
    assert anygate.config(source) == anygate.config(target)


def test_torchs_modules_are_not_in_it() -> None:
    assert anygate.config(nn.LSTM(3, 4)) == {"anygate_config": 1, "modules": {}}
    with pytest.raises(TypeError, match="swap makes"):
        anygate.describe(nn.LSTM(3, 4))


LSTM = anygate.describe(anygate.LSTM(3, 4))


def changed(path: str, value: Any, base: dict[str, Any] = LSTM) -> dict[str, Any]:
    """A description with one field changed."""
    data = copy.deepcopy(base)
    *above, last = path.split(".")
    place = data
    for name in above:
        place = place[name]
    place[last] = value
    return data


OWN = anygate.describe(anygate.Recurrent(LEAKY, 3, 4))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (7, "the description: an object with class, sizes"),
        ({}, "the description.class is missing"),
        (changed("class", "Transformer"), "class: one of LSTM, GRU"),
        (changed("class", "Recurrent"), "description.sizes.'proj_size' is no field"),
        (changed("sizes.hidden_size", "4"), "sizes.hidden_size: int or list, not '4'"),
        (changed("sizes.hidden_size", True), "sizes.hidden_size: int or list, not True"),
        (changed("sizes.hidden_size", 0), "sizes.hidden_size: from 1 to 1,048,576, not 0"),
        (changed("sizes.hidden_size", 10**1000), "sizes.hidden_size: from 1 to"),
        (changed("sizes.hidden_size", 10**6), "Make the module of such sizes yourself"),
        (changed("sizes.num_layers", 10**6), "num_layers: from 1 to 1,000"),
        (changed("sizes.dropout", 7.0), "dropout should be a number in range"),
        (changed("activations.candidate", 3), "activations.candidate: write a text"),
        (changed("activations.candidate", "rellu"), "candidate: no activation is called 'rellu'"),
        (changed("activations.candidate", {"formula": "k*x"}), "candidate: .*free symbol 'k'"),
        (changed("activations.candidate", {"formula": "x", "code": "1"}), ": 'code' is no"),
        (
            changed("activations.candidate", {"formula": "k*x", "parameters": {"k": 10**400}}),
            "candidate: .*k is too large for float64",
        ),
        (changed("activations.candidate", ["tanh"] * 3), "a list has one activation for each"),
        (
            changed("activations.reset_gate", "tanh"),
            "LSTM has no slot 'reset_gate'; it has: input_gate",
        ),
        (changed("options.clip", "big"), "options.clip: float or int or NoneType, not 'big'"),
        (changed("options.clip", -1.0), "clip must be a positive number"),
        (changed("options.zoneout", {"c": "x"}), "options.zoneout.'c': 'x' has no meaning"),
        (changed("options.trainable", {"k": 3}), "options.trainable.'k': 3 has no meaning"),
        (changed("options.engine", "warp"), "no engine is called 'warp'"),
        (changed("cell", OWN["cell"]), "description.cell: the equations"),
        (changed("cell.lines", ["h = __import__('os')"], OWN), "description.cell: "),
        (changed("cell.lines", ["h = z"] * 65, OWN), "cell.lines has 65 entries; at most 64"),
        (changed("cell.lines", ["h = z" + " " * 3000], OWN), "cell.lines: texts of at most 2,000"),
        (changed("cell.products", [{"name": "z", "input": 1}], OWN), r"products\[0\].input: bool"),
        (changed("cell.slots", {"device": "tanh"}, OWN), "description.cell: "),
    ],
)
def test_what_is_wrong_is_named(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        anygate.build(data)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], "config: an object"),
        ("{", "config: this text is no JSON"),
        ("[" * 100_000, "config: this text is no JSON"),
        ({"anygate_config": 2, "modules": {}}, "version 2 of the form; .* Install a newer one"),
        ({"anygate_config": 1}, "config.modules is missing"),
        ({"anygate_config": 1, "modules": {"rnn": LSTM}}, "rnn: no such module; .*: lstm"),
        ({"anygate_config": 1, "modules": {"gru": LSTM}}, "gru: is a GRU, and the .* a LSTM"),
        ({"anygate_config": 1, "modules": {"lstm": LSTM}}, "has num_layers=2, and the config"),
        ({"anygate_config": 1, "modules": {"head": LSTM}}, "head: no such module"),
    ],
)
def test_a_configuration_that_does_not_fit(config: Any, message: str) -> None:
    target = model(plain=True)
    if "rnn: no such" in message:
        del target["rnn"]
    before = str(target)
    with pytest.raises(ValueError, match=message):
        anygate.apply(target, config)
    assert str(target) == before


def test_what_does_not_fit_is_skipped_if_asked() -> None:
    target = nn.ModuleDict({"a": nn.LSTM(3, 4), "b": nn.GRU(3, 4)})
    relu = changed("activations.candidate", "relu")
    data = {"anygate_config": 1, "modules": {"a": relu, "b": relu, "c": relu}}
    done = anygate.apply(target, data, strict=False)
    assert [e.names for e in done.replaced] == [("a",)]
    assert [e.names for e in done.skipped] == [("b",), ("c",)]


WORDS = st.sampled_from(
    (
        *("class", "LSTM", "Recurrent", "sizes", "hidden_size", "cell", "lines", "h = z", "x**x"),
        *("__import__('os').system('echo')", "tanh", "(" * 50, "max(x, 1e308)", "x" * 3000, "é"),
    )
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    WORDS,
    st.just(10**30),
    st.text(max_size=8),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(), inner, max_size=4)
    ),
    max_leaves=8,
)
PATHS = [
    [*path]
    for base in (LSTM, OWN)
    for path in (
        [(k,) for k in base] + [(k, i) for k in base if isinstance(base[k], dict) for i in base[k]]
    )
]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([LSTM, OWN]), st.lists(st.tuples(st.sampled_from(PATHS), JSON), max_size=3))
def test_a_fuzzed_configuration_is_a_clear_error(base: Any, changes: Any) -> None:
    """Nothing is executed, little time is spent, and what is read is described again as read."""
    data = copy.deepcopy(base)
    for path, value in changes:
        place = data
        for name in path[:-1]:
            place = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[path[-1]] = value
    target = nn.ModuleDict({"it": anygate.Recurrent(LEAKY, 3, 4) if base is OWN else nn.LSTM(3, 4)})
    began = time.process_time()
    message = "no error at all"
    try:
        anygate.apply(target, {"anygate_config": 1, "modules": {"it": data}})
    except ValueError as error:
        message = str(error)
    assert 10 < len(message) < 4_000
    assert time.process_time() - began < 10
