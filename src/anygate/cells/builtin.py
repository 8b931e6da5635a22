"""The built-in cells: LSTM and its variants, GRU, the Elman network."""

from __future__ import annotations

import re
from functools import lru_cache

from .celltype import CellType, Product, before

__all__ = [
    "ELMAN",
    "GRU",
    "GRU_RESET_BEFORE",
    "LSTM",
    "RECURRENT_DROPOUT",
    "gru_type",
    "lstm_type",
    "with_layer_norm",
    "with_recurrent_dropout",
    "with_zoneout",
]

LSTM = CellType(
    "LSTM",
    products=("z_i", "z_f", "z_g", "z_o"),
    states=("h", "c"),
    slots={
        "input_gate": "sigmoid",
        "forget_gate": "sigmoid",
        "candidate": "tanh",
        "output_gate": "sigmoid",
        "cell_output": "tanh",
    },
    gates=("input_gate", "forget_gate", "output_gate"),
    lines="""
        i = input_gate(z_i)
        f = forget_gate(z_f)
        g = candidate(z_g)
        c = f*c_before + i*g
        o = output_gate(z_o)
        h = o*cell_output(c)
    """,
)
"""Hochreiter & Schmidhuber 1997 with the forget gate of Gers et al. 2000, as torch.nn.LSTM."""

GRU = CellType(
    "GRU",
    products=("z_r", "z_u", Product("z_x", recurrent=False), Product("z_h", input=False)),
    states=("h",),
    slots={"reset_gate": "sigmoid", "update_gate": "sigmoid", "candidate": "tanh"},
    gates=("reset_gate", "update_gate"),
    lines="""
        r = reset_gate(z_r)
        u = update_gate(z_u)
        n = candidate(z_x + r*z_h)
        h = (1 - u)*n + u*h_before
    """,
)
"""The GRU whose reset gate acts after the product with R, as torch.nn.GRU, cuDNN and Keras
(reset_after=True) have it."""

GRU_RESET_BEFORE = CellType(
    "GRU, reset before",
    products=("z_r", "z_u", Product("z_n", operand="r*h_before")),
    states=("h",),
    slots=dict(GRU.slots),
    gates=GRU.gates,
    lines="""
        r = reset_gate(z_r)
        u = update_gate(z_u)
        n = candidate(z_n)
        h = (1 - u)*n + u*h_before
    """,
)
"""The GRU of Cho et al. 2014, whose reset gate acts on h before the product with R; ONNX's default,
Keras with reset_after=False."""

ELMAN = CellType(
    "RNN",
    products=("z",),
    states=("h",),
    slots={"candidate": "tanh"},
    lines="h = candidate(z)",
)
"""Elman 1990, as torch.nn.RNN."""


@lru_cache(maxsize=64)
def lstm_type(peephole: bool = False, coupled: bool = False) -> CellType:
    """The LSTM with options.

    peephole: the gates see the cell state (Gers & Schmidhuber 2000). coupled: f = 1 - i (Greff et
    al. 2017: CIFG); the forget gate's weights are there and not used.
    """
    type = LSTM
    if peephole:
        type = type.with_(
            "peephole LSTM",
            vectors={
                "input_gate_peephole": None,
                "forget_gate_peephole": None,
                "output_gate_peephole": None,
            },
            i="input_gate(z_i + input_gate_peephole*c_before)",
            f="forget_gate(z_f + forget_gate_peephole*c_before)",
            o="output_gate(z_o + output_gate_peephole*c)",
        )
    if coupled:
        vectors = {name: value for name, value in type.vectors if name != "forget_gate_peephole"}
        type = type.with_(f"coupled {type.name}", f="1 - i", vectors=vectors)
    return type


def gru_type(reset_before: bool = False) -> CellType:
    """The GRU. reset_before: the reset gate acts before the product with R (a second product)."""
    return GRU_RESET_BEFORE if reset_before else GRU


def with_zoneout(type: CellType, rates: dict[str, float], training: bool) -> CellType:
    """Zoneout (Krueger et al. 2017): a unit keeps its state with the probability rates[STATE]:

        s' = m*s_before + (1 - m)*(what the lines give)

    training: m is the mask "zoneout_STATE", 1 where the unit keeps; else m is its mean, the rate.
    Other states and lines go on seeing what the lines give, as in the paper.
    """
    named = {state: f"{state}_candidate" for state in rates}
    text = "\n".join(type.lines)
    for state, new in named.items():
        text = re.sub(rf"\b{state}\b", new, text)
    for state, new in named.items():
        keep = f"zoneout_{state}" if training else repr(float(rates[state]))
        text += f"\n{state} = {keep}*{before(state)} + (1 - {keep})*{new}"
    masks = tuple(f"zoneout_{state}" for state in rates) if training else ()
    return CellType(
        f"{type.name}, zoneout",
        products=type.products,
        states=type.states,
        lines=text,
        slots=dict(type.slots),
        gates=type.gates,
        vectors=dict(type.vectors),
        masks=(*type.masks, *masks),
        output=type.output,
    )


RECURRENT_DROPOUT = "recurrent_dropout"
"""The mask of `with_recurrent_dropout`."""


def with_recurrent_dropout(type: CellType) -> CellType:
    """The products see m*h in h's place, m being one mask for all steps of a sequence (Gal &
    Ghahramani 2016; Keras' recurrent_dropout with the same mask for all gates).

    A first state "dropped" = recurrent_dropout*h is what the products see; the output stays h. Its
    start is m*h0.
    """
    return type.with_(
        f"{type.name}, recurrent dropout",
        states=("dropped", *type.states),
        masks=(*type.masks, RECURRENT_DROPOUT),
        lines=f"dropped = {RECURRENT_DROPOUT}*{type.states[0]}",
    )


NORM_EPSILON = 1e-5
"""Added to the variance, as in torch.nn.LayerNorm."""


def with_layer_norm(type: CellType, inner: tuple[str, ...] = ()) -> CellType:
    """Layer normalisation (Ba et al. 2016) of each product over the hidden units of a row:

        z -> gain_z*(z - mean(z))/sqrt(mean((z - mean(z))**2) + 1e-5) + shift_z

    inner: states that are normalised likewise where the lines of this step use them, as the LSTM's
    c before cell_output. The gates are normalised one by one (as TensorFlow's
    LayerNormBasicLSTMCell has it), W x and R h together.
    """
    names = tuple(product.name for product in type.products)
    vectors: dict[str, float | None] = dict(type.vectors)
    lines: list[str] = []

    def normalise(name: str) -> None:
        lines.extend(
            (
                f"{name}_centred = {name} - mean({name})",
                f"{name}_normed = gain_{name}*{name}_centred"
                f"/sqrt(mean({name}_centred*{name}_centred) + {NORM_EPSILON}) + shift_{name}",
            )
        )
        vectors.update({f"gain_{name}": 1.0, f"shift_{name}": 0.0})

    for name in names:
        normalise(name)
    seen = set(names)
    for line in type.lines:
        left, _, right = line.partition("=")
        for name in seen:
            right = re.sub(rf"\b{name}\b", f"{name}_normed", right)
        lines.append(f"{left.strip()} = {right.strip()}")
        if left.strip() in inner:
            normalise(left.strip())
            seen.add(left.strip())
    return CellType(
        f"{type.name}, layer norm",
        products=type.products,
        states=type.states,
        lines=tuple(lines),
        slots=dict(type.slots),
        gates=type.gates,
        vectors=vectors,
        masks=type.masks,
        output=type.output,
    )
