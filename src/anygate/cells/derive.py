"""From a cell's equations to the Programs of a step, forward and backward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sympy
from sympy import Expr, Symbol

from ..formulas.activation import Activation
from ..formulas.closed import VALUE, derivative_in_value
from ..formulas.derivative import partial
from ..formulas.errors import FormulaError
from ..formulas.exact import substitute
from ..formulas.primitives import VARIABLE, Primitive, clip
from ..formulas.program import Program, lower
from .celltype import CellType, argument_of, before, symbol

__all__ = ["Derived", "Step", "derive", "grad", "saved_name"]


def grad(name: str) -> str:
    """The name of the loss's derivative by a value."""
    return f"grad {name}"


def saved_name(name: str) -> str:
    """The name under which forward gives a value that backward needs."""
    return f"saved {name}"


_MOST_SIZE = 200_000
"""Operations of a line, or of a derivative, with all lines that it uses written out: the LSTM's h
has 30. What uses a line twice holds it twice, so that 40 such lines would be 2^40; these take
seconds."""


def _tree_size(expression: Expr, sizes: Mapping[Symbol, int]) -> int:
    """The parts of an expression as a tree, each symbol counted as what stands for it."""
    return sum(sizes.get(part, 1) for part in sympy.preorder_traversal(expression))


@dataclass(frozen=True)
class Derived:
    """The Programs of one step, and the names of what forward saves for backward."""

    saved: tuple[str, ...]
    forward: Program
    backward: Program


def derive(
    type: CellType,
    slots: Mapping[str, Activation],
    limit: float | None,
    inputs: tuple[str, ...],
    parameters: tuple[str, ...],
) -> Derived:
    """The Programs of a cell whose products are inputs; see `Cell.forward` and `Cell.backward`."""
    step = Step(type, slots, limit)
    forward = lower(step.forward_outputs(), inputs)
    outputs = step.backward_outputs(parameters)
    states = (*(before(state) for state in type.states), *type.states)
    arriving = (grad(state) for state in type.states)
    names = (*map(saved_name, step.saved), *states, *arriving, *type.masks, *parameters)
    return Derived(step.saved, forward, lower(outputs, names))


class Step:
    """The equations of one step of one unit, with the activations in them.

    lines: name -> expression, each after those it uses; a slot is two lines, its argument (before
    clipping) and its value. slopes: for each line its derivative by every symbol in it.
    saved: the names of what backward needs and cannot have from the states.
    """

    def __init__(
        self, type: CellType, slots: Mapping[str, Activation], limit: float | None
    ) -> None:
        self.type, self.slots, self.limit = type, slots, limit
        self.lines: dict[str, Expr] = {}
        for equation in type.equations:
            if equation.kind == "mean":
                raise ValueError(f"a mean over hidden units has no Program: {equation.expression}")
            if equation.kind == "line":
                self.lines[equation.name] = equation.expression
                continue
            argument = argument_of(equation.name)
            self.lines[argument] = equation.expression
            self.lines[equation.name] = self._activated(equation.name, symbol(argument))
        self._check_size()
        self.values: dict[Symbol, Expr] = {}
        for name, expression in self.lines.items():
            self.values[symbol(name)] = substitute(expression, self.values)
        self._free = {symbol(before(s)) for s in type.states} | {symbol(m) for m in type.masks}
        self._free |= {symbol(name) for name, _ in type.vectors}
        self._free |= {symbol(f"{s}.{key}") for s, a in slots.items() for key in a.parameters}
        self._closed = {name: found for name in self.lines if (found := self._close(name))}
        self.slopes = {name: self._slopes(name) for name in self.lines}
        self._saved: dict[str, Expr] = {}
        self._available = self._states()
        self._backward = self._accumulate()
        order = [*(product.name for product in type.products), *self.lines]
        self.saved = tuple(sorted(self._saved, key=order.index))

    def _check_size(self) -> None:
        sizes: dict[Symbol, int] = {}
        for name, expression in self.lines.items():
            sizes[symbol(name)] = _tree_size(expression, sizes)
            self._refuse_beyond(sizes[symbol(name)], name)

    def _check_backward_size(self, sizes: Mapping[Symbol, int]) -> None:
        """Bounds the size of backward before it is derived. sizes: of what a symbol stands for."""
        found = {symbol(state): 1 for state in self.type.states}
        for name, slopes in reversed(self.slopes.items()):
            arriving = found.get(symbol(name), 0)
            for by, slope in slopes.items():
                found[by] = found.get(by, 0) + arriving + _tree_size(slope, sizes)
                self._refuse_beyond(found[by], f"the derivative by {by.name}")

    def _refuse_beyond(self, size: int, what: str) -> None:
        if size > _MOST_SIZE:
            raise FormulaError(
                f"{self.type.name}: written out, {what} has more than {_MOST_SIZE:,} operations; "
                "use fewer lines that use others several times"
            )

    def forward_outputs(self) -> dict[str, Expr]:
        """The new states, and what is saved."""
        states = {state: self.values[symbol(state)] for state in self.type.states}
        values = {name: self.values.get(symbol(name), symbol(name)) for name in self.saved}
        return {**states, **{saved_name(name): value for name, value in values.items()}}

    def backward_outputs(self, parameters: tuple[str, ...]) -> dict[str, Expr]:
        """The gradients by products, states before the step and parameters."""
        names = (
            *(product.name for product in self.type.products),
            *(before(state) for state in self.type.states),
            *parameters,
        )
        zero = sympy.S.Zero
        return {grad(name): self._backward.get(symbol(name), zero) for name in names}

    def total(self, state: str) -> Expr:
        """dL by a new state, with what arrives through the lines below it."""
        return self._backward.get(symbol(state), sympy.S.Zero)

    def _activated(self, slot: str, argument: Symbol) -> Expr:
        """A slot's activation at `argument`, its parameters named after the slot."""
        inside: Expr = argument
        if self.limit is not None:
            bound = sympy.Rational(*self.limit.as_integer_ratio())
            inside = clip(argument, -bound, bound)
        return substitute(
            self.slots[slot].expression, {VARIABLE: inside, **self._parameter_names(slot)}
        )

    def _parameter_names(self, slot: str) -> dict[Expr, Expr]:
        """The name in the cell of each of an activation's own parameters: k -> SLOT.k."""
        return {symbol(key): symbol(f"{slot}.{key}") for key in self.slots[slot].parameters}

    def _close(self, name: str) -> tuple[Symbol, Expr] | None:
        """(argument, slope in terms of the line's value) where the value of a line is all that
        backward needs: its derivative closes in it, as sigmoid's does, and none by a parameter
        needs the argument, as affine's by alpha does. A clipped argument is not seen in the
        value."""
        if name in self.slots:
            if self.limit is not None:
                return None
            argument, expression = symbol(argument_of(name)), self.slots[name].expression
            parameters = [symbol(key) for key in self.slots[name].parameters]
            names = self._parameter_names(name)
        else:
            inner = self.lines[name].free_symbols - self._free
            if len(inner) != 1 or self.lines[name].free_symbols != inner:
                return None
            if not self.lines[name].has(Primitive):
                return None  # 1 - i is as cheap to compute again as to read
            (argument,) = inner
            expression = substitute(self.lines[name], {argument: VARIABLE})
            parameters, names = [], {}
        slope = derivative_in_value(expression)
        if slope is None or any(partial(expression, p).has(VARIABLE) for p in parameters):
            return None
        return argument, substitute(slope, {VALUE: symbol(name), **names})

    def _slopes(self, name: str) -> dict[Symbol, Expr]:
        expression = self.lines[name]
        slopes = {s: partial(expression, s) for s in sorted(expression.free_symbols, key=str)}
        if name in self._closed:
            argument, slope = self._closed[name]
            if argument in slopes:
                slopes[argument] = slope
        return slopes

    def _states(self) -> dict[Symbol, Expr]:
        """The values given to backward: inputs, the new states, and lines that are a new state."""
        found: dict[Symbol, Expr] = {name: name for name in self._free}
        for state in self.type.states:
            found[symbol(state)] = symbol(state)
            if self.lines[state].is_Symbol:
                found[self.lines[state]] = symbol(state)
        return found

    def _accumulate(self) -> dict[Symbol, Expr]:
        """dL by every symbol, in terms of what backward is given; chooses what is saved."""
        self._check_backward_size({})
        grads: dict[Symbol, Expr] = {symbol(s): symbol(grad(s)) for s in self.type.states}
        for name, slopes in reversed(self.slopes.items()):
            arriving = grads.get(symbol(name), sympy.S.Zero)
            for by, slope in slopes.items():
                grads[by] = grads.get(by, sympy.S.Zero) + arriving * slope
        arriving = {symbol(grad(state)) for state in self.type.states}
        needed = {s for g in grads.values() for s in g.free_symbols} - arriving
        known = {s: self._recall(s) for s in sorted(needed, key=self._saving_order)}
        self._check_backward_size({s: _tree_size(value, {}) for s, value in known.items()})
        return {name: substitute(expression, known) for name, expression in grads.items()}

    def _saving_order(self, name: Symbol) -> int:
        """Products first, then lines as they stand: what is saved of an early line serves later."""
        order = list(self.lines)
        return order.index(name.name) if name.name in order else -1

    def _recall(self, name: Symbol) -> Expr:
        """A value of the step in backward: from what is given, else from what is saved."""
        if name not in self._available:
            self._available[name] = self._find(name)
        return self._available[name]

    def _find(self, name: Symbol) -> Expr:
        line = self.lines.get(name.name)
        if line is None:
            return self._save(name)  # a product
        inner = line.free_symbols - self._free
        if name.name in self._closed:
            argument, _ = self._closed[name.name]
            if argument not in inner:
                return line  # a constant
            if not self._follows_from_states(argument):
                return self._save(name)
        if name.name.endswith(" argument") and not self._follows_from_states(name):
            return self._save(name)
        return substitute(line, {s: self._recall(s) for s in sorted(inner, key=str)})

    def _follows_from_states(self, name: Symbol) -> bool:
        """True if a value follows from states and inputs alone."""
        if name in self._available:
            return name.name not in self._saved
        line = self.lines.get(name.name)
        return line is not None and all(
            self._follows_from_states(s) for s in line.free_symbols - self._free
        )

    def _save(self, name: Symbol) -> Symbol:
        value = symbol(saved_name(name.name))
        self._saved[name.name] = value
        return value
