"""Constants of an ONNX file, read without trust.

Sizes are checked before anything is allocated, tensors in other files are read from the folder of
the file alone, and what is worked out is bounded by what the file holds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["Constants"]

Array = np.ndarray[Any, Any]
_BYTES = {
    TensorProto.FLOAT: (4, "float_data"),
    TensorProto.DOUBLE: (8, "double_data"),
    TensorProto.FLOAT16: (2, "int32_data"),
    TensorProto.BFLOAT16: (2, "int32_data"),
    TensorProto.INT32: (4, "int32_data"),
    TensorProto.INT64: (8, "int64_data"),
    TensorProto.BOOL: (1, "int32_data"),
}
_DTYPES = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
}
_DEEPEST = 32


class Constants:
    """The values of a graph that do not depend on its inputs.

    graph: with its initializers. folder: where its file lies. given: values of graph inputs. outer:
    of the graph around it. budget: bytes that may be worked out.
    """

    def __init__(
        self,
        graph: GraphProto,
        folder: Path,
        given: Mapping[str, Array],
        outer: Constants | None = None,
        budget: int = 0,
    ) -> None:
        self.folder, self.outer, self.budget = folder, outer, budget
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.inputs = {value.name for value in graph.input}
        self.found: dict[str, Array] = dict(given)

    def get(self, name: str, what: str) -> Array | None:
        """The value called `name`; None of "". what: names it in errors. Raises ValueError for what
        is no constant, or cannot be read."""
        return self._get(name, what, 0) if name else None

    def _get(self, name: str, what: str, depth: int) -> Array:
        if name not in self.found:
            self.found[name] = self._find(name, what, depth)
        return self.found[name]

    def _find(self, name: str, what: str, depth: int) -> Array:
        if name in self.tensors:
            return _read(self.tensors[name], self.folder, what)
        if name in self.makers and depth < _DEEPEST:
            return self._work_out(self.makers[name], name, what, depth)
        if self.outer is not None:
            return self.outer._get(name, what, depth)
        if name in self.inputs:
            raise ValueError(
                f"{what} ('{name}') is an input of the file; give its value: "
                f"load(path, values={{{name!r}: array}})"
            )
        raise ValueError(f"{what} ('{name}') is nowhere in the file")

    def _work_out(self, node: NodeProto, name: str, what: str, depth: int) -> Array:
        if node.op_type == "Constant":
            return self._constant(node, what)
        attributes = {a.name: a for a in node.attribute}
        known = _WORKED_OUT.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if known is None or len(node.output) != 1:
            raise ValueError(
                f"{what} ('{name}') is computed in the file, by {node.op_type}; fold its constants "
                "first (onnxslim, or onnxruntime's optimized_model_filepath)"
            )
        make, least = known
        inputs = [self._get(i, what, depth + 1) if i else None for i in node.input]
        most = sum(i.nbytes for i in inputs if i is not None)
        self.spend(most * (8 if node.op_type == "Cast" else 1), what, only_ask=True)
        try:
            if len(inputs) < least or any(i is None for i in inputs[:least]):
                raise ValueError(f"it needs {least} input{'s' if least > 1 else ''}")
            with np.errstate(all="ignore"):  # numbers that another dtype has not
                value = np.asarray(make(inputs, attributes))
        except KeyError as error:
            message = f"{what} ('{name}'): {node.op_type} has no {error}"
            raise ValueError(message) from None
        except (TypeError, IndexError, ValueError) as error:
            raise ValueError(f"{what} ('{name}'): {node.op_type} cannot be read: {error}") from None
        self.spend(value.nbytes, what)
        return value

    def _constant(self, node: NodeProto, what: str) -> Array:
        for attribute in node.attribute:
            if attribute.name == "value":
                return _read(attribute.t, self.folder, what)
            if attribute.name in ("value_int", "value_ints"):
                return np.asarray(helper.get_attribute_value(attribute), np.int64)
            if attribute.name in ("value_float", "value_floats"):
                return np.asarray(helper.get_attribute_value(attribute), np.float32)
        raise ValueError(f"{what}: the Constant that gives it holds no tensor of numbers")

    def spend(self, size: int, what: str, only_ask: bool = False) -> None:
        """Take bytes from the budget. Raises ValueError where it has not so many."""
        top = self
        while top.outer is not None:
            top = top.outer
        if top.budget < size:
            raise ValueError(
                f"{what}: the file has many times as much computed or used again as it holds; "
                "only= reads some of its layers"
            )
        top.budget -= 0 if only_ask else size


def _read(tensor: TensorProto, folder: Path, what: str) -> Array:
    """The array of a tensor, after its sizes are known to agree with its data."""
    if tensor.data_type not in _BYTES:
        raise ValueError(
            f"{what} ('{tensor.name}') has the type {tensor.data_type}, not of numbers"
        )
    width, typed = _BYTES[tensor.data_type]
    dims = list(tensor.dims)
    if any(d < 0 for d in dims) or len(dims) > 8:
        raise ValueError(f"{what} ('{tensor.name}') has the shape {dims}")
    count = math.prod(dims)
    if tensor.data_location == TensorProto.EXTERNAL:
        raw = _external(tensor, folder, count * width, what)
        tensor = TensorProto(data_type=tensor.data_type, dims=dims, raw_data=raw)
    else:
        raw_size, typed_count = len(tensor.raw_data), len(getattr(tensor, typed))
        fits = raw_size == count * width if tensor.HasField("raw_data") else typed_count == count
        if not fits:
            raise ValueError(f"{what} ('{tensor.name}'): the data do not fill the shape {dims}")
    if tensor.data_type == TensorProto.BFLOAT16:
        return _bfloat16(tensor, dims)
    found: Array = numpy_helper.to_array(tensor)
    return found


def _bfloat16(tensor: TensorProto, dims: list[int]) -> Array:
    """As float32, which holds every bfloat16."""
    bits = (
        np.frombuffer(tensor.raw_data, "<u2")
        if tensor.HasField("raw_data")
        else np.asarray(tensor.int32_data, np.int64).astype(np.uint16)
    )
    return (bits.astype(np.uint32) << 16).view(np.float32).reshape(dims)


def _external(tensor: Any, folder: Path, size: int, what: str) -> bytes:
    """The bytes of a tensor that lies in another file, which must be in the same folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not isinstance(location, str) or "\0" in location:
        raise ValueError(f"{what} ('{tensor.name}') lies in a file without a name")
    root = folder.resolve()
    try:
        path = (root / location).resolve()
        inside = bool(location) and path.is_relative_to(root) and path.is_file()
    except (OSError, RuntimeError):  # a name that is too long, links in a circle
        inside = False
    if not inside:
        raise ValueError(
            f"{what} ('{tensor.name}') lies in {location!r:.120}, which is no file in the folder "
            "of the ONNX file"
        )
    numbers = [str(entries.get("offset", "0")), str(entries.get("length", size))]
    if not all(n.isascii() and n.isdigit() and len(n) < 20 for n in numbers):
        raise ValueError(f"{what} ('{tensor.name}'): its offset or length is no number")
    offset, length = map(int, numbers)
    if length != size or offset + size > path.stat().st_size:
        raise ValueError(f"{what} ('{tensor.name}'): the data in {location!r:.120} do not fill it")
    with path.open("rb") as file:
        file.seek(offset)
        found: bytes = file.read(size)
    return found


# ---- operators that rearrange weights --------------------------------------------------------


def _whole(values: Any) -> list[int]:
    """The few whole numbers that an input holds."""
    if values.dtype.kind not in "iu" or values.ndim != 1 or len(values) > 64:
        raise ValueError(f"{values.size} numbers of {values.dtype} for a few whole ones")
    return [int(value) for value in values]


def _axes(inputs: list[Any], attributes: Any) -> tuple[int, ...]:
    """As an input (opset 13 and later) or an attribute."""
    if len(inputs) > 1 and inputs[1] is not None:
        return tuple(_whole(inputs[1]))
    return tuple(attributes["axes"].ints)


def _slice(inputs: list[Any], attributes: Any) -> Array:
    data = inputs[0]
    if len(inputs) > 1:
        if len(inputs) < 3 or inputs[1] is None or inputs[2] is None:
            raise ValueError("it has no starts and ends")
        starts, ends, axes, steps = (
            [] if i is None else _whole(i) for i in (*inputs[1:], None, None, None)[:4]
        )
        axes, steps = axes or [*range(len(starts))], steps or [1] * len(starts)
    else:
        starts, ends = attributes["starts"].ints, attributes["ends"].ints
        axes = [*(attributes["axes"].ints if "axes" in attributes else range(len(starts)))]
        steps = [1] * len(starts)
    cuts = [slice(None)] * data.ndim
    for begin, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if int(step) < 1:
            raise ValueError("a step that is not positive")
        cuts[int(axis)] = slice(int(begin), int(end))
        if int(step) > 1:
            cuts[int(axis)] = slice(int(begin), int(end), int(step))
    return np.asarray(data[tuple(cuts)])


def _reshape(inputs: list[Any], attributes: Any) -> Array:
    data, shape = inputs
    wanted = _whole(shape)
    if not ("allowzero" in attributes and attributes["allowzero"].i):
        wanted = [data.shape[k] if d == 0 else d for k, d in enumerate(wanted)]
    return np.asarray(data.reshape(wanted))


def _cast(inputs: list[Any], attributes: Any) -> Array:
    to = attributes["to"].i
    if to not in _DTYPES:
        raise ValueError(f"a type {to}, not of numbers")
    return np.asarray(inputs[0].astype(_DTYPES[to]))


def _transpose(inputs: list[Any], attributes: Any) -> Array:
    return np.transpose(inputs[0], tuple(attributes["perm"].ints) if "perm" in attributes else None)


def _add(inputs: list[Any], attributes: Any) -> Array:
    if inputs[0].shape != inputs[1].shape:
        raise ValueError("two shapes")
    return np.asarray(inputs[0] + inputs[1])


def _concat(inputs: list[Any], attributes: Any) -> Array:
    if any(i is None or i.dtype != inputs[0].dtype for i in inputs):
        raise ValueError("parts that are missing, or of several dtypes")
    return np.concatenate(inputs, attributes["axis"].i)


_WORKED_OUT: Mapping[str, tuple[Callable[[list[Any], Any], Any], int]] = {
    "Identity": (lambda inputs, attributes: inputs[0], 1),
    "Cast": (_cast, 1),
    "Transpose": (_transpose, 1),
    "Unsqueeze": (lambda inputs, a: np.expand_dims(inputs[0], _axes(inputs, a)), 1),
    "Squeeze": (lambda inputs, a: np.squeeze(inputs[0], _axes(inputs, a)), 1),
    "Reshape": (_reshape, 2),
    "Concat": (_concat, 1),
    "Slice": (_slice, 1),
    "Add": (_add, 2),
}
"""The function that makes the value, and the number of inputs it needs."""
