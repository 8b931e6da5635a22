"""A graph of ONNX nodes while it grows. Needs onnx and NumPy alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

__all__ = ["Graph", "Names"]

Array: TypeAlias = np.ndarray[Any, Any]
Known: TypeAlias = Callable[[str], Array | None]
"""The value of a name that is a constant, None of another."""


class Names:
    """Names that no other value of a model has."""

    def __init__(self, taken: set[str]) -> None:
        self.taken = taken

    def new(self, stem: str) -> str:
        name, count = stem, 1
        while name in self.taken:
            count += 1
            name = f"{stem}_{count}"
        self.taken.add(name)
        return name


class Graph:
    """Nodes and constants, of a model or of a Scan's body.

    names: shared by all graphs of a model. stem: begins each new name. dtype: of its numbers.
    known: constants that the model has already.
    """

    def __init__(
        self, names: Names, stem: str, dtype: type[Any], known: Known | None = None
    ) -> None:
        self.names, self.stem, self.dtype = names, stem, np.dtype(dtype)
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._known = known or (lambda name: None)
        self._arrays: dict[str, Array] = {}
        self._same: dict[tuple[Any, ...], str] = {}

    def body(self, stem: str) -> Graph:
        """A graph whose nodes may use the values of this one."""
        return Graph(self.names, f"{self.stem}/{stem}", self.dtype.type, self.value)

    @property
    def element(self) -> int:
        """The dtype in ONNX's numbers."""
        return int(helper.np_dtype_to_tensor_dtype(self.dtype))

    def value(self, name: str) -> Array | None:
        """The array of a constant, None for what is computed."""
        found = self._arrays.get(name)
        return self._known(name) if found is None else found

    def many(self, kind: str, inputs: tuple[str, ...], count: int, **attributes: Any) -> list[str]:
        """A node with `count` outputs. An input may be "": left out."""
        outputs = [self.names.new(f"{self.stem}/{kind}") for _ in range(count)]
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        self.nodes.append(helper.make_node(kind, inputs, outputs, outputs[0], **attributes))
        return outputs

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output."""
        return self.many(kind, inputs, 1, **attributes)[0]

    def constant(self, value: Any, stem: str = "constant") -> str:
        """An array; equal ones are one."""
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._same:
            name = self.names.new(f"{self.stem}/{stem}")
            self.initializers.append(numpy_helper.from_array(array, name))
            self._arrays[name] = array
            self._same[key] = name
        return self._same[key]

    def number(self, value: float) -> str:
        """A number of the graph's dtype, rounded, without dimensions."""
        with np.errstate(over="ignore"):
            return self.constant(self.dtype.type(value))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    # ---- what is worked out now if its inputs are constants, else by the file ------------------

    def transpose(self, name: str, stem: str = "transposed") -> str:
        array = self.value(name)
        if array is not None:
            return self.constant(array.T, stem)
        return self.node("Transpose", name, perm=[1, 0])

    def unsqueeze(self, name: str, stem: str = "one_direction") -> str:
        array = self.value(name)
        if array is not None:
            return self.constant(array[None], stem)
        return self.node("Unsqueeze", name, self.integers(0))

    def add(self, a: str, b: str, stem: str = "sum") -> str:
        """ "" stands for nothing."""
        if not a or not b:
            return a or b
        first, second = self.value(a), self.value(b)
        if first is not None and second is not None:
            return self.constant(first + second, stem)
        return self.node("Add", a, b)

    def blocks(self, name: str, order: list[int], size: int, stem: str = "blocks") -> str:
        """The blocks of `size` rows in another order; may leave some out."""
        array = self.value(name)
        if array is not None:
            parts = [array[k * size : (k + 1) * size] for k in order]
            return self.constant(np.concatenate(parts), stem)
        cuts = [self._rows(name, k, size) for k in order]
        return self.node("Concat", *cuts, axis=0) if len(cuts) > 1 else cuts[0]

    def row(self, name: str, number: int, stem: str = "row") -> str:
        """A row of a matrix, [H]."""
        array = self.value(name)
        if array is not None:
            return self.constant(array[number], stem)
        return self.node("Squeeze", self._rows(name, number, 1), self.integers(0))

    def concat(self, parts: list[str], stem: str = "joined") -> str:
        """Along the first axis."""
        arrays = [self.value(part) for part in parts]
        if all(array is not None for array in arrays):
            return self.constant(np.concatenate([a for a in arrays if a is not None]), stem)
        return self.node("Concat", *parts, axis=0)

    def _rows(self, name: str, number: int, size: int) -> str:
        begin, end = self.integers(number * size), self.integers((number + 1) * size)
        return self.node("Slice", name, begin, end, self.integers(0))

    def rename(self, changes: Mapping[str, str]) -> None:
        """Give values other names, in the nodes of this graph and of their bodies."""
        for node in self.nodes:
            _rename(node, changes)


def _rename(node: NodeProto, changes: Mapping[str, str]) -> None:
    node.input[:] = [changes.get(name, name) for name in node.input]
    node.output[:] = [changes.get(name, name) for name in node.output]
    for attribute in node.attribute:
        for inner in attribute.g.node:
            _rename(inner, changes)
