"""A layer that is trained again and again with inputs of one shape: all that depends on the shape
is done once."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

from ..again import gradients, have_memory, warn_once
from ..openmp import team_size
from ..protocol import Layer, load
from .backward import backward_arguments
from .compiler import Kernels
from .forward import forward_arguments
from .gradients import WayBack
from .layer import backward_team, forward_plan
from .memory import large
from .packing import Packed, backward_weight, forward_entry
from .plain import CREATE_GRAPH_RUNS

__all__ = ["Trained", "trained"]

_NAMES = backward_arguments(0)
"""Arguments of the way back besides those of each state."""


class Trained:
    """One direction of one layer of whole batches, without vectors, masks and measures. A state may
    be [1, B, H], an input and the output of any shape that has the memory of [T, B, ...]."""

    def __init__(self, key: str, code: Kernels, layer: Layer, output: Sequence[int]) -> None:
        x, states, *given, _, _, _, self.reverse = layer
        weights = [w for w in given if w is not None]
        layout = self.layout = code.layout
        self.key, self.code, self.shapes = key, code, [w.shape for w in weights]
        batch, hidden = states[0].shape[-2:]
        self.sizes = steps, *_ = x.shape[0], batch, x.shape[-1], hidden
        self.rows = steps * batch
        self.ahead, _, self.team, _ = forward_plan(code, *self.sizes)
        self.back = backward_team(code, steps, batch, hidden)
        self.way = WayBack(code, *self.sizes, self.rows, self.reverse)
        self.asked, self.output, self.dtype = team_size(), tuple(output), x.dtype
        whole = self.rows * hidden
        self.kept = whole * (layout.saved + layout.states - 1)
        size = code.target.size
        self.others = size * whole * layout.saved
        places = [k - (k > layout.output) for k in range(layout.states)]
        # Where each state but the output lies in what is kept, in bytes.
        self.places = [self.others + size * whole * place for place in places]
        self.words = ctypes.c_int64 * len(backward_arguments(layout.states))
        self.single = steps == 1
        self.packed: tuple[list[int], Any, Packed] | None = None

    def __call__(
        self, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> Sequence[Tensor] | None:
        if not self._is_ready(weights):
            return None
        output, *last = _apply(self, *states, x, *weights)
        # A view each, as of torch's module: a hook on a state that the loss does not use would be
        # called with None, for this node runs whatever is used of it.
        return output, *(state.view_as(state) for state in last)

    def _is_ready(self, weights: Sequence[Tensor]) -> bool:
        """True if the machine code may be called with these weights, which are packed then."""
        if not self.single and team_size() != self.asked:
            return False
        for weight, shape in zip(weights, self.shapes, strict=True):
            if weight.shape != shape or weight.dtype != self.dtype or not weight.is_contiguous():
                return False
        if self.packed is None or [w.data_ptr() for w in weights] != self.packed[0]:
            self._pack(weights)
        return True

    def _pack(self, weights: Sequence[Tensor]) -> tuple[list[int], Any, Packed]:
        """Pack weights that are new or have changed."""
        entry = forward_entry(tuple(weights), self.code)
        threads, by_units = self.team
        steps, batch, inputs, hidden = self.sizes
        values = dict.fromkeys(forward_arguments(self.layout.states), 0)
        values |= {
            "steps": steps,
            "batch": batch,
            "inputs": 0 if self.ahead else inputs,
            "hidden": hidden,
            "weight": entry.made[0].data_ptr(),
            "recurrent": entry.made[1].data_ptr(),
            "bias": entry.made[2].data_ptr(),
            "keep": 1,
            "reverse": self.reverse,
            "by_units": by_units,
        }
        state = batch * hidden * self.code.target.size
        numbers = [
            *values.values(),
            ctypes.addressof(entry.table),
            len(weights),
            entry.fingerprint,
            0,
            threads,
            state,
            steps * state,
        ]
        constants = (ctypes.c_uint64 * len(numbers))(*numbers)
        self.packed = [w.data_ptr() for w in weights], (constants, entry), entry.made
        return self.packed

    def forward(self, tensors: Sequence[Any]) -> tuple[Tensor, list[Tensor], Tensor]:
        """The output, the states after the last step, and what the way back needs."""
        count = self.layout.states
        starts, x, *weights = tensors[:count], *tensors[count:]
        output = x.new_empty(self.output)
        kept = large((self.kept,), x)
        last = [torch.empty_like(start) for start in starts]
        packed = self.packed
        while True:
            assert packed is not None
            _, (constants, _), made = packed
            z_x = None
            if self.ahead:
                z_x = linear(x.view(self.rows, -1), weights[0], made[3])
            saved = kept.data_ptr()
            changed = self.code.prepared(
                ctypes.addressof(constants),
                x.data_ptr(),
                0 if z_x is None else z_x.data_ptr(),
                output.data_ptr(),
                saved,
                saved + self.others,
                *[start.data_ptr() for start in starts],
                *[state.data_ptr() for state in last],
            )
            if not changed:
                return output, last, kept
            packed = self._pack(weights)

    def backward(
        self,
        tensors: Sequence[Any],
        output: Tensor,
        kept: Tensor,
        grads: Sequence[Tensor | None],
        needs: Sequence[bool],
    ) -> tuple[Any, ...]:
        """The gradients of `tensors`, of which those are wanted that `needs` says."""
        layout, count = self.layout, self.layout.states
        starts, (x, weight_ih, weight_hh) = tensors[:count], tensors[count : count + 3]
        need_start, need_x = any(needs[:count]), needs[count]
        saved = kept.data_ptr()
        states = [saved + place for place in self.places]
        states[layout.output] = output.data_ptr()
        by_step: list[Tensor | None] = [None] * count
        if grads[0] is not None:
            by_step[layout.output] = grads[0].contiguous()
        if by_step[0] is None:
            by_step[0] = torch.zeros_like(output)
        running = [
            torch.zeros_like(start) if g is None else g.clone(memory_format=torch.contiguous_format)
            for g, start in zip(grads[1:], starts, strict=True)
        ]
        # At a single step nothing goes through R but the gradient of the start.
        recurrent = 0
        if not self.single:
            recurrent = backward_weight(weight_hh, self.code, True).data_ptr()
        threads, by_units = self.back
        steps, batch, _, hidden = self.sizes
        given = {
            "steps": steps,
            "batch": batch,
            "hidden": hidden,
            "recurrent": recurrent,
            "saved": saved,
            "reverse": self.reverse,
            "by_units": by_units,
        }
        arguments = self.words(
            *[given.get(name, 0) for name in _NAMES],
            *[start.data_ptr() for start in starts],
            *states,
            *[0 if g is None else g.data_ptr() for g in by_step],
            *[g.data_ptr() for g in running],
        )
        threads = min(threads, team_size())
        found = self.way.run(
            arguments, threads, x, states[0], starts[0], weight_ih, weight_hh, need_x, need_start
        )
        of_starts: list[Tensor | None] = [None] * count
        if need_start:
            assert found.start is not None
            first = running[0].add_(found.start) if layout.carried else found.start
            of_starts = [first, *running[1:]]
        return *of_starts, found.x, *found[2 : 2 + len(self.shapes)]

    def eager(self, *tensors: Any) -> tuple[Tensor, ...]:
        """The output and the last states of the same layer by the eager engine."""
        count = self.layout.states
        states, (x, weight_ih, weight_hh, *biases) = tensors[:count], tensors[count:]
        steps, batch, inputs, hidden = self.sizes
        x, whole = x.view(steps, batch, inputs), tuple(s.view(batch, hidden) for s in states)
        bias_ih, bias_hh = biases or (None, None)
        layer = Layer(x, whole, weight_ih, weight_hh, bias_ih, bias_hh, reverse=self.reverse)
        found = load("eager").run(self.key, layer)
        ends = (end.view_as(state) for end, state in zip(found.states, states, strict=True))
        return found.output.view(self.output), *ends


class _Trained(torch.autograd.Function):
    """tensors: the states, x and the weights. Results: the output and the last states."""

    @staticmethod
    def forward(ctx: Any, way: Trained, *tensors: Any) -> Any:
        output, last, kept = way.forward(tensors)
        ctx.way = way
        # The caller may change the output in place; see plain.py. A single step's is copied.
        own = output.clone() if way.single else output.data
        ctx.save_for_backward(*tensors, own, kept)
        ctx.version = own if way.single else output.detach()
        if not way.single:
            ctx.version.data = kept.new_empty(0)
        ctx.unchanged = ctx.version._version
        ctx.set_materialize_grads(False)
        return output, *last

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        way = ctx.way
        *tensors, output, kept = ctx.saved_tensors
        again = torch.is_grad_enabled()
        if again or not have_memory(grads):
            if again:  # create_graph: these gradients will be differentiated
                warn_once(CREATE_GRAPH_RUNS)
            return None, *gradients(way.eager, tensors, grads, again, (True,) * len(tensors))
        if ctx.version._version != ctx.unchanged:
            output = way.forward(tensors)[0]
        needs = ctx.needs_input_grad[1:]
        return None, *way.backward(tensors, output, kept, grads, needs)


_apply: Any = _Trained.apply


def trained(key: str, code: Kernels, layer: Layer, output: Sequence[int]) -> Trained | None:
    """A way to train layers like this one; None where a call has more to do than a call of machine
    code: packs, vectors and masks, products by tiles. output: its shape as it is to be given."""
    x, states, *_, vectors, masks, batch_sizes, _ = layer
    batch, hidden = states[0].shape[-2:]
    if vectors is not None or masks is not None or batch_sizes is not None or not x.numel():
        return None
    *_, tiles = forward_plan(code, x.shape[0], batch, x.shape[-1], hidden)
    return None if tiles is not None else Trained(key, code, layer, output)
