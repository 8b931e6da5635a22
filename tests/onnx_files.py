"""ONNX files of single layers without torch's exporter, and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor

from anygate.interop.onnx.call import DOMAIN, KIND, ORDER
from anygate.interop.onnx.lowering import LayerReport, lower
from anygate.nn.layers import RecurrentLayers
from anygate.nn.parameters import cell_vectors

ELEMENTS = {torch.float32: TensorProto.FLOAT, torch.float64: TensorProto.DOUBLE}
ELEMENTS |= {torch.float16: TensorProto.FLOAT16}


def layer_file(
    layer: RecurrentLayers, given: tuple[str, ...] = (), keep: bool = False, way: str = ""
) -> tuple[ModelProto, LayerReport]:
    """The model of one layer and direction (way "" or "_reverse"). given: which of states, lengths,
    valid and cuts are inputs beside x."""
    design = layer._design
    states = design.base.states
    dtype = layer.weight_ih_l0.dtype
    element, hidden = ELEMENTS[dtype], layer.hidden_size
    arrays = dict(zip(ORDER, (t for t in layer._weights("_l0" + way)), strict=False))
    arrays["vectors"] = cell_vectors(layer, design, "_l0" + way)
    tensors = {n: a.detach().numpy() for n, a in arrays.items() if a is not None}
    started = "states" in given
    kinds = {"lengths": TensorProto.INT64, "valid": TensorProto.BOOL, "cuts": TensorProto.BOOL}
    inputs = ["x", *states]
    inputs += [name if name in tensors or name in given else "" for name in ORDER]
    ends, kept = [f"{s}_n" for s in states], [f"{s}_all" for s in states if keep]
    node = helper.make_node(
        KIND,
        inputs,
        ["y", *ends, *kept],
        domain=DOMAIN,
        layer="layer",
        cell=design.key,
        element=element,
        hidden=hidden,
        reverse=int(way != ""),
        started=int(started),
        single=0,
        states=len(states),
    )
    before = []
    if not started:
        sizes = helper.make_node("Shape", ["x"], ["rows"], start=1, end=2)
        width = numpy_helper.from_array(np.array([hidden]), "width")
        shape = helper.make_node("Concat", ["rows", "width"], ["shape"], axis=0)
        zero = helper.make_tensor("value", element, [1], [0.0])
        fill = [helper.make_node("ConstantOfShape", ["shape"], [s], value=zero) for s in states]
        before = [sizes, shape, *fill]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [*before, node],
        "layer",
        [
            value("x", element, ["T", "B", layer.input_size]),
            *(value(s, element, ["B", hidden]) for s in states if started),
            *(
                value(n, k, ["B"] if n == "lengths" else ["T", "B"])
                for n, k in kinds.items()
                if n in given
            ),
        ],
        [
            value("y", element, ["T", "B", hidden]),
            *(value(e, element, ["B", hidden]) for e in ends),
            *(value(k, element, ["T", "B", hidden]) for k in kept),
        ],
        [numpy_helper.from_array(a, n) for n, a in tensors.items()],
    )
    if not started:
        graph.initializer.append(width)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    (report,) = lower(model)
    onnx.checker.check_model(model, full_check=True)
    return model, report


def run(model: ModelProto | str, **inputs: Any) -> dict[str, Any]:
    """By ONNX Runtime: the outputs by name."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    content = model if isinstance(model, str) else model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    arrays = {k: v.numpy() if isinstance(v, Tensor) else v for k, v in inputs.items()}
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, arrays), strict=True))


def off(found: Any, expected: Tensor) -> float:
    """The largest difference, relative to the largest expected size; inf where only one of both is
    not a number."""
    if not expected.numel():
        return 0.0 if found.shape == tuple(expected.shape) else float("inf")
    a, b = np.asarray(found, np.float64), expected.detach().double().numpy()
    if a.shape != b.shape or not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return float("inf")
    finite = np.isfinite(b)
    if not finite.any():
        return 0.0
    return float(np.abs(a - b)[finite].max() / max(np.abs(b[finite]).max(), 1e-30))
