"""CUDA: the engine's class."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from ...cells import Cell, cell_of
from ..again import needs_operator
from ..layout import layout_of
from ..operator import implement, intercepted
from ..protocol import (
    Engine,
    EngineError,
    Layer,
    Measures,
    Request,
    Result,
    load,
    needs_gradient,
)
from .compiler import kernels
from .cost import choose
from .driver import Driver, Nvidia, compiler
from .layer import Arriving, Backward, Forward
from .plain import Call, apply, flat, run, run_backward
from .plan import Card, Plan

__all__ = ["CUDA", "VERIFIED"]

VERIFIED: frozenset[tuple[int, int]] = frozenset()
"""Compute capabilities of cards on which tests/test_cuda.py has passed: there "auto" takes this
engine. None yet: the kernels have run on an emulator of the card only."""
_SWITCH = "ANYGATE_CUDA"
_DTYPES = {"float32": 3, "float16": 1, "bfloat16": 1}
"""Parts of a number in the products, without TF32."""


class CUDA(Engine):
    """Cells of the kind "one product" on an NVIDIA GPU, in float32, float16 and bfloat16."""

    name = "cuda"
    device = "cuda"
    devices = ("cuda",)

    def __init__(self, driver: Driver | None = None) -> None:
        self.driver: Driver = Nvidia() if driver is None else driver

    def refuses(self, request: Request) -> str | None:
        if request.device != self.device:
            return f"it runs on NVIDIA GPUs, not on {request.device}"
        if request.dtype not in _DTYPES:
            return f"it computes in float32, float16 and bfloat16, not {request.dtype}"
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
        if card.capability < (8, 0):
            return f"it needs compute capability 8.0, an A100's; {card.name} has {card.capability}"
        known = compiler()
        major, minor = card.capability
        if known is not None and 10 * major + minor not in known.architectures:
            return (
                f"NVRTC {known.version} does not know {card.architecture}; a torch for a newer "
                "CUDA brings one that does"
            )
        return None

    def detail(self, cell: Cell, hidden: int, batch: int, dtype: str) -> str:
        """How a layer of this size is computed, in words."""
        plan = self.plan(cell, hidden, batch, 1, getattr(torch, dtype), torch.device(self.device))
        return str(plan) if plan else f"{_TOO_LARGE}; eager runs it"

    def plan(
        self,
        cell: Cell,
        hidden: int,
        batch: int,
        directions: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> Plan | None:
        """How a layer is computed; None if no plan fits the card."""
        parts = _DTYPES[str(dtype).removeprefix("torch.")]
        if parts > 1 and allows_tf32():
            parts = 2
        card = self.driver.card(device)
        half = dtype == torch.float16
        return choose(layout_of(cell), hidden, max(1, batch), directions, parts, half, card)

    def run(
        self, key: str, layer: Layer, keep: bool = False, measures: Measures | None = None
    ) -> Result:
        if measures is not None:  # sums inside these kernels are not written yet
            return load("eager").run(key, layer, keep, measures)
        return self.run_sides(key, (layer,), keep)[0]

    def run_sides(self, key: str, layers: Sequence[Layer], keep: bool = False) -> list[Result]:
        if any(map(needs_operator, layers)):
            looked_into = (intercepted(key, layer, keep, None) for layer in layers)
            return [result for result in looked_into if result is not None]
        cell = cell_of(key)
        first = layers[0]
        batch, hidden = first.states[0].shape
        device = first.x.device
        plan = self.plan(cell, hidden, batch, len(layers), first.x.dtype, device)
        if plan is None:
            return [load("eager").run(key, layer, keep) for layer in layers]
        code = kernels(self.driver, cell, plan, device)
        reverse = tuple(layer.reverse for layer in layers)
        call = Call(code, key, reverse, keep, len(first.states))
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

    @staticmethod
    def _result(output_state: int, found: Forward, keep: bool) -> Result:
        if not keep:
            return Result(found.output, tuple(found.states))
        assert found.others is not None
        # Each gets memory of its own, so that one may be changed in place.
        kept: list[Tensor] = [state.clone() for state in found.others.unbind(0)]
        kept.insert(output_state, found.output.clone())
        return Result(found.output, tuple(found.states), tuple(kept))


def operator_forward(key: str, layer: Layer, training: bool, keep: bool) -> Forward:
    """The operator's, on a GPU; raises EngineError where no plan fits the card."""
    return run(_call(key, layer, keep), [layer], training)[0]


def operator_backward(
    key: str,
    layer: Layer,
    kept: tuple[Tensor, Tensor, Tensor],
    grad_output: Tensor | None,
    grad_states: Sequence[Tensor | None],
    grad_others: Tensor | None,
    need_x: bool,
) -> Backward:
    """The operator's, on a GPU."""
    output, saved, others = kept
    arriving = Arriving(grad_output, grad_states, grad_others)
    result = Forward(output, [], saved, others)
    return run_backward(_call(key, layer, False), [layer], [result], [arriving], need_x)[0]


def _call(key: str, layer: Layer, keep: bool) -> Call:
    engine = load("cuda")
    assert isinstance(engine, CUDA)
    batch, hidden = layer.states[0].shape
    cell, device = cell_of(key), layer.x.device
    plan = engine.plan(cell, hidden, batch, 1, layer.x.dtype, device)
    if plan is None:
        raise EngineError(f'{_TOO_LARGE}; engine="eager" runs it under torch.compile')
    code = kernels(engine.driver, cell, plan, device)
    return Call(code, key, (layer.reverse,), keep, len(layer.states))


implement("CUDA", operator_forward, operator_backward)

_TOO_LARGE = "no plan holds the recurrent weights of this size on the card"


def allows_tf32() -> bool:
    """The setting of torch's own recurrent layers: TF32, or whole float32 numbers."""
    rnn = getattr(torch.backends.cudnn, "rnn", None)
    precision = getattr(rnn, "fp32_precision", None)
    if precision is None:  # torch before 2.9
        return bool(torch.backends.cudnn.allow_tf32)
    return bool(precision == "tf32")
