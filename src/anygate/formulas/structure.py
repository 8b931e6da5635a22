"""Facts from a formula's structure: where it may break, its parity, where it is exactly zero."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sympy
from sympy import Expr

from .constants import constant_value
from .derivative import partial
from .intervals import bound_below
from .precise import CONTEXT as mp
from .precise import OPS
from .primitives import PRIMITIVES, VARIABLE, where
from .program import Program, bind, lower

__all__ = ["Breaks", "break_points", "find_breaks", "parity", "zero_by_structure"]

_BOXES = 60
_SCANNED = 50
_STEPS = 4
"""Whole numbers on each side of 0 whose steps are looked for."""


_WORK = 100_000
"""Operations that a search for breaks may take, about a second."""


@dataclass(frozen=True)
class Breaks:
    """The places where a formula may break.

    points: every x, of those that were found, where f or a derivative may jump or have no value.
    known: that there are no others, each condition and denominator having been solved or shown to
    have no zero (a scan of [-50, 50] does not count). skipped: how many conditions and denominators
    were not looked at, because the work allowed was done.
    """

    points: tuple[Any, ...]
    known: bool
    skipped: int = 0


@lru_cache(maxsize=256)
def find_breaks(expression: Expr) -> Breaks:
    """The breaks of a formula without parameters, at CONTEXT's working precision."""
    search = _Search()
    points, known = search.breaks(expression)
    return Breaks(tuple(sorted(points)), known and not search.skipped, search.skipped)


def break_points(expression: Expr) -> list[Any]:
    """`find_breaks(...).points`."""
    return list(find_breaks(expression).points)


class _Search:
    """One search for breaks, with the work that it may still take."""

    def __init__(self) -> None:
        self.work = _WORK
        self.skipped = 0
        self.found: dict[Expr, tuple[set[Any], bool]] = {}
        self.solved: dict[Expr, list[Any] | None] = {}

    def breaks(self, expression: Expr) -> tuple[set[Any], bool]:
        if expression not in self.found:
            self.found[expression] = self._breaks(expression)
        return self.found[expression]

    def _breaks(self, expression: Expr) -> tuple[set[Any], bool]:
        found: set[Any] = set()
        known = True
        for condition in _conditions(expression):
            roots = self.roots(condition)
            known = known and roots is not None
            found.update(self._scan(condition) if roots is None else roots)
        for step in _steps(expression):  # there are more of them, further out
            known = False
            roots = self.roots(step)
            found.update(self._scan(step) if roots is None else roots)
        for part, guard in dict.fromkeys(_singular(expression)):
            roots = self.roots(part)
            if roots is None and not self._has_no_zero(part, guard):
                known, roots = False, self._scan(part)
            found.update(roots or ())
        return found, known

    def _may_spend(self, work: int) -> bool:
        """True if so much work may still be done; if not, the part is skipped."""
        if self.work < work:
            self.skipped += 1
            return False
        self.work -= work
        return True

    def _has_no_zero(self, part: Expr, guard: Any) -> bool:
        """Shown by interval arithmetic, wherever the guard holds."""
        for side in (part, -part):
            program = lower({"value": where(guard, side, sympy.S.One)}, ("x",))
            if not self._may_spend(4 * _BOXES * len(program.nodes)):
                return False
            if bound_below(program, {}, mp.mpf("1e-300"), _BOXES)[1]:
                return True
        return False

    def roots(self, e: Expr) -> list[Any] | None:
        """All zeros of an expression, if they can be solved for; None if they cannot."""
        if e not in self.solved:
            self.solved[e] = self._roots(e)
        return self.solved[e]

    def _roots(self, e: Expr) -> list[Any] | None:
        if not e.has(VARIABLE):
            return []
        slope = partial(e, VARIABLE) if not e.atoms(*PRIMITIVES.values()) else VARIABLE
        if not slope.free_symbols and slope != 0:
            at_zero = constant_value(e.subs(VARIABLE, 0))
            return [-at_zero / constant_value(slope)]
        if isinstance(e, sympy.Pow):
            return self.roots(e.base) if e.exp.is_positive else []
        if isinstance(e, sympy.Mul):
            each = [self.roots(a) for a in e.args]
            return None if None in each else [x for roots in each for x in roots or ()]
        name = type(e).__name__
        if name in _POSITIVE:
            return []
        if name in _ZERO_AT_ZERO:
            return self.roots(e.args[0])
        return self._roots_of_pieces(e) if _piecewise_linear(e) else None

    def _roots_of_pieces(self, e: Expr) -> list[Any] | None:
        """The zeros of a piecewise linear expression: between its own breaks it is a line."""
        inner, known = self.breaks(e)
        at, size = _function(e)
        if not known or not self._may_spend(5 * size * (len(inner) + 1)):
            return None
        ends = sorted(inner) or [mp.zero]
        found = [x for x in ends if at(x) == 0]
        for low, high in itertools.pairwise([-mp.inf, *ends, mp.inf]):
            a, b = _two_points(low, high)
            rise = at(b) - at(a)
            if rise != 0 and low <= (root := a - at(a) * (b - a) / rise) <= high:
                found.append(root)
        return found

    def _scan(self, condition: Expr) -> list[Any]:
        """Zeros of a condition on [-50, 50]: sign changes by bisection, touching ones by search."""
        at, size = _function(condition)
        step = 8 if size < 150 else 2
        reach = _SCANNED * step
        if not self._may_spend(3 * reach * size):
            return []
        points = [mp.mpf(k) / step + mp.mpf("0.0137") for k in range(-reach, reach + 1)]
        values = [at(x) for x in points]
        roots = []
        for (a, u), (b, v) in itertools.pairwise(zip(points, values, strict=True)):
            if mp.sign(u) * mp.sign(v) < 0 and self._may_spend(80 * size):
                roots.append(_bisect(at, a, b))
        sizes = [abs(v) for v in values]
        for k in range(1, len(points) - 1):
            same = mp.sign(values[k - 1]) == mp.sign(values[k]) == mp.sign(values[k + 1])
            low = sizes[k] <= min(sizes[k - 1], sizes[k + 1]) and sizes[k] < 1
            if same and low and self._may_spend(160 * size):
                x = _lowest(at, points[k - 1], points[k + 1])
                if abs(at(x)) < 1e-15:
                    roots.append(x)
        return [mp.mpf(mp.nstr(x, 20)) for x in roots]


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


def _steps(expression: Expr) -> list[Expr]:
    """Expressions at whose zeros round and floor step, for the whole numbers next to 0."""
    found: list[Expr] = []
    for name, shift in (("round", sympy.S.Half), ("floor", sympy.S.Zero)):
        parts = sorted(expression.atoms(PRIMITIVES[name]), key=sympy.default_sort_key)
        inner = [part.args[0] for part in parts if part.has(VARIABLE)]
        found += [e - k - shift for e in inner for k in range(-_STEPS, _STEPS + (shift == 0))]
    return found


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


_POSITIVE = {"exp", "sigmoid", "softplus", "gaussian", "normal_pdf", "normal_cdf", "cosh"}
_ZERO_AT_ZERO = {
    "tanh",
    "expm1",
    "log1p",
    "softsign",
    "isru",
    "erf",
    "absolute",
    "sign",
    "sinh",
    "asinh",
    "atan",
}


def _piecewise_linear(expression: Expr) -> bool:
    kinds = {type(p).__name__ for p in expression.atoms(*PRIMITIVES.values())}
    if kinds - {"maximum", "minimum", "clip", "absolute", "where"}:
        return False
    products = [p for p in expression.atoms(sympy.Mul) if len(_varying(p)) > 1]
    powers = [p for p in expression.atoms(sympy.Pow) if p.has(VARIABLE)]
    return not products and not powers


def _varying(product: Expr) -> list[Expr]:
    return [a for a in product.args if a.has(VARIABLE)]


def _two_points(low: Any, high: Any) -> tuple[Any, Any]:
    """Two points of an interval."""
    if mp.isinf(low):
        return high - 2, high - 1
    if mp.isinf(high):
        return low + 1, low + 2
    return low + (high - low) / 4, high - (high - low) / 4


def _function(e: Expr) -> tuple[Callable[[Any], Any], int]:
    """The value of an expression at an x, and how many operations that takes."""
    program = lower({"value": e}, ("x",))
    run = bind(program, OPS)
    return lambda x: run({"x": x})["value"], len(program.nodes)


def _bisect(at: Callable[[Any], Any], a: Any, b: Any) -> Any:
    side = mp.sign(at(a))
    for _ in range(80):
        middle = (a + b) / 2
        a, b = (middle, b) if mp.sign(at(middle)) == side else (a, middle)
    return (a + b) / 2


def _lowest(at: Callable[[Any], Any], a: Any, b: Any) -> Any:
    """The x in [a, b] at which |value| is least, by golden section."""
    ratio = (mp.sqrt(5) - 1) / 2
    for _ in range(80):
        c, d = b - ratio * (b - a), a + ratio * (b - a)
        a, b = (a, d) if abs(at(c)) < abs(at(d)) else (c, b)
    near = mp.mpf(mp.nstr((a + b) / 2, 8))
    return near if abs(at(near)) <= abs(at((a + b) / 2)) else (a + b) / 2


_ODD = {"tanh", "softsign", "isru", "erf", "sin", "sinh", "asinh", "atan", "sign", "rounded"}
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


def zero_by_structure(program: Program) -> Callable[[Any], bool]:
    """A test of an x: True if the program's only output is zero there by structure: a zero
    branch taken, or a product with one. A value too small for the working precision is not."""
    run = bind(program, _ZERO_OPS)

    def is_zero(x: Any) -> bool:
        ((_, zero),) = run({"x": (x, False)}).values()
        return bool(zero)

    return is_zero


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
