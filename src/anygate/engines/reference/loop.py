"""A layer of any cell as a plain loop over time steps and lines, forward and backward.

Nothing is fused and nothing is left out: every value of every step is kept, and backward is reverse
accumulation over the same lines, each with its own derivatives. The Programs that `cells.derive`
makes for the fused engines are not used here, so they can be judged by this.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ...cells import Cell
from ...cells.celltype import before
from ...cells.measures import PARTS, measured, part_of, totals
from ...cells.schedule import Action, schedule
from ...formulas.program import Program, evaluate
from .operations import OPS, Array

__all__ = ["Arrays", "Gradients", "Trace", "backward", "forward"]


@dataclass(frozen=True)
class Arrays:
    """`engines.protocol.Layer` with float64 arrays, never packed."""

    x: Array
    states: tuple[Array, ...]
    weight_ih: Array
    weight_hh: Array
    bias_ih: Array | None = None
    bias_hh: Array | None = None
    vectors: Array | None = None
    masks: Array | None = None
    reverse: bool = False


@dataclass(frozen=True)
class Trace:
    """One run of a layer. seen: of each time step in the order of x, every value by its name,
    [B, H] or what broadcasts to it. order: the time steps as they were taken."""

    cell: Cell
    layer: Arrays
    seen: list[dict[str, Array]]
    order: list[int]

    @property
    def states(self) -> tuple[Array, ...]:
        """Each state after the last step taken, [B, H]."""
        if not self.order:
            return self.layer.states
        last = self.seen[self.order[-1]]
        return tuple(last[state] for state in self.cell.type.states)

    def all(self, state: str) -> Array:
        """A state at every time step, [T, B, H]."""
        shape = (len(self.seen), *self.layer.states[0].shape)
        return np.array([seen[state] for seen in self.seen], dtype=np.float64).reshape(shape)

    def numbers(self) -> Array:
        """[1, T, len(Measured.numbers)] of `cells.measures`."""
        lines = [_numbers(self.cell, seen) for seen in self.seen]
        return np.array(lines).reshape(1, len(lines), len(measured(self.cell).numbers))


@dataclass
class Gradients:
    """dL by each tensor of a layer, of its shape; norms: [1, T, len(Measured.norms)], if asked."""

    x: Array
    states: tuple[Array, ...]
    weight_ih: Array
    weight_hh: Array
    bias_ih: Array
    bias_hh: Array
    vectors: Array
    norms: Array = field(default_factory=lambda: np.zeros((1, 0, 0)))


@dataclass(frozen=True)
class _Rows:
    """A product's H rows of weight_ih and of weight_hh; None where it has none."""

    input: slice | None
    recurrent: slice | None


def _rows(cell: Cell, units: int) -> dict[str, _Rows]:
    found: dict[str, _Rows] = {}
    i = h = 0
    for product in cell.type.products:
        found[product.name] = _Rows(
            slice(i, i + units) if product.input else None,
            slice(h, h + units) if product.recurrent else None,
        )
        i += units * product.input
        h += units * product.recurrent
    return found


def forward(cell: Cell, layer: Arrays) -> Trace:
    """Every value of every step. Works for T = 0 too."""
    shape = layer.states[0].shape
    rows = _rows(cell, shape[1])
    given = {name: np.float64(value) for name, value in cell.parameters.items()}
    vectors = () if layer.vectors is None else layer.vectors
    fixed = {**given, **dict(zip(cell.per_unit, vectors, strict=True))}
    steps = range(len(layer.x))
    order = list(reversed(steps)) if layer.reverse else list(steps)
    trace = Trace(cell, layer, [{} for _ in steps], order)
    states = layer.states
    for t in order:
        names = map(before, cell.type.states)
        seen: dict[str, Array] = {**fixed, **dict(zip(names, states, strict=True))}
        for k, mask in enumerate(cell.type.masks):
            assert layer.masks is not None
            seen[mask] = layer.masks[t, :, k]
        with np.errstate(all="ignore"):
            for action in schedule(cell):
                seen[action.name] = _value_of_line(action, seen, layer, t, rows, shape)
        trace.seen[t].update(seen)
        states = tuple(seen[state] for state in cell.type.states)
    return trace


def _value_of_line(
    action: Action,
    seen: Mapping[str, Array],
    layer: Arrays,
    t: int,
    rows: Mapping[str, _Rows],
    shape: tuple[int, ...],
) -> Array:
    if action.kind == "product":
        return _product(action, seen, layer, t, rows[action.name], shape)
    assert action.program is not None
    value = _evaluate(action.program, seen, shape)
    if action.kind == "mean":
        return np.broadcast_to(value.mean(-1, keepdims=True), shape)
    return value


def _product(
    action: Action,
    seen: Mapping[str, Array],
    layer: Arrays,
    t: int,
    rows: _Rows,
    shape: tuple[int, ...],
) -> Array:
    z = np.zeros(shape)
    if rows.input is not None:
        z = z + layer.x[t] @ layer.weight_ih[rows.input].T
        if layer.bias_ih is not None:
            z = z + layer.bias_ih[rows.input]
    if rows.recurrent is not None:
        assert action.program is not None
        operand = _evaluate(action.program, seen, shape)
        z = z + operand @ layer.weight_hh[rows.recurrent].T
        if layer.bias_hh is not None:
            z = z + layer.bias_hh[rows.recurrent]
    return z


def _evaluate(program: Program, seen: Mapping[str, Array], shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(evaluate(program, OPS, seen)["value"], shape)


def backward(
    trace: Trace,
    grad_output: Array,
    grad_states: tuple[Array, ...],
    grad_kept: tuple[Array, ...] | None = None,
    measuring: bool = False,
    go_on: int = 0,
) -> Gradients:
    """Gradients of a loss whose gradients by the output [T, B, H], by the states after the last
    step [B, H] and by the states of all steps [T, B, H] are given. go_on: the rows, the first ones,
    whose last states are taken further, so that their gradient comes from a later step."""
    cell, layer = trace.cell, trace.layer
    names = cell.type.states
    shape = layer.states[0].shape
    products = sum(p.input for p in cell.type.products) * shape[1]
    recurrent = sum(p.recurrent for p in cell.type.products) * shape[1]
    found = Gradients(
        np.zeros_like(layer.x),
        grad_states,
        np.zeros_like(layer.weight_ih),
        np.zeros_like(layer.weight_hh),
        np.zeros(products),
        np.zeros(recurrent),
        np.zeros((len(cell.per_unit), shape[1])),
    )
    norms = np.zeros((1, len(trace.seen), 2 * len(names)))
    for position, t in reversed(list(enumerate(trace.order))):
        here = dict.fromkeys(names, np.zeros(shape))
        here[cell.type.output] = here[cell.type.output] + grad_output[t]
        for name, kept in zip(names, grad_kept or (), strict=bool(grad_kept)):
            here[name] = here[name] + kept[t]
        later = dict(zip(names, found.states, strict=True))
        arriving = {name: here[name] + later[name] for name in names}
        with np.errstate(all="ignore"):
            grads = _step_back(trace, t, arriving, found)
            if measuring:
                apart = go_on if position == len(trace.order) - 1 else shape[0]
                outside = {n: np.concatenate([here[n][:apart], arriving[n][apart:]]) for n in names}
                direct = _step_back(trace, t, outside)
                pairs = [(grads[name], direct[name]) for name in names]
                norms[0, t] = [np.square(g).sum() for pair in pairs for g in pair]
        found.states = tuple(grads.get(before(name), np.zeros(shape)) for name in names)
    found.norms = norms
    return found


def _step_back(
    trace: Trace, t: int, arriving: Mapping[str, Array], found: Gradients | None = None
) -> dict[str, Array]:
    """dL by every value of a step; adds to the sums over time in `found`, where it is given."""
    cell, layer, seen = trace.cell, trace.layer, trace.seen[t]
    shape = layer.states[0].shape
    rows = _rows(cell, shape[1])
    grads: dict[str, Array] = dict(arriving)
    for action in reversed(schedule(cell)):
        if action.name not in grads:
            continue
        grad = grads[action.name]
        if action.kind == "mean":
            grad = np.broadcast_to(grad.mean(-1, keepdims=True), shape)
        if action.kind == "product":
            grad = _product_back(action, grad, layer, t, rows[action.name], seen, found)
        for by, slope in action.slopes:
            grads[by] = grads.get(by, np.zeros(shape)) + grad * _evaluate(slope, seen, shape)
    if found is not None:
        for k, name in enumerate(cell.per_unit):
            if name in grads:
                found.vectors[k] += grads[name].sum(0)
    return grads


def _product_back(
    action: Action,
    grad: Array,
    layer: Arrays,
    t: int,
    rows: _Rows,
    seen: Mapping[str, Array],
    found: Gradients | None,
) -> Array:
    """dL by the operand of a product; 0 where it has none."""
    if found is not None and rows.input is not None:
        found.x[t] += grad @ layer.weight_ih[rows.input]
        found.weight_ih[rows.input] += grad.T @ layer.x[t]
        found.bias_ih[rows.input] += grad.sum(0)
    if rows.recurrent is None:
        return np.zeros_like(grad)
    if found is not None:
        assert action.program is not None
        operand = _evaluate(action.program, seen, grad.shape)
        found.weight_hh[rows.recurrent] += grad.T @ operand
        found.bias_hh[rows.recurrent] += grad.sum(0)
    return grad @ layer.weight_hh[rows.recurrent]


def _numbers(cell: Cell, seen: Mapping[str, Array]) -> list[float]:
    """Measured numbers of one time step."""
    found = measured(cell)
    shape = seen[cell.type.output].shape
    given = {name: seen[name] for name in cell.inputs}
    numbers: list[float] = []
    with np.errstate(all="ignore"):
        now = evaluate(found.forward, OPS, given)
        for slot in cell.slots:
            parts = (np.broadcast_to(now[part_of(part, slot)], shape) for part in PARTS)
            numbers += totals(found.limits[slot], *parts)
        for name, _ in found.numbers[len(numbers) :]:
            numbers.append(np.fmax.reduce(np.abs(seen[name]), axis=None, initial=0.0))
    return numbers
