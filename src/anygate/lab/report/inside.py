"""Figures of what goes on inside: formulas, saturation, gradients, the cell state, the cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..findings.comparison import interval_names, is_interval
from ..findings.cost import costs, untold_costs
from ..study.store.results import Health, Quantity, StudyResults
from ..study.store.schema import ActivationInfo
from . import charts, maps
from .charts import Row
from .formulas import HI, LO, Shape, at, describe_saturation
from .parts import Figure, Panel, Table, epoch_table, looks, number, single


def formulas(results: StudyResults, shapes: Mapping[str, Shape | None]) -> Figure | None:
    found = {i.label: (i, s) for i in results.config.activations if (s := shapes[i.label])}
    if not found:
        return None
    values = [v for _, s in found.values() for p in s.points for v in p[1:] if v is not None]
    limits = (max(-2.5, min(values) - 0.1), min(4.0, max(values) + 0.1))
    panels = [_formula_panel(info, shape, limits) for info, shape in found.values()]
    parts = [f"{label} {describe_saturation(s)}" for label, (_, s) in found.items()]
    sentence = (
        "Each activation f with its first and second derivative. Shaded is where it saturates, "
        f"|f′| being below a tenth of its maximum: {'; '.join(parts)}."
    )
    rows = [
        [f"{label}, {name}", *(number(at(s, float(x))[order]) for x in range(-4, 5))]
        for label, (_, s) in found.items()
        for order, name in enumerate(charts.ORDERS)
    ]
    table = Table("Values at whole numbers x", ["x", *(str(x) for x in range(-4, 5))], rows)
    return Figure("formulas", "The formulas", sentence, panels, table, charts.ORDERS)


def _formula_panel(info: ActivationInfo, shape: Shape, limits: tuple[float, float]) -> Panel:
    rows = [
        {"x": p[0], "label": name, "value": _rounded(p[order])}
        for order, name in enumerate(charts.ORDERS, start=1)
        for p in shape.points
    ]

    def chart(legend: bool) -> Any:
        return charts.shape(rows, shape.saturated, lo=LO, hi=HI, limits=limits, legend=legend)

    text = f"{info.label}, f(x) = {info.formula}; saturates {describe_saturation(shape)}."
    return Panel(f"formula_{info.label}", info.label, text, chart, info.formula)


def _rounded(value: float | None) -> float | None:
    """Six digits: more than a screen shows, and half the size of the page."""
    return None if value is None else float(f"{value:.6g}")


def health(results: StudyResults) -> Figure | None:
    saturated, dead = _shares(results, "saturated"), _shares(results, "dead")
    if not saturated:
        return None
    slots = [s.replace("_", " ") for s in results.measured_slots]
    panels = [_heat_panel("Share of values saturated", saturated, slots, results.labels)]
    if dead:
        panels.append(_heat_panel("Share of units dead", dead, slots, results.labels))
    sentence = f"At the last epoch saturation is highest {_peak(saturated, 'values')}, and " + (
        f"dead units are most frequent {_peak(dead, 'units')}."
        if any(r["share"] >= 0.005 for r in dead)
        else "hardly any unit is dead."
    )
    share = {(r["label"], r["slot"]): f"{r['share']:.1%}" for r in dead}
    rows = [
        [r["label"], r["slot"], f"{r['share']:.1%}", share.get((r["label"], r["slot"]), "–")]
        for r in saturated
    ]
    columns = ["activation", "slot", "saturated", "dead"]
    table = Table("Mean share over the seeds, last recorded epoch", columns, rows)
    return Figure("saturation", "Saturated values and dead units", sentence, panels, table)


def _peak(rows: Sequence[Row], what: str) -> str:
    top = max(rows, key=lambda r: r["share"])
    return f"in the {top['slot']} of {top['label']} ({top['share']:.0%} of its {what})"


def _heat_panel(title: str, rows: list[Row], slots: list[str], labels: list[str]) -> Panel:
    text = f"{title} by activation and slot at the last epoch."
    return Panel(title, title, text, lambda _: maps.heat(rows, slots, labels))


def _shares(results: StudyResults, health: Health) -> list[Row]:
    return [
        {"label": label, "slot": slot.replace("_", " "), "share": float(values.mean())}
        for label in results.labels
        for slot in results.measured_slots
        if (values := results.share(label, slot, health)).size
    ]


def over_epochs(results: StudyResults, quantity: Quantity, title: str, axis: str) -> Figure | None:
    """Median over the seeds with the range, on a log scale."""
    rows: list[Row] = []
    cells: dict[str, dict[int, str]] = {}
    ends: dict[str, float] = {}
    for label in results.labels:
        for epoch, column in enumerate(results.curves(label, quantity).T, start=1):
            values = column[np.isfinite(column) & (column > 0)]
            if values.size:
                mid = float(np.median(values))
                rows.append(
                    {
                        "label": label,
                        "epoch": epoch,
                        "mid": mid,
                        "low": float(values.min()),
                        "high": float(values.max()),
                    }
                )
                cells.setdefault(label, {})[epoch] = number(mid)
                ends[label] = mid
    if not rows:
        return None
    chart = charts.curves(rows, looks(results), y_title=axis, y_format="~g", log=True)
    high, low = max(ends, key=lambda k: ends[k]), min(ends, key=lambda k: ends[k])
    sentence = f"At the last epoch recorded, the {axis} is {number(ends[high])} for {high}"
    if low != high:
        sentence = (
            f"At the last epoch recorded, the {axis} is highest for {high} ({number(ends[high])}) "
            f"and lowest for {low} ({number(ends[low])})"
        )
    sentence += ". Lines are medians over the runs still finite, bands their range; log scale."
    table = epoch_table(f"Median {axis} by epoch", results, cells)
    return single(quantity, f"{title} over the epochs", sentence, chart, table)


def cost(results: StudyResults) -> Figure | None:
    found = costs(results)
    if not found:
        return None
    base = results.costs[results.first]
    dots = [
        {"label": c.label, "seed": k, "value": t / base[k], "diverged": False}
        for c in found
        for k, t in enumerate(results.costs[c.label])
    ]
    means = [
        {"label": c.label, "mean": c.ratio, "low": c.interval.low, "high": c.interval.high}
        for c in found
    ]
    chart = charts.strip(
        dots,
        means,
        looks(results),
        x_format=".2f",
        x_title=f"time per step, {charts.shorten(results.first)} = 1",
        marks={"same": 1.0},
        of="round",
    )
    slow = max(found, key=lambda c: c.ratio)
    noise = [c.label for c in found if c.within_noise]
    sentence = (
        f"A training step with {slow.label} takes {slow.ratio:.2f} times as long as with "
        f"{results.first}{', the most' if len(found) > 1 else ''}. "
    )
    if not all(is_interval(c.interval) for c in found):
        sentence += "The bars are the range of the rounds: too few for an interval."
    else:
        within = f"Within noise of 1: {', '.join(noise)}."
        sentence += within if noise else "None is within noise of 1."
    sentence = " ".join([sentence, *untold_costs(results)])
    rows = [
        [c.label, str(c.n), f"{c.ratio:.3f}", f"{c.interval.low:.3f} to {c.interval.high:.3f}"]
        for c in found
    ]
    table = Table(
        f"Time per training step relative to {results.first}",
        ["activation", "rounds", "ratio", interval_names([c.interval for c in found])],
        rows,
    )
    return single("cost", "Cost of a training step", sentence, chart, table)
