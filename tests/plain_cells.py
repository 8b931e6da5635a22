"""Recurrent cells written by hand, for NumPy and for torch: the truth that engines are held to.

Nothing here is derived from a cell's data: each step is typed as a paper prints it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from anygate.cells import ELMAN, GRU, LSTM, Cell, CellType, Product, lstm_type, make
from anygate.cells.builtin import with_recurrent_dropout, with_zoneout
from anygate.engines.protocol import Engine, Layer, Measures, Request, Result

NUMPY = SimpleNamespace(
    sigmoid=lambda x: 1 / (1 + np.exp(-x)),
    tanh=np.tanh,
    exp=np.exp,
    maximum=np.maximum,
    softplus=lambda x: np.logaddexp(x, 0),
    clip=np.clip,
    split=lambda x, n: np.split(x, n, -1),
    cat=np.concatenate,
    transpose=np.transpose,
)
TORCH = SimpleNamespace(
    sigmoid=torch.sigmoid,
    tanh=torch.tanh,
    exp=torch.exp,
    maximum=torch.maximum,
    softplus=torch.nn.functional.softplus,
    clip=torch.clip,
    split=lambda x, n: x.chunk(n, -1) if n else [],
    cat=torch.cat,
    transpose=torch.t,
)

Step = Callable[..., tuple[Any, ...]]
"""step(m, x, h, states, vectors, masks) -> new states. m: NUMPY or TORCH; x: W x + b_ih of the
products that see x, h: R e + b_hh of those that see a state, each in the order of the weights."""


def add(x: Any, h: Any) -> Any:
    return (p + q for p, q in zip(x, h, strict=True))


def lstm(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
    i, f, g, o = add(x, h)
    c = m.sigmoid(f) * states[1] + m.sigmoid(i) * m.tanh(g)
    return m.sigmoid(o) * m.tanh(c), c


def peephole_lstm(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
    i, f, g, o = add(x, h)
    c = m.sigmoid(f + v[1] * states[1]) * states[1] + m.sigmoid(i + v[0] * states[1]) * m.tanh(g)
    return m.sigmoid(o + v[2] * c) * m.tanh(c), c


def coupled_lstm(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
    i, _, g, o = add(x, h)
    gate = m.sigmoid(i)
    c = (1 - gate) * states[1] + gate * m.tanh(g)
    return m.sigmoid(o) * m.tanh(c), c


def clipped_lstm(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
    i, f, g, o = (m.clip(z, -0.75, 0.75) for z in add(x, h))
    c = m.sigmoid(f) * states[1] + m.sigmoid(i) * m.tanh(g)
    return m.sigmoid(o) * m.tanh(m.clip(c, -0.75, 0.75)), c


def gru(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
    r, u = m.sigmoid(x[0] + h[0]), m.sigmoid(x[1] + h[1])
    n = m.tanh(x[2] + r * h[2])
    return ((1 - u) * n + u * states[0],)


def elman(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
    return (m.tanh(x[0] + h[0]),)


def zoneout_lstm(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
    new_h, new_c = lstm(m, x, h, states, v, masks)
    keep_h, keep_c = masks
    return keep_h * states[0] + (1 - keep_h) * new_h, keep_c * states[1] + (1 - keep_c) * new_c


def zoneout_gru(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
    (new,) = gru(m, x, h, states, v, masks)
    return (masks[0] * states[0] + (1 - masks[0]) * new,)


def dropout_lstm(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
    new_h, new_c = lstm(m, x, h, states[1:], v, masks)
    return masks[0] * new_h, new_h, new_c


def dropout_gru(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
    (new,) = gru(m, x, h, states[1:], v, masks)
    return masks[0] * new, new


S_LSTM = CellType(
    "sLSTM",
    products=("z_i", "z_f", "z_g", "z_o"),
    states=("h", "c", "n", "m"),
    slots={"candidate": "tanh", "output_gate": "sigmoid"},
    lines="""
        l = m_before - softplus(-z_f)
        m = max(l, z_i)
        i = exp(z_i - m)
        f = exp(l - m)
        c = f*c_before + i*candidate(z_g)
        n = f*n_before + i
        h = output_gate(z_o)*c/n
    """,
)


def s_lstm(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
    i, f, g, o = add(x, h)
    kept = states[3] - m.softplus(-f)
    top = m.maximum(kept, i)
    i, f = m.exp(i - top), m.exp(kept - top)
    c, n = f * states[1] + i * m.tanh(g), f * states[2] + i
    return m.sigmoid(o) * c / n, c, n, top


MGU = CellType(
    "MGU, reset after",
    products=("z_f", Product("z_x", recurrent=False), Product("z_h", input=False)),
    states=("h",),
    slots={"forget_gate": "sigmoid", "candidate": "tanh"},
    gates=("forget_gate",),
    lines="f = forget_gate(z_f); h = (1 - f)*candidate(z_x + f*z_h) + f*h_before",
)


def mgu(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
    f = m.sigmoid(x[0] + h[0])
    return ((1 - f) * m.tanh(x[1] + f * h[1]) + f * states[0],)


JANET = CellType(
    "JANET",
    products=("z_f", "z_g"),
    states=("h",),
    slots={"forget_gate": "sigmoid", "candidate": "tanh"},
    gates=("forget_gate",),
    lines="f = forget_gate(z_f); h = f*h_before + (1 - f)*candidate(z_g)",
)


def janet(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
    f, g = add(x, h)
    f = m.sigmoid(f)
    return (f * states[0] + (1 - f) * m.tanh(g),)


SUBTRACTIVE = CellType(
    "subtractive LSTM",
    products=("z_i", "z_f", "z_z", "z_o"),
    states=("h", "c"),
    slots={"cell_output": "sigmoid"},
    lines="""
        c = sigmoid(z_f)*c_before + sigmoid(z_z) - sigmoid(z_i)
        h = cell_output(c) - sigmoid(z_o)
    """,
)
"""Costa et al. 2017."""


def subtractive_lstm(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
    i, f, z, o = (m.sigmoid(p) for p in add(x, h))
    c = f * states[1] + z - i
    return m.sigmoid(c) - o, c


MIXED = CellType(
    "six products in no order",
    products=(
        Product("z_h", input=False),
        "z_a",
        Product("z_x", recurrent=False),
        "z_b",
        Product("z_y", recurrent=False),
        "z_c",
    ),
    states=("d", "h", "s"),
    slots={"gate": "sigmoid", "candidate": "tanh"},
    vectors=("p", "q"),
    masks=("w",),
    output="h",
    lines="""
        a = gate(z_a + p*d_before)
        s = a*s_before + (1 - a)*tanh(z_x)*w
        h = candidate(z_b + q*z_h)*s + 0.5*z_y
        d = sigmoid(z_c)*h + 0.25*d_before
    """,
)
"""Products of every kind, an output that is not what R multiplies, a first state that is carried on
by a line, per-unit vectors and a mask."""


def mixed(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
    (a_x, x_x, b_x, y_x, c_x), (h_h, a_h, b_h, c_h) = x, h
    a = m.sigmoid(a_x + a_h + v[0] * states[0])
    s = a * states[2] + (1 - a) * m.tanh(x_x) * masks[0]
    new = m.tanh(b_x + b_h + v[1] * h_h) * s + 0.5 * y_x
    return m.sigmoid(c_x + c_h) * new + 0.25 * states[0], new, s


@dataclass(frozen=True)
class Known:
    """A cell and its step by hand."""

    cell: Cell
    step: Step


def _known(cell_type: CellType, step: Step, **options: Any) -> Known:
    return Known(make(cell_type, **options), step)


RATES = {"h": 0.2, "c": 0.5}
CELLS = {
    "lstm": _known(LSTM, lstm),
    "peephole": _known(lstm_type(peephole=True), peephole_lstm),
    "coupled": _known(lstm_type(coupled=True), coupled_lstm),
    "clip": _known(LSTM, clipped_lstm, clip=0.75),
    "gru": _known(GRU, gru),
    "elman": _known(ELMAN, elman),
    "zoneout lstm": _known(with_zoneout(LSTM, RATES, training=True), zoneout_lstm),
    "zoneout gru": _known(with_zoneout(GRU, {"h": 0.2}, training=True), zoneout_gru),
    "dropout lstm": _known(with_recurrent_dropout(LSTM), dropout_lstm),
    "dropout gru": _known(with_recurrent_dropout(GRU), dropout_gru),
    "slstm": _known(S_LSTM, s_lstm),
    "mgu": _known(MGU, mgu),
    "janet": _known(JANET, janet),
    "subtractive": _known(SUBTRACTIVE, subtractive_lstm),
    "mixed": _known(MIXED, mixed),
}


def loop(m: Any, known: Known, layer: Layer) -> tuple[Any, Any, Any]:
    """The output, the last states and all states at all steps, one time step after the other; for
    arrays of NumPy or tensors."""
    kind = known.cell.type
    seeing_x = sum(product.input for product in kind.products)
    seeing_h = sum(product.recurrent for product in kind.products)
    if layer.batch_sizes is None:
        sizes = [len(layer.states[0])] * len(layer.x)
        rows = layer.x.reshape(-1, layer.x.shape[-1])
    else:
        sizes, rows = layer.batch_sizes.tolist(), layer.x
    masks = None if layer.masks is None else layer.masks.reshape(-1, *layer.masks.shape[-2:])
    ends = np.cumsum(sizes).tolist()
    states = list(layer.states)
    kept: list[list[Any]] = [[None] * len(sizes) for _ in states]
    order = range(len(sizes))
    for t in reversed(order) if layer.reverse else order:
        count, here = sizes[t], slice(ends[t] - sizes[t], ends[t])
        old = [state[:count] for state in states]
        from_x = rows[here] @ m.transpose(layer.weight_ih)
        from_h = old[0] @ m.transpose(layer.weight_hh)
        if layer.bias_ih is not None:
            from_x, from_h = from_x + layer.bias_ih, from_h + layer.bias_hh
        parts = m.split(from_x, seeing_x), m.split(from_h, seeing_h)
        own = () if masks is None else [masks[here][:, k] for k in range(masks.shape[1])]
        new = known.step(m, *parts, old, layer.vectors, own)
        states = [m.cat([n, state[count:]], 0) for n, state in zip(new, states, strict=True)]
        for line, value in zip(kept, new, strict=True):
            line[t] = value
    shape = (*layer.x.shape[:-1], layer.states[0].shape[1])
    joined = [(m.cat(line, 0) if line else states[0][:0]).reshape(shape) for line in kept]
    return joined[kind.states.index(kind.output)], states, joined


class ByHand(Engine):
    """The loop in torch as an engine, in place of eager."""

    name = "eager"

    def __init__(self, keys: dict[str, Known]) -> None:
        self.keys = keys

    def refuses(self, request: Request) -> str | None:
        return None

    def run(
        self, key: str, layer: Layer, keep: bool = False, measures: Measures | None = None
    ) -> Result:
        output, states, kept = loop(TORCH, self.keys[key], layer)
        return Result(output, tuple(states), tuple(kept) if keep else None)
