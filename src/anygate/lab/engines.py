"""Where trials run: processes of this machine, or a cluster of Ray or Dask, all through joblib.

Whatever runs a trial returns what it found and writes nothing, so that it need not see the disk of
whoever asked.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch

from .trial import TrialSpec, run_trial

__all__ = ["ENGINES", "IDLE_SECONDS", "Engine", "EngineGone", "Outcome", "cores",
           "on_this_machine", "open_engine"]  # fmt: skip

IDLE_SECONDS = 30.0
"""How long a worker waits for more work; it is left alone when its parent is killed."""

Outcome = tuple[dict[str, Any], dict[str, Any]]
"""A trial's result and its timing, as run_trial returns them."""

Engine = Callable[[Sequence[TrialSpec], int | None], Iterator[Outcome]]
"""(trials, processes) -> their outcomes in the order in which they come. None: all cores."""


class EngineGone(ValueError):
    """An engine is not installed, cannot be reached or lost its workers; the message says what to
    do."""


def cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def on_this_machine(specs: Sequence[TrialSpec], jobs: int | None = None) -> Iterator[Outcome]:
    """One trial at a time in each of `jobs` processes of one thread; in this one if jobs is 1."""
    from joblib import Parallel, delayed, parallel_config

    jobs = min(jobs or cores(), len(specs))
    with parallel_config(backend="loky", n_jobs=jobs, inner_max_num_threads=1):
        run = Parallel(
            return_as="generator_unordered", batch_size=1, idle_worker_timeout=IDLE_SECONDS
        )
        try:
            yield from run(delayed(run_one)(spec) for spec in specs)
        except BrokenProcessPool as error:
            raise EngineGone(
                "a process died while it ran a trial (out of memory? try fewer --jobs); what is "
                "done is kept, the same command goes on"
            ) from error


_ALONE = threading.Lock()


def run_one(spec: TrialSpec) -> Outcome:
    """One trial, alone in its process: the random numbers of torch belong to a process, so two
    trials in threads of one (as Dask's workers have) would not be what their seeds say."""
    with _ALONE:
        torch.set_num_threads(1)
        return run_trial(spec)


ENGINES = {"joblib": "joblib", "ray": "ray", "dask": "distributed"}
"""The names of the engines, and the module that each needs."""


def open_engine(
    name: str, address: str | None = None, jobs: int | None = None
) -> AbstractContextManager[Engine]:
    """An engine to run trials with, for as long as the context lasts.

    name: one of ENGINES. address: that of a running cluster; without one a cluster is started on
    this machine, with `jobs` processes. Raises EngineGone if it is not installed or not there.
    """
    if find_spec(ENGINES[name]) is None:
        raise EngineGone(
            f"the engine {name} needs {ENGINES[name]}, which is not installed; "
            "pip install 'anygate[cluster]' brings it"
        )
    if name == "ray":
        from .on_ray import ray_engine

        return ray_engine(address, jobs)
    if name == "dask":
        from .on_dask import dask_engine

        return dask_engine(address, jobs)
    if address is not None:
        raise EngineGone("--address is that of a cluster: say which kind with --engine ray or dask")
    return nullcontext(on_this_machine)
