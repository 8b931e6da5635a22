"""One direction of one layer: what the machine code is called with."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..checks import check_layer
from ..layout import Layout
from ..openmp import team_size
from . import amx
from .backward import backward_arguments
from .compiler import Kernels, third_level_is_far
from .forward import forward_arguments
from .gradients import WayBack
from .memory import large
from .packing import (
    Packed,
    backward_parts,
    backward_weight,
    forward_parts,
    forward_weights,
    pack_vectors,
)
from .rows import last_state, offsets_of
from .tile import WIDTH

__all__ = [
    "LARGE_WEIGHTS",
    "Backward",
    "Forward",
    "backward",
    "backward_team",
    "forward",
    "forward_plan",
]

_FORWARD, _BACKWARD = (len(names(0)) for names in (forward_arguments, backward_arguments))
"""Arguments of the kernels besides those of each state."""
Receive = Callable[[Tensor], None]
"""Takes the table of a measuring kernel."""
_SMALL = 400_000
"""Multiply-adds in a whole sequence below which a second thread costs more than it brings."""
_SMALL_STEP = 10_000
"""Multiply-adds in a time step below which waiting for another thread costs more than its help: at
B=1, two threads need 0.88 of one's time with H=64, 0.74 with H=128, 0.67 with H=256 (Xeon)."""
LARGE_WEIGHTS = 1 << 22 if third_level_is_far() else 1 << 62
"""Bytes of weights above which, in inference, each thread keeps to its own hidden units: [100 64
256 512] takes 60.1 ms then, 65.4 by rows (Xeon, 2 MiB of second-level cache a core). Training is
slower so, 212 ms for 188. On Zen 4, whose third level is near, it takes 100 and by rows 95."""
_TILE_ROWS = 16
"""With fewer batch rows for a thread than this, or half of it where few weights are read, tiles are
not faster than vectors: one thread takes 0.79 of the time at [100 8 64 128], but 1.12 at
[20 8 64 256], 1.05 at [20 7 64 256] (Xeon)."""
_TILE_UNITS = 64
"""With fewer hidden units tiles are not faster: at [40 32 8 32] 1.08 of the time, at [20 24 8 64]
0.95."""
_LARGE_PARTS = 1 << 20
"""The same as LARGE_WEIGHTS for products by tiles, which read 6 bytes for each 4."""
_FEW_ROWS = 4
"""With fewer batch rows than this the input's share of z is one product for all steps: a tile of
one row reads all of W from memory at each step, a product over time reads it once."""


class Forward(NamedTuple):
    """The tensors that a run of the forward loop gives, for x of the shape [*, I].

    output [*, H]; states: S tensors like those given, after each row's last step; saved [*, K*H],
    for training. others [S - 1, *, H]: the states but the output at every time step, for training
    or where they are to be kept.
    """

    output: Tensor
    states: list[Tensor]
    saved: Tensor | None
    others: Tensor | None


def forward(
    code: Kernels,
    x: Tensor,
    states: Sequence[Tensor],
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    vectors: Tensor | None,
    masks: Tensor | None,
    batch_sizes: Tensor | None,
    reverse: bool,
    training: bool,
    keep: bool = False,
    receive: Receive | None = None,
) -> Forward:
    """x [T, B, I], or [N, I] packed with batch_sizes [T]; states [B, H] or [1, B, H] each; masks
    [T, B, M, H] or [N, M, H]. receive: is given [threads, T, numbers], of measuring kernels.
    Raises ValueError for shapes and dtypes that do not fit."""
    layout, target = code.layout, code.target
    first = states[0]
    batch, hidden = first.shape[-2:]
    shape = x.shape
    steps = shape[0] if batch_sizes is None else len(batch_sizes)
    inputs = shape[-1]
    rows = shape[0] * batch if batch_sizes is None else shape[0]
    x = x.contiguous()
    starts = [state.contiguous() for state in states]
    check_layer(layout, x, starts, weight_ih, weight_hh, vectors, masks, rows)
    weights = weight_ih, weight_hh, bias_ih, bias_hh
    verify_bytes = training or steps > 1
    ahead, size, team, tiles = forward_plan(code, steps, batch, inputs, hidden)
    packed: Packed | None = None
    if tiles is not None:
        packed = forward_parts(*weights, tiles, verify_bytes)
    tiled = packed is not None
    if packed is None:
        packed = forward_weights(*weights, code, verify_bytes)
    else:
        assert tiles is not None
        code = tiles
    weight, recurrent, bias, bias_of_x = packed
    z_x = None
    if ahead:
        z_x = torch.nn.functional.linear(x, weight_ih, bias_of_x)
        inputs = 0
    packed_vectors = pack_vectors(vectors, target)
    masks = None if masks is None else masks.contiguous()
    offsets = offsets_of(batch_sizes)
    output = x.new_empty((*shape[:-1], hidden))
    saved = large((*shape[:-1], layout.saved * hidden), x) if training else None
    others = None
    if training or keep:
        others = large((layout.states - 1, *output.shape), x)
    places = _places(layout, output, others, starts)
    threads, by_units = team
    if not training and size > (_LARGE_PARTS if tiled else LARGE_WEIGHTS):
        by_units = threads > 1
    parts, x_blocks = None, 0
    if tiled:
        x_blocks = -(-inputs // amx.DEPTH) if inputs >= amx.FEW_INPUTS else 0
        parts = _room(batch, threads, by_units, x_blocks + -(-hidden // amx.DEPTH))
    table = None if receive is None else _table(threads, steps, code.numbers)
    arrived = ctypes.c_int64(0)
    arguments = _arguments(_FORWARD + 2 * layout.states)(
        steps,
        batch,
        inputs,
        hidden,
        _address(offsets),
        x.data_ptr(),
        _address(z_x),
        weight.data_ptr(),
        recurrent.data_ptr(),
        bias.data_ptr(),
        _address(packed_vectors),
        _address(masks),
        _address(saved),
        others is not None,
        reverse,
        by_units,
        ctypes.addressof(arrived),
        _address(table),
        _address(parts),
        x_blocks,
        *[start.data_ptr() for start in starts],
        *[place.data_ptr() for place in places],
    )
    code.forward(arguments, threads)
    if receive is not None and table is not None:
        receive(table)
    last = []
    for k, place in enumerate(places):
        running = others is None and k not in (0, layout.output)
        last.append(place if running else last_state(place, first, starts[k], batch_sizes, reverse))
    return Forward(output, last, saved, others)


def forward_plan(
    code: Kernels, steps: int, batch: int, inputs: int, hidden: int
) -> tuple[bool, int, tuple[int, bool], Kernels | None]:
    """z_x is computed ahead; bytes of weights that a step reads; the team; the machine code by
    tiles."""
    layout, target = code.layout, code.target
    ahead = batch < _FEW_ROWS and steps > 1 and bool(layout.from_x)
    of_h = len(layout.from_h) * hidden
    of_x = 0 if ahead else len(layout.from_x) * inputs
    team = _team(target.lanes, steps, batch, hidden * (of_x + of_h), hidden)
    size = hidden * (of_x + of_h) * target.size
    tiles = None if ahead else _tiles(code, team, batch, hidden, size <= _LARGE_PARTS // 2)
    return ahead, size, team, tiles


def _places(
    layout: Layout, output: Tensor, others: Tensor | None, starts: list[Tensor]
) -> list[Tensor]:
    """The tensor that the kernel writes each state to. A state that is not kept for every step is
    updated in place, in a copy of its start that replaces it in `starts`."""
    places = []
    for k in range(layout.states):
        if k == layout.output:
            place = output
        elif others is not None:
            place = others[k - (k > layout.output)]
        elif k == 0:
            place = torch.empty_like(output)
        else:
            place = starts[k] = starts[k].clone()
        places.append(place)
    return places


class Backward(NamedTuple):
    """Gradients of x (empty unless asked for), of the states before the first step, of the weights
    and of the biases, each of the latter in memory of its own, and of vectors (empty without)."""

    x: Tensor
    states: list[Tensor]
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor
    vectors: Tensor


def backward(
    code: Kernels,
    grad_output: Tensor | None,
    grad_states: Sequence[Tensor | None],
    grad_others: Tensor | None,
    x: Tensor,
    states: Sequence[Tensor],
    weight_ih: Tensor,
    weight_hh: Tensor,
    vectors: Tensor | None,
    masks: Tensor | None,
    batch_sizes: Tensor | None,
    output: Tensor,
    saved: Tensor,
    others: Tensor,
    reverse: bool,
    need_x: bool,
    receive: Receive | None = None,
) -> Backward:
    """From the gradients of what `forward` gave (None: zeros). receive: is given [threads, T,
    norms], of measuring kernels. Raises RuntimeError if the forward run saved nothing."""
    layout = code.layout
    batch, hidden = states[0].shape
    shapes = (*output.shape[:-1], layout.saved * hidden), (layout.states - 1, *output.shape)
    if saved.shape != shapes[0] or others.shape != shapes[1]:
        raise RuntimeError("anygate: backward of a forward that ran without training=True")
    steps = len(x) if batch_sizes is None else len(batch_sizes)
    x = x.contiguous()
    starts = [state.contiguous() for state in states]
    kept, step_grads = [], []
    grad_others = None if grad_others is None else grad_others.contiguous()
    for k in range(layout.states):
        if k == layout.output:
            kept.append(output)
            step_grads.append(None if grad_output is None else grad_output.contiguous())
        else:
            place = k - (k > layout.output)
            kept.append(others[place])
            step_grads.append(None if grad_others is None else grad_others[place])
    if step_grads[0] is None:
        step_grads[0] = torch.zeros_like(output)
    grads = [
        torch.zeros_like(start)
        if g is None
        else _copy(g)
        if k or layout.carried
        else g.contiguous()
        for k, (g, start) in enumerate(zip(grad_states, starts, strict=True))
    ]
    team = threads, by_units = backward_team(code, steps, batch, hidden)
    recurrent = parts = None
    if tiles := _tiles(code, team, batch, hidden, few=False):
        recurrent = backward_parts(weight_hh, tiles, verify_bytes=True)
    if tiles and recurrent is not None:
        code, parts = tiles, _room(batch, threads, by_units, 4 * -(-hidden // amx.DEPTH))
    else:
        recurrent = backward_weight(weight_hh, code, verify_bytes=True)
    packed_vectors = pack_vectors(vectors, code.target)
    masks = None if masks is None else masks.contiguous()
    grad_vectors = x.new_zeros(0)
    if packed_vectors is not None:
        grad_vectors = x.new_zeros((threads, *packed_vectors.shape))
    table = None if receive is None else _table(threads, steps, code.norms)
    offsets = offsets_of(batch_sizes)
    last = [t.data_ptr() for t in (*starts, *kept)]
    last += [_address(t) for t in (*step_grads, *grads)]
    arguments = _arguments(_BACKWARD + len(last))(
        steps,
        batch,
        hidden,
        _address(offsets),
        recurrent.data_ptr(),
        _address(packed_vectors),
        _address(masks),
        saved.data_ptr(),
        0,
        0,
        grad_vectors.data_ptr(),
        reverse,
        by_units,
        0,
        0,
        0,
        _address(table),
        _address(parts),
        *last,
    )
    rows = steps * batch if batch_sizes is None else len(x)
    way = WayBack(code, steps, batch, x.shape[-1], hidden, rows, reverse)
    tensors = x, kept[0].data_ptr(), starts[0], weight_ih, weight_hh
    found = way.run(
        arguments, threads, *tensors, need_x, True, batch_sizes=batch_sizes, offsets=offsets
    )
    assert found.start is not None
    if receive is not None and table is not None:
        receive(table)
    if vectors is not None:
        grad_vectors = grad_vectors.sum(0)[:, :hidden].contiguous()
    if not steps:
        grads[0] = _copy(grads[0])
    elif layout.carried:
        grads[0] += found.start
    else:
        grads[0] = found.start
    grad_x = x.new_empty(0) if found.x is None else found.x
    return Backward(grad_x, grads, *found[2:], grad_vectors)


@lru_cache(maxsize=64)
def _arguments(count: int) -> Any:
    """The C array type of a kernel's arguments: numbers, and addresses of tensors that the caller
    keeps alive until it has run."""
    return ctypes.c_int64 * count


def _table(threads: int, steps: int, numbers: int) -> Tensor:
    """Zeros that measuring kernels write to, [threads, T, numbers]."""
    return torch.zeros(threads, steps, numbers, dtype=torch.float64)


def _team(width: int, steps: int, batch: int, products: int, hidden: int) -> tuple[int, bool]:
    """The number of threads, and whether they share hidden units, `width` at a time (else rows).
    products: multiply-adds of a row's step."""
    step = batch * products
    threads = team_size()
    if step * steps < _SMALL:
        return 1, False
    panels = hidden // width
    if 1 < threads > batch and step >= _SMALL_STEP and panels > 1:
        return min(threads, panels), True
    return max(1, min(threads, batch)), False


def backward_team(code: Kernels, steps: int, batch: int, hidden: int) -> tuple[int, bool]:
    """The number of threads of the way back, and whether they share hidden units."""
    products = hidden * len(code.layout.from_h) * hidden
    return _team(WIDTH * code.target.lanes, steps, batch, products, hidden)


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
