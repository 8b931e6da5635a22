"""Program: what an engine sees of a formula. A short list of operations, each made once.

`lower` turns expressions into a Program, sharing common parts between all outputs; `evaluate`
runs it with any engine's operation table; `render` prints it. No SymPy remains inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import sympy
from sympy import Expr
from sympy.logic.boolalg import And, Boolean, BooleanFalse, BooleanTrue, Not, Or

from .constants import DIGITS, constant_value
from .errors import FormulaError, short
from .exact import is_constant
from .precise import CONTEXT
from .primitives import Primitive, exp

__all__ = ["Node", "Program", "bind", "evaluate", "lower", "render"]

_RELATIONS = {
    sympy.StrictLessThan: "lt",
    sympy.LessThan: "le",
    sympy.StrictGreaterThan: "gt",
    sympy.GreaterThan: "ge",
}
_BEYOND = 2**1024  # float64 ends before
_NOTHING = -1200  # the power of two under which there is no float64


@dataclass(frozen=True)
class Node:
    """One operation. `op` is "input" (with `name`), "const" (with an exact `value`), an
    arithmetic operation or a primitive; `arguments` are indices of earlier nodes."""

    op: str
    arguments: tuple[int, ...] = ()
    name: str = ""
    value: Fraction | None = None


@dataclass(frozen=True)
class Program:
    """Operations in an order in which each finds its arguments ready.

    inputs: the names that `evaluate` must be given; nodes: the operations; outputs: name and
    node of each result. Frozen and hashable, so it can key a cache of compiled code.
    """

    inputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return render(self)


def lower(outputs: Mapping[str, Expr], inputs: Sequence[str]) -> Program:
    """The Program that computes `outputs` (name -> expression in the vocabulary) from `inputs`.

    Equal sub-expressions become one node, across all outputs.
    Raises ValueError for a symbol that is no input or a part outside the vocabulary,
    FormulaError (a ValueError) for a constant that float64 cannot hold.
    """
    builder = _Builder(tuple(inputs))
    ends = tuple((name, builder.visit(sympy.sympify(e))) for name, e in outputs.items())
    return Program(tuple(inputs), tuple(builder.nodes), ends)


def bind(
    program: Program, ops: Mapping[str, Callable[..., Any]]
) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """The Program as a function of its inputs by name, outputs by name.

    `ops` says how one framework spells each operation; constants are made once, here.
    """
    steps: list[tuple[int, Callable[..., Any], tuple[int, ...]]] = []
    places: list[tuple[int, str]] = []
    blank: list[Any] = [None] * len(program.nodes)
    for i, node in enumerate(program.nodes):
        if node.op == "input":
            places.append((i, node.name))
        elif node.op == "const":
            blank[i] = ops["const"](node.value)
        else:
            steps.append((i, ops[node.op], node.arguments))

    def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
        values = blank.copy()
        for i, name in places:
            values[i] = inputs[name]
        for i, operation, arguments in steps:
            values[i] = operation(*[values[j] for j in arguments])
        return {name: values[i] for name, i in program.outputs}

    return run


def evaluate(
    program: Program, ops: Mapping[str, Callable[..., Any]], inputs: Mapping[str, Any]
) -> dict[str, Any]:
    """The outputs by name: `bind` for a single use."""
    return bind(program, ops)(inputs)


def render(program: Program) -> str:
    """A readable listing, one operation a line."""
    lines = []
    for i, node in enumerate(program.nodes):
        if node.op == "input":
            text = node.name
        elif node.op == "const":
            exact = node.value is not None and node.value.denominator < 1000
            text = str(node.value if exact else float(node.value or 0))
        else:
            text = f"{node.op}({', '.join(f't{j}' for j in node.arguments)})"
        lines.append(f"t{i} = {text}")
    lines.extend(f"return {name} = t{i}" for name, i in program.outputs)
    return "\n".join(lines)


class _Builder:
    """Hash-conses nodes while walking expressions."""

    def __init__(self, inputs: tuple[str, ...]) -> None:
        self.inputs = inputs
        self.nodes: list[Node] = []
        self.index: dict[Node, int] = {}
        self.seen: dict[Expr, int] = {}

    def node(self, op: str, *arguments: int, name: str = "", value: Fraction | None = None) -> int:
        new = Node(op, arguments, name, value)
        if new not in self.index:
            self.index[new] = len(self.nodes)
            self.nodes.append(new)
        return self.index[new]

    def const(self, value: Expr) -> int:
        return self.node("const", value=_exact(value))

    def visit(self, expr: Expr) -> int:
        if expr not in self.seen:
            self.seen[expr] = self._visit(expr)
        return self.seen[expr]

    def _visit(self, expr: Expr) -> int:
        if isinstance(expr, sympy.Symbol):
            if expr.name not in self.inputs:
                raise ValueError(f"'{expr.name}' is not an input; inputs are {self.inputs}")
            return self.node("input", name=expr.name)
        if isinstance(expr, Boolean) and not isinstance(expr, Expr):
            return self._boolean(expr)
        if is_constant(expr):
            return self.const(expr)
        if isinstance(expr, sympy.Add):
            return self._sum(expr)
        if isinstance(expr, sympy.Mul):
            return self._product(expr)
        if isinstance(expr, sympy.Pow):
            return self._power(expr)
        if isinstance(expr, Primitive):
            return self.node(type(expr).__name__, *[self.visit(a) for a in expr.args])
        raise ValueError(f"'{expr}' is not in the vocabulary of formulas")

    def _boolean(self, expr: Any) -> int:
        if type(expr) in _RELATIONS:
            return self.node(_RELATIONS[type(expr)], *[self.visit(a) for a in expr.args])
        if isinstance(expr, Not):
            return self.node("not", self.visit(expr.args[0]))
        if isinstance(expr, And | Or):
            op = "and" if isinstance(expr, And) else "or"
            first, *rest = [self.visit(a) for a in expr.args]
            for other in rest:
                first = self.node(op, first, other)
            return first
        if isinstance(expr, BooleanTrue | BooleanFalse):
            zero = self.const(sympy.S.Zero)
            return self.node("le" if expr else "lt", zero, zero)
        raise ValueError(f"'{expr}' is not a condition that formulas can use")

    def _sum(self, expr: Expr) -> int:
        """Positive terms first, so that the rest are subtractions and no negation is needed."""
        terms = sorted(expr.args, key=lambda t: (_negative(t), sympy.default_sort_key(t)))
        total: int | None = None
        for term in terms:
            if total is not None and _negative(term):
                total = self.node("sub", total, self.visit(-term))
            else:
                value = self.visit(term)
                total = value if total is None else self.node("add", total, value)
        assert total is not None
        return total

    def _product(self, expr: Expr) -> int:
        """Functions first and bare symbols last, one power at a time: x*x*gaussian(x) as
        (gaussian(x)*x)*x is 0 at 1e300, where gaussian(x)*(x*x) would be 0*inf."""
        coefficient, rest = _join_exponentials(expr).as_coeff_Mul()
        above: list[int] = []
        below: list[int] = []
        for factor in sorted(sympy.Mul.make_args(rest), key=_product_order):
            base, power = factor.as_base_exp()
            if power.is_Integer and power < 0:
                below.extend(self._repeat(base, -int(power)))
            elif power.is_Integer and base.is_Symbol:
                above.extend(self._repeat(base, int(power)))
            else:
                above.append(self.visit(factor))
        if not above and coefficient in (1, -1):
            above = [self.const(coefficient)]
            coefficient = sympy.S.One
        result = above[0] if above else None
        if coefficient not in (1, -1) or result is None:
            scale = self.const(coefficient)
            result = scale if result is None else self.node("mul", scale, result)
        for other in above[1:]:
            result = self.node("mul", result, other)
        for other in below:
            result = self.node("div", result, other)
        return self.node("neg", result) if coefficient == -1 and above else result

    def _repeat(self, base: Expr, times: int) -> list[int]:
        if times > 4:
            return [self.visit(base**times)]
        return [self.visit(base)] * times

    def _power(self, expr: Expr) -> int:
        base, power = expr.args
        doubled = 2 * power
        if not doubled.is_Integer:
            raise ValueError(f"'{expr}': a power must be an integer or a half, like 2, -1 or 1/2")
        root = self.visit(base)
        if not power.is_Integer:
            root, power = self.node("sqrt", root), doubled
        # (1/b)^n, not 1/b^n: b^n may overflow where the result is representable.
        if power < 0:
            root = self.node("div", self.const(sympy.S.One), root)
        return self._integer_power(root, abs(int(power)))

    def _integer_power(self, base: int, power: int) -> int:
        if power == 1:
            return base
        half = self._integer_power(base, power // 2)
        square = self.node("mul", half, half)
        return self.node("mul", square, base) if power % 2 else square


def _negative(term: Expr) -> bool:
    return bool(term.as_coeff_Mul()[0].is_negative)


def _product_order(factor: Expr) -> tuple[bool, Any]:
    return bool(factor.as_base_exp()[0].is_Symbol), sympy.default_sort_key(factor)


def _join_exponentials(product: Expr) -> Expr:
    """exp(a)*exp(b) as exp(a + b): exp(x)*exp(-exp(x)) would be inf*0 for large x."""
    powers, others = [], []
    for factor in sympy.Mul.make_args(product):
        base, power = factor.as_base_exp()
        if isinstance(base, exp) and power.is_Integer:
            powers.append(base.args[0] * power)
        else:
            others.append(factor)
    if len(powers) < 2:
        return product
    return sympy.Mul(*others, exp(sympy.Add(*powers)))


def _exact(value: Expr) -> Fraction:
    """The number itself if it is rational, else its first 60 digits."""
    if isinstance(value, sympy.Rational) and value.is_finite:
        exact = Fraction(int(value.p), int(value.q))
        if abs(exact) >= _BEYOND:
            raise FormulaError("a constant of the formula or of its derivative is beyond float64")
        return exact
    number = constant_value(value)
    if not CONTEXT.isfinite(number):
        raise FormulaError(f"the constant '{short(str(value))}' is not a finite real number")
    if CONTEXT.mag(number) > 1024:
        raise FormulaError("a constant of the formula or of its derivative is beyond float64")
    if number == 0 or CONTEXT.mag(number) < _NOTHING:
        # erfc(9801) is 10^-41718810, whose digits would take a minute to write out
        return Fraction(0)
    return Fraction(CONTEXT.nstr(number, DIGITS, strip_zeros=False))
