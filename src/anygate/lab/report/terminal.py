"""The comparison, and any other table, as plain text for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Sequence
from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..findings.comparison import comparisons, in_short, interval_name, interval_names
from ..findings.cost import Cost, costs
from ..statistics import Interval, iqm, mean_interval
from ..study.store.results import StudyResults
from ..study.store.schema import TaskInfo


def table(results: StudyResults) -> str:
    """One row an activation, see :func:`cells`."""
    header, rows = cells(results)
    return text_table(header, rows, right=range(1, len(header) - 1), rule=True)


def cells(results: StudyResults) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The head and the rows of the summary, the same on the terminal, the page and in a notebook:
    mean final metric with its interval (the range below six seeds), interquartile mean, worst and
    best seed, runs that solved the task and that diverged, time per training step as a ratio (where
    it was measured), and the difference from the first activation in words."""
    spans = {x: mean_interval(v) for x in results.labels if len(v := results.final(x)) > 1}
    name = interval_names(list(spans.values()))
    solvable, timed = results.task.solved is not None, bool(results.costs)
    header = (
        "activation",
        f"mean {results.task.metric}",
        name,
        "IQM",
        "worst to best",
        *(["solved"] if solvable else []),
        "diverged",
        *(["time per step"] if timed else []),
        *([f"difference from {results.first}"] if results.rivals else []),
    )
    differences = {c.rival: in_short(results.task, c) for c in comparisons(results)}
    ratios = {c.label: c for c in costs(results)} if timed else {}
    rows = []
    for label in results.labels:
        row = [*_row(results, label, _span(results.task, spans.get(label), name))]
        if solvable:
            row.insert(5, f"{results.solved(label)} of {len(results.runs(label))}")
        if timed:
            row.append(_time(label == results.first, ratios.get(label)))
        if results.rivals:
            row.append("" if label == results.first else differences.get(label, "–"))
        rows.append(tuple(row))
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
        return label, "–", "–", "–", "–", "–"
    low, high = float(values.min()), float(values.max())
    worst, best = (low, high) if task.higher_is_better else (high, low)
    return (
        label,
        task.show(float(values.mean())),
        span,
        task.show(iqm(values)),
        f"{task.show(worst)} to {task.show(best)}",
        f"{len(results.diverged(label))} of {runs}",
    )


def _time(first: bool, cost: Cost | None) -> str:
    """A ratio to the first, if any may be told."""
    if first:
        return "1"
    if cost is None:
        return "–"
    return f"{cost.ratio:.2f}{' (within noise)' if cost.within_noise else ''}"
