"""A cell's equations one after the other, for engines that take them line by line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import sympy

from ..formulas.derivative import partial
from ..formulas.exact import substitute
from ..formulas.primitives import VARIABLE, clip
from ..formulas.program import Program, lower
from .cell import Cell
from .celltype import argument_of, before, symbol

__all__ = ["Action", "schedule"]


@dataclass(frozen=True)
class Action:
    """One value of a step, from those before it.

    kind "product": `name` is W x + R e + b, where program gives e (None: the product does not see
    a state). "line": program gives the value. "slot": the activation in the slot `name`, at the
    value called `inputs[0]` (before clipping), its parameters called SLOT.PARAMETER; program gives
    the value too. "mean": the mean over the hidden units of what program gives.
    inputs: what program takes. slopes: the derivative of what program gives by each input.
    A program's only output is "value". expression: what program computes, for derivatives of any
    order.
    """

    kind: Literal["product", "line", "slot", "mean"]
    name: str
    inputs: tuple[str, ...] = ()
    program: Program | None = None
    slopes: tuple[tuple[str, Program], ...] = ()
    expression: sympy.Expr | None = None


@lru_cache(maxsize=256)
def schedule(cell: Cell) -> tuple[Action, ...]:
    """Every value of a step in an order in which each finds what it needs. Given at the start are
    STATE_before, masks and parameters; the products without a line of this step come first."""
    type = cell.type
    given = {*(before(state) for state in type.states), *type.masks, *cell.parameters}
    waiting = list(zip(type.products, type.operands, strict=True))
    found: list[Action] = []

    def add(action: Action) -> None:
        found.append(action)
        given.add(action.name)

    def make_products() -> None:
        for item in list(waiting):
            product, operand = item
            if operand is None:
                add(Action("product", product.name))
            elif {s.name for s in operand.free_symbols} <= given:
                add(_action("product", product.name, operand))
            else:
                continue
            waiting.remove(item)

    make_products()
    for equation in type.equations:
        if equation.kind == "slot":
            argument = argument_of(equation.name)
            add(_action("line", argument, equation.expression))
            add(_action("slot", equation.name, _activated(cell, equation.name), argument))
        else:
            add(_action(equation.kind, equation.name, equation.expression))
        make_products()
    return tuple(found)


def _activated(cell: Cell, slot: str) -> sympy.Expr:
    """A slot's activation at its argument, clipped."""
    activation = cell.slots[slot]
    inside = argument = symbol(argument_of(slot))
    if cell.clip is not None:
        bound = sympy.Rational(*cell.clip.as_integer_ratio())
        inside = clip(argument, -bound, bound)
    own = {symbol(key): symbol(f"{slot}.{key}") for key in activation.parameters}
    return substitute(activation.expression, {VARIABLE: inside, **own})


def _action(
    kind: Literal["product", "line", "slot", "mean"],
    name: str,
    expression: sympy.Expr,
    first: str = "",
) -> Action:
    """The action that computes an expression, with its slopes. first: an input that comes before
    the others, used or not."""
    used = sorted(s.name for s in expression.free_symbols if s.name != first)
    inputs = (first, *used) if first else tuple(used)
    slopes = tuple((by, lower({"value": partial(expression, symbol(by))}, inputs)) for by in inputs)
    return Action(kind, name, inputs, lower({"value": expression}, inputs), slopes, expression)
