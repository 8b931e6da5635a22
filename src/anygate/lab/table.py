"""The comparison as a table of plain text."""

from __future__ import annotations

import numpy as np

from .results import StudyResults
from .statistics import iqm, mean_interval

__all__ = ["table"]


def table(results: StudyResults) -> str:
    """One row an activation: mean final metric with its interval, interquartile mean, best and
    worst seed, diverged runs, time per step relative to the first."""
    header = ("activation", f"mean {results.task.metric}", "interval", "IQM", "worst to best",
              "diverged", "time/step")  # fmt: skip
    rows = [header, *(_row(results, label) for label in results.labels)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
    lines = ["  ".join(_cells(row, widths)) for row in rows]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(line.rstrip() for line in lines)


def _cells(row: tuple[str, ...], widths: list[int]) -> list[str]:
    first, *rest = (cell.ljust(w) if k == 0 else cell.rjust(w)
                    for k, (cell, w) in enumerate(zip(row, widths, strict=True)))  # fmt: skip
    return [first, *rest]


def _row(results: StudyResults, label: str) -> tuple[str, ...]:
    task, values = results.task, results.final(label)
    runs = len(results.runs(label))
    if not len(values):
        return label, "–", "–", "–", "–", "–", "–"
    interval = mean_interval(values) if len(values) > 1 else None
    low, high = float(values.min()), float(values.max())
    worst, best = (low, high) if task.higher_is_better else (high, low)
    return (
        label,
        task.show(float(values.mean())),
        f"{task.show(interval.low)} to {task.show(interval.high)}" if interval else "–",
        task.show(iqm(values)),
        f"{task.show(worst)} to {task.show(best)}",
        f"{len(results.diverged(label))} of {runs}",
        _time(results, label),
    )


def _time(results: StudyResults, label: str) -> str:
    """Milliseconds a step, median over seeds."""
    seconds = list(results.seconds_per_step(label).values())
    return f"{1000 * float(np.median(seconds)):.1f} ms" if seconds else "–"
