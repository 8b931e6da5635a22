"""The comparison, and any other table, as plain text for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Sequence
from io import StringIO

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..findings.comparison import interval_name, interval_names
from ..statistics import Interval, iqm, mean_interval
from ..study.store.results import StudyResults
from ..study.store.schema import TaskInfo


def table(results: StudyResults) -> str:
    """One row an activation, see :func:`cells`."""
    header, rows = cells(results)
    return text_table(header, rows, right=range(1, len(header)), rule=True)


def cells(results: StudyResults) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The head and the rows of the table: mean final metric with its interval (the range below six
    seeds), interquartile mean, worst and best seed, diverged runs, and milliseconds per training
    step where they were measured."""
    spans = {x: mean_interval(v) for x in results.labels if len(v := results.final(x)) > 1}
    name = interval_names(list(spans.values()))
    header = (
        "activation",
        f"mean {results.task.metric}",
        name,
        "IQM",
        "worst to best",
        "diverged",
        "ms/step",
    )
    rows = [_row(results, x, _span(results.task, spans.get(x), name)) for x in results.labels]
    if results.task.own:  # a step of the user's own was not timed
        return header[:-1], [row[:-1] for row in rows]
    return header, rows


def wrapped(sentence: str) -> str:
    """A sentence of the verdict in lines of 96 characters."""
    return textwrap.fill(sentence, 96, initial_indent="- ", subsequent_indent="  ")


def text_table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[int] = (),
    rule: bool = False,
) -> str:
    """Lines of columns with two spaces between them. right: the columns that end at one edge. rule:
    a line below the header."""
    drawn = Table(
        box=box.SIMPLE_HEAD if rule else None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False
    )
    for k, name in enumerate(header):
        drawn.add_column(Text(name), justify="right" if k in right else "left", no_wrap=True)
    for row in rows:
        drawn.add_row(*map(Text, row))
    console = Console(file=StringIO(), width=100_000, color_system=None)
    with console.capture() as captured:
        console.print(drawn)
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _span(task: TaskInfo, interval: Interval | None, column: str) -> str:
    """The ends of an interval; a range says so in a column that also holds intervals."""
    if interval is None:
        return "–"
    text = f"{task.show(interval.low)} to {task.show(interval.high)}"
    return text if column == interval_name(interval) else f"{text} ({interval_name(interval)})"


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
