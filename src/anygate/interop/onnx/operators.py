"""A layer as ONNX's LSTM, GRU or RNN operator, where that is what the cell computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto

from ...cells import ELMAN, GRU, GRU_RESET_BEFORE, Cell, CellType
from ...cells.builtin import lstm_type
from .activations import Function, function_of, packed
from .call import Call
from .graph import Graph

__all__ = ["Family", "families", "operator_of", "write_operator"]


@dataclass(frozen=True)
class Family:
    """An operator that computes a cell type.

    slots: for each of its activations the slots that it stands for. blocks: our blocks of rows in
    its order. vectors: of its input P in its order, those of ours. attributes: beside the
    activations.
    """

    operator: str
    slots: tuple[tuple[str, ...], ...]
    blocks: tuple[int, ...]
    vectors: tuple[str, ...] = ()
    attributes: tuple[tuple[str, int], ...] = ()


def _lstm(peephole: bool, coupled: bool) -> Family:
    gates = (
        ("input_gate", "output_gate")
        if coupled
        else (
            "input_gate",
            "output_gate",
            "forget_gate",
        )
    )
    vectors = ("input_gate_peephole", "output_gate_peephole", "forget_gate_peephole")
    return Family(
        "LSTM",
        (gates, ("candidate",), ("cell_output",)),
        (0, 3, 1, 2),
        vectors if peephole else (),
        (("input_forget", 1),) if coupled else (),
    )


def families() -> dict[CellType, Family]:
    """The cell types that an operator computes."""
    gru = ("GRU", (("update_gate", "reset_gate"), ("candidate",)), (1, 0, 2), ())
    found = {
        lstm_type(peephole, coupled): _lstm(peephole, coupled)
        for peephole in (False, True)
        for coupled in (False, True)
    }
    found[GRU] = Family(*gru, (("linear_before_reset", 1),))
    found[GRU_RESET_BEFORE] = Family(*gru, (("linear_before_reset", 0),))
    found[ELMAN] = Family("RNN", (("candidate",),), (0,))
    return found


def operator_of(cell: Cell, call: Call, double: bool) -> tuple[Family, list[Function]] | str:
    """The operator and its activations, or the reason why there is none."""
    family = families().get(cell.type)
    if family is None:
        return f"ONNX has no operator for the cell '{cell.type.name}'"
    operator = family.operator
    if learnt := [name for name in cell.per_unit if "." in name]:
        return f"{learnt[0]} is learnt, and the operator's activations have fixed numbers"
    if cell.clip is not None:
        return "clip: ONNX Runtime does not limit the argument of every activation"
    functions = []
    for slots in family.slots:
        chosen = {slot: cell.slots[slot] for slot in slots}
        found = {slot: function_of(activation) for slot, activation in chosen.items()}
        for slot, function in found.items():
            if function is None:
                return f"{slot}={chosen[slot].label} is none of ONNX's activations"
        first, *others = [function for function in found.values() if function is not None]
        if any(other != first for other in others):
            return f"the {operator} operator has one activation for all of {', '.join(slots)}"
        functions.append(first)
    if double:
        return f"ONNX Runtime computes no {operator} in float64"
    if call["valid"] or call["cuts"]:
        return "mask= and reset=: the operators know lengths alone"
    if call.kept and len(cell.type.states) > 1:
        return "return_states=True: the operator gives one state at every step"
    return family, functions


def write_operator(
    g: Graph, call: Call, cell: Cell, family: Family, functions: Sequence[Function]
) -> tuple[NodeProto, str, list[str]]:
    """The node, the output [T, B, H] and the states [B, H] after the last step."""
    size, blocks = call.hidden, list(family.blocks)
    weights = [
        g.unsqueeze(g.blocks(call[name], blocks, size), stem)
        for name, stem in (("weight_ih", "W"), ("weight_hh", "R"))
    ]
    bias = ""
    if call["bias_ih"]:
        halves = [g.blocks(call[name], blocks, size) for name in ("bias_ih", "bias_hh")]
        bias = g.unsqueeze(g.concat(halves), "B")
    lengths = call["lengths"] and g.node("Cast", call["lengths"], to=TensorProto.INT32)
    start = [""] * len(call.states)
    if call.started:
        start = [g.node("Unsqueeze", state, g.integers(0)) for state in call.states]
    inputs = [call["x"], *weights, bias, lengths, *start]
    if family.vectors:
        inputs += [""] * (7 - len(inputs)) + [_peepholes(g, call, cell, family)]
    attributes: dict[str, Any] = {**packed(functions), **dict(family.attributes)}
    if call.reverse:
        attributes["direction"] = "reverse"
    y, *ends = g.many(
        family.operator, tuple(inputs), 1 + len(call.states), hidden_size=size, **attributes
    )
    node = g.nodes[-1]
    output = g.node("Squeeze", y, g.integers(1))
    states = [g.node("Squeeze", end, g.integers(0)) for end in ends]
    if call["lengths"] and call.started:  # of an empty row ONNX Runtime gives 0
        none = g.node("Equal", g.node("Unsqueeze", lengths, g.integers(1)), g.constant(np.int32(0)))
        pairs = zip(call.states, states, strict=True)
        states = [g.node("Where", none, before, after) for before, after in pairs]
    return node, output, states


def _peepholes(g: Graph, call: Call, cell: Cell, family: Family) -> str:
    """P [1, 3H]; a coupled cell has none for the forget gate."""
    rows = [
        g.row(call["vectors"], cell.per_unit.index(name))
        if name in cell.per_unit
        else g.constant(np.zeros(call.hidden, g.dtype))
        for name in family.vectors
    ]
    return g.unsqueeze(g.concat(rows), "P")
