"""From a model with `Recurrent` nodes to one in ONNX's operators. Needs onnx and NumPy alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ...cells import cell_of
from .call import DOMAIN, KIND, Call
from .graph import Graph, Names
from .operators import operator_of, write_operator
from .scan import write_inline, write_scan

__all__ = ["METADATA", "LayerReport", "Report", "lower", "write_call"]

METADATA = "anygate"
"""The key of a node's metadata under which a layer is described, as JSON: version; cell, as
`cells.cell_key` writes it; hidden, H; element, ONNX's number of its dtype; reverse; and
of a Scan its tensors by role (`scan.py`)."""
_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_OLDEST = 18  # Split with num_outputs, ReduceMean with axes as an input
_IR = 10  # the first in which nodes have metadata


@dataclass(frozen=True)
class LayerReport:
    """The outcome for one direction of one layer.

    name: of the node. became: "LSTM", "GRU", "RNN", "Scan", or "one step". cell: its activations.
    why: the reason why it is no operator; "" if it is one.
    """

    name: str
    became: str
    cell: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.became} ({self.cell})" + (f"; {self.why}" if self.why else "")


@dataclass(frozen=True)
class Report:
    """The outcomes for the layers of a model in a file, in the order in which they run."""

    path: str
    layers: tuple[LayerReport, ...]

    def __str__(self) -> str:
        return "\n".join([self.path, *(f"  {layer}" for layer in self.layers)])


def write_call(g: Graph, call: Call) -> tuple[LayerReport, dict[str, str]]:
    """The nodes of a call; and the results that are wanted, name in the call -> name in g. The
    numbers of g are float32 or float64; half types are computed in float32 and rounded once, as
    the engines do."""
    cell = cell_of(call.key)
    about = ", ".join(f"{slot}={activation.label}" for slot, activation in cell.slots.items())
    inside = _wide(g, call)
    node: NodeProto | None = None
    tensors: dict[str, str] = {}
    kept: list[str] = []
    chosen = operator_of(cell, call, g.dtype == np.float64)
    if call.single:
        states = write_inline(g, inside, cell)
        output = g.node("Unsqueeze", states[cell.type.states.index(cell.type.output)], _zero(g))
        kept = [g.node("Unsqueeze", state, _zero(g)) for state in states] if call.kept else []
        report = LayerReport(call.name, "one step", about)
    elif isinstance(chosen, str):
        node, tensors, output, states, kept = write_scan(g, inside, cell)
        report = LayerReport(call.name, "Scan", about, chosen)
    else:
        node, output, states = write_operator(g, inside, cell, *chosen)
        kept = [output] if call.kept else []
        report = LayerReport(call.name, node.op_type, about)
    if node is not None:
        node.name = call.name
        _describe(node, call, tensors)
    pairs = zip((call.output, *call.ends, *call.kept), (output, *states, *kept), strict=True)
    return report, {wanted: _narrow(g, call, made) for wanted, made in pairs if wanted}


def _zero(g: Graph) -> str:
    return g.integers(0)


def _wide(g: Graph, call: Call) -> Call:
    """The call with its numbers in g's dtype."""
    if call.element not in _HALF:
        return call
    fixed = ("lengths", "valid", "cuts")
    tensors = {
        name: value if name in fixed or not value else g.node("Cast", value, to=g.element)
        for name, value in call.tensors.items()
    }
    states = tuple(g.node("Cast", state, to=g.element) for state in call.states)
    return _replace(call, tensors=tensors, states=states)


def _narrow(g: Graph, call: Call, value: str) -> str:
    return g.node("Cast", value, to=call.element) if call.element in _HALF else value


def _replace(call: Call, **changes: Any) -> Call:
    return Call(**{**call.__dict__, **changes})


def _describe(node: NodeProto, call: Call, tensors: Mapping[str, str]) -> None:
    content: dict[str, Any] = {
        "version": 1,
        "cell": call.key,
        "hidden": call.hidden,
        "element": call.element,
        "reverse": call.reverse,
    }
    if tensors:
        content["tensors"] = dict(tensors)
    entry = node.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(content, separators=(",", ":"))


def lower(model: ModelProto) -> tuple[LayerReport, ...]:
    """Replace each `Recurrent` node of a model, in place. Raises ValueError for an opset that has
    not what is needed."""
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < _OLDEST:
        raise ValueError(f"the opset is {opset}; anygate writes for {_OLDEST} and later")
    names = Names(set(_all_names(model.graph)))
    constants: dict[str, TensorProto] = {}
    reports = _lower_graph(model.graph, names, constants)
    _prune(model.graph)
    kept = [o for o in model.opset_import if o.domain != DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    model.ir_version = max(model.ir_version, _IR)
    return tuple(reports)


def _lower_graph(
    graph: GraphProto, names: Names, constants: Mapping[str, TensorProto]
) -> list[LayerReport]:
    known = {**constants, **{t.name: t for t in graph.initializer}}
    for node in graph.node:
        if (
            node.op_type == "Constant"
            and len(node.attribute) == 1
            and node.attribute[0].HasField("t")
        ):
            known[node.output[0]] = node.attribute[0].t
    reports: list[LayerReport] = []
    nodes: list[NodeProto] = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                reports += _lower_graph(attribute.g, names, known)
        if (node.domain, node.op_type) != (DOMAIN, KIND):
            nodes.append(node)
            continue
        call = Call.of(node)
        dtype: type[Any] = np.float64 if call.element == TensorProto.DOUBLE else np.float32

        def value(name: str) -> Any:
            found = known.get(name)
            return None if found is None else numpy_helper.to_array(found)

        g = Graph(names, call.name, dtype, value)
        report, results = write_call(g, call)
        reports.append(report)
        _name_results(g, results)
        nodes += g.nodes
        graph.initializer.extend(g.initializers)
    del graph.node[:]
    graph.node.extend(nodes)
    return reports


def _name_results(g: Graph, results: Mapping[str, str]) -> None:
    """Give what was made the names under which the rest of the model uses it."""
    made = {name for node in g.nodes for name in node.output}
    changes: dict[str, str] = {}
    for wanted, name in results.items():
        if name in made and name not in changes:
            changes[name] = wanted
    g.rename(changes)
    for wanted, name in results.items():
        if changes.get(name) != wanted:
            g.nodes.append(helper.make_node("Identity", [changes.get(name, name)], [wanted]))


def _all_names(graph: GraphProto) -> Iterable[str]:
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from (node.name, *node.input, *node.output)
        for attribute in node.attribute:
            yield from _all_names(attribute.g)


def _prune(graph: GraphProto) -> None:
    """Leave out nodes and constants that nothing uses."""
    while True:
        used = {value.name for value in graph.output}
        used.update(_used(graph.node))
        nodes = [node for node in graph.node if used.intersection(node.output)]
        if len(nodes) == len(graph.node):
            break
        del graph.node[:]
        graph.node.extend(nodes)
    inputs = {value.name for value in graph.input}
    tensors = [t for t in graph.initializer if t.name in used or t.name in inputs]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    made = used | inputs
    values = [v for v in graph.value_info if v.name in made]
    del graph.value_info[:]
    graph.value_info.extend(values)


def _used(nodes: Iterable[NodeProto]) -> Iterable[str]:
    for node in nodes:
        yield from node.input
        for attribute in node.attribute:
            yield from (value.name for value in attribute.g.output)
            yield from _used(attribute.g.node)
