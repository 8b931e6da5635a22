"""The spelling of each operation in LLVM vectors. To change an exponential, change `_exp_parts`.

Within 4 ulp of the true value over the whole range in float32 and float64 (tests/test_cpu.py),
infinities and NaN included. No fast-math: NaN stays NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from typing import Any

from . import special
from .emit import Emitter

__all__ = ["operations"]

# ln 2 as a sum whose first part has so few bits that its product with an exponent is exact.
_LN2_HIGH = {4: 0.693359375, 8: 6.93147180369123816490e-01}
_LN2_LOW = {4: -2.12194440e-4, 8: 1.90821492927058770002e-10}


def _compare(relation: str) -> Callable[..., Any]:
    return lambda e, a, b: e.builder.fcmp_ordered(relation, a, b)


def _select(e: Emitter, condition: Any, a: Any, b: Any) -> Any:
    return e.builder.select(condition, a, b)


def _clamp(e: Emitter, x: Any, low: float, high: float) -> Any:
    """x within [low, high]; NaN stays NaN, because a comparison with it is false."""
    b = e.builder
    x = b.select(b.fcmp_ordered("<", x, e.splat(low)), e.splat(low), x)
    return b.select(b.fcmp_ordered(">", x, e.splat(high)), e.splat(high), x)


def _exp_parts(e: Emitter, x: Any) -> tuple[Any, Any]:
    """n (an integer vector) and p with exp(x) = 2^n (1 + p), |x| below 1100.

    x = n ln2 + r with |r| <= ln2/2; p = expm1(r) by its Taylor series, whose first term left out
    is below 2^-26 (float32) or 2^-57 (float64) of r.
    """
    b, size = e.builder, e.target.size
    shifter = 1.5 * 2.0**e.mantissa_bits  # adding it leaves n in the low bits of the sum
    shifted = e.fma(x, e.splat(1 / math.log(2)), e.splat(shifter))
    n = b.sub(b.bitcast(shifted, e.integer), b.bitcast(e.splat(shifter), e.integer))
    whole = b.fsub(shifted, e.splat(shifter))
    r = e.fma(whole, e.splat(-_LN2_HIGH[size]), x)
    r = e.fma(whole, e.splat(-_LN2_LOW[size]), r)
    terms = 8 if size == 4 else 14
    series = special.horner(e, r, [1 / math.factorial(k) for k in range(2, terms)])
    return n, e.fma(b.fmul(r, r), series, r)


def _power_of_two(e: Emitter, n: Any) -> Any:
    """2^n for n within the exponents of normal numbers."""
    b = e.builder
    return b.bitcast(b.shl(b.add(n, e.isplat(e.bias)), e.isplat(e.mantissa_bits)), e.vector)


def _exp(e: Emitter, x: Any) -> Any:
    b = e.builder
    # Beyond these the result is 0 or inf anyway.
    x = _clamp(e, x, *((-104.0, 90.0) if e.target.size == 4 else (-746.0, 711.0)))
    n, p = _exp_parts(e, x)
    # 2^n in two factors, so that subnormal results and those near the largest come out right.
    half = b.ashr(n, e.isplat(1))
    result = b.fmul(b.fadd(p, e.splat(1.0)), _power_of_two(e, half))
    return b.fmul(result, _power_of_two(e, b.sub(n, half)))


def _expm1(e: Emitter, x: Any) -> Any:
    b = e.builder
    low, high = -40.0, 50.0  # above, the 1 is lost in rounding and 2^n might overflow
    n, p = _exp_parts(e, _clamp(e, x, low, high))
    scale = _power_of_two(e, n)
    small = e.fma(scale, p, b.fsub(scale, e.splat(1.0)))
    small = b.select(b.fcmp_ordered("==", x, e.splat(0.0)), x, small)  # -0 stays -0
    return b.select(b.fcmp_ordered(">", x, e.splat(high)), _exp(e, x), small)


def _sigmoid(e: Emitter, x: Any) -> Any:
    b = e.builder
    decayed = _exp(e, b.fneg(e.call("fabs", x)))
    above = b.select(b.fcmp_ordered(">=", x, e.splat(0.0)), e.splat(1.0), decayed)
    return b.fdiv(above, b.fadd(decayed, e.splat(1.0)))


def _tanh(e: Emitter, x: Any) -> Any:
    """t/(t + 2) with t = expm1(2|x|): no cancellation, no overflow."""
    b = e.builder
    size = _clamp(e, e.call("fabs", x), 0.0, 10.0 if e.target.size == 4 else 20.0)
    n, p = _exp_parts(e, b.fadd(size, size))
    scale = _power_of_two(e, n)
    t = e.fma(scale, p, b.fsub(scale, e.splat(1.0)))
    return e.call("copysign", b.fdiv(t, b.fadd(t, e.splat(2.0))), x)


def _log_normal(e: Emitter, x: Any) -> Any:
    """log of positive normal numbers: x = 2^k m with m in [sqrt(1/2), sqrt(2)], and
    log m = 2 atanh(s), s = (m - 1)/(m + 1), by its series."""
    b, size = e.builder, e.target.size
    bits = b.bitcast(x, e.integer)
    root_half = b.bitcast(e.splat(math.sqrt(0.5)), e.integer)
    k = b.ashr(b.sub(bits, root_half), e.isplat(e.mantissa_bits))
    m = b.bitcast(b.sub(bits, b.shl(k, e.isplat(e.mantissa_bits))), e.vector)
    f = b.fsub(m, e.splat(1.0))
    s = b.fdiv(f, b.fadd(f, e.splat(2.0)))
    s2 = b.fmul(s, s)
    terms = 6 if size == 4 else 13
    series = b.fmul(s2, special.horner(e, s2, [2 / (2 * j + 3) for j in range(terms)]))
    half_square = b.fmul(b.fmul(f, f), e.splat(0.5))
    k = b.sitofp(k, e.vector)
    rest = b.fmul(s, b.fadd(half_square, series))
    low = e.fma(k, e.splat(_LN2_LOW[size]), rest)
    tail = b.fsub(f, b.fsub(half_square, low))
    return e.fma(k, e.splat(_LN2_HIGH[size]), tail)


def _log(e: Emitter, x: Any) -> Any:
    b = e.builder
    smallest = 2.0**-126 if e.target.size == 4 else 2.0**-1022
    shift = e.mantissa_bits + 1
    tiny = b.fcmp_ordered("<", x, e.splat(smallest))
    scaled = b.select(tiny, b.fmul(x, e.splat(2.0**shift)), x)
    result = _log_normal(e, scaled)
    result = b.select(tiny, b.fsub(result, e.splat(shift * math.log(2))), result)
    result = b.select(b.fcmp_ordered("==", x, e.splat(math.inf)), x, result)
    result = b.select(b.fcmp_ordered("==", x, e.splat(0.0)), e.splat(-math.inf), result)
    bad = b.fcmp_unordered("<", x, e.splat(0.0))  # negative, or NaN
    return b.select(bad, e.splat(math.nan), result)


def _log1p(e: Emitter, x: Any) -> Any:
    """log(u) + (x - (u - 1))/u with u = 1 + x rounded: what rounding took is put back."""
    b = e.builder
    u = b.fadd(x, e.splat(1.0))
    lost = b.fdiv(b.fsub(x, b.fsub(u, e.splat(1.0))), u)
    result = b.fadd(_log(e, u), lost)
    plain = b.fcmp_ordered(">", e.call("fabs", u), e.splat(1e30))
    result = b.select(plain, _log(e, u), result)  # inf - inf above
    result = b.select(b.fcmp_ordered("==", u, e.splat(0.0)), e.splat(-math.inf), result)
    return b.select(b.fcmp_ordered("==", x, e.splat(0.0)), x, result)


def _softplus(e: Emitter, x: Any) -> Any:
    b = e.builder
    decayed = _exp(e, b.fneg(e.call("fabs", x)))
    # decayed is in [0, 1]: the general log1p's special cases cannot arise.
    u = b.fadd(decayed, e.splat(1.0))
    lost = b.fdiv(b.fsub(decayed, b.fsub(u, e.splat(1.0))), u)
    return b.fadd(e.call("maximum", x, e.splat(0.0)), b.fadd(_log_normal(e, u), lost))


def _decay(e: Emitter, x: Any, factor: float, times: Any) -> Any:
    """times exp(-factor x^2), factor being 1 or 1/2. What rounding takes of x^2 is put back, and
    exp's own 1 + p is never rounded. Far out the result is 0."""
    b = e.builder
    limits = (10.5, 15.0) if e.target.size == 4 else (28.0, 39.5)
    limit = limits[factor < 1]
    x = _clamp(e, x, -limit, limit)
    square = b.fmul(x, x)
    rest = b.fmul(e.call("fma", x, x, b.fneg(square)), e.splat(-factor))
    n, p = _exp_parts(e, b.fmul(square, e.splat(-factor)))
    p = b.fadd(e.fma(rest, p, p), rest)
    half = b.ashr(n, e.isplat(1))  # in two factors, so that subnormal results come out right
    result = b.fmul(e.fma(times, p, times), _power_of_two(e, half))
    return b.fmul(result, _power_of_two(e, b.sub(n, half)))


def _gaussian(e: Emitter, x: Any) -> Any:
    return _decay(e, x, 1.0, e.splat(1.0))


def _normal_pdf(e: Emitter, x: Any) -> Any:
    return _decay(e, x, 0.5, e.splat(1 / math.sqrt(2 * math.pi)))


def _normal_cdf(e: Emitter, x: Any) -> Any:
    """erfc(-x sqrt(1/2))/2. erfc changes by 2y relative to a change of its argument y, so
    float32 takes exp(-x^2/2) of x itself, and in float64 the argument's rounding is put back."""
    b = e.builder
    root, root_rest = math.sqrt(0.5), -4.833646656726457e-17
    if e.target.size == 4:
        ratio = special.scaled_erfc(e, _clamp(e, e.call("fabs", x), 0.0, 15.0), root)
        lower = _decay(e, x, 0.5, b.fmul(ratio, e.splat(0.5)))
        below = b.fcmp_ordered("<", x, e.splat(0.0))
        return b.select(below, lower, b.fsub(e.splat(1.0), lower))
    near = _clamp(e, b.fneg(x), -40.0, 40.0)
    y = b.fmul(near, e.splat(root))
    rest = e.call("fma", near, e.splat(root), b.fneg(y))
    rest = e.fma(near, e.splat(root_rest), rest)
    change = b.fmul(b.fmul(_gaussian(e, y), rest), e.splat(-2 / math.sqrt(math.pi)))
    return b.fmul(b.fadd(e.each_lane("erfc", y), change), e.splat(0.5))


def _erf(e: Emitter, x: Any) -> Any:
    return special.erf(e, x, _exp) if e.target.size == 4 else e.each_lane("erf", x)


def _erfc(e: Emitter, x: Any) -> Any:
    if e.target.size == 8:
        return e.each_lane("erfc", x)
    b = e.builder
    above = _decay(e, x, 1.0, special.scaled_erfc(e, _clamp(e, e.call("fabs", x), 0.0, 15.0), 1.0))
    below = b.fcmp_ordered("<", x, e.splat(0.0))
    return b.select(below, b.fsub(e.splat(2.0), above), above)


def _sin(e: Emitter, x: Any) -> Any:
    return special.sin_or_cos(e, x, 0, "sin") if e.target.size == 4 else e.each_lane("sin", x)


def _cos(e: Emitter, x: Any) -> Any:
    return special.sin_or_cos(e, x, 1, "cos") if e.target.size == 4 else e.each_lane("cos", x)


def _atan(e: Emitter, x: Any) -> Any:
    return special.atan(e, x) if e.target.size == 4 else e.each_lane("atan", x)


def _hypot(e: Emitter, x: Any, y: Any) -> Any:
    """The larger times sqrt(1 + ratio^2): the squares cannot overflow."""
    b = e.builder
    x, y = e.call("fabs", x), e.call("fabs", y)
    large, small = e.call("maximum", x, y), e.call("minimum", x, y)
    ratio = b.fdiv(small, large)
    length = b.fmul(large, e.call("sqrt", e.fma(ratio, ratio, e.splat(1.0))))
    length = b.select(b.fcmp_ordered("==", large, e.splat(math.inf)), large, length)
    return b.select(b.fcmp_ordered("==", large, e.splat(0.0)), large, length)


def _one_at_infinity(e: Emitter, x: Any, result: Any) -> Any:
    """The result, or +-1 where x is infinite and it would be inf/inf."""
    infinite = e.builder.fcmp_ordered("==", e.call("fabs", x), e.splat(math.inf))
    return e.builder.select(infinite, e.call("copysign", e.splat(1.0), x), result)


def _isru(e: Emitter, x: Any) -> Any:
    return _one_at_infinity(e, x, e.builder.fdiv(x, _hypot(e, x, e.splat(1.0))))


def _softsign(e: Emitter, x: Any) -> Any:
    quotient = e.builder.fdiv(x, e.builder.fadd(e.call("fabs", x), e.splat(1.0)))
    return _one_at_infinity(e, x, quotient)


def _large_exp_half(e: Emitter, size: Any) -> Any:
    """exp(size)/2 where exp(size) may overflow and its half does not."""
    b = e.builder
    root = _exp(e, b.fmul(size, e.splat(0.5)))
    return b.fmul(b.fmul(root, e.splat(0.5)), root)


def _sinh(e: Emitter, x: Any) -> Any:
    b = e.builder
    size = e.call("fabs", x)
    limit = 20.0 if e.target.size == 4 else 40.0
    t = _expm1(e, _clamp(e, size, 0.0, limit))
    near = b.fmul(b.fadd(t, b.fdiv(t, b.fadd(t, e.splat(1.0)))), e.splat(0.5))
    far = b.fcmp_ordered(">", size, e.splat(limit))
    return e.call("copysign", b.select(far, _large_exp_half(e, size), near), x)


def _cosh(e: Emitter, x: Any) -> Any:
    b = e.builder
    size = e.call("fabs", x)
    limit = 20.0 if e.target.size == 4 else 40.0
    grown = _exp(e, _clamp(e, size, 0.0, limit))
    near = b.fmul(b.fadd(grown, b.fdiv(e.splat(1.0), grown)), e.splat(0.5))
    far = b.fcmp_ordered(">", size, e.splat(limit))
    return b.select(far, _large_exp_half(e, size), near)


def _asinh(e: Emitter, x: Any) -> Any:
    b = e.builder
    size = e.call("fabs", x)
    limit = 2.0**30
    near = _clamp(e, size, 0.0, limit)
    square = b.fmul(near, near)
    root = e.call("sqrt", b.fadd(square, e.splat(1.0)))
    inner = b.fadd(near, b.fdiv(square, b.fadd(root, e.splat(1.0))))
    far = b.fadd(_log(e, size), e.splat(math.log(2)))
    result = b.select(b.fcmp_ordered(">", size, e.splat(limit)), far, _log1p(e, inner))
    return e.call("copysign", result, x)


def _sign(e: Emitter, x: Any) -> Any:
    b = e.builder
    zero = e.splat(0.0)
    itself = b.fadd(x, zero)  # NaN; and 0 of -0
    below = b.select(b.fcmp_ordered("<", x, zero), e.splat(-1.0), itself)
    return b.select(b.fcmp_ordered(">", x, zero), e.splat(1.0), below)


def _intrinsic(name: str) -> Callable[..., Any]:
    return lambda e, *arguments: e.call(name, *arguments)


def _builder(name: str) -> Callable[..., Any]:
    return lambda e, *arguments: getattr(e.builder, name)(*arguments)


def _constant(e: Emitter, value: Fraction) -> Any:
    return e.splat(float(value))


_TABLE: Mapping[str, Callable[..., Any]] = {
    "const": _constant,
    "add": _builder("fadd"),
    "sub": _builder("fsub"),
    "mul": _builder("fmul"),
    "div": _builder("fdiv"),
    "neg": _builder("fneg"),
    "sqrt": _intrinsic("sqrt"),
    "lt": _compare("<"),
    "le": _compare("<="),
    "gt": _compare(">"),
    "ge": _compare(">="),
    "and": _builder("and_"),
    "or": _builder("or_"),
    "not": _builder("not_"),
    "where": _select,
    "maximum": _intrinsic("maximum"),
    "minimum": _intrinsic("minimum"),
    "clip": lambda e, x, low, high: e.call("minimum", e.call("maximum", x, low), high),
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "exp": _exp,
    "expm1": _expm1,
    "log": _log,
    "log1p": _log1p,
    "softplus": _softplus,
    "softsign": _softsign,
    "isru": _isru,
    "erf": _erf,
    "erfc": _erfc,
    "gaussian": _gaussian,
    "normal_cdf": _normal_cdf,
    "normal_pdf": _normal_pdf,
    "absolute": _intrinsic("fabs"),
    "sign": _sign,
    "rounded": _intrinsic("nearbyint"),
    "floor": _intrinsic("floor"),
    "sin": _sin,
    "cos": _cos,
    "sinh": _sinh,
    "cosh": _cosh,
    "asinh": _asinh,
    "atan": _atan,
    "hypot": _hypot,
}


def operations(e: Emitter) -> dict[str, Callable[..., Any]]:
    """The table for one emitter, as `Program` wants it."""
    return {name: partial(operation, e) for name, operation in _TABLE.items()}
