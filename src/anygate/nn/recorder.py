"""Which modules are being recorded, and where their engines tell what they measure."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..cells import Cell
from .recording import Piece, Recording

__all__ = ["Call", "Recorder", "recorded_call"]


class Recorder:
    """Counts the calls of a model and says which of them are measured: every N-th. A module of it
    that runs outside of a call of the model, from a training loop that calls the parts, counts for
    itself."""

    def __init__(
        self,
        model: nn.Module,
        modules: dict[nn.Module, str],
        every: int,
        units: tuple[int, ...] = (),
    ) -> None:
        self.modules, self.every, self.units = modules, every, units
        self.recording = Recording()
        self.step = -1
        self.depth = 0
        self.outside = dict.fromkeys(modules, -1)
        self.before: dict[nn.Module, int] = {}
        self._hooks = [
            model.register_forward_pre_hook(self._enter),
            model.register_forward_hook(self._leave, always_call=True),
        ]

    def _enter(self, module: nn.Module, arguments: Any) -> None:
        if self.depth == 0:
            self.step += 1
            self.before = {}
        self.depth += 1

    def _leave(self, module: nn.Module, arguments: Any, output: Any) -> None:
        self.depth -= 1

    def remove(self) -> None:
        """Take the hooks off the model."""
        for hook in self._hooks:
            hook.remove()

    def call(self, module: nn.Module) -> Call | None:
        """What measures this call of the module; None if it is not to be measured."""
        if not self.depth:
            self.outside[module] += 1
            self.before.pop(module, None)
        step = self.step if self.depth else self.outside[module]
        if step % self.every:
            return None
        before = self.before.get(module, 0)
        self.before[module] = before + 1
        return Call(self.recording, self.modules[module], step, before, self.units)


class Call:
    """One measured call of a module."""

    def __init__(
        self, recording: Recording, name: str, step: int, call: int, units: tuple[int, ...]
    ) -> None:
        self.recording, self.name, self.step, self.call = recording, name, step, call
        self.units = units

    def measures(self, cell: Cell, suffix: str, state: Tensor, batch_sizes: Tensor | None) -> Piece:
        """Receives what an engine measures in one layer and direction: suffix "_l0_reverse", or ""
        for a single-step cell; state [B, H]. Raises ValueError for a unit that is not there."""
        if self.units and max(self.units) >= state.shape[-1]:
            raise ValueError(
                f"record: '{self.name}' has {state.shape[-1]} hidden units, from 0; there is no "
                f"unit {max(self.units)}"
            )
        rows = state.shape[0] if batch_sizes is None else batch_sizes
        layer = ".".join(part for part in (self.name, suffix.removeprefix("_")) if part)
        piece = Piece(
            self.step, layer or "cell", 0 if not suffix else self.call, cell,
            rows, state.shape[-1], suffix.endswith("_reverse"), not suffix, self.units,
        )  # fmt: skip
        self.recording.pieces.append(piece)
        return piece


ACTIVE: dict[nn.Module, Recorder] = {}
"""The modules that are being recorded now."""


def recorded_call(module: nn.Module) -> Call | None:
    """What measures this call of a module, if anything does. torch.compile traces none."""
    if torch.compiler.is_compiling() or not ACTIVE:
        return None
    recorder = ACTIVE.get(module)
    return None if recorder is None else recorder.call(module)
