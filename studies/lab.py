"""Everything that the studies use of the lab, named once: a change of its house is felt here only.

The report's figures are imported where they are drawn (pictures.py), for Altair takes a second.
"""

from __future__ import annotations

from anygate.lab.statistics import (
    LEVEL,
    MIN_SEEDS_FOR_CLAIM,
    Array,
    Equivalence,
    PairedDifference,
    equivalence,
    holm,
    median_interval,
    paired_difference,
    sign_flip_p,
    smallest_reachable_p,
    wilson,
)
from anygate.lab.study.executors import (
    Executor,
    ExecutorGone,
    Progress,
    in_processes,
    missing,
    on_this_machine,
    result_of,
    run_one,
    run_trials,
)
from anygate.lab.study.machine import cores, machine
from anygate.lab.study.progress import progress_bar, waiting
from anygate.lab.study.store.files import StudyError, WriteError, write_json, write_text, writing
from anygate.lab.study.store.folder import FolderInUse, StudyConflict, locked, refuse_if_running
from anygate.lab.study.store.schema import Snapshot, Trial, Tuned
from anygate.lab.study.trial import PROBE, Model, TrialSpec, one_thread, seeded
from anygate.lab.study.tuning import choose, tuning_seeds, tuning_trials
from anygate.lab.tasks import Settings, Task, find_task
from anygate.lab.wording import join, printable

__all__ = [
    "LEVEL",
    "MIN_SEEDS_FOR_CLAIM",
    "PROBE",
    "Array",
    "Equivalence",
    "Executor",
    "ExecutorGone",
    "FolderInUse",
    "Model",
    "PairedDifference",
    "Progress",
    "Settings",
    "Snapshot",
    "StudyConflict",
    "StudyError",
    "Task",
    "Trial",
    "TrialSpec",
    "Tuned",
    "WriteError",
    "choose",
    "cores",
    "equivalence",
    "find_task",
    "holm",
    "in_processes",
    "join",
    "locked",
    "machine",
    "median_interval",
    "missing",
    "on_this_machine",
    "one_thread",
    "paired_difference",
    "printable",
    "progress_bar",
    "refuse_if_running",
    "result_of",
    "run_one",
    "run_trials",
    "seeded",
    "sign_flip_p",
    "smallest_reachable_p",
    "tuning_seeds",
    "tuning_trials",
    "waiting",
    "wilson",
    "write_json",
    "write_text",
    "writing",
]
