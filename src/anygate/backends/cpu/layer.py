"""One direction of one layer: what the machine code is called with."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ...symbolic.measures import NORMS, NUMBERS
from . import amx
from .backward import BACKWARD
from .compiler import Kernels
from .forward import FORWARD
from .gradients import WeightGradients, last_rows
from .memory import large
from .openmp import team_size
from .packing import (
    backward_parts,
    backward_weight,
    forward_parts,
    forward_weights,
    pack_vectors,
)
from .tile import WIDTH

__all__ = ["backward", "forward"]

_ForwardArguments, _BackwardArguments = (ctypes.c_int64 * len(k) for k in (FORWARD, BACKWARD))
"""What the machine code reads: numbers, and addresses of tensors that live until it has run."""
Measures = Callable[[Tensor], None]
_SMALL = 400_000
"""Multiply-adds in a whole sequence below which a second thread costs more than it brings."""
_SMALL_STEP = 10_000
"""Multiply-adds in a time step below which waiting for another thread costs more than its help: at
B=1, two threads need 0.88 of one's time with H=64, 0.74 with H=128, 0.67 with H=256 (Xeon)."""
_LARGE_WEIGHTS = 1 << 22
"""Bytes of weights above which, in inference, each thread keeps to its own hidden units: [100 64
256 512] takes 60.1 ms then, 65.4 by rows (Xeon, 2 MiB of second-level cache a core). Training is
slower so, 212 ms for 188."""
_TILE_ROWS = 16
"""With fewer batch rows for a thread than this, or half of it where few weights are read, tiles are
not faster than vectors: one thread takes 0.79 of the time at [100 8 64 128], but 1.12 at
[20 8 64 256], 1.05 at [20 7 64 256] (Xeon)."""
_TILE_UNITS = 64
"""With fewer hidden units tiles are not faster: at [40 32 8 32] 1.08 of the time, at [20 24 8 64]
0.95."""
_LARGE_PARTS = 1 << 20
"""The same as _LARGE_WEIGHTS for products by tiles, which read 6 bytes for each 4."""
_FEW_ROWS = 4
"""With fewer batch rows than this the input's share of z is one product for all steps: a tile of
one row reads all of W from memory at each step, a product over time reads it once."""


def forward(
    code: Kernels,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    vectors: Tensor | None,
    batch_sizes: Tensor | None,
    reverse: bool,
    training: bool,
    measures: Measures | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """x [T, B, I], or [N, I] packed with batch_sizes [T]. output [T, B, H] ([N, H]), h and c [B, H]
    after each row's last step, saved [T, B, 4H] and cells [T, B, H]; the last two only for
    training. measures: told what a measuring kernel found, [threads, T, NUMBERS]."""
    target = code.target
    batch, hidden = h0.shape[-2:]
    shape = x.shape
    steps = shape[0] if batch_sizes is None else len(batch_sizes)
    inputs = shape[-1]
    x, h0, c0 = x.contiguous(), h0.contiguous(), c0.contiguous()
    rows = shape[0] * batch if batch_sizes is None else shape[0]
    if not (x.is_cpu and h0.is_cpu and c0.is_cpu and weight_ih.is_cpu and weight_hh.is_cpu):
        raise RuntimeError("input, state and weights must all be on the CPU")
    dtypes = {x.dtype, h0.dtype, c0.dtype, weight_ih.dtype, weight_hh.dtype}
    if len(dtypes) > 1:
        raise ValueError(f"input, state and weights must have one dtype, not {dtypes}")
    if c0.shape != h0.shape or x.numel() != rows * inputs:  # machine code would read on
        raise ValueError(
            f"x {list(shape)}, h0 {list(h0.shape)} and c0 {list(c0.shape)} do not fit together"
        )
    weights = weight_ih, weight_hh, bias_ih, bias_hh
    thorough = training or steps > 1
    before = batch < _FEW_ROWS and steps > 1
    depth = hidden if before else inputs + hidden
    team = _team(target.lanes, steps, batch, depth - hidden, hidden)
    size = 4 * hidden * depth * x.element_size()
    few = size <= _LARGE_PARTS // 2
    tiled = None
    if not before and (tiles := _tiles(code, team, batch, hidden, few)):
        tiled = forward_parts(*weights, tiles, thorough)
        code = tiles if tiled else code
    weight, recurrent, bias = tiled or forward_weights(*weights, code, thorough)
    if weight_ih.shape != (4 * hidden, inputs) or (vectors is not None and vectors.dim() != 2):
        raise ValueError(
            f"weight_ih {list(weight_ih.shape)} does not fit hidden size {hidden} and input size "
            f"{inputs}"
        )
    z_x = None
    if before:
        both = None if bias_ih is None or bias_hh is None else bias_ih + bias_hh
        z_x = torch.nn.functional.linear(x, weight_ih, both)
        inputs = 0
    packed_vectors = pack_vectors(vectors, target)
    offsets = _offsets(batch_sizes)
    output = x.new_empty((*shape[:-1], hidden))
    saved = large((*shape[:-1], 4 * hidden), x) if training else None
    cells = large(output.shape, x) if training else None
    c = c0 if training else c0.clone()
    threads, by_units = team
    if not training and size > (_LARGE_PARTS if tiled else _LARGE_WEIGHTS):
        by_units = threads > 1
    parts, x_blocks = None, 0
    if tiled:
        x_blocks = -(-inputs // amx.DEPTH) if inputs >= amx.FEW_INPUTS else 0
        parts = _room(batch, threads, by_units, x_blocks + -(-hidden // amx.DEPTH))
    table = None if measures is None else _table(threads, steps, NUMBERS)
    arrived = ctypes.c_int64(0)
    arguments = _ForwardArguments(
        steps, batch, inputs, hidden, _address(offsets), x.data_ptr(), _address(z_x),
        weight.data_ptr(), recurrent.data_ptr(), bias.data_ptr(), _address(packed_vectors),
        h0.data_ptr(), c.data_ptr(), output.data_ptr(), _address(c if cells is None else cells),
        training, _address(saved), reverse, by_units, ctypes.addressof(arrived), _address(table),
        _address(parts), x_blocks,
    )  # fmt: skip
    code.forward(arguments, threads)
    if measures is not None and table is not None:
        measures(table)
    h = _last(output, h0, batch_sizes, reverse)
    if cells is not None:
        c = _last(cells, c, batch_sizes, reverse)
    return output, h, c, saved, cells


def backward(
    code: Kernels,
    grad_output: Tensor | None,
    grad_h: Tensor | None,
    grad_c: Tensor | None,
    x: Tensor,
    h0: Tensor,
    c0: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    vectors: Tensor | None,
    batch_sizes: Tensor | None,
    output: Tensor,
    saved: Tensor,
    cells: Tensor,
    reverse: bool,
    need_x: bool,
    measures: Measures | None = None,
) -> tuple[Tensor, ...]:
    """Gradients of x (empty unless need_x), h0, c0, weight_ih, weight_hh, each of the biases, and
    vectors (empty without). measures: told what a measuring kernel found, [threads, T, NORMS].
    Raises RuntimeError if the forward run saved nothing."""
    batch, hidden = h0.shape
    if saved.numel() != 4 * output.numel() or cells.shape != output.shape:
        raise RuntimeError("anygate: backward of a forward that ran without training=True")
    steps = len(x) if batch_sizes is None else len(batch_sizes)
    x, h0, c0 = x.contiguous(), h0.contiguous(), c0.contiguous()
    grad_output = torch.zeros_like(output) if grad_output is None else grad_output.contiguous()
    grad_h = torch.zeros_like(h0) if grad_h is None else grad_h.contiguous()
    grad_c0 = torch.zeros_like(c0) if grad_c is None else _copy(grad_c)
    team = _team(WIDTH * code.target.lanes, steps, batch, 0, hidden)
    threads, by_units = team
    recurrent = parts = None
    if tiles := _tiles(code, team, batch, hidden, few=False):
        recurrent = backward_parts(weight_hh, tiles, thorough=True)
    if tiles and recurrent is not None:
        code, parts = tiles, _room(batch, threads, by_units, 4 * -(-hidden // amx.DEPTH))
    else:
        recurrent = backward_weight(weight_hh, code, thorough=True)
    assert code.backward is not None
    packed_vectors = pack_vectors(vectors, code.target)
    grad_vectors = x.new_zeros(0)
    if packed_vectors is not None:
        grad_vectors = x.new_zeros((threads, *packed_vectors.shape))
    table = None if measures is None else _table(threads, steps, NORMS)
    offsets = _offsets(batch_sizes)
    sums = WeightGradients(x, h0, weight_ih, weight_hh, output, batch_sizes, reverse, need_x)
    for first, last, grad_z in sums.stretches():
        arrived = ctypes.c_int64(0)
        arguments = _BackwardArguments(
            steps, batch, hidden, _address(offsets), recurrent.data_ptr(),
            _address(packed_vectors), c0.data_ptr(), cells.data_ptr(), saved.data_ptr(),
            grad_output.data_ptr(), grad_h.data_ptr(), grad_c0.data_ptr(), grad_z,
            grad_vectors.data_ptr(), reverse, by_units, first, last, ctypes.addressof(arrived),
            _address(table), _address(parts),
        )  # fmt: skip
        code.backward(arguments, threads)
    if measures is not None and table is not None:
        measures(table)
    if vectors is not None:
        grad_vectors = grad_vectors.sum(0)[:, :hidden].contiguous()
    grad_h0 = sums.grad_h0 if steps else _copy(grad_h)
    return (sums.grad_x, grad_h0, grad_c0, *sums.results(), grad_vectors)


def _last(states: Tensor, start: Tensor, batch_sizes: Tensor | None, reverse: bool) -> Tensor:
    """The state of each row after the last step it took, of states [T, B, H] or [N, H]; start if
    there was no step."""
    if batch_sizes is None:
        steps = states.shape[0]
        if steps == 1:  # spares a view, of 1 us, where all takes 30
            return states.clone().view(start.shape)
        if not steps:
            return start.clone()
        return states.select(0, 0 if reverse else -1).clone().view(start.shape)
    if reverse:
        return states[: start.shape[-2]].clone().view(start.shape)
    return states[last_rows(batch_sizes)].view(start.shape)


def _table(threads: int, steps: int, numbers: tuple[Any, ...]) -> Tensor:
    """What measuring kernels write to: a line for each thread and time step."""
    return torch.zeros(threads, steps, len(numbers), dtype=torch.float64)


def _offsets(batch_sizes: Tensor | None) -> Tensor | None:
    """The first row of each time step, and the number of all."""
    if batch_sizes is None:
        return None
    return torch.cat([batch_sizes.new_zeros(1), batch_sizes.cumsum(0)])


def _team(width: int, steps: int, batch: int, inputs: int, hidden: int) -> tuple[int, bool]:
    """How many threads, and whether they share hidden units, `width` at a time (else rows)."""
    step = batch * 4 * hidden * (inputs + hidden)
    threads = team_size()
    if step * steps < _SMALL:
        return 1, False
    panels = hidden // width
    if 1 < threads > batch and step >= _SMALL_STEP and panels > 1:
        return min(threads, panels), True
    return max(1, min(threads, batch)), False


def _tiles(
    code: Kernels, team: tuple[int, bool], batch: int, hidden: int, few: bool
) -> Kernels | None:
    """The machine code with products by tiles, where it is there and faster; few: few weights are
    read. Training and inference must choose the same, so that their results are."""
    threads, by_units = team
    rows = batch if by_units else batch // threads
    least = _TILE_ROWS // 2 if few else _TILE_ROWS
    if code.by_tiles is None or hidden < _TILE_UNITS or rows < least:
        return None
    return code.by_tiles()


def _room(batch: int, threads: int, by_units: bool, blocks: int) -> Tensor:
    """Zeros for the `amx.Parts` of a kernel: one for all threads, or one for each."""
    shares = 1 if by_units else threads
    size = shares * amx.parts_bytes(-(-batch // shares), blocks)
    return torch.zeros(size, dtype=torch.int8)


def _copy(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
