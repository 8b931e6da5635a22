"""Several processes: that compute together, as torch.distributed has them, and that should end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch.multiprocessing as mp

__all__ = ["end_of_session", "of_session", "run_processes"]


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


def of_session(session: int) -> set[int]:
    """The living processes of a session, which workers share with their parent; none where there
    is no /proc."""
    found: set[int] = set()
    if not Path("/proc/self/stat").exists():
        return found
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, _, _, its_session = (
                    (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                )
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(its_session) == session and state != "Z":
                found.add(int(entry.name))
    return found


def end_of_session(session: int, limit: float) -> None:
    """Wait until no process of a session lives: a worker that still does may write."""
    deadline = time.monotonic() + limit
    while of_session(session):
        assert time.monotonic() < deadline, "workers live on"
        time.sleep(0.05)
