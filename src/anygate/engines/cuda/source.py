"""The text of a kernel: a template in kernels/ after a cell's functions and the numbers of a plan.

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
from ...cells.measures import COUNTS, PARTS, Limits, direct, measured, part_of, total
from ..layout import layout_of
from .plan import EXCHANGES, Plan
from .stepwise import Steps
from .table import number, statements, used_inputs

__all__ = [
    "MEASURE_CHUNK",
    "MEASURE_THREADS",
    "Direction",
    "measure_shared",
    "measure_source",
    "source",
    "template",
]

Direction = Literal["forward", "backward"]
MEASURE_THREADS, MEASURE_CHUNK = 256, 8192
"""Of kernels/measure.cu: threads of a block, and numbers of a time step that a block adds up."""
_HERE = Path(__file__).parent / "kernels"


@lru_cache(maxsize=16)
def template(name: str) -> str:
    """One file of the template."""
    return (_HERE / f"{name}.cu").read_text(encoding="utf-8")


def source(
    cell: Cell, plan: Plan | Steps, direction: Direction, save: bool = True, measure: bool = False
) -> str:
    """A whole translation unit. save: forward keeps what backward needs; measure: keep what
    `measure_source`'s kernels read."""
    switches: dict[str, int | str] = {"SAVE": int(save), "MEASURE": int(measure)}
    if isinstance(plan, Steps):
        head = _head(plan, switches)
        numbers = {"H": plan.hidden}
        return _unit(head, numbers, cell, plan.parts == 0, "step", f"step_{direction}")
    head = _head(plan, switches | {"KW": plan.splits, "EXCHANGE": EXCHANGES[plan.exchange]})
    numbers = {
        "H": plan.hidden,
        "UW": plan.units,
        "CL": plan.blocks,
        "NT": plan.tiles,
        "KREG": plan.held[direction == "backward"],
    }
    return _unit(head, numbers, cell, False, "tiles", direction)


def measure_source(cell: Cell, plan: Plan | Steps) -> str:
    """The kernels that add up what `record` reports of a layer, the same for all its plans."""
    double = plan.parts == 0
    head = _head(plan, {})
    functions = measured_functions(cell, double)
    numbers = {
        "H": plan.hidden,
        "MEASURE_THREADS": MEASURE_THREADS,
        "MEASURE_CHUNK": MEASURE_CHUNK,
    }
    return _unit(head, numbers, cell, double, "slots", functions, "measure")


def measure_shared(cell: Cell) -> tuple[int, int]:
    """Bytes of shared memory of these kernels, forward and backward."""
    found = measured(cell)
    forward, backward = (max(1, len(names)) for names in (found.numbers, found.norms))
    return MEASURE_THREADS // 32 * 8 * forward, MEASURE_THREADS // 32 * 8 * backward


def _head(plan: Plan | Steps, switches: Mapping[str, int | str]) -> str:
    numbers = {"HALF": int(not plan.half), "PARTS": plan.parts, "EXCHANGE": "LOCAL", **switches}
    return "".join(f"#define {name} {value}\n" for name, value in numbers.items())


def _unit(head: str, numbers: Mapping[str, int], cell: Cell, double: bool, *rest: str) -> str:
    """rest: files of the template by name, or text."""
    return "\n".join(
        (
            head,
            template("double" if double else "functions"),
            template("machine"),
            _constants(numbers),
            cell_functions(cell, double),
            template("layer"),
            *(text if "\n" in text else template(text) for text in rest),
        )
    )


def _constants(values: Mapping[str, int]) -> str:
    return "".join(f"constexpr int {name} = {value};\n" for name, value in values.items())


def _array(kind: str, name: str, values: tuple[int, ...]) -> str:
    return f"__device__ constexpr {kind} {name}[] = {{{', '.join(map(str, values or (0,)))}}};\n"


def _function(name: str, parameters: str, body: str, first: str = "") -> str:
    """parameters: "NAME[COUNT]" of the arrays that are read and, after "->", of those written.
    first: a parameter before them."""
    given, _, written = parameters.partition(" -> ")
    listed = [first] if first else []
    for kind, arrays in (("const real", given), ("real", written)):
        for array in arrays.split():
            called, count = array[:-1].split("[", 1)
            listed.append(f"{kind} (&{called})[{count}]")
    return f"__device__ __forceinline__ void {name}({', '.join(listed)}) {{\n{body}}}\n"


_FIXED = "mask[some(M)] vectors[some(V)]"


class _Names:
    """The text that stands for each input and output of a cell's Programs in its functions."""

    def __init__(self, cell: Cell, double: bool) -> None:
        kind = cell.type
        states = list(enumerate(kind.states))
        products = list(enumerate(product.name for product in cell.products))
        fixed = {name: number(value, double) for name, value in cell.parameters.items()}
        fixed |= {name: f"vectors[{k}]" for k, name in enumerate(cell.per_unit)}
        fixed |= {name: f"mask[{k}]" for k, name in enumerate(kind.masks)}
        self.fixed = fixed | {before(state): f"before[{k}]" for k, state in states}
        self.z = {name: f"z[{k}]" for k, name in products}
        self.new = {state: f"now[{k}]" for k, state in states}
        self.saved = {saved_name(name): f"saved[{k}]" for k, name in enumerate(cell.saved)}
        self.arriving = {grad(state): f"grad[{k}]" for k, state in states}
        self.gives = {grad(name): f"by_z[{k}]" for k, name in products}
        self.gives |= {grad(before(state)): f"by_before[{k}]" for k, state in states}
        self.gives |= {grad(name): f"by_vector[{k}]" for k, name in enumerate(cell.per_unit)}


@lru_cache(maxsize=256)
def cell_functions(cell: Cell, double: bool = False) -> str:
    """The cell's numbers, cell_forward and cell_backward."""
    kind, layout, names = cell.type, layout_of(cell), _Names(cell, double)
    used = used_inputs(cell.backward, names.gives)
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
    forward = _function(
        "cell_forward",
        f"z[P] before[S] {_FIXED} -> now[S] saved[some(K)]",
        statements(cell.forward, {**names.fixed, **names.z}, {**names.new, **names.saved}, double),
    )
    backward = _function(
        "cell_backward",
        f"saved[some(K)] before[S] now[S] grad[S] {_FIXED} -> by_z[P] by_before[S] "
        "by_vector[some(V)]",
        statements(
            cell.backward,
            {**names.fixed, **names.saved, **names.new, **names.arriving},
            names.gives,
            double,
        ),
    )
    return constants + arrays + forward + backward


@lru_cache(maxsize=256)
def measured_functions(cell: Cell, double: bool = False) -> str:
    """cell_measured, cell_counts and cell_totals: what kernels/measure.cu adds up."""
    found, names = measured(cell), _Names(cell, double)
    numbers = {"SLOTS": len(cell.slots), "COUNTS": len(COUNTS), "OUTPUT": layout_of(cell).output}
    parts = {
        part_of(part, slot): f"{part}[{k}]" for part in PARTS for k, slot in enumerate(cell.slots)
    }
    each = "value[some(SLOTS)] slope[some(SLOTS)] argument[some(SLOTS)]"
    forward = _function(
        "cell_measured",
        f"z[P] before[S] {_FIXED} -> now[S] {each}",
        statements(found.forward, {**names.fixed, **names.z}, {**names.new, **parts}, double),
    )
    counts = "".join(
        f"  count(slots[{k}], value[{k}], slope[{k}], argument[{k}], "
        f"{', '.join(_limits(found.limits[slot], double))});\n"
        for k, slot in enumerate(cell.slots)
    )
    of_slots = _function("cell_counts", each, counts, "Slot* slots")
    states = list(enumerate(cell.type.states))
    given = {direct(state): f"direct[{k}]" for k, state in states}
    gives = {total(state): f"by_grad[{k}]" for k, state in states}
    gives |= {direct(state): f"by_direct[{k}]" for k, state in states}
    backward = _function(
        "cell_totals",
        f"saved[some(K)] before[S] now[S] grad[S] direct[S] {_FIXED} -> by_grad[S] by_direct[S]",
        statements(
            found.backward,
            {**names.fixed, **names.saved, **names.new, **names.arriving, **given},
            gives,
            double,
        ),
    )
    return _constants(numbers) + forward + of_slots + backward


def _limits(held: Limits, double: bool) -> list[str]:
    """The thresholds of `Limits`; where there is none, a number that nothing reaches."""
    low = -float("inf") if held.low is None else held.low
    high = float("inf") if held.high is None else held.high
    steep = -1.0 if held.slope is None else held.slope
    return [number(value, double) for value in (steep, held.split, low, high)]
