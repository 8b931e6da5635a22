"""Trials on Dask, by joblib's backend for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from distributed import Client, LocalCluster
from distributed.scheduler import KilledWorker
from joblib import register_parallel_backend
from joblib._dask import DaskDistributedBackend

from .. import __version__
from .engines import Engine, EngineGone, Outcome, cores
from .shipping import run_shipped
from .trial import TrialSpec

__all__ = ["dask_engine"]


class _Backend(DaskDistributedBackend):
    """joblib's backend for Dask, which waits for ever for a trial that Dask itself gave up (its
    workers died, or a node cannot read it): joblib 1.6 sets the error and tells nobody."""

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None
    ) -> Future[Any]:
        future: Future[Any] = super().submit(func, callback)

        def tell(done: Future[Any]) -> None:
            if callback is not None and (error := done.exception()) is not None:
                callback(error)

        future.add_done_callback(tell)
        return future

    def effective_n_jobs(self, n_jobs: int) -> int:
        """At least 2, which costs nothing here (Dask gives a worker one trial at a time): joblib
        would run a single job in the process that asks, and not on the cluster."""
        return max(2, int(super().effective_n_jobs(n_jobs)))

    def retrieve_result_callback(self, out: Any) -> Any:
        if isinstance(out, BaseException):
            raise out
        return super().retrieve_result_callback(out)


@contextmanager
def dask_engine(address: str | None, jobs: int | None) -> Iterator[Engine]:
    """Trials on the Dask cluster at `address`, else on one started here."""
    register_parallel_backend("anygate-dask", _Backend)
    if address is None:
        with (
            LocalCluster(n_workers=jobs or cores(), threads_per_worker=1,
                         dashboard_address=None) as cluster,
            Client(cluster) as client,
        ):  # fmt: skip
            yield _engine(client)
        return
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError) as error:
        raise EngineGone(
            f"no Dask scheduler answers at {address} ({error}); start one with `dask scheduler`, "
            "or leave --address out"
        ) from error
    with client:
        _check(client)
        yield _engine(client)


def _check(client: Client) -> None:
    """A trial has a process for itself (see run_one), so other threads of it would only wait; and a
    worker that cannot read a trial ends without a word."""
    try:
        client.wait_for_workers(1, timeout=10)
    except TimeoutError as error:
        raise EngineGone(
            "the Dask cluster has no worker; start some with "
            "`dask worker ADDRESS --nworkers N --nthreads 1`"
        ) from error
    for worker, threads in client.nthreads().items():
        if threads > 1:
            raise EngineGone(
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
            raise EngineGone(f"{name} has {there}; install anygate {__version__} there")


def _engine(client: Client) -> Engine:
    def run(specs: Sequence[TrialSpec], jobs: int | None = None) -> Iterator[Outcome]:
        try:
            yield from run_shipped(specs, "anygate-dask", client=client)
        except KilledWorker as error:
            raise EngineGone(
                f"workers of Dask died again and again on one trial (out of memory?): {error}; "
                "what is done is kept, the same command goes on"
            ) from error

    return run
