"""Figures across activations and settings: all pairs, cost against outcome, the stability map."""

from __future__ import annotations

from typing import Any

from ..findings.comparison import RivalComparison, all_pairs, ranking
from ..findings.cost import costs
from ..statistics import Evidence, Interval, mean_interval
from ..study.store.results import ShortRuns, StudyResults, stable_rate
from ..wording import join, plural, show_p
from . import charts, maps
from .charts import Row
from .parts import Figure, Panel, Table, looks, metric_format, single


def pairwise(results: StudyResults) -> Figure | None:
    """The matrix of paired differences between all activations; with two it is one number."""
    found = all_pairs(results)
    if len(found) < 3:
        return None
    task = results.task
    held = [c for c in found if c.evidence is Evidence.HELD]
    rows = [row for c in found for row in _both_ways(results, c)]
    largest = max(abs(r["gain"]) for r in rows) or 1.0
    labels = [x for x in results.labels if any(x in (c.rival, c.first) for c in found)]
    sentence = (
        f"Each cell says, where there is room, by how much the {task.metric} of its row is better "
        f"than that of its column, in how many seeds, and p after Holm’s correction over all "
        f"{len(found)} pairs. "
    )
    sentence += _claims(held, found)
    chart = maps.pairwise(rows, labels, largest)
    table = Table(
        f"Paired differences in {task.metric} between all pairs; positive is better",
        ["pair", "seeds", "better by", "better in", "p", "p (Holm)", "evidence"],
        [_pair_row(results, c) for c in found],
    )
    return single("pairwise", "All pairs", sentence, chart, table)


def _both_ways(results: StudyResults, c: RivalComparison) -> list[Row]:
    factor = 100.0 if results.task.as_percent else 1.0
    worse = c.difference.n - c.better_in - sum(x == 0 for x in c.difference.differences)
    both = ((c.rival, c.first, 1.0, c.better_in), (c.first, c.rival, -1.0, worse))
    return [
        {
            "row": row,
            "column": column,
            "gain": factor * sign * c.gain,
            "mean": results.task.show_difference(sign * c.gain, signed=True, unit=False),
            "count": f"{better} of {c.difference.n}",
            "p": show_p(c.corrected_p),
            "claim": c.evidence is Evidence.HELD,
        }
        for row, column, sign, better in both
    ]


def _claims(held: list[RivalComparison], found: list[RivalComparison]) -> str:
    if held:
        names = [f"{c.rival} and {c.first}" for c in held]
        return f"Bold is a claim: {plural(len(held), 'pair')} differ ({'; '.join(names)})."
    n = max(c.difference.n for c in found)
    if len(found) * 2 / 2**n > 0.05:
        return (
            f"No pair can be claimed: with {plural(n, 'seed')} the smallest p for {len(found)} "
            f"pairs is {min(1.0, len(found) * 2 / 2**n):.2g}."
        )
    return "No pair differs by enough to claim it."


def _pair_row(results: StudyResults, c: RivalComparison) -> list[str]:
    return [
        f"{c.rival} against {c.first}",
        str(c.difference.n),
        results.task.show_difference(c.gain, signed=True),
        f"{c.better_in} of {c.difference.n}",
        f"{c.difference.p_value:.4f}",
        f"{c.corrected_p:.4f}",
        c.evidence.value,
    ]


# ----------------------------------------------------------------------------- cost and outcome


def cost_and_outcome(results: StudyResults) -> Figure | None:
    """The final metric against the time of a training step."""
    found = {c.label: (c.ratio, c.interval) for c in costs(results)}
    if not found:
        return None
    found = {results.first: (1.0, Interval(1.0, 1.0, 1.0)), **found}
    task = results.task
    rows, cells = [], []
    for label, (ratio, span) in found.items():
        values = results.final(label)
        if not values.size:
            continue
        mean, interval = float(values.mean()), mean_interval(values)
        rows.append(
            {
                "label": label,
                "x": ratio,
                "x_low": span.low,
                "x_high": span.high,
                "y": mean,
                "y_low": interval.low,
                "y_high": interval.high,
            }
        )
        cells.append(
            [
                label,
                f"{ratio:.3f}",
                f"{span.low:.3f} to {span.high:.3f}",
                task.show(mean),
                f"{task.show(interval.low)} to {task.show(interval.high)}",
            ]
        )
    best = ranking(results)[0][0]
    sentence = _front(results, rows, best)
    drawn = {x: drawn for x, drawn in looks(results).items() if x in found}

    def chart(legend: bool) -> Any:
        return charts.points(
            rows,
            looks(results),
            y_title=f"final {task.metric}",
            x_title=f"time per step, {charts.shorten(results.first)} = 1",
            y_format=metric_format(results),
            legend=legend,
        )

    columns = ["activation", "time", "its interval", task.metric, "its interval"]
    table = Table(
        f"Final {task.metric} and time per training step relative to {results.first}",
        columns,
        cells,
    )
    title = f"Cost against {task.metric}"
    return Figure(
        "cost_and_outcome",
        title,
        sentence,
        [Panel("cost", "", sentence, chart)],
        table,
        drawn,
        symbols=True,
    )


def _front(results: StudyResults, rows: list[Row], best: str) -> str:
    """A sentence on the activations that no other one beats in both; means alone, so nothing is
    claimed."""

    def beaten(r: Row) -> bool:
        return any(
            o is not r
            and o["x"] <= r["x"]
            and not results.task.better(r["y"], o["y"])
            and (o["x"] < r["x"] or results.task.better(o["y"], r["y"]))
            for o in rows
        )

    front = [r["label"] for r in rows if not beaten(r)]
    where = "up" if results.task.higher_is_better else "down"
    return (
        f"Faster is to the left, better is {where}. By their means nothing is both faster and "
        f"better than {', '.join(front)}; bars are the intervals, which may well overlap."
    )


# -------------------------------------------------------------------------------- stability map


def stability(results: StudyResults) -> Figure | None:
    """Diverged short runs by learning rate and forget bias, one panel for each activation."""
    short_runs = results.stability
    if not short_runs:
        return None
    rates = sorted({c.learning_rate for c in short_runs})
    biases = sorted({c.forget_bias for c in short_runs})
    by_label = {x: [c for c in short_runs if c.activation == x] for x in results.labels}
    by_label = {x: found for x, found in by_label.items() if found}
    panels = [_stability_panel(x, found, rates, biases) for x, found in by_label.items()]
    runs = max(len(c.runs) for c in short_runs)
    sentence = (
        f"{_stable(by_label)} Each cell says how many of {plural(runs, 'short training')} "
        "diverged, with this learning rate and this initial bias of the forget gate; one that did "
        "not may still do so later."
    )
    rows = [
        [
            f"{x}, learning rate {c.learning_rate:g}, forget bias {c.forget_bias:g}",
            f"{c.diverged} of {len(c.runs)}",
            _first_step(c),
        ]
        for x, found in by_label.items()
        for c in found
    ]
    table = Table("Short runs that diverged", ["setting", "diverged", "earliest at step"], rows)
    return Figure("stability_map", "Stability map", sentence, panels, table)


def _stability_panel(
    label: str, short_runs: list[ShortRuns], rates: list[float], biases: list[float]
) -> Panel:
    rows = [
        {
            "rate": f"{c.learning_rate:g}",
            "bias": f"{c.forget_bias:g}",
            "share": c.share,
            "text": f"{c.diverged}/{len(c.runs)}",
        }
        for c in short_runs
    ]
    text = f"Diverged runs of {label} by learning rate and forget bias."
    return Panel(f"stability_{label}", label, text, lambda _: maps.stability(rows, rates, biases))


def _stable(by_label: dict[str, list[ShortRuns]]) -> str:
    """Up to which learning rate no run diverged."""
    rates = {x: stable_rate(short_runs) for x, short_runs in by_label.items()}
    top = {x: max(c.learning_rate for c in short_runs) for x, short_runs in by_label.items()}
    never = [x for x, rate in rates.items() if rate == top[x]]
    parts = [f"No run diverged with {join(never)}."] if never else []
    parts += [
        f"With {x} some run diverged at every learning rate."
        if rate is None
        else f"With {x} none diverged up to a learning rate of {rate:g}."
        for x, rate in rates.items()
        if x not in never
    ]
    return " ".join(parts)


def _first_step(c: ShortRuns) -> str:
    steps = [t.diverged.step for t in c.runs if t.diverged and t.diverged.step is not None]
    return str(min(steps)) if steps else "–"
