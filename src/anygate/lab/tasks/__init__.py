"""Tasks: data as sequences, a metric with its baseline and a solved level, sensible settings.

find_task(name) knows all but data files, which file_task(path) reads; frame_task and sequence_task
make tasks of a DataFrame and of arrays.
"""

from __future__ import annotations

import difflib
import re
from importlib.util import find_spec
from pathlib import Path

from . import grammars, synthetic
from .base import Data, Settings, Task, TaskError, packed
from .characters import characters
from .files import file_task, frame_task
from .images import DIGITS, MNIST_FORMS, mnist
from .metrics import (
    ACCURACY,
    BALANCED_ACCURACY,
    BITS,
    CROSS_ENTROPY,
    IGNORE,
    MAE,
    METRICS,
    MSE,
    RELATIVE_ERROR,
    SEQUENCE_ACCURACY,
    Metric,
)
from .own import find_metric, is_reference, own_task
from .sequences import sequence_task
from .series import SERIES
from .synthetic import Form, build

__all__ = [
    "ACCURACY",
    "BALANCED_ACCURACY",
    "BITS",
    "CROSS_ENTROPY",
    "FORMS",
    "IGNORE",
    "MAE",
    "METRICS",
    "MSE",
    "OTHERS",
    "RELATIVE_ERROR",
    "SEQUENCE_ACCURACY",
    "SERIES",
    "TASKS",
    "Data",
    "Metric",
    "Settings",
    "Task",
    "TaskError",
    "file_task",
    "find_metric",
    "find_task",
    "frame_task",
    "packed",
    "sequence_task",
]

FORMS: dict[str, Form] = {**synthetic.FORMS, **grammars.FORMS}
"""Synthetic tasks: name, or name:NUMBER."""

TASKS: dict[str, Task] = {
    "digits": DIGITS["digits"],
    "digits-rows": DIGITS["digits-rows"],
    "adding": build("adding", FORMS["adding"]),
    "digits-permuted": DIGITS["digits-permuted"],
    **{name: build(name, form) for name, form in FORMS.items() if name != "adding"},
}
"""Tasks that need no file, by name; with a number in the name there are more (FORMS)."""

OTHERS: dict[str, str] = {
    **{
        f"{name}:N": f"{name} with N {form.meaning}, from {form.least}"
        for name, form in FORMS.items()
    },
    "sunspots": "forecast the yearly sunspot numbers (needs statsmodels)",
    "co2": "forecast the monthly CO2 at Mauna Loa (needs statsmodels)",
    "nile": "forecast the yearly flow of the Nile (needs statsmodels)",
    "elnino": "forecast the monthly temperature of the sea off Peru (needs statsmodels)",
    "chars:FILE": "predict the next character of a text file",
    "mnist:FOLDER": "MNIST pixel by pixel, from its four IDX files; also mnist-rows, "
    "mnist-permuted",
    "MODULE:NAME": "a Task of your own, or a function that returns one",
    "--data FILE": "forecast the columns --target of a CSV or Parquet file, or tell the classes or "
    "values of the sequences of a .npz (x [N, T, I], y [N], perhaps lengths [N]) or .ts file",
}
"""Other names that can be asked for -> their meaning."""


def find_task(name: str) -> Task:
    """The task of this name. Raises TaskError for an unknown one, and for one that cannot be set
    up, saying what is missing."""
    if name in TASKS:
        task = TASKS[name]
    elif name in SERIES:
        task = SERIES[name]()
    elif ":" in name:
        task = _with_argument(name, *name.split(":", 1))
    else:
        raise TaskError(_unknown(name))
    if missing := [module for module in task.needs if find_spec(module) is None]:
        raise TaskError(
            f"the task {name} needs {', '.join(missing)}, which is not installed; "
            "pip install 'anygate[lab]' brings it"
        )
    return task


def _with_argument(name: str, kind: str, argument: str) -> Task:
    if kind in FORMS:
        if not re.fullmatch(r"[0-9]{1,9}", argument):
            raise TaskError(f"{kind}:N needs a whole number, not '{argument}'")
        return build(kind, FORMS[kind], int(argument))
    if kind == "chars":
        return characters(Path(argument))
    if kind in MNIST_FORMS:
        return mnist(kind, Path(argument))
    if is_reference(name):
        return own_task(name)
    raise TaskError(_unknown(name))


def _unknown(name: str) -> str:
    known = {n: n for n in (*TASKS, *SERIES)}
    known |= {"chars": "chars:FILE"} | {n: f"{n}:FOLDER" for n in MNIST_FORMS}
    near = difflib.get_close_matches(name.split(":")[0].lower(), known, 1)
    hint = f" (did you mean {known[near[0]]}?)" if near else ""
    return f"no task is called '{name}'{hint}; there are: {', '.join([*TASKS, *OTHERS])}"
