"""What an engine is, which engines there are, and how one is chosen.

An engine runs one direction of one LSTM layer. It is a module of this package with a table of
operations and the functions of `Engine`; engines never import each other.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Protocol, cast

from ..formulas.cell import Cell

__all__ = [
    "AUTO",
    "CREATE_GRAPH",
    "ENGINES",
    "Choice",
    "Engine",
    "EngineError",
    "Measures",
    "Request",
    "choose",
    "load",
]

AUTO = ("cpu", "eager")
"""Engines that "auto" considers, the fastest first."""
ENGINES = (*AUTO, "reference")
"""Every engine; "reference" is the specification and runs only when it is named."""


class EngineError(RuntimeError):
    """No engine, or not the one asked for, can do what is asked. The message says why."""


@dataclass(frozen=True)
class Request:
    """What one run of a layer asks for.

    cell: the activations; device: "cpu", "cuda" ...; dtype: "float32" ...; training: whether
    gradients will be needed.
    """

    cell: Cell
    device: str
    dtype: str
    training: bool


class Measures(Protocol):
    """Is told what was measured inside one run of a layer, by each of the threads that shared it;
    time steps in the order of x."""

    def forward(self, table: Any) -> None:
        """[threads, T, NUMBERS] of `formulas.measures`, float64."""

    def backward(self, table: Any) -> None:
        """[threads, T, NORMS], float64."""


CREATE_GRAPH = (
    "anygate.record cannot measure a backward with create_graph=True; take gradients of gradients "
    "outside of it"
)


class Engine(Protocol):
    """The functions that the module of an engine has."""

    NAME: str
    FRAMEWORK: str
    """"torch": `run` takes torch tensors and autograd works through it.
    "numpy": `run` and `backward` take NumPy arrays."""

    def refuses(self, request: Request) -> str | None:
        """Why this engine cannot serve the request; None if it can."""

    def run(
        self,
        cell: Cell,
        x: Any,
        h0: Any,
        c0: Any,
        weight_ih: Any,
        weight_hh: Any,
        bias: Any,
        parameters: dict[str, Any],
        reverse: bool,
        measures: Measures | None = None,
    ) -> Any:
        """One direction of one layer.

        x [T, B, I]; h0, c0 [B, H]; weight_ih [4H, I]; weight_hh [4H, H]; bias [4H] or None;
        gates in the order i f g o; parameters: SLOT.PARAMETER -> number or tensor;
        reverse: from the last time step to the first; measures: what is told of its inside.
        Returns output [T, B, H], h [B, H] and c [B, H] after the last step taken.
        """


@dataclass(frozen=True)
class Choice:
    """The engine that runs and, for each faster one, why it does not."""

    name: str
    refused: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        lines = [f"engine: {self.name}"]
        lines += [f"  not {name}: {reason}" for name, reason in self.refused]
        return "\n".join(lines)


def load(name: str) -> Engine:
    """The engine of this name. Raises EngineError for an unknown one."""
    if name not in ENGINES:
        known = ", ".join(("auto", *ENGINES))
        raise EngineError(f"no engine is called '{name}'; there are: {known}")
    return cast(Engine, importlib.import_module(f"{__package__}.{name}"))


def choose(request: Request, engine: str = "auto") -> Choice:
    """The first engine that takes the request, or the one named.

    Raises EngineError if none does, with each one's reason.
    """
    candidates = AUTO if engine == "auto" else (engine,)
    refused: list[tuple[str, str]] = []
    for name in candidates:
        reason = load(name).refuses(request)
        if reason is None:
            return Choice(name, tuple(refused))
        refused.append((name, reason))
    reasons = "; ".join(f"{name}: {reason}" for name, reason in refused)
    raise EngineError(f"no engine can run this LSTM ({reasons})")
