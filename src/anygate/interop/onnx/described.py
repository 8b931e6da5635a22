"""Layers from Scan nodes, which anygate described in their metadata (`lowering.METADATA`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import nn

from ...cells import Cell, cell_of
from ..build import build, fill
from ..directions import Directions
from .constants import Constants
from .scan import groups

__all__ = ["DTYPES", "read_scan"]

Array = np.ndarray[Any, Any]
DTYPES = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}
DTYPES[np.dtype(np.float16)] = torch.float16
_ELEMENTS = {TensorProto.FLOAT16: torch.float16, TensorProto.BFLOAT16: torch.bfloat16}


def read_scan(text: str, constants: Constants) -> nn.Module:
    """A layer that anygate described in the node's metadata."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("its metadata are not as anygate writes them") from None
    form = {"version": int, "cell": str, "hidden": int, "reverse": bool, "tensors": dict}
    if not isinstance(content, dict) or any(
        not isinstance(content.get(key), kind) for key, kind in form.items()
    ):
        raise ValueError("its metadata are not as anygate writes them")
    if content["version"] != 1:
        raise ValueError(f"its metadata are of version {content['version']!r:.20}; this is 1")
    names = content["tensors"]
    if not all(isinstance(name, str) for name in names.values()):
        raise ValueError("its metadata are not as anygate writes them")
    cell = cell_of(content["cell"])
    found = {role: constants.get(name, role) for role, name in names.items()}
    arrays, inputs = _arrays(cell, int(content["hidden"]), found)
    kinds = {array.dtype for array in arrays.values() if array is not None}
    if len(kinds) != 1 or (dtype := DTYPES.get(kinds.pop())) is None:
        raise ValueError("its tensors are of several dtypes, or of none that a layer has")
    constants.spend(sum(a.nbytes for a in arrays.values() if a is not None), "its weights")
    biased = any(role.startswith("bias") for role in found)
    layer = build(cell, inputs, int(content["hidden"]), bias=biased, dtype=dtype)
    fill(layer, arrays)
    layer.to(_ELEMENTS.get(content.get("element"), dtype))
    return Directions(None, layer) if content["reverse"] else layer


def _arrays(
    cell: Cell, hidden: int, found: Mapping[str, Array | None]
) -> tuple[dict[str, Array | None], int]:
    """The parameters by name, and the input size."""
    products = cell.type.products
    rows = [p.name for p in products if p.recurrent]
    columns = hidden * sum(p.input for p in products)
    weight = found.get("weight_ih_t")
    if hidden < 1 or weight is None or weight.ndim != 2 or weight.shape[1] != columns:
        raise ValueError(f"weight_ih_t is missing or not [inputs, {columns}]")
    arrays: dict[str, Array | None] = {"weight_ih": weight.T, "bias_ih": found.get("bias_x")}
    blocks: dict[str, Array] = {}
    biases: dict[str, Array] = {}
    for k, group in enumerate(groups(cell.type)):
        part, bias = found.get(f"weight_hh_t {k}"), found.get(f"bias_h {k}")
        if part is None or part.shape != (hidden, hidden * len(group)):
            raise ValueError(f"weight_hh_t {k} is missing or not [{hidden}, {hidden * len(group)}]")
        blocks.update(zip(group, np.split(part.T, len(group)), strict=True))
        if bias is not None:
            if bias.shape != (hidden * len(group),):
                raise ValueError(f"bias_h {k} is {list(bias.shape)}")
            biases.update(zip(group, np.split(bias, len(group)), strict=True))
    arrays["weight_hh"] = np.concatenate([blocks[name] for name in rows]) if rows else None
    if biases:
        zero = np.zeros(hidden, weight.dtype)
        arrays["bias_hh"] = np.concatenate([biases.get(name, zero) for name in rows])
    for name in cell.per_unit:
        vector = found.get(f"vector {name}")
        if vector is None or vector.shape != (hidden,):
            raise ValueError(f"the vector {name} is missing or not [{hidden}]")
        arrays[name] = vector
    return arrays, weight.shape[0]
