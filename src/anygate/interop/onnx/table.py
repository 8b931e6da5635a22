"""The same nodes for users of torch.onnx.export."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnx import TensorProto, helper
from onnxscript import evaluator

from ...engines.protocol import load
from .call import ORDER, Call
from .graph import Graph, Names
from .lowering import write_call

__all__ = ["custom_translation_table"]

_TENSORS = ("x", "states", *ORDER[:5], "masks", "batch_sizes")
"""The operator's tensors, in its order."""
_numbers = count(1)


def custom_translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The argument custom_translation_table of torch.onnx.export, for models whose layers run on
    the engine "cpu" in float32 or float64:

        torch.onnx.export(
            model, args, "model.onnx", dynamic_shapes=...,
            custom_translation_table=anygate.interop.onnx.custom_translation_table(),
        )

    `export` takes every cell, dtype and device, and lengths=, mask= and reset=, too.
    """
    load("cpu").refuses  # noqa: B018  the operator is defined when its engine is imported
    return {torch.ops.anygate.recurrent.default: _translate}


def _translate(*arguments: Any, **keywords: Any) -> tuple[Any, Any, Any, Any]:
    """`anygate::recurrent` in values of onnx_ir: output, states, and two results that only training
    uses or that are asked for with keep."""
    names = (*_TENSORS, "cell", "reverse", "training", "keep")
    given = {**dict(zip(names, arguments, strict=False)), **keywords}
    if given.get("batch_sizes") is not None or given.get("masks") is not None:
        raise ValueError(
            "a PackedSequence, and noise in training, cannot be exported; use "
            "anygate.interop.onnx.export with lengths= and model.eval()"
        )
    tensors = {name: given[name] for name in _TENSORS if given.get(name) is not None}
    stem = f"anygate_{next(_numbers)}"
    element = int(tensors["x"].dtype)
    double = element == TensorProto.DOUBLE
    g = Graph(Names(set()), stem, np.float64 if double else np.float32)
    values = {name: g.names.new(f"{stem}/{name}") for name in tensors}
    outputs = _write(g, values, given, element)
    proto = helper.make_graph(
        g.nodes,
        stem,
        [helper.make_tensor_value_info(values[n], int(t.dtype), None) for n, t in tensors.items()],
        [helper.make_tensor_value_info(name, element, None) for name in outputs],
        g.initializers,
    )
    found = _adopt(ir.serde.deserialize_graph(proto), list(tensors.values()))
    output, states, saved, others = found  # four values: the exporter names each
    return output, states, saved, others


def _write(g: Graph, values: dict[str, str], given: dict[str, Any], element: int) -> list[str]:
    """The call's nodes: names of the output, the states stacked, what training would save (which
    nothing uses), and the states but the output at all steps, stacked, if they are asked for."""
    from ...cells import cell_of

    cell = cell_of(given["cell"])
    kind = cell.type
    names = kind.states
    states = [
        g.node("Gather", values["states"], g.constant(np.int64(k))) for k in range(len(names))
    ]
    keep = bool(given.get("keep"))
    call = Call(
        g.stem,
        given["cell"],
        element,
        int(given["weight_hh"].shape[1]),
        bool(given["reverse"]),
        True,
        False,
        tuple(states),
        {name: value for name, value in values.items() if name != "states"},
        "output",
        tuple(f"end {name}" for name in names),
        tuple(f"kept {name}" for name in names) if keep else (),
    )
    _, results = write_call(g, call)
    stacked = [results["output"], _stack(g, [results[f"end {name}"] for name in names])]
    others = [results[f"kept {name}"] for name in names if keep and name != kind.output]
    nothing = g.node("Identity", stacked[0])
    return [*stacked, nothing, _stack(g, others) if others else g.node("Identity", nothing)]


def _stack(g: Graph, parts: list[str]) -> str:
    return g.node("Concat", *(g.node("Unsqueeze", p, g.integers(0)) for p in parts), axis=0)


def _adopt(graph: ir.Graph, actual: list[Any]) -> list[Any]:
    """Hand a graph's nodes to the exporter that is recording, with these values as its inputs."""
    recorder: Any = evaluator.default()
    if not hasattr(recorder, "nodes"):
        raise RuntimeError(
            "this torch's exporter takes no further nodes; use anygate.interop.onnx.export"
        )
    for own, value in zip(graph.inputs, actual, strict=True):
        ir.convenience.replace_all_uses_with(own, value)
    constants = []
    for value in graph.initializers.values():
        node = ir.node("Constant", [], {"value": value.const_value})
        ir.convenience.replace_all_uses_with(value, node.outputs[0])
        constants.append(node)
    outputs = list(graph.outputs)
    nodes = list(graph)
    graph.outputs.clear()
    graph.remove(nodes)
    recorder.nodes.extend([*constants, *nodes])
    return outputs
