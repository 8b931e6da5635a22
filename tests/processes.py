"""Several processes that compute together, as torch.distributed has them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch.multiprocessing as mp

__all__ = ["run_processes"]


def run_processes(work: Callable[..., None], folder: Path, count: int, limit: float) -> None:
    """Run work(rank, folder) in `count` processes; ended by force after `limit` seconds."""
    context = mp.spawn(work, (str(folder),), nprocs=count, join=False)
    end = time.monotonic() + limit
    try:
        while not context.join(timeout=1.0):
            assert time.monotonic() < end, f"{count} processes took more than {limit} s"
    finally:
        for process in context.processes:
            if process.is_alive():
                process.kill()
                process.join(10)
