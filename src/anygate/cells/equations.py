"""A cell's equations, read from its lines of text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sympy import Expr, Symbol

from ..formulas.errors import FormulaError, short
from ..formulas.exact import substitute
from ..formulas.lookup import functions
from ..formulas.parse import nearest, parse, reserved_names

if TYPE_CHECKING:
    from .celltype import CellType

__all__ = [
    "LINE",
    "Equation",
    "Reader",
    "argument_of",
    "before",
    "check_name",
    "split_lines",
    "symbol",
]

LINE = re.compile(r"\s*([A-Za-z]\w*)\s*=(?!=)\s*")
"""NAME = at the start of a line."""
_BETWEEN = re.compile(r";|(?<!\s)\s{2,}+(?=[A-Za-z]\w*\s*=(?!=))")
"""Tries each run of spaces once: it is applied to text of any length."""
_MOST_LINES = 64


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
class Equation:
    """One equation in the order of evaluation: name = expression.

    kind "line": as written. "slot": the activation in the slot `name`, at its argument, which the
    expression is. "mean": the mean of the expression over the hidden units of a row.
    """

    name: str
    expression: Expr
    kind: Literal["line", "slot", "mean"] = "line"


def split_lines(text: str) -> tuple[str, ...]:
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


def check_name(cell: str, group: str, name: Any) -> None:
    """Raises FormulaError for what cannot be the name of a product, a state ... of the cell."""
    good = isinstance(name, str) and name.isidentifier() and name.isascii() and len(name) <= 60
    if not good or name.startswith("_"):
        raise FormulaError(f"{cell}: {short(repr(name))} is no name for a {group}")
    if name in reserved_names() or name in functions() or name == "mean":
        raise FormulaError(f"{cell}: '{name}' is a word of formulas and no name for a {group}")


class Reader:
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
            match = LINE.match(line)
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
        check_name(self.cell.name, "line", name)
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
        if any(match[1] == name for line in self.cell.lines if (match := LINE.match(line))):
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
