"""CellType: the equations of a recurrent cell as data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sympy import Expr

from ..formulas.activation import Activation
from ..formulas.errors import FormulaError, short
from ..formulas.lookup import resolve
from .equations import (
    LINE,
    Equation,
    Reader,
    argument_of,
    before,
    check_name,
    split_lines,
    symbol,
)

__all__ = ["CellType", "Equation", "Product", "argument_of", "before", "symbol"]

_MOST_NAMES = 16
"""Products, states, vectors or masks of one cell."""


@dataclass(frozen=True)
class Product:
    """z = W x + b_ih + R e + b_hh, one number for each hidden unit.

    input: z has the part W x + b_ih. recurrent: z has the part R e + b_hh. operand: the text of e,
    over states before the step and lines above; "" means the first state before the step.
    Weights stand in the order of the products: weight_ih has H rows for each product with an input,
    weight_hh for each recurrent one.
    """

    name: str
    input: bool = True
    recurrent: bool = True
    operand: str = ""


@dataclass(frozen=True)
class CellType:
    """The equations of a recurrent cell, without the choice of activations.

        JANET = CellType(
            "JANET",
            products=("z_f", "z_g"),
            states=("h",),
            slots={"forget_gate": "sigmoid", "candidate": "tanh"},
            gates=("forget_gate",),
            lines='''f = forget_gate(z_f)
                     h = f*h_before + (1 - f)*candidate(z_g)''',
        )

    name: what it is called.
    products: the matrix products of a step: a name (which sees x and the first state) or a Product.
    states: what a step hands to the next. NAME_before is the value before the step, NAME the new
    one, which a line must give. The first is the output, unless `output` names another.
    lines: equations over products, states, vectors, masks and earlier lines, in the vocabulary of
    formulas and the catalogue's functions; SLOT(...) applies the activation in a slot, mean(...)
    is the mean over the hidden units.
    slots: the places where an activation can be chosen, with the activation that stands there when
    none is. Each is applied once. gates: the slots that `gate_activation` sets; `activation` sets
    the others.
    vectors: learnt numbers for each hidden unit, with the value they begin with (None: drawn as the
    weights are).
    masks: numbers for each row, step and hidden unit that are given with the input, as a dropout's.

    Frozen and hashable. Raises FormulaError for what cannot be read or has no meaning.
    """

    name: str
    products: tuple[Product, ...]
    states: tuple[str, ...]
    lines: tuple[str, ...]
    slots: tuple[tuple[str, Activation], ...]
    gates: tuple[str, ...]
    vectors: tuple[tuple[str, float | None], ...]
    masks: tuple[str, ...]
    output: str
    equations: tuple[Equation, ...] = field(compare=False)
    operands: tuple[Expr | None, ...] = field(compare=False)

    def __init__(
        self,
        name: str,
        *,
        products: tuple[str | Product, ...],
        states: tuple[str, ...],
        lines: str | tuple[str, ...],
        slots: Mapping[str, Activation | str] | None = None,
        gates: tuple[str, ...] = (),
        vectors: Mapping[str, float | None] | tuple[str, ...] = (),
        masks: tuple[str, ...] = (),
        output: str = "",
    ) -> None:
        for group, given in {"products": products, "states": states, "masks": masks}.items():
            if isinstance(given, str):
                raise FormulaError(f"{group} is a tuple, such as ({given!r:.40},), not a text")
        values: dict[str, Any] = {
            "name": name,
            "products": tuple(Product(p) if isinstance(p, str) else p for p in products),
            "states": tuple(states),
            "slots": tuple((slot, _resolve(name, slot, a)) for slot, a in (slots or {}).items()),
            "gates": tuple(gates),
            "vectors": tuple(
                (v, None) if isinstance(v, str) else v
                for v in (vectors.items() if isinstance(vectors, Mapping) else vectors)
            ),
            "masks": tuple(masks),
            "output": output or (states[0] if states else ""),
            "lines": split_lines(lines) if isinstance(lines, str) else tuple(lines),
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)
        _check_names(self)
        equations, operands = Reader(self).read()
        object.__setattr__(self, "equations", equations)
        object.__setattr__(self, "operands", operands)

    def with_(self, name: str = "", **changes: Any) -> CellType:
        """This type with other lines or fields.

        A keyword that is a line's name replaces that line's right side (f="1 - i"). `lines`, as a
        text or a tuple, replaces the lines of the same names and adds the others at the end.
        products, states, slots, gates, vectors, masks and output replace the field. A slot that is
        applied no more is dropped. Raises FormulaError for another keyword.
        """
        fields: dict[str, Any] = {
            "products": self.products,
            "states": self.states,
            "slots": dict(self.slots),
            "gates": self.gates,
            "vectors": dict(self.vectors),
            "masks": self.masks,
            "output": self.output,
        }
        lines = {LINE.match(line)[1]: line for line in self.lines}  # type: ignore[index]
        for key, value in changes.items():
            if key in fields:
                fields[key] = value
            elif key == "lines":
                for line in split_lines(value) if isinstance(value, str) else value:
                    match = LINE.match(line)
                    lines[line if match is None else match[1]] = line
            elif key in lines:
                lines[key] = f"{key} = {value}"
            else:
                known = ", ".join((*fields, "lines", *lines))
                raise FormulaError(f"{self.name} has nothing called '{key}' to change: {known}")
        text = "\n".join(lines.values())
        applied = {s: a for s, a in fields["slots"].items() if re.search(rf"\b{s}\s*\(", text)}
        fields["slots"] = applied
        fields["gates"] = tuple(gate for gate in fields["gates"] if gate in applied)
        return CellType(name or self.name, lines=tuple(lines.values()), **fields)

    @property
    def kind(self) -> Literal["one product", "two products", "reduction", "no recurrence"]:
        """The order of work that a step needs, which decides what engines can run it.

        "one product": all recurrent products multiply R with the first state before the step (what
        fused engines run). "two products": one multiplies it with something else, such as a line of
        this step. "reduction": a line takes a mean over the hidden units. "no recurrence": no
        product sees a state.
        """
        if any(equation.kind == "mean" for equation in self.equations):
            return "reduction"
        recurrent = {operand for operand in self.operands if operand is not None}
        if not recurrent:
            return "no recurrence"
        first = {symbol(before(self.states[0]))}
        return "one product" if recurrent == first else "two products"

    def __reduce__(self) -> Any:
        fields = (
            "name",
            "products",
            "states",
            "lines",
            "slots",
            "gates",
            "vectors",
            "masks",
            "output",
        )
        return _restore, tuple(getattr(self, key) for key in fields)

    def __str__(self) -> str:
        return "\n".join(self.lines)


def _restore(
    name: str,
    products: Any,
    states: Any,
    lines: Any,
    slots: Any,
    gates: Any,
    vectors: Any,
    masks: Any,
    output: str,
) -> CellType:
    return CellType(
        name,
        products=products,
        states=states,
        lines=lines,
        slots=dict(slots),
        gates=gates,
        vectors=dict(vectors),
        masks=masks,
        output=output,
    )


def _resolve(cell: str, slot: str, activation: Activation | str) -> Activation:
    try:
        return resolve(activation)
    except FormulaError as error:
        raise FormulaError(f"{cell}, the slot {slot}: {error}") from None


def _check_names(cell: CellType) -> None:
    if not isinstance(cell.name, str) or not cell.name.strip() or len(cell.name) > 80:
        raise FormulaError(f"a cell's name is a text of 1 to 80 characters, not {cell.name!r:.90}")
    groups = {
        "product": tuple(product.name for product in cell.products),
        "state": cell.states,
        "state before the step": tuple(before(state) for state in cell.states),
        "slot": tuple(slot for slot, _ in cell.slots),
        "vector": tuple(vector for vector, _ in cell.vectors),
        "mask": cell.masks,
    }
    taken: dict[str, str] = {}
    for group, names in groups.items():
        if len(names) > _MOST_NAMES:
            raise FormulaError(f"{cell.name}: at most {_MOST_NAMES} names for a {group}")
        for name in names:
            check_name(cell.name, group, name)
            if name in taken:
                both = f"a {taken[name]} and a {group}"
                twice = f"the name of two {group}s" if taken[name] == group else both
                raise FormulaError(f"{cell.name}: '{name}' is {twice}")
            taken[name] = group
    if not cell.states or not cell.products:
        raise FormulaError(f"{cell.name}: a cell has at least one state and one product")
    if cell.output not in cell.states:
        raise FormulaError(f"{cell.name}: the output '{cell.output}' is no state: {cell.states}")
    if unknown := [gate for gate in cell.gates if gate not in groups["slot"]]:
        raise FormulaError(f"{cell.name}: the gate '{unknown[0]}' is no slot: {groups['slot']}")
    for product in cell.products:
        if not (isinstance(product.input, bool) and isinstance(product.recurrent, bool)):
            raise FormulaError(
                f"{cell.name}: input and recurrent of {product.name} are True or False"
            )
        if not isinstance(product.operand, str):
            raise FormulaError(f"{cell.name}: the operand of {product.name} is a text")
        if not (product.input or product.recurrent):
            raise FormulaError(f"{cell.name}: the product '{product.name}' sees nothing")
    for vector, value in cell.vectors:
        number = isinstance(value, int | float) and math.isfinite(value)
        if value is not None and not number:
            raise FormulaError(
                f"{cell.name}: the vector '{vector}' begins with a finite number or None (drawn), "
                f"not {short(repr(value))}"
            )
    for line in cell.lines:
        if not isinstance(line, str):
            raise FormulaError(f"{cell.name}: a line is a text, not {short(repr(line))}")
