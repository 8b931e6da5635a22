"""One run of a layer as an exporter sees it, and as a node of a file that is not finished."""

from __future__ import annotations

from dataclasses import dataclass, field

from onnx import NodeProto, helper

__all__ = ["DOMAIN", "KIND", "ORDER", "Call"]

DOMAIN, KIND = "anygate", "Recurrent"
"""A node that stands for a run of a layer until `lower` has replaced it."""
ORDER = (
    "weight_ih",
    "weight_hh",
    "bias_ih",
    "bias_hh",
    "vectors",
    "lengths",
    "valid",
    "cuts",
)
"""The inputs of that node after x and the states."""


@dataclass(frozen=True)
class Call:
    """A run of one direction of one layer. Values by name, "" where there is none.

    name: of the layer, as model.named_modules() and the parameters' suffix give it. key: the cell.
    element: ONNX's number of the dtype. hidden: H. started: states were given. single: one time
    step of a step cell. tensors: x, weight_ih ..., lengths [B], valid and cuts [T, B]. states:
    those before, in the order of the cell. output [T, B, H], ends [B, H], kept [T, B, H]: names of
    results; kept is empty where it is not asked for.
    """

    name: str
    key: str
    element: int
    hidden: int
    reverse: bool = False
    started: bool = True
    single: bool = False
    states: tuple[str, ...] = ()
    tensors: dict[str, str] = field(default_factory=dict)
    output: str = ""
    ends: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> str:
        return self.tensors.get(name, "")

    @classmethod
    def of(cls, node: NodeProto) -> Call:
        """The description in a node of DOMAIN and KIND."""
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        count = int(given["states"])
        inputs = [*node.input, *[""] * len(ORDER)]
        tensors = {"x": inputs[0], **dict(zip(ORDER, inputs[1 + count :], strict=False))}
        outputs = list(node.output)
        return cls(
            given["layer"].decode(),
            given["cell"].decode(),
            int(given["element"]),
            int(given["hidden"]),
            bool(given["reverse"]),
            bool(given["started"]),
            bool(given["single"]),
            tuple(inputs[1 : 1 + count]),
            tensors,
            outputs[0],
            tuple(outputs[1 : 1 + count]),
            tuple(outputs[1 + count :]),
        )
