"""Activation: a formula and its parameters, as frozen data. Never subclassed."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Collection, Mapping
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, overload

import mpmath
import sympy
from sympy import Expr

from .arrays import applier
from .canonical import canonical, from_canonical
from .derivative import differentiate, partial
from .errors import FormulaError, short
from .exact import substitute
from .normalise import normalise, settle
from .parse import MAX_LENGTH, check_parameter_name, parse
from .precise import CONTEXT, OPS, working
from .primitives import VARIABLE
from .program import Program, evaluate, lower
from .text import latex, write

__all__ = ["Activation"]

_DIGITS = 30


class Activation:
    """An elementwise function f(x; parameters) that any slot of an LSTM accepts.

    name: what it is called. expression: formula text ("where(x > 0, x, a*expm1(x))", "x*gelu(x)")
    or a SymPy expression; x (or z) is the variable, every other symbol a parameter that needs a
    default.
    source: where the formula comes from. note: traps, such as other functions of the same name.
    aliases: other names. parameters: the parameters with their defaults, whatever they are called;
    those with other names than these may as well be given as keywords.

        elu = Activation("elu", "where(x > 0, x, a*expm1(x))", a=1.0)
        elu(a=0.5)                # the same formula with another parameter
        elu(tensor)               # f of each element; of NumPy arrays and numbers too
        elu(tensor, a=0.5)
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
        parameters: Mapping[str, float] | None = None,
        **keywords: float,
    ) -> None:
        _check_name(name)
        given = _all_parameters(name, parameters, keywords)
        _check_texts(name, source=source, note=note)
        is_text = isinstance(expression, str)
        read = settle(parse(expression, _catalogue(given)) if is_text else normalise(expression))
        values = {key: _number(name, key, value) for key, value in given.items()}
        self._set(name, read, source, note, tuple(aliases), values, values)
        free = {s.name for s in read.free_symbols} - {VARIABLE.name}
        if missing := sorted(free - values.keys()):
            raise FormulaError(
                f"'{name}': the formula has the free symbol '{missing[0]}' without a default; "
                f"give one, as in Activation({name!r}, ..., {_as_keywords({missing[0]: 1.0})}), "
                "or write the number itself"
            )
        for key in free:
            check_parameter_name(key)
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
        fields = (self.name, canonical(self.expression), self.source, self.note, self.aliases)
        return _restore, (*fields, dict(self.parameters), dict(self._defaults))

    @overload
    def __call__(self, /, **parameters: float) -> Activation: ...

    @overload
    def __call__(self, value: Any, /, **parameters: Any) -> Any: ...

    def __call__(self, /, *values: Any, **parameters: Any) -> Any:
        """f of a value, or the same formula with other parameters.

            leaky_relu(k=0.2)          # an Activation
            leaky_relu(tensor)         # f elementwise; its gradient, of any order, is derived
            leaky_relu(array, k=0.2)   # a NumPy array, computed in float64
            leaky_relu(-1.0)           # a float, as `value` gives it

        With a tensor, a parameter may be a tensor too (it gets a gradient). Raises FormulaError for
        an unknown parameter or a value of one with which there is no f.
        """
        for key in parameters:
            if key not in self.parameters:
                has = ", ".join(self.parameters) or "none"
                raise FormulaError(f"{self.name} has no parameter '{key}'; it has: {has}")
        if not values:
            return _bound(self, tuple(parameters.items()))
        if len(values) > 1:
            raise TypeError(f"{self.name} takes one value and parameters by name, as in f(x, k=1)")
        return self._apply(values[0], parameters)

    def _apply(self, x: Any, parameters: Mapping[str, Any]) -> Any:
        arrays = {k: v for k, v in parameters.items() if applier(v) and not _is_number(v)}
        numbers = tuple((k, v) for k, v in parameters.items() if k not in arrays)
        activation = _bound(self, numbers) if numbers else self
        if _is_number(x) and not arrays:
            return activation.value(float(x))
        apply = applier(x)
        if apply is None:
            raise TypeError(
                f"{self.name} can be called on a tensor, a NumPy array or a number, not "
                f"{type(x).__name__}; make an array of it first"
            )
        return apply(activation, x, arrays)

    @property
    def label(self) -> str:
        """The name, with the parameters that differ from their defaults: leaky_relu(k=0.2)."""
        changed = {k: v for k, v in self.parameters.items() if v != self._defaults[k]}
        inner = ", ".join(
            f"{k}={v:g}" if float(f"{v:g}") == v else f"{k}={v!r}" for k, v in changed.items()
        )
        return f"{self.name}({inner})" if inner else self.name

    @property
    def formula(self) -> str:
        """The formula as text, which `parse` reads back as the same expression.

        A derivative's need not be: it can be longer than a formula may be, and SymPy may put its
        parts together otherwise when they are read. `canonical` has a text for every expression.
        """
        return write(self.expression)

    @cached_property
    def closed(self) -> Expr:
        """The expression with the parameters' numbers in it."""
        return _closed(self.expression, self.parameters)

    def with_numbers(self, names: Collection[str]) -> Expr:
        """The expression with the numbers of these parameters in it; the others stay symbols."""
        return _closed(self.expression, {k: self.parameters[k] for k in names})

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
        expression = partial(self.expression, sympy.Symbol(parameter, real=True))
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
        with working(_DIGITS):
            return float(self._evaluated(x))

    def precise(self, x: Any) -> Any:
        """f(x) as an mpmath number at mpmath's working precision, that of `mpmath.mp`."""
        with working(bits=mpmath.mp.prec):
            return mpmath.mp.make_mpf(self._evaluated(x)._mpf_)

    def _evaluated(self, x: Any) -> Any:
        """f(x) as a number of CONTEXT at its working precision."""
        values = {"x": CONTEXT.mpf(x), **{k: CONTEXT.mpf(v) for k, v in self.parameters.items()}}
        return evaluate(self.value_program, OPS, values)["value"]

    def latex(self) -> str:
        """The formula in LaTeX, with the parameters as symbols."""
        return latex(self.expression)

    def latex_closed(self) -> str:
        """The formula in LaTeX, with the parameters' numbers."""
        return latex(self.closed)

    def __repr__(self) -> str:
        constants = _as_keywords(self.parameters)
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


@lru_cache(maxsize=1024)
def _program(expression: Expr, inputs: tuple[str, ...]) -> Program:
    outputs = {"value": expression, "derivative": differentiate(expression)}
    for name in inputs[1:]:
        outputs[f"d_{name}"] = partial(expression, sympy.Symbol(name, real=True))
    try:
        return lower(outputs, inputs)
    except ValueError as error:
        raise FormulaError(str(error)) from None


@lru_cache(maxsize=1024)
def _value_program(expression: Expr, inputs: tuple[str, ...]) -> Program:
    return lower({"value": expression}, inputs)


_TAKEN = ("source", "note", "aliases", "parameters")
"""Keywords of Activation that are no parameters of the formula."""


def _catalogue(parameters: Collection[str]) -> Mapping[str, Callable[..., Expr]]:
    """The functions of the catalogue inside formulas, as `resolve` reads them, but for those that
    have a parameter's name; none while the catalogue itself is being made."""
    if not hasattr(sys.modules.get(f"{__package__}.catalogue"), "ACTIVATIONS"):
        return {}
    from .lookup import functions

    return {name: apply for name, apply in functions().items() if name not in parameters}


def _all_parameters(
    name: str, parameters: Mapping[str, float] | None, keywords: Mapping[str, float]
) -> dict[str, float]:
    if parameters is not None and not isinstance(parameters, Mapping):
        raise FormulaError(
            f"'{name}': parameters= takes a mapping of names to numbers, such as "
            "parameters={'k': 1.0}"
        )
    given = dict(parameters or {})
    if twice := sorted(given.keys() & keywords.keys()):
        raise FormulaError(f"'{name}': the parameter '{twice[0]}' is given twice")
    return {**given, **keywords}


def _check_texts(name: str, **texts: Any) -> None:
    for key, text in texts.items():
        if not isinstance(text, str):
            raise FormulaError(
                f"'{name}': {key}= is a text about the formula; for a parameter of that name "
                f"write {_as_keywords({key: text})}"
            )


def _as_keywords(parameters: Mapping[str, Any]) -> str:
    """Parameters as they are written in a call of Activation."""
    free = [f"{k}={v!r}" for k, v in parameters.items() if k not in _TAKEN]
    taken = {k: v for k, v in parameters.items() if k in _TAKEN}
    return ", ".join([*free, *([f"parameters={taken!r}"] if taken else [])])


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _bound(activation: Activation, parameters: tuple[tuple[str, Any], ...]) -> Activation:
    """The activation with other numbers for its parameters."""
    numbers = tuple((k, _number(activation.name, k, v)) for k, v in parameters)
    return _rebound(activation, numbers)


@lru_cache(maxsize=1024)
def _rebound(activation: Activation, numbers: tuple[tuple[str, float], ...]) -> Activation:
    changed = dict(numbers)
    new = activation._like(parameters={**activation.parameters, **changed})
    _check_parameters(new, changed)
    return new


def _number(name: str, key: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise FormulaError(
            f"{name}: the parameter {key} must be a number, not {value!r:.80}"
        ) from None
    except OverflowError:
        raise FormulaError(f"{name}: the parameter {key} is too large for float64") from None
    if not math.isfinite(number):
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
    if _closes(activation) and not (_without_value(activation) - _without_default(activation)):
        return
    which = ", ".join(f"{k}={v:g}" for k, v in changed.items())
    raise FormulaError(
        f"{short(activation.name)}: with {which} the formula {short(activation.formula)} "
        "has no finite real value"
    )


def _closed(expression: Expr, parameters: Mapping[str, float]) -> Expr:
    """An expression with its parameters' numbers in it."""
    numbers = {sympy.Symbol(k, real=True): sympy.Rational(repr(v)) for k, v in parameters.items()}
    return substitute(expression, numbers) if numbers else expression


_NO_NUMBERS = (sympy.zoo, sympy.nan, sympy.oo, -sympy.oo, sympy.I)
_PROBES = (-30, -2.3, -0.7, 0, 0.4, 1.9, 30)


@lru_cache(maxsize=1024)
def _closes(activation: Activation) -> bool:
    """True if the numbers of a formula and of its derivative are finite and real."""
    try:
        closed = activation.closed
        slope = differentiate(closed)
        lower({"value": closed, "derivative": slope}, (VARIABLE.name,))
        return not (closed.has(*_NO_NUMBERS) or slope.has(*_NO_NUMBERS))
    # an infinite part in SymPy's arithmetic, or a comparison of what is not real
    except (ValueError, TypeError, ArithmeticError):
        return False


def _without_default(activation: Activation) -> set[tuple[str, float]]:
    return _without_value(activation._like(parameters=activation._defaults))


@lru_cache(maxsize=1024)
def _without_value(activation: Activation) -> set[tuple[str, float]]:
    """The points among a few where the value or the derivative is not a number."""
    found = set()
    with working(_DIGITS):
        parameters = {k: CONTEXT.mpf(v) for k, v in activation.parameters.items()}
        for x in _PROBES:
            values = evaluate(activation.program, OPS, {"x": CONTEXT.mpf(x), **parameters})
            found |= {(k, x) for k in ("value", "derivative") if CONTEXT.isnan(values[k])}
    return found


def _restore(
    name: str,
    expression: str,
    source: str,
    note: str,
    aliases: tuple[str, ...],
    parameters: dict[str, float],
    defaults: dict[str, float],
) -> Activation:
    new = object.__new__(Activation)
    read = from_canonical(expression)
    new._set(name, read, source, note, aliases, parameters, defaults)
    return new
