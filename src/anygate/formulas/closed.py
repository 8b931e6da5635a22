"""Derivatives that follow from the function's value alone, as sigmoid' = y*(1 - y)."""

from __future__ import annotations

from functools import lru_cache

import sympy
from sympy import Dummy, Expr

from .derivative import differentiate, partial
from .exact import substitute
from .primitives import PRIMITIVES, VARIABLE, Primitive

__all__ = ["VALUE", "derivative_in_value"]

_ROUNDING = (PRIMITIVES["round"], PRIMITIVES["floor"])
VALUE = Dummy("the value", real=True)
"""Stands for f(x). Equal to no other symbol, whatever a parameter of a formula is called."""


@lru_cache(maxsize=512)
def derivative_in_value(expression: Expr) -> Expr | None:
    """f' in terms of VALUE = f(x) where x is not needed, as VALUE*(1 - VALUE) for sigmoid; None
    where it is.

    Found by structure: f = a*u(x) + b with numbers a and b, and f' made of the same u.
    """
    slope = differentiate(expression)
    if not slope.has(VARIABLE):
        return slope
    for inner in sorted(expression.atoms(Primitive), key=sympy.default_sort_key):
        outer = substitute(expression, {inner: VALUE})
        if outer.has(VARIABLE) or outer.has(*_ROUNDING):  # f(x) does not tell what was rounded
            continue
        scale = partial(outer, VALUE)
        if not scale.is_Rational or scale == 0:
            continue
        in_terms_of_inner = substitute(slope, {inner: VALUE})
        if not in_terms_of_inner.has(VARIABLE):
            offset = substitute(outer, {VALUE: sympy.S.Zero})
            return substitute(in_terms_of_inner, {VALUE: (VALUE - offset) / scale})
    return None
