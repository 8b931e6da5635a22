"""Where trials run: this process, processes of this machine, or a cluster of Ray or Dask.

Whatever runs a trial returns what it found and writes nothing, so that it need not see the disk of
whoever asked. Processes of this machine end with the process that started them, however it ends.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any, TypeVar

from .trial import TrialSpec, one_thread, run_trial

__all__ = [
    "ENGINES",
    "IDLE_SECONDS",
    "Engine",
    "EngineGone",
    "Outcome",
    "cores",
    "in_processes",
    "on_this_machine",
    "open_engine",
]

IDLE_SECONDS = 30.0
"""Seconds after which a worker process without work ends."""
_LOOKS = 0.5
"""Seconds between two looks of a worker at whether its parent lives."""

T = TypeVar("T")

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
    jobs = min(jobs or cores(), len(specs))
    if jobs == 1:
        yield from map(run_one, specs)
        return
    try:
        yield from in_processes(run_one, [(spec,) for spec in specs], jobs)
    except BrokenProcessPool as error:
        raise EngineGone(
            "a process died while it ran a trial (out of memory? try fewer --jobs); what is "
            "done is kept, the same command goes on"
        ) from error


def in_processes(
    function: Callable[..., T], arguments: Iterable[tuple[Any, ...]], jobs: int
) -> Iterator[T]:
    """The results of a function for several tuples of arguments, in the order in which they come,
    from `jobs` processes of one thread each, which do not outlive this one."""
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(backend="loky", n_jobs=jobs, inner_max_num_threads=1):
        run = Parallel(
            return_as="generator_unordered",
            batch_size=1,
            idle_worker_timeout=IDLE_SECONDS,
            initializer=_end_with,
            initargs=(os.getpid(),),
        )
        yield from run(delayed(function)(*each) for each in arguments)


def _end_with(parent: int) -> None:
    """Make this process end once it is no longer a child of `parent`.

    A worker of loky waits for work at the end of a pipe whose other end it holds open as well, so
    that it never learns of a parent that was killed; but the system then gives it another parent.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOKS)
        os._exit(1)

    threading.Thread(target=watch, name="anygate-parent", daemon=True).start()


_ALONE = threading.Lock()


def run_one(spec: TrialSpec) -> Outcome:
    """One trial, alone in its process: torch has one number of threads and one source of random
    numbers for a process, so two trials in threads of one (as Dask's workers have) would not be
    what their seeds say. Whoever called finds both as they were."""
    with _ALONE, one_thread():
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
