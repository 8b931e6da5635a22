"""torch operations: any device, any dtype, any order of derivative.

The first derivative runs the cell's derived backward Program; a derivative of that (double
backward) is taken through `Pointwise`, whose own derivative is the derived formula again. In
neither does autograd go through a `where`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache, partial
from typing import Any, cast

import torch
from torch import Tensor

from ..symbolic.activation import Activation
from ..symbolic.cell import GATES, Cell
from ..symbolic.program import Program, evaluate
from .base import Request

__all__ = ["FRAMEWORK", "NAME", "OPS", "apply", "refuses", "run", "step", "trace"]

NAME = "eager"
FRAMEWORK = "torch"
Triple = tuple[Tensor, Tensor, Tensor]


def refuses(request: Request) -> str | None:
    """Nothing is refused but numbers without a fraction."""
    if request.dtype.startswith(("float", "bfloat")):
        return None
    return f"it computes with real numbers, not {request.dtype}"


# ---- operations -----------------------------------------------------------------------------
# Accuracy against mpmath (tests/laws): all within 2 ulp in float32 and float64, with one
# exception: torch.sigmoid in float32 is 0 below -88.7, where exp(-x) overflows and the true value
# is below 1.2e-38.

_SPLITTER = {torch.float64: 134217729.0, torch.float32: 4097.0}
_SQRT_HALF = {  # sqrt(1/2) rounded, and what rounding left
    torch.float64: (0.7071067811865476, -4.833646656726457e-17),
    torch.float32: (0.7071067690849304, 1.2101617e-08),
}


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    """x as a sum of two numbers with half the bits each, so that products of them are exact."""
    high = x * _SPLITTER[x.dtype]
    high = high - (high - x)
    return high, x - high


def _gaussian(x: Tensor) -> Tensor:
    near = x.clamp(-40.0, 40.0)
    high, low = _split(near)
    return torch.exp(-high * high) * torch.exp(-low * (near + high))


def _normal_pdf(x: Tensor) -> Tensor:
    near = x.clamp(-60.0, 60.0)
    high, low = _split(near)
    scale = 1 / math.sqrt(2 * math.pi)
    return torch.exp(-high * high / 2) * torch.exp(-low * (near + high) / 2) * scale


def _normal_cdf(x: Tensor) -> Tensor:
    # torch.special.ndtr loses all digits below -9. The rounding of x*sqrt(1/2) is put back to
    # first order, as erfc(y) changes by 2y relative to a change of y.
    near = -x.clamp(-40.0, 40.0)
    root, root_rest = _SQRT_HALF[x.dtype]
    y = near * root
    (a, b), (c, d) = _split(near), _split(torch.full_like(near, root))
    rest = ((a * c - y) + a * d + b * c) + b * d + near * root_rest
    return 0.5 * (torch.erfc(y) - 2 / math.sqrt(math.pi) * torch.exp(-y * y) * rest)


def _sinh(x: Tensor) -> Tensor:
    # torch's own is infinite once exp(|x|) is: 0.7 too early. sinh = cosh = exp(|x|)/2 there.
    half = torch.exp(x.abs() / 2)
    return torch.where(x.abs() > 80, half / 2 * half * torch.sign(x), torch.sinh(x))


def _cosh(x: Tensor) -> Tensor:
    half = torch.exp(x.abs() / 2)
    return torch.where(x.abs() > 80, half / 2 * half, torch.cosh(x))


def _extreme(tensors: Callable[..., Any], keyword: str) -> Callable[[Any, Any], Any]:
    """maximum or minimum, of which either argument may be a number."""

    def apply(a: Any, b: Any) -> Any:
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            return tensors(a, b)
        return b.clamp(**{keyword: a}) if isinstance(b, Tensor) else a.clamp(**{keyword: b})

    return apply


_maximum = _extreme(torch.maximum, "min")
_minimum = _extreme(torch.minimum, "max")


def _hypot(a: Any, b: Any) -> Tensor:
    one = a if isinstance(a, Tensor) else b
    return torch.hypot(*(v if isinstance(v, Tensor) else torch.full_like(one, v) for v in (a, b)))


def _unary(tensors: Callable[[Tensor], Tensor], numbers: Callable[[float], float]) -> Any:
    """A function of a tensor, or of a number: a parameter of the formula."""
    return lambda a: tensors(a) if isinstance(a, Tensor) else numbers(a)


def _where(dtype: torch.dtype, condition: Any, a: Any, b: Any) -> Any:
    if not isinstance(condition, Tensor):
        return a if condition else b
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        # torch.where of two numbers is float32 whatever surrounds it: 0.2 would lose 8 digits.
        a = torch.full((), a, dtype=dtype, device=condition.device)
    return torch.where(condition, a, b)


def _logical(tensors: Callable[..., Any], numbers: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    def apply(a: Any, b: Any) -> Any:
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            return tensors(a, b)
        return numbers(a, b)

    return apply


def _constant(value: Fraction) -> float:
    return float(value)


# "where" is in `_operations`, because it must know the dtype.
OPS: Mapping[str, Callable[..., Any]] = {
    "const": _constant,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "sqrt": _unary(torch.sqrt, math.sqrt),
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "not": lambda a: a.logical_not() if isinstance(a, Tensor) else not a,
    "maximum": _maximum,
    "minimum": _minimum,
    "clip": lambda x, low, high: _minimum(_maximum(x, low), high),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": _unary(torch.log, math.log),
    "log1p": torch.log1p,
    "softplus": lambda x: torch.nn.functional.softplus(x, threshold=40.0),
    "softsign": lambda x: x / (1 + x.abs()),
    "isru": lambda x: x / _hypot(x, 1.0),
    "erf": torch.erf,
    "erfc": torch.erfc,
    "gaussian": _gaussian,
    "normal_cdf": _normal_cdf,
    "normal_pdf": _normal_pdf,
    "absolute": abs,
    "sign": torch.sign,
    "sin": torch.sin,
    "cos": torch.cos,
    "sinh": _sinh,
    "cosh": _cosh,
    "asinh": torch.asinh,
    "atan": torch.atan,
    "hypot": _hypot,
}


@lru_cache
def _operations(dtype: torch.dtype) -> Mapping[str, Callable[..., Any]]:
    return {**OPS, "where": partial(_where, dtype)}


def _evaluate(program: Program, inputs: Mapping[str, Any], like: Tensor) -> dict[str, Tensor]:
    """A Program on tensors. Half types are computed in float32 and rounded once, so that the
    result is right to their last digit; a constant result takes the shape of `like`."""
    half = like.dtype in (torch.float16, torch.bfloat16)
    if half:
        inputs = {k: v.float() if isinstance(v, Tensor) else v for k, v in inputs.items()}
    results = {}
    ops = _operations(torch.float32 if half else like.dtype)
    for name, value in evaluate(program, ops, inputs).items():
        if not isinstance(value, Tensor):
            value = torch.full_like(like, float(value))
        results[name] = value.to(like.dtype) if half else value
    return results


# ---- one activation, differentiable as often as one likes ----------------------------------


def apply(activation: Activation, x: Tensor, parameters: Mapping[str, Any] | None = None) -> Tensor:
    """f(x) elementwise, shape and dtype of x. Its gradient, of any order, is the derived
    formula; parameters given as tensors get gradients too."""
    values = {**activation.parameters, **(parameters or {})}
    return _apply(activation, x, tuple(values[name] for name in activation.parameters))


def _apply(activation: Activation, x: Tensor, parameters: tuple[Any, ...]) -> Tensor:
    return cast(Tensor, _Pointwise.apply(activation, x, *parameters))  # type: ignore[no-untyped-call]


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: Activation, x: Tensor, *parameters: Any) -> Tensor:
        ctx.activation = activation
        ctx.numbers = tuple(None if isinstance(p, Tensor) else p for p in parameters)
        ctx.save_for_backward(x, *(p for p in parameters if isinstance(p, Tensor)))
        inputs = dict(zip(activation.inputs, (x, *parameters), strict=True))
        return _evaluate(activation.value_program, inputs, x).pop("value").expand_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, *tensors = ctx.saved_tensors
        rest = iter(tensors)
        parameters = tuple(next(rest) if p is None else p for p in ctx.numbers)
        values = dict(zip(ctx.activation.parameters, parameters, strict=True))
        (grad,) = grads
        results: list[Tensor | None] = [None]
        for name, value in zip(ctx.activation.inputs, (x, *parameters), strict=True):
            if not (isinstance(value, Tensor) and ctx.needs_input_grad[len(results)]):
                results.append(None)
                continue
            slope = _slope(ctx.activation, name)
            by = _apply(slope, x, tuple(values[p] for p in slope.parameters))
            results.append((grad * by).sum_to_size(value.shape))
        return tuple(results)


@lru_cache(maxsize=512)
def _slope(activation: Activation, by: str) -> Activation:
    return activation.derivative() if by == "x" else activation.derivative_by(by)


# ---- the layer ------------------------------------------------------------------------------


def step(
    cell: Cell, z: Tensor, c: Tensor, parameters: Mapping[str, Any] | None = None
) -> dict[str, Tensor]:
    """One time step from pre-activations z [B, 4H] (i f g o) and c [B, H]: h, c and
    saved_GATE, each [B, H]. Not differentiable by autograd: see `run`."""
    inputs: dict[str, Any] = dict(zip(_Z, z.chunk(4, -1), strict=True))
    inputs |= {"c_previous": c, **cell.parameters, **(parameters or {})}
    return _evaluate(cell.forward, inputs, c)


_Z = tuple(f"z_{gate}" for gate in GATES)
_SAVED = tuple(f"saved_{gate}" for gate in GATES)
_GRAD_Z = tuple(f"grad_z_{gate}" for gate in GATES)


def run(
    cell: Cell,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    parameters: Mapping[str, Any] | None = None,
    reverse: bool = False,
) -> Triple:
    """One direction of one layer; arguments and results as in `Engine.run`."""
    values = {**cell.parameters, **(parameters or {})}
    tensors = tuple(values[name] for name in cell.parameters)
    arguments = (x, h0, c0, weight_ih, weight_hh, bias, *tensors)
    if torch.is_grad_enabled() and any(
        isinstance(a, Tensor) and a.requires_grad for a in arguments
    ):
        return cast(Triple, _Layer.apply(cell, reverse, *arguments))  # type: ignore[no-untyped-call]
    return _forward(cell, reverse, *arguments, saving=None)


def trace(
    cell: Cell,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """What happens inside one direction of one layer: the pre-activations z [T, B, 4H] (i f g o)
    and the cell states c [T, B, H], without gradients. Arguments as in `Engine.run`."""
    with torch.no_grad():
        z_x = torch.nn.functional.linear(x, weight_ih, bias)
        cells = x.new_zeros(len(x), *c0.shape)
        h, c = h0, c0
        for t in _order(len(x), reverse):
            z_x[t].addmm_(h, weight_hh.t())
            now = step(cell, z_x[t], c)
            h, c = now["h"], now["c"]
            cells[t] = c
        return z_x, cells


def _forward(
    cell: Cell,
    reverse: bool,
    x: Tensor,
    h: Tensor,
    c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    *parameters: Any,
    saving: list[dict[str, Tensor]] | None,
) -> Triple:
    """The time loop. The input's share of z is one product for all steps."""
    z_x = torch.nn.functional.linear(x, weight_ih, bias)
    recurrent = weight_hh.t()
    values = dict(zip(cell.parameters, parameters, strict=True))
    outputs: list[Tensor] = [h] * len(x)
    for t in _order(len(x), reverse):
        now = step(cell, torch.addmm(z_x[t], h, recurrent), c, values)
        outputs[t], c = now["h"], now["c"]
        h = outputs[t]
        if saving is not None:
            saving.append(now)
    return torch.stack(outputs) if outputs else x.new_zeros(0, *h.shape), h.clone(), c.clone()


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cell: Cell, reverse: bool, *arguments: Any) -> Any:
        saving: list[dict[str, Tensor]] = []
        results = _forward(cell, reverse, *arguments, saving=saving)
        ctx.cell, ctx.reverse, ctx.steps = cell, reverse, len(saving)
        ctx.numbers = tuple(None if isinstance(a, Tensor) else (a,) for a in arguments)
        per_step = [now[name] for name in (*_SAVED, "c") for now in saving]
        tensors = [a for a in arguments if isinstance(a, Tensor)]
        ctx.save_for_backward(results[0], *tensors, *per_step)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        output, *saved = ctx.saved_tensors
        rest = iter(saved)
        arguments = [next(rest) if n is None else n[0] for n in ctx.numbers]
        if torch.is_grad_enabled():  # create_graph: these gradients will be differentiated
            needed = ctx.needs_input_grad[2:]
            return None, None, *_differentiable(ctx.cell, ctx.reverse, arguments, needed, grads)
        flat = list(rest)
        per_step = {
            name: flat[i * ctx.steps : (i + 1) * ctx.steps] for i, name in enumerate((*_SAVED, "c"))
        }
        results = _backward(ctx.cell, ctx.reverse, arguments, output, per_step, grads)
        return None, None, *results


def _backward(
    cell: Cell,
    reverse: bool,
    arguments: list[Any],
    output: Tensor,
    per_step: dict[str, list[Tensor]],
    grads: Triple,
) -> list[Tensor | None]:
    """Back through time, then the weights' gradients as one product each over all steps."""
    x, h0, c0, weight_ih, weight_hh, bias, *parameters = arguments
    grad_output, dh, dc = grads
    steps = list(_order(len(x), reverse))
    values = dict(zip(cell.parameters, parameters, strict=True))
    dz = x.new_zeros(len(x), x.shape[1], weight_hh.shape[0])
    by_parameter: dict[str, Tensor] = {}
    for position in reversed(range(len(steps))):
        t = steps[position]
        inputs = {name: per_step[name][position] for name in _SAVED}
        inputs["c"] = per_step["c"][position]
        inputs["c_previous"] = per_step["c"][position - 1] if position else c0
        inputs |= {"grad_h": dh + grad_output[t], "grad_c": dc, **values}
        back = _evaluate(cell.backward, inputs, dc)
        torch.cat([back[name] for name in _GRAD_Z], -1, out=dz[t])
        dh, dc = dz[t] @ weight_hh, back["grad_c_previous"]
        for name, value in values.items():
            if isinstance(value, Tensor):
                share = back[f"grad_{name}"].expand_as(dc)
                by_parameter[name] = by_parameter[name] + share if name in by_parameter else share
    if not steps:
        h_before = output
    elif reverse:
        h_before = torch.cat([output[1:], h0[None]])
    else:
        h_before = torch.cat([h0[None], output[:-1]])
    flat = dz.flatten(0, 1)
    return [
        dz @ weight_ih,
        dh,
        dc,
        flat.t() @ x.flatten(0, 1),
        flat.t() @ h_before.flatten(0, 1),
        None if bias is None else flat.sum(0),
        *(
            by_parameter[name].sum_to_size(value.shape) if name in by_parameter else None
            for name, value in values.items()
        ),
    ]


def _differentiable(
    cell: Cell, reverse: bool, arguments: list[Any], needed: Any, grads: tuple[Any, ...]
) -> list[Tensor | None]:
    """The same gradients as a graph that can be differentiated again."""
    # A view of each: one tensor given twice (h0 as c0) has its own gradient in each place.
    arguments = [a.view_as(a) if n else a for a, n in zip(arguments, needed, strict=True)]
    results = _plain(cell, reverse, *arguments)
    wanted = [a for a, need in zip(arguments, needed, strict=True) if need]
    found = iter(torch.autograd.grad(results, wanted, grads, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]


def _plain(
    cell: Cell,
    reverse: bool,
    x: Tensor,
    h: Tensor,
    c: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    *parameters: Any,
) -> Triple:
    """The layer in torch operations and `Pointwise`, which autograd differentiates itself."""
    values = dict(zip(cell.parameters, parameters, strict=True))

    def activate(slot: str, argument: Tensor) -> Tensor:
        activation = cell.slots[slot]
        own = tuple(values[f"{slot}.{name}"] for name in activation.parameters)
        return _apply(activation, argument, own)

    outputs: list[Tensor] = [h] * len(x)
    for t in _order(len(x), reverse):
        z = torch.nn.functional.linear(x[t], weight_ih, bias) + h @ weight_hh.t()
        i, f, g, o = (
            activate(gate, part) for gate, part in zip(GATES, z.chunk(4, -1), strict=True)
        )
        c = f * c + i * g
        h = o * activate("cell_output", c)
        outputs[t] = h
    output = torch.stack(outputs) if outputs else x.new_zeros(0, *h.shape)
    return output, h, c


def _order(steps: int, reverse: bool) -> range:
    return range(steps - 1, -1, -1) if reverse else range(steps)
