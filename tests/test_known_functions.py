"""Functions and modules of other libraries, taken for the activations that they are."""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

import anygate
from anygate.formulas import FormulaError, resolve

POINTS = torch.cat(
    [torch.linspace(-9, 9, 2001), torch.tensor([-60.0, 60.0, 19.99, 20.01])]
).double()

MODULES = [
    *(nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.Tanh(), nn.Sigmoid(), nn.SiLU(), nn.Mish()),
    *(nn.GELU(), nn.GELU(approximate="tanh"), nn.Softsign(), nn.Softplus(), nn.SELU(), nn.ELU()),
    *(nn.CELU(), nn.LeakyReLU(), nn.Hardtanh(), nn.Hardsigmoid(), nn.Hardswish(), nn.LogSigmoid()),
    *(nn.Tanhshrink(), nn.Softshrink(), nn.Hardshrink(), nn.Threshold(0.3, -2.0), nn.Identity()),
]
FUNCTIONS = [
    *(torch.tanh, torch.sigmoid, torch.relu, torch.selu, torch.celu, torch.exp, torch.sin),
    *(torch.erf, torch.atan, torch.abs, torch.Tensor.relu, torch.Tensor.tanh, torch.special.expit),
    *(F.relu, F.silu, F.gelu, F.elu, F.celu, F.selu, F.mish, F.softplus, F.softsign, F.leaky_relu),
    *(F.hardtanh, F.hardsigmoid, F.hardswish, F.logsigmoid, F.tanhshrink, F.softshrink),
    *(F.hardshrink, F.relu6, torch.nn.functional.sigmoid, torch.asinh),
    functools.partial(F.leaky_relu, negative_slope=0.3),
    functools.partial(F.hardtanh, min_val=-2.0, max_val=0.5),
    functools.partial(F.gelu, approximate="tanh"),
]


def check(known: Any, function: Any, atol: float = 0.0) -> None:
    """The activation equals the function on dense points."""
    activation = resolve(known)
    values = function(POINTS.clone())
    expected = torch.as_tensor(np.asarray(values))
    found = torch.as_tensor(np.asarray(activation(POINTS.clone())))
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=max(atol, 1e-15))


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_is_its_formula(module: nn.Module) -> None:
    check(module, module, 2.1e-9 if isinstance(module, nn.Softplus) else 0.0)


@pytest.mark.parametrize(
    "function", FUNCTIONS, ids=lambda f: re.sub(" (of type object )?at 0x[0-9a-f]+", "", str(f))
)
def test_a_function_is_its_formula(function: Any) -> None:
    check(function, function, 2.1e-9 if function is F.softplus else 0.0)


NUMBER = st.floats(0.0625, 4, width=16)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 8), NUMBER, NUMBER)
def test_a_modules_numbers_are_the_formulas(which: int, a: float, b: float) -> None:
    makers = [
        lambda: nn.LeakyReLU(a),
        lambda: nn.ELU(a),
        lambda: nn.CELU(a),
        lambda: nn.Hardtanh(-a, b),
        lambda: nn.Softplus(a, b),
        lambda: nn.Softplus(a, 20 + b),
        lambda: nn.Softshrink(a),
        lambda: nn.Hardshrink(a),
        lambda: nn.Threshold(a - 2, b - 2),
    ]
    module = makers[which]()
    check(module, module, 2.1e-9 / a if isinstance(module, nn.Softplus) else 0.0)


@pytest.mark.parametrize("kind", [nn.ReLU, nn.ELU, nn.Hardtanh, nn.GELU, nn.Softplus, nn.Hardswish])
def test_a_class_is_its_default(kind: Any) -> None:
    assert resolve(kind) == resolve(kind())


@pytest.mark.parametrize("name", ["tanh", "exp", "sin", "arctan", "abs", "arcsinh"])
def test_numpys_functions(name: str) -> None:
    function = getattr(np, name)
    check(function, lambda x: function(x.numpy()))


def test_the_standard_librarys() -> None:
    for function in (math.tanh, math.erf, math.sin, math.exp):
        for x in (-2.5, 0.0, 0.3):
            assert resolve(function).value(x) == pytest.approx(function(x), rel=1e-15)


def test_jaxs_functions() -> None:
    jax = pytest.importorskip("jax")
    names = "relu relu6 sigmoid softplus soft_sign silu swish log_sigmoid leaky_relu hard_sigmoid"
    names += " hard_silu hard_swish hard_tanh elu celu selu gelu squareplus mish identity"
    names += " sparse_plus sparse_sigmoid"
    points = np.linspace(-6, 6, 241, dtype=np.float32)
    for name in names.split():
        if hasattr(jax.nn, name):
            function = getattr(jax.nn, name)
            np.testing.assert_allclose(
                np.asarray(resolve(function)(points.astype(np.float64))),
                np.asarray(function(points)),
                rtol=2e-5,
                atol=2e-6,
                err_msg=name,
            )
    bound = functools.partial(jax.nn.gelu, approximate=False)
    assert resolve(bound) == anygate.ACTIVATIONS["gelu"]
    assert resolve(jax.numpy.tanh) == anygate.ACTIVATIONS["tanh"]


class Mine(nn.ReLU):
    """A subclass, whose own code may do anything."""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda x: x, "not a lambda.*write its formula"),
        (nn.PReLU(), r"its slope is learnt: write activation='prelu', trainable=True"),
        (nn.RReLU(), "its slope is random"),
        (nn.Softmax(-1), "not elementwise"),
        (nn.GLU(), "not elementwise"),
        (torch.softmax, "not elementwise"),
        (F.glu, "not elementwise"),
        (nn.Threshold, "give an object such as"),
        (functools.partial(F.leaky_relu, 0.2), "by name"),
        (functools.partial(F.relu, slope=0.2), "its argument slope has no place"),
        (nn.Linear(3, 3), "known function or module"),
        (Mine(), "known function or module"),
        (torch.add, "known function or module"),
        (object(), "known function or module"),
        (["relu", "tanh"], "one activation is wanted here"),
    ],
)
def test_what_is_not_known_is_refused_with_the_remedy(given: Any, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        resolve(given)


def test_wherever_an_activation_is_taken() -> None:
    x = torch.randn(5, 2, 3)
    torch.manual_seed(0)
    given_one = anygate.LSTM(3, 4, activation=nn.LeakyReLU(0.2), gate_activation=F.hardsigmoid)
    torch.manual_seed(0)
    named = anygate.LSTM(3, 4, activation="leaky_relu(k=0.2)", gate_activation="hard_sigmoid")
    assert torch.equal(given_one(x)[0], named(x)[0])
    assert given_one._design == named._design
    model = nn.ModuleDict({"rnn": nn.LSTM(3, 4, bidirectional=True)})
    anygate.swap(model, {"forward": nn.ReLU(), "backward": [torch.tanh]})
    assert "activation=[relu, tanh]" in str(model)
    assert anygate.init.gain(nn.ReLU()) == anygate.init.gain("relu")
    assert anygate.sheet(F.silu) == anygate.sheet("silu")
