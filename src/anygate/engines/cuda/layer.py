"""One direction of a layer, or two side by side: the tensors round the kernels' launches.

The product of x with its weights and the weights' gradients are products over the whole sequence,
which torch's own library computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from ..checks import check_layer
from ..layout import Layout
from ..protocol import Layer, Measures
from .compiler import Kernels
from .launch import Direction, launch
from .sums import table_of

__all__ = ["Backward", "Forward", "backward", "forward"]

_ALIGNED = 16
"""Bytes: the kernels read several numbers at once."""


class Forward(NamedTuple):
    """As the CPU engine's: output [*, H], the states after the last step, what backward needs
    [*, K, H], and the states but the output at all steps [S - 1, *, H]."""

    output: Tensor
    states: list[Tensor]
    saved: Tensor | None
    others: Tensor | None


class Backward(NamedTuple):
    """Gradients; of biases and vectors None where there are none, of x where it is not needed."""

    x: Tensor | None
    states: list[Tensor]
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    vectors: Tensor | None


class Arriving(NamedTuple):
    """Gradients by what forward gave; None for zeros."""

    output: Tensor | None
    states: Sequence[Tensor | None]
    others: Tensor | None


@contextmanager
def _precision(code: Kernels) -> Iterator[None]:
    """torch's products of float32 as the kernels' own: with TF32 where these have two parts, whole
    where they have three. The setting is the process's: another thread may see it."""
    matmul = torch.backends.cuda.matmul
    if code.device.type != "cuda" or code.plan.parts < 2:
        yield
        return
    name: str = "allow_tf32"
    wanted: bool | str = code.plan.parts == 2
    if hasattr(matmul, "fp32_precision"):  # torch 2.9 and newer
        name, wanted = "fp32_precision", "tf32" if wanted else "ieee"
    before = getattr(matmul, name)
    if before == wanted:
        yield
        return
    setattr(matmul, name, wanted)
    try:
        yield
    finally:
        setattr(matmul, name, before)


def forward(
    code: Kernels,
    layers: Sequence[Layer],
    training: bool,
    keep: bool,
    measures: Sequence[Measures] | None = None,
) -> list[Forward]:
    """Layers: one, or two of the same sizes and batch sizes. measures: of each."""
    with _precision(code):
        return _forward(code, layers, training, keep or measures is not None, measures)


def _forward(
    code: Kernels,
    layers: Sequence[Layer],
    training: bool,
    keep: bool,
    measures: Sequence[Measures] | None,
) -> list[Forward]:
    layout, first = code.layout, layers[0]
    batch, hidden = first.states[0].shape
    steps = _steps(first)
    found, directions = [], []
    offsets = _offsets(first, code.device)
    for layer in layers:
        x = layer.x.contiguous()
        rows = x.shape[0] * batch if layer.batch_sizes is None else x.shape[0]
        starts = [_ready(state) for state in layer.states]
        check_layer(
            layout,
            x,
            starts,
            layer.weight_ih,
            layer.weight_hh,
            layer.vectors,
            layer.masks,
            rows,
            code.device.type,
        )
        output = x.new_empty((*x.shape[:-1], hidden))
        others = x.new_empty((layout.states - 1, *output.shape)) if training or keep else None
        saved = x.new_empty((*x.shape[:-1], layout.saved * hidden)) if training else None
        last = [torch.empty_like(state) for state in starts]
        found.append(Forward(output, last, saved, others))
        if not steps or not batch:
            for state, start in zip(last, starts, strict=True):
                state.copy_(start)
            continue
        bias, bias_h = _biases(layout, layer, hidden)
        z_x = None
        if layout.from_x:
            z_x = torch.nn.functional.linear(x, layer.weight_ih, bias)
        directions.append(
            Direction(
                layout.states,
                layer.reverse,
                z_x,
                _ready(layer.weight_hh),
                bias_h,
                None if layer.vectors is None else _ready(layer.vectors),
                None if layer.masks is None else _ready(layer.masks),
                offsets,
                starts,
                _kept(layout, output, others),
                last,
                saved,
                products=_reals(code, x, layout.panels) if measures is not None else None,
            )
        )
    if directions:
        launch(code, "forward", training, directions, steps, batch, measures is not None)
    if measures is not None:
        nothing = [Direction(layout.states, False)] * len(layers)
        for receiver, direction in zip(measures, directions or nothing, strict=True):
            receiver.forward(table_of(code, "forward", direction, steps, batch))
    return found


def _reals(code: Kernels, x: Tensor, panels: int) -> Tensor:
    """Memory for numbers of every row and unit in the type that cells are computed in."""
    shape = (*x.shape[:-1], panels * code.plan.hidden)
    return x.new_empty(shape, dtype=_real(code))


def _real(code: Kernels) -> torch.dtype:
    return torch.float64 if code.plan.parts == 0 else torch.float32


def backward(
    code: Kernels,
    layers: Sequence[Layer],
    results: Sequence[Forward],
    grads: Sequence[Arriving],
    need_x: bool,
    measures: Sequence[Measures] | None = None,
) -> list[Backward]:
    """results: what `forward` gave with training=True. measures: of each layer."""
    layout, first = code.layout, layers[0]
    batch, hidden = first.states[0].shape
    steps = _steps(first)
    offsets = _offsets(first, code.device)
    directions, found = [], []
    tiles = -(-batch // code.plan.rows) * code.plan.splits
    for layer, result, grad in zip(layers, results, grads, strict=True):
        grad_others = None if grad.others is None else grad.others.contiguous()
        by_step = [
            (None if grad.output is None else _ready(grad.output))
            if k == layout.output
            else (None if grad_others is None else _ready(grad_others[k - (k > layout.output)]))
            for k in range(layout.states)
        ]
        by_last = [None if g is None else _ready(g) for g in grad.states]
        x = layer.x
        start_grad = [
            s.new_empty(s.shape) if steps else (s.new_zeros(s.shape) if g is None else g.clone())
            for s, g in zip(layer.states, by_last, strict=True)
        ]
        vector_grad = None
        if layer.vectors is not None:
            shape = (tiles, *layer.vectors.shape)
            vector_grad = x.new_zeros(shape, dtype=_real(code))
        grad_z = x.new_empty((*x.shape[:-1], layout.panels * hidden))
        assert result.saved is not None
        directions.append(
            Direction(
                layout.states,
                layer.reverse,
                None,
                _ready(layer.weight_hh),
                None,
                None if layer.vectors is None else _ready(layer.vectors),
                None if layer.masks is None else _ready(layer.masks),
                offsets,
                [_ready(state) for state in layer.states],
                _kept(layout, result.output, result.others),
                (),
                result.saved,
                by_step,
                by_last,
                grad_z,
                start_grad,
                vector_grad,
                arriving=_reals(code, x, layout.states) if measures is not None else None,
            )
        )
    with _precision(code):
        if steps and batch:
            launch(code, "backward", True, directions, steps, batch, measures is not None)
        for receiver, direction in zip(measures or (), directions, strict=measures is not None):
            receiver.backward(table_of(code, "backward", direction, steps, batch))
        for layer, result, direction in zip(layers, results, directions, strict=True):
            found.append(_products(layout, layer, result, direction, need_x))
    return found


def _products(
    layout: Layout, layer: Layer, result: Forward, direction: Direction, need_x: bool
) -> Backward:
    """The gradients that are sums over all time steps."""
    hidden = layer.states[0].shape[1]
    assert direction.grad_z is not None
    grad_z = direction.grad_z.flatten(0, -2)
    x = layer.x.flatten(0, -2)
    of_x = grad_z[:, : len(layout.from_x) * hidden]
    of_h = grad_z[:, (layout.panels - len(layout.from_h)) * hidden :]
    from_x, from_h = _inverse(layout.from_x), _inverse(layout.from_h)
    grad_x = None
    if need_x:
        grad_x = (of_x @ _in_order(layer.weight_ih, layout.from_x, hidden)).view(layer.x.shape)
    grad_hh = _recurrent_gradient(layout, layer, result, of_h)
    bias = grad_z.sum(0)
    bias_ih, bias_hh = bias[: of_x.shape[1]], bias[grad_z.shape[1] - of_h.shape[1] :]
    vectors = None
    if direction.vector_grad is not None:
        vectors = direction.vector_grad.sum(0).to(layer.x.dtype)
    return Backward(
        grad_x,
        [state for state in direction.start_grad if state is not None],
        _in_order(of_x.t() @ x, from_x, hidden),
        _in_order(grad_hh, from_h, hidden),
        None if layer.bias_ih is None else _in_order(bias_ih, from_x, hidden).clone(),
        None if layer.bias_hh is None else _in_order(bias_hh, from_h, hidden).clone(),
        vectors,
    )


def _recurrent_gradient(layout: Layout, layer: Layer, result: Forward, grad_z: Tensor) -> Tensor:
    """grad_z^T (state 0 before every step), without a copy of the states where rows are whole."""
    kept = _kept(layout, result.output, result.others)[0]
    start, batch = layer.states[0], len(layer.states[0])
    assert kept is not None
    states = kept.flatten(0, -2)
    if layer.batch_sizes is not None:
        return grad_z.t() @ torch.cat([start, states])[_rows_before(layer).to(kept.device)]
    if layer.reverse:
        first, later, before = grad_z[-batch:], grad_z[:-batch], states[batch:]
    else:
        first, later, before = grad_z[:batch], grad_z[batch:], states[:-batch]
    if not len(grad_z):
        return grad_z.t() @ states
    return torch.addmm(first.t() @ start, later.t(), before)


def _rows_before(layer: Layer) -> Tensor:
    """Of a pack: the row of cat(states before the layer, states of all rows) before each row."""
    sizes = layer.batch_sizes
    assert sizes is not None
    batch = len(layer.states[0])
    begins = sizes.cumsum(0) - sizes
    step = torch.repeat_interleave(sizes)
    row = torch.arange(len(step)) - begins[step]
    if not layer.reverse:
        return torch.where(step > 0, begins[(step - 1).clamp(min=0)] + row + batch, row)
    after = (step + 1).clamp(max=max(len(sizes) - 1, 0))
    goes_on = (step + 1 < len(sizes)) & (row < sizes[after])
    return torch.where(goes_on, begins[after] + row + batch, row)


def _biases(layout: Layout, layer: Layer, hidden: int) -> tuple[Tensor | None, Tensor | None]:
    """The biases that the product with x adds, in weight_ih's order, and what the kernel does:
    bias_hh, of products that do not see x."""
    bias_ih, bias_hh = layer.bias_ih, layer.bias_hh
    if bias_ih is None or bias_hh is None:
        return bias_ih, None if bias_hh is None else _ready(bias_hh)
    both = layout.panels - layout.first_from_h - (layout.panels - len(layout.from_x))
    if both == len(layout.from_x) and layout.from_x == layout.from_h:
        return bias_ih + bias_hh, None
    bias = bias_ih.clone().view(-1, hidden)
    blocks = bias_hh.view(-1, hidden)
    for panel in range(layout.first_from_h, len(layout.from_x)):
        bias[layout.from_x[panel]] += blocks[layout.from_h[panel - layout.first_from_h]]
    return bias.view(-1), _ready(bias_hh)


def _kept(layout: Layout, output: Tensor, others: Tensor | None) -> list[Tensor | None]:
    """Each state at every time step."""
    rest = [None] * (layout.states - 1) if others is None else list(others.unbind(0))
    return [*rest[: layout.output], output, *rest[layout.output :]]


def _steps(layer: Layer) -> int:
    return len(layer.x) if layer.batch_sizes is None else len(layer.batch_sizes)


def _offsets(layer: Layer, device: torch.device) -> Tensor | None:
    """The first row of each time step, and the number of all, on the device."""
    sizes = layer.batch_sizes
    if sizes is None:
        return None
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]).to(device, non_blocking=True)


def _ready(tensor: Tensor) -> Tensor:
    """Contiguous, where several numbers are read at once."""
    tensor = tensor.detach().contiguous()
    return tensor.clone() if tensor.data_ptr() % _ALIGNED else tensor


def _in_order(tensor: Tensor, order: tuple[int, ...], hidden: int) -> Tensor:
    """Blocks of H rows (or numbers) in another order."""
    if order == tuple(range(len(order))):
        return tensor
    blocks = tensor.view(len(order), hidden, *tensor.shape[1:])
    return torch.cat([blocks[k] for k in order])


def _inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(order.index(k) for k in range(len(order)))
