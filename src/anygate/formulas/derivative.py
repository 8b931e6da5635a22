"""The derivative of an expression in the vocabulary, each part differentiated once.

SymPy's own rules, without the questions that it asks about every part on the way: those take a
time that grows with the square of the formula, and twice as long for each level of nesting.
"""

from __future__ import annotations

from typing import Any

import sympy
from sympy import Expr

from .exact import power, product
from .primitives import VARIABLE, Primitive

__all__ = ["differentiate", "partial"]


def differentiate(expression: Expr, order: int = 1) -> Expr:
    """The derivative by x, `order` times."""
    for _ in range(order):
        expression = partial(expression, VARIABLE)
    return expression


def partial(expression: Expr, symbol: sympy.Symbol) -> Expr:
    """The derivative by a symbol. Raises ValueError for a part outside the vocabulary."""
    known: dict[Expr, Expr] = {symbol: sympy.S.One}

    def visit(part: Expr) -> Expr:
        if part not in known:
            known[part] = make(part)
        return known[part]

    def make(part: Any) -> Expr:
        if not part.args or not isinstance(part, Expr):  # a number, or a condition
            return sympy.S.Zero
        match part:
            case Primitive():
                return part.chain(tuple(visit(a) for a in part.args))
            case sympy.Add():
                return sympy.Add(*[visit(a) for a in part.args])
            case sympy.Mul():
                return _product(part.args, [visit(a) for a in part.args])
            case sympy.Pow() if isinstance(part.exp, sympy.Rational):
                slope = visit(part.base)  # 0 of a constant, whose own value may be 0 as well
                if slope == 0:
                    return slope
                return product(part, slope, part.exp, power(part.base, sympy.S.NegativeOne))
            case sympy.exp():
                return product(part, visit(part.args[0]))
        raise ValueError(f"'{part}' is not in the vocabulary of formulas")

    return visit(expression)


def _product(factors: tuple[Expr, ...], slopes: list[Expr]) -> Expr:
    terms = [
        product(*factors[:k], slope, *factors[k + 1 :])
        for k, slope in enumerate(slopes)
        if slope != 0
    ]
    return sympy.Add(*terms)
