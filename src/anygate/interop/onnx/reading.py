"""Layers from ONNX files: LSTM, GRU and RNN nodes, and Scan nodes that anygate wrote."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

try:
    import onnx
except ImportError as error:
    raise ImportError("reading ONNX files needs onnx; pip install anygate[onnx]") from error

from onnx import GraphProto, ModelProto, NodeProto, helper

from ...cells import ELMAN, Cell, gru_type, lstm_type, make
from ...formulas import Activation
from ...formulas.errors import printable
from ..build import build, fill, to_tensor
from ..directions import Directions
from .activations import unpack
from .constants import Constants
from .described import DTYPES, read_scan
from .lowering import METADATA
from .operators import Family, families

__all__ = ["load"]

Array = np.ndarray[Any, Any]
_OPERATORS: dict[str, tuple[int, tuple[str, ...]]] = {
    "LSTM": (4, ("Sigmoid", "Tanh", "Tanh")),
    "GRU": (3, ("Sigmoid", "Tanh")),
    "RNN": (1, ("Tanh",)),
}
"""Blocks of rows, and the activations where the node names none."""
_ATTRIBUTES = {
    *("activations", "activation_alpha", "activation_beta", "clip", "direction", "hidden_size"),
    *("layout", "input_forget", "linear_before_reset", "output_sequence"),
}
_MOST_LAYERS = 4096
"""A node of 40 bytes becomes a module of 20,000."""
_WAYS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_NAMES = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")


def load(
    path: str | os.PathLike[str],
    values: Mapping[str, Any] | None = None,
    only: Collection[str] | None = None,
) -> dict[str, nn.Module]:
    """The recurrent layers of an ONNX file as modules, by the name of their node.

        layers = anygate.interop.onnx.load("model.onnx")
        output, (h, c) = layers["encoder/l0"](x)

    values: arrays or tensors for inputs of the graph that hold weights, by name. only: names of
    nodes; the others are left out, and need not be readable.

    A node that reads forward, or both ways with one cell, is an LSTM, GRU, RNN or Recurrent of one
    layer; one that reads backward alone, has another cell each way or begins with states that the
    file holds is a `Directions` of such. What the node is given when it runs is given to forward: X
    as input, sequence_lens as lengths=, initial_h and initial_c as hx. Y [T, directions, B, H] is
    the output [T, B, directions * H]. With layout=1 modules are batch_first, and states
    [directions, B, H] all the same. clip is applied to every activation, as ONNX defines it.

    The file may come from anywhere: nothing in it is evaluated, shapes are checked before memory is
    taken, and tensors in other files are read from its own folder alone. Raises ValueError naming
    the node for what is not covered or makes no sense, and for a file without such layers.
    """
    place = Path(path)
    content = place.read_bytes()
    model = _parse(content, place)
    given = {name: _array(value) for name, value in (values or {}).items()}
    size = len(content) + sum(array.nbytes for array in given.values())
    constants = Constants(model.graph, place.parent, given, budget=(1 << 20) + 16 * size)
    found: dict[str, nn.Module] = {}
    others: set[str] = set()
    counts: dict[str, int] = {}
    for node, own in _nodes(model.graph, constants, place.parent):
        kind = _word(node.op_type)
        name = _word(node.name or next((n for n in node.output if n), kind))
        if only is not None and name not in only:
            continue
        try:
            layer = _layer(node, own)
        except (ValueError, TypeError, IndexError, KeyError) as error:
            message = printable(f"{kind:.40} '{name:.200}': {error!s:.600}")
            raise ValueError(message.replace("\n", "\\n")) from None
        if layer is None:
            others.add(kind)
            continue
        if len(found) == _MOST_LAYERS:
            raise ValueError(
                f"{place.name} has more than {_MOST_LAYERS:,} layers; only= reads some of them"
            )
        count, unique = counts.get(name, 1), name
        while unique in found:
            count += 1
            unique = f"{name} ({count})"
        counts[name] = count
        found[unique] = layer
    kinds = {_word(n.op_type) for f in model.functions for n in f.node}
    inner = kinds & {*_OPERATORS, "Scan"}
    if inner:
        raise ValueError(
            f"{place.name} has {', '.join(sorted(inner))} in a function of its own; inline it "
            "first (onnx.inliner.inline_local_functions)"
        )
    if not found:
        foreign = ", ".join(sorted(others & {"Scan", "Loop"}))
        has = f"; it has {foreign}, not by anygate" if foreign else ""
        raise ValueError(f"{place.name} has no LSTM, GRU or RNN node and no Scan by anygate{has}")
    return found


def _parse(content: bytes, place: Path) -> ModelProto:
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # noqa: BLE001  protobuf's implementations raise what they like
        raise ValueError(f"{place.name} is no ONNX file: {type(error).__name__}") from None
    if not model.HasField("graph"):
        raise ValueError(f"{place.name} is no ONNX file: it holds no graph")
    return model


def _word(text: Any) -> str:
    """A text of the file; protobuf hands out bytes where it is none."""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)


def _array(value: Any) -> Array:
    return np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)


def _nodes(
    graph: GraphProto, constants: Constants, folder: Path
) -> Iterator[tuple[NodeProto, Constants]]:
    """Every node, those of inner graphs too but for bodies of Scan."""
    for node in graph.node:
        yield node, constants
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            for body in inner if node.op_type != "Scan" else ():
                own = Constants(body, folder, {}, constants)
                yield from _nodes(body, own, folder)


def _layer(node: NodeProto, constants: Constants) -> nn.Module | None:
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type in _OPERATORS:
        return _operator(node, constants)
    if node.op_type not in ("Scan", "Loop"):
        return None
    for entry in node.metadata_props:
        if entry.key == METADATA and node.op_type == "Scan":
            return read_scan(entry.value, constants)
    return None


# ---- LSTM, GRU, RNN ----------------------------------------------------------------------------


class _Node:
    """The attributes and inputs of an operator, checked."""

    def __init__(self, node: NodeProto, constants: Constants) -> None:
        self.operator = node.op_type
        self.blocks, usual = _OPERATORS[node.op_type]
        given = {_word(a.name): helper.get_attribute_value(a) for a in node.attribute}
        if unknown := sorted(given.keys() - _ATTRIBUTES):
            raise ValueError(f"the attribute '{unknown[0]:.80}' is not known")
        way = _text(given.get("direction", b"forward")).lower()
        if way not in _WAYS:
            raise ValueError(f"direction is {way!r:.40}, which is none of {', '.join(_WAYS)}")
        self.reverse = _WAYS[way]
        self.layout = _flag(given, "layout")
        self.input_forget = _flag(given, "input_forget")
        self.linear_before_reset = _flag(given, "linear_before_reset")
        self.clip = _number(given, "clip")
        self.inputs = dict(zip(_names(node.op_type), node.input, strict=False))
        self.constants = constants
        self.w, self.r = self._weight("W"), self._weight("R")
        self.hidden, self.size = self._sizes(given)
        self.b = self._part("B", 2 * self.blocks * self.hidden)
        self.p = self._part("P", 3 * self.hidden) if node.op_type == "LSTM" else None
        parts = [a for a in (self.w, self.r, self.b, self.p) if a is not None]
        constants.spend(sum(a.nbytes for a in parts), "its weights")
        words = [_text(word) for word in given.get("activations", [])]
        count = len(usual)
        words = words or list(usual) * len(self.reverse)
        if len(words) != count * len(self.reverse):
            raise ValueError(
                f"activations has {len(words)} names for {len(self.reverse)} directions"
            )
        alphas, betas = (_numbers(given, f"activation_{key}") for key in ("alpha", "beta"))
        functions = unpack(words, alphas, betas)
        self.functions = [functions[k : k + count] for k in range(0, len(functions), count)]

    def _weight(self, name: str) -> Array:
        if not self.inputs.get(name):
            raise ValueError(f"the input {name} is missing")
        array = self.constants.get(self.inputs[name], name)
        if array is None or array.dtype not in DTYPES:
            raise ValueError(f"{name} has the dtype {array is not None and array.dtype}")
        return array

    def _sizes(self, given: Mapping[str, Any]) -> tuple[int, int]:
        ways, rows = len(self.reverse), self.r.shape[-2] if self.r.ndim == 3 else 0
        hidden = rows // self.blocks
        if hidden < 1 or self.r.shape != (ways, self.blocks * hidden, hidden):
            raise ValueError(
                f"R is {list(self.r.shape)} and not [{ways}, {self.blocks} * hidden, hidden]"
            )
        if given.get("hidden_size", hidden) != hidden:
            raise ValueError(f"hidden_size is {given['hidden_size']}, and of R it is {hidden}")
        if self.w.ndim != 3 or self.w.shape[:2] != self.r.shape[:2] or self.w.shape[2] < 1:
            raise ValueError(f"W is {list(self.w.shape)} and R {list(self.r.shape)}")
        if self.w.dtype != self.r.dtype:
            raise ValueError(f"W is {self.w.dtype} and R {self.r.dtype}")
        return hidden, self.w.shape[2]

    def _part(self, name: str, size: int) -> Array | None:
        array = self.constants.get(self.inputs.get(name, ""), name)
        if array is not None and array.shape != (len(self.reverse), size):
            raise ValueError(f"{name} is {list(array.shape)}, not [{len(self.reverse)}, {size}]")
        return array

    def start(self) -> tuple[Tensor, ...] | None:
        """States that the file holds, [directions, H] each; None where they are zeros, or are given
        when the node runs."""
        names = ["initial_h", "initial_c"] if self.operator == "LSTM" else ["initial_h"]
        found: dict[str, Tensor] = {}
        for name in names:
            source = self.inputs.get(name, "")
            try:
                array = self.constants.get(source, name)
            except ValueError:  # it is computed: given when the node runs
                continue
            if array is None or not np.any(array):
                continue
            rows = 0 if self.layout else 1
            if array.ndim != 3 or not (array == np.take(array, [0], rows)).all():
                raise ValueError(f"{name} is a constant that differs between rows of the batch")
            found[name] = to_tensor(np.take(array, 0, rows))
            if found[name].shape != (len(self.reverse), self.hidden):
                raise ValueError(f"{name} is {list(array.shape)}")
        if not found:
            return None
        zeros = torch.zeros_like(next(iter(found.values())))
        return tuple(found.get(name, zeros) for name in names)

    def cell(self, functions: list[Activation]) -> Cell:
        if self.operator == "RNN":
            return make(ELMAN, {"candidate": functions[0]}, self.clip)
        if self.operator == "GRU":
            kind = gru_type(not self.linear_before_reset)
        else:
            kind = lstm_type(self.p is not None, self.input_forget)
        family = families()[kind]
        pairs = zip(family.slots, functions, strict=True)
        chosen = {slot: function for slots, function in pairs for slot in slots}
        return make(kind, chosen, self.clip)

    def arrays(self, way: int, cell: Cell) -> dict[str, Array | None]:
        family = families()[cell.type]
        found: dict[str, Array | None] = {
            "weight_ih": _reordered(self.w[way], family),
            "weight_hh": _reordered(self.r[way], family),
        }
        if self.b is not None:
            halves = np.split(self.b[way], 2)
            names = ("bias_ih", "bias_hh")
            found |= {n: _reordered(h, family) for n, h in zip(names, halves, strict=True)}
        if self.p is not None:
            rows = zip(family.vectors, np.split(self.p[way], 3), strict=True)
            found |= {name: row for name, row in rows if name in cell.per_unit}
        return found


def _operator(node: NodeProto, constants: Constants) -> nn.Module:
    read = _Node(node, constants)
    options: dict[str, Any] = {
        "bias": read.b is not None,
        "batch_first": read.layout,
        "dtype": DTYPES[read.w.dtype],
    }
    cells = [read.cell(functions) for functions in read.functions]
    start = read.start()
    if not any(read.reverse[:1]) and len(set(cells)) == 1 and start is None:
        both = len(cells) == 2
        whole = build(cells[0], read.size, read.hidden, bidirectional=both, **options)
        for way, suffix in enumerate(("", "_reverse")[: len(cells)]):
            fill(whole, read.arrays(way, cells[way]), suffix)
        return whole
    parts = {}
    for way, (cell, reverse) in enumerate(zip(cells, read.reverse, strict=True)):
        parts[reverse] = build(cell, read.size, read.hidden, **options)
        fill(parts[reverse], read.arrays(way, cell))
    return Directions(parts.get(False), parts.get(True), start)


def _reordered(array: Array, family: Family) -> Array:
    """From the operator's order of blocks to ours."""
    parts = np.split(array, len(family.blocks))
    return np.concatenate([parts[family.blocks.index(k)] for k in range(len(parts))])


def _names(operator: str) -> tuple[str, ...]:
    return _NAMES if operator == "LSTM" else _NAMES[:6]


def _text(value: Any) -> str:
    if not isinstance(value, bytes):
        raise ValueError(f"an attribute that should be a text is {type(value).__name__}")
    return value.decode("utf-8", "replace")


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, 0)
    if value not in (0, 1):
        raise ValueError(f"{name} is {value!r:.40}, and must be 0 or 1")
    return bool(value)


def _number(given: Mapping[str, Any], name: str) -> float | None:
    value = given.get(name)
    if not value:
        return None
    if not isinstance(value, float) or not 0 < value < math.inf:
        raise ValueError(f"{name} is {value!r:.40}, and must be a positive number")
    return value


def _numbers(given: Mapping[str, Any], name: str) -> list[float]:
    values = given.get(name, [])
    if not isinstance(values, list) or not all(isinstance(v, float) for v in values):
        raise ValueError(f"{name} must be a list of numbers")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{name} holds numbers that are not finite")
    return values
