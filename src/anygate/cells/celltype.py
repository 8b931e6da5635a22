"""CellType: the equations of a recurrent cell as data, read from text and checked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sympy import Expr, Symbol

from ..formulas.activation import Activation
from ..formulas.errors import FormulaError, short
from ..formulas.exact import substitute
from ..formulas.lookup import functions, resolve
from ..formulas.parse import nearest, parse, reserved_names

__all__ = ["CellType", "Equation", "Product", "argument_of", "before", "symbol"]

_LINE = re.compile(r"\s*([A-Za-z]\w*)\s*=(?!=)\s*")
_BETWEEN = re.compile(r";|(?<!\s)\s{2,}+(?=[A-Za-z]\w*\s*=(?!=))")
"""Tries each run of spaces once: it is applied to text of any length."""
_MOST_LINES = 64
_MOST_NAMES = 16
"""Products, states, vectors or masks of one cell."""


def symbol(name: str) -> Symbol:
    """The real symbol of this name. Names that a cell's author writes are identifiers; names made
    here hold a space or a dot, so that no text can reach them."""
    return Symbol(name, real=True)


def before(state: str) -> str:
    """The name, in the lines, of a state's value before the step: c -> c_before."""
    return f"{state}_before"


def argument_of(slot: str) -> str:
    """The name of the value that a slot's activation is applied to."""
    return f"{slot} argument"


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
class Equation:
    """One equation in the order of evaluation: name = expression.

    kind "line": as written. "slot": the activation in the slot `name`, at its argument, which the
    expression is. "mean": the mean of the expression over the hidden units of a row.
    """

    name: str
    expression: Expr
    kind: Literal["line", "slot", "mean"] = "line"


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
            "lines": _split(lines) if isinstance(lines, str) else tuple(lines),
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)
        _check_names(self)
        equations, operands = _Reader(self).read()
        object.__setattr__(self, "equations", equations)
        object.__setattr__(self, "operands", operands)

    def with_(self, name: str = "", **changes: Any) -> CellType:
        """This type with other lines or fields.

        A keyword that is a line's name replaces that line's right side (f="1 - i"); `lines` adds
        lines at the end or, a whole text, replaces those of the same names; products, states,
        slots, gates, vectors, masks and output replace the field. A slot that is applied no more
        is dropped.
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
        lines = {_LINE.match(line)[1]: line for line in self.lines}  # type: ignore[index]
        for key, value in changes.items():
            if key in fields:
                fields[key] = value
            elif key in lines:
                lines[key] = f"{key} = {value}"
            else:
                known = ", ".join((*fields, *lines))
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


def _split(text: str) -> tuple[str, ...]:
    """The lines of a text, without empty ones and comments. Several stand on one line of text with
    a semicolon or with two spaces between them."""
    found = []
    for row in text.splitlines():
        row = row.partition("#")[0]
        parts = _BETWEEN.split(row)
        found += [part.strip() for part in parts if part.strip()]
    if len(found) > _MOST_LINES:
        raise FormulaError(f"a cell has at most {_MOST_LINES} lines, not {len(found)}")
    return tuple(found)


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
            _check_name(cell.name, group, name)
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


def _check_name(cell: str, group: str, name: Any) -> None:
    good = isinstance(name, str) and name.isidentifier() and name.isascii() and len(name) <= 60
    if not good or name.startswith("_"):
        raise FormulaError(f"{cell}: {short(repr(name))} is no name for a {group}")
    if name in reserved_names() or name in functions() or name == "mean":
        raise FormulaError(f"{cell}: '{name}' is a word of formulas and no name for a {group}")


class _Reader:
    """From a cell type's texts to its equations."""

    def __init__(self, cell: CellType) -> None:
        self.cell = cell
        self.equations: list[Equation] = []
        self.known = {
            *(before(state) for state in cell.states),
            *(vector for vector, _ in cell.vectors),
            *cell.masks,
        }
        self.aliases: dict[Expr, Expr] = {}
        self.waiting = list(cell.products)
        self.operands: dict[str, Expr | None] = {}
        self.means = 0

    def read(self) -> tuple[tuple[Equation, ...], tuple[Expr | None, ...]]:
        """The equations, and each product's operand."""
        cell = self.cell
        self._make_products()
        for line in cell.lines:
            match = _LINE.match(line)
            if match is None:
                raise FormulaError(
                    f"{cell.name}: '{short(line)}' is no line; write NAME = formula, such as "
                    f"h = {cell.slots[0][0] if cell.slots else 'tanh'}({cell.products[0].name})"
                )
            self._read_line(match[1], line[match.end() :], line)
            self._make_products()
        if self.waiting:
            product = self.waiting[0]
            self._expression(product.operand, f"the operand of {product.name}")
        given = {equation.name for equation in self.equations}
        if missing := [state for state in cell.states if state not in given]:
            raise FormulaError(f"{cell.name}: no line gives the state '{missing[0]}'")
        applied = {equation.name for equation in self.equations if equation.kind == "slot"}
        if unused := [slot for slot, _ in cell.slots if slot not in applied]:
            raise FormulaError(f"{cell.name}: no line applies the slot '{unused[0]}'")
        order = tuple(self.operands[product.name] for product in cell.products)
        return tuple(self.equations), order

    def _make_products(self) -> None:
        """Products whose operand can be computed now are known from here on."""
        for product in list(self.waiting):
            text = product.operand or before(self.cell.states[0])
            if not product.recurrent:
                self.operands[product.name] = None
            elif self._words(text) <= self.known:
                where = f"the operand of {product.name}"
                count = len(self.equations)
                operand = self._expression(text, where)
                if len(self.equations) > count or operand.is_number:
                    raise FormulaError(
                        f"{self.cell.name}: {where} is a formula of states before the step and "
                        "lines, without slots, means and constants alone; what has them is a line "
                        "of its own"
                    )
                self.operands[product.name] = operand
            else:
                continue
            self.waiting.remove(product)
            self.known.add(product.name)

    def _words(self, text: str) -> set[str]:
        return set(re.findall(r"[A-Za-z]\w*", text)) - reserved_names()

    def _read_line(self, name: str, text: str, line: str) -> None:
        _check_name(self.cell.name, "line", name)
        slots = {slot for slot, _ in self.cell.slots}
        if name in (product.name for product in self.cell.products):
            raise FormulaError(
                f"{self.cell.name}: '{name}' is a product, which the line '{short(line)}' cannot "
                "give another value"
            )
        if name in self.known or name in slots:
            raise FormulaError(f"{self.cell.name}: '{name}' is given twice, in '{short(line)}'")
        expression = self._expression(text, f"the line '{short(line)}'")
        is_name = expression.is_Symbol and expression.name in slots
        if is_name and name not in self.cell.states:
            self.aliases[symbol(name)] = expression  # i = input_gate(z_i): two names of one value
        else:
            self.equations.append(Equation(name, expression))
        self.known.add(name)

    def _expression(self, text: str, where: str) -> Expr:
        cell = self.cell
        calls: dict[str, Callable[..., Expr]] = {**functions(), "mean": self._mean}
        calls |= {slot: self._apply(slot) for slot, _ in cell.slots}
        try:
            expression = parse(text, calls, variables=())
        except FormulaError as error:
            raise FormulaError(f"{cell.name}, {where}: {error}") from None
        self._check_symbols(expression, where)
        return substitute(expression, self.aliases)

    def _check_symbols(self, expression: Expr, where: str) -> None:
        inner = {slot for slot, _ in self.cell.slots}
        for found in sorted(s.name for s in expression.free_symbols):
            if found in self.known or found in inner or " " in found:
                continue
            raise FormulaError(
                f"{self.cell.name}, {where}: '{short(found)}' is not known here; there are "
                f"{', '.join(sorted(self.known))}.{self._hint(found)}"
            )

    def _hint(self, name: str) -> str:
        """A sentence that says what an unknown name may be meant for; "" without a guess."""
        for product in self.waiting:
            if product.name == name:
                return f" The product {name} is known after the lines that its operand uses."
        if name in self.cell.states:
            return f" The state before the step is {before(name)}."
        if any(match[1] == name for line in self.cell.lines if (match := _LINE.match(line))):
            return f" The line of {name} stands below; put it above."
        near = nearest(name, self.known)
        return f" Did you mean {' or '.join(near)}?" if near else ""

    def _apply(self, slot: str) -> Callable[..., Expr]:
        def call(argument: Expr, **options: Any) -> Expr:
            if options:
                raise FormulaError(f"{slot} takes no named arguments")
            if any(e.name == slot for e in self.equations):
                raise FormulaError(f"the slot {slot} is applied twice; give each place its own")
            self._check_symbols(argument, f"the argument of {slot}")
            argument = substitute(argument, self.aliases)
            self.equations.append(Equation(slot, argument, "slot"))
            return symbol(slot)

        return call

    def _mean(self, argument: Expr, **options: Any) -> Expr:
        self._check_symbols(argument, "the argument of mean")
        self.means += 1
        name = f"mean {self.means}"
        self.equations.append(Equation(name, substitute(argument, self.aliases), "mean"))
        return symbol(name)
