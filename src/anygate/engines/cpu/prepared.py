"""A layer that runs without gradients again and again: all that depends on its weights and on the
shape of its input is done once."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import linear

from ..checks import check_layer
from ..openmp import team_size
from ..protocol import Layer, Prepared
from .compiler import Kernels
from .forward import forward_arguments
from .layer import LARGE_WEIGHTS, forward_plan
from .packing import forward_entry

__all__ = ["prepare"]


def prepare(code: Kernels, layer: Layer) -> Prepared | None:
    """A way through layers like this one; None where a call has more to do than a call of machine
    code: packs, vectors and masks, products by tiles, a first state at every step that is not the
    output."""
    x, states, weight_ih, weight_hh, bias_ih, bias_hh, vectors, masks, batch_sizes, reverse = layer
    layout = code.layout
    batch, hidden = states[0].shape[-2:]
    steps, rows = x.shape[0], x.shape[0] * batch
    weights = [w for w in (weight_ih, weight_hh, bias_ih, bias_hh) if w is not None]
    if vectors is not None or masks is not None or batch_sizes is not None:
        return None
    if steps == 0 or (steps > 1 and layout.output != 0):
        return None
    check_layer(layout, x, states, weight_ih, weight_hh, None, None, rows)
    if not all(w.is_contiguous() for w in weights):
        return None
    inputs = x.shape[-1]
    ahead, size, (threads, by_units), tiles = forward_plan(code, steps, batch, inputs, hidden)
    if tiles is not None:
        return None
    entry = forward_entry(tuple(weights), code)
    packed = entry.made
    sampled = steps == 1 and not entry.small
    values = dict.fromkeys(forward_arguments(layout.states), 0)
    values |= {
        "steps": steps,
        "batch": batch,
        "inputs": 0 if ahead else inputs,
        "hidden": hidden,
        "weight": packed[0].data_ptr(),
        "recurrent": packed[1].data_ptr(),
        "bias": packed[2].data_ptr(),
        "reverse": reverse,
        "by_units": threads > 1 if size > LARGE_WEIGHTS else by_units,
    }
    numbers = [
        *values.values(),
        ctypes.addressof(entry.table),
        len(weights),
        entry.sample if sampled else entry.fingerprint,
        sampled,
        threads,
        batch * hidden * x.element_size(),
        0,
    ]
    constants = (ctypes.c_uint64 * len(numbers))(*numbers)
    address, call = ctypes.addressof(constants), code.prepared
    known = [(w.data_ptr(), w.shape) for w in weights]
    team = team_size()

    def run(
        x: Tensor,
        states: Sequence[Tensor],
        weights: Sequence[Tensor],
        output: Tensor | None,
        last: Sequence[Tensor],
    ) -> bool:
        for weight, (place, shape) in zip(weights, known, strict=True):
            if weight.data_ptr() != place or weight.shape != shape or not weight.is_contiguous():
                return False
        if sampled and not (entry.is_current and entry.is_same_memory(weights)):
            return False
        if steps > 1 and team_size() != team:
            return False
        z_x = linear(x, weights[0], packed[3]) if ahead else None
        changed = call(
            address,
            x.data_ptr(),
            0 if z_x is None else z_x.data_ptr(),
            0 if output is None else output.data_ptr(),
            0,
            0,
            *[state.data_ptr() for state in states],
            *[state.data_ptr() for state in last],
        )
        return not changed

    # The machine code reads the constants, and lies in memory that `code` frees.
    run.keep = constants, code  # type: ignore[attr-defined]
    return run
