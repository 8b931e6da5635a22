"""Weights in the order in which the kernels read them, made once for each version of a weight."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..layout import Layout
from . import amx
from .compiler import Kernels
from .emit import Target
from .tile import WIDTH

__all__ = [
    "Packed",
    "backward_parts",
    "backward_weight",
    "forward_entry",
    "forward_parts",
    "forward_weights",
    "in_order",
    "input_weight",
    "pack_panels",
    "pack_units",
    "pack_vectors",
]

Packed = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""weight_ih, weight_hh and the sum of the biases as the forward loop reads them, and the sum of the
biases of the products that see x, in the order of weight_ih, if there are biases."""

_SMALL = 1 << 18
"""Bytes that are read in 3 us."""


@dataclass
class _Entry:
    """A packed copy (`made`), and the state of the tensors before it was made. It is published
    whole, so that another thread finds all of it or nothing, and never changed but for
    `is_current`, which ends when a newer copy takes its place."""

    storages: list[weakref.ref[torch.UntypedStorage]]
    table: Any
    versions: list[int]
    sample: int
    fingerprint: int
    small: bool
    made: Any
    is_current: bool = True

    def is_fresh(self, tensors: tuple[Tensor, ...], code: Kernels, verify_bytes: bool) -> bool:
        """True while the tensors, which lie where they lay, hold what they held."""
        count = len(tensors)
        if verify_bytes or self.small:
            return code.fingerprint(self.table, count) == self.fingerprint
        return self.is_same_memory(tensors) and code.sample(self.table, count) == self.sample

    def is_same_memory(self, tensors: Sequence[Tensor]) -> bool:
        """True while storages and versions are what they were."""
        pairs = zip(self.storages, tensors, strict=True)
        same = all(storage() is tensor.untyped_storage() for storage, tensor in pairs)
        return same and self.versions == _versions(tensors)


class _Kept:
    """A cache of packed copies of tensors, each until a tensor changes or its memory is freed.

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

    def of(self, tensors: tuple[Tensor, ...], code: Kernels, verify_bytes: bool) -> Any:
        """`make(code, *tensors)`, or what it gave before for these tensors as they are."""
        for tensor in tensors:  # a transposed weight has the address and the bytes of another
            if not tensor.is_contiguous():
                return self.make(code, *tensors)
        return self.entry(tensors, code, verify_bytes).made

    def entry(self, tensors: tuple[Tensor, ...], code: Kernels, verify_bytes: bool) -> _Entry:
        """Facts about contiguous tensors as they are."""
        key = (code.target, code.layout.weights, *[(t.data_ptr(), t.shape) for t in tensors])
        entry = self.found.get(key)
        if entry is None or not entry.is_fresh(tensors, code, verify_bytes):
            newer = self._entry(key, tensors, code)
            if entry is not None:
                entry.is_current = False
            entry = self.found[key] = newer
        return entry

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


def _versions(tensors: Sequence[Tensor]) -> list[int]:
    try:
        return [t._version for t in tensors]
    except RuntimeError:  # inference tensors have none
        return []


def _forward_weights(code: Kernels, *weights: Tensor) -> Packed:
    layout = code.layout
    _check_shapes(layout, *weights)
    weight_ih, weight_hh, *biases = (w.detach() for w in weights)
    hidden = weight_hh.shape[1]
    bias, bias_of_x = weight_hh.new_zeros(layout.panels, hidden), None
    if biases:
        bias_ih, bias_hh = (b.view(-1, hidden) for b in biases)
        bias, bias_of_x = _sum_biases(layout, bias_ih, bias_hh)
    return (
        pack_panels(code, weight_ih, layout.from_x, hidden),
        pack_panels(code, weight_hh, layout.from_h, hidden),
        pack_panels(code, bias.view(-1, 1), tuple(range(layout.panels)), hidden),
        bias_of_x,
    )


def _sum_biases(layout: Layout, bias_ih: Tensor, bias_hh: Tensor) -> tuple[Tensor, Tensor]:
    """The bias of each panel [P, H]; and of the products that see x, in the order of weight_ih,
    [n_x*H]."""
    first, count = layout.first_from_h, len(layout.from_x)
    if layout.from_x == layout.from_h == tuple(range(layout.panels)):
        both = bias_ih + bias_hh
        return both, both.flatten()
    from_x, from_h = bias_ih[list(layout.from_x)], bias_hh[list(layout.from_h)]
    both = from_x[first:] + from_h[: count - first]
    bias = torch.cat([from_x[:first], both, from_h[count - first :]])
    of_x = torch.empty_like(bias_ih)
    of_x[list(layout.from_x)] = bias[:count]
    return bias, of_x.flatten()


def _check_shapes(layout: Layout, weight_ih: Tensor, weight_hh: Tensor, *biases: Tensor) -> None:
    """Raises ValueError for weights that do not fit: machine code would read beyond them."""
    hidden = weight_hh.shape[-1]
    rows = [len(layout.from_x) * hidden, len(layout.from_h) * hidden]
    fits = weight_ih.dim() == weight_hh.dim() == 2
    fits = fits and [len(weight_ih), len(weight_hh)] == rows
    fits = fits and [list(b.shape) for b in biases] in ([], [[n] for n in rows])
    if not fits or any(b.dtype != weight_hh.dtype for b in biases):
        shapes = ", ".join(str(list(w.shape)) for w in (weight_ih, weight_hh, *biases))
        x, h = len(layout.from_x), len(layout.from_h)
        raise ValueError(
            f"weight_ih, weight_hh and the biases must be [{x}H, I], [{h}H, H], [{x}H] and [{h}H] "
            f"of one dtype, not {shapes}"
        )


def _forward_parts(code: Kernels, *weights: Tensor) -> Packed | None:
    weight, recurrent, bias, bias_of_x = _forward_weights(code, *weights)
    few = weight.shape[1] < amx.FEW_INPUTS
    parts = _parts(code, *([recurrent] if few else [weight, recurrent]))
    return None if parts is None else (weight, parts, bias, bias_of_x)


def _backward_weight(code: Kernels, weight_hh: Tensor) -> Tensor:
    return pack_units(in_order(weight_hh.detach(), code.layout.from_h), code.target)


def _backward_parts(code: Kernels, weight_hh: Tensor) -> Tensor | None:
    hidden = weight_hh.shape[1]
    whole = in_order(weight_hh.detach(), code.layout.from_h).view(4, hidden, hidden)
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


def _input_weight(code: Kernels, weight_ih: Tensor) -> Tensor:
    return pack_units(in_order(weight_ih.detach(), code.layout.from_x), code.target)


_forward, _backward = _Kept(_forward_weights), _Kept(_backward_weight)
_input = _Kept(_input_weight)
_forward_tiles, _backward_tiles = _Kept(_forward_parts), _Kept(_backward_parts)


def forward_weights(
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    code: Kernels,
    verify_bytes: bool,
) -> Packed:
    """The weights as the forward loop reads them; verify_bytes: a change of a single element is
    seen."""
    weights = _present(weight_ih, weight_hh, bias_ih, bias_hh)
    return _forward.of(weights, code, verify_bytes)  # type: ignore[no-any-return]


def forward_entry(weights: tuple[Tensor, ...], code: Kernels) -> _Entry:
    """`forward_weights` of contiguous weights, with what tells that they have changed."""
    return _forward.entry(weights, code, verify_bytes=True)


def forward_parts(
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    code: Kernels,
    verify_bytes: bool,
) -> Packed | None:
    """The same with both weights as parts for tiles (with few inputs weight_hh alone) in the place
    of weight_hh; None if a weight is too large."""
    weights = _present(weight_ih, weight_hh, bias_ih, bias_hh)
    return _forward_tiles.of(weights, code, verify_bytes)  # type: ignore[no-any-return]


def _present(*tensors: Tensor | None) -> tuple[Tensor, ...]:
    return tuple(t for t in tensors if t is not None)


def backward_weight(weight_hh: Tensor, code: Kernels, verify_bytes: bool) -> Tensor:
    """weight_hh as the backward loop reads it."""
    return _backward.of((weight_hh,), code, verify_bytes)  # type: ignore[no-any-return]


def input_weight(weight_ih: Tensor, code: Kernels, verify_bytes: bool) -> Tensor:
    """weight_ih as the gradient of x reads it."""
    return _input.of((weight_ih,), code, verify_bytes)  # type: ignore[no-any-return]


def backward_parts(weight_hh: Tensor, code: Kernels, verify_bytes: bool) -> Tensor | None:
    """The same for tiles; None if a weight is too large."""
    return _backward_tiles.of((weight_hh,), code, verify_bytes)  # type: ignore[no-any-return]


def in_order(weight: Tensor, blocks: tuple[int, ...]) -> Tensor:
    """[n*H, ...] with its blocks of H rows in this order."""
    if blocks == tuple(range(len(blocks))):
        return weight
    apart = weight.reshape(len(blocks), -1, *weight.shape[1:])
    return apart[list(blocks)].flatten(0, 1)


def pack_panels(code: Kernels, weight: Tensor, blocks: tuple[int, ...], hidden: int) -> Tensor:
    """[n*H, K] to [group, K, n, lane], the n blocks of H rows in the order given: one row of a
    group of units is what a tile multiplies at once. Units beyond H are zeros."""
    count, lanes, depth = len(blocks), code.target.lanes, weight.shape[1]
    weight = weight.contiguous()
    packed = weight.new_empty(-(-hidden // lanes), depth, count, lanes)
    order = (ctypes.c_int64 * count)(*blocks)
    places = weight.data_ptr(), ctypes.addressof(order), packed.data_ptr()
    code.pack_panels(*places, count, hidden, depth)
    return packed


def pack_units(weight: Tensor, target: Target) -> Tensor:
    """[n*H, N] to [panel, n*H, column], a panel being four vectors of columns."""
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
