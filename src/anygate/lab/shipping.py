"""Trials as bytes for another machine, where the user's own files are not."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import cloudpickle
import torch
from joblib import Parallel, delayed, parallel_config

from .. import __version__
from .engines import EngineGone, Outcome, run_one
from .tasks import Task
from .trial import TrialSpec

__all__ = ["run_shipped"]

_VERSIONS = (__version__, torch.__version__)


def run_shipped(specs: Sequence[TrialSpec], backend: str, **settings: Any) -> Iterator[Outcome]:
    """Run trials on a backend of joblib's; settings are the backend's own."""
    with parallel_config(backend=backend, **settings):
        run = Parallel(return_as="generator_unordered", batch_size=1)
        try:
            yield from run(delayed(_unpack_and_run)(_pack(spec), _VERSIONS) for spec in specs)
        except ImportError as error:
            raise EngineGone(
                f"a node of the cluster cannot import what a trial needs ({error}); install the "
                "same anygate there, and the modules of your own task"
            ) from error


def _pack(spec: TrialSpec) -> bytes:
    """The trial with the code of a task of the user's own."""
    modules = [sys.modules[name] for name in _own_modules(spec.task)]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(spec)  # type: ignore[no-any-return]
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _own_modules(task: Task) -> set[str]:
    """Modules that define the task and are neither of anygate nor of Python."""
    functions = (task.make, task.metric.loss, task.metric.score)
    homes = {getattr(getattr(f, "func", f), "__module__", None) for f in functions}
    known = {"anygate", "torch", *sys.stdlib_module_names}
    return {h for h in homes if h in sys.modules and h.partition(".")[0] not in known}


def _unpack_and_run(packed: bytes, versions: tuple[str, str]) -> Outcome:
    if versions != _VERSIONS:
        raise EngineGone(
            f"a node has anygate {_VERSIONS[0]} and torch {_VERSIONS[1]}, this machine "
            f"{versions[0]} and {versions[1]}; the same trial could give other digits there: "
            "install the same versions"
        )
    return run_one(pickle.loads(packed))
