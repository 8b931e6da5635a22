"""One direction of one layer in torch operations: its time loop, and back through it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from ...symbolic.cell import GATES, Cell, cell_lines
from ...symbolic.measures import measured
from ...symbolic.program import Program
from ..base import CREATE_GRAPH, Measures
from .measuring import backward_line, forward_line, in_order
from .operations import as_tensors, bind_program, pointwise

__all__ = ["gradients", "plain", "run", "step", "trace"]

Triple = tuple[Tensor, Tensor, Tensor]


def step(
    cell: Cell, z: Tensor, c: Tensor, parameters: Mapping[str, Any] | None = None
) -> dict[str, Tensor]:
    """One time step from pre-activations z [B, 4H] (i f g o) and c [B, H]: h, c and
    saved_GATE, each [B, H]. Not differentiable by autograd: see `run`."""
    return _stepper(cell.forward, c, {**cell.parameters, **(parameters or {})})(z, c)


def _stepper(
    program: Program, like: Tensor, parameters: Mapping[str, Any]
) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """`step` made ready for many steps."""
    run = bind_program(program, like)
    fixed = as_tensors(parameters, like)

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
    measures: Measures | None = None,
) -> Triple:
    """One direction of one layer; arguments and results as in `Engine.run`."""
    values = {**cell.parameters, **(parameters or {})}
    tensors = tuple(values[name] for name in cell.parameters)
    arguments = (x, h0, c0, weight_ih, weight_hh, bias, *tensors)
    if torch.is_grad_enabled() and any(
        isinstance(a, Tensor) and a.requires_grad for a in arguments
    ):
        return cast(Triple, _Layer.apply(cell, reverse, measures, *arguments))  # type: ignore[no-untyped-call]
    return _forward(cell, reverse, *arguments, saving=None, measures=measures)


def trace(
    cell: Cell,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    parameters: Mapping[str, Any] | None = None,
    reverse: bool = False,
) -> Iterator[dict[str, Tensor]]:
    """For each time step, in the order in which they are taken, what `Measures` are the sums of:
    the outputs of `measured(cell).forward`, [B, H] each, without gradients. Arguments as in
    `Engine.run`."""
    with torch.no_grad():
        z_x, recurrent = torch.nn.functional.linear(x, weight_ih, bias), weight_hh.t()
        values = {**cell.parameters, **(parameters or {})}
        step = _stepper(measured(cell).forward, c0, values)
        h, c = h0, c0
        for t in _order(len(x), reverse):
            now = step(torch.addmm(z_x[t], h, recurrent), c)
            h, c = now["h"], now["c"]
            yield now


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
    measures: Measures | None,
) -> Triple:
    """The time loop. The input's share of z is one product for all steps."""
    z_x = torch.nn.functional.linear(x, weight_ih, bias)
    recurrent = weight_hh.t()
    program = cell.forward if measures is None else measured(cell).forward
    step = _stepper(program, c, dict(zip(cell.parameters, parameters, strict=True)))
    outputs: list[Tensor] = [h] * len(x)
    lines: dict[int, Tensor] = {}
    for t in _order(len(x), reverse):
        now = step(torch.addmm(z_x[t], h, recurrent), c)
        outputs[t], c = now["h"], now["c"]
        h = outputs[t]
        if saving is not None:
            saving.append(now)
        if measures is not None:
            lines[t] = forward_line(cell, now)
    if measures is not None:
        measures.forward(in_order(lines))
    return torch.stack(outputs) if outputs else x.new_zeros(0, *h.shape), h.clone(), c.clone()


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cell: Cell, reverse: bool, measures: Measures | None, *arguments: Any
    ) -> Any:
        saving: list[dict[str, Tensor]] = []
        results = _forward(cell, reverse, *arguments, saving=saving, measures=measures)
        ctx.cell, ctx.reverse, ctx.steps = cell, reverse, len(saving)
        ctx.measures = measures
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
            if ctx.measures is not None:
                raise RuntimeError(CREATE_GRAPH)
            needed = ctx.needs_input_grad[3:]
            return None, None, None, *gradients(ctx.cell, ctx.reverse, arguments, grads, needed)
        flat = list(rest)
        per_step = {
            name: flat[i * ctx.steps : (i + 1) * ctx.steps] for i, name in enumerate((*_SAVED, "c"))
        }
        results = _backward(ctx.cell, ctx.reverse, arguments, output, per_step, grads, ctx.measures)
        return None, None, None, *results


def _backward(
    cell: Cell,
    reverse: bool,
    arguments: list[Any],
    output: Tensor,
    per_step: dict[str, list[Tensor]],
    grads: Triple,
    measures: Measures | None,
) -> list[Tensor | None]:
    """Back through time, then the weights' gradients as one product each over all steps."""
    x, h0, c0, weight_ih, weight_hh, bias, *parameters = arguments
    grad_output, dh, dc = grads
    steps = list(_order(len(x), reverse))
    values = dict(zip(cell.parameters, parameters, strict=True))
    program = cell.backward if measures is None else measured(cell).backward
    run, fixed = bind_program(program, h0), as_tensors(values, h0)
    lines: dict[int, Tensor] = {}
    dz = x.new_zeros(len(x), x.shape[1], weight_hh.shape[0])
    by_parameter: dict[str, Tensor] = {}
    for position in reversed(range(len(steps))):
        t = steps[position]
        inputs = {name: per_step[name][position] for name in _SAVED}
        inputs["c"] = per_step["c"][position]
        inputs["c_previous"] = per_step["c"][position - 1] if position else c0
        inputs |= {"grad_h": dh + grad_output[t], "grad_c": dc, **fixed}
        if measures is not None:
            last = position == len(steps) - 1
            inputs["direct_h"] = inputs["grad_h"] if last else grad_output[t]
            inputs["direct_c"] = dc if last else torch.zeros_like(dc)
        back = run(inputs)
        if measures is not None:
            lines[t] = backward_line(inputs, back)
        torch.cat([back[name] for name in _GRAD_Z], -1, out=dz[t])
        dh, dc = dz[t] @ weight_hh, back["grad_c_previous"]
        for name, value in values.items():
            if isinstance(value, Tensor):
                share = back[f"grad_{name}"].expand_as(dc)
                by_parameter[name] = by_parameter[name] + share if name in by_parameter else share
    if measures is not None:
        measures.backward(in_order(lines))
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
    fixed = as_tensors(dict(zip(cell.parameters, parameters, strict=True)), h)
    lines = [
        (line, None if line.program is None else bind_program(line.program, h))
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
            seen[line.name] = pointwise(activation, argument, own)
        h, c = seen["h"], seen["c"]
        outputs[t] = h
    output = torch.stack(outputs) if outputs else x.new_zeros(0, *h.shape)
    return output, h, c


def _order(steps: int, reverse: bool) -> range:
    return range(steps - 1, -1, -1) if reverse else range(steps)
