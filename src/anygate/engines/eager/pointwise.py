"""An elementwise formula of several tensors that can be differentiated as often as one likes.

Its derivative is the derived formula, which is such a function again. So autograd never goes
through a `where` of a formula, whose branches that are not taken would give 0*inf.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from sympy import Expr, Symbol
from torch import Tensor

from ...formulas.activation import Activation
from ...formulas.derivative import partial
from ...formulas.program import Program, lower
from .operations import as_tensors, bind_program

__all__ = ["Formula", "apply", "pointwise"]

Value = Tensor | float


@dataclass(frozen=True)
class Formula:
    """An expression and the names of the values that it is given, in order; all symbols in it are
    among them."""

    expression: Expr
    inputs: tuple[str, ...]

    @property
    def program(self) -> Program:
        """The output "value" from the inputs."""
        return _program(self)

    def slope(self, by: str) -> Formula:
        """The derivative by an input."""
        return _slope(self, by)

    def __hash__(self) -> int:
        return hash(self.expression)


@lru_cache(maxsize=2048)
def _program(formula: Formula) -> Program:
    return lower({"value": formula.expression}, formula.inputs)


@lru_cache(maxsize=2048)
def _slope(formula: Formula, by: str) -> Formula:
    expression = partial(formula.expression, Symbol(by, real=True))
    used = {s.name for s in expression.free_symbols}
    return Formula(expression, tuple(name for name in formula.inputs if name in used))


def apply(activation: Activation, x: Tensor, parameters: Mapping[str, Any] | None = None) -> Tensor:
    """f(x) elementwise, shape and dtype of x; whole numbers give torch's default dtype. Its
    gradient, of any order, is the derived formula; parameters given as tensors get gradients too.
    Raises TypeError for complex numbers."""
    if x.is_complex():
        raise TypeError(f"{activation.name} takes real numbers, not {x.dtype}")
    if not x.is_floating_point():
        x = x.to(torch.get_default_dtype())
    values = {**activation.parameters, **(parameters or {})}
    formula = Formula(activation.expression, activation.inputs)
    given = {activation.inputs[0]: x, **values}
    return pointwise(formula, tuple(given[name] for name in formula.inputs), x)


def pointwise(formula: Formula, values: tuple[Value, ...], like: Tensor) -> Tensor:
    """The formula of tensors that broadcast, and of numbers: a new tensor of their common shape.
    like: gives dtype and device."""
    return cast(Tensor, _Pointwise.apply(formula, like.new_empty(()), *values))  # type: ignore[no-untyped-call]


class _Pointwise(torch.autograd.Function):
    """Differentiable in both modes and to any order, under torch.func's transforms too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(formula: Formula, like: Tensor, *values: Any) -> Tensor:
        given = as_tensors(dict(zip(formula.inputs, values, strict=True)), like)
        found = bind_program(formula.program, like)(given)["value"]
        shapes: Any = [v.shape for v in values if isinstance(v, Tensor)]
        broadcast: Any = torch.broadcast_shapes
        whole = found.expand(broadcast(*shapes)) if shapes else found
        is_new = whole is found and not any(found is v for v in values)
        return whole if is_new else whole.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.formula, like, *values = inputs
        ctx.numbers = tuple(None if isinstance(v, Tensor) else v for v in values)
        tensors = (like, *(v for v in values if isinstance(v, Tensor)))
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        return (
            None,
            None,
            *(
                None if by is None else (grad * by).sum_to_size(shape)
                for by, shape in _slopes_at(ctx, ctx.needs_input_grad[2:])
            ),
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        given = [t is not None for t in tangents[2:]]
        terms = [
            t * by
            for t, (by, _) in zip(tangents[2:], _slopes_at(ctx, given), strict=True)
            if by is not None
        ]
        return sum(terms[1:], terms[0])


def _slopes_at(ctx: Any, wanted: Any) -> Iterator[tuple[Tensor | None, Any]]:
    """The derivative by each value, where it is wanted, and that value's shape."""
    like, *tensors = ctx.saved_tensors
    rest = iter(tensors)
    values = tuple(next(rest) if n is None else n for n in ctx.numbers)
    by_name = dict(zip(ctx.formula.inputs, values, strict=True))
    for (name, value), need in zip(by_name.items(), wanted, strict=True):
        if not (isinstance(value, Tensor) and need):
            yield None, None
            continue
        slope = ctx.formula.slope(name)
        yield pointwise(slope, tuple(by_name[n] for n in slope.inputs), like), value.shape
