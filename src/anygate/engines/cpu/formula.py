"""A cell's Program as vector code."""

from __future__ import annotations

from typing import Any

from ...formulas.cell import Cell
from ...formulas.program import Program, bind
from .emit import Emitter
from .loops import integer
from .ops import operations

__all__ = ["run", "wanted"]


def wanted(program: Program, saving: bool, skip: tuple[str, ...] = ()) -> Program:
    """The Program without outputs that nobody takes; LLVM drops what they alone needed."""
    outputs = tuple(
        (name, node)
        for name, node in program.outputs
        if name not in skip and (saving or not name.startswith("saved_"))
    )
    return Program(program.inputs, program.nodes, outputs)


def run(
    e: Emitter, cell: Cell, program: Program, inputs: dict[str, Any], vectors: Any, stride: Any
) -> dict[str, Any]:
    """The Program's outputs; parameters are numbers in the code, or vectors that are loaded."""
    names = cell.per_unit
    numbers = {k: e.splat(value) for k, value in cell.parameters.items() if k not in names}
    loaded = {
        name: e.load(e.at(vectors, e.builder.mul(stride, integer(k))))
        for k, name in enumerate(names)
    }
    return bind(program, operations(e))({**inputs, **numbers, **loaded})
