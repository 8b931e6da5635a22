"""An engine: one class that computes one direction of a recurrent layer. And which there are."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from ..cells import Cell

__all__ = [
    "Choice",
    "Engine",
    "EngineError",
    "Layer",
    "Measures",
    "Prepared",
    "PreparedTraining",
    "Request",
    "Result",
    "choose",
    "intercepted",
    "load",
    "names",
    "needs_gradient",
    "on_change",
    "register",
    "unregister",
]


class EngineError(RuntimeError):
    """No engine, or not the one asked for, can do what is asked. The message says why."""


@dataclass(frozen=True)
class Request:
    """The circumstances of a run, by which an engine is chosen.

    cell: the equations and activations; device: "cpu", "cuda" ...; dtype: "float32" ...; training:
    gradients will be needed.
    """

    cell: Cell
    device: str
    dtype: str
    training: bool


class Measures(Protocol):
    """Receives what an engine measured inside one run of a layer; time steps in the order of x."""

    def forward(self, table: Tensor) -> None:
        """[threads, T, len(Measured.numbers)] of `cells.measures`, float64."""

    def backward(self, table: Tensor) -> None:
        """[threads, T, len(Measured.norms)], float64."""


class Layer(NamedTuple):
    """The tensors of one direction of one layer. Shapes for S states, H hidden units:

    x [T, B, I], or [N, I] packed with batch_sizes [T] (falling, positive, N = their sum).
    states: S tensors [B, H], those before the first step taken, in the order of the cell's states.
    weight_ih [P_x*H, I], weight_hh [P_h*H, H]: H rows for each product that sees x, and for each
    that sees a state, in the order of the cell type's products. bias_ih [P_x*H] and bias_hh
    [P_h*H], or both None. vectors [len(cell.per_unit), H], or None without any.
    masks [T, B, M, H] ([N, M, H] packed) for the type's M masks, or None without any.
    reverse: from the last time step to the first.
    """

    x: Tensor
    states: tuple[Tensor, ...]
    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None = None
    bias_hh: Tensor | None = None
    vectors: Tensor | None = None
    masks: Tensor | None = None
    batch_sizes: Tensor | None = None
    reverse: bool = False


class Prepared(Protocol):
    """Runs a layer again and again, without gradients, where `intercepted` is False."""

    def __call__(
        self,
        x: Tensor,
        states: Sequence[Tensor],
        weights: Sequence[Tensor],
        output: Tensor | None,
        last: Sequence[Tensor],
    ) -> bool:
        """Write the output and the states after the last step. All tensors are contiguous and have
        the sizes of the layer that was prepared; weights: those of them that are not None; output:
        may be None for one step. False, and nothing written: the weights are no longer what they
        were, and the layer must be prepared again."""


class PreparedTraining(Protocol):
    """Runs a layer again and again, differentiable by autograd, where `intercepted` is False."""

    def __call__(
        self, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor]
    ) -> Sequence[Tensor] | None:
        """The output and each state after the last step. x and the states are contiguous and have
        the sizes of the layer that was prepared; weights: those of them that are not None. None:
        these weights, or the number of threads now, need another way."""


def intercepted() -> bool:
    """Something must see torch's operators: a transform of torch.func, forward-mode
    differentiation, a dispatch mode, a trace."""
    return (
        forward_ad._current_level >= 0
        or _transforms() is not None
        or _dispatch_modes() > 0
        or _trace() is not None
    )


_transforms = torch._C._functorch.peek_interpreter_stack
_dispatch_modes = torch._C._len_torch_dispatch_stack
_trace = torch._C._get_tracing_state


class Result(NamedTuple):
    """The tensors that a run of a layer gives.

    output [T, B, H] ([N, H] packed): the type's output state at every time step. states: S tensors
    [B, H], after each row's last step taken. kept: each state at every time step, S tensors
    [T, B, H] ([N, H]), where that was asked for. All may be changed in place.
    """

    output: Tensor
    states: tuple[Tensor, ...]
    kept: tuple[Tensor, ...] | None = None


class Engine(ABC):
    """One way to compute a layer. One object of each class is made; it keeps no state of a run."""

    name: ClassVar[str]
    devices: ClassVar[tuple[str, ...]] = ()
    """The kinds of device that it runs on; elsewhere "auto" does not speak of it. (): all."""
    has_operator: ClassVar[bool] = False
    """`run` itself calls an operator of torch's under torch.compile and in a trace; if not, it runs
    inside one (`whole.py`)."""

    @abstractmethod
    def refuses(self, request: Request) -> str | None:
        """The reason why this engine cannot serve the request; None if it can."""

    def withheld(self, request: Request) -> str | None:
        """The reason why "auto" passes over an engine that could serve the request."""
        return None

    def detail(self, cell: Cell, hidden: int, batch: int, dtype: str) -> str:
        """The way the engine computes a layer of this size, for people; "" if there is one way
        only."""
        return ""

    @abstractmethod
    def run(
        self, key: str, layer: Layer, keep: bool = False, measures: Measures | None = None
    ) -> Result:
        """One direction of one layer, differentiable by autograd in every tensor but masks and
        batch_sizes.

        key: the cell, as `cells.cell_key` writes it. keep: give every state at every time step.
        measures: receives what `cells.measures` defines, from forward and from backward.
        """

    def prepare(self, key: str, layer: Layer) -> Prepared | None:
        """A shorter way than `run` through layers of these shapes and dtypes without gradients;
        None where the engine has none. States may be [1, B, H]."""
        return None

    def prepare_training(
        self, key: str, layer: Layer, output: Sequence[int]
    ) -> PreparedTraining | None:
        """The same for runs with gradients; output: the shape in which the output is to be given,
        whose memory is that of [T, B, H]. The states are given in the shapes that they have."""
        return None

    def run_sides(
        self,
        key: str,
        layers: Sequence[Layer],
        keep: bool = False,
        measures: Sequence[Measures] | None = None,
    ) -> list[Result]:
        """`run` of several layers that do not need each other, of the same sizes and batch sizes:
        the directions of a bidirectional layer. measures: of each."""
        each: Sequence[Measures | None] = measures or [None] * len(layers)
        return [self.run(key, layer, keep, m) for layer, m in zip(layers, each, strict=True)]


# ---- the registry ------------------------------------------------------------------------------

_HOMES: dict[str, str] = {
    # The order is that in which "auto" asks, the fastest first.
    "cpu": ".cpu:CPU",
    "cuda": ".cuda:CUDA",
    "eager": ".eager:Eager",
    "reference": ".reference:Reference",
}
"""Engine -> its module and class, imported when they are needed; "" for one that was registered."""
_NAMED_ONLY = {"reference"}
"""Engines that run only when they are named: "reference" is the specification."""
LOADED: dict[str, Engine] = {}
"""The engines that have been loaded."""
_changed: list[Callable[[], None]] = []


def names() -> tuple[str, ...]:
    """Every engine."""
    return tuple(_HOMES)


def register(engine: Engine, first: bool = False) -> None:
    """Add an engine, or replace the one of its name. first: "auto" asks it before the others."""
    if first:
        others = {name: home for name, home in _HOMES.items() if name != engine.name}
        _HOMES.clear()
        _HOMES.update({engine.name: "", **others})
    else:
        _HOMES[engine.name] = ""  # in the place of the one that it replaces, or at the end
    LOADED[engine.name] = engine
    for forget in _changed:
        forget()


def unregister(name: str) -> None:
    """Take an engine out again."""
    del _HOMES[name]
    LOADED.pop(name, None)
    for forget in _changed:
        forget()


def on_change(forget: Callable[[], None]) -> None:
    """Call this whenever the engines change: a choice that was remembered may hold no longer."""
    _changed.append(forget)


def load(name: str) -> Engine:
    """The engine of this name. Raises EngineError for an unknown one."""
    if name not in _HOMES:
        known = ", ".join(("auto", *_HOMES))
        raise EngineError(f"no engine is called '{name}'; there are: {known}")
    if name not in LOADED:
        module, _, kind = _HOMES[name].partition(":")
        engine = getattr(import_module(module, __package__), kind)()
        assert isinstance(engine, Engine)
        LOADED[name] = engine
    return LOADED[name]


@dataclass(frozen=True)
class Choice:
    """The engine that runs and, for each faster one, why it does not. detail: how the engine
    computes it, where there are several ways."""

    name: str
    refused: tuple[tuple[str, str], ...] = ()
    detail: str = ""

    def __str__(self) -> str:
        lines = [f"engine: {self.name}"]
        if self.detail:
            lines.append(f"  {self.detail}")
        lines += [f"  not {name}: {reason}" for name, reason in self.refused]
        return "\n".join(lines)


def choose(request: Request, engine: str = "auto") -> Choice:
    """The first engine that takes the request, or the one named.

    Raises EngineError if none does, with each one's reason.
    """
    candidates = [n for n in _HOMES if n not in _NAMED_ONLY] if engine == "auto" else [engine]
    refused: list[tuple[str, str]] = []
    for name in candidates:
        asked = load(name)
        if engine == "auto" and asked.devices and request.device not in asked.devices:
            continue
        reason = asked.refuses(request)
        if reason is None and engine == "auto":
            reason = asked.withheld(request)
        if reason is None:
            return Choice(name, tuple(refused))
        refused.append((name, reason))
    reasons = "; ".join(f"{name}: {reason}" for name, reason in refused)
    raise EngineError(f"no engine can run this {request.cell.type.name} ({reasons})")


CREATE_GRAPH = (
    "anygate.record cannot measure a backward with create_graph=True; take gradients of gradients "
    "outside of it"
)
"""The words of an engine when a measured backward is to be differentiated."""


def needs_gradient(layer: Layer) -> bool:
    """True if autograd will want gradients of a run of this layer."""
    if not torch.is_grad_enabled():
        return False
    tensors = (layer.x, *layer.states, *layer[2:7])
    return any(t is not None and t.requires_grad for t in tensors)
