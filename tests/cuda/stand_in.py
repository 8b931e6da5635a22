"""A CPU in the place of a CUDA device, so that what is to run on a card is seen to run before one
is to be had: "cuda" means the CPU, and the engine cuda runs on an emulated card. For a process of
its own, by ANYGATE_EMULATED=1; times and CUDA graphs mean nothing there."""

from __future__ import annotations

import contextlib
import os
import time
from types import SimpleNamespace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from anygate.engines import protocol

EMULATED = os.environ.get("ANYGATE_EMULATED") == "1"


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    if isinstance(value, str) and value == "cuda":
        return "cpu"
    if isinstance(value, tuple | list):
        return type(value)(map(_on_cpu, value)) if not hasattr(value, "_fields") else value
    return value


class _Mode(TorchFunctionMode):
    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        named = {name: _on_cpu(value) for name, value in (kwargs or {}).items()}
        return function(*map(_on_cpu, args), **named)


class _Nothing:
    """A stream, an event, a graph: whatever is asked of it does nothing."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.at = time.perf_counter()

    def record(self, *arguments: Any) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, other: _Nothing) -> float:
        return max(1e-6, 1e3 * (other.at - self.at))

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **options: None


def install(driver: Any) -> None:
    """For the rest of the process, once. driver: of the engine cuda."""
    from emulated import Chosen

    if torch.cuda.is_available():
        return
    _Mode().__enter__()
    cuda: Any = torch.cuda
    for name in ("Stream", "Event", "CUDAGraph"):
        setattr(cuda, name, _Nothing)
    for name in ("stream", "graph", "device"):
        setattr(cuda, name, lambda *arguments, **options: contextlib.nullcontext())
    cuda.is_available = lambda: True
    cuda.synchronize = lambda *arguments: None
    cuda.current_stream = _Nothing
    cuda.get_device_capability = lambda *arguments: (9, 0)
    cuda.get_device_name = lambda *arguments: "an emulated card"
    cuda.get_device_properties = lambda *arguments: SimpleNamespace(
        major=9, minor=0, name="emulated"
    )
    for kind in (torch.Tensor, torch.nn.Module):
        kind.cuda = lambda self, *arguments: self  # type: ignore[method-assign]
    protocol.register(Chosen(driver))
