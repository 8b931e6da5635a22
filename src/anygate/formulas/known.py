"""Activations as other libraries have them: nn.ReLU(), F.silu, torch.tanh, jax.nn.gelu.

What is given is compared with what a library that is imported already holds under that name; no
library is imported here. A module's or functools.partial's arguments become the formula's numbers.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

from .activation import Activation
from .errors import FormulaError, short
from .parse import NOT_ELEMENTWISE

__all__ = ["recognise"]

_HOMES = (
    "torch",
    "torch.Tensor",
    "torch.nn.functional",
    "torch._C._nn",
    "torch.special",
    "keras.activations",
    "tf_keras.activations",
    "jax.nn",
    "jax.numpy",
    "numpy",
    "math",
    "scipy.special",
)
"""Modules, and a class, whose functions of one number are known by name."""
_MODULES = "torch.nn.modules.activation"
_IDENTITY = ("torch.nn.modules.linear", "Identity")
_OTHER_NAMES = {
    ("keras.activations", "leaky_relu"): "leaky_relu_keras",
    ("jax.nn", "gelu"): "gelu_tanh",
    ("jax.nn", "relu6"): "relu6",
}
"""Functions of libraries that are another formula than the catalogue's of that name."""
_SAME = {"expit": "sigmoid", "soft_sign": "softsign", "absolute": "abs", "fabs": "abs"}
_UNARY = ("abs", "log1p", "expm1", "sinh", "cosh", "asinh", "arcsinh", "cos")
_FORMULAS = {"arcsinh": "asinh(x)"}
_NUMBERS: dict[str, dict[str, str]] = {
    "hard_tanh": {"min_val": "low", "max_val": "high"},
    "leaky_relu": {"negative_slope": "k"},
    "leaky_relu_keras": {"negative_slope": "k"},
    "elu": {"alpha": "a"},
    "celu": {"alpha": "a"},
    "softplus": {"beta": "beta"},
    "softshrink": {"lambd": "lambd", "threshold": "lambd"},
    "hardshrink": {"lambd": "lambd", "threshold": "lambd"},
    "threshold": {"threshold": "threshold", "value": "value"},
    "squareplus": {"b": "b"},
}
"""Their names of a formula's parameters, by the catalogue's name."""
_IGNORED = ("inplace",)
_REFUSED = {
    "prelu": "its slope is learnt: write activation='prelu', trainable=True",
    "rrelu": "its slope is random in training; its mean, as in evaluation, is 'rrelu'",
    "multiheadattention": "it is no function of one number",
}
_SERIES_THRESHOLD = 20.0
"""torch's Softplus is x itself where beta*x is above its threshold. At 20, the default, that is
2e-9 from the formula; what is below is written into it."""


def recognise(spec: Any, named: Callable[[str], Activation | None]) -> Activation:
    """The activation that a function or module of torch, Keras, JAX, NumPy or `math` is.

    named: the catalogue's activation of a name, None for an unknown one.
    Raises FormulaError for any other object, with what to write instead.
    """
    given: dict[str, Any] = {}
    function = spec
    if isinstance(spec, functools.partial):
        if spec.args:
            raise _unknown(spec, "give the arguments of functools.partial by name")
        function, given = spec.func, dict(spec.keywords)
    if _is_torchs(function):
        return _of_class(function.__name__, given, named, spec)
    if _is_torchs(type(function)) and not given:
        return _of_module(function, named)
    own = str(getattr(function, "__name__", "")).removeprefix("special_")
    name = own.rstrip("_")
    for home in _HOMES:
        if name and _object_named(home, own) is function:
            name = _SAME.get(name, name)
            return _activation_of_name(_OTHER_NAMES.get((home, name), name), given, named, spec)
    raise _unknown(spec)


def _is_torchs(kind: Any) -> bool:
    """A class of torch.nn that is an activation."""
    if not isinstance(kind, type):
        return False
    return kind.__module__ == _MODULES or (kind.__module__, kind.__name__) == _IDENTITY


def _object_named(home: str, name: str) -> Any:
    """The object that a module, or torch.Tensor, holds under a name; None where it is not
    imported."""
    module: Any = sys.modules.get(home.removesuffix(".Tensor"))
    if home.endswith(".Tensor"):
        module = getattr(module, "Tensor", None)
    return None if module is None else getattr(module, name, None)


def _of_class(
    kind: str, given: Mapping[str, Any], named: Callable[[str], Activation | None], spec: Any
) -> Activation:
    if kind == "Threshold" and not {"threshold", "value"} <= given.keys():
        raise _unknown(spec, "give an object such as nn.Threshold(0.1, 20.0), not its class")
    return _activation_of_name(kind, given, named, spec)


def _of_module(module: Any, named: Callable[[str], Activation | None]) -> Activation:
    """The activation that a module of torch.nn is; its attributes are the arguments."""
    kind = type(module).__name__
    activation = named(kind)
    wanted = _NUMBERS.get(activation.name, {}) if activation else {}
    attributes = (*wanted, "approximate", *(["threshold"] if kind == "Softplus" else []))
    given = {name: getattr(module, name) for name in attributes if hasattr(module, name)}
    return _activation_of_name(kind, given, named, module)


def _activation_of_name(
    name: str, given: Mapping[str, Any], named: Callable[[str], Activation | None], spec: Any
) -> Activation:
    if name.lower() in _REFUSED:
        raise _unknown(spec, _REFUSED[name.lower()])
    if name.lower() in NOT_ELEMENTWISE or name.lower().startswith("softm"):
        why = NOT_ELEMENTWISE.get(name.lower(), "it divides by a sum over all units")
        raise _unknown(spec, f"it is not elementwise ({why})")
    given = {key: value for key, value in given.items() if key not in _IGNORED}
    activation = named(name)
    if activation is None and name in _UNARY:
        activation = Activation(name, _FORMULAS.get(name, f"{name}(x)"))
    if activation is None:
        raise _unknown(spec)
    if activation.name in ("gelu", "gelu_tanh"):
        wants_tanh = given.pop("approximate", activation.name == "gelu_tanh")
        return _need(named, "gelu_tanh" if wants_tanh in (True, "tanh") else "gelu")
    limit = given.pop("threshold", _SERIES_THRESHOLD) if activation.name == "softplus" else None
    numbers = _NUMBERS.get(activation.name, {})
    if strange := [key for key in given if key not in numbers]:
        raise _unknown(spec, f"its argument {strange[0]} has no place in '{activation.formula}'")
    found = activation(**{numbers[key]: float(value) for key, value in given.items()})
    if limit is not None and limit < _SERIES_THRESHOLD:
        beta = found.parameters["beta"]
        formula = "where(beta*x > threshold, x, softplus(beta*x)/beta)"
        numbers_too = {"beta": beta, "threshold": float(limit)}
        return Activation("softplus_threshold", formula, parameters=numbers_too)
    return found


def _need(named: Callable[[str], Activation | None], name: str) -> Activation:
    found = named(name)
    assert found is not None
    return found


def _unknown(spec: Any, why: str = "") -> FormulaError:
    what = getattr(spec, "__name__", "") or type(spec).__name__
    if why:
        return FormulaError(f"{short(what)}: {why}")
    kind = "a lambda" if what == "<lambda>" else f"{short(what)} ({type(spec).__name__})"
    return FormulaError(
        "an activation is a name, a formula, a SymPy expression, an Activation, or a known "
        f"function or module of torch, Keras or JAX, not {kind}. A Python function cannot be "
        "differentiated here: write its formula, such as 'x*sigmoid(x)'"
    )
