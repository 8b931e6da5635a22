"""Flax cells in and out, linen and nnx, as trees of arrays. Needs neither Flax nor JAX.

    lstm = flax.from_params(variables["params"], activation="relu")
    variables = {"params": {"cell": flax.to_params(lstm)}}

Cells and their arrays, H rows or columns for each letter after i or h:

    linen, and nnx.LSTMCell:  ii if ig io, hi hf hg ho (LSTM; nnx: if_), ir iz in, hr hz hn (GRU),
                              i, h (SimpleCell), each with a kernel, some with a bias
    nnx, the others:          dense_i, dense_h, with the letters side by side
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from torch import nn

from ..cells import Cell
from ..nn.design import ActivationLike
from ..nn.layers import RecurrentLayers
from .directions import Directions
from .families import Weights, arrays_of, assemble, cell_for, choice_of, ways_of
from .trees import Array, activation_of, flat, nested

__all__ = ["from_params", "to_params"]

Path: TypeAlias = tuple[str, ...]
_LETTERS = {"LSTM": "ifgo", "GRU": "rzn", "RNN": ""}
_BY_BLOCKS = {4: "LSTM", 3: "GRU", 1: "RNN"}
_WRAPPERS = ("params", "cell", "rnn")
_WAYS = {"forward_rnn": "", "backward_rnn": "_reverse"}


def from_params(
    params: Any,
    activation: ActivationLike | Any = "tanh",
    gate_activation: ActivationLike | Any = "sigmoid",
    batch_first: bool = True,
) -> RecurrentLayers | Directions:
    """The module of a Flax cell: LSTMCell, OptimizedLSTMCell, GRUCell or SimpleCell.

    params: nested mappings of arrays: of a linen cell, of nn.RNN ("cell") or nn.Bidirectional
    ("forward_rnn", "backward_rnn") around it; of nnx, nnx.to_pure_dict(nnx.state(cell)), or the
    state itself. activation, gate_activation: the cell's activation_fn and gate_fn, which are not
    in the tree: names, formulas, or functions of jax.nn. A SimpleCell with residual=True is another
    cell, and cannot be told by its arrays.

    Flax's carry is (c, h); here it is (h, c). Raises ValueError naming what is not understood.
    """
    inside, gate = activation_of(activation), activation_of(gate_activation)
    arrays = _short(flat(_plain(params)))
    tops = {path[0] for path in arrays}
    if tops and tops <= _WAYS.keys():
        groups = {
            way: {path[1:]: a for path, a in arrays.items() if path[0] == name}
            for name, way in _WAYS.items()
            if name in tops
        }
    else:
        groups = {"": arrays}
    parts = {way: _read(_short(group), inside, gate) for way, group in groups.items()}
    return assemble(parts, batch_first=batch_first)


def _plain(params: Any) -> Any:
    """nnx's state and linen's frozen dicts as dicts."""
    for name in ("to_pure_dict", "unfreeze"):
        if hasattr(params, name):
            return getattr(params, name)()
    return params


def _short(arrays: dict[Path, Array]) -> dict[Path, Array]:
    """Without names that stand before all others, such as "params"."""
    while arrays and len({path[0] for path in arrays}) == 1:
        ((first, *_), *_) = arrays
        if first not in _WRAPPERS or any(len(path) < 3 for path in arrays):
            break
        arrays = {path[1:]: value for path, value in arrays.items()}
    return arrays


def _read(arrays: dict[Path, Array], inside: Any, gate: Any) -> tuple[Cell, Weights]:
    found = {(path[0].rstrip("_"), *path[1:]): value for path, value in arrays.items()}
    names = {path[0] for path in found}
    for family, letters in _LETTERS.items():
        of_x, of_h = ([f"{side}{c}" for c in letters] or [side] for side in "ih")
        if names == {*of_x, *of_h}:
            weights = [_side(found, side) for side in (of_x, of_h)]
            return _cell(family, inside, gate), _weights(family, *weights)
    if names == {"dense_i", "dense_h"}:
        weights = [_side(found, [side]) for side in ("dense_i", "dense_h")]
        kernel = weights[1][0]
        blocks = kernel.shape[0] // max(1, kernel.shape[1])
        if blocks in _BY_BLOCKS:
            family = _BY_BLOCKS[blocks]
            return _cell(family, inside, gate), _weights(family, *weights)
    shown = ", ".join(sorted(names))[:120] or "nothing"
    raise ValueError(
        f"these are no arrays of an LSTMCell, GRUCell or SimpleCell of Flax; there are: {shown}"
    )


def _cell(family: str, inside: Any, gate: Any) -> Cell:
    return cell_for(family, inside, gate)


def _side(found: dict[Path, Array], names: list[str]) -> tuple[Array, Array | None]:
    """The kernels of x or of h, transposed and one under the other, and their biases."""
    kernels, biases = [], []
    for name in names:
        own = {path[1:]: value for path, value in found.items() if path[0] == name}
        if not {("kernel",)} <= own.keys() <= {("kernel",), ("bias",)}:
            raise ValueError(f"{name} has other arrays than a kernel and a bias")
        kernel = own["kernel",]
        if kernel.ndim != 2:
            raise ValueError(f"{name}/kernel is {list(kernel.shape)}")
        bias = own.get(("bias",))
        if bias is not None and bias.shape != kernel.shape[1:]:
            raise ValueError(f"{name}/bias is {list(bias.shape)}")
        kernels.append(kernel.T)
        biases.append(bias)
    if len({kernel.shape for kernel in kernels}) > 1:
        raise ValueError(f"the kernels of {', '.join(names)} have several shapes")
    if all(bias is None for bias in biases):
        return np.concatenate(kernels), None
    pairs = zip(biases, kernels, strict=True)
    whole = [np.zeros(len(k), k.dtype) if b is None else b for b, k in pairs]
    return np.concatenate(kernels), np.concatenate(whole)


def _weights(
    family: str, of_x: tuple[Array, Array | None], of_h: tuple[Array, Array | None]
) -> Weights:
    weights = Weights(of_x[0], of_h[0], of_x[1], of_h[1])
    weights.check(family)
    return weights


def to_params(module: nn.Module, nnx: bool | str = False) -> dict[str, Any]:
    """The arrays of a layer as Flax has them: of linen's LSTMCell, OptimizedLSTMCell, GRUCell or
    SimpleCell; of one that reads both ways {"forward_rnn": {"cell": ...}, "backward_rnn": ...}.

    nnx: True for nnx.LSTMCell, nnx.GRUCell and nnx.SimpleCell; "optimized" for
    nnx.OptimizedLSTMCell: for nnx.update(cell, tree). The cell must be made with the same
    activation_fn and gate_fn. Raises ValueError for a module that no such cell is equal to.
    """
    parts = {}
    for way, (layer, suffix) in ways_of(module).items():
        family, _, _, reset_after = choice_of(layer)
        if not reset_after:
            raise ValueError("Flax's GRUCell has its reset gate after the product")
        parts[way] = _written(family, arrays_of(layer, suffix), nnx)
    if list(parts) == [""]:
        return parts[""]
    names = {way: name for name, way in _WAYS.items()}
    return {names[way]: {"cell": tree} for way, tree in parts.items()}


def _written(family: str, weights: Weights, nnx: bool | str) -> dict[str, Any]:
    hidden = weights.weight_hh.shape[1]
    zeros = np.zeros(len(weights.weight_hh), weights.weight_hh.dtype)
    bias_ih, bias_hh = (zeros if b is None else b for b in (weights.bias_ih, weights.bias_hh))
    if family == "LSTM":
        bias_x, bias_h = None, bias_ih + bias_hh
    elif family == "RNN":
        bias_x, bias_h = bias_ih + bias_hh, None
    else:
        bias_h = np.concatenate([zeros[: 2 * hidden], bias_hh[2 * hidden :]])
        bias_x = bias_ih + bias_hh - bias_h
    if nnx and (family != "LSTM" or nnx == "optimized"):
        if family == "GRU" and bias_h is not None and bias_h.any():
            raise ValueError("nnx.GRUCell has no bias for h in its candidate; this one's is not 0")
        sides = {"dense_i": (weights.weight_ih, bias_x), "dense_h": (weights.weight_hh, bias_h)}
        if family == "GRU":
            sides["dense_h"] = (weights.weight_hh, None)
        return nested(_entries(sides))
    letters = list(_LETTERS[family]) or [""]
    found: dict[str, tuple[Array, Array | None]] = {}
    for side, kernel, bias in (("i", weights.weight_ih, bias_x), ("h", weights.weight_hh, bias_h)):
        for k, letter in enumerate(letters):
            rows = slice(k * hidden, (k + 1) * hidden)
            name = f"{side}{letter}" + ("_" if nnx and f"{side}{letter}" == "if" else "")
            only_n = family == "GRU" and side == "h" and letter != "n"
            found[name] = (kernel[rows], None if bias is None or only_n else bias[rows])
    return nested(_entries(found))


def _entries(sides: dict[str, tuple[Array, Array | None]]) -> dict[Path, Array]:
    found: dict[Path, Array] = {}
    for name, (kernel, bias) in sides.items():
        found[name, "kernel"] = np.ascontiguousarray(kernel.T)
        if bias is not None:
            found[name, "bias"] = bias
    return found
