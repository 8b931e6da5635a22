"""The modules that are being recorded, and where each call's measurements go."""

from __future__ import annotations

import sys
import threading
from itertools import count
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from ..cells import Cell
from .recording import Piece, Recording

__all__ = ["Call", "Recorder", "recorded_call"]


class Recorder:
    """Counts the calls of a model and says which of them are measured: every N-th. A module of it
    that runs outside of a call of the model, from a training loop that calls the parts, counts for
    itself. Each thread is in a call of its own.

    The hooks are torch's global ones, so that copies of the model made meanwhile have none. A call
    is known by its frame and lasts as long as that is on the stack, whatever way it ends: hooks
    that are to run at its end do not after a KeyboardInterrupt, or where one before them raised.
    """

    def __init__(
        self,
        model: nn.Module,
        modules: dict[nn.Module, str],
        every: int,
        units: tuple[int, ...] = (),
    ) -> None:
        self.model, self.modules, self.every, self.units = model, modules, every, units
        self.recording = Recording()
        self.steps = count()
        self.outside = {module: count() for module in modules}
        self.here = threading.local()
        self._hooks = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]

    def _enter(self, module: nn.Module, arguments: Any) -> None:
        if module is self.model and not self._is_in_call():
            self.here.frame = sys._getframe(1)
            self.here.step, self.here.before = next(self.steps), {}

    def _leave(self, module: nn.Module, arguments: Any, output: Any) -> None:
        """Lets go of the frame, which holds the call's arguments and results."""
        if module is self.model and (not self._is_in_call() or self.here.frame is sys._getframe(1)):
            self.here.frame = None

    def _is_in_call(self) -> bool:
        """True where this thread is in a call of the model."""
        outermost = getattr(self.here, "frame", None)
        if outermost is None:
            return False
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame is not outermost:
            frame = frame.f_back
        return frame is not None

    def remove(self) -> None:
        """Take the hooks off."""
        for hook in self._hooks:
            hook.remove()
        self.here = threading.local()

    def call(self, module: nn.Module) -> Call | None:
        """The recorder of this call of the module; None if it is not to be measured."""
        inside = self._is_in_call()
        step = self.here.step if inside else next(self.outside[module])
        if step % self.every:
            return None
        before = 0
        if inside:
            before = self.here.before.get(module, 0)
            self.here.before[module] = before + 1
        name = self.modules[module]
        return Call(self.recording, name, step, before, self.units, not inside)


class Call:
    """One measured call of a module."""

    def __init__(
        self,
        recording: Recording,
        name: str,
        step: int,
        call: int,
        units: tuple[int, ...],
        alone: bool,
    ) -> None:
        self.recording, self.name, self.step, self.call = recording, name, step, call
        self.units, self.alone = units, alone

    def measures(self, cell: Cell, suffix: str, state: Tensor, batch_sizes: Tensor | None) -> Piece:
        """The object that receives an engine's measurements of one layer and direction. suffix:
        "_l0_reverse", or "" for a single-step cell; state [B, H]. Raises ValueError for a unit that
        is not there."""
        if self.units and max(self.units) >= state.shape[-1]:
            raise ValueError(
                f"record: '{self.name}' has {state.shape[-1]} hidden units, from 0; there is no "
                f"unit {max(self.units)}"
            )
        rows = state.shape[0] if batch_sizes is None else batch_sizes
        layer = ".".join(part for part in (self.name, suffix.removeprefix("_")) if part)
        piece = Piece(
            self.step,
            layer or "cell",
            0 if not suffix else self.call,
            cell,
            rows,
            state.shape[-1],
            suffix.endswith("_reverse"),
            not suffix,
            self.alone,
            self.units,
        )
        self.recording.append(piece)
        return piece


ACTIVE: dict[nn.Module, Recorder] = {}
"""The modules that are being recorded now."""


def recorded_call(module: nn.Module) -> Call | None:
    """The recorder of this call of a module; None if it is not recorded, as under torch.compile."""
    if torch.compiler.is_compiling() or not ACTIVE:
        return None
    recorder = ACTIVE.get(module)
    return None if recorder is None else recorder.call(module)
