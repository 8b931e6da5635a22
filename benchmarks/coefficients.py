"""The coefficients of the CPU engine's float32 functions (special.py): minimax polynomials.

    python benchmarks/coefficients.py

Each line gives a polynomial's name, its coefficients (constant first) rounded to float32, and the
largest weighted error of the rounded polynomial in units of 2^-24, the half of one unit in the last
place of 1. Functions come from mpmath with 40 digits; the fit is Lawson's: least squares over many
Chebyshev nodes, whose weights grow where the error is large until it is level.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from mpmath import mp

NODES = 600
ROUNDS = 300
K = 2.0
"""erfc's argument y becomes y/(y + K)."""


def minimax(
    f: Callable[[Any], Any],
    weight: Callable[[Any], Any],
    low: float,
    high: float,
    degree: int,
    variable: Callable[[Any], Any] = lambda x: x,
) -> tuple[list[float], float]:
    """Coefficients of P of which max |weight(x) (P(variable(x)) - f(x))| over [low, high] is least,
    in float32; and that maximum over 2^-24."""
    middle, radius = (low + high) / 2, (high - low) / 2
    x = [mp.mpf(middle + radius * np.cos(np.pi * (k + 0.5) / NODES)) for k in range(NODES)]
    t = np.array([float(variable(v)) for v in x])
    value = np.array([float(f(v)) for v in x])
    scale = np.array([float(weight(v)) for v in x])
    ends = t.min(), t.max()
    to_unit = 2 * (t - ends[0]) / (ends[1] - ends[0]) - 1
    basis = np.polynomial.chebyshev.chebvander(to_unit, degree)
    lawson = np.ones(NODES) / NODES
    best, found = np.inf, np.zeros(degree + 1)
    for _ in range(ROUNDS):
        root = np.sqrt(lawson) * scale
        own = np.linalg.lstsq(basis * root[:, None], value * root, rcond=None)[0]
        error = np.abs(scale * (basis @ own - value))
        if error.max() < best:
            best, found = error.max(), own
        lawson = lawson * error
        lawson /= lawson.sum()
    series = np.polynomial.Chebyshev(found, domain=ends)
    powers = series.convert(kind=np.polynomial.Polynomial).coef
    rounded = [float(np.float32(c)) for c in powers]
    error = np.abs(scale * (np.polynomial.polynomial.polyval(t, rounded) - value))
    return rounded, float(error.max() * 2**24)


def main() -> None:
    """All of them."""
    mp.dps = 40
    fits: dict[str, Any] = {
        # erf(x) = x + x P(x^2) for |x| < 1
        "ERF": (
            lambda s: mp.erf(mp.sqrt(s)) / mp.sqrt(s) - 1,
            lambda s: mp.sqrt(s) / mp.erf(mp.sqrt(s)),
            1e-12,
            1.0,
            7,
        ),
        # erf(x) = 1 - exp(P(x)) for x from 1 to 4
        "ERF_TAIL": (lambda x: mp.log(mp.erfc(x)), lambda x: mp.erfc(x) / mp.erf(x), 1.0, 4.0, 7),
        # erfc(y) = exp(-y^2) (1 + v P(v)) / (1 + 2 y) with v = y/(y + K), for y from 0 to 10.1
        "ERFC": (
            lambda y: ((1 + 2 * y) * mp.exp(y * y) * mp.erfc(y) - 1) * (y + K) / y,
            lambda y: y / (y + K) / ((1 + 2 * y) * mp.exp(y * y) * mp.erfc(y)),
            1e-9,
            10.1,
            8,
            lambda y: y / (y + K),
        ),
        # sin(r) = r + r^3 P(r^2), cos(r) = 1 - r^2/2 + r^4 P(r^2) for |r| <= pi/4
        "SIN": (lambda s: (mp.sin(mp.sqrt(s)) / mp.sqrt(s) - 1) / s, lambda s: s, 1e-6, 0.62, 3),
        "COS": (lambda s: (mp.cos(mp.sqrt(s)) - 1 + s / 2) / s**2, lambda s: s**2, 1e-6, 0.62, 3),
        # atan(x) = x + x^3 P(x^2) for |x| <= 1
        "ATAN": (
            lambda s: (mp.atan(mp.sqrt(s)) / mp.sqrt(s) - 1) / s,
            lambda s: s * mp.sqrt(s) / mp.atan(mp.sqrt(s)),
            1e-6,
            1.0,
            8,
        ),
    }
    for name, arguments in fits.items():
        coefficients, error = minimax(*arguments)
        print(f"{name} = {coefficients}  # {error:.3f}")


if __name__ == "__main__":
    main()
