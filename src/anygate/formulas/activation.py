"""Activation: a formula and its parameters, as frozen data. Never subclassed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any

import sympy
from sympy import Expr

from .errors import FormulaError, short
from .normalise import normalise
from .parse import MAX_LENGTH, parse
from .precise import PRECISE
from .primitives import VARIABLE
from .program import Program, evaluate, lower

__all__ = ["Activation"]

_DIGITS = 30


class Activation:
    """An elementwise function f(x; parameters) that any slot of an LSTM accepts.

    name: what it is called. expression: formula text ("where(x > 0, x, a*expm1(x))") or a SymPy
    expression; x (or z) is the variable, every other symbol a parameter that needs a default.
    source: where the formula comes from. note: traps, such as other functions of the same name.
    aliases: other names. The rest are the parameters with their defaults.

        elu = Activation("elu", "where(x > 0, x, a*expm1(x))", a=1.0)
        elu(a=0.5)                # the same formula with another parameter
        elu.value(-1.0)           # -0.632...
        elu.derivative()          # the Activation of its derivative

    Immutable, hashable and picklable. Raises FormulaError for a formula that cannot be used.
    """

    name: str
    expression: Expr
    source: str
    note: str
    aliases: tuple[str, ...]

    def __init__(
        self,
        name: str,
        expression: str | Expr,
        /,
        *,
        source: str = "",
        note: str = "",
        aliases: tuple[str, ...] = (),
        **parameters: float,
    ) -> None:
        _check_name(name)
        read = parse(expression) if isinstance(expression, str) else normalise(expression)
        values = {key: _number(name, key, value) for key, value in parameters.items()}
        self._set(name, read, source, note, tuple(aliases), values, values)
        free = {s.name for s in read.free_symbols} - {VARIABLE.name}
        if missing := sorted(free - values.keys()):
            raise FormulaError(
                f"'{name}': the formula has the free symbol '{missing[0]}' without a default; "
                f"give one, as in Activation({name!r}, ..., {missing[0]}=1.0), "
                "or write the number itself"
            )
        if unused := sorted(values.keys() - free):
            raise FormulaError(f"'{name}': the parameter '{unused[0]}' is not in the formula")
        _ = self.program  # a formula or derivative outside the vocabulary is refused here
        if values:
            _check_parameters(self, values)

    def _set(
        self,
        name: str,
        expression: Expr,
        source: str,
        note: str,
        aliases: tuple[str, ...],
        parameters: Mapping[str, float],
        defaults: Mapping[str, float],
    ) -> None:
        fields = {
            "name": name,
            "expression": expression,
            "source": source,
            "note": note,
            "aliases": aliases,
            "parameters": MappingProxyType(dict(parameters)),
            "_defaults": MappingProxyType(dict(defaults)),
        }
        for key, value in fields.items():
            object.__setattr__(self, key, value)

    parameters: Mapping[str, float]
    _defaults: Mapping[str, float]

    def _like(self, **changes: Any) -> Activation:
        keys = ("name", "expression", "source", "note", "aliases")
        fields: dict[str, Any] = {key: getattr(self, key) for key in keys}
        fields |= {"parameters": self.parameters, "defaults": self._defaults}
        new = object.__new__(Activation)
        new._set(**(fields | changes))
        return new

    def __setattr__(self, key: str, value: Any) -> None:
        raise AttributeError(f"an Activation is frozen; make another one instead of setting {key}")

    def __delattr__(self, key: str) -> None:
        raise AttributeError(f"an Activation is frozen; {key} cannot be deleted")

    def _key(self) -> tuple[Any, ...]:
        return self.name, self.expression, tuple(self.parameters.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Activation) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __reduce__(self) -> Any:
        fields = (self.name, self.expression, self.source, self.note, self.aliases)
        return _restore, (*fields, dict(self.parameters), dict(self._defaults))

    def __call__(self, *values: Any, **parameters: float) -> Activation:
        """The same formula with other parameters: leaky_relu(k=0.2)."""
        if values:
            raise TypeError(
                f"call {self.name} with named parameters only; "
                f"{self.name}.value({values[0]!r}) computes a value"
            )
        for key in parameters:
            if key not in self.parameters:
                has = ", ".join(self.parameters) or "none"
                raise FormulaError(f"{self.name} has no parameter '{key}'; it has: {has}")
        values_ = {key: _number(self.name, key, value) for key, value in parameters.items()}
        new = self._like(parameters={**self.parameters, **values_})
        _check_parameters(new, values_)
        return new

    @property
    def label(self) -> str:
        """The name, with the parameters that differ from their defaults: leaky_relu(k=0.2)."""
        changed = {k: v for k, v in self.parameters.items() if v != self._defaults[k]}
        inner = ", ".join(f"{k}={v:g}" if float(f"{v:g}") == v else f"{k}={v!r}"
                          for k, v in changed.items())  # fmt: skip
        return f"{self.name}({inner})" if inner else self.name

    @property
    def formula(self) -> str:
        """The formula as text that `parse` reads back."""
        return str(self.expression)

    @cached_property
    def closed(self) -> Expr:
        """The expression with the parameters' numbers in it."""
        return _closed(self.expression, self.parameters)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Inputs of `program`: x, then the parameters."""
        return (VARIABLE.name, *self.parameters)

    @property
    def program(self) -> Program:
        """Value ("value"), derivative ("derivative") and derivatives by each parameter
        ("d_NAME") from x and the parameters, with common parts computed once."""
        return _program(self.expression, self.inputs)

    @property
    def value_program(self) -> Program:
        """The value alone ("value") from x and the parameters."""
        return _value_program(self.expression, self.inputs)

    def derivative_by(self, parameter: str) -> Activation:
        """The derivative by a parameter, as an Activation of x."""
        expression = self.expression.diff(sympy.Symbol(parameter, real=True))
        return self._derived(f"d {self.name}/d {parameter}", expression)

    def derivative(self, order: int = 1) -> Activation:
        """The derivative by x as an Activation with the same parameters; order >= 0."""
        if order < 0:
            raise ValueError("the order of a derivative is 0 or more")
        return self._derived(self.name + "'" * order, differentiate(self.expression, order))

    def _derived(self, name: str, expression: Expr) -> Activation:
        used = {s.name for s in expression.free_symbols}
        return self._like(
            name=name,
            expression=expression,
            note="",
            aliases=(),
            parameters={k: v for k, v in self.parameters.items() if k in used},
            defaults={k: v for k, v in self._defaults.items() if k in used},
        )

    def value(self, x: float) -> float:
        """f(x), correct to the last digit of float64 (slow: 30 digits inside)."""
        from mpmath import mp

        with mp.workdps(_DIGITS):
            return float(self.precise(x))

    def precise(self, x: Any) -> Any:
        """f(x) as an mpmath number at mpmath's working precision."""
        from mpmath import mp

        values = {"x": mp.mpf(x), **{k: mp.mpf(v) for k, v in self.parameters.items()}}
        return evaluate(self.value_program, PRECISE, values)["value"]

    def latex(self) -> str:
        """The formula in LaTeX, with the parameters as symbols."""
        return str(sympy.latex(self.expression))

    def latex_closed(self) -> str:
        """The formula in LaTeX, with the parameters' numbers."""
        return str(sympy.latex(self.closed))

    def __repr__(self) -> str:
        constants = ", ".join(f"{k}={v!r}" for k, v in self.parameters.items())
        return f"Activation({self.name!r}, {self.formula!r}{', ' + constants if constants else ''})"

    def __str__(self) -> str:
        """The label; of a derivative the formula."""
        derived = self.name.endswith("'") or self.name.startswith("d ")
        if not derived:
            return self.label
        numbers = ", ".join(f"{k} = {v:g}" for k, v in self.parameters.items())
        return f"{self.formula} with {numbers}" if numbers else self.formula

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def _repr_html_(self) -> str:
        from .display import html

        return html(self)


def differentiate(expression: Expr, order: int = 1) -> Expr:
    """The derivative by x, `order` times; one at a time, because SymPy factors the result of
    a higher order and so makes 0*inf of a harmless tail."""
    for _ in range(order):
        expression = expression.diff(VARIABLE)
    return expression


@lru_cache(maxsize=1024)
def _program(expression: Expr, inputs: tuple[str, ...]) -> Program:
    outputs = {"value": expression, "derivative": differentiate(expression)}
    for name in inputs[1:]:
        outputs[f"d_{name}"] = expression.diff(sympy.Symbol(name, real=True))
    try:
        return lower(outputs, inputs)
    except ValueError as error:
        raise FormulaError(str(error)) from None


@lru_cache(maxsize=1024)
def _value_program(expression: Expr, inputs: tuple[str, ...]) -> Program:
    return lower({"value": expression}, inputs)


def _number(name: str, key: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise FormulaError(f"{name}: the parameter {key} must be a number, not {value!r}") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise FormulaError(f"{name}: the parameter {key} must be finite, not {value!r}")
    return number


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name.strip():
        raise FormulaError(f"an activation's name is a text that is not empty, not {name!r:.80}")
    if len(name) > MAX_LENGTH:
        raise FormulaError(f"an activation's name has at most {MAX_LENGTH:,} characters")


def _check_parameters(activation: Activation, changed: Mapping[str, float]) -> None:
    """Refuses values with which the formula or its derivative has no real value, as a zero
    in a denominator or a negative number under a root."""
    if _closes(activation.closed) and not (
        _without_value(activation) - _without_default(activation)
    ):
        return
    which = ", ".join(f"{k}={v:g}" for k, v in changed.items())
    raise FormulaError(
        f"{short(activation.name)}: with {which} the formula {short(activation.formula)} "
        "has no finite real value"
    )


def _closed(expression: Expr, parameters: Mapping[str, float]) -> Expr:
    """An expression with its parameters' numbers in it."""
    numbers = {sympy.Symbol(k, real=True): sympy.Rational(repr(v)) for k, v in parameters.items()}
    return expression.xreplace(numbers) if numbers else expression


_NO_NUMBERS = (sympy.zoo, sympy.nan, sympy.oo, -sympy.oo, sympy.I)
_PROBES = (-30, -2.3, -0.7, 0, 0.4, 1.9, 30)


@lru_cache(maxsize=1024)
def _closes(closed: Expr) -> bool:
    """Whether the numbers of an expression and of its derivative are finite and real."""
    try:
        slope = differentiate(closed)
        lower({"value": closed, "derivative": slope}, (VARIABLE.name,))
        return not (closed.has(*_NO_NUMBERS) or slope.has(*_NO_NUMBERS))
    except (ValueError, TypeError, ArithmeticError):  # an infinite part in SymPy's arithmetic
        return False


def _without_default(activation: Activation) -> set[tuple[str, float]]:
    return _without_value(activation._like(parameters=activation._defaults))


@lru_cache(maxsize=1024)
def _without_value(activation: Activation) -> set[tuple[str, float]]:
    """The points among a few where the value or the derivative is not a number."""
    from mpmath import mp

    found = set()
    with mp.workdps(_DIGITS):
        parameters = {k: mp.mpf(v) for k, v in activation.parameters.items()}
        for x in _PROBES:
            values = evaluate(activation.program, PRECISE, {"x": mp.mpf(x), **parameters})
            found |= {(k, x) for k in ("value", "derivative") if mp.isnan(values[k])}
    return found


def _restore(
    name: str,
    expression: Expr,
    source: str,
    note: str,
    aliases: tuple[str, ...],
    parameters: dict[str, float],
    defaults: dict[str, float],
) -> Activation:
    new = object.__new__(Activation)
    new._set(name, expression, source, note, aliases, parameters, defaults)
    return new
