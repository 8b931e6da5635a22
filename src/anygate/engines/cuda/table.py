"""Programs as text in C: one more table of operations. In float32 by the functions of
kernels/functions.cu, in float64 by those of kernels/double.cu.

Nothing that a user wrote gets into the text: inputs are called by the place that the caller gives
them, constants are written as hexadecimal numbers, operations come from the table below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np

from ...formulas.primitives import PRIMITIVES
from ...formulas.program import Program

__all__ = ["DOUBLE_OPS", "OPS", "number", "statements", "used_inputs"]


def number(value: Fraction | float, double: bool = False) -> str:
    """A constant of C in float32 or float64: the nearest to the value, or infinity."""
    with np.errstate(over="ignore"):
        nearest = float(value) if double else float(np.float32(float(value)))
    if np.isinf(nearest):
        return "INFINITE" if nearest > 0 else "(-INFINITE)"
    text = nearest.hex() if double else f"{nearest.hex()}f"
    return f"({text})" if text.startswith("-") else text


def _infix(sign: str) -> Callable[..., str]:
    return lambda a, b: f"{a} {sign} {b}"


_CONDITIONS: dict[str, Callable[..., str]] = {
    "lt": _infix("<"),
    "le": _infix("<="),
    "gt": _infix(">"),
    "ge": _infix(">="),
    "and": _infix("&&"),
    "or": _infix("||"),
    "not": lambda a: f"!{a}",
}
"""Operations whose result is true or false."""
_LIBRARY = {
    name: f"{name}f"
    for name in (
        *("expm1", "log", "log1p", "erf", "sin", "cos", "sinh", "cosh", "asinh", "atan"),
        "floor",
    )
}
"""Functions that CUDA and C have under the same name."""


def _call(name: str) -> Callable[..., str]:
    return lambda *arguments: f"{name}({', '.join(arguments)})"


OPS: Mapping[str, Callable[..., str]] = {
    **_CONDITIONS,
    "add": _infix("+"),
    "sub": _infix("-"),
    "mul": _infix("*"),
    "div": _infix("/"),
    "neg": lambda a: f"-{a}",
    "where": lambda condition, a, b: f"{condition} ? {a} : {b}",
    **{
        name: _call(_LIBRARY.get(name, f"f_{name}"))
        for name in ("sqrt", *(cls.__name__ for cls in PRIMITIVES.values()))
        if name != "where"
    },
}
"""The spelling of each operation, of arguments that are names or constants."""
DOUBLE_OPS: Mapping[str, Callable[..., str]] = {**OPS, **{name: _call(name) for name in _LIBRARY}}
"""The same in float64."""


def statements(
    program: Program,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    double: bool = False,
) -> str:
    """C statements that compute the outputs of a Program and assign them.

    inputs: what stands for each input that is used; outputs: what each output is assigned to, for
    those that are wanted. double: in float64.
    """
    operations, real = (DOUBLE_OPS, "double") if double else (OPS, "float")
    values: list[str] = []
    lines: list[str] = []
    wanted = _needed(program, outputs)
    for place, node in enumerate(program.nodes):
        if place not in wanted:
            values.append("")
        elif node.op == "input":
            values.append(inputs[node.name])
        elif node.op == "const":
            assert node.value is not None
            values.append(number(node.value, double))
        else:
            kind = "bool" if node.op in _CONDITIONS else real
            text = operations[node.op](*(values[argument] for argument in node.arguments))
            lines.append(f"const {kind} t{place} = {text};")
            values.append(f"t{place}")
    ends = dict(program.outputs)
    lines += [f"{left} = {values[ends[name]]};" for name, left in outputs.items()]
    return "\n".join(f"  {line}" for line in lines) + "\n"


def used_inputs(program: Program, outputs: Mapping[str, str]) -> frozenset[str]:
    """The inputs that these outputs need."""
    nodes = (program.nodes[place] for place in _needed(program, outputs))
    return frozenset(node.name for node in nodes if node.op == "input")


def _needed(program: Program, outputs: Mapping[str, str]) -> set[int]:
    needed = {place for name, place in program.outputs if name in outputs}
    for place in range(len(program.nodes) - 1, -1, -1):
        if place in needed:
            needed.update(program.nodes[place].arguments)
    return needed
