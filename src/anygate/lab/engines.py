"""Where trials run: in processes of this machine, by joblib."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from .trial import TrialSpec, run_trial

__all__ = ["IDLE_SECONDS", "Engine", "Outcome", "cores", "on_this_machine"]

IDLE_SECONDS = 30.0
"""How long a worker waits for more work; it is left alone when its parent is killed."""

Outcome = tuple[dict[str, Any], dict[str, Any]]
"""A trial's result and its timing, as run_trial returns them."""

Engine = Callable[[Sequence[TrialSpec], int], Iterator[Outcome]]
"""(trials, processes) -> their outcomes in the order in which they come. Processes return what
they found and write nothing: they need not see the disk of whoever asked."""


def cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def on_this_machine(specs: Sequence[TrialSpec], jobs: int) -> Iterator[Outcome]:
    """One trial at a time in each of `jobs` processes of one thread; in this one if jobs is 1."""
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(backend="loky", n_jobs=jobs, inner_max_num_threads=1):
        run = Parallel(
            return_as="generator_unordered", batch_size=1, idle_worker_timeout=IDLE_SECONDS
        )
        yield from run(delayed(_one)(spec) for spec in specs)


def _one(spec: TrialSpec) -> Outcome:
    torch.set_num_threads(1)
    return run_trial(spec)
