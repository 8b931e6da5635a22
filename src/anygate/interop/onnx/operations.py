"""The spelling of each operation in ONNX.

ONNX has no expm1, log1p, erfc and the like, and ONNX Runtime computes some functions in float32
alone; these are spelled by others. Measured against ONNX Runtime on a CPU: within 8 ulp of the true
value in float64, but for sine and cosine near their zeros; in float32 its sigmoid is within 2e-7 of
the value, not relatively: it is 0 below -18.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any

import numpy as np

from .graph import Graph

__all__ = ["operations"]

_SPLITTER = {4: 4097.0, 8: 134217729.0}
_SQRT_HALF = {  # sqrt(1/2) rounded, and what rounding left
    4: (0.7071067690849304, 1.2101617e-08),
    8: (0.7071067811865476, -4.833646656726457e-17),
}


def _double(g: Graph) -> bool:
    return g.dtype.itemsize == 8


def _horner(g: Graph, x: str, coefficients: list[float]) -> str:
    """The polynomial with these coefficients, constant first."""
    result = g.number(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result = g.node("Add", g.node("Mul", result, x), g.number(c))
    return result


def _clamp(g: Graph, x: str, low: float, high: float) -> str:
    return g.node("Min", g.node("Max", x, g.number(low)), g.number(high))


def _compare(kind: str, g: Graph, x: str, number: float) -> str:
    return g.node(kind, x, g.number(number))


def _odd(g: Graph, x: str, size: str) -> str:
    """`size`, a function of |x|, with the sign of x. The sign of a zero is lost, which ONNX
    Runtime's Where loses anyway."""
    return g.node("Where", _compare("Less", g, x, 0.0), g.node("Neg", size), size)


def _sigmoid(g: Graph, x: str) -> str:
    if not _double(g):
        return g.node("Sigmoid", x)
    # ONNX Runtime's own is 1e-16 off, which is all there is at -37.
    decayed = g.node("Exp", g.node("Neg", g.node("Abs", x)))
    above = g.node("Where", _compare("GreaterOrEqual", g, x, 0.0), g.number(1), decayed)
    return g.node("Div", above, g.node("Add", decayed, g.number(1)))


def _expm1(g: Graph, x: str) -> str:
    """2t/(1 - t) with t = tanh(x/2) near 0."""
    t = g.node("Tanh", g.node("Mul", _clamp(g, x, -1.0, 1.0), g.number(0.5)))
    near = g.node("Div", g.node("Add", t, t), g.node("Sub", g.number(1), t))
    far = g.node("Sub", g.node("Exp", x), g.number(1))
    return g.node("Where", _compare("Less", g, g.node("Abs", x), 0.5), near, far)


def _log1p(g: Graph, x: str) -> str:
    """log(u)*(x/(u - 1)) with u = 1 + x rounded: what rounding took from x is put back."""
    u = g.node("Add", x, g.number(1))
    lost = g.node("Sub", u, g.number(1))
    nothing = _compare("Equal", g, lost, 0.0)
    ratio = g.node("Div", x, g.node("Where", nothing, g.number(1), lost))
    large = _compare("Greater", g, x, 1e30)
    ratio = g.node("Where", large, g.number(1), ratio)
    return g.node("Where", nothing, x, g.node("Mul", g.node("Log", u), ratio))


def _softplus(g: Graph, x: str) -> str:
    decayed = g.node("Exp", g.node("Neg", g.node("Abs", x)))
    return g.node("Add", g.node("Max", x, g.number(0)), _log1p(g, decayed))


def _softsign(g: Graph, x: str) -> str:
    """Of the largest number in place of infinity, which would give inf/inf."""
    largest = float(np.finfo(g.dtype).max)
    near = _clamp(g, x, -largest, largest)
    return g.node("Div", near, g.node("Add", g.node("Abs", near), g.number(1)))


def _isru(g: Graph, x: str) -> str:
    largest = float(np.finfo(g.dtype).max)
    near = _clamp(g, x, -largest, largest)
    return g.node("Div", near, _hypot(g, near, g.number(1)))


def _hypot(g: Graph, x: str, y: str) -> str:
    """The larger times sqrt(1 + ratio^2): the squares cannot overflow."""
    a, b = g.node("Abs", x), g.node("Abs", y)
    large, small = g.node("Max", a, b), g.node("Min", a, b)
    none = _compare("Equal", g, large, 0.0)
    ratio = g.node("Div", small, g.node("Where", none, g.number(1), large))
    square = g.node("Mul", ratio, ratio)
    length = g.node("Mul", large, g.node("Sqrt", g.node("Add", square, g.number(1))))
    infinite = _compare("Equal", g, large, math.inf)
    return g.node("Where", infinite, large, length)


def _split(g: Graph, x: str) -> tuple[str, str]:
    """x as a sum of two numbers with half the bits each, so that products of them are exact."""
    high = g.node("Mul", x, g.number(_SPLITTER[g.dtype.itemsize]))
    high = g.node("Sub", high, g.node("Sub", high, x))
    return high, g.node("Sub", x, high)


def _bell(g: Graph, x: str, scale: float, limit: float) -> str:
    """exp(-scale*x^2), with x^2 not rounded first: in two factors."""
    near = _clamp(g, x, -limit, limit)
    high, low = _split(g, near)
    factor = g.number(-scale)
    first = g.node("Mul", g.node("Mul", high, high), factor)
    second = g.node("Mul", g.node("Mul", low, g.node("Add", near, high)), factor)
    return g.node("Mul", g.node("Exp", first), g.node("Exp", second))


def _gaussian(g: Graph, x: str) -> str:
    return _bell(g, x, 1.0, 40.0)


def _normal_pdf(g: Graph, x: str) -> str:
    return g.node("Mul", _bell(g, x, 0.5, 60.0), g.number(1 / math.sqrt(2 * math.pi)))


@lru_cache(maxsize=2)
def _scaled_erfc(size: int) -> list[float]:
    """Coefficients of a polynomial in y = (x - 2)/(x + 2) that is (1 + 2x)*exp(x^2)*erfc(x) for
    x >= 0: its Chebyshev series as far as the dtype sees it, worked out by mpmath."""
    import mpmath

    with mpmath.workdps(40):
        count, degree = 72, {4: 13, 8: 29}[size]

        def function(y: Any) -> Any:
            x = 2 * (1 + y) / (1 - y)
            return (1 + 2 * x) * mpmath.exp(x * x) * mpmath.erfc(x)

        nodes = [mpmath.cos(mpmath.pi * (2 * k + 1) / (2 * count)) for k in range(count)]
        values = [function(y) for y in nodes]
        series = [
            2
            * mpmath.fsum(
                v * mpmath.cos(n * mpmath.acos(y)) for v, y in zip(values, nodes, strict=False)
            )
            / count
            for n in range(degree + 1)
        ]
        series[0] /= 2
        one, two = [mpmath.mpf(1)], [mpmath.mpf(0), mpmath.mpf(1)]
        total = [mpmath.mpf(0)] * (degree + 1)
        for c in series:
            for k, a in enumerate(one):
                total[k] += c * a
            twice = [mpmath.mpf(0), *(2 * a for a in two)]
            for k, a in enumerate(one):
                twice[k] -= a
            one, two = two, twice
        return [float(c) for c in total]


def _erfc_of(g: Graph, x: str, bell: str) -> str:
    """erfc(x), bell being exp(-x^2)."""
    size = g.node("Min", g.node("Abs", x), g.number(40))
    two = g.number(2)
    y = g.node("Div", g.node("Sub", size, two), g.node("Add", size, two))
    scaled = _horner(g, y, _scaled_erfc(g.dtype.itemsize))
    below = g.node("Add", g.node("Add", size, size), g.number(1))
    tail = g.node("Mul", bell, g.node("Div", scaled, below))
    return g.node("Where", _compare("Less", g, x, 0.0), g.node("Sub", two, tail), tail)


def _erfc(g: Graph, x: str) -> str:
    return _erfc_of(g, x, _gaussian(g, x))


def _erf(g: Graph, x: str) -> str:
    if not _double(g):
        return g.node("Erf", x)
    # Near 0 its Taylor series, whose first term left out is below 1e-18 of it.
    near = _clamp(g, x, -0.75, 0.75)
    terms = [
        (-1) ** n * 2 / math.sqrt(math.pi) / (math.factorial(n) * (2 * n + 1)) for n in range(17)
    ]
    series = g.node("Mul", near, _horner(g, g.node("Mul", near, near), terms))
    size = g.node("Abs", x)
    far = _odd(g, x, g.node("Sub", g.number(1), _erfc(g, size)))
    return g.node("Where", _compare("LessOrEqual", g, size, 0.75), series, far)


def _normal_cdf(g: Graph, x: str) -> str:
    """erfc(-x*sqrt(1/2))/2. The rounding of x*sqrt(1/2) is put back to first order, as erfc(y)
    changes by 2y relative to a change of y."""
    near = g.node("Neg", _clamp(g, x, -40.0, 40.0))
    root, root_rest = _SQRT_HALF[g.dtype.itemsize]
    y = g.node("Mul", near, g.number(root))
    (a, b), (c, d) = _split(g, near), _split(g, g.number(root))
    rest = g.node("Sub", g.node("Mul", a, c), y)
    for one, other in ((a, d), (b, c), (b, d)):
        rest = g.node("Add", rest, g.node("Mul", one, other))
    rest = g.node("Add", rest, g.node("Mul", near, g.number(root_rest)))
    bell = _gaussian(g, y)
    change = g.node("Mul", g.node("Mul", bell, rest), g.number(2 / math.sqrt(math.pi)))
    return g.node("Mul", g.node("Sub", _erfc_of(g, y, bell), change), g.number(0.5))


def _sign(g: Graph, x: str) -> str:
    """NaN of NaN, whatever a runtime's own gives."""
    zero = g.number(0)
    itself = g.node("Add", x, zero)  # NaN; and 0 of -0
    below = g.node("Where", g.node("Less", x, zero), g.number(-1), itself)
    return g.node("Where", g.node("Greater", x, zero), g.number(1), below)


def _large_exp_half(g: Graph, size: str) -> str:
    """exp(size)/2 where exp(size) may overflow and its half does not."""
    root = g.node("Exp", g.node("Mul", size, g.number(0.5)))
    return g.node("Mul", g.node("Mul", root, g.number(0.5)), root)


def _sinh(g: Graph, x: str) -> str:
    size = g.node("Abs", x)
    limit = 40.0
    t = _expm1(g, g.node("Min", size, g.number(limit)))
    inverse = g.node("Div", t, g.node("Add", t, g.number(1)))
    near = g.node("Mul", g.node("Add", t, inverse), g.number(0.5))
    far = _compare("Greater", g, size, limit)
    return _odd(g, x, g.node("Where", far, _large_exp_half(g, size), near))


def _cosh(g: Graph, x: str) -> str:
    size = g.node("Abs", x)
    limit = 40.0
    grown = g.node("Exp", g.node("Min", size, g.number(limit)))
    both = g.node("Add", grown, g.node("Div", g.number(1), grown))
    near = g.node("Mul", both, g.number(0.5))
    far = _compare("Greater", g, size, limit)
    return g.node("Where", far, _large_exp_half(g, size), near)


def _asinh(g: Graph, x: str) -> str:
    if not _double(g):
        return g.node("Asinh", x)
    size, limit = g.node("Abs", x), 2.0**30
    near = g.node("Min", size, g.number(limit))
    square = g.node("Mul", near, near)
    root = g.node("Sqrt", g.node("Add", square, g.number(1)))
    more = g.node("Div", square, g.node("Add", root, g.number(1)))
    inner = _log1p(g, g.node("Add", near, more))
    far = g.node("Add", g.node("Log", size), g.number(math.log(2)))
    return _odd(g, x, g.node("Where", _compare("Greater", g, size, limit), far, inner))


def _atan(g: Graph, x: str) -> str:
    if not _double(g):
        return g.node("Atan", x)
    # atan(x) = pi/2 - atan(1/x), and twice the half of an angle: t/(1 + sqrt(1 + t^2)). The series
    # is needed up to tan(pi/16) = 0.199.
    size, one = g.node("Abs", x), g.number(1)
    steep = g.node("Greater", size, one)
    t = g.node("Where", steep, g.node("Div", one, g.node("Max", size, one)), size)
    for _ in range(2):
        root = g.node("Sqrt", g.node("Add", g.node("Mul", t, t), one))
        t = g.node("Div", t, g.node("Add", root, one))
    terms = [4 * (-1) ** n / (2 * n + 1) for n in range(12)]
    angle = g.node("Mul", t, _horner(g, g.node("Mul", t, t), terms))
    rest = g.node("Sub", g.number(math.pi / 2), angle)
    return _odd(g, x, g.node("Where", steep, rest, angle))


def _clip(g: Graph, x: str, low: str, high: str) -> str:
    return g.node("Min", g.node("Max", x, low), high)


def _constant(g: Graph, value: Fraction) -> str:
    return g.number(float(value))


def _operator(kind: str) -> Callable[..., str]:
    return lambda g, *inputs: g.node(kind, *inputs)


_TABLE: Mapping[str, Callable[..., str]] = {
    "const": _constant,
    "add": _operator("Add"),
    "sub": _operator("Sub"),
    "mul": _operator("Mul"),
    "div": _operator("Div"),
    "neg": _operator("Neg"),
    "sqrt": _operator("Sqrt"),
    "lt": _operator("Less"),
    "le": _operator("LessOrEqual"),
    "gt": _operator("Greater"),
    "ge": _operator("GreaterOrEqual"),
    "and": _operator("And"),
    "or": _operator("Or"),
    "not": _operator("Not"),
    "where": _operator("Where"),
    "maximum": _operator("Max"),
    "minimum": _operator("Min"),
    "clip": _clip,
    "sigmoid": _sigmoid,
    "tanh": _operator("Tanh"),
    "exp": _operator("Exp"),
    "expm1": _expm1,
    "log": _operator("Log"),
    "log1p": _log1p,
    "softplus": _softplus,
    "softsign": _softsign,
    "isru": _isru,
    "erf": _erf,
    "erfc": _erfc,
    "gaussian": _gaussian,
    "normal_cdf": _normal_cdf,
    "normal_pdf": _normal_pdf,
    "absolute": _operator("Abs"),
    "sign": _sign,
    "rounded": _operator("Round"),
    "floor": _operator("Floor"),
    "sin": _operator("Sin"),
    "cos": _operator("Cos"),
    "sinh": _sinh,
    "cosh": _cosh,
    "asinh": _asinh,
    "atan": _atan,
    "hypot": _hypot,
}


def operations(g: Graph) -> dict[str, Callable[..., str]]:
    """The table for one graph, as `formulas.program.bind` wants it."""
    return {name: partial(operation, g) for name, operation in _TABLE.items()}
