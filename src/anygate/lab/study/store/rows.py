"""The results of a study as rows: plain dictionaries for pandas, CSV or Parquet."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .files import WriteError, write_bytes, write_text
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
        row.setdefault(name, value)
    return row


def columns_of(found: Sequence[dict[str, Any]]) -> list[str]:
    """All names of the rows, in the order in which they first come."""
    return list(dict.fromkeys(name for row in found for name in row))


def as_csv(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the rows as CSV; what a row does not have is empty. Raises WriteError."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns_of(found), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    write_text(path, text.getvalue())


def as_parquet(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the rows as Parquet; a column of different kinds as text. Raises WriteError, also where
    pyarrow is missing."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise WriteError(
            "Parquet needs pyarrow: pip install pyarrow; --csv needs nothing"
        ) from None
    columns: dict[str, list[Any]] = {}
    for name in columns_of(found):
        column = [row.get(name) for row in found]
        kinds = {type(value) for value in column if value is not None}
        mixed = len(kinds) > 1 and not kinds <= {int, float}
        columns[name] = [None if v is None else str(v) for v in column] if mixed else column
        if kinds == {int, float}:
            columns[name] = [None if v is None else float(v) for v in column]
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), buffer)
    write_bytes(path, buffer.getvalue())
