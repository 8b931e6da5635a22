"""Lines, strips, points and shapes, as Altair charts from plain rows; cells are in maps.

Every chart is a single layered view, because only those can take the width of their container.
Looks are given to marks through identity scales, so no legend is needed: lines are labelled at
their ends and rows on their axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from .style import INK, MUTED, Look

Row = dict[str, Any]
LABEL_GAP = 16.0
"""Pixels between two line labels, at least."""


def rows_of(rows: Sequence[Row]) -> Any:
    """Rows as a chart's data."""
    return alt.Data(values=list(rows))


def shorten(text: str, limit: int = 18) -> str:
    """``text`` for a chart, cut with an ellipsis; tables always show it whole."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _scales(looks: Mapping[str, Look]) -> tuple[Any, Any, Any]:
    """Colour, dash and shape by label."""
    names = list(looks)
    colour = alt.Scale(domain=names, range=[v.colour for v in looks.values()])
    dash = alt.Scale(domain=names, range=[list(v.dash) for v in looks.values()])
    shape = alt.Scale(domain=names, range=[v.shape for v in looks.values()])
    return (
        alt.Color("label:N", scale=colour, legend=None),
        alt.StrokeDash("label:N", scale=dash, legend=None),
        alt.Shape("label:N", scale=shape, legend=None),
    )


# ------------------------------------------------------------------------------------- curves


@dataclass(frozen=True)
class Along:
    """The axis that lines run along: the field of the rows, its title, where it begins, and its
    ticks for a given last value."""

    field: str
    title: str
    first: float
    ticks: Callable[[int], list[int]]


def epoch_ticks(last: int) -> list[int]:
    """Whole epochs, at most seven: the first, and then the multiples of a round step."""
    step = _round_step(last)
    return [1, *(e for e in range(step, last + 1, step) if e > 1)]


def lag_ticks(last: int) -> list[int]:
    """Round time steps from 0, at most seven."""
    step = _round_step(max(last, 1))
    return list(range(0, last + 1, step))


def _round_step(last: int) -> int:
    steps = [digit * 10**power for power in range(10) for digit in (1, 2, 5)]
    return next((int(s) for s in steps if last / s <= 6), last)


EPOCHS = Along("epoch", "epoch", 1, epoch_ticks)
LAGS = Along("lag", "time steps before the last", 0, lag_ticks)


def curves(
    rows: Sequence[Row],
    looks: Mapping[str, Look],
    *,
    y_title: str,
    y_format: str,
    log: bool = False,
    height: int = 320,
    along: Along = EPOCHS,
    limits: tuple[float, float] | None = None,
    end_labels: bool = True,
    legend: bool = False,
) -> Any:
    """Lines with a band: rows of ``epoch`` (or what they run along), ``label, mid, low, high``.

    Each line ends in its label, unless a key or legend names them; labels are pushed apart where
    lines end close together. On a log scale, rows must be positive.
    """
    low, high = limits or value_limits([r[k] for r in rows for k in ("low", "mid", "high")], log)
    last = max(r[along.field] for r in rows)
    scale = alt.Scale(domain=[low, high], nice=False, type="log" if log else "linear")
    across = alt.Scale(domain=[along.first, max(last, along.first + 1)], nice=False)
    x = alt.X(
        f"{along.field}:Q",
        title=along.title,
        scale=across,
        axis=alt.Axis(values=along.ticks(int(last)), format="d", grid=False),
    )
    ticks = _log_axis(low, high) if log else _axis(y_format)
    y = alt.Y("mid:Q", title=y_title, scale=scale, axis=ticks)
    colour, dash, shape = (c.legend(_legend()) if legend else c for c in _scales(looks))
    base = alt.Chart(rows_of(_marked(rows, along.field)))
    tip = [
        alt.Tooltip("label:N", title="activation"),
        alt.Tooltip(f"{along.field}:Q"),
        alt.Tooltip("mid:Q", format=y_format or ".4~g", title=y_title),
    ]
    band = base.mark_area(opacity=0.14).encode(
        x, alt.Y("low:Q", scale=scale), alt.Y2("high:Q"), colour
    )
    line = base.mark_line(strokeWidth=2).encode(x, y, colour, dash)
    some = base.transform_filter("datum.marked").mark_point(filled=True, size=46, opacity=1)
    layers = [band, line, some.encode(x, y, colour, shape, tooltip=tip)]
    if end_labels:
        ends = alt.Chart(rows_of(_line_ends(rows, along.field, low, high, log, height))).encode(
            alt.X(f"{along.field}:Q", scale=across), alt.Y("at:Q", scale=scale)
        )
        layers.append(
            ends.mark_point(filled=True, size=46, opacity=1, xOffset=12).encode(colour, shape)
        )
        layers.append(ends.mark_text(align="left", dx=20, fontSize=12).encode(text="short:N"))
    return alt.layer(*layers).properties(height=height)


def _legend() -> Any:
    return alt.Legend(title=None, orient="bottom", columns=4, symbolOpacity=1)


def _axis(number: str) -> Any:
    """A quantitative axis with about five ticks; an empty format leaves the digits to Vega."""
    return alt.Axis(tickCount=5, format=number) if number else alt.Axis(tickCount=5)


def _log_axis(low: float, high: float) -> Any:
    """Plain numbers near 1, 1e-6 and the like far from it."""
    plain = "datum.value > 9e-4 && datum.value < 1e4"
    return alt.Axis(
        values=log_ticks(low, high), labelExpr=f"format(datum.value, {plain} ? '~g' : '~e')"
    )


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between ``low`` and ``high``: 1, 2, 5 for short ranges, else powers of ten."""
    decades = math.log10(high) - math.log10(low)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    step = max(1, math.ceil(decades / 8))
    digits = (1, 2, 5) if decades <= 3 else (1,)
    ticks = [d * 10.0**e for e in range(first, last + 1, step) for d in digits]
    return [t for t in ticks if low <= t <= high]


def _marked(rows: Sequence[Row], field: str) -> list[Row]:
    """The rows with those ``marked`` that carry a shape: about six of each line, the last
    always."""
    found: list[Row] = []
    for label in dict.fromkeys(row["label"] for row in rows):
        line = sorted((r for r in rows if r["label"] == label), key=lambda r: r[field])
        step = max(1, round(len(line) / 6))
        found += [{**r, "marked": (len(line) - 1 - k) % step == 0} for k, r in enumerate(line)]
    return found


def value_limits(values: Sequence[float | None], log: bool) -> tuple[float, float]:
    """Limits of an axis with a little air; wide enough to be an axis if all values are equal."""
    real = [v for v in values if v is not None]
    low, high = min(real), max(real)
    if log:
        air = max((math.log10(high) - math.log10(low)) * 0.05, 0.15)
        bottom, top = math.log10(low) - air, math.log10(high) + air
        return 10 ** max(bottom, -300.0), 10 ** min(top, 300.0)
    air = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return low - air, high + air


def _line_ends(
    rows: Sequence[Row], field: str, low: float, high: float, log: bool, height: int
) -> list[Row]:
    """The last point of each line, with heights spread so that the labels do not overlap."""
    place = math.log10 if log else float
    span = place(high) - place(low)
    final: dict[str, Row] = {}
    for row in rows:
        if row["mid"] is not None:
            final[row["label"]] = row
    order = sorted(final.values(), key=lambda r: r["mid"], reverse=True)
    wanted = [(place(high) - place(r["mid"])) / span * height for r in order]
    last = max((r[field] for r in rows), default=0)
    ends = []
    for row, pixel in zip(order, spread(wanted, LABEL_GAP, height), strict=True):
        at = place(high) - pixel / height * span
        value = 10**at if log else at
        ends.append(
            {field: last, "label": row["label"], "short": shorten(row["label"]), "at": value}
        )
    return ends


def spread(wanted: Sequence[float], gap: float, height: float) -> list[float]:
    """Ascending positions at least ``gap`` apart, near the ``wanted`` ones and within ``height``.

    If there is no room for all, the gap shrinks to what fits.
    """
    if len(wanted) < 2:
        return list(wanted)
    gap = min(gap, height / (len(wanted) - 1))
    down: list[float] = []
    for i, value in enumerate(wanted):
        down.append(value if i == 0 else max(value, down[-1] + gap))
    limit = height
    for i in range(len(down) - 1, -1, -1):
        down[i] = min(down[i], limit)
        limit = down[i] - gap
    return down


# ------------------------------------------------------------------------------------- strips


def strip(
    dots: Sequence[Row],
    means: Sequence[Row],
    looks: Mapping[str, Look],
    *,
    x_title: str,
    x_format: str,
    marks: Mapping[str, float] | None = None,
    limits: tuple[float, float] | None = None,
    of: str = "seed",
) -> Any:
    """One row per activation: a dot per seed, or what else ``of`` names, above; the mean with its
    interval below.

    ``dots`` are rows of ``label, seed, value, diverged``; ``means`` of ``label, mean, low, high``.
    ``marks`` draws named vertical lines. What lies outside ``limits`` is cut off at the frame.
    """
    names = [name for name in looks if any(m["label"] == name for m in means)]
    low, high = limits or strip_limits(dots, means, marks or {})
    inside = {k: v for k, v in (marks or {}).items() if low <= v <= high}
    scale = alt.Scale(domain=[low, high], nice=False)
    x = alt.X("value:Q", title=x_title, scale=scale, axis=_axis(x_format))
    y = alt.Y(
        "label:N",
        sort=names,
        title=None,
        scale=alt.Scale(domain=names),
        axis=alt.Axis(labelLimit=110, labelFontSize=13, labelColor=INK),
    )
    lane = alt.YOffset("lane:Q", scale=alt.Scale(domain=[-1, 1]))
    colour, _, shape = _scales(looks)
    base = alt.Chart(rows_of(_lanes(dots)))
    tip = [
        alt.Tooltip("label:N", title="activation"),
        alt.Tooltip("seed:Q", title=of),
        alt.Tooltip("value:Q", format=x_format or ".4~g", title=x_title),
    ]
    fine = base.transform_filter("!datum.diverged").mark_point(size=34, strokeWidth=1.5, clip=True)
    bad = base.transform_filter("datum.diverged").mark_text(
        text="✕", fontSize=13, fontWeight=700, clip=True
    )
    summary = alt.Chart(rows_of([{**m, "value": m["mean"], "lane": 0.55} for m in means]))
    bar = summary.mark_rule(strokeWidth=2.5, clip=True).encode(
        alt.X("low:Q", scale=scale), y, lane, colour, x2="high:Q"
    )
    mean = summary.mark_point(filled=True, size=95, opacity=1, clip=True)
    layers = [*_marks(inside, scale), fine.encode(x, y, lane, colour, shape, tooltip=tip)]
    layers += [bad.encode(x, y, lane, colour, tooltip=tip), bar]
    layers += [mean.encode(x, y, lane, colour, shape)]
    return alt.layer(*layers).properties(height=46 * len(names))


def strip_limits(
    dots: Sequence[Row], means: Sequence[Row], marks: Mapping[str, float]
) -> tuple[float, float]:
    """Limits of a strip that show every dot, interval and mark."""
    ends = [m[end] for m in means for end in ("low", "high")]
    return value_limits([*(d["value"] for d in dots), *ends, *marks.values()], log=False)


def close_up(dots: Sequence[Row]) -> tuple[float, float] | None:
    """Limits that show the runs that did not diverge, if those that did squeeze them together."""
    regular = [d["value"] for d in dots if not d["diverged"]]
    if not regular or len(regular) == len(dots):
        return None
    low, high = value_limits(regular, log=False)
    every = [d["value"] for d in dots]
    return (low, high) if high - low < 0.5 * (max(every) - min(every)) else None


def _lanes(dots: Sequence[Row]) -> list[Row]:
    """Dots moved up and down a little, always in the same way, so that equal values show."""
    return [{**d, "lane": -0.45 + 0.5 * ((i * 0.618034) % 1 - 0.5)} for i, d in enumerate(dots)]


def _marks(marks: Mapping[str, float], scale: Any) -> list[Any]:
    if not marks:
        return []
    base = alt.Chart(rows_of([{"name": name, "value": value} for name, value in marks.items()]))
    rule = base.mark_rule(strokeDash=[4, 3], color=MUTED).encode(alt.X("value:Q", scale=scale))
    text = base.mark_text(dy=-6, baseline="bottom", color=MUTED, fontSize=11)
    return [rule, text.encode(alt.X("value:Q", scale=scale), y=alt.value(0), text="name:N")]


# ------------------------------------------------------------------------------------- points


def points(
    rows: Sequence[Row],
    looks: Mapping[str, Look],
    *,
    x_title: str,
    y_title: str,
    y_format: str,
    legend: bool,
) -> Any:
    """A point for each activation with an interval both ways: rows of ``label, x, x_low, x_high,
    y, y_low, y_high``."""
    low, high = value_limits([r[k] for r in rows for k in ("x_low", "x", "x_high")], False)
    across = alt.Scale(domain=[low, high], nice=False)
    low, high = value_limits([r[k] for r in rows for k in ("y_low", "y", "y_high")], False)
    up = alt.Scale(domain=[low, high], nice=False)
    x = alt.X("x:Q", title=x_title, scale=across, axis=_axis(".2f"))
    y = alt.Y("y:Q", title=y_title, scale=up, axis=_axis(y_format))
    colour, _, shape = (c.legend(_legend()) if legend else c for c in _scales(looks))
    base = alt.Chart(rows_of(rows))
    tip = [
        alt.Tooltip("label:N", title="activation"),
        alt.Tooltip("x:Q", format=".2f"),
        alt.Tooltip("y:Q", format=y_format or ".4~g", title=y_title),
    ]
    flat = base.mark_rule(strokeWidth=1.5).encode(
        alt.X("x_low:Q", scale=across), y, colour, x2="x_high:Q"
    )
    tall = base.mark_rule(strokeWidth=1.5).encode(
        x, alt.Y("y_low:Q", scale=up), colour, y2="y_high:Q"
    )
    dots = base.mark_point(filled=True, size=130, opacity=1).encode(
        x, y, colour, shape, tooltip=tip
    )
    return alt.layer(flat, tall, dots).properties(height=280)


# ------------------------------------------------------------------------------------- shapes


ORDERS = {
    "f": Look(INK, (1, 0), "circle"),
    "f′": Look("#0072b2", (7, 3), "square"),
    "f″": Look("#d55e00", (2, 2), "triangle-up"),
}
"""The function and its derivatives, as they are drawn in every formula panel."""


def shape(
    rows: Sequence[Row],
    saturated: Sequence[tuple[float, float]],
    *,
    lo: float,
    hi: float,
    limits: tuple[float, float],
    legend: bool,
) -> Any:
    """f, f′ and f″ of one activation on ``[lo, hi]``: rows of ``x, label, value``.

    Saturated stretches are shaded. Values outside ``limits`` are cut off at the frame.
    """
    scale = alt.Scale(domain=[lo, hi], nice=False)
    x = alt.X("x:Q", title="x", scale=scale, axis=alt.Axis(tickCount=5, grid=False))
    y = alt.Y(
        "value:Q",
        title=None,
        scale=alt.Scale(domain=list(limits), nice=False),
        axis=alt.Axis(tickCount=5),
    )
    colour, dash, _ = _scales(ORDERS)
    if legend:
        key = alt.Legend(title=None, orient="bottom", symbolSize=300)
        colour, dash = colour.legend(key), dash.legend(key)
    stretches = [{"from": max(a, lo), "to": min(b, hi)} for a, b in saturated if b > lo and a < hi]
    shade = alt.Chart(rows_of(stretches)).mark_rect(color="#8a94a0", opacity=0.2)
    line = alt.Chart(rows_of(rows)).mark_line(clip=True, strokeWidth=2).encode(x, y, colour, dash)
    zero = alt.Chart(rows_of([{"value": 0}])).mark_rule(color=MUTED, strokeWidth=0.75)
    layers = [zero.encode(alt.Y("value:Q")), line]
    if stretches:
        layers.insert(0, shade.encode(alt.X("from:Q", scale=scale), x2="to:Q"))
    return alt.layer(*layers).properties(height=190)
