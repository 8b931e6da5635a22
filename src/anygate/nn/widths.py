"""Layers of different widths: hidden_size as a list, and their states.

Layers of one width have states as torch's, one tensor [num_layers * directions, B, H]. Where widths
differ no tensor holds them all, so a state is a tuple with one [directions, B, H] for each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from .checks import check_dim, check_shapes

__all__ = [
    "HiddenSize",
    "State",
    "check_uneven",
    "each",
    "joined",
    "part",
    "read_widths",
    "reset_uneven",
    "size_weights",
    "suffixes_of",
    "width_of",
]

HiddenSize: TypeAlias = int | Sequence[int]
State: TypeAlias = Any
"""A tensor; or a tuple of them, one for each layer, where widths differ."""


def read_widths(hidden_size: HiddenSize, num_layers: int, proj_size: int) -> tuple[int, ...]:
    """The number of units of each layer. Raises ValueError for a list of another length."""
    if not isinstance(hidden_size, list | tuple):
        return (cast(int, hidden_size),) * num_layers
    if len(hidden_size) != num_layers:
        raise ValueError(
            f"hidden_size has {len(hidden_size)} widths, one for each layer, and num_layers is "
            f"{num_layers}; give num_layers={len(hidden_size)}"
        )
    if proj_size and len(set(hidden_size)) > 1:
        raise ValueError("proj_size makes all layers equally wide; give hidden_size as one number")
    for width in hidden_size:
        if isinstance(width, bool) or not isinstance(width, int) or width < 1:
            raise ValueError(f"hidden_size: widths are whole numbers from 1, not {width!r}")
    return tuple(hidden_size)


def suffixes_of(module: nn.RNNBase) -> list[str]:
    """The endings of the parameters' names, one for each layer and direction: "_l0", "_l0_reverse",
    "_l1" ..."""
    ways = ("", "_reverse")[: 2 if module.bidirectional else 1]
    return [f"_l{layer}{way}" for layer in range(module.num_layers) for way in ways]


def width_of(module: Any, suffix: str) -> int:
    """The number of units of a layer, by what its parameters' names end with; of a step cell ""."""
    if not suffix:
        return cast(int, module.hidden_size)
    widths = module.__dict__.get("_widths")
    return int(widths[int(suffix.split("_")[1][1:])] if widths else module.hidden_size)


def size_weights(module: Any, suffix: str, products: Sequence[Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of one layer's and direction's weights by name. products: of its cell."""
    width, layer = width_of(module, suffix), int(suffix.split("_")[1][1:])
    ways = 2 if module.bidirectional else 1
    inputs = module.input_size
    if layer:
        inputs = ways * (module.proj_size or width_of(module, f"_l{layer - 1}"))
    rows = {
        "ih": width * sum(p.input for p in products),
        "hh": width * sum(p.recurrent for p in products),
    }
    columns = {"ih": inputs, "hh": module.proj_size or width}
    shapes: dict[str, tuple[int, ...]] = {}
    for kind, count in rows.items():
        shapes[f"weight_{kind}{suffix}"] = (count, columns[kind])
        shapes[f"bias_{kind}{suffix}"] = (count,)
    return shapes


def each(state: State, change: Callable[[Tensor], Tensor]) -> State:
    """change(state), for each layer where widths differ."""
    return change(state) if isinstance(state, Tensor) else tuple(map(change, state))


def part(state: State, layer: int, way: int, ways: int) -> Tensor:
    """The state [B, H] of one layer and direction."""
    if isinstance(state, Tensor):
        return state.select(0, layer * ways + way)
    return cast(Tensor, state[layer].select(0, way))


def joined(parts: Sequence[Tensor], ways: int) -> State:
    """The state of a module from those of its layers and directions."""
    if len({p.shape[-1] for p in parts}) == 1:
        return torch.stack(list(parts))
    return tuple(torch.stack(list(parts[k : k + ways])) for k in range(0, len(parts), ways))


def check_uneven(
    hx: Any, names: tuple[str, ...], shapes: tuple[Any, ...], batched: bool, weight: Tensor
) -> tuple[State, ...]:
    """hx where widths differ, with the batch as second dimension: for each of the cell's states a
    tuple or list with a tensor for each layer. shapes: of each state, a tuple of those of its
    layers."""
    given = (hx,) if len(names) == 1 else hx
    layers = len(shapes[0])
    fits = isinstance(given, tuple | list) and len(given) == len(names)
    if not fits or not all(isinstance(s, tuple | list) and len(s) == layers for s in given):
        raise TypeError(
            f"the layers have different widths, so the state {' and '.join(names)} is a tuple of "
            f"{layers} tensors, one for each layer"
        )
    for layer in range(layers):
        own = tuple(state[layer] for state in given)
        if not all(isinstance(state, Tensor) for state in own):
            raise TypeError(f"the states of layer {layer} are tensors")
        check_dim(own, names, batched)
        if not batched:
            own = tuple(state.unsqueeze(1) for state in own)
        check_shapes(own, names, tuple(shape[layer] for shape in shapes), weight)
    return tuple(each(tuple(s), lambda t: t if batched else t.unsqueeze(1)) for s in given)


def reset_uneven(module: nn.RNNBase, suffixes: Sequence[str]) -> None:
    """torch's initialisation, with each layer's own width."""
    for suffix in suffixes:
        bound = width_of(module, suffix) ** -0.5
        for name, weight in module._parameters.items():
            if weight is not None and name.endswith(suffix):
                nn.init.uniform_(weight, -bound, bound)
