"""CUDA: the engine's class."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ...cells import Cell, cell_of
from ..again import needs_operator, warn_once
from ..layout import layout_of
from ..protocol import (
    Engine,
    Layer,
    Measures,
    Request,
    Result,
    load,
    needs_gradient,
)
from ..whole import run_whole
from .compiler import Kernels, kernels
from .cost import choose
from .driver import Driver, Nvidia, compiler
from .layer import Forward
from .plain import Call, apply, flat, run
from .plan import Card, Plan
from .stepwise import Steps

__all__ = ["CUDA", "VERIFIED"]

VERIFIED: frozenset[tuple[int, int]] = frozenset()
"""Compute capabilities of cards on which tests/test_cuda.py and test_cuda_engine.py have passed:
there "auto" takes this engine. None yet: the kernels have run on an emulator of the card only.
benchmarks/gpu.py runs both and says what to write here."""
_SWITCH = "ANYGATE_CUDA"
_DTYPES = {"float32": 3, "float16": 1, "bfloat16": 1, "float64": 0}
"""Parts of a number in the products, without TF32; 0: they are torch's."""
_MOST_KNOWN = 4096


class CUDA(Engine):
    """Cells of the kind "one product" on an NVIDIA GPU."""

    name = "cuda"
    device = "cuda"
    devices = ("cuda",)

    def __init__(self, driver: Driver | None = None) -> None:
        self.driver: Driver = Nvidia() if driver is None else driver
        self._known: dict[tuple[object, ...], Kernels] = {}

    def refuses(self, request: Request) -> str | None:
        if request.device != self.device:
            return f"it runs on NVIDIA GPUs, not on {request.device}"
        if request.dtype not in _DTYPES:
            return f"it computes in {', '.join(_DTYPES)}, not {request.dtype}"
        if (kind := request.cell.type.kind) != "one product":
            return f"it runs cells whose step needs one product; this is '{kind}'; eager runs it"
        if why := self.driver.missing():
            return why
        return self._refuses_card(self.driver.card(torch.device(self.device)))

    def withheld(self, request: Request) -> str | None:
        if os.environ.get(_SWITCH) == "1":
            return None
        card = self.driver.card(torch.device(self.device))
        if card.capability in VERIFIED:
            return None
        return (
            f'not yet verified on this card ({card.name or card.architecture}); engine="cuda" or '
            f"the environment's {_SWITCH}=1 takes it"
        )

    def _refuses_card(self, card: Card) -> str | None:
        if card.capability < (7, 0):
            return f"it needs compute capability 7.0, a V100's; {card.name} has {card.capability}"
        known = compiler()
        major, minor = card.capability
        if known is not None and 10 * major + minor not in known.architectures:
            return (
                f"NVRTC {known.version} does not know {card.architecture}; a torch for a newer "
                "CUDA brings one that does"
            )
        return None

    def detail(self, cell: Cell, hidden: int, batch: int, dtype: str) -> str:
        """The way a layer of this size is computed, in words."""
        return str(
            self.plan(cell, hidden, batch, 1, getattr(torch, dtype), torch.device(self.device))
        )

    def plan(
        self,
        cell: Cell,
        hidden: int,
        batch: int,
        directions: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Plan | Steps:
        """The plan by which a layer is computed."""
        parts = _DTYPES[str(dtype).removeprefix("torch.")]
        if parts > 1 and allows_tf32():
            parts = 2
        card = self.driver.card(device)
        half = dtype == torch.float16
        return choose(layout_of(cell), hidden, max(1, batch), directions, parts, half, card)

    def run(
        self, key: str, layer: Layer, keep: bool = False, measures: Measures | None = None
    ) -> Result:
        return self.run_sides(key, (layer,), keep, None if measures is None else (measures,))[0]

    def run_sides(
        self,
        key: str,
        layers: Sequence[Layer],
        keep: bool = False,
        measures: Sequence[Measures] | None = None,
    ) -> list[Result]:
        if any(map(needs_operator, layers)):
            if measures is not None:
                return load("eager").run_sides(key, layers, keep, measures)
            return [self._run_seen(key, layer, keep) for layer in layers]
        code = self._code(key, layers)
        first = layers[0]
        reverse = tuple(layer.reverse for layer in layers)
        call = Call(code, key, reverse, keep, len(first.states), measures)
        if not any(map(needs_gradient, layers)):
            found = run(call, layers, False)
            return [self._result(code.layout.output, f, keep) for f in found]
        tensors = apply(call, *flat(layers))
        width = 1 + call.states + keep
        results = []
        for k in range(len(layers)):
            output, *rest = tensors[k * width : (k + 1) * width]
            others = rest[call.states] if keep else None
            found_one = Forward(output, rest[: call.states], None, others)
            results.append(self._result(code.layout.output, found_one, keep))
        return results

    def _code(self, key: str, layers: Sequence[Layer]) -> Kernels:
        """The kernels for layers like these. Known by the cell's text: to hash cells and plans
        takes 40 us, a third of a call of one time step."""
        batch, hidden = layers[0].states[0].shape
        x = layers[0].x
        like = (key, hidden, batch, len(layers), x.dtype, x.device, allows_tf32())
        found = self._known.get(like)
        if found is None:
            cell = cell_of(key)
            plan = self.plan(cell, hidden, batch, len(layers), x.dtype, x.device)
            found = kernels(self.driver, cell, plan, x.device)
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[like] = found
        return found

    def _run_seen(self, key: str, layer: Layer, keep: bool) -> Result:
        """Of a call that something looks into: a compiler and a dispatch mode see one operator; a
        trace, a transform of torch.func and a subclass of Tensor see eager's operations."""
        functional = torch._C._functorch.peek_interpreter_stack() is not None
        if torch.compiler.is_compiling() or (
            torch._C._len_torch_dispatch_stack() > 0
            and not functional
            and forward_ad._current_level < 0
        ):
            return run_whole(key, layer, keep, needs_gradient(layer), self.name)
        warn_once("a trace, torch.func or a subclass of Tensor looks into a layer, which runs")
        return load("eager").run(key, layer, keep)

    @staticmethod
    def _result(output_state: int, found: Forward, keep: bool) -> Result:
        if not keep:
            return Result(found.output, tuple(found.states))
        assert found.others is not None
        # Each gets memory of its own, so that one may be changed in place.
        kept: list[Tensor] = [state.clone() for state in found.others.unbind(0)]
        kept.insert(output_state, found.output.clone())
        return Result(found.output, tuple(found.states), tuple(kept))


def allows_tf32() -> bool:
    """The setting of torch's own recurrent layers: TF32, or whole float32 numbers."""
    rnn = getattr(torch.backends.cudnn, "rnn", None)
    precision = getattr(rnn, "fp32_precision", None)
    if precision is None:  # torch before 2.9
        return bool(torch.backends.cudnn.allow_tf32)
    return bool(precision == "tf32")
