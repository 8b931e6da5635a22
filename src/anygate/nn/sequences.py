"""Lengths, masks and resets: a batch with holes as a packed batch of its unbroken sequences.

A row of the batch is cut into segments: its valid steps between one reset and the next. Segments,
sorted by length, are a packed batch, which every engine runs; gradients pass through the picking
and placing of rows. So a step that is not valid costs nothing, and no engine knows of masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..engines.protocol import Layer, Result

__all__ = ["Segments", "read_steps"]


def read_steps(
    x: Tensor,
    lengths: Any,
    mask: Any,
    reset: Any,
    batch_first: bool,
) -> Segments | None:
    """The segments of a batch x [T, B, I]; None where nothing is masked or reset.

    lengths [B]: row b has lengths[b] steps, from 0 to T. mask [T, B] ([B, T] with batch_first):
    True where a step is valid. reset, of the same shape: True where a new sequence begins, so that
    the states before this step are zeros. Raises ValueError or TypeError for what does not fit.
    """
    steps, batch = x.shape[:2]
    valid = torch.ones(steps, batch, dtype=torch.bool, device=x.device)
    if lengths is not None:
        lengths = torch.as_tensor(lengths, device=x.device)
        if lengths.shape != (batch,) or lengths.is_floating_point() or lengths.is_complex():
            raise ValueError(
                f"lengths is one whole number for each of the {batch} rows, not "
                f"{lengths.dtype} of shape {list(lengths.shape)}"
            )
        if batch and not (int(lengths.min()) >= 0 and int(lengths.max()) <= steps):
            raise ValueError(
                f"lengths lie between 0 and the {steps} steps of the input, not between "
                f"{int(lengths.min())} and {int(lengths.max())}"
            )
        valid = torch.arange(steps, device=x.device)[:, None] < lengths
    if mask is not None:
        valid = valid & _flags("mask", mask, x, batch_first)
    cuts = torch.zeros_like(valid)
    if reset is not None:
        cuts = _flags("reset", reset, x, batch_first)
    if lengths is None and mask is None and not bool(cuts.any()):
        return None
    return Segments.of(valid, cuts)


def _flags(name: str, flags: Any, x: Tensor, batch_first: bool) -> Tensor:
    """The mask or reset of this name as booleans [T, B]."""
    flags = torch.as_tensor(flags, device=x.device)
    steps, batch = x.shape[:2]
    shape = (batch, steps) if batch_first else (steps, batch)
    if flags.shape != shape:
        raise ValueError(f"{name} must be {list(shape)}, as the input, not {list(flags.shape)}")
    flags = flags.transpose(0, 1) if batch_first else flags
    found: Tensor = flags != 0
    if not bool((flags == found).all()):
        raise ValueError(f"{name} holds True and False, or 1 and 0, and nothing between")
    return found


@dataclass(frozen=True)
class Segments:
    """The places of a batch's steps [T, B] in a packed batch of S segments with N steps in all.

    A cut is the place before a step at which `reset` is True. place [N]: t*B + b of each packed
    row. batch_sizes: of the pack. row [S]: the batch row that a segment is of. first, last [S]:
    True where no cut lies before, or after, the segment in its row. starts, ends [B]: the segment
    of a row that no cut lies before, or after; -1 where that stretch has no valid step. crossed
    [2, B]: True where a cut lies in the row, met forward and backward (a cut before step 0 is not
    met backward).
    """

    steps: int
    batch: int
    place: Tensor
    batch_sizes: Tensor
    row: Tensor
    first: Tensor
    last: Tensor
    starts: Tensor
    ends: Tensor
    crossed: Tensor

    @classmethod
    def of(cls, valid: Tensor, cuts: Tensor) -> Segments:
        """The segments of valid steps; valid, cuts: booleans [T, B], a cut before its step."""
        steps, batch = valid.shape
        device = valid.device
        count = cuts.long().cumsum(0)  # how many cuts lie before each step
        per_row = steps + 1
        key = torch.arange(batch, device=device) * per_row + count  # segments by row, then in time
        t, b = valid.nonzero(as_tuple=True)
        order = torch.argsort(key[t, b] * steps + t)
        t, b = t[order], b[order]
        keys, member, sizes = torch.unique_consecutive(
            key[t, b], return_inverse=True, return_counts=True
        )
        by_size = torch.argsort(sizes, descending=True, stable=True)
        rank = torch.empty_like(by_size)
        rank[by_size] = torch.arange(len(by_size), device=device)
        within = torch.arange(len(t), device=device) - (sizes.cumsum(0) - sizes)[member]
        longest = int(sizes.max()) if len(sizes) else 0
        batch_sizes = (sizes[:, None] > torch.arange(longest, device=device)).sum(0)
        begins = batch_sizes.cumsum(0) - batch_sizes
        place = torch.empty_like(t)
        place[begins[within] + rank[member]] = t * batch + b
        row = keys // per_row
        cut = keys % per_row
        before_first = count[0] if steps else count.new_zeros(batch)
        after_last = count[-1] if steps else count.new_zeros(batch)
        nothing = torch.full((batch,), -1, dtype=torch.long, device=device)
        starts, ends = nothing.clone(), nothing.clone()
        opens, closes = cut == before_first[row], cut == after_last[row]
        starts[row[opens]] = rank[opens]
        ends[row[closes]] = rank[closes]
        first = torch.empty_like(opens)
        last = torch.empty_like(closes)
        first[rank], last[rank] = opens & (before_first[row] == 0), closes
        segment_row = torch.empty_like(row)
        segment_row[rank] = row
        return cls(
            steps,
            batch,
            place,
            batch_sizes.cpu(),
            segment_row,
            first,
            last,
            starts,
            ends,
            torch.stack([after_last > 0, after_last > before_first]),
        )

    def pack(self, layer: Layer) -> Layer:
        """The layer of a whole batch as one of segments. The states go to the segments that are
        first in the direction of the layer; the others begin with zeros."""
        begins = self.last if layer.reverse else self.first
        states = tuple(torch.where(begins[:, None], state[self.row], 0.0) for state in layer.states)
        x = layer.x.flatten(0, 1)[self.place]
        return layer._replace(x=x, states=states, batch_sizes=self.batch_sizes)

    def unpack(self, layer: Layer, result: Result) -> Result:
        """The result of the whole batch from that of `pack(layer)`: zeros at steps that are not
        valid; as final states those after a row's last valid step, or the given ones without."""
        ends = self.starts if layer.reverse else self.ends
        crossed = self.crossed[1 if layer.reverse else 0]
        found = []
        for start, state in zip(layer.states, result.states, strict=True):
            kept = torch.where(crossed[:, None], torch.zeros_like(start), start)
            if len(state):
                kept = torch.where((ends >= 0)[:, None], state[ends.clamp(min=0)], kept)
            found.append(kept)
        kept_all = None
        if result.kept is not None:
            kept_all = tuple(self._to_whole_batch(state) for state in result.kept)
        return Result(self._to_whole_batch(result.output), tuple(found), kept_all)

    def nothing(self, layer: Layer, size: int, keep: bool) -> Result:
        """The result for a batch without a valid step. size: features of the output."""
        start, *others = layer.states
        empty = Result(start.new_zeros(0, size), tuple(s[:0] for s in layer.states))
        if keep:
            kept = start.new_zeros(0, size), *(s.new_zeros(0, s.shape[-1]) for s in others)
            empty = empty._replace(kept=kept)
        return self.unpack(layer, empty)

    def _to_whole_batch(self, packed: Tensor) -> Tensor:
        """[N, H] to [T, B, H]."""
        whole = packed.new_zeros(self.steps * self.batch, packed.shape[-1])
        return whole.index_copy(0, self.place, packed).view(self.steps, self.batch, -1)
