"""Gradients of x, weights and biases: what the way back through a layer is called with.

grad_z [N, P*H] (P products, N = T*B rows) is never whole in memory: the backward time loop writes a
stretch of about 1024 rows, the matrix products read it while it is in cache, and the stretch after
the next overwrites it (sweep.py).
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from .compiler import Kernels, sweep
from .packing import backward_weight, in_order, input_weight
from .products import room_size
from .sweep import SWEEP_ARGUMENTS

__all__ = ["WeightGradients", "last_rows"]

_ROWS = 1024
"""Rows of grad_z in a stretch: enough that adding to the gradients costs nothing beside."""
_Arguments = ctypes.c_int64 * len(SWEEP_ARGUMENTS)
_Counters = ctypes.c_int64 * 3


class WeightGradients:
    """The gradients of x, of state 0 before the first step, of the weights and of the biases.

    x [T, B, I] and states [T, B, H] (state 0 after every step), or [N, I] and [N, H] packed with
    batch_sizes [T]; start [B, H]: state 0 before the first step. need_start: its gradient is
    wanted.
    """

    def __init__(
        self,
        code: Kernels,
        x: Tensor,
        start: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        states: Tensor,
        batch_sizes: Tensor | None,
        offsets: Tensor | None,
        reverse: bool,
        need_x: bool,
        need_start: bool,
    ) -> None:
        self.code, self.layout = code, code.layout
        batch, hidden = start.shape
        self.steps, inputs = len(x) if batch_sizes is None else len(batch_sizes), x.shape[-1]
        rows = self.steps * batch if batch_sizes is None else len(x)
        self.width, self.end_of_x = self.layout.panels * hidden, len(weight_ih)
        self.begin_of_h = self.layout.first_from_h * hidden
        weight = input_weight(weight_ih, code, verify_bytes=True) if need_x else None
        recurrent = backward_weight(weight_hh, code, verify_bytes=True) if need_start else None
        before = None if batch_sizes is None else _rows_before(batch_sizes, rows, reverse)
        self.grad_x = torch.empty_like(x) if need_x else x.new_empty(0)
        self.grad_start = torch.empty_like(start) if need_start else None
        self.grad_ih = torch.empty_like(weight_ih, memory_format=torch.contiguous_format)
        self.grad_hh = torch.empty_like(weight_hh, memory_format=torch.contiguous_format)
        self.grad_bias = x.new_empty(self.width)
        self.apart = min(rows, max(_ROWS, batch))
        self.fixed = (
            0,
            self.steps,
            batch,
            inputs,
            hidden,
            _address(offsets),
            reverse,
            rows,
            self.width,
            self.end_of_x,
            self.begin_of_h,
            x.data_ptr(),
            states.data_ptr(),
            start.data_ptr(),
            _address(before),
            _address(weight),
            _address(recurrent),
            self.grad_x.data_ptr(),
            self.grad_ih.data_ptr(),
            self.grad_hh.data_ptr(),
            self.grad_bias.data_ptr(),
            _address(self.grad_start),
        )
        self.keep = before, weight, recurrent

    def run(self, loop: int, arguments: Any, threads: int) -> None:
        """Go back through the layer with a cell's backward_share and its arguments."""
        if not self.apart:  # no rows
            for total in (self.grad_ih, self.grad_hh, self.grad_bias):
                total.zero_()
            return
        size, turned = room_size(
            min(self.apart, _ROWS), *self.fixed[3:5], self.code.target.lanes, threads
        )
        rooms = self.grad_bias.new_empty(size + 2 * self.apart * self.width)
        room = rooms.data_ptr()
        met = _Counters()
        given = _Arguments(
            *self.fixed,
            room,
            turned,
            0,
            0,
            0,
            0,
            0,
            loop,
            ctypes.addressof(arguments),
            len(arguments),
            _ROWS,
            room + size * rooms.element_size(),
            self.apart,
            ctypes.addressof(met),
        )
        sweep(self.code.target.dtype)(given, threads)

    def results(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gradients of weight_ih, weight_hh, bias_ih and bias_hh, each in memory of its own."""
        bias_ih, bias_hh = self.grad_bias[: self.end_of_x], self.grad_bias[self.begin_of_h :]
        from_x, from_h = _inverse(self.layout.from_x), _inverse(self.layout.from_h)
        return (
            in_order(self.grad_ih, from_x),
            in_order(self.grad_hh, from_h),
            in_order(bias_ih, from_x).clone(),
            in_order(bias_hh, from_h).clone(),
        )


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _rows_before(sizes: Tensor, count: int, reverse: bool) -> Tensor:
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


def _inverse(blocks: tuple[int, ...]) -> tuple[int, ...]:
    """The inverse of a permutation of blocks."""
    return tuple(blocks.index(k) for k in range(len(blocks)))


def last_rows(batch_sizes: Tensor) -> Tensor:
    """Of a packed batch: the row of x that holds each batch row's last time step, [B]."""
    rows = torch.arange(int(batch_sizes[0]))
    steps = (batch_sizes[:, None] > rows).sum(0) - 1
    return (batch_sizes.cumsum(0) - batch_sizes)[steps] + rows
