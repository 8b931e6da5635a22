"""Whole models as ONNX files, by torch's own exporter and `lower`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...engines.protocol import Layer, Result
from ...nn.capture import Place, capturing
from .call import DOMAIN, KIND

try:
    import onnx
    import onnxscript  # noqa: F401  torch's exporter needs it
except ImportError as error:
    raise ImportError(
        "writing ONNX files needs onnx and onnxscript; pip install anygate[onnx]"
    ) from error

from .lowering import Report, lower

__all__ = ["export"]

_ELEMENT = {
    torch.float32: onnx.TensorProto.FLOAT,
    torch.float64: onnx.TensorProto.DOUBLE,
    torch.float16: onnx.TensorProto.FLOAT16,
    torch.bfloat16: onnx.TensorProto.BFLOAT16,
}


def export(
    model: nn.Module,
    args: tuple[Any, ...],
    path: str | os.PathLike[str],
    *,
    external_data: bool = False,
    **keywords: Any,
) -> Report:
    """Write a model as an ONNX file; returns what its recurrent layers became.

        report = anygate.interop.onnx.export(
            model, (torch.randn(20, 2, 8),), "model.onnx", dynamic_shapes=({0: "T", 1: "B"},)
        )
        print(report)

    A layer becomes ONNX's LSTM, GRU or RNN operator where that computes the same, else a Scan with
    the cell's equations, one node an operation; a step of LSTMCell and the like becomes these
    equations alone. lengths=, mask= and reset= of a layer's forward are written too; a
    PackedSequence is refused. Half types are computed in float32 and rounded once, as here. Each
    node keeps its cell in its metadata, which `load` reads.

    model: in eval(), if it has dropout. args, keywords: as in torch.onnx.export; dynamic_shapes
    says which sizes are free (without it all are those of args). external_data: tensors in a file
    beside it, which more than 2 GB need.

    The recurrent layers run at no time, whatever their engine; devices and dtypes are those of the
    model. Raises what torch.onnx.export raises; ValueError for an opset before 18.
    """
    if keywords.get("dynamo") is False:
        raise ValueError(
            "dynamo=False is torch's older exporter, which knows no Scan; leave it out"
        )
    keywords.setdefault("verbose", False)
    names = {id(module): name for name, module in model.named_modules()}
    with capturing(_Writer(names)):
        program = torch.onnx.export(model, args, dynamo=True, **keywords)
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    proto = program.model_proto
    layers = lower(proto)
    onnx.checker.check_model(proto)
    place = os.fspath(path)
    if external_data:
        data = os.path.basename(place) + ".data"
        onnx.save_model(proto, place, save_as_external_data=True, location=data)
    else:
        onnx.save_model(proto, place)
    return Report(place, layers)


class _Writer:
    """A `Capture` that writes each run of a layer as one `Recurrent` node."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self.names = names
        self.count: dict[str, int] = {}

    def __call__(self, key: str, layer: Layer, keep: bool, place: Place) -> Result:
        if layer.x.dtype not in _ELEMENT:
            raise TypeError(f"ONNX files hold no {layer.x.dtype}")
        own = self.names.get(id(place.module)) or type(place.module).__name__.lower()
        name = own + (f"/{place.suffix.removeprefix('_')}" if place.suffix else "")
        times = self.count[name] = self.count.get(name, 0) + 1
        marks = place.marks or (None, None, None)
        hidden = layer.states[0].shape[-1]
        attributes = {
            "layer": name if times == 1 else f"{name} ({times})",
            "cell": key,
            "element": _ELEMENT[layer.x.dtype],
            "hidden": hidden,
            "reverse": int(layer.reverse),
            "started": int(place.started),
            "single": int(place.single),
            "states": len(layer.states),
        }
        shape = (*layer.x.shape[:2], hidden)
        count = len(layer.states)
        shapes = [shape, *[state.shape for state in layer.states], *[shape] * count * keep]
        output, *rest = torch.onnx.ops.symbolic_multi_out(
            f"{DOMAIN}::{KIND}",
            (layer.x, *layer.states, *layer[2:7], *marks),
            attributes,
            dtypes=[layer.x.dtype] * len(shapes),
            shapes=shapes,
            version=1,
        )
        kept: tuple[Tensor, ...] | None = tuple(rest[count:]) if keep else None
        return Result(output, tuple(rest[:count]), kept)
