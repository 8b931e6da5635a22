"""How NumPy spells each operation, in float64. erf is Python's, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["OPS", "Array"]

Array = NDArray[np.float64]
_SQRT_HALF = math.sqrt(0.5)
_SQRT_HALF_REST = -4.833646656726457e-17  # sqrt(1/2) - _SQRT_HALF


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


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
    "softsign": lambda x: x / (1 + np.abs(x)),
    "isru": lambda x: x / np.hypot(x, 1),
    "erf": _ERF,
    "erfc": _ERFC,
    "gaussian": _gaussian,
    "normal_cdf": _normal_cdf,
    "normal_pdf": _normal_pdf,
    "absolute": np.abs,
    "sign": np.sign,
    "sin": np.sin,
    "cos": np.cos,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "hypot": np.hypot,
}
