"""A layer by its derived Programs: the time loop, and back through it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor

from ...cells import Cell
from ...cells.celltype import before
from ...cells.derive import grad, saved_name
from ...cells.measures import direct, measured
from ..protocol import CREATE_GRAPH, Layer, Measures, Result, needs_gradient
from .measuring import backward_line, forward_line, in_order
from .operations import as_tensors, bind_program
from .plain import gradients, order, parameter_values

__all__ = ["derived"]

_Step = dict[str, Tensor]


def derived(
    cell: Cell, layer: Layer, keep: bool, measures: Measures | None, go_on: int = 0
) -> Result:
    """A layer of equal lengths of a cell whose step needs one product or none. go_on: the rows, the
    first ones, whose last states are taken further by another layer of the same sequence."""
    if not needs_gradient(layer):
        return _forward(cell, layer, keep, measures, [])
    fixed = (cell, layer.masks, layer.reverse, keep, measures, go_on)
    tensors = (*layer[2:7], *layer.states)
    results = cast(Any, _Layer.apply)(*fixed, layer.x, *tensors)
    count = 1 + len(layer.states)
    return Result(results[0], results[1:count], results[count:] if keep else None)


def _fixed(cell: Cell, layer: Layer) -> _Step:
    """The cell's parameters as tensors."""
    return as_tensors(parameter_values(cell, layer), layer.states[0])


def _masks(cell: Cell, layer: Layer, t: int) -> _Step:
    if layer.masks is None:
        return {}
    masks = layer.masks[t].to(layer.states[0].dtype).unbind(1)
    return dict(zip(cell.type.masks, masks, strict=True))


def _producer(cell: Cell, layer: Layer) -> Callable[[int, Tensor], _Step]:
    """The products of a time step from the first state before it. The input's share is one product
    for all steps."""
    products = cell.type.products
    inputs = [p.name for p in products if p.input]
    recurrent = [p.name for p in products if p.recurrent]
    weight = layer.weight_hh.t()
    if inputs == recurrent:
        bias = layer.bias_ih
        if bias is not None and layer.bias_hh is not None:
            bias = bias + layer.bias_hh
        z_x = torch.nn.functional.linear(layer.x, layer.weight_ih, bias)

        def one(t: int, h: Tensor) -> _Step:
            z = torch.addmm(z_x[t], h, weight)
            return dict(zip(inputs, z.chunk(len(inputs), -1), strict=True))

        return one
    z_x = torch.nn.functional.linear(layer.x, layer.weight_ih, layer.bias_ih)

    def apart(t: int, h: Tensor) -> _Step:
        found = dict(zip(inputs, z_x[t].chunk(max(1, len(inputs)), -1), strict=False))
        if recurrent:
            z_h = torch.nn.functional.linear(h, layer.weight_hh, layer.bias_hh)
            for name, part in zip(recurrent, z_h.chunk(len(recurrent), -1), strict=True):
                found[name] = found[name] + part if name in found else part
        return found

    return apart


def _forward(
    cell: Cell, layer: Layer, keep: bool, measures: Measures | None, steps: list[_Step]
) -> Result:
    """The time loop; steps receives what the Program gives at each step taken. The results are
    copies, so that they can be changed in place."""
    names = cell.type.states
    products, fixed = _producer(cell, layer), _fixed(cell, layer)
    program = cell.forward if measures is None else measured(cell).forward
    run = bind_program(program, layer.states[0])
    saved = (*names, *map(saved_name, cell.saved))
    states = layer.states
    taken: dict[int, tuple[Tensor, ...]] = {}
    lines: dict[int, Tensor] = {}
    for t in order(len(layer.x), layer.reverse):
        previous = dict(zip(map(before, names), states, strict=True))
        now = run({**fixed, **_masks(cell, layer, t), **products(t, states[0]), **previous})
        states = taken[t] = tuple(now[name] for name in names)
        steps.append({name: now[name] for name in saved})
        if measures is not None:
            lines[t] = forward_line(cell, now)
    if measures is not None:
        measures.forward(in_order(lines, len(measured(cell).numbers)))
    kept = (_stack(layer, (taken[t][k] for t in range(len(taken)))) for k in range(len(names)))
    output = names.index(cell.type.output)
    return Result(
        _stack(layer, (taken[t][output] for t in range(len(taken)))),
        tuple(state.clone() for state in states),
        tuple(kept) if keep else None,
    )


def _stack(layer: Layer, steps: Iterable[Tensor]) -> Tensor:
    """[T, B, H], for T = 0 too."""
    found = list(steps)
    return torch.stack(found) if found else layer.x.new_zeros(0, *layer.states[0].shape)


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        cell: Cell,
        masks: Tensor | None,
        reverse: bool,
        keep: bool,
        measures: Measures | None,
        go_on: int,
        *tensors: Any,
    ) -> Any:
        layer = _layer(tensors, masks, reverse)
        steps: list[_Step] = []
        result = _forward(cell, layer, keep, measures, steps)
        ctx.cell, ctx.reverse, ctx.keep, ctx.measures = cell, reverse, keep, measures
        ctx.go_on = go_on
        ctx.steps = len(steps)
        ctx.names = tuple(steps[0]) if steps else ()
        per_step = [step[name] for step in steps for name in ctx.names]
        ctx.save_for_backward(masks, *tensors, *per_step)
        ctx.tensors = len(tensors)
        return (result.output, *result.states, *(result.kept or ()))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        masks, *rest = ctx.saved_tensors
        layer = _layer(rest[: ctx.tensors], masks, ctx.reverse)
        needed = ctx.needs_input_grad[6:]
        if torch.is_grad_enabled():  # create_graph: these gradients will be differentiated
            if ctx.measures is not None:
                raise RuntimeError(CREATE_GRAPH)
            results = gradients(ctx.cell, layer, ctx.keep, grads, needed)
        else:
            flat, width = rest[ctx.tensors :], len(ctx.names)
            steps = [
                dict(zip(ctx.names, flat[k * width : (k + 1) * width], strict=True))
                for k in range(ctx.steps)
            ]
            results = _backward(ctx.cell, layer, steps, grads, needed, ctx.measures, ctx.go_on)
        return None, None, None, None, None, None, *results


def _layer(tensors: Any, masks: Tensor | None, reverse: bool) -> Layer:
    """A Layer from x, weight_ih, weight_hh, bias_ih, bias_hh, vectors and the states."""
    x, weight_ih, weight_hh, bias_ih, bias_hh, vectors, *states = tensors
    weights = (weight_ih, weight_hh, bias_ih, bias_hh, vectors)
    return Layer(x, tuple(states), *weights, masks, None, reverse)


def _backward(
    cell: Cell,
    layer: Layer,
    steps: list[_Step],
    grads: tuple[Tensor, ...],
    needed: tuple[bool, ...],
    measures: Measures | None,
    go_on: int,
) -> list[Tensor | None]:
    """Back through time, then the weights' gradients as one product each over all steps. No two
    results share memory."""
    names, products = cell.type.states, cell.type.products
    inputs = [grad(p.name) for p in products if p.input]
    recurrent = [grad(p.name) for p in products if p.recurrent]
    count = len(names)
    grad_output, grad_kept = grads[0], grads[1 + count :]
    arriving = list(grads[1 : 1 + count])
    program = cell.backward if measures is None else measured(cell).backward
    run, fixed = bind_program(program, layer.states[0]), _fixed(cell, layer)
    times = list(order(len(layer.x), layer.reverse))
    dz_x: dict[int, Tensor] = {}
    dz_h: dict[int, Tensor] = {}
    lines: dict[int, Tensor] = {}
    by_vector: dict[str, Tensor] = {}
    h_before: dict[int, Tensor] = {}
    for position in reversed(range(len(times))):
        t, last = times[position], position == len(times) - 1
        states = layer.states if position == 0 else [steps[position - 1][n] for n in names]
        given = {**steps[position], **fixed, **_masks(cell, layer, t)}
        given.update(zip(map(before, names), states, strict=True))
        for k, name in enumerate(names):
            here = grad_kept[k][t] if grad_kept else None
            if name == cell.type.output:
                here = grad_output[t] if here is None else here + grad_output[t]
            whole = arriving[k] if here is None else arriving[k] + here
            given[grad(name)] = whole
            if measures is not None:
                nothing = torch.zeros_like(whole) if here is None else here
                ends = torch.cat([nothing[:go_on], whole[go_on:]]) if last else nothing
                given[direct(name)] = ends
        back = run(given)
        if measures is not None:
            lines[t] = backward_line(cell, back)
        arriving = [back[grad(before(name))] for name in names]
        if inputs:
            dz_x[t] = torch.cat([back[name] for name in inputs], -1)
        if recurrent:
            same = inputs == recurrent
            dz_h[t] = dz_x[t] if same else torch.cat([back[name] for name in recurrent], -1)
            arriving[0] = arriving[0] + dz_h[t] @ layer.weight_hh
        h_before[t] = states[0]
        for name in cell.per_unit:
            share = back[grad(name)].expand_as(arriving[0])
            by_vector[name] = by_vector[name] + share if name in by_vector else share
    if measures is not None:
        measures.backward(in_order(lines, len(measured(cell).norms)))
    weights = _weights(layer, _rows(layer, dz_x, 2), _rows(layer, dz_h, 3), h_before, needed)
    vectors = None
    if layer.vectors is not None:
        nothing = layer.states[0].new_zeros(layer.states[0].shape)
        vectors = torch.stack([by_vector.get(name, nothing).sum(0) for name in cell.per_unit])
    return [*weights, vectors, *(state.clone() for state in arriving)]


def _rows(layer: Layer, dz: Mapping[int, Tensor], weight: int) -> Tensor:
    """dz of all time steps, [T, B, P*H]; weight: where in a Layer its weights are."""
    if dz:
        return torch.stack([dz[t] for t in sorted(dz)])
    rows = layer[weight].shape[0]  # type: ignore[union-attr]
    return layer.x.new_zeros(*layer.x.shape[:2], rows)


def _weights(
    layer: Layer,
    dz_x: Tensor,
    dz_h: Tensor,
    h_before: Mapping[int, Tensor],
    needed: tuple[bool, ...],
) -> list[Tensor | None]:
    """Gradients by x, weight_ih, weight_hh, bias_ih, bias_hh."""
    # reshape, since vmap has no rule for flatten
    flat_x, flat_h = (d.reshape(d.shape[0] * d.shape[1], d.shape[2]) for d in (dz_x, dz_h))
    found: list[Callable[[], Tensor]] = [
        lambda: dz_x @ layer.weight_ih,
        lambda: flat_x.t() @ layer.x.flatten(0, 1),
        lambda: flat_h.t() @ _stack(layer, (h_before[t] for t in sorted(h_before))).flatten(0, 1),
        lambda: flat_x.sum(0),
        lambda: flat_h.sum(0),
    ]
    return [
        make() if need else None for make, need in zip(found, needed[: len(found)], strict=True)
    ]
