"""Weights in the order in which the kernels read them, made once for each version of a weight."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import amx
from .compiler import Kernels
from .emit import Target
from .tile import WIDTH

__all__ = ["backward_parts", "backward_weight", "forward_parts", "forward_weights", "pack_gates",
           "pack_units", "pack_vectors"]  # fmt: skip


_SMALL = 1 << 18
"""Bytes that are read in 3 us."""


@dataclass(frozen=True)
class _Entry:
    """What was made, and what the tensors were before it was. It is published whole and never
    changed, so that a thread finds all of it or nothing."""

    storages: list[weakref.ref[torch.UntypedStorage]]
    table: Any
    versions: list[int]
    sample: int
    fingerprint: int
    small: bool
    made: Any

    def is_fresh(self, tensors: tuple[Tensor, ...], code: Kernels, thorough: bool) -> bool:
        """True while the tensors, which lie where they lay, hold what they held."""
        count = len(tensors)
        if thorough or self.small:
            return code.fingerprint(self.table, count) == self.fingerprint
        return (
            all(s() is t.untyped_storage() for s, t in zip(self.storages, tensors, strict=True))
            and self.versions == _versions(tensors)
            and code.sample(self.table, count) == self.sample
        )


class _Kept:
    """What was made of some tensors, until one of them changes or its memory is freed.

    Tensors are known by where they lie and their shapes. A change is seen by their bytes
    (fingerprint.py), wherever a sequence is computed, gradients are wanted or the weights are
    small. In a single time step for inference, where reading large weights twice would double the
    time, by storage, version and a sample of the bytes: that misses a write into single elements of
    weight.data, by NumPy or from another process, until the next sequence.
    Weak references are to storages: one to a parameter would forbid torch.utils.swap_tensors.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make
        self.found: dict[Any, _Entry] = {}

    def of(self, tensors: tuple[Tensor, ...], code: Kernels, thorough: bool) -> Any:
        """`make(code, *tensors)`, or what it gave before for these tensors as they are."""
        key = (code.target, *[(t.data_ptr(), t.shape) for t in tensors])
        entry = self.found.get(key)
        if entry is not None and entry.is_fresh(tensors, code, thorough):
            return entry.made
        if not all(t.is_contiguous() for t in tensors):
            return self.make(code, *tensors)
        entry = self._entry(key, tensors, code)
        self.found[key] = entry
        return entry.made

    def _entry(self, key: Any, tensors: tuple[Tensor, ...], code: Kernels) -> _Entry:
        """The bytes are read before they are packed: a write in between is seen next time."""
        sizes = [t.numel() * t.element_size() for t in tensors]
        pairs = [n for t, size in zip(tensors, sizes, strict=True) for n in (t.data_ptr(), size)]
        table = (ctypes.c_int64 * len(pairs))(*pairs)
        forget = self._forgetter(key)
        return _Entry(
            storages=[weakref.ref(t.untyped_storage(), forget) for t in tensors],
            table=table,
            versions=_versions(tensors),
            sample=code.sample(table, len(tensors)),
            fingerprint=code.fingerprint(table, len(tensors)),
            small=sum(sizes) <= _SMALL,
            made=self.make(code, *tensors),
        )

    def _forgetter(self, key: Any) -> Callable[[Any], None]:
        found = self.found

        def forget(_: Any) -> None:
            found.pop(key, None)

        return forget


def _versions(tensors: tuple[Tensor, ...]) -> list[int]:
    try:
        return [t._version for t in tensors]
    except RuntimeError:  # inference tensors have none
        return []


def _forward_weights(code: Kernels, *weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    _check_shapes(*weights)
    weight_ih, weight_hh, *biases = (w.detach() for w in weights)
    bias = biases[0] + biases[1] if biases else weight_hh.new_zeros(weight_hh.shape[0])
    return (
        pack_gates(weight_ih, code.target),
        pack_gates(weight_hh, code.target),
        pack_gates(bias.unsqueeze(1), code.target),
    )


def _check_shapes(weight_ih: Tensor, weight_hh: Tensor, *biases: Tensor) -> None:
    """Machine code reads where it is told to: what does not fit must not come there."""
    gates, hidden = weight_hh.shape
    fits = gates == 4 * hidden and weight_ih.dim() == 2 and len(weight_ih) == gates
    if not fits or any(b.shape != (gates,) or b.dtype != weight_hh.dtype for b in biases):
        shapes = ", ".join(str(list(w.shape)) for w in (weight_ih, weight_hh, *biases))
        raise ValueError(
            "weight_ih, weight_hh and the biases must be [4H, I], [4H, H] and [4H] of one dtype, "
            f"not {shapes}"
        )


def _forward_parts(code: Kernels, *weights: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    weight, recurrent, bias = _forward_weights(code, *weights)
    few = weight.shape[1] < amx.FEW_INPUTS
    parts = _parts(code, *([recurrent] if few else [weight, recurrent]))
    return None if parts is None else (weight, parts, bias)


def _backward_weight(code: Kernels, weight_hh: Tensor) -> Tensor:
    return pack_units(weight_hh.detach(), code.target)


def _backward_parts(code: Kernels, weight_hh: Tensor) -> Tensor | None:
    gates, hidden = weight_hh.shape
    whole = weight_hh.detach().view(4, gates // 4, hidden)
    padded = torch.nn.functional.pad(whole, (0, 0, 0, -hidden % amx.DEPTH))
    return _parts(code, pack_units(padded.flatten(0, 1), code.target))


def _parts(code: Kernels, *packed: Tensor) -> Tensor | None:
    """Weights packed for vectors, one after the other in K, as parts for tiles; None if one is too
    large to be split."""
    assert code.split_weights is not None
    panels = packed[0].shape[0]
    sizes = [-(-weight.shape[1] // amx.DEPTH) for weight in packed]
    parts = torch.zeros(panels * sum(sizes) * amx.PANEL_BLOCK, dtype=torch.int8)
    first = bad = 0
    for weight, size in zip(packed, sizes, strict=True):
        place = weight.data_ptr(), parts.data_ptr(), panels, weight.shape[1], sum(sizes), first
        bad |= code.split_weights(*place)
        first += size
    return None if bad else parts


_forward, _backward = _Kept(_forward_weights), _Kept(_backward_weight)
_forward_tiles, _backward_tiles = _Kept(_forward_parts), _Kept(_backward_parts)


def forward_weights(
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    code: Kernels,
    thorough: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """weight_ih, weight_hh and the sum of the biases as the forward loop reads them; thorough: a
    change of a single element is seen."""
    weights = _those(weight_ih, weight_hh, bias_ih, bias_hh)
    return _forward.of(weights, code, thorough)  # type: ignore[no-any-return]


def forward_parts(
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    code: Kernels,
    thorough: bool,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """weight_ih for vectors, both weights for tiles (with few inputs weight_hh alone), and the sum
    of the biases; None if a weight is too large."""
    weights = _those(weight_ih, weight_hh, bias_ih, bias_hh)
    return _forward_tiles.of(weights, code, thorough)  # type: ignore[no-any-return]


def _those(*tensors: Tensor | None) -> tuple[Tensor, ...]:
    return tuple(t for t in tensors if t is not None)


def backward_weight(weight_hh: Tensor, code: Kernels, thorough: bool) -> Tensor:
    """weight_hh as the backward loop reads it."""
    return _backward.of((weight_hh,), code, thorough)  # type: ignore[no-any-return]


def backward_parts(weight_hh: Tensor, code: Kernels, thorough: bool) -> Tensor | None:
    """The same for tiles; None if a weight is too large."""
    return _backward_tiles.of((weight_hh,), code, thorough)  # type: ignore[no-any-return]


def pack_gates(weight: Tensor, target: Target) -> Tensor:
    """[4H, K] to [panel, K, gate, lane]: one row of a panel is what a tile multiplies at once.
    Units beyond H are zeros."""
    gates, depth = weight.shape
    hidden, lanes = gates // 4, target.lanes
    panels = -(-hidden // lanes)
    if panels * lanes != hidden:
        padded = weight.new_zeros(4, panels * lanes, depth)
        padded[:, :hidden] = weight.view(4, hidden, depth)
        weight = padded
    return weight.reshape(4, panels, lanes, depth).permute(1, 3, 0, 2).contiguous()


def pack_units(weight: Tensor, target: Target) -> Tensor:
    """[4H, H] to [panel, 4H, unit], a panel being four vectors of units."""
    gates, hidden = weight.shape
    width = WIDTH * target.lanes
    panels = -(-hidden // width)
    if panels * width != hidden:
        padded = weight.new_zeros(gates, panels * width)
        padded[:, :hidden] = weight
        weight = padded
    return weight.reshape(gates, panels, width).permute(1, 0, 2).contiguous()


def pack_vectors(vectors: Tensor | None, target: Target) -> Tensor | None:
    """[number, H] to [number, padded H]."""
    if vectors is None:
        return None
    return torch.nn.functional.pad(vectors, (0, -vectors.shape[1] % target.lanes)).contiguous()
