"""The comparison as a table of plain text."""

from __future__ import annotations

import numpy as np

from ..findings.comparison import interval_name, interval_names
from ..statistics import Interval, iqm, mean_interval
from ..study.store.results import StudyResults
from ..study.store.schema import TaskInfo


def table(results: StudyResults) -> str:
    """One row an activation: mean final metric with its interval (the range below six seeds),
    interquartile mean, worst and best seed, diverged runs, milliseconds per training step."""
    spans = {x: mean_interval(v) for x in results.labels if len(v := results.final(x)) > 1}
    name = interval_names(list(spans.values()))
    header = ("activation", f"mean {results.task.metric}", name, "IQM", "worst to best",
              "diverged", "ms/step")  # fmt: skip
    rows = [header, *(_row(results, x, _span(results.task, spans.get(x), name))
                      for x in results.labels)]  # fmt: skip
    widths = [max(len(row[k]) for row in rows) for k in range(len(header))]
    lines = ["  ".join(_cells(row, widths)) for row in rows]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(line.rstrip() for line in lines)


def _span(task: TaskInfo, interval: Interval | None, column: str) -> str:
    """The ends of an interval; a range says so in a column that also holds intervals."""
    if interval is None:
        return "–"
    text = f"{task.show(interval.low)} to {task.show(interval.high)}"
    return text if column == interval_name(interval) else f"{text} ({interval_name(interval)})"


def _cells(row: tuple[str, ...], widths: list[int]) -> list[str]:
    first, *rest = (cell.ljust(w) if k == 0 else cell.rjust(w)
                    for k, (cell, w) in enumerate(zip(row, widths, strict=True)))  # fmt: skip
    return [first, *rest]


def _row(results: StudyResults, label: str, span: str) -> tuple[str, ...]:
    task, values = results.task, results.final(label)
    runs = len(results.runs(label))
    if not len(values):
        return label, "–", "–", "–", "–", "–", "–"
    low, high = float(values.min()), float(values.max())
    worst, best = (low, high) if task.higher_is_better else (high, low)
    return (
        label,
        task.show(float(values.mean())),
        span,
        task.show(iqm(values)),
        f"{task.show(worst)} to {task.show(best)}",
        f"{len(results.diverged(label))} of {runs}",
        _time(results, label),
    )


def _time(results: StudyResults, label: str) -> str:
    """Milliseconds per step, median over seeds."""
    seconds = list(results.seconds_per_step(label).values())
    return f"{1000 * float(np.median(seconds)):.1f}" if seconds else "–"
