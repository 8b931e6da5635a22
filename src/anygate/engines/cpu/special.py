"""erf, erfc, the normal distribution's cdf, sin, cos and atan as float32 vectors.

The polynomials are minimax fits by benchmarks/coefficients.py, which says what each is; their
errors are below a unit in the last place. float64 calls the C library lane by lane (ops.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from .emit import Emitter, external

__all__ = ["atan", "erf", "horner", "scaled_erfc", "sin_or_cos"]

_ERF = [
    0.12837916612625122,
    -0.37612637877464294,
    0.11283782124519348,
    -0.0268654003739357,
    0.005220945458859205,
    -0.000848282827064395,
    0.00011256945435889065,
    -9.641508768254425e-06,
]
_ERF_TAIL = [
    0.00018846728198695928,
    -1.1295802593231201,
    -0.633216381072998,
    -0.10842209309339523,
    0.025210337713360786,
    -0.004205283708870411,
    0.0004414724826347083,
    -2.169760045944713e-05,
]
_ERFC = [
    1.7432423830032349,
    -3.283790349960327,
    1.6706340312957764,
    0.5440229177474976,
    -0.4447803199291229,
    -0.08457573503255844,
    -0.42030224204063416,
    0.6092051863670349,
    -0.20536720752716064,
]
_ERFC_K = 2.0
_SIN = [-0.1666666716337204, 0.008333329111337662, -0.00019839315791614354, 2.718121777434135e-06]
_COS = [0.0416666679084301, -0.0013888883404433727, 2.4799499442451634e-05, -2.720847760429024e-07]
_ATAN = [
    -0.33333298563957214,
    0.19998548924922943,
    -0.14264242351055145,
    0.10952185839414597,
    -0.0840345025062561,
    0.057957593351602554,
    -0.03117784671485424,
    0.010914606042206287,
    -0.0017936218064278364,
]
_HALF_PI = (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15)
"""Three float32 numbers that sum to pi/2."""
_LARGEST_ANGLE = 65536.0
"""The multiple of pi/2 that is taken off has 16 bits or fewer, so that what is left is exact to the
last place."""


def horner(e: Emitter, x: Any, coefficients: list[float]) -> Any:
    """The polynomial with the given coefficients, constant first."""
    result = e.splat(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        result = e.fma(result, x, e.splat(c))
    return result


def erf(e: Emitter, x: Any, exp: Callable[[Emitter, Any], Any]) -> Any:
    """x + x P(x^2) for |x| < 1, else +-(1 - exp(P(|x|)))."""
    b = e.builder
    size = e.call("fabs", x)
    near = e.fma(x, horner(e, b.fmul(x, x), _ERF), x)
    end = b.select(b.fcmp_ordered(">", size, e.splat(4.0)), e.splat(4.0), size)
    far = b.fsub(e.splat(1.0), exp(e, horner(e, end, _ERF_TAIL)))
    below = b.fcmp_ordered("<", size, e.splat(1.0))
    return b.select(below, near, e.call("copysign", far, x))


def scaled_erfc(e: Emitter, size: Any, scale: float) -> Any:
    """exp(y^2) erfc(y) for y = scale*size >= 0; a rounded y would be off by 2 y^2 units, so that
    the exponential is for the caller, of size itself."""
    b = e.builder
    v = b.fdiv(size, b.fadd(size, e.splat(_ERFC_K / scale)))
    above = e.fma(v, horner(e, v, _ERFC), e.splat(1.0))
    return b.fdiv(above, e.fma(size, e.splat(2 * scale), e.splat(1.0)))


def sin_or_cos(e: Emitter, x: Any, quarter: int, name: str) -> Any:
    """sin(x + quarter pi/2). Vectors with an infinity, a NaN or an angle above 2^16 go to the C
    library's function of this name."""
    b = e.builder
    lanes = e.target.lanes
    small = b.fcmp_ordered("<=", e.call("fabs", x), e.splat(_LARGEST_ANGLE))
    bits = ir.VectorType(ir.IntType(1), lanes)
    all_of = f"llvm.vector.reduce.and.v{lanes}i1"
    reduce = external(e.module, all_of, ir.FunctionType(ir.IntType(1), [bits]))
    with b.if_else(b.call(reduce, [small]), likely=True) as (then, otherwise):
        with then:
            near = _small_angle(e, x, quarter)
            from_near = b.block
        with otherwise:
            far = e.each_lane(name, x)
            from_far = b.block
    result = b.phi(e.vector)
    result.add_incoming(near, from_near)
    result.add_incoming(far, from_far)
    return result


def _small_angle(e: Emitter, x: Any, quarter: int) -> Any:
    b = e.builder
    shifter = 1.5 * 2.0**e.mantissa_bits  # adding it leaves n in the low bits of the sum
    shifted = e.fma(x, e.splat(2 / math.pi), e.splat(shifter))
    n = b.sub(b.bitcast(shifted, e.integer), b.bitcast(e.splat(shifter), e.integer))
    n = b.add(n, e.isplat(quarter))
    whole = b.fneg(b.fsub(shifted, e.splat(shifter)))
    r = x
    for part in _HALF_PI:
        r = e.call("fma", whole, e.splat(part), r)
    square = b.fmul(r, r)
    sine = e.fma(b.fmul(r, square), horner(e, square, _SIN), r)
    cosine = e.fma(b.fmul(square, square), horner(e, square, _COS), e.splat(1.0))
    cosine = e.fma(square, e.splat(-0.5), cosine)
    odd = b.icmp_signed("!=", b.and_(n, e.isplat(1)), e.isplat(0))
    result = b.bitcast(b.select(odd, cosine, sine), e.integer)
    sign = b.shl(b.and_(n, e.isplat(2)), e.isplat(30))
    result = b.bitcast(b.xor(result, sign), e.vector)
    if quarter:
        return result
    return b.select(b.fcmp_ordered("==", x, e.splat(0.0)), x, result)  # -0 stays -0


def atan(e: Emitter, x: Any) -> Any:
    """z + z^3 P(z^2) with z = |x|, or pi/2 less that with z = 1/|x|."""
    b = e.builder
    size = e.call("fabs", x)
    large = b.fcmp_ordered(">", size, e.splat(1.0))
    z = b.select(large, b.fdiv(e.splat(1.0), size), size)
    square = b.fmul(z, z)
    near = e.fma(b.fmul(z, square), horner(e, square, _ATAN), z)
    far = b.fsub(e.splat(_HALF_PI[0]), b.fsub(near, e.splat(_HALF_PI[1])))
    return e.call("copysign", b.select(large, far, near), x)
