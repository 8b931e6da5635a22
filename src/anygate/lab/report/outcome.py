"""Figures of the outcome: learning curves, final values seed by seed, paired differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..findings.comparison import RivalComparison, comparisons, interval_names, is_interval, ranking
from ..statistics import Interval, mean_interval
from ..study.store.results import StudyResults
from . import charts
from .charts import Row
from .parts import Figure, Table, band_name, epoch_table, looks, metric_format, single, strips


def learning(results: StudyResults) -> Figure | None:
    task, rows, cells = results.task, [], {}
    for label in results.labels:
        series = _mean_band(results.curves(label, "metric"))
        rows += [
            {"label": label, "epoch": e, "mid": m, "low": i.low, "high": i.high}
            for e, m, i in series
        ]
        cells[label] = {e: task.show(m) for e, m, _ in series}
    if not rows:
        return None
    title = f"Learning curves: {task.metric} after each epoch"
    chart = charts.curves(
        rows, looks(results), y_title=task.metric, y_format=metric_format(results)
    )
    order = ranking(results)
    sentence = f"After epoch {results.epochs}, {order[0][0]} is at {task.show(order[0][1])}"
    if len(order) > 1:
        extreme = "highest" if task.higher_is_better else "lowest"
        sentence = f"After epoch {results.epochs}, {order[0][0]} is {extreme} with "
        sentence += f"{task.show(order[0][1])} and {order[-1][0]} is at the other end with "
        sentence += task.show(order[-1][1])
    sentence += f". Lines are means over the seeds, bands the {band_name(results)}."
    if any(results.diverged(label) for label in results.labels):
        sentence += f" Diverged runs continue at the value of {task.baseline_name}."
    table = epoch_table(f"Mean {task.metric} by epoch", results, cells)
    return single("learning_curves", title, sentence, chart, table)


def _mean_band(table: NDArray[np.float64]) -> list[tuple[int, float, Interval]]:
    """``(epoch, mean, interval)`` of a ``[run, epoch]`` table, for the epochs with any value."""
    series = []
    for epoch, column in enumerate(table.T, start=1):
        values = column[np.isfinite(column)]
        if values.size:
            series.append((epoch, float(values.mean()), mean_interval(values)))
    return series


def final(results: StudyResults) -> Figure | None:
    task, shown = results.task, [x for x in results.labels if results.runs(x)]
    if not shown:
        return None
    dots = [
        {"label": x, "seed": t.seed, "value": t.final_metric, "diverged": t.diverged is not None}
        for x in shown
        for t in results.runs(x)
    ]
    means = [_mean_row(x, results.final(x)) for x in shown]
    values = [t.final_metric for x in shown for t in results.runs(x)]
    landmarks = {"solved": task.solved, task.baseline_name: task.baseline}
    marks = {
        k: v for k, v in landmarks.items() if v is not None and min(values) <= v <= max(values)
    }
    widest = max(shown, key=lambda x: float(np.ptp(results.final(x))))
    sentence = (
        f"Every run, one mark per seed; below them the mean and the {band_name(results)}. "
        f"The runs of {widest} lie {'furthest apart, ' if len(shown) > 1 else ''}"
        f"from {task.show(results.final(widest).min())} "
        f"to {task.show(results.final(widest).max())}."
    )
    if any(d["diverged"] for d in dots):
        sentence += f" A cross is a diverged run, counted at the value of {task.baseline_name}."
    panels = strips(
        "final_metric",
        sentence,
        dots,
        means,
        results,
        marks=marks,
        x_title=f"final {task.metric}",
        x_format=metric_format(results),
    )
    title, table = f"Final {task.metric}, seed by seed", _seed_table(results, shown)
    return Figure("final_metric", title, sentence, panels, table)


def _mean_row(label: str, values: NDArray[np.float64]) -> Row:
    interval = mean_interval(values)
    return {
        "label": label,
        "mean": float(values.mean()),
        "low": interval.low,
        "high": interval.high,
    }


def _seed_table(results: StudyResults, shown: Sequence[str]) -> Table:
    rows = []
    for seed in results.seeds:
        cells = [str(seed)]
        for label in shown:
            run = results.trial(label, seed)
            text = "–" if run is None else results.task.show(run.final_metric)
            cells.append(f"{text} (diverged)" if run and run.diverged else text)
        rows.append(cells)
    return Table(f"Final {results.task.metric} by seed", ["seed", *shown], rows)


def differences(results: StudyResults) -> Figure | None:
    found = comparisons(results)
    if not found:
        return None
    task, factor = results.task, 100.0 if results.task.as_percent else 1.0
    sign = 1.0 if task.higher_is_better else -1.0
    dots = [
        {
            "label": c.rival,
            "seed": seed,
            "value": factor * sign * d,
            "diverged": _diverged(results, (c.rival, c.first), seed),
        }
        for c in found
        for seed, d in zip(c.seeds, c.difference.differences, strict=True)
    ]
    means = [
        {
            "label": c.rival,
            "mean": factor * c.gain,
            "low": factor * c.gain_interval.low,
            "high": factor * c.gain_interval.high,
        }
        for c in found
    ]
    unit = "percentage points" if task.as_percent else task.unit or task.metric
    sentence = (
        f"Each mark is one seed: the {task.metric} of the rival against that of {results.first}, "
        "to the right where the rival is better. "
    )
    sentence += _clear_of_zero(found)
    if any(d["diverged"] for d in dots):
        sentence += " A cross is a pair in which a run diverged."
    panels = strips(
        "differences",
        sentence,
        dots,
        means,
        results,
        marks={"equal": 0.0},
        x_title=f"better than {charts.shorten(results.first)} by ({unit})",
        x_format="",
    )
    title = f"Paired differences from {results.first}"
    return Figure("differences", title, sentence, panels, _difference_table(results, found))


def _clear_of_zero(found: Sequence[RivalComparison]) -> str:
    """A sentence on the intervals that exclude zero; a range of few seeds says nothing of the
    kind."""
    real = [c for c in found if is_interval(c.gain_interval)]
    if not real:
        return "The bars are the range of the seeds: too few for an interval, so no claim."
    clear = [c.rival for c in real if not c.gain_interval.contains(0.0)]
    if not clear:
        return "No interval stays clear of zero."
    return f"The interval stays clear of zero for {', '.join(clear)}."


def _diverged(results: StudyResults, labels: Sequence[str], seed: int) -> bool:
    runs = [results.trial(label, seed) for label in labels]
    return any(run is not None and run.diverged is not None for run in runs)


def _difference_table(results: StudyResults, found: Sequence[RivalComparison]) -> Table:
    task = results.task
    rows = [
        [
            c.rival,
            str(c.difference.n),
            task.show_difference(c.gain, signed=True),
            f"{task.show_difference(c.gain_interval.low, signed=True, unit=False)} to "
            f"{task.show_difference(c.gain_interval.high, signed=True, unit=False)}",
            f"{task.show_difference(c.bootstrap.low, signed=True, unit=False)} to "
            f"{task.show_difference(c.bootstrap.high, signed=True, unit=False)}",
            f"{c.better_in} of {c.difference.n}",
            f"{c.improvement.value:.0%} ({c.improvement.interval.low:.0%} to "
            f"{c.improvement.interval.high:.0%})",
            f"{c.difference.p_value:.4f}",
            f"{c.corrected_p:.4f}",
            c.evidence.value,
        ]
        for c in found
    ]
    columns = [
        "against " + results.first,
        "seeds",
        "better by",
        interval_names([c.gain_interval for c in found]),
        "bootstrap",
        "better in",
        "probability",
        "p",
        "p (Holm)",
        "evidence",
    ]
    return Table(f"Paired differences in {task.metric}; positive is better", columns, rows)
