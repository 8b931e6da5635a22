"""The text of a kernel: the template in kernels/ after a cell's two functions and a plan's numbers.

A user's text never gets here: the cell's Programs are operations and numbers (`table`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

from ...cells import Cell
from ...cells.celltype import before
from ...cells.derive import grad, saved_name
from ..layout import layout_of
from .plan import EXCHANGES, Plan
from .table import number, statements, used_inputs

__all__ = ["Direction", "source"]

Direction = Literal["forward", "backward"]
_HERE = Path(__file__).parent / "kernels"


@lru_cache(maxsize=8)
def template(name: str) -> str:
    """One file of the template."""
    return (_HERE / f"{name}.cu").read_text(encoding="utf-8")


def source(cell: Cell, plan: Plan, direction: Direction, save: bool = True) -> str:
    """A whole translation unit. save: forward keeps what backward needs."""
    head = {
        "HALF": int(not plan.half),
        "PARTS": plan.parts,
        "KW": plan.splits,
        "SAVE": int(save),
        "EXCHANGE": EXCHANGES[plan.exchange],
    }
    numbers = {
        "H": plan.hidden,
        "UW": plan.units,
        "CL": plan.blocks,
        "NT": plan.tiles,
        "KREG": plan.held[direction == "backward"],
    }
    parts = (
        "".join(f"#define {name} {value}\n" for name, value in head.items()),
        template("functions"),
        template("machine"),
        _constants(numbers),
        cell_functions(cell),
        template("layer"),
        template(direction),
    )
    return "\n".join(parts)


def _constants(values: Mapping[str, int]) -> str:
    return "".join(f"constexpr int {name} = {value};\n" for name, value in values.items())


def _array(kind: str, name: str, values: tuple[int, ...]) -> str:
    return f"__device__ constexpr {kind} {name}[] = {{{', '.join(map(str, values or (0,)))}}};\n"


@lru_cache(maxsize=256)
def cell_functions(cell: Cell) -> str:
    """The cell's numbers, cell_forward and cell_backward."""
    kind, layout = cell.type, layout_of(cell)
    products = [product.name for product in cell.products]
    fixed = {name: number(value) for name, value in cell.parameters.items()}
    fixed |= {name: f"vectors[{k}]" for k, name in enumerate(cell.per_unit)}
    fixed |= {name: f"mask[{k}]" for k, name in enumerate(kind.masks)}
    fixed |= {before(state): f"before[{k}]" for k, state in enumerate(kind.states)}
    z = {name: f"z[{k}]" for k, name in enumerate(products)}
    new = {state: f"now[{k}]" for k, state in enumerate(kind.states)}
    saved = {saved_name(name): f"saved[{k}]" for k, name in enumerate(cell.saved)}
    arriving = {grad(state): f"grad[{k}]" for k, state in enumerate(kind.states)}
    gives = {grad(name): f"by_z[{k}]" for k, name in enumerate(products)}
    gives |= {grad(before(state)): f"by_before[{k}]" for k, state in enumerate(kind.states)}
    gives |= {grad(name): f"by_vector[{k}]" for k, name in enumerate(cell.per_unit)}
    used = used_inputs(cell.backward, gives)
    constants = _constants(
        {
            "P": layout.panels,
            "P_X": len(layout.from_x),
            "P_H": len(layout.from_h),
            "S": layout.states,
            "K": layout.saved,
            "M": layout.masks,
            "V": layout.vectors,
        }
    )
    arrays = (
        _array("int", "X_ROW", layout.from_x)
        + _array("int", "H_ROW", layout.from_h)
        + _array("bool", "BEFORE_USED", tuple(int(before(s) in used) for s in kind.states))
        + _array("bool", "NOW_USED", tuple(int(s in used) for s in kind.states))
    )
    given = ", const float (&mask)[some(M)], const float (&vectors)[some(V)]"
    forward = (
        "__device__ __forceinline__ void cell_forward(const float (&z)[P], "
        f"const float (&before)[S]{given}, float (&now)[S], float (&saved)[some(K)]) {{\n"
        + statements(cell.forward, {**fixed, **z}, {**new, **saved})
        + "}\n"
    )
    backward = (
        "__device__ __forceinline__ void cell_backward(const float (&saved)[some(K)], "
        "const float (&before)[S], const float (&now)[S], "
        f"const float (&grad)[S]{given}, "
        "float (&by_z)[P], float (&by_before)[S], float (&by_vector)[some(V)]) {\n"
        + statements(cell.backward, {**fixed, **saved, **new, **arriving}, gives)
        + "}\n"
    )
    return constants + arrays + forward + backward
