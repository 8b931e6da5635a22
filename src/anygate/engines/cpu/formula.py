"""A cell's Program as vector code."""

from __future__ import annotations

from typing import Any

from ...cells import Cell
from ...formulas.program import Program, bind
from .emit import Emitter
from .loops import integer
from .ops import operations

__all__ = ["evaluate", "only"]


def only(program: Program, outputs: tuple[str, ...]) -> Program:
    """The Program of these outputs alone. Its inputs are those that they need."""
    ends = tuple((name, node) for name, node in program.outputs if name in outputs)
    needed = {node for _, node in ends}
    for place in range(len(program.nodes) - 1, -1, -1):
        if place in needed:
            needed.update(program.nodes[place].arguments)
    kept = sorted(needed)
    place_of = {old: new for new, old in enumerate(kept)}
    nodes = tuple(
        type(node)(node.op, tuple(place_of[a] for a in node.arguments), node.name, node.value)
        for node in (program.nodes[place] for place in kept)
    )
    used = {node.name for node in nodes if node.op == "input"}
    inputs = tuple(name for name in program.inputs if name in used)
    return Program(inputs, nodes, tuple((name, place_of[node]) for name, node in ends))


def evaluate(
    e: Emitter, cell: Cell, program: Program, inputs: dict[str, Any], vectors: Any, stride: Any
) -> dict[str, Any]:
    """The Program's outputs; parameters are numbers in the code, or vectors that are loaded."""
    names = cell.per_unit
    numbers = {k: e.splat(value) for k, value in cell.parameters.items() if k not in names}
    loaded = {
        name: e.load(e.at(vectors, e.builder.mul(stride, integer(k))))
        for k, name in enumerate(names)
        if name in program.inputs
    }
    return bind(program, operations(e))({**inputs, **numbers, **loaded})
