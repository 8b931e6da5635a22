"""The specification: the LSTM in NumPy float64, a plain loop. Every engine is tested against it.

Slow on purpose: erf is Python's, element by element, and nothing is fused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..symbolic.activation import Activation
from ..symbolic.cell import GATES, SLOTS, Cell
from ..symbolic.measures import NORMS, NUMBERS, PARTS, measured, totals
from ..symbolic.program import evaluate
from .base import Measures, Request

__all__ = ["FRAMEWORK", "NAME", "OPS", "Run", "apply", "backward", "refuses", "run", "step"]

NAME = "reference"
FRAMEWORK = "numpy"
Array = NDArray[np.float64]
_SQRT_HALF = math.sqrt(0.5)
_SQRT_HALF_REST = -4.833646656726457e-17  # sqrt(1/2) - _SQRT_HALF


def refuses(request: Request) -> str | None:
    """The reference computes everything, in float64 on the CPU."""
    return None


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


def _finite(x: Array) -> Array:
    """x with the largest number in place of infinity, of which x/(1 + |x|) is 1 and not NaN."""
    largest = np.finfo(np.float64).max
    return np.clip(x, -largest, largest)


def _softsign(x: Array) -> Array:
    near = _finite(x)
    return np.asarray(near / (1 + np.abs(near)))


def _isru(x: Array) -> Array:
    near = _finite(x)
    return near / np.hypot(near, 1)


def _hypot(x: Array, y: Array) -> Array:
    # np.hypot(inf, NaN) is inf, as C has it; NaN in gives NaN out here.
    missing = np.isnan(x) | np.isnan(y)
    return np.asarray(np.where(missing, x + y, np.hypot(x, y)))


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


@dataclass(frozen=True)
class Run:
    """What `run` returns, and what `backward` needs of it.

    output [T, B, H]; h, c [B, H]; cells [T, B, H]; saved: GATE -> [T, B, H].
    """

    output: Array
    h: Array
    c: Array
    cells: Array
    saved: dict[str, Array]


def _forward_line(cell: Cell, now: Mapping[str, Array]) -> list[Any]:
    """NUMBERS of one time step, from what the measured Program gave."""
    held = measured(cell).limits
    numbers: list[Any] = []
    with np.errstate(all="ignore"):
        for slot in SLOTS:
            numbers += totals(held[slot], *(now[f"{part}_{slot}"] for part in PARTS))
        return [*numbers, np.fmax.reduce(np.abs(now["c"]), axis=None, initial=0.0)]


def step(
    cell: Cell,
    z: Array,
    c: Array,
    parameters: Mapping[str, Any] | None = None,
    measuring: bool = False,
) -> dict[str, Array]:
    """One time step from pre-activations z [B, 4H] (i f g o) and c [B, H]: the outputs of
    `Cell.forward` by name, each [B, H]; measuring: of `Measured.forward`."""
    inputs = {f"z_{gate}": part for gate, part in zip(GATES, np.split(z, 4, -1), strict=True)}
    values = {**cell.parameters, **(parameters or {})}
    with np.errstate(all="ignore"):
        program = measured(cell).forward if measuring else cell.forward
        results = evaluate(program, OPS, {**inputs, "c_previous": c, **values})
    return {name: np.broadcast_to(value, c.shape) for name, value in results.items()}


def run(
    cell: Cell,
    x: Array,
    h0: Array,
    c0: Array,
    weight_ih: Array,
    weight_hh: Array,
    bias: Array | None,
    parameters: Mapping[str, Any] | None = None,
    reverse: bool = False,
    measures: Measures | None = None,
) -> Run:
    """One direction of one layer; arguments as in `Engine.run`. Works for T = 0 too."""
    h, c = h0, c0
    table = np.zeros((len(x), len(NUMBERS)))
    shape = (x.shape[0], *h0.shape)
    output, cells = np.zeros(shape), np.zeros(shape)
    saved = {gate: np.zeros(shape) for gate in GATES}
    for t in _order(len(x), reverse):
        with np.errstate(all="ignore"):
            z = x[t] @ weight_ih.T + h @ weight_hh.T + (0 if bias is None else bias)
        now = step(cell, z, c, parameters, measures is not None)
        if measures is not None:
            table[t] = _forward_line(cell, now)
        h, c = now["h"], now["c"]
        output[t], cells[t] = h, c
        for gate in GATES:
            saved[gate][t] = now[f"saved_{gate}"]
    if measures is not None:
        measures.forward(table[None])
    return Run(output, h, c, cells, saved)


def backward(
    cell: Cell,
    forward: Run,
    x: Array,
    h0: Array,
    c0: Array,
    weight_ih: Array,
    weight_hh: Array,
    grad_output: Array,
    grad_h: Array,
    grad_c: Array,
    parameters: Mapping[str, Any] | None = None,
    reverse: bool = False,
    measures: Measures | None = None,
) -> dict[str, Any]:
    """Gradients of a loss whose gradients by output [T, B, H], h and c [B, H] are given.

    Returns x, h0, c0, weight_ih, weight_hh, bias, and "parameters": SLOT.PARAMETER -> [B, H]
    summed over time.
    """
    values = {**cell.parameters, **(parameters or {})}
    grads: dict[str, Any] = {
        "x": np.zeros_like(x),
        "weight_ih": np.zeros_like(weight_ih),
        "weight_hh": np.zeros_like(weight_hh),
        "bias": np.zeros(weight_hh.shape[0]),
        "parameters": {name: np.zeros_like(h0) for name in cell.parameters},
    }
    steps = list(_order(len(x), reverse))
    dh, dc = grad_h, grad_c
    table = np.zeros((len(x), len(NORMS)))
    program = cell.backward if measures is None else measured(cell).backward
    for position in reversed(range(len(steps))):
        t = steps[position]
        h_previous, c_previous = (
            (forward.output[steps[position - 1]], forward.cells[steps[position - 1]])
            if position
            else (h0, c0)
        )
        inputs = {f"saved_{gate}": forward.saved[gate][t] for gate in GATES}
        inputs |= {"c_previous": c_previous, "c": forward.cells[t]}
        inputs |= {"grad_h": dh + grad_output[t], "grad_c": dc, **values}
        if measures is not None:
            last = position == len(steps) - 1
            inputs["direct_h"] = inputs["grad_h"] if last else grad_output[t]
            inputs["direct_c"] = dc if last else np.zeros_like(dc)
        with np.errstate(all="ignore"):
            back = evaluate(program, OPS, inputs)
        back = {name: np.broadcast_to(value, dc.shape) for name, value in back.items()}
        if measures is not None:
            seen = (inputs["grad_h"], inputs["direct_h"], back["grad_c_total"],
                    back["grad_c_direct"])  # fmt: skip
            table[t] = [np.square(gradient).sum() for gradient in seen]
        dz = np.concatenate([back[f"grad_z_{gate}"] for gate in GATES], -1)
        with np.errstate(all="ignore"):
            grads["x"][t] = dz @ weight_ih
            grads["weight_ih"] += dz.T @ x[t]
            grads["weight_hh"] += dz.T @ h_previous
            grads["bias"] += dz.sum(0)
            dh, dc = dz @ weight_hh, back["grad_c_previous"]
        for name in cell.parameters:
            grads["parameters"][name] += back[f"grad_{name}"]
    if measures is not None:
        measures.backward(table[None])
    return {**grads, "h0": dh, "c0": dc}


def _order(steps: int, reverse: bool) -> range:
    return range(steps - 1, -1, -1) if reverse else range(steps)
