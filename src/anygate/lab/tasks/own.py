"""Tasks and metrics of one's own: module:name, where the name is a Task or a function that returns
one, or a Metric."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from dataclasses import replace
from pathlib import Path

from .base import Task, TaskError
from .metrics import METRICS, Metric

__all__ = ["find_metric", "import_own", "is_reference", "own_task"]

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_reference(name: str) -> bool:
    """True if this looks like module:name."""
    return _REFERENCE.fullmatch(name) is not None


def find_metric(name: str) -> Metric:
    """The metric of this name in METRICS, or of one's own by module:name. Raises TaskError."""
    if name in METRICS:
        return METRICS[name]
    if not is_reference(name):
        near = difflib.get_close_matches(name.lower(), METRICS, 1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise TaskError(
            f"no metric is called '{name}'{hint}; there are: {', '.join(METRICS)}, MODULE:NAME"
        )
    found = import_own(name, "metric")
    if not isinstance(found, Metric):
        raise TaskError(f"{name} must be an anygate.lab.tasks.Metric, not {type(found).__name__}")
    return found


def import_own(reference: str, what: str) -> object:
    """The object that MODULE:NAME names, from the current directory too. Raises TaskError for what
    is not there; what the user's own code raises is left as it is. what: "task", for the
    message."""
    module_name, _, path = reference.partition(":")
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # workers inherit sys.path
    importlib.invalidate_caches()
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise TaskError(
                f"there is no module {error.name} in the current directory or among what is "
                f"installed, so no {what} {reference}"
            ) from None
        raise TaskError(f"{module_name} cannot be imported: {error}") from error
    except (ImportError, SyntaxError) as error:
        raise TaskError(f"{module_name} cannot be imported: {error}") from error
    home = getattr(found, "__file__", None)
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            where = f" ({home})" if home else ""
            raise TaskError(f"{module_name}{where} has no '{path}'") from None
    return found


def own_task(reference: str) -> Task:
    """The task that MODULE:NAME is or returns, checked by making its data once; their digest
    becomes the task's `data` where it says none. Raises TaskError as import_own does, and for what
    is no task."""
    found = import_own(reference, "task")
    if callable(found) and not isinstance(found, Task):
        found = found()
    if not isinstance(found, Task):
        raise TaskError(
            f"{reference} must be an anygate.lab.tasks.Task or a function that returns one, not "
            f"{type(found).__name__}"
        )
    data = found.load(0)
    return found if found.data else replace(found, data=f"seed 0: {data.digest}")
