"""Trials on Ray, by joblib's backend for it. Checked with tests/ray_nodes.py."""

from __future__ import annotations

import io
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import TextIO

import ray
from joblib import register_parallel_backend
from ray.util.joblib.ray_backend import RayBackend

from .engines import Engine, EngineGone, Outcome, cores
from .shipping import run_shipped
from .trial import TrialSpec

__all__ = ["ray_engine"]

_STORE = 10**8  # bytes that a local Ray sets aside for objects; a trial's result has some thousand

_SURVIVE = {
    # A worker that is lost starts again elsewhere with the trials it had. Ray may need half a
    # minute to see that a node is gone and counts every try until then: hence no end of tries, but
    # of starts, so that a trial that kills its worker does not go round for ever.
    "max_restarts": 5,
    "max_task_retries": -1,
    "scheduling_strategy": "SPREAD",
}


class _Backend(RayBackend):
    """joblib's backend for Ray, giving each result as it comes. RayBackend inherits that it cannot
    from the backend of multiprocessing, but its pool calls back as loky does."""

    supports_return_generator = True


class _News(io.TextIOBase):
    """What Ray prints about lost nodes and workers goes to stderr, a line each (below it is the
    end of a node's log), without workers that end as they were told to."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        line = text.partition("\n")[0]
        if line.strip() and "__ray_terminate__" not in line:
            print(line, file=self.stream)
        return len(text)


@contextmanager
def ray_engine(address: str | None, jobs: int | None) -> Iterator[Engine]:
    """Trials on the Ray cluster at `address`, else RAY_ADDRESS, else one started here."""
    register_parallel_backend("anygate-ray", _Backend)
    ours = not ray.is_initialized()
    with redirect_stdout(_News(sys.stderr)):
        if ours:
            _connect(address or os.environ.get("RAY_ADDRESS"), jobs)
        try:
            yield _run
        finally:
            if ours:
                ray.shutdown()


def _connect(address: str | None, jobs: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        ray.init(num_cpus=jobs or cores(), object_store_memory=_STORE, include_dashboard=False,
                 **quiet)  # fmt: skip
        return
    try:
        _knock(address)
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        why = str(error).partition("\n")[0]
        raise EngineGone(
            f"no Ray cluster answers at {address} ({why}); start one with `ray start --head`, or "
            "leave --address out"
        ) from error


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def _run(specs: Sequence[TrialSpec], jobs: int | None = None) -> Iterator[Outcome]:
    workers = min(jobs or int(ray.cluster_resources().get("CPU", 1)), len(specs))
    # joblib would run a single job in the process that asks, and not on the cluster.
    settings = {"n_jobs": max(2, workers), "ray_remote_args": _SURVIVE}
    try:
        yield from run_shipped(specs, "anygate-ray", **settings)
    except ray.exceptions.RayError as error:
        raise EngineGone(
            f"a worker of Ray was lost {_SURVIVE['max_restarts']} times, or could not start (out "
            f"of memory, or a node without this anygate?): {str(error).partition(chr(10))[0]}; "
            "what is done is kept, the same command goes on"
        ) from error
