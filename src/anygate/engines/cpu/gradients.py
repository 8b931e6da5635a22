"""Gradients of x, weights and biases from grad_z = dL/dz, a stretch of time steps at a time.

    dL/dx = grad_z W    dL/dW = grad_z^T x    dL/dR = grad_z^T h_before    dL/db = sum grad_z

grad_z [N, P*H] (P products, N = T*B rows) is never whole in memory: the backward time loop writes a
stretch of about 1024 rows, the matrix products read it while it is in cache, and the next stretch
overwrites it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import torch
from torch import Tensor

from .compiler import Kernels, products
from .packing import backward_weight, in_order, input_weight
from .products import ARGUMENTS, room_size

__all__ = ["WeightGradients", "last_rows"]

_ROWS = 1024
"""Rows of grad_z in a stretch: enough that adding to the gradients costs nothing beside."""
_Arguments = ctypes.c_int64 * len(ARGUMENTS)


class WeightGradients:
    """The gradients of x, of state 0 before the first step, of the weights and of the biases,
    summed stretch by stretch.

    x [T, B, I] and states [T, B, H] (state 0 after every step), or [N, I] and [N, H] packed with
    batch_sizes [T]; start [B, H]: state 0 before the first step.
    """

    def __init__(
        self,
        code: Kernels,
        threads: int,
        x: Tensor,
        start: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        states: Tensor,
        batch_sizes: Tensor | None,
        reverse: bool,
        need_x: bool,
    ) -> None:
        self.layout = layout = code.layout
        self.threads = threads
        self.x, self.states = x.flatten(0, -2), states.flatten(0, -2)
        self.start = start
        self.run = products(code.target.dtype)
        weight = input_weight(weight_ih, code, verify_bytes=True) if need_x else None
        self.packed = weight, backward_weight(weight_hh, code, verify_bytes=True)
        self.weight_hh = weight_hh if batch_sizes is None else in_order(weight_hh, layout.from_h)
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
        self.grad_ih = torch.empty_like(weight_ih, memory_format=torch.contiguous_format)
        self.grad_hh = torch.empty_like(weight_hh, memory_format=torch.contiguous_format)
        self.grad_bias = x.new_empty(self.width)
        self.begun = False
        rows = min(len(self.x), max(_ROWS, len(start)))
        size = room_size(min(rows, _ROWS), x.shape[-1], hidden, code.target.lanes)
        self.room = x.new_empty(threads * size)

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
        if not self.begun:  # no rows
            for total in (self.grad_ih, self.grad_hh, self.grad_bias):
                total.zero_()
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
        """A stretch's share of everything."""
        batch, states = len(self.start), self.states
        starts: tuple[int, int] | None = None  # the rows of which self.start is the state before
        if self.starts is not None:
            pieces = [self._before_packed(lo, hi)]
        elif self.reverse:
            pieces = [states[lo + batch : min(hi + batch, len(states))]]
            if hi == len(self.x):
                pieces, starts = [*pieces, self.start], (hi - batch, hi)
        else:
            pieces = [states[max(0, lo - batch) : hi - batch]]
            if lo == 0:
                pieces, starts = [self.start, *pieces], (0, batch)
        first, second = pieces if len(pieces) == 2 else (pieces[0], pieces[0][:0])
        for begin in range(0, hi - lo, _ROWS):
            end = min(begin + _ROWS, hi - lo)
            before = first[begin:end]
            rest = second[max(0, begin - len(first)) : max(0, end - len(first))]
            here = None
            if starts is not None:
                here = max(starts[0], lo + begin), min(starts[1], lo + end)
            self._call(grad_z[begin:end], lo + begin, before, rest, here)
        if self.starts is not None:
            self._start_packed(grad_z, lo, hi, self.starts)

    def _call(
        self,
        grad_z: Tensor,
        lo: int,
        before: Tensor,
        after: Tensor,
        starts: tuple[int, int] | None,
    ) -> None:
        rows, hidden = len(grad_z), self.start.shape[1]
        weight, recurrent = self.packed
        grad_x = self.grad_x.view(self.x.shape)[lo].data_ptr() if len(self.grad_x) else 0
        begin, end = (0, 0) if starts is None or starts[0] >= starts[1] else starts
        first = begin if self.reverse is False else begin - (len(self.x) - len(self.start))
        arguments = _Arguments(
            0,
            rows,
            self.width,
            hidden,
            self.x.shape[1],
            self.end_of_x,
            self.begin_of_h,
            grad_z.data_ptr(),
            self.x[lo].data_ptr(),
            before.data_ptr(),
            len(before),
            after.data_ptr(),
            0 if weight is None else weight.data_ptr(),
            recurrent.data_ptr(),
            grad_x,
            self.grad_ih.data_ptr(),
            self.grad_hh.data_ptr(),
            self.grad_bias.data_ptr(),
            self.grad_start[first].data_ptr() if end > begin else 0,
            begin - lo,
            end - begin,
            self.begun,
            self.room.data_ptr(),
        )
        self.run(arguments, self.threads)
        self.begun = True

    def _before_packed(self, lo: int, hi: int) -> Tensor:
        """The states before the rows of a stretch."""
        assert self.before is not None and self.starts is not None
        before = self.states[self.before[lo:hi]]
        here = ((self.starts >= lo) & (self.starts < hi)).nonzero().squeeze(1)
        before[self.starts[here] - lo] = self.start[here]
        return before

    def _start_packed(self, grad_z: Tensor, lo: int, hi: int, starts: Tensor) -> None:
        here = ((starts >= lo) & (starts < hi)).nonzero().squeeze(1)
        of_h = grad_z[starts[here] - lo, self.begin_of_h :]
        self.grad_start[here] = of_h @ self.weight_hh


def _inverse(blocks: tuple[int, ...]) -> tuple[int, ...]:
    """The inverse of a permutation of blocks."""
    return tuple(blocks.index(k) for k in range(len(blocks)))


def last_rows(batch_sizes: Tensor) -> Tensor:
    """Of a packed batch: the row of x that holds each batch row's last time step, [B]."""
    rows = torch.arange(int(batch_sizes[0]))
    steps = (batch_sizes[:, None] > rows).sum(0) - 1
    return (batch_sizes.cumsum(0) - batch_sizes)[steps] + rows
