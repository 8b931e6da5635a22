"""All that the studies use of the lab, named once: a change of its house is felt here only."""

from __future__ import annotations

from pathlib import Path

from anygate.lab import answer
from anygate.lab.settings import changed
from anygate.lab.statistics import (
    Array,
    Interval,
    clopper_pearson,
    max_t,
    mean_interval,
    median_interval,
    random_effects,
    spending,
)
from anygate.lab.study.executors import in_processes
from anygate.lab.study.machine import cores, machine
from anygate.lab.study.progress import progress_bar
from anygate.lab.study.trial import Model, TrialSpec, one_thread, run_trial, seeded
from anygate.lab.tasks import Settings, Task, find_task

PUBLISHED = Path(answer.__file__).with_suffix(".json")
"""The file that `anygate show` quotes."""

__all__ = [
    "PUBLISHED",
    "Array",
    "Interval",
    "Model",
    "Settings",
    "Task",
    "TrialSpec",
    "changed",
    "clopper_pearson",
    "cores",
    "find_task",
    "in_processes",
    "machine",
    "max_t",
    "mean_interval",
    "median_interval",
    "one_thread",
    "progress_bar",
    "random_effects",
    "run_trial",
    "seeded",
    "spending",
]
