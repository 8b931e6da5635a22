"""Executors run trials: this process, processes of this machine, or a cluster of Ray or Dask. And
running the trials that a folder lacks with one, each result written as it comes.

An executor returns results and writes nothing, so that it need not see the disk of whoever asked.
Processes of this machine end with the process that started them, however it ends. A folder holds
trials/KEY.json (the same whenever and wherever a trial runs) and timing/KEY.json; what lies there
is not run again, and one process at a time writes there (`locked`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from .devices import check_devices, usual_jobs
from .orphans import end_with
from .store.files import StudyError, read, write_bytes, write_json
from .store.folder import locked
from .store.schema import Timing, Trial
from .trial import Outcome, Runnable, TrialSpec

IDLE_SECONDS = 30.0
"""Seconds after which a worker process without work ends."""

T = TypeVar("T")
R = TypeVar("R", bound=Runnable)

Executor = Callable[[Sequence[Runnable], int | None], Iterator[Outcome]]
"""(trials, processes) -> their outcomes in the order in which they come. None: as many as there are
cores, or fewer where they share a GPU."""


class ExecutorGone(ValueError):
    """An executor is not installed, cannot be reached or lost its workers; the message says what to
    do."""


def on_this_machine(specs: Sequence[Runnable], jobs: int | None = None) -> Iterator[Outcome]:
    """One trial at a time in each of `jobs` processes of one thread; in this one if jobs is 1."""
    devices = [spec.settings.device for spec in specs if isinstance(spec, TrialSpec)]
    check_devices(devices)
    jobs = min(jobs or usual_jobs(devices), len(specs))
    if jobs == 1:
        yield from map(run_one, specs)
        return
    try:
        yield from in_processes(run_one, [(spec,) for spec in specs], jobs)
    except BrokenProcessPool as error:
        raise ExecutorGone(
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
            initializer=end_with,
            initargs=(os.getpid(),),
        )
        yield from run(delayed(function)(*each) for each in arguments)


_ONE_AT_A_TIME = threading.RLock()
"""Reentrant: a user's own training may run a study itself."""


def run_one(spec: Runnable) -> Outcome:
    """One trial, alone in its process: torch has one number of threads and one source of random
    numbers for a process, so two trials in threads of one (as Dask's workers have) would not be
    what their seeds say. Whoever called finds both as they were."""
    with _ONE_AT_A_TIME:
        return spec.run()


EXECUTORS = {"local": "joblib", "ray": "ray", "dask": "distributed"}
"""Name -> the module that it needs."""


def open_executor(
    name: str, address: str | None = None, jobs: int | None = None
) -> AbstractContextManager[Executor]:
    """An executor to run trials with, for as long as the context lasts.

    name: one of EXECUTORS. address: that of a running cluster; without one a cluster is started on
    this machine, with `jobs` processes. Raises ExecutorGone if it is not installed or not there.
    """
    if find_spec(EXECUTORS[name]) is None:
        raise ExecutorGone(
            f"the executor {name} needs {EXECUTORS[name]}, which is not installed; "
            "pip install 'anygate[cluster]' brings it"
        )
    if name == "ray":
        from .clusters import ray_executor

        return ray_executor(address, jobs)
    if name == "dask":
        from .clusters import dask_executor

        return dask_executor(address, jobs)
    if address is not None:
        raise ExecutorGone(
            "--address is that of a cluster: say which kind with --executor ray or dask"
        )
    return nullcontext(on_this_machine)


Progress = Callable[[int, int, str], None]
"""Called with trials done, trials in all and the key of the last."""


def run_trials(
    specs: Iterable[Runnable],
    directory: Path,
    *,
    jobs: int | None = None,
    executor: Executor = on_this_machine,
    progress: Progress = lambda done, total, key: None,
) -> None:
    """Run the trials that the folder lacks, in their order. Stopped at any moment, even by kill -9,
    it loses only the trials in flight, and goes on from there when called again.

    jobs: processes; default one for each core of the executor. Raises FolderInUse if another
    process runs trials in the folder, WriteError if a result cannot be written, ExecutorGone if
    the executor lost its workers, and what a trial raises.
    """
    run_placed({directory: tuple(specs)}, jobs=jobs, executor=executor, progress=progress)


def run_placed(
    planned: Mapping[Path, Sequence[Runnable]],
    *,
    jobs: int | None = None,
    executor: Executor = on_this_machine,
    progress: Progress = lambda done, total, key: None,
) -> None:
    """As run_trials for the trials of several folders at once, so that no process waits for the
    last trial of a folder. No two folders may share a trial."""
    total = sum(map(len, planned.values()))
    homes = {t.key: folder for folder, trials in planned.items() for t in trials}
    if len(homes) < total:
        raise ValueError("the same trial is planned twice")
    with ExitStack() as locks:
        if not all(_is_done(f, t) for f, trials in planned.items() for t in trials):
            for folder in planned:
                locks.enter_context(locked(folder))
        # Only now: until it was locked another process could have written there.
        todo = [t for folder, trials in planned.items() for t in missing(trials, folder)]
        done = total - len(todo)
        progress(done, total, "")
        for result, timing in executor(todo, jobs) if todo else ():
            key = result["key"]
            if weights := timing.pop("weights", None):
                write_bytes(homes[key] / "weights" / f"{key}.pt", weights)
            write_json(homes[key] / "timing" / f"{key}.json", timing)
            write_json(homes[key] / "trials" / f"{key}.json", result)  # last: it means done
            done += 1
            progress(done, total, key)


def missing(specs: Sequence[R], directory: Path) -> tuple[R, ...]:
    """Trials without a sound result in the folder; a damaged file is as good as none."""
    return tuple(s for s in specs if not _is_done(directory, s))


def result_of(spec: Runnable, directory: Path) -> Trial:
    """The trial's result. Raises StudyError if it is not there or damaged."""
    path = directory / "trials" / f"{spec.key}.json"
    try:
        return read(path, Trial)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from error


def _is_done(directory: Path, spec: Runnable) -> bool:
    """True if the folder holds the trial's result, whole, and no damaged timing beside it."""
    timing = directory / "timing" / f"{spec.key}.json"
    try:
        trial = result_of(spec, directory)
        if timing.exists():
            read(timing, Timing)
    except (StudyError, OSError):
        return False
    wanted = (spec.key, spec.label, spec.seed)
    return (trial.key, trial.activation, trial.seed) == wanted
