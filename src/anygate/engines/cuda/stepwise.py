"""The way without kernels that wait: for each time step a product of torch's and a fused kernel.

For what no persistent plan holds on the card, for float64, and for older cards. A few steps are one
CUDA graph, recorded where a size comes again and launched over and over with the numbers of the
call in memory, so that a graph does not depend on T, on a pack's lengths or on where tensors lie.
"""

from __future__ import annotations

import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..layout import Layout

if TYPE_CHECKING:
    from .compiler import Kernels
    from .launch import Direction
    from .source import Direction as Way

__all__ = ["GRAPHED", "Steps", "run_steps"]

GRAPHED = 32
"""Time steps of a graph: enough that launching it costs little beside running it."""
_MOST_GRAPHS = 16
_MOST_BYTES = 64 << 20
"""Each graph holds a copy of the recurrent weights, and larger ones need none: to read 64 MiB takes
a card as long as a step's launches take Python."""


@dataclass(frozen=True)
class Steps:
    """The numbers that a step's kernels are compiled for. parts: as a `Plan`'s; 0 in float64.
    reason: why no persistent plan."""

    layout: Layout
    hidden: int
    parts: int
    half: bool
    reason: str = field(default="", compare=False)

    exchange = "steps"
    threads = 128
    shared = (0, 0)
    rows, splits = 1, 1
    """Of the gradients of vectors: a line for each batch row."""

    def __str__(self) -> str:
        return f"a product and a fused kernel for each time step: {self.reason}"


class _Buffers:
    """The tensors between a step's product and its kernel, for one or two directions. lasting: for
    more than one call, so that the weights are copied."""

    def __init__(
        self, plan: Steps, way: Way, sides: int, batch: int, like: Tensor, lasting: bool
    ) -> None:
        hidden, layout = plan.hidden, plan.layout
        wide, real = len(layout.from_h) * hidden, torch.float64 if plan.parts == 0 else None
        self.forward = way == "forward"
        self.weight = like.unsqueeze(0)
        if lasting or sides > 1:
            self.weight = like.new_empty(sides, wide, hidden)
        self.states = like.new_empty(
            (sides, layout.states, batch, hidden), dtype=real or torch.float32
        )
        self.operand = like.new_empty(sides, batch, hidden if self.forward else wide)
        self.product = like.new_empty(sides, batch, wide if self.forward else hidden)

    def begin(self, directions: Sequence[Direction]) -> None:
        """Write what the first step needs."""
        self.states.zero_()
        self.product.zero_()
        for side, direction in enumerate(directions):
            assert direction.weight is not None
            if self.weight.data_ptr() != direction.weight.data_ptr():
                self.weight[side].copy_(direction.weight)
            first = direction.start if self.forward else direction.last_grad
            for k, state in enumerate(first):
                if state is not None:
                    self.states[side, k].copy_(state)
            if self.forward and first[0] is not None:
                self.operand[side].copy_(first[0])

    def multiply(self) -> None:
        """R h, or R^T grad z, of all directions."""
        weight = self.weight.transpose(1, 2) if self.forward else self.weight
        torch.bmm(self.operand, weight, out=self.product)

    def end(self, directions: Sequence[Direction]) -> None:
        """Give the last states, or their gradients before the first step."""
        if not self.forward:
            self.states[:, 0].add_(self.product)
        for side, direction in enumerate(directions):
            gives = direction.last if self.forward else direction.start_grad
            for k, state in enumerate(gives):
                assert state is not None
                state.copy_(self.states[side, k])


class _Sequence:
    """The steps of one kernel for one batch size. Not for two calls at a time."""

    def __init__(
        self,
        code: Kernels,
        function: Any,
        way: Way,
        sides: int,
        batch: int,
        like: Tensor,
        lasting: bool = False,
    ) -> None:
        self.code, self.function = code, function
        assert isinstance(code.plan, Steps)
        self.buffers = _Buffers(code.plan, way, sides, batch, like, lasting)
        self.grid = sides * -(-batch * code.plan.hidden // code.plan.threads)
        self.lock = threading.Lock()
        self.base: Tensor | None = None
        self.there: Tensor | None = None
        self.replay: Callable[[], None] | None = None

    def step(self, number: int, here: bytes, in_graph: bool = False) -> None:
        """Enqueue one step. in_graph: with `base` and `there`."""
        buffers = self.buffers
        tensors = (self.base, self.there) if in_graph else (None, None)
        places = [0 if t is None else t.data_ptr() for t in tensors]
        places += [t.data_ptr() for t in (buffers.product, buffers.operand, buffers.states)]
        if buffers.forward:
            buffers.multiply()
        arguments = struct.pack("<6q", number, *places) + here
        code = self.code
        code.driver.launch(self.function, self.grid, False, arguments, code.device)
        if not buffers.forward:
            buffers.multiply()

    def record(self, size: int) -> None:
        """Make the graph. size: bytes of a call's numbers."""
        device = self.code.device
        self.base = torch.zeros(1, dtype=torch.int64, device=device)
        self.there = torch.zeros(size, dtype=torch.uint8, device=device)  # no steps: nothing runs

        def body() -> None:
            for number in range(GRAPHED):
                self.step(number, bytes(size), in_graph=True)
            assert self.base is not None
            self.base.add_(GRAPHED)

        self.buffers.states.zero_()
        self.buffers.operand.zero_()
        self.replay = self.code.driver.record(body, device)

    def run(self, directions: Sequence[Direction], here: bytes, steps: int) -> None:
        """A whole call."""
        with self.lock:
            self.buffers.begin(directions)
            done = 0
            if self.replay is not None:
                assert self.base is not None and self.there is not None
                self.base.zero_()
                numbers = torch.frombuffer(bytearray(here), dtype=torch.uint8)
                self.there.copy_(numbers, non_blocking=True)  # CUDA copies pageable memory at once
                while done + GRAPHED <= steps:
                    self.replay()
                    done += GRAPHED
            for number in range(done, steps):
                self.step(number, here)
            self.buffers.end(directions)


_seen: OrderedDict[Any, _Sequence | None] = OrderedDict()
"""By what a graph depends on: those that were recorded; None for what has come once."""
_lock = threading.Lock()


def run_steps(
    code: Kernels,
    way: Way,
    save: bool,
    measure: bool,
    directions: Sequence[Direction],
    steps: int,
    batch: int,
    here: bytes,
) -> None:
    """All time steps of one direction of a layer, or of two. here: the numbers of the call, as
    `Args` in kernels/layer.cu."""
    function, _ = code.get(way, save, measure)
    like = directions[0].weight
    assert like is not None
    sides, driver, device = len(directions), code.driver, code.device
    found = None
    small = sides * like.numel() * like.element_size() <= _MOST_BYTES
    if steps >= GRAPHED and small and driver.records(device):
        # Two calls on one stream follow each other there; on two they could overlap.
        key = (code, way, save, measure, sides, batch, driver.stream(device))
        with _lock:
            known, found = key in _seen, _seen.get(key)
            if known and found is None:
                # It outlives the call, so it is no tensor of inference mode, which later calls
                # could not change.
                with torch.inference_mode(False), torch.no_grad():
                    found = _Sequence(code, function, way, sides, batch, like, lasting=True)
                    found.record(len(here))
            _seen[key] = found
            _seen.move_to_end(key)
            while len(_seen) > _MOST_GRAPHS:
                _seen.popitem(last=False)
    if found is None:
        found = _Sequence(code, function, way, sides, batch, like)
    found.run(directions, here, steps)
