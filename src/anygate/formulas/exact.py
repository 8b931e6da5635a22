"""Expressions put together within bounds.

SymPy works on the exact numbers of an expression whenever it makes one. It factors what stands
under a root, makes one root of a product of roots, and evaluates both sides of a comparison, each
part as often as it occurs in the tree. So the numbers are bounded before anything is made of them,
and a comparison of constants is decided by `constants.compare` alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sympy
from sympy import Expr

from .constants import compare, constant_value
from .errors import FormulaError
from .precise import CONTEXT

__all__ = [
    "MAX_BITS",
    "MAX_POWER",
    "MAX_ROOT",
    "allowed_power",
    "beyond_float64",
    "compared",
    "constant_parts",
    "fits_float64",
    "is_constant",
    "power",
    "product",
    "rebuild",
    "substitute",
]

MAX_POWER = 32
MAX_ROOT = 64  # of a number: 2**(1/64)
MAX_BITS = 1100  # of a constant's numerator or denominator: all of float64 fits
ROOT_BITS = 600  # of the numbers under the roots of one product: SymPy takes 0.04 s for these

_RELATIONS = (
    sympy.StrictLessThan,
    sympy.LessThan,
    sympy.StrictGreaterThan,
    sympy.GreaterThan,
)


@lru_cache(maxsize=16384)
def is_constant(part: Any) -> bool:
    """True if it has no symbols. Remembered, as `free_symbols` walks the whole part."""
    return not part.is_Symbol and all(map(is_constant, part.args))


def constant_parts(expression: Expr) -> Iterator[Expr]:
    """The parts without symbols but for plain numbers, each once, the smaller ones first."""
    seen: set[Any] = set()
    for part in sympy.postorder_traversal(expression):
        if part not in seen:
            seen.add(part)
            if isinstance(part, Expr) and part.args and is_constant(part):
                yield part


def fits_float64(constant: Expr) -> bool:
    """True if it is a real number that float64 holds."""
    value = constant_value(constant)
    return bool(CONTEXT.isfinite(value)) and abs(value) < sys.float_info.max


def beyond_float64(number: sympy.Rational) -> bool:
    """True if it has too many bits for float64, so that nothing larger may be made of it."""
    return _bits(number) > MAX_BITS


def allowed_power(base: Expr, exponent: Expr) -> bool:
    """True if base**exponent can be used: an integer or a half, of a number also another root."""
    if not isinstance(exponent, sympy.Rational) or abs(exponent) > MAX_POWER:
        return False
    return bool(exponent.q <= (MAX_ROOT if is_constant(base) else 2))


def compared(kind: Any, left: Expr, right: Expr) -> Any:
    """The comparison of two expressions, `kind` being SymPy's class of it: true or false where both
    are constants, else as it stands. Raises FormulaError for what is no finite real number."""
    if is_constant(left) and is_constant(right):
        return sympy.true if compare(kind, left, right) else sympy.false
    return kind(left, right, evaluate=False)


def product(*factors: Expr) -> Expr:
    """The product. Raises FormulaError if the numbers under its roots are too long."""
    _check_roots([f for factor in factors for f in sympy.Mul.make_args(factor)], rooted=False)
    return sympy.Mul(*factors)


def power(base: Expr, exponent: Expr) -> Expr:
    """base**exponent. Raises FormulaError for a root of too long a number, and for one so deep that
    no formula can have it."""
    factors = sympy.Mul.make_args(base)
    _check_roots(factors, rooted=isinstance(exponent, sympy.Rational) and exponent.q > 1)
    result = base**exponent
    for root in filter(_is_root, sympy.Mul.make_args(result)):
        if not allowed_power(*root.args):
            raise FormulaError(
                f"the formula comes to the power {root.exp} of a number; at most {MAX_POWER} and "
                f"at most a {MAX_ROOT}th root can be used"
            )
    return result


def substitute(expression: Expr, values: Mapping[Any, Any]) -> Any:
    """The expression with other parts in place of some, as SymPy's xreplace, but each part made
    once, and made by this module."""
    known = dict(values)

    def visit(part: Any) -> Any:
        if part not in known:
            arguments = [visit(a) for a in part.args]
            same = all(a is b for a, b in zip(arguments, part.args, strict=True))
            known[part] = part if same else rebuild(part, arguments)
        return known[part]

    return visit(expression)


def rebuild(part: Any, arguments: Sequence[Any]) -> Any:
    """A part of an expression with other arguments."""
    if isinstance(part, _RELATIONS):
        return compared(type(part), *arguments)
    if isinstance(part, sympy.Mul):
        return product(*arguments)
    if isinstance(part, sympy.Pow):
        return power(*arguments)
    return part.func(*arguments)


def _is_root(part: Any) -> bool:
    """True of a root of a number, such as 2**(1/2)."""
    return isinstance(part, sympy.Pow) and part.base.is_Rational and not part.exp.is_Integer


def _bits(number: sympy.Rational) -> int:
    return max(int(number.p).bit_length(), int(number.q).bit_length())


def _check_roots(factors: Sequence[Expr], rooted: bool) -> None:
    """Bounds the bits of the numbers under roots; rooted: a root of all factors is to be taken."""
    bases = {f.base for f in factors if _is_root(f)}
    if rooted:
        bases.update(f for f in factors if f.is_Rational)
    if sum(map(_bits, bases)) > ROOT_BITS:
        raise FormulaError(
            f"the numbers under the roots of a product have more than {ROOT_BITS * 3 // 10} digits "
            "together: write the values of the roots"
        )
