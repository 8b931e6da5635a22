"""Gradients of x, weights and biases from grad_z = dL/dz, a stretch of time steps at a time.

    dL/dx = grad_z W    dL/dW = grad_z^T x    dL/dR = grad_z^T h_before    dL/db = sum grad_z

grad_z [N, P*H] (P products, N = T*B rows) is never whole in memory: the backward time loop writes a
stretch of about 1024 rows, the matrix products read it while it is in cache, and the next stretch
overwrites it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ..layout import Layout
from .packing import in_order

__all__ = ["WeightGradients", "last_rows"]

_ROWS = 1024
"""Most rows of grad_z in a stretch of more than one time step: enough for torch.mm to reach its
peak."""


class WeightGradients:
    """The gradients of x, of state 0 before the first step, of the weights and of the biases,
    summed stretch by stretch.

    x [T, B, I] and states [T, B, H] (state 0 after every step), or [N, I] and [N, H] packed with
    batch_sizes [T]; start [B, H]: state 0 before the first step.
    """

    def __init__(
        self,
        layout: Layout,
        x: Tensor,
        start: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        states: Tensor,
        batch_sizes: Tensor | None,
        reverse: bool,
        need_x: bool,
    ) -> None:
        self.layout = layout
        self.x, self.states = x.flatten(0, -2), states.flatten(0, -2)
        self.start = start
        self.weight_ih = in_order(weight_ih, layout.from_x) if need_x else weight_ih
        self.weight_hh = in_order(weight_hh, layout.from_h)
        self.reverse = reverse
        self.batch_sizes = batch_sizes
        self.steps = len(x) if batch_sizes is None else len(batch_sizes)
        self.sizes = None if batch_sizes is None else batch_sizes.tolist()
        self.starts, self.before = self._packed_rows()
        hidden = start.shape[1]
        self.width = layout.panels * hidden
        self.end_of_x, self.begin_of_h = len(weight_ih), layout.first_from_h * hidden
        self.grad_x = torch.empty_like(x) if need_x else x.new_empty(0)
        self.grad_start = torch.empty_like(start)
        self.grad_ih: Tensor | None = None
        self.grad_hh: Tensor | None = None
        self.grad_bias: Tensor | None = None

    def stretches(self) -> Iterator[tuple[int, int, int]]:
        """Yields (first, last, address) from the last stretch to the first. The caller then writes
        grad_z of the steps first to last - 1 (counted in the order in which they were taken), row n
        at address + n rows: the address is row 0's if all of grad_z were in memory. When the next
        stretch is asked for, this one's products have been added up. The rows of the step after a
        stretch are copied beside it: the backward step at its end reads them."""
        width, item = self.width, self.x.element_size()
        last, border = self.steps, self.x.new_empty(0, width)
        batch = len(self.start)
        room = self.x.new_empty(min(len(self.x), max(_ROWS, batch) + batch), width)
        while last > 0:
            first = self._first(last)
            lo, hi = self._rows(first, last)
            begin = lo - len(border) if self.reverse else lo
            place = 0 if self.reverse else hi - lo
            if len(border):
                room[place : place + len(border)] = border
            yield first, last, room.data_ptr() - begin * width * item
            grad_z = room[lo - begin : hi - begin]
            self._add(grad_z, lo, hi)
            rows = self._size(first)
            if first:
                border = (grad_z[-rows:] if self.reverse else grad_z[:rows]).clone()
            last = first

    def results(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of weight_ih, weight_hh, bias_ih and bias_hh, each in memory of its own."""
        if self.grad_ih is None or self.grad_hh is None or self.grad_bias is None:  # T = 0
            weights = self.weight_ih, self.weight_hh
            ih, hh = map(torch.zeros_like, weights)
            return ih, hh, ih.new_zeros(len(ih)), hh.new_zeros(len(hh))
        bias_ih, bias_hh = self.grad_bias[: self.end_of_x], self.grad_bias[self.begin_of_h :]
        from_x, from_h = _inverse(self.layout.from_x), _inverse(self.layout.from_h)
        return (
            in_order(self.grad_ih, from_x),
            in_order(self.grad_hh, from_h),
            in_order(bias_ih, from_x).clone(),
            in_order(bias_hh, from_h).clone(),
        )

    def _size(self, s: int) -> int:
        """The number of rows of the s-th step taken."""
        t = self.steps - 1 - s if self.reverse else s
        return len(self.start) if self.sizes is None else int(self.sizes[t])

    def _first(self, last: int) -> int:
        """The first step of the stretch that ends before step `last`."""
        rows = first = 0
        for first in range(last - 1, -1, -1):
            rows += self._size(first)
            if rows > _ROWS:
                return min(first + 1, last - 1)
        return first

    def _rows(self, first: int, last: int) -> tuple[int, int]:
        """The rows of x, from and to (exclusive), of the steps first to last - 1."""
        a, z = (self.steps - last, self.steps - first) if self.reverse else (first, last)
        if self.sizes is None:
            return a * len(self.start), z * len(self.start)
        return sum(self.sizes[:a]), sum(self.sizes[:z])

    def _packed_rows(self) -> tuple[Tensor | None, Tensor | None]:
        """Of a packed batch: the row of x at which each batch row starts, [B], and for each row of
        x the row of the step before it in its sequence (itself at the start), [N]; of a whole batch
        None."""
        sizes = self.batch_sizes
        if sizes is None:
            return None, None
        ends = sizes.cumsum(0)
        begins = ends - sizes
        steps = torch.repeat_interleave(sizes)
        rows = torch.arange(len(self.x))
        unit = rows - begins[steps]
        if not self.reverse:
            return rows[: len(self.start)], torch.where(steps > 0, begins[steps - 1] + unit, rows)
        after = (steps + 1).clamp(max=len(sizes) - 1)
        goes_on = (steps + 1 < len(sizes)) & (unit < sizes[after])
        return last_rows(sizes), torch.where(goes_on, begins[after] + unit, rows)

    def _add(self, grad_z: Tensor, lo: int, hi: int) -> None:
        of_x = grad_z if self.end_of_x == self.width else grad_z[:, : self.end_of_x]
        if len(self.grad_x):
            torch.mm(of_x, self.weight_ih, out=self.grad_x.view(self.x.shape)[lo:hi])
        self.grad_ih = _plus(self.grad_ih, of_x, self.x[lo:hi])
        bias = grad_z.sum(0)
        self.grad_bias = bias if self.grad_bias is None else self.grad_bias.add_(bias)
        of_h = grad_z[:, self.begin_of_h :] if self.begin_of_h else grad_z
        if self.starts is None:
            self._add_whole(of_h, lo, hi)
        else:
            self._add_packed(of_h, lo, hi, self.starts)

    def _add_whole(self, grad_z: Tensor, lo: int, hi: int) -> None:
        """Add dL/dR of a stretch of a whole batch: h_before is the states one step on, a view."""
        batch = len(self.start)
        if self.reverse:
            starts = hi == len(self.x)
            later, first = (grad_z[:-batch], grad_z[-batch:]) if starts else (grad_z, None)
            before = self.states[lo + batch : lo + batch + len(later)]
        else:
            starts = lo == 0
            later, first = (grad_z[batch:], grad_z[:batch]) if starts else (grad_z, None)
            before = self.states[hi - len(later) - batch : hi - batch]
        if len(later):
            self.grad_hh = _plus(self.grad_hh, later, before)
        if first is not None:
            self.grad_hh = _plus(self.grad_hh, first, self.start)
            torch.mm(first, self.weight_hh, out=self.grad_start)

    def _add_packed(self, grad_z: Tensor, lo: int, hi: int, starts: Tensor) -> None:
        assert self.before is not None
        before = self.states[self.before[lo:hi]]
        here = ((starts >= lo) & (starts < hi)).nonzero().squeeze(1)
        places = starts[here] - lo
        before[places] = self.start[here]
        self.grad_hh = _plus(self.grad_hh, grad_z, before)
        self.grad_start[here] = grad_z[places] @ self.weight_hh


def _inverse(blocks: tuple[int, ...]) -> tuple[int, ...]:
    """The inverse of a permutation of blocks."""
    return tuple(blocks.index(k) for k in range(len(blocks)))


def _plus(total: Tensor | None, a: Tensor, b: Tensor) -> Tensor:
    """total + a^T b, in place; a^T b for None, since zeros to add to would slow a single step."""
    return torch.mm(a.t(), b) if total is None else total.addmm_(a.t(), b)


def last_rows(batch_sizes: Tensor) -> Tensor:
    """Of a packed batch: the row of x that holds each batch row's last time step, [B]."""
    rows = torch.arange(int(batch_sizes[0]))
    steps = (batch_sizes[:, None] > rows).sum(0) - 1
    return (batch_sizes.cumsum(0) - batch_sizes)[steps] + rows
