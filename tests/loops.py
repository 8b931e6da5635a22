"""The built-in cells written out by hand, one function each, in NumPy float64; and derivatives by
difference quotients.

Nothing here comes from anygate: no Program, no derived derivative, no reading of cells. What the
engines compute is judged by this, so a fault in the derivation that all of them share is seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Apply = Callable[[str, Array], Array]
"""apply(slot, z): the activation in a slot, at z."""
Recur = Callable[[int, Array], Array]
"""recur(k, e): R_k e + b_hh_k for the k-th recurrent product and e [B, H]."""
Step = Callable[[list[Array], Recur, tuple[Array, ...], Apply, dict[str, Array]], Any]
"""step(u, recur, states, apply, v) -> the new states. u: W_k x + b_ih_k of each product with an
input; v: vectors [H] and this step's masks [B, H] by name."""


# ---- the cells ---------------------------------------------------------------------------------


def lstm(u: Any, recur: Recur, states: Any, apply: Apply, v: Any) -> Any:
    h, c = states
    i = apply("input_gate", u[0] + recur(0, h))
    f = apply("forget_gate", u[1] + recur(1, h))
    g = apply("candidate", u[2] + recur(2, h))
    o = apply("output_gate", u[3] + recur(3, h))
    c = f * c + i * g
    return o * apply("cell_output", c), c


def peephole_lstm(u: Any, recur: Recur, states: Any, apply: Apply, v: Any) -> Any:
    h, c = states
    i = apply("input_gate", u[0] + recur(0, h) + v["input_gate_peephole"] * c)
    f = apply("forget_gate", u[1] + recur(1, h) + v["forget_gate_peephole"] * c)
    g = apply("candidate", u[2] + recur(2, h))
    c = f * c + i * g
    o = apply("output_gate", u[3] + recur(3, h) + v["output_gate_peephole"] * c)
    return o * apply("cell_output", c), c


def coupled_lstm(u: Any, recur: Recur, states: Any, apply: Apply, v: Any) -> Any:
    h, c = states
    i = apply("input_gate", u[0] + recur(0, h))
    g = apply("candidate", u[2] + recur(2, h))
    o = apply("output_gate", u[3] + recur(3, h))
    c = (1 - i) * c + i * g
    return o * apply("cell_output", c), c


def coupled_peephole_lstm(u: Any, recur: Recur, states: Any, apply: Apply, v: Any) -> Any:
    h, c = states
    i = apply("input_gate", u[0] + recur(0, h) + v["input_gate_peephole"] * c)
    g = apply("candidate", u[2] + recur(2, h))
    c = (1 - i) * c + i * g
    o = apply("output_gate", u[3] + recur(3, h) + v["output_gate_peephole"] * c)
    return o * apply("cell_output", c), c


def gru(u: Any, recur: Recur, states: Any, apply: Apply, v: Any) -> Any:
    (h,) = states
    r = apply("reset_gate", u[0] + recur(0, h))
    z = apply("update_gate", u[1] + recur(1, h))
    n = apply("candidate", u[2] + r * recur(2, h))
    return ((1 - z) * n + z * h,)


def gru_reset_before(u: Any, recur: Recur, states: Any, apply: Apply, v: Any) -> Any:
    (h,) = states
    r = apply("reset_gate", u[0] + recur(0, h))
    z = apply("update_gate", u[1] + recur(1, h))
    n = apply("candidate", u[2] + recur(2, r * h))
    return ((1 - z) * n + z * h,)


def elman(u: Any, recur: Recur, states: Any, apply: Apply, v: Any) -> Any:
    (h,) = states
    return (apply("candidate", u[0] + recur(0, h)),)


def zoneout_lstm(u: Any, recur: Recur, states: Any, apply: Apply, v: Any) -> Any:
    h, c = states
    new_h, new_c = lstm(u, recur, states, apply, v)
    keep_h, keep_c = v["zoneout_h"], v["zoneout_c"]
    return keep_h * h + (1 - keep_h) * new_h, keep_c * c + (1 - keep_c) * new_c


def zoneout_lstm_mean(u: Any, recur: Recur, states: Any, apply: Apply, v: Any) -> Any:
    """Zoneout outside training, at the rates 0.1 for h and 0.25 for c."""
    h, c = states
    new_h, new_c = lstm(u, recur, states, apply, v)
    return 0.1 * h + 0.9 * new_h, 0.25 * c + 0.75 * new_c


def dropout_lstm(u: Any, recur: Recur, states: Any, apply: Apply, v: Any) -> Any:
    """The products see the first state, which is the mask times h."""
    dropped, _, c = states
    h, c = lstm(u, recur, (dropped, c), apply, v)
    return v["recurrent_dropout"] * h, h, c


def dropout_gru(u: Any, recur: Recur, states: Any, apply: Apply, v: Any) -> Any:
    dropped, h = states
    r = apply("reset_gate", u[0] + recur(0, dropped))
    z = apply("update_gate", u[1] + recur(1, dropped))
    n = apply("candidate", u[2] + r * recur(2, dropped))
    h = (1 - z) * n + z * h
    return v["recurrent_dropout"] * h, h


def _normed(z: Array, gain: Array, shift: Array) -> Array:
    centred = z - z.mean(-1, keepdims=True)
    return gain * centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) + shift


def layer_norm_lstm(u: Any, recur: Recur, states: Any, apply: Apply, v: Any) -> Any:
    h, c = states
    z = {}
    for k, gate in enumerate("ifgo"):
        z[gate] = _normed(u[k] + recur(k, h), v[f"gain_z_{gate}"], v[f"shift_z_{gate}"])
    c = apply("forget_gate", z["f"]) * c + apply("input_gate", z["i"]) * apply("candidate", z["g"])
    inner = _normed(c, v["gain_c"], v["shift_c"])
    return apply("output_gate", z["o"]) * apply("cell_output", inner), c


# ---- a layer -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inputs:
    """The inputs of a layer; shapes as in `anygate.engines.protocol.Layer`.

    vectors: name -> [H]. masks: name -> [T, B, H]. parameters: slot -> name -> number or [H].
    """

    x: Array
    states: tuple[Array, ...]
    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array
    vectors: Mapping[str, Array]
    masks: Mapping[str, Array]
    parameters: Mapping[str, Mapping[str, Any]]


Functions = Mapping[str, Callable[..., Array]]
"""slot -> f(x, **parameters)."""


def run(
    step: Step, functions: Functions, given: Inputs, clip: float = math.inf, reverse: bool = False
) -> list[tuple[Array, ...]]:
    """The states after each time step, in the order of x."""
    units = given.states[0].shape[1]

    def apply(slot: str, z: Array) -> Array:
        inside = np.minimum(np.maximum(z, -clip), clip)
        return functions[slot](inside, **given.parameters.get(slot, {}))

    def recur(k: int, e: Array) -> Array:
        rows = slice(k * units, (k + 1) * units)
        return e @ given.weight_hh[rows].T + given.bias_hh[rows]

    states = given.states
    found: dict[int, tuple[Array, ...]] = {}
    times = range(len(given.x))
    for t in reversed(times) if reverse else times:
        z = given.x[t] @ given.weight_ih.T + given.bias_ih
        u = [z[:, k : k + units] for k in range(0, z.shape[1], units)]
        masks = {name: mask[t] for name, mask in given.masks.items()}
        states = step(u, recur, states, apply, {**given.vectors, **masks})
        found[t] = states
    return [found[t] for t in times]


# ---- derivatives -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Derivative:
    """dL by one array, elementwise; trusted: where two step sizes agree, which they do not near a
    kink."""

    value: Array
    trusted: NDArray[np.bool_]


_STEP = 2e-3
_AGREE = 1e-9


def derivative(loss: Callable[[Array], float], at: Array) -> Derivative:
    """The derivative of a loss by an array: central differences with steps h, h/2 and h/4, each
    two of them joined so that the error falls as h^4 (Richardson): about 1e-12 of the loss."""
    value, trusted = np.zeros(at.shape), np.zeros(at.shape, dtype=bool)
    for place in np.ndindex(at.shape):
        quotients = []
        for h in (_STEP, _STEP / 2, _STEP / 4):
            ends = []
            for moved in (at[place] + h, at[place] - h):
                other = at.copy()
                other[place] = moved
                ends.append(loss(other))
            quotients.append((ends[0] - ends[1]) / (2 * h))
        wide, narrow = ((4 * b - a) / 3 for a, b in pairwise(quotients))
        value[place] = narrow
        trusted[place] = abs(wide - narrow) <= _AGREE * max(1.0, abs(narrow))
    return Derivative(value, trusted)


def derivatives(loss: Callable[[Inputs], float], at: Inputs) -> dict[str, Derivative]:
    """By x, each state (state 0, ...), the weights and biases, each vector (vector NAME) and each
    parameter (SLOT.NAME)."""
    found: dict[str, Derivative] = {}
    for name in ("x", "weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        found[name] = derivative(lambda a, n=name: loss(replace(at, **{n: a})), getattr(at, name))  # type: ignore[misc]
    for k, state in enumerate(at.states):
        others = at.states

        def by_state(a: Array, k: int = k, others: Any = others) -> float:
            return loss(replace(at, states=(*others[:k], a, *others[k + 1 :])))

        found[f"state {k}"] = derivative(by_state, state)
    for name, vector in at.vectors.items():

        def by_vector(a: Array, name: str = name) -> float:
            return loss(replace(at, vectors={**at.vectors, name: a}))

        found[f"vector {name}"] = derivative(by_vector, vector)
    for slot, parameters in at.parameters.items():
        for name, number in parameters.items():

            def by_parameter(a: Array, slot: str = slot, name: str = name) -> float:
                own = {**at.parameters[slot], name: a}
                return loss(replace(at, parameters={**at.parameters, slot: own}))

            found[f"{slot}.{name}"] = derivative(by_parameter, np.asarray(number, dtype=float))
    return found


# ---- activations -------------------------------------------------------------------------------

_erf = np.vectorize(math.erf, otypes=[float])
_erfc = np.vectorize(math.erfc, otypes=[float])

WORDS: dict[str, Any] = {
    "where": np.where,
    "max": np.maximum,
    "min": np.minimum,
    "clip": lambda x, low, high: np.minimum(np.maximum(x, low), high),
    "sigmoid": lambda x: 0.5 * (1 + np.tanh(x / 2)),
    "tanh": np.tanh,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "softplus": lambda x: np.logaddexp(x, 0.0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "isru": lambda x: x / np.sqrt(1 + x * x),
    "erf": _erf,
    "erfc": _erfc,
    "gaussian": lambda x: np.exp(-x * x),
    "normal_cdf": lambda x: 0.5 * _erfc(-x / math.sqrt(2)),
    "normal_pdf": lambda x: np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    "abs": np.abs,
    "sign": np.sign,
    "round": np.rint,
    "floor": np.floor,
    "sin": np.sin,
    "cos": np.cos,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "hypot": np.hypot,
    "pi": math.pi,
    "E": math.e,
}
"""The words of printed formulas as NumPy has them."""


def function(text: str) -> Callable[..., Array]:
    """A formula's text, which is Python, as a function f(x, **parameters)."""
    code = compile(text, "<formula>", "eval")

    def f(x: Array, **parameters: Any) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(eval(code, {"__builtins__": {}, **WORDS}, {"x": x, **parameters}))

    return f
