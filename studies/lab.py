"""Everything that the studies use of the lab, named once: a change of its house is felt here only.

The report's figures are imported where they are drawn (pictures.py), for Altair takes a second.
"""

from __future__ import annotations

from anygate.lab.engines import Engine, EngineGone, cores, in_processes, on_this_machine, run_one
from anygate.lab.files import WriteError, write_json, write_text, writing
from anygate.lab.lock import FolderInUse, locked, refuse_if_running
from anygate.lab.progress import progress_bar, waiting
from anygate.lab.records import Snapshot, StudyError, Trial
from anygate.lab.runner import Progress, missing, result_of, run_trials
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
from anygate.lab.study import StudyConflict
from anygate.lab.study import _machine as machine
from anygate.lab.tasks import Settings, Task, find_task
from anygate.lab.trial import PROBE, Model, TrialSpec, one_thread, seeded
from anygate.lab.tuning import Tuned, choose, tuning_seeds, tuning_trials
from anygate.lab.words import join, printable

__all__ = [
    "LEVEL",
    "MIN_SEEDS_FOR_CLAIM",
    "PROBE",
    "Array",
    "Engine",
    "EngineGone",
    "Equivalence",
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
