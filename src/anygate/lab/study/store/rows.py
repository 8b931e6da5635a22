"""The results of a study as rows: plain dictionaries for pandas, CSV or Parquet."""

from __future__ import annotations

import json
import math
from typing import Any

from .results import StudyResults
from .schema import Timing, Trial


def rows(results: StudyResults) -> list[dict[str, Any]]:
    """A row for each trial: what it is, its outcome, all its settings, the machine and versions.

    A tuned study has the trials at each activation's own rate too, told apart by ``rates``.
    """
    if results.own is None:
        return [_row(results, trial) for trial in _ordered(results)]
    parts = (("shared", results), ("own", results.own))
    return [{"rates": name} | _row(part, t) for name, part in parts for t in _ordered(part)]


def curve_rows(results: StudyResults) -> list[dict[str, Any]]:
    """A row for each trial and epoch: arm, seed, epoch, the metric and all else that was kept."""
    found = []
    for trial in _ordered(results):
        for epoch in trial.epochs:
            row: dict[str, Any] = {"arm": trial.activation, "seed": trial.seed}
            row |= {"epoch": epoch.epoch, results.task.metric: float(epoch.metric)}
            for name in ("train_loss", "gradient_norm", "gradient_norm_max", "max_abs_cell"):
                if not math.isnan(value := getattr(epoch, name)):
                    row[name] = float(value)
            row |= {name: float(value) for name, value in epoch.values.items()}
            for slot, shares in epoch.slots.items():
                row |= {f"{slot}_{name}": float(value) for name, value in shares.items()}
            found.append(row)
    return found


def _ordered(results: StudyResults) -> list[Trial]:
    return [t for label in results.labels for t in results.runs(label)]


def _row(results: StudyResults, trial: Trial) -> dict[str, Any]:
    config, task, diverged = results.config, results.task, trial.diverged
    info = config.activations[results.labels.index(trial.activation)]
    timing = results.timings.get(trial.key) or Timing(trial.key, math.nan)
    row: dict[str, Any] = {
        "task": task.name,
        "arm": trial.activation,
        "seed": trial.seed,
        task.metric: trial.final_metric,
        "diverged": diverged is not None,
        "why": "" if diverged is None else diverged.what,
        "epochs_done": len(trial.epochs),
        "seconds": float(timing.seconds_total),
        "seconds_per_step": float(timing.seconds_per_step),
    }
    row |= {name: float(value) for name, value in trial.values.items() if name not in row}
    settings = {**config.settings, **info.settings, **trial.settings}
    if not info.settings:
        settings = {config.slot: trial.activation, **settings}
    machine = timing.machine or config.machine
    for name, value in (*settings.items(), *machine.items()):
        row.setdefault(name, json.dumps(value) if isinstance(value, dict | list) else value)
    return row
