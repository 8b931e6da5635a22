"""A layer as ONNX's Scan: the equations of a step, one node an operation, in its body."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from onnx import NodeProto, TensorProto, helper

from ...cells import Cell, CellType
from ...cells.celltype import before
from ...cells.schedule import Action, schedule
from ...formulas.program import Program, bind
from .call import Call
from .graph import Graph
from .operations import operations

__all__ = ["groups", "write_inline", "write_scan"]


def groups(kind: CellType) -> list[tuple[str, ...]]:
    """The products that see a state, those of one operand together: one matrix product each."""
    operands = {p.name: e for p, e in zip(kind.products, kind.operands, strict=True) if p.recurrent}
    found = (tuple(n for n in operands if operands[n] == e) for e in operands.values())
    return list(dict.fromkeys(found))


class _Weights:
    """The tensors of a layer as a step uses them, made once outside of the loop.

    tensors: role -> name, what a reader needs to have the layer again: weight_ih_t [I, P_x*H] and
    bias_x [P_x*H]; for each group k of products with one operand (`groups`) "weight_hh_t k" and
    "bias_h k"; "vector NAME". Those that are missing are left out.
    """

    def __init__(self, g: Graph, call: Call, cell: Cell) -> None:
        self.hidden = call.hidden
        types = cell.type.products
        self.inputs = [p.name for p in types if p.input]
        self.recurrent = [p.name for p in types if p.recurrent]
        # A bias on the recurrent side belongs to the products of x, if all products see x.
        together = self.inputs == self.recurrent
        bias_x, bias_h = call["bias_ih"], call["bias_hh"]
        if together:
            bias_x, bias_h = g.add(bias_x, bias_h, "bias"), ""
        self.weight_x = g.transpose(call["weight_ih"], "weight_ih_t") if self.inputs else ""
        self.bias_x = bias_x if self.inputs else ""
        self.vectors = {
            name: g.row(call["vectors"], k, name) for k, name in enumerate(cell.per_unit)
        }
        self.of_group: dict[tuple[str, ...], tuple[str, str]] = {}
        for group in groups(cell.type):
            rows = [self.recurrent.index(name) for name in group]
            weight, bias = call["weight_hh"], bias_h
            if len(rows) < len(self.recurrent):
                weight = g.blocks(weight, rows, self.hidden)
                bias = bias and g.blocks(bias, rows, self.hidden)
            self.of_group[group] = g.transpose(weight, "weight_hh_t"), bias
        tensors = {"weight_ih_t": self.weight_x, "bias_x": self.bias_x}
        for k, (weight, bias) in enumerate(self.of_group.values()):
            tensors |= {f"weight_hh_t {k}": weight, f"bias_h {k}": bias}
        tensors |= {f"vector {name}": value for name, value in self.vectors.items()}
        self.tensors = {role: name for role, name in tensors.items() if name}

    def product_of_x(self, g: Graph, x: str) -> str:
        """W x + b for all steps at once, [T, B, P_x*H]; "" if no product sees x."""
        if not self.inputs:
            return ""
        return g.add(g.node("MatMul", x, self.weight_x), self.bias_x)


class _Step:
    """The nodes of one time step, in a body or in the graph itself."""

    def __init__(
        self, g: Graph, cell: Cell, weights: _Weights, z_x: str, states: Mapping[str, str]
    ) -> None:
        self.g, self.cell, self.weights = g, cell, weights
        self.like = next(iter(states.values()))
        self.values: dict[str, str] = dict(states)
        self.whole = set(states)
        for name, number in cell.parameters.items():
            self.values[name] = weights.vectors.get(name) or g.number(number)
        self.z_x, self.z_h = z_x, dict[str, str]()
        self.fused = len(weights.of_group) == 1 and weights.inputs == weights.recurrent
        if z_x and not self.fused:
            self._spread(weights.inputs, z_x, self.values)
        for action in schedule(cell):
            self.values[action.name] = self._act(action)

    def _act(self, action: Action) -> str:
        if action.kind == "product":
            self.whole.add(action.name)
            if action.program is None:
                return self.values[action.name]
            return self._product(action.name, self._full(action))
        if action.kind == "mean":
            return self.g.node("ReduceMean", self._full(action), self.g.integers(-1))
        value = self._value(action)
        if _reached(_program(action)) & self.whole:
            self.whole.add(action.name)
        return value

    def _value(self, action: Action) -> str:
        run = bind(_program(action), operations(self.g))
        found: str = run({name: self.values[name] for name in action.inputs})["value"]
        return found

    def _full(self, action: Action) -> str:
        """[B, H], whatever the program uses."""
        value = self._value(action)
        if _reached(_program(action)) & self.whole:
            return value
        return self.g.node("Expand", value, self.g.node("Shape", self.like))

    def state(self, name: str) -> str:
        """The value of a state after the step, [B, H]."""
        value = self.values[name]
        if name in self.whole:
            return value
        return self.g.node("Expand", value, self.g.node("Shape", self.like))

    def _product(self, name: str, operand: str) -> str:
        if name not in self.z_h:
            ((group, (weight, bias)),) = (
                item for item in self.weights.of_group.items() if name in item[0]
            )
            z = self.g.add(self.g.node("MatMul", operand, weight), bias)
            if self.fused:
                z = self.g.node("Add", self.z_x, z)
            self._spread(list(group), z, self.z_h)
        z, own = self.z_h[name], self.values.get(name, "")
        return z if self.fused or not own else self.g.node("Add", own, z)

    def _spread(self, names: list[str], z: str, found: dict[str, str]) -> None:
        if len(names) == 1:
            found[names[0]] = z
            return
        count = len(names)
        parts = self.g.many("Split", (z,), count, axis=-1, num_outputs=count)
        found.update(zip(names, parts, strict=True))


def _program(action: Action) -> Program:
    assert action.program is not None
    return action.program


@lru_cache(maxsize=1024)
def _reached(program: Program) -> frozenset[str]:
    """The inputs that the output of a program depends on."""
    todo, seen, names = [program.outputs[0][1]], set[int](), set[str]()
    while todo:
        k = todo.pop()
        if k not in seen:
            seen.add(k)
            node = program.nodes[k]
            names.update([node.name] if node.op == "input" else [])
            todo += node.arguments
    return frozenset(names)


def write_inline(g: Graph, call: Call, cell: Cell) -> list[str]:
    """One step without a loop, x [1, B, I]: the states after it."""
    weights = _Weights(g, call, cell)
    x = g.node("Squeeze", call["x"], g.integers(0))
    z_x = weights.product_of_x(g, x)
    named = dict(zip(map(before, cell.type.states), call.states, strict=True))
    step = _Step(g, cell, weights, z_x, named)
    return [step.state(name) for name in cell.type.states]


def write_scan(
    g: Graph, call: Call, cell: Cell
) -> tuple[NodeProto, dict[str, str], str, list[str], list[str]]:
    """The node, its tensors by role (`_Weights.tensors`), the output
    [T, B, H], the states after the last step and, if they are asked for, at every step."""
    weights = _Weights(g, call, cell)
    z_x = weights.product_of_x(g, call["x"])
    kind, element = cell.type, g.element
    scanned = {"z": (z_x or call["x"], element, 2)}
    valid = call["valid"] or (call["lengths"] and _from_lengths(g, call["x"], call["lengths"]))
    if valid:
        scanned["valid"] = g.node("Unsqueeze", valid, g.integers(2)), TensorProto.BOOL, 2
    if call["cuts"]:
        cuts = _later(g, call["cuts"]) if call.reverse else call["cuts"]
        scanned["cut"] = g.node("Unsqueeze", cuts, g.integers(2)), TensorProto.BOOL, 2
    body = g.body("step")
    given = {name: g.names.new(f"{body.stem}/{before(name)}") for name in kind.states}
    inner = {name: g.names.new(f"{body.stem}/{name}") for name in scanned}
    start = dict(given)
    if "cut" in inner:
        zero = body.number(0)
        start = {k: body.node("Where", inner["cut"], zero, v) for k, v in given.items()}
    states = {before(name): value for name, value in start.items()}
    step = _Step(body, cell, weights, inner["z"] if z_x else "", states)
    after = {name: step.state(name) for name in kind.states}
    output = after[kind.output]
    if "valid" in inner:
        output = body.node("Where", inner["valid"], output, body.number(0))
        after = {k: body.node("Where", inner["valid"], v, start[k]) for k, v in after.items()}
    shown = {"output": output}
    if call.kept:
        shown.update(after)
        if "valid" in inner:
            zero = body.number(0)
            shown.update({k: body.node("Where", inner["valid"], v, zero) for k, v in after.items()})
    ends = [body.node("Identity", value) for value in (*after.values(), *shown.values())]
    used = {name for node in body.nodes for name in node.input}
    graph = helper.make_graph(
        body.nodes,
        f"{g.stem}/{kind.name}",
        [
            *(helper.make_tensor_value_info(v, element, [None, None]) for v in given.values()),
            *(
                helper.make_tensor_value_info(inner[name], of, [None] * rank)
                for name, (_, of, rank) in scanned.items()
            ),
        ],
        [helper.make_tensor_value_info(v, element, [None, None]) for v in ends],
        [tensor for tensor in body.initializers if tensor.name in used],
    )
    way = {}
    if call.reverse:
        way = {
            "scan_input_directions": [1] * len(scanned),
            "scan_output_directions": [1] * len(shown),
        }
    results = g.many(
        "Scan",
        (*call.states, *(value for value, _, _ in scanned.values())),
        len(ends),
        body=graph,
        num_scan_inputs=len(scanned),
        **way,
    )
    node = g.nodes[-1]
    count = len(kind.states)
    kept = dict(zip(shown, results[count:], strict=True))
    return (
        node,
        weights.tensors,
        kept["output"],
        results[:count],
        [kept[name] for name in kind.states] if call.kept else [],
    )


def _from_lengths(g: Graph, x: str, lengths: str) -> str:
    """[T, B], True where the step lies before the row's length."""
    steps = g.node("Squeeze", g.node("Shape", x, start=0, end=1), g.integers(0))
    t = g.node("Range", g.constant(np.int64(0)), steps, g.constant(np.int64(1)))
    whole = g.node("Cast", lengths, to=TensorProto.INT64)
    return g.node(
        "Less",
        g.node("Unsqueeze", t, g.integers(1)),
        g.node("Unsqueeze", whole, g.integers(0)),
    )


def _later(g: Graph, cuts: str) -> str:
    """Cuts as a walk from the last step meets them: that before step t + 1 when it comes to t."""
    rest = g.node("Slice", cuts, g.integers(1), g.integers(2**62), g.integers(0))
    last = g.node("Slice", cuts, g.integers(-1), g.integers(2**62), g.integers(0))
    none = g.node("And", last, g.constant(np.bool_(False)))
    return g.node("Concat", rest, none, axis=0)
