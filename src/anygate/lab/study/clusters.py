"""Trials on a cluster of Ray or Dask, by the futures of either; nothing private of them is used.

A trial travels as bytes, for the user's own files are not on another machine. Checked with
tests/test_clusters.py.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import cloudpickle
import torch

from ... import __version__
from .executors import Executor, ExecutorGone, run_one
from .machine import cores
from .trial import Outcome, Runnable

if TYPE_CHECKING:
    from distributed import Client

VERSIONS = {"anygate": __version__, "torch": torch.__version__}
"""The versions that every node must have, or the same trial could give other digits there."""
STARTS = 20
"""The number of times that Ray starts a trial whose worker or node was lost, so that one that kills
its worker does not go round for ever; Ray may need half a minute to see that a node is gone."""
OBJECT_STORE = 10**8
"""Bytes that a local Ray sets aside for objects; a trial's result has some thousand."""
Submit = Callable[[bytes], "Future[Outcome]"]


def _as_they_come(submit: Submit, specs: Sequence[Runnable], limit: int) -> Iterator[Outcome]:
    """The outcomes of all trials, of which at most `limit` are on the cluster at once."""
    left = iter(specs)
    running = {submit(pack(spec)) for spec in islice(left, limit)}
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        running |= {submit(pack(spec)) for spec in islice(left, len(done))}
        for future in done:
            try:
                yield future.result()
            except ImportError as error:
                raise ExecutorGone(
                    f"a node of the cluster cannot import what a trial needs ({error}); install "
                    "the same anygate there, and the modules of your own task"
                ) from error


def pack(spec: Runnable) -> bytes:
    """The trial as bytes, with the code of a task or training of the user's own."""
    modules = [sys.modules[name] for name in _own_modules(spec)]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps((VERSIONS, cloudpickle.dumps(spec)))  # type: ignore[no-any-return]
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _own_modules(spec: Runnable) -> set[str]:
    """The modules with the user's part of a trial, which are neither of anygate nor of Python."""
    homes = {getattr(getattr(f, "func", f), "__module__", None) for f in spec.functions}
    known = {"anygate", "torch", *sys.stdlib_module_names}
    return {h for h in homes if h in sys.modules and h.partition(".")[0] not in known}


def unpack(packed: bytes) -> Runnable:
    """The trial of such bytes. Raises ExecutorGone if the versions here are others than there."""
    versions, spec = pickle.loads(packed)
    if versions != VERSIONS:
        raise ExecutorGone(
            f"a node has {VERSIONS}, this machine {versions}; the same trial could give other "
            "digits there: install the same versions"
        )
    return pickle.loads(spec)  # type: ignore[no-any-return]


def _run_packed(packed: bytes) -> Outcome:
    return run_one(unpack(packed))


@contextmanager
def ray_executor(address: str | None, jobs: int | None) -> Iterator[Executor]:
    """Trials on the Ray cluster at `address`, else RAY_ADDRESS, else one started here."""
    import ray

    def run(specs: Sequence[Runnable], jobs: int | None = None) -> Iterator[Outcome]:
        task = ray.remote(num_cpus=1, max_retries=STARTS, scheduling_strategy="SPREAD")(_run_packed)
        limit = jobs or int(ray.cluster_resources().get("CPU", 1))
        try:
            yield from _as_they_come(lambda packed: task.remote(packed).future(), specs, limit)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:
            raise ExecutorGone(
                f"a worker of Ray was lost again and again, or could not start (out of memory, or "
                f"a node without this anygate?): {str(error).partition(chr(10))[0]}; what is done "
                "is kept, the same command goes on"
            ) from error

    if ray.is_initialized():
        yield run
        return
    address = address or os.environ.get("RAY_ADDRESS")
    local = {
        "num_cpus": jobs or cores(),
        "object_store_memory": OBJECT_STORE,
        "include_dashboard": False,
    }
    try:
        host, _, port = (address or "").removeprefix("ray://").rpartition(":")
        if host and port.isdecimal():  # where nobody listens Ray itself tries for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        where = {"address": address} if address else local
        ray.init(log_to_driver=False, logging_level="ERROR", **where)
    except (OSError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise ExecutorGone(
            f"no Ray cluster answers at {address} ({str(error).partition(chr(10))[0]}); start one "
            "with `ray start --head`, or leave --address out"
        ) from error
    try:
        yield run
    finally:
        ray.shutdown()


@contextmanager
def dask_executor(address: str | None, jobs: int | None) -> Iterator[Executor]:
    """Trials on the Dask cluster at `address`, else on one started here."""
    from distributed import Client, KilledWorker, LocalCluster

    def run(specs: Sequence[Runnable], limit: int | None = None) -> Iterator[Outcome]:
        pool = client.get_executor(pure=False)
        try:
            yield from _as_they_come(
                lambda packed: pool.submit(_run_packed, packed),
                specs,
                limit or 2 * max(1, len(client.nthreads())),
            )
        except KilledWorker as error:
            raise ExecutorGone(
                f"workers of Dask died again and again on one trial (out of memory?): {error}; "
                "what is done is kept, the same command goes on"
            ) from error

    if address is None:
        with (
            LocalCluster(
                n_workers=jobs or cores(), threads_per_worker=1, dashboard_address=None
            ) as cluster,
            Client(cluster) as client,
        ):
            yield run
        return
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise ExecutorGone(
            f"no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`, "
            "or leave --address out"
        ) from error
    with client:
        check_workers(client)
        yield run


def check_workers(client: Client) -> None:
    """Raise ExecutorGone for a Dask cluster without workers, with several threads in a process (a
    trial has one for itself, see run_one), or with another anygate."""
    try:
        client.wait_for_workers(1, timeout=10)
    except TimeoutError as error:
        raise ExecutorGone(
            "the Dask cluster has no worker; start some with "
            "`dask worker ADDRESS --nworkers N --nthreads 1`"
        ) from error
    for worker, threads in client.nthreads().items():
        if threads > 1:
            raise ExecutorGone(
                f"the Dask worker {worker} has {threads} threads, and a trial needs a process of "
                f"its own; start it with `dask worker --nworkers {threads} --nthreads 1`"
            )
    found = client.get_versions(packages=["anygate"])
    nodes = {"the Dask scheduler": found["scheduler"]}
    nodes |= {f"the Dask worker {name}": node for name, node in found["workers"].items()}
    for name, node in nodes.items():
        version = node["packages"]["anygate"]
        if version != __version__:
            there = f"anygate {version}" if version else "no anygate"
            raise ExecutorGone(f"{name} has {there}; install anygate {__version__} there")
