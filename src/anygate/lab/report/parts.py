"""The parts of figures: a panel, a table, a figure, and the shared ways to build them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..statistics import MIN_SEEDS_FOR_CLAIM
from ..study.store.results import StudyResults
from . import charts
from .charts import Row
from .style import Look, look


@dataclass(frozen=True)
class Table:
    """The numbers behind a figure; the first cell of each row is its header."""

    caption: str
    columns: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Panel:
    """One chart of a figure. ``chart(legend)`` builds it; files have a legend, the page a key.

    ``note`` is code shown above it.
    """

    name: str
    title: str
    description: str
    chart: Callable[[bool], Any]
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """A titled group of panels with its sentence and its table; ``name`` is the file name.

    ``key`` says how each name is drawn in all panels: its line, and its shape if ``symbols``.
    """

    name: str
    title: str
    sentence: str
    panels: list[Panel]
    table: Table
    key: Mapping[str, Look] | None = None
    symbols: bool = False


def looks(results: StudyResults) -> dict[str, Look]:
    """The look of every activation, in the order of the study."""
    return {label: look(i) for i, label in enumerate(results.labels)}


def number(value: float | None, digits: int = 3) -> str:
    """A plain number for a table cell; a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}g}"


def band_name(results: StudyResults) -> str:
    """The name of an interval over the seeds of this study: an interval, or the range of few
    seeds."""
    runs = [len(results.runs(x)) for x in results.labels if results.runs(x)]
    if min(runs, default=0) >= MIN_SEEDS_FOR_CLAIM:
        return "95% interval of the mean"
    if max(runs, default=0) >= MIN_SEEDS_FOR_CLAIM:
        return "95% interval of the mean, or the range of fewer than six seeds"
    return "range of the seeds"


def metric_format(results: StudyResults) -> str:
    return ".0%" if results.task.as_percent else ""


def single(name: str, title: str, sentence: str, chart: Any, table: Table) -> Figure:
    panel = Panel(name, "", sentence, lambda _: chart)
    return Figure(name, title, sentence, [panel], table)


def strips(
    name: str,
    text: str,
    dots: list[Row],
    means: list[Row],
    results: StudyResults,
    *,
    marks: Mapping[str, float],
    x_title: str,
    x_format: str,
) -> list[Panel]:
    """A strip of all runs and, where diverged ones squeeze the others, a close-up of the others."""
    drawn, near = looks(results), charts.close_up(dots)

    def panel(title: str, description: str, limits: tuple[float, float] | None) -> Panel:
        def chart(_: bool) -> Any:
            return charts.strip(
                dots, means, drawn, x_title=x_title, x_format=x_format, marks=marks, limits=limits
            )

        return Panel(name, title, description, chart)

    if near is None:
        return [panel("", text, None)]
    closer = f"The same, cut to the range of the runs that did not diverge. {text}"
    return [
        panel("All runs", text, None),
        panel("Close-up of the runs that did not diverge", closer, near),
    ]


def epoch_table(
    caption: str, results: StudyResults, cells: Mapping[str, Mapping[int, str]]
) -> Table:
    shown = [label for label in results.labels if cells.get(label)]
    return Table(
        caption,
        ["epoch", *shown],
        [
            [str(e), *(cells[label].get(e, "–") for label in shown)]
            for e in range(1, results.epochs + 1)
        ],
    )
