"""Rows of packed batches, whose time steps have fewer and fewer of them."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["last_state", "offsets_of", "rows_before"]


def offsets_of(batch_sizes: Tensor | None) -> Tensor | None:
    """The first row of each time step, and the number of all."""
    if batch_sizes is None:
        return None
    return torch.cat([batch_sizes.new_zeros(1), batch_sizes.cumsum(0)])


def rows_before(sizes: Tensor, count: int, reverse: bool) -> Tensor:
    """Of a packed batch: for each row of x the row of the step before it in its sequence, or -1 - b
    where it is the first of batch row b, [N]."""
    begins = sizes.cumsum(0) - sizes
    steps = torch.repeat_interleave(sizes)
    unit = torch.arange(count) - begins[steps]
    if not reverse:
        return torch.where(steps > 0, begins[steps - 1] + unit, -1 - unit)
    after = (steps + 1).clamp(max=len(sizes) - 1)
    goes_on = (steps + 1 < len(sizes)) & (unit < sizes[after])
    return torch.where(goes_on, begins[after] + unit, -1 - unit)


def _last_rows(batch_sizes: Tensor) -> Tensor:
    """Of a packed batch: the row of x that holds each batch row's last time step, [B]."""
    rows = torch.arange(int(batch_sizes[0]))
    steps = (batch_sizes[:, None] > rows).sum(0) - 1
    return (batch_sizes.cumsum(0) - batch_sizes)[steps] + rows


def last_state(
    kept: Tensor, like: Tensor, start: Tensor, batch_sizes: Tensor | None, reverse: bool
) -> Tensor:
    """A state of each row after the last step it took, of `kept` [T, B, H] or [N, H], in the shape
    of `like`; of `start` if there was no step. A copy and never a view of one, which autograd would
    let nobody change in place."""
    if batch_sizes is None:
        steps = kept.shape[0]
        if not steps:
            return start.view(like.shape).clone()
        last = kept if steps == 1 else kept.select(0, 0 if reverse else -1)
        return last.view(like.shape).clone()
    if reverse:
        return kept[: like.shape[-2]].view(like.shape).clone()
    return kept[_last_rows(batch_sizes).view(like.shape[:-1])]
