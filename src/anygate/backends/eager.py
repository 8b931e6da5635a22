"""torch operations: any device, any dtype, any order of derivative.

The first derivative runs the cell's derived backward Program; a derivative of that (double
backward) is taken through `Pointwise`, whose own derivative is the derived formula again. In
neither does autograd go through a `where`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor

from ..symbolic.activation import Activation
from ..symbolic.cell import GATES, Cell, cell_lines
from ..symbolic.program import Program, bind
from .base import Request

__all__ = ["FRAMEWORK", "NAME", "OPS", "apply", "gradients", "refuses", "run", "step", "trace"]

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


OPS: Mapping[str, Callable[..., Tensor]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "neg": operator.neg,
    "sqrt": torch.sqrt,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "and": operator.and_,
    "or": operator.or_,
    "not": torch.logical_not,
    "where": torch.where,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "clip": lambda x, low, high: torch.minimum(torch.maximum(x, low), high),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "softplus": lambda x: torch.nn.functional.softplus(x, threshold=40.0),
    "softsign": lambda x: x / (1 + x.abs()),
    "isru": lambda x: x / torch.hypot(x, x.new_ones(())),
    "erf": torch.erf,
    "erfc": torch.erfc,
    "gaussian": _gaussian,
    "normal_cdf": _normal_cdf,
    "normal_pdf": _normal_pdf,
    "absolute": torch.abs,
    "sign": torch.sign,
    "sin": torch.sin,
    "cos": torch.cos,
    "sinh": _sinh,
    "cosh": _cosh,
    "asinh": torch.asinh,
    "atan": torch.atan,
    "hypot": torch.hypot,
}

Bound = Callable[[Mapping[str, Any]], dict[str, Tensor]]


def _scalar(value: Any, like: Tensor) -> Tensor:
    """A number as a tensor without dimensions. Measured on [64, 32]: `1 - y` takes 4.4 us with a
    Python number and 1.6 us with this; and torch.where of two Python numbers is float32 whatever
    surrounds it, so that 0.2 would lose eight digits in float64."""
    dtype = torch.float32 if like.dtype in _HALF else like.dtype
    return torch.full((), float(value), dtype=dtype, device=like.device)


_HALF = (torch.float16, torch.bfloat16)


def _bind(program: Program, like: Tensor) -> Bound:
    """A Program as a function on tensors with the dtype, device and shape of `like`; constants
    and parameters may have no dimensions. Half types are computed in float32 and rounded once,
    so that a result is right to its last digit."""
    run = bind(program, {"const": lambda value: _scalar(value, like), **OPS})

    def whole(inputs: Mapping[str, Any]) -> dict[str, Tensor]:
        return {k: v if v.dim() else v.expand_as(like) for k, v in run(inputs).items()}

    if like.dtype not in _HALF:
        return whole
    return lambda inputs: {
        k: v.to(like.dtype) for k, v in whole({k: v.float() for k, v in inputs.items()}).items()
    }


def _evaluate(program: Program, inputs: Mapping[str, Any], like: Tensor) -> dict[str, Tensor]:
    """`_bind` for a single use; inputs may be numbers."""
    return _bind(program, like)(_tensors(inputs, like))


def _tensors(values: Mapping[str, Any], like: Tensor) -> dict[str, Tensor]:
    return {k: v if isinstance(v, Tensor) else _scalar(v, like) for k, v in values.items()}


# ---- one activation, differentiable as often as one likes ----------------------------------


def apply(activation: Activation, x: Tensor, parameters: Mapping[str, Any] | None = None) -> Tensor:
    """f(x) elementwise, shape and dtype of x. Its gradient, of any order, is the derived
    formula; parameters given as tensors get gradients too."""
    values = {**activation.parameters, **(parameters or {})}
    return _apply(activation, x, tuple(values[name] for name in activation.parameters))


def _apply(activation: Activation, x: Tensor, parameters: tuple[Any, ...]) -> Tensor:
    return cast(Tensor, _Pointwise.apply(activation, x, *parameters))  # type: ignore[no-untyped-call]


class _Pointwise(torch.autograd.Function):
    """Differentiable in both modes and to any order, under torch.func's transforms too."""

    generate_vmap_rule = True

    @staticmethod
    def forward(activation: Activation, x: Tensor, *parameters: Any) -> Tensor:
        inputs = dict(zip(activation.inputs, (x, *parameters), strict=True))
        value = _evaluate(activation.value_program, inputs, x)["value"]
        return value.clone() if value is x else value

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        activation, x, *parameters = inputs
        ctx.activation = activation
        ctx.numbers = tuple(None if isinstance(p, Tensor) else p for p in parameters)
        tensors = (x, *(p for p in parameters if isinstance(p, Tensor)))
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = grads
        return None, *(
            None if by is None else (grad * by).sum_to_size(shape)
            for by, shape in _slopes_at(ctx, ctx.needs_input_grad[1:])
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        given = [t is not None for t in tangents[1:]]
        terms = [
            t * by
            for t, (by, _) in zip(tangents[1:], _slopes_at(ctx, given), strict=True)
            if by is not None
        ]
        return sum(terms[1:], terms[0])


def _slopes_at(ctx: Any, wanted: Any) -> Iterator[tuple[Tensor | None, Any]]:
    """The derivative by x and by each parameter, where it is wanted, and that input's shape."""
    x, *tensors = ctx.saved_tensors
    rest = iter(tensors)
    parameters = tuple(next(rest) if p is None else p for p in ctx.numbers)
    values = dict(zip(ctx.activation.parameters, parameters, strict=True))
    inputs = zip(ctx.activation.inputs, (x, *parameters), strict=True)
    for (name, value), need in zip(inputs, wanted, strict=True):
        if not (isinstance(value, Tensor) and need):
            yield None, None
            continue
        slope = _slope(ctx.activation, name)
        yield _apply(slope, x, tuple(values[p] for p in slope.parameters)), value.shape


@lru_cache(maxsize=512)
def _slope(activation: Activation, by: str) -> Activation:
    return activation.derivative() if by == "x" else activation.derivative_by(by)


# ---- the layer ------------------------------------------------------------------------------


def step(
    cell: Cell, z: Tensor, c: Tensor, parameters: Mapping[str, Any] | None = None
) -> dict[str, Tensor]:
    """One time step from pre-activations z [B, 4H] (i f g o) and c [B, H]: h, c and
    saved_GATE, each [B, H]. Not differentiable by autograd: see `run`."""
    return _stepper(cell, c, {**cell.parameters, **(parameters or {})})(z, c)


def _stepper(
    cell: Cell, like: Tensor, parameters: Mapping[str, Any]
) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """`step` made ready for many steps."""
    run = _bind(cell.forward, like)
    fixed = _tensors(parameters, like)

    def one(z: Tensor, c: Tensor) -> dict[str, Tensor]:
        return run({**fixed, **dict(zip(_Z, z.chunk(4, -1), strict=True)), "c_previous": c})

    return one


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
        step = _stepper(cell, c0, cell.parameters)
        for t in _order(len(x), reverse):
            z_x[t].addmm_(h, weight_hh.t())
            now = step(z_x[t], c)
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
    step = _stepper(cell, c, dict(zip(cell.parameters, parameters, strict=True)))
    outputs: list[Tensor] = [h] * len(x)
    for t in _order(len(x), reverse):
        now = step(torch.addmm(z_x[t], h, recurrent), c)
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
            return None, None, *gradients(ctx.cell, ctx.reverse, arguments, grads, needed)
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
    run, fixed = _bind(cell.backward, h0), _tensors(values, h0)
    dz = x.new_zeros(len(x), x.shape[1], weight_hh.shape[0])
    by_parameter: dict[str, Tensor] = {}
    for position in reversed(range(len(steps))):
        t = steps[position]
        inputs = {name: per_step[name][position] for name in _SAVED}
        inputs["c"] = per_step["c"][position]
        inputs["c_previous"] = per_step["c"][position - 1] if position else c0
        inputs |= {"grad_h": dh + grad_output[t], "grad_c": dc, **fixed}
        back = run(inputs)
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


def gradients(
    cell: Cell,
    reverse: bool,
    arguments: list[Any],
    grads: tuple[Any, ...],
    needed: Any = None,
) -> list[Tensor | None]:
    """Gradients by `arguments` (x, h0, c0, weight_ih, weight_hh, bias or None, parameters) as a
    graph that can be differentiated again, given those by output, h and c. needed: for which."""
    needed = [isinstance(a, Tensor) for a in arguments] if needed is None else needed
    # A view of each: one tensor given twice (h0 as c0) has its own gradient in each place.
    arguments = [a.view_as(a) if n else a for a, n in zip(arguments, needed, strict=True)]
    results = plain(cell, reverse, *arguments)
    wanted = [a for a, need in zip(arguments, needed, strict=True) if need]
    found = iter(torch.autograd.grad(results, wanted, grads, create_graph=True, allow_unused=True))
    return [next(found) if need else None for need in needed]


def plain(
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
    """One direction of one layer in torch operations that torch differentiates itself, in both
    modes, to any order and under torch.func's transforms; as `run`, but slower."""
    fixed = _tensors(dict(zip(cell.parameters, parameters, strict=True)), h)
    lines = [
        (line, None if line.program is None else _bind(line.program, h))
        for line in cell_lines(cell)
    ]
    bound = math.inf if cell.clip is None else cell.clip
    outputs: list[Tensor] = [h] * len(x)
    for t in _order(len(x), reverse):
        z = torch.nn.functional.linear(x[t], weight_ih, bias) + h @ weight_hh.t()
        seen = {**fixed, **dict(zip(_Z, z.chunk(4, -1), strict=True)), "c_previous": c}
        for line, run in lines:
            if run is not None:
                seen[line.name] = run(seen)[line.name]
                continue
            activation = cell.slots[line.name]
            own = tuple(seen[f"{line.name}.{name}"] for name in activation.parameters)
            argument = seen[line.argument]
            argument = argument if cell.clip is None else argument.clamp(-bound, bound)
            seen[line.name] = _apply(activation, argument, own)
        h, c = seen["h"], seen["c"]
        outputs[t] = h
    output = torch.stack(outputs) if outputs else x.new_zeros(0, *h.shape)
    return output, h, c


def _order(steps: int, reverse: bool) -> range:
    return range(steps - 1, -1, -1) if reverse else range(steps)
