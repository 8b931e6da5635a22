"""The spelling of each operation in NumPy, in float64. erf is Python's, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...formulas.activation import Activation
from ...formulas.program import evaluate

__all__ = ["OPS", "Array", "apply"]

Array = NDArray[np.float64]
_SQRT_HALF = math.sqrt(0.5)
_SQRT_HALF_REST = -4.833646656726457e-17  # sqrt(1/2) - _SQRT_HALF


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _finite(x: Array) -> Array:
    """x with the largest number in place of infinity, of which x/(1 + |x|) is 1 and not NaN."""
    largest = np.finfo(np.float64).max
    return np.clip(x, -largest, largest)


def _softsign(x: Array) -> Array:
    near = _finite(x)
    return np.asarray(near / (1 + np.abs(near)))


def _isru(x: Array) -> Array:
    near = _finite(x)
    return np.asarray(near / np.hypot(near, 1))


def _hypot(x: Array, y: Array) -> Array:
    # np.hypot(inf, NaN) is inf, as C has it; NaN in gives NaN out here.
    missing = np.isnan(x) | np.isnan(y)
    return np.asarray(np.where(missing, x + y, np.hypot(x, y)))


def _split(x: Array) -> tuple[Array, Array]:
    """x as a sum of two numbers with 26 bits each, so that products of them are exact."""
    high = x * 134217729.0
    high = high - (high - x)
    return high, x - high


def _times_sqrt_half(x: Array) -> tuple[Array, Array]:
    """x*sqrt(1/2) as a rounded value and the rest that rounding left."""
    product = x * _SQRT_HALF
    (a, b), (c, d) = _split(x), _split(np.float64(_SQRT_HALF))  # type: ignore[arg-type]
    rest = ((a * c - product) + a * d + b * c) + b * d + x * _SQRT_HALF_REST
    return product, rest


def _normal_cdf(x: Array) -> Array:
    # erfc(y) changes by 2y relative to a change of y: the rounding of x*sqrt(1/2) alone costs
    # x^2/2 ulp (200 at x = -20), so its rest is put back to first order. Beyond 40 the value is
    # 0 or 1 and the split would overflow.
    near = np.clip(x, -40.0, 40.0)
    y, rest = _times_sqrt_half(-near)
    tail = np.asarray(_ERFC(y), dtype=np.float64)
    return 0.5 * (tail - 2 / math.sqrt(math.pi) * np.exp(-y * y) * rest)


def _gaussian(x: Array) -> Array:
    near = np.clip(x, -40.0, 40.0)
    high, low = _split(near)
    return np.exp(-high * high) * np.exp(-low * (near + high))


def _normal_pdf(x: Array) -> Array:
    near = np.clip(x, -60.0, 60.0)
    high, low = _split(near)
    return np.exp(-high * high / 2) * np.exp(-low * (near + high) / 2) / math.sqrt(2 * math.pi)


def _float(value: Fraction) -> Array:
    return np.float64(float(value))  # type: ignore[return-value]


_ERF = np.vectorize(math.erf, otypes=[np.float64])
_ERFC = np.vectorize(math.erfc, otypes=[np.float64])

OPS: Mapping[str, Callable[..., Any]] = {
    "const": _float,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "sqrt": np.sqrt,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "where": np.where,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "softplus": _softplus,
    "softsign": _softsign,
    "isru": _isru,
    "erf": _ERF,
    "erfc": _ERFC,
    "gaussian": _gaussian,
    "normal_cdf": _normal_cdf,
    "normal_pdf": _normal_pdf,
    "absolute": np.abs,
    "sign": np.sign,
    "rounded": np.rint,
    "floor": np.floor,
    "sin": np.sin,
    "cos": np.cos,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "hypot": _hypot,
}


def apply(activation: Activation, x: Any, parameters: Mapping[str, Any] | None = None) -> Any:
    """f(x) elementwise for a NumPy array or number, computed in float64 and rounded once to the
    dtype of x; whole numbers give float64. Raises TypeError for what is no real number."""
    array = np.asarray(x)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{activation.name} takes real numbers, not an array of {array.dtype}")
    inputs = {"x": array.astype(np.float64), **activation.parameters, **(parameters or {})}
    with np.errstate(all="ignore"):
        value = evaluate(activation.value_program, OPS, inputs)["value"]
        shape = np.broadcast_shapes(
            array.shape, *(np.shape(p) for p in (parameters or {}).values())
        )
        dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
        return np.array(np.broadcast_to(value, shape), dtype=dtype)[()]
