"""ONNX's eleven activation functions and ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from sympy import Expr, Symbol

from ...formulas import ACTIVATIONS, Activation
from ...formulas.primitives import VARIABLE

__all__ = ["Function", "function_of", "packed", "unpack"]

_KEYS = ("alpha", "beta")


@dataclass(frozen=True)
class _Entry:
    """ours: the activation's name. keys: its parameters in the order alpha, beta. usual: their
    values where a file gives none; None where ONNX states none, or readers differ."""

    ours: str
    keys: tuple[str, ...] = ()
    usual: tuple[float | None, ...] = ()


_TABLE = {
    "Relu": _Entry("relu"),
    "Tanh": _Entry("tanh"),
    "Sigmoid": _Entry("sigmoid"),
    "Softsign": _Entry("softsign"),
    "Softplus": _Entry("softplus"),
    "Affine": _Entry("affine", ("alpha", "beta"), (None, None)),
    "LeakyRelu": _Entry("leaky_relu", ("k",), (0.01,)),
    "ThresholdedRelu": _Entry("thresholded_relu", ("alpha",), (None,)),
    "ScaledTanh": _Entry("scaled_tanh", ("alpha", "beta"), (None, None)),
    "HardSigmoid": _Entry("hard_sigmoid_onnx", ("alpha", "beta"), (0.2, 0.5)),
    "Elu": _Entry("elu", ("a",), (1.0,)),
}
_BY_WORD = {name.lower(): (name, entry) for name, entry in _TABLE.items()}


@dataclass(frozen=True)
class Function:
    """A function of ONNX's list with its numbers: alpha, or alpha and beta, or none."""

    name: str
    values: tuple[float, ...] = ()


def function_of(activation: Activation) -> Function | None:
    """The same function in ONNX's list; None if it has none. Parameters may have other names, and
    a formula that is linear in x is Affine."""
    for name, entry in _TABLE.items():
        template = ACTIVATIONS[entry.ours]
        if not entry.keys and activation.closed == template.closed:
            return Function(name)
        if not entry.keys or len(entry.keys) != len(activation.parameters):
            continue
        for own in permutations(activation.parameters):
            names = {
                Symbol(a, real=True): Symbol(b, real=True)
                for a, b in zip(own, entry.keys, strict=True)
            }
            if activation.expression.xreplace(names) == template.expression:
                return Function(name, tuple(activation.parameters[key] for key in own))
    return _linear(activation.closed)


def _linear(closed: Expr) -> Function | None:
    alpha = closed.coeff(VARIABLE, 1)
    beta = closed.coeff(VARIABLE, 0)
    if alpha.free_symbols or beta.free_symbols or closed != alpha * VARIABLE + beta:
        return None
    return Function("Affine", (float(alpha), float(beta)))


def packed(functions: Sequence[Function]) -> dict[str, list[str] | list[float]]:
    """The attributes of a node: only functions that have an alpha or a beta stand in its list."""
    found: dict[str, list[str] | list[float]] = {"activations": [f.name for f in functions]}
    for place, key in enumerate(_KEYS):
        values = [f.values[place] for f in functions if len(f.values) > place]
        if values:
            found[f"activation_{key}"] = values
    return found


def unpack(
    names: Sequence[str], alphas: Sequence[float], betas: Sequence[float]
) -> list[Activation]:
    """The activations of a node's attributes. Raises ValueError for an unknown function, a number
    that is missing and has no agreed value, and numbers that are left over."""
    left = (list(alphas), list(betas))
    found = []
    for word in names:
        if word.lower() not in _BY_WORD:
            known = ", ".join(_TABLE)
            raise ValueError(f"ONNX has no activation called {word!r:.60}; it has: {known}")
        name, entry = _BY_WORD[word.lower()]
        values = {}
        for place, key in enumerate(entry.keys):
            value = left[place].pop(0) if left[place] else entry.usual[place]
            if value is None:
                raise ValueError(
                    f"{name} has no activation_{_KEYS[place]}, and readers of ONNX take different "
                    "values for one that is missing"
                )
            values[key] = float(value)
        activation = ACTIVATIONS[entry.ours]
        found.append(activation(**values) if values else activation)
    for place, key in enumerate(_KEYS):
        if left[place]:
            raise ValueError(f"activation_{key} has {len(left[place])} numbers too many")
    return found
