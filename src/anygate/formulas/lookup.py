"""From what a user writes (a name, a formula, an Activation) to an Activation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import sympy
from sympy import Expr

from .activation import Activation
from .catalogue import ACTIVATIONS
from .errors import FormulaError, short
from .exact import substitute
from .known import recognise
from .parse import MAX_LENGTH, NOT_ELEMENTWISE, nearest, parse
from .primitives import VARIABLE

__all__ = ["functions", "names", "resolve"]

_WITH_PARAMETERS = re.compile(r"([A-Za-z]\w*)\s*\(((?:\s*[A-Za-z]\w*\s*=[^=,()]+,?)+)\)")


@lru_cache(maxsize=1)
def names() -> dict[str, Activation]:
    """Every name and alias of the catalogue."""
    found: dict[str, Activation] = {}
    for activation in ACTIVATIONS.values():
        for name in (activation.name, *activation.aliases):
            if name in found:
                raise ValueError(f"two activations of the catalogue are called {name}")
            found[name] = activation
    return found


def resolve(spec: Any) -> Activation:
    """The Activation that is meant by a name ("relu"), a name with parameters
    ("leaky_relu(k=0.2)"), a formula ("x*sigmoid(x)"), a SymPy expression, an Activation, or a
    function or module of torch, Keras or JAX that is one of those known (nn.ReLU(), F.silu).

    Raises FormulaError, for an unknown name with the nearest known ones.
    """
    if isinstance(spec, Activation):
        return spec
    if isinstance(spec, str):
        return _from_text(" ".join(spec.split()))  # a formula may take several lines
    if isinstance(spec, sympy.Basic) or (
        isinstance(spec, int | float) and not isinstance(spec, bool)
    ):
        return _from_sympy(sympy.sympify(spec))
    if isinstance(spec, list | tuple | Mapping):
        raise FormulaError(
            "one activation is wanted here; a list (one for each layer) or a dict (one for each "
            "direction) is for a slot of LSTM, GRU, RNN and Recurrent"
        )
    return recognise(spec, lambda name: names().get(_key(name)))


def _from_sympy(expression: Expr) -> Activation:
    nameless = Activation("formula", expression)  # sizes are bounded there
    name = str(expression)
    if len(name) > MAX_LENGTH:
        raise FormulaError(
            f"the formula is {len(name):,} characters long, too long for a name: "
            "give it one with Activation('name', expression)"
        )
    return Activation(name, nameless.expression)


@lru_cache(maxsize=512)
def _from_text(text: str) -> Activation:
    known = names()
    key = _key(text)
    if key in known:
        return known[key]
    if match := _WITH_PARAMETERS.fullmatch(text):
        name = _key(match[1])
        if name in known:
            return known[name](**_parameters(match[1], match[2]))
    if text.isidentifier() and text not in ("x", "z", "pi", "e"):
        raise FormulaError(_unknown(text))
    expression = parse(text, functions())
    _refuse_free_symbols(text, expression)
    _refuse_number_for_parameter(text, expression)
    return Activation(text, expression)


def _key(name: str) -> str:
    """relu, ReLU, LeakyReLU and leaky-relu are found whatever the capitals and hyphens."""
    known = names()
    for guess in (name, name.lower(), name.lower().replace("-", "_").replace(" ", "_")):
        if guess in known:
            return guess
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    return snake if snake in known else name


def _parameters(name: str, text: str) -> dict[str, float]:
    values = {}
    for part in filter(str.strip, text.split(",")):
        key, _, number = part.partition("=")
        value = parse(number)
        if not value.is_number:
            raise FormulaError(f"{name}: the parameter {key.strip()} must be a number")
        values[key.strip()] = float(value)
    return values


def _unknown(name: str) -> str:
    if name in NOT_ELEMENTWISE:
        return (
            f"{name} is not elementwise ({NOT_ELEMENTWISE[name]}), so it cannot be an "
            "activation of a unit; apply it to the LSTM's output instead"
        )
    near = nearest(_key(short(name)), names(), cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return (
        f"no activation is called '{short(name)}'.{hint} 'anygate list' shows all; a formula is "
        "written with x, such as 'x*sigmoid(x)'"
    )


def _refuse_free_symbols(text: str, expression: Expr) -> None:
    free = sorted({s.name for s in expression.free_symbols} - {VARIABLE.name})
    if not free:
        return
    near = nearest(free[0], names())
    raise FormulaError(
        f"the formula '{short(text)}' has the free symbol '{short(free[0])}' without a default"
        + (f" (did you mean {near[0]}(x)?)" if near else "")
        + f"; write its number, or Activation('name', '{short(text)}', {short(free[0])}=1.0)"
    )


_CALL = re.compile(r"([A-Za-z]\w*)\s*\(([^()=,]*)\)")


def _refuse_number_for_parameter(text: str, expression: Expr) -> None:
    """leaky_relu(0.2) is the value at 0.2, a constant; who writes it means leaky_relu(k=0.2)."""
    match = _CALL.fullmatch(text)
    activation = names().get(match[1]) if match else None
    if match and activation and activation.parameters and not expression.has(VARIABLE):
        hint = f"{match[1]}({next(iter(activation.parameters))}={match[2].strip()})"
        raise FormulaError(
            f"'{short(text)}' is a number, the value of {match[1]} at that point, not an "
            f"activation; name the parameter: {short(hint)}"
        )


@lru_cache(maxsize=1)
def functions() -> dict[str, Callable[..., Expr]]:
    """Every catalogue entry as a function inside formulas: x*relu(x)."""
    return {name: _callable(activation) for name, activation in names().items()}


def _callable(activation: Activation) -> Callable[..., Expr]:
    def apply(argument: Expr, **parameters: Any) -> Expr:
        bound = activation(**{k: float(v) for k, v in parameters.items()})
        return substitute(bound.closed, {VARIABLE: argument})

    return apply
