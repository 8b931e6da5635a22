"""The machine and the versions that a trial ran with, as files hold them."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch

from ... import __version__
from ...nn import LSTM


def cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@cache
def machine(engine: str = "auto", device: str = "cpu") -> dict[str, Any]:
    """The machine and the versions, with the engine that runs an LSTM on the device, which must be
    here. Raises EngineError if the one asked for is unknown or does not run there."""
    before = torch.get_rng_state()  # the layer's weights are drawn
    try:
        name = (
            LSTM(1, 1, engine=engine).to(device).explain(torch.zeros(1, 1, 1, device=device)).name
        )
    finally:
        torch.set_rng_state(before)
    found = {
        "cpu": _cpu_name(),
        "cores": cores(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "anygate": __version__,
        "engine": name,
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.machine()
