"""Gradients of x, weights and biases: what the way back through a layer is called with.

grad_z [N, P*H] (P products, N = T*B rows) is never whole in memory: the backward time loop writes a
stretch of about 1024 rows, the matrix products read it while it is in cache, and the stretch after
the next overwrites it (sweep.py).
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .compiler import Kernels, sweep
from .memory import borrowed, give_back
from .packing import backward_weight, input_weight
from .products import room_size
from .rows import rows_before
from .sweep import SWEEP_ARGUMENTS

__all__ = ["Gradients", "WayBack"]

_ROWS = 1024
"""Rows of grad_z in a stretch: enough that adding to the gradients costs nothing beside."""
_Arguments = ctypes.c_int64 * len(SWEEP_ARGUMENTS)
_Counters = ctypes.c_int64 * 3


class Gradients(NamedTuple):
    """Gradients of x and of state 0 before the first step (None: not asked for), of the weights and
    of the biases, each in memory of its own."""

    x: Tensor | None
    start: Tensor | None
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor


class WayBack:
    """The way back through layers of these sizes. rows: N, those of a pack or T*B."""

    def __init__(
        self,
        code: Kernels,
        steps: int,
        batch: int,
        inputs: int,
        hidden: int,
        rows: int,
        reverse: bool,
    ) -> None:
        layout = code.layout
        self.code, self.rows, self.most = code, rows, _ROWS
        self.sizes = steps, batch, inputs, hidden
        self.width = layout.panels * hidden
        self.of_x, self.of_h = (len(blocks) * hidden for blocks in (layout.from_x, layout.from_h))
        self.begin_of_h = layout.first_from_h * hidden
        self.facts = reverse, rows, self.width, self.of_x, self.begin_of_h
        blocks = layout.from_x, layout.from_h
        self.orders = [None if _in_place(b) else (ctypes.c_int64 * len(b))(*b) for b in blocks]
        self.order_x, self.order_h = (_order(b, hidden) for b in blocks)
        self.at_orders = [0 if order is None else ctypes.addressof(order) for order in self.orders]
        self.apart = min(rows, max(_ROWS, batch))
        self.bias_in_place = self.of_x == self.of_h == self.width
        self.run_sweep = sweep(code.target.dtype)

    def run(
        self,
        arguments: Any,
        threads: int,
        x: Tensor,
        states: int,
        start: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        need_x: bool,
        need_start: bool,
        batch_sizes: Tensor | None = None,
        offsets: Tensor | None = None,
    ) -> Gradients:
        """arguments: those of the cell's backward_share. x [T, B, I], or [N, I] packed with
        batch_sizes [T]; states: the address of state 0 after every step, [N, H]; start [B, H]:
        state 0 before the first step. All contiguous."""
        code, (_, _, inputs, hidden) = self.code, self.sizes
        weight = input_weight(weight_ih, code, verify_bytes=True) if need_x else None
        recurrent = backward_weight(weight_hh, code, verify_bytes=True) if need_start else None
        before = None
        if batch_sizes is not None:
            before = rows_before(batch_sizes, self.rows, bool(self.facts[0]))
        empty = x.new_empty
        grad_x = torch.empty_like(x) if need_x else None
        grad_start = torch.empty_like(start) if need_start else None
        grad_ih, grad_hh = empty(self.of_x, inputs), empty(self.of_h, hidden)
        grad_bias = empty(self.width)
        if self.rows:
            rows = min(self.apart, self.most)
            size, turned = room_size(rows, inputs, hidden, code.target.lanes, threads)
            both = size + 2 * self.apart * self.width
            rooms, met = borrowed(both * x.element_size()), _Counters()
            room = rooms.data_ptr()
            given = _Arguments(
                0,
                *self.sizes,
                _address(offsets),
                *self.facts,
                x.data_ptr(),
                states,
                start.data_ptr(),
                _address(before),
                _address(weight),
                _address(recurrent),
                _address(grad_x),
                grad_ih.data_ptr(),
                grad_hh.data_ptr(),
                grad_bias.data_ptr(),
                _address(grad_start),
                *self.at_orders,
                room,
                turned,
                0,
                0,
                0,
                0,
                0,
                code.backward,
                ctypes.addressof(arguments),
                len(arguments),
                self.most,
                room + size * x.element_size(),
                self.apart,
                ctypes.addressof(met),
            )
            self.run_sweep(given, threads)
            give_back(rooms)
        else:
            for total in (grad_ih, grad_hh, grad_bias):
                total.zero_()
        if self.bias_in_place:
            bias_ih, bias_hh = grad_bias, grad_bias.clone()
        else:
            bias_ih, bias_hh = grad_bias[: self.of_x], grad_bias[self.begin_of_h :].clone()
        if self.order_x is not None:
            bias_ih = bias_ih.index_select(0, self.order_x)
        if self.order_h is not None:
            bias_hh = bias_hh.index_select(0, self.order_h)
        return Gradients(grad_x, grad_start, grad_ih, grad_hh, bias_ih, bias_hh)


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _in_place(blocks: tuple[int, ...]) -> bool:
    return blocks == tuple(range(len(blocks)))


def _order(blocks: tuple[int, ...], hidden: int) -> Tensor | None:
    """The row of a gradient, whose blocks of H rows lie as the kernels have them, for each row of
    the weight; None where the order is the same."""
    if _in_place(blocks):
        return None
    places = [blocks.index(k) for k in range(len(blocks))]
    return (torch.tensor(places)[:, None] * hidden + torch.arange(hidden)).flatten()
