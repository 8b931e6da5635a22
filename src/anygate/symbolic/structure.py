"""What a formula's structure tells: where it may break, its parity, where it is exactly zero."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import sympy
from mpmath import mp
from sympy import Expr

from .precise import PRECISE
from .primitives import PRIMITIVES, VARIABLE
from .program import Program, evaluate, lower

__all__ = ["break_points", "breaks_known", "exactly_zero", "parity"]


def _conditions(expression: Expr) -> list[Expr]:
    """Expressions whose sign change may make f or a derivative jump."""
    relations = expression.atoms(sympy.core.relational.Relational)
    found = [part.lhs - part.rhs for part in relations]
    for part in expression.atoms(*PRIMITIVES.values()):
        name = type(part).__name__
        if name in ("absolute", "sign", "softsign"):
            found.append(part.args[0])
        elif name in ("maximum", "minimum"):
            found.append(part.args[0] - part.args[1])
        elif name == "clip":
            found += [part.args[0] - part.args[1], part.args[0] - part.args[2]]
    return [e for e in found if e.has(VARIABLE)]


def _roots(condition: Expr) -> list[Any] | None:
    """Where a condition changes sign, if that can be solved: linear in x, or nested extremes."""
    slope = condition.diff(VARIABLE)
    if slope.is_number and slope != 0:
        return [mp.mpf(str(sympy.N(-condition.subs(VARIABLE, 0) / slope, 25)))]
    return None


def break_points(expression: Expr) -> list[Any]:
    found: set[Any] = set()
    for condition in _conditions(expression):
        roots = _roots(condition)
        found.update(roots if roots is not None else _scan(condition))
    return sorted(found)


def breaks_known(expression: Expr) -> bool:
    """A nested condition such as max(x, 0) < 1 is scanned; its inner one is solved, so it counts
    as known if it is piecewise linear."""
    return all(_roots(c) is not None or _piecewise_linear(c) for c in _conditions(expression))


def _piecewise_linear(expression: Expr) -> bool:
    kinds = {type(p).__name__ for p in expression.atoms(*PRIMITIVES.values())}
    if kinds - {"maximum", "minimum", "clip", "absolute", "where"}:
        return False
    return all(not p.has(VARIABLE) or p.exp == 1 for p in expression.atoms(sympy.Pow))


def _scan(condition: Expr) -> list[Any]:
    """Sign changes of a condition on [-50, 50], by bisection."""
    program = lower({"value": condition}, ("x",))

    def at(x: Any) -> Any:
        return evaluate(program, PRECISE, {"x": x})["value"]

    points = [mp.mpf(k) / 8 + mp.mpf("0.0137") for k in range(-400, 401)]
    roots = []
    for a, b in itertools.pairwise(points):
        if mp.sign(at(a)) * mp.sign(at(b)) < 0:
            for _ in range(80):
                middle = (a + b) / 2
                a, b = (middle, b) if mp.sign(at(middle)) == mp.sign(at(a)) else (a, middle)
            roots.append(mp.mpf(str(mp.nstr((a + b) / 2, 20))))
    return roots


_ODD = {"tanh", "softsign", "isru", "erf", "sin", "sinh", "asinh", "atan", "sign"}
_EVEN = {"absolute", "gaussian", "normal_pdf", "cos", "cosh"}


def parity(e: Expr) -> str | None:
    """ "odd", "even" or None, by structure; a constant is even."""
    if not e.has(VARIABLE):
        return "odd" if e == 0 else "even"
    if e == VARIABLE:
        return "odd"
    if isinstance(e, sympy.Add):
        kinds = {parity(a) for a in e.args}
        return kinds.pop() if len(kinds) == 1 else None
    if isinstance(e, sympy.Mul):
        kinds_ = [parity(a) for a in e.args]
        if None in kinds_:
            return None
        return "odd" if kinds_.count("odd") % 2 else "even"
    if isinstance(e, sympy.Pow) and e.exp.is_Integer:
        base = parity(e.base)
        return "even" if base and e.exp % 2 == 0 else base
    name = type(e).__name__
    if name in _ODD | _EVEN:
        inner = parity(e.args[0])
        return ("odd" if name in _ODD else "even") if inner == "odd" else inner
    if name == "hypot":
        return "even" if all(parity(a) for a in e.args) else None
    if name == "clip" and e.args[1] == -e.args[2] and parity(e.args[0]) == "odd":
        return "odd"
    return None


def exactly_zero(program: Program, x: Any) -> bool:
    """Whether the program's only output is zero by structure at x: a zero branch taken, or a
    product with one. A value too small for the working precision is not."""
    ((_, zero),) = evaluate(program, _ZERO_OPS, {"x": (x, False)}).values()
    return bool(zero)


def _marked(name: str) -> Callable[..., Any]:
    """An operation on pairs (value, zero by structure)."""
    function = PRECISE[name]

    def apply(*pairs: Any) -> Any:
        values = [p[0] if isinstance(p, tuple) else p for p in pairs]
        result = function(*values)
        if name in ("lt", "le", "gt", "ge", "and", "or", "not"):
            return result
        return result, _zero_by(name, result, pairs)

    return apply


def _zero_by(name: str, result: Any, pairs: Any) -> bool:
    if name in ("add", "sub"):
        return all(p[1] for p in pairs)
    if name == "mul":
        return any(p[1] for p in pairs)
    if name in ("div", "neg"):
        return bool(pairs[0][1])
    if name in ("maximum", "minimum", "clip"):
        return any(p[1] and p[0] == result for p in pairs)
    return False


_ZERO_OPS: Mapping[str, Callable[..., Any]] = {
    **{name: _marked(name) for name in PRECISE},
    "const": lambda value: (PRECISE["const"](value), value == 0),
    "where": lambda condition, a, b: a if condition else b,
}
