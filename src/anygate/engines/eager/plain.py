"""A layer line by line, in operations that torch differentiates itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from sympy import Expr
from torch import Tensor

from ...cells import Cell
from ...cells.celltype import before
from ...cells.schedule import Action, schedule
from ..protocol import Layer, Result
from .operations import bind_program
from .pointwise import Formula, Value, pointwise

__all__ = ["gradients", "order", "parameter_values", "plain"]

_ARITHMETIC = {"input", "const", "add", "sub", "mul", "neg"}
"""Operations whose own derivatives in torch are the derived ones."""
_Line = Callable[[Mapping[str, Value]], Tensor]


def order(steps: int, reverse: bool) -> range:
    """The time steps as they are taken."""
    return range(steps - 1, -1, -1) if reverse else range(steps)


def plain(cell: Cell, layer: Layer, keep: bool = False) -> Result:
    """A layer of equal lengths of any cell, differentiable in both modes, to any order and under
    torch.func's transforms."""
    layer = _apart(layer)
    like = layer.states[0]
    lines = {action.name: _line(action, like) for action in schedule(cell)}
    products = _Products(cell, layer)
    fixed = parameter_values(cell, layer)
    names = cell.type.states
    states = layer.states
    taken: list[tuple[Tensor, ...]] = [states] * len(layer.x)
    for t in order(len(layer.x), layer.reverse):
        seen: dict[str, Value] = {**fixed, **dict(zip(map(before, names), states, strict=True))}
        if layer.masks is not None:
            masks = layer.masks[t].detach().to(like.dtype).unbind(1)
            seen.update(zip(cell.type.masks, masks, strict=True))
        found: dict[Any, Tensor] = {}
        for action in schedule(cell):
            line = lines[action.name]
            if action.kind == "product":
                operand = None if line is None else line(seen)
                seen[action.name] = products.value(action, t, operand, found)
                continue
            assert line is not None
            value = line(seen)
            if action.kind == "mean":
                value = value.expand(like.shape).mean(-1, keepdim=True)
            seen[action.name] = value
        states = tuple(cast(Tensor, seen[name]).expand(like.shape) for name in names)
        taken[t] = states
    return _result(cell, layer, states, taken, keep)


def _result(
    cell: Cell,
    layer: Layer,
    states: tuple[Tensor, ...],
    taken: list[tuple[Tensor, ...]],
    keep: bool,
) -> Result:
    """Copies, which can be changed in place without harm to each other or to the graph."""
    if not taken:
        given = [t for t in (layer.x, *layer[2:7]) if t is not None]
        nothing = sum((t.sum() for t in given), layer.x.new_zeros(()))  # its gradients are 0
        output = nothing.expand(0, *states[0].shape).clone()
        every = [output.clone() for _ in states] if keep else []
    else:
        of_state = list(zip(*taken, strict=True))
        output = torch.stack(of_state[cell.type.states.index(cell.type.output)])
        every = [torch.stack(steps) for steps in of_state] if keep else []
    kept = tuple(every) if keep else None
    return Result(output, tuple(state.clone() for state in states), kept)


def _apart(layer: Layer) -> Layer:
    """Each small tensor times 1, so that its gradient is memory of its own: the gradient of a sum
    would be one tensor for all that is added."""
    bias_ih, bias_hh = (None if t is None else t * 1 for t in (layer.bias_ih, layer.bias_hh))
    states = tuple(state * 1 for state in layer.states)
    return layer._replace(states=states, bias_ih=bias_ih, bias_hh=bias_hh)


def parameter_values(cell: Cell, layer: Layer) -> dict[str, Value]:
    """The cell's parameters by name: numbers, and [H] where each unit has its own."""
    vectors = () if layer.vectors is None else layer.vectors.unbind(0)
    return {**cell.parameters, **dict(zip(cell.per_unit, vectors, strict=True))}


def _line(action: Action, like: Tensor) -> _Line | None:
    """An action's program as a function of what is seen before it; None without a program."""
    expression: Expr = action.expression
    if action.program is None:
        return None
    if expression.is_Symbol:
        name = str(expression.name)

        def given(seen: Mapping[str, Value]) -> Tensor:
            value = seen[name]
            return value if isinstance(value, Tensor) else torch.full_like(like, value)

        return given
    if expression.free_symbols and _ARITHMETIC.issuperset(n.op for n in action.program.nodes):
        run = bind_program(action.program, like)

        def arithmetic(seen: Mapping[str, Value]) -> Tensor:
            inputs = {name: _tensor(seen[name], like) for name in action.inputs}
            return run(inputs)["value"]

        return arithmetic
    formula = Formula(expression, action.inputs)

    def derived(seen: Mapping[str, Value]) -> Tensor:
        return pointwise(formula, tuple(seen[name] for name in action.inputs), like)

    return derived


def _tensor(value: Value, like: Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else torch.full_like(like, value)


class _Products:
    """The products of a layer: those of x for all steps at once, and those that multiply the same
    operand as one."""

    def __init__(self, cell: Cell, layer: Layer) -> None:
        self.shape = layer.states[0].shape
        units = self.shape[1]
        types = cell.type.products
        self.inputs = [p.name for p in types if p.input]
        recurrent = [p.name for p in types if p.recurrent]
        z_x = torch.nn.functional.linear(layer.x, layer.weight_ih, layer.bias_ih)
        self.z_x = z_x.view(*layer.x.shape[:2], len(self.inputs), units)
        operands = {
            p.name: e for p, e in zip(types, cell.type.operands, strict=True) if p.recurrent
        }
        self.groups = {
            name: tuple(other for other in recurrent if operands[other] == operands[name])
            for name in recurrent
        }
        self.weights: dict[tuple[str, ...], tuple[Tensor, Tensor | None]] = {}
        for group in set(self.groups.values()):
            rows = [recurrent.index(name) for name in group]
            weight, bias = (
                t if t is None or len(rows) == len(recurrent) else _rows(t, units, rows)
                for t in (layer.weight_hh, layer.bias_hh)
            )
            self.weights[group] = cast(Tensor, weight), bias

    def value(
        self, action: Action, t: int, operand: Tensor | None, found: dict[Any, Tensor]
    ) -> Tensor:
        """z [B, H] of one product; found: those of this step so far, by group."""
        z_x = self.z_x[t, :, self.inputs.index(action.name)] if action.name in self.inputs else None
        if operand is None:
            assert z_x is not None
            return z_x
        group = self.groups[action.name]
        if group not in found:
            weight, bias = self.weights[group]
            z = torch.nn.functional.linear(operand.expand(self.shape), weight, bias)
            found[group] = z.view(self.shape[0], len(group), self.shape[1])
        z_h = found[group][:, group.index(action.name)]
        return z_h if z_x is None else z_x + z_h


def _rows(tensor: Tensor, units: int, rows: list[int]) -> Tensor:
    """The H rows of each of these products."""
    return torch.cat([tensor[row * units : (row + 1) * units] for row in rows])


def gradients(
    cell: Cell,
    layer: Layer,
    keep: bool,
    grads: tuple[Tensor | None, ...],
    needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """Gradients by x, weight_ih, weight_hh, bias_ih, bias_hh, vectors and the states, where they
    are needed, as a graph that can be differentiated again; grads: by the output, the states and,
    if they are kept, the states of all steps."""
    arguments = (layer.x, *layer[2:7], *layer.states)
    # A view of each: one tensor given twice (h0 as c0) has its own gradient in each place.
    own: list[Any] = [
        t.view_as(t) if t is not None and need else t
        for t, need in zip(arguments, needed, strict=True)
    ]
    x, weight_ih, weight_hh, bias_ih, bias_hh, vectors, *states = own
    weights = (weight_ih, weight_hh, bias_ih, bias_hh, vectors)
    again = Layer(x, tuple(states), *weights, layer.masks, None, layer.reverse)
    result = plain(cell, again, keep)
    results = (result.output, *result.states, *(result.kept or ()))
    pairs = [(r, g) for r, g in zip(results, grads, strict=True) if g is not None]
    pairs = [(r, g) for r, g in pairs if r.requires_grad]
    wanted = [t for t, need in zip(own, needed, strict=True) if t is not None and need]
    found: list[Any] = [None] * len(wanted)
    if pairs:
        found = list(
            torch.autograd.grad(
                [r for r, _ in pairs],
                wanted,
                [g for _, g in pairs],
                create_graph=True,
                allow_unused=True,
            )
        )
    rest = iter(found)
    return [
        next(rest) if t is not None and need else None for t, need in zip(own, needed, strict=True)
    ]
