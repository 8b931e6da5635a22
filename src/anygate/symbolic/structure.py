"""What a formula's structure tells: where it may break, its parity, where it is exactly zero."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sympy
from sympy import Expr

from .intervals import bound_below
from .precise import CONTEXT as mp
from .precise import OPS
from .primitives import PRIMITIVES, VARIABLE, where
from .program import Program, evaluate, lower

__all__ = ["break_points", "breaks_known", "exactly_zero", "parity"]

_BOXES = 60
_SCANNED = 50


def break_points(expression: Expr) -> list[Any]:
    """Every x, of those that can be found, where f or a derivative may jump or have no value."""
    return sorted(_breaks(expression)[0])


def breaks_known(expression: Expr) -> bool:
    """Whether `break_points` has them all: each condition and denominator could be solved, or
    shown to have no zero. A scan of [-50, 50] does not count."""
    return _breaks(expression)[1]


def _breaks(expression: Expr) -> tuple[set[Any], bool]:
    found: set[Any] = set()
    known = True
    for condition in _conditions(expression):
        roots = _roots(condition)
        known = known and roots is not None
        found.update(_scan(condition) if roots is None else roots)
    for part, guard in _singular(expression):
        roots = _roots(part)
        if roots is None and not _has_no_zero(part, guard):
            known, roots = False, _scan(part)
        found.update(roots or ())
    return found, known


def _conditions(expression: Expr) -> list[Expr]:
    """Expressions whose sign change may make f or a derivative jump."""
    relations = expression.atoms(sympy.core.relational.Relational)
    found = {part.lhs - part.rhs for part in relations}
    for part in expression.atoms(*PRIMITIVES.values()):
        name = type(part).__name__
        if name in ("absolute", "sign", "softsign"):
            found.add(part.args[0])
        elif name in ("maximum", "minimum"):
            found.add(part.args[0] - part.args[1])
        elif name == "clip":
            found |= {part.args[0] - part.args[1], part.args[0] - part.args[2]}
    return sorted((e for e in found if e.has(VARIABLE)), key=sympy.default_sort_key)


def _singular(expression: Any, guard: Any = sympy.true) -> Iterator[tuple[Expr, Any]]:
    """Expressions at whose zeros f may have no value or no slope (denominators, arguments of
    log, of roots and of hypot), each with the condition under which it is computed."""
    if isinstance(expression, where):
        condition, a, b = expression.args
        yield from _singular(condition, guard)
        yield from _singular(a, sympy.And(guard, condition))
        yield from _singular(b, sympy.And(guard, sympy.Not(condition)))
        return
    for part in expression.args:
        yield from _singular(part, guard)
    for part in _zero_sensitive(expression):
        if part.has(VARIABLE):
            yield part, guard


def _zero_sensitive(e: Any) -> list[Expr]:
    if isinstance(e, sympy.Pow) and (e.exp.is_negative or not e.exp.is_integer):
        return [e.base]
    name = type(e).__name__
    if name == "log":
        return [e.args[0]]
    if name == "log1p":
        return [1 + e.args[0]]
    if name == "hypot" and not any(a.is_number and a != 0 for a in e.args):
        return list(e.args)
    return []


def _has_no_zero(part: Expr, guard: Any) -> bool:
    """Shown by interval arithmetic, wherever the guard holds."""
    for side in (part, -part):
        program = lower({"value": where(guard, side, sympy.S.One)}, ("x",))
        if bound_below(program, {}, mp.mpf("1e-300"), _BOXES)[1]:
            return True
    return False


_POSITIVE = {"exp", "sigmoid", "softplus", "gaussian", "normal_pdf", "normal_cdf", "cosh"}
_ZERO_AT_ZERO = {"tanh", "expm1", "log1p", "softsign", "isru", "erf", "absolute", "sign", "sinh",
                 "asinh", "atan"}  # fmt: skip


def _roots(e: Expr) -> list[Any] | None:
    """All zeros of an expression, if they can be solved for; None if they cannot."""
    if not e.has(VARIABLE):
        return []
    slope = e.diff(VARIABLE) if not e.atoms(*PRIMITIVES.values()) else VARIABLE
    if slope.is_number and slope != 0:
        return [mp.mpf(str(sympy.N(-e.subs(VARIABLE, 0) / slope, 30)))]
    if isinstance(e, sympy.Pow):
        return _roots(e.base) if e.exp.is_positive else []
    if isinstance(e, sympy.Mul):
        each = [_roots(a) for a in e.args]
        return None if None in each else [x for roots in each for x in roots or ()]
    name = type(e).__name__
    if name in _POSITIVE:
        return []
    if name in _ZERO_AT_ZERO:
        return _roots(e.args[0])
    return _roots_of_pieces(e) if _piecewise_linear(e) else None


def _piecewise_linear(expression: Expr) -> bool:
    kinds = {type(p).__name__ for p in expression.atoms(*PRIMITIVES.values())}
    if kinds - {"maximum", "minimum", "clip", "absolute", "where"}:
        return False
    products = [p for p in expression.atoms(sympy.Mul) if len(_varying(p)) > 1]
    powers = [p for p in expression.atoms(sympy.Pow) if p.has(VARIABLE)]
    return not products and not powers


def _varying(product: Expr) -> list[Expr]:
    return [a for a in product.args if a.has(VARIABLE)]


def _roots_of_pieces(e: Expr) -> list[Any] | None:
    """Of a piecewise linear expression: between its own breaks it is a line through two points."""
    inner, known = _breaks(e)
    if not known:
        return None
    at = _function(e)
    ends = sorted(inner) or [mp.zero]
    found = [x for x in ends if at(x) == 0]
    for low, high in itertools.pairwise([-mp.inf, *ends, mp.inf]):
        a, b = _inside(low, high)
        rise = at(b) - at(a)
        if rise != 0 and low <= (root := a - at(a) * (b - a) / rise) <= high:
            found.append(root)
    return found


def _inside(low: Any, high: Any) -> tuple[Any, Any]:
    """Two points of an interval."""
    if mp.isinf(low):
        return high - 2, high - 1
    if mp.isinf(high):
        return low + 1, low + 2
    return low + (high - low) / 4, high - (high - low) / 4


def _function(e: Expr) -> Callable[[Any], Any]:
    program = lower({"value": e}, ("x",))
    return lambda x: evaluate(program, OPS, {"x": x})["value"]


def _scan(condition: Expr) -> list[Any]:
    """Zeros of a condition on [-50, 50]: sign changes by bisection, touching ones by search."""
    at = _function(condition)
    step = 8 if len(lower({"value": condition}, ("x",)).nodes) < 150 else 2
    reach = _SCANNED * step
    points = [mp.mpf(k) / step + mp.mpf("0.0137") for k in range(-reach, reach + 1)]
    values = [at(x) for x in points]
    roots = []
    for (a, u), (b, v) in itertools.pairwise(zip(points, values, strict=True)):
        if mp.sign(u) * mp.sign(v) < 0:
            roots.append(_bisect(at, a, b))
    sizes = [abs(v) for v in values]
    for k in range(1, len(points) - 1):
        same = mp.sign(values[k - 1]) == mp.sign(values[k]) == mp.sign(values[k + 1])
        if same and sizes[k] <= min(sizes[k - 1], sizes[k + 1]) and sizes[k] < 1:
            x = _lowest(at, points[k - 1], points[k + 1])
            if abs(at(x)) < 1e-15:
                roots.append(x)
    return [mp.mpf(mp.nstr(x, 20)) for x in roots]


def _bisect(at: Callable[[Any], Any], a: Any, b: Any) -> Any:
    side = mp.sign(at(a))
    for _ in range(80):
        middle = (a + b) / 2
        a, b = (middle, b) if mp.sign(at(middle)) == side else (a, middle)
    return (a + b) / 2


def _lowest(at: Callable[[Any], Any], a: Any, b: Any) -> Any:
    """Where |value| is least, by golden section."""
    ratio = (mp.sqrt(5) - 1) / 2
    for _ in range(80):
        c, d = b - ratio * (b - a), a + ratio * (b - a)
        a, b = (a, d) if abs(at(c)) < abs(at(d)) else (c, b)
    near = mp.mpf(mp.nstr((a + b) / 2, 8))
    return near if abs(at(near)) <= abs(at((a + b) / 2)) else (a + b) / 2


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
    function = OPS[name]

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
    **{name: _marked(name) for name in OPS},
    "const": lambda value: (OPS["const"](value), value == 0),
    "where": lambda condition, a, b: a if condition else b,
}
