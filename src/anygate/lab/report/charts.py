"""The four kinds of chart that the report is made of, as Altair charts from plain rows.

Every chart is a single layered view, because only those can take the width of their container.
Looks are given to marks through identity scales, so no legend is needed: lines are labelled at
their ends and rows on their axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from .style import INK, MUTED, Look

Row = dict[str, Any]
LABEL_GAP = 16.0
"""Pixels between two line labels, at least."""


def _data(rows: Sequence[Row]) -> Any:
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


def curves(
    rows: Sequence[Row],
    looks: Mapping[str, Look],
    *,
    y_title: str,
    y_format: str,
    log: bool = False,
    height: int = 320,
) -> Any:
    """Lines over epochs with a band: rows of ``epoch, label, mid, low, high``.

    Each line ends in its label; labels are pushed apart where lines end close together. On a log
    scale, rows must be positive.
    """
    low, high = _domain([r[k] for r in rows for k in ("low", "mid", "high")], log)
    last = max(r["epoch"] for r in rows)
    scale = alt.Scale(domain=[low, high], nice=False, type="log" if log else "linear")
    epochs = alt.Scale(domain=[1, max(last, 2)], nice=False)
    x = alt.X("epoch:Q", title="epoch", scale=epochs,
              axis=alt.Axis(values=epoch_ticks(last), format="d", grid=False))  # fmt: skip
    ticks = alt.Axis(values=log_ticks(low, high), format="~g") if log else _axis(y_format)
    y = alt.Y("mid:Q", title=y_title, scale=scale, axis=ticks)
    colour, dash, shape = _scales(looks)
    base = alt.Chart(_data(rows))
    tip = [alt.Tooltip("label:N", title="activation"), alt.Tooltip("epoch:Q"),
           alt.Tooltip("mid:Q", format=y_format or ".4~g", title=y_title)]  # fmt: skip
    band = base.mark_area(opacity=0.14).encode(
        x, alt.Y("low:Q", scale=scale), alt.Y2("high:Q"), colour
    )
    line = base.mark_line(strokeWidth=2).encode(x, y, colour, dash)
    some = base.transform_filter(_sparse(last)).mark_point(filled=True, size=46, opacity=1)
    ends = alt.Chart(_data(_line_ends(rows, low, high, log, height))).encode(
        alt.X("epoch:Q", scale=epochs), alt.Y("at:Q", scale=scale)
    )
    key = ends.mark_point(filled=True, size=46, opacity=1, xOffset=12).encode(colour, shape)
    text = ends.mark_text(align="left", dx=20, fontSize=12).encode(text="short:N")
    layered = alt.layer(band, line, some.encode(x, y, colour, shape, tooltip=tip), key, text)
    return layered.properties(height=height)


def _axis(number: str) -> Any:
    """A quantitative axis with about five ticks; an empty format leaves the digits to Vega."""
    return alt.Axis(tickCount=5, format=number) if number else alt.Axis(tickCount=5)


def epoch_ticks(last: int) -> list[int]:
    """Whole epochs, at most seven: the first, and then the multiples of a round step."""
    steps = (digit * 10**power for power in range(10) for digit in (1, 2, 5))
    step = next(s for s in steps if last / s <= 6)
    return [1, *(e for e in range(step, last + 1, step) if e > 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between ``low`` and ``high``: 1, 2, 5 for short ranges, else powers of ten."""
    decades = math.log10(high) - math.log10(low)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    step = max(1, math.ceil(decades / 8))
    digits = (1, 2, 5) if decades <= 3 else (1,)
    ticks = [d * 10.0**e for e in range(first, last + 1, step) for d in digits]
    return [t for t in ticks if low <= t <= high]


def _sparse(last: int) -> str:
    """A filter for the epochs that carry a shape: about six of them, the last always."""
    step = max(1, round(last / 6))
    return f"(datum.epoch - {last}) % {step} == 0"


def _domain(values: Sequence[float | None], log: bool) -> tuple[float, float]:
    """Limits of an axis with a little air; wide enough to be an axis if all values are equal."""
    real = [v for v in values if v is not None]
    low, high = min(real), max(real)
    if log:
        air = max((math.log10(high) - math.log10(low)) * 0.05, 0.15)
        bottom, top = math.log10(low) - air, math.log10(high) + air
        return 10 ** max(bottom, -300.0), 10 ** min(top, 300.0)
    air = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return low - air, high + air


def _line_ends(rows: Sequence[Row], low: float, high: float, log: bool, height: int) -> list[Row]:
    """The last point of each line, with heights spread so that the labels do not overlap."""
    place = math.log10 if log else float
    span = place(high) - place(low)
    final: dict[str, Row] = {}
    for row in rows:
        if row["mid"] is not None:
            final[row["label"]] = row
    order = sorted(final.values(), key=lambda r: r["mid"], reverse=True)
    wanted = [(place(high) - place(r["mid"])) / span * height for r in order]
    last = max((r["epoch"] for r in rows), default=0)
    ends = []
    for row, pixel in zip(order, spread(wanted, LABEL_GAP, height), strict=True):
        at = place(high) - pixel / height * span
        value = 10**at if log else at
        ends.append({"epoch": last, "label": row["label"], "short": shorten(row["label"]),
                     "at": value})  # fmt: skip
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
) -> Any:
    """One row per activation: a dot per seed above, the mean with its interval below.

    ``dots`` are rows of ``label, seed, value, diverged``; ``means`` of ``label, mean, low, high``.
    ``marks`` draws named vertical lines. What lies outside ``limits`` is cut off at the frame.
    """
    names = [name for name in looks if any(m["label"] == name for m in means)]
    low, high = limits or strip_limits(dots, means, marks or {})
    inside = {k: v for k, v in (marks or {}).items() if low <= v <= high}
    scale = alt.Scale(domain=[low, high], nice=False)
    x = alt.X("value:Q", title=x_title, scale=scale, axis=_axis(x_format))
    y = alt.Y("label:N", sort=names, title=None, scale=alt.Scale(domain=names),
              axis=alt.Axis(labelLimit=110, labelFontSize=13, labelColor=INK))  # fmt: skip
    lane = alt.YOffset("lane:Q", scale=alt.Scale(domain=[-1, 1]))
    colour, _, shape = _scales(looks)
    base = alt.Chart(_data(_lanes(dots)))
    tip = [alt.Tooltip("label:N", title="activation"), alt.Tooltip("seed:Q"),
           alt.Tooltip("value:Q", format=x_format or ".4~g", title=x_title)]  # fmt: skip
    fine = base.transform_filter("!datum.diverged").mark_point(size=34, strokeWidth=1.5, clip=True)
    bad = base.transform_filter("datum.diverged").mark_text(
        text="✕", fontSize=13, fontWeight=700, clip=True
    )
    summary = alt.Chart(_data([{**m, "value": m["mean"], "lane": 0.55} for m in means]))
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
    return _domain([*(d["value"] for d in dots), *ends, *marks.values()], log=False)


def close_up(dots: Sequence[Row]) -> tuple[float, float] | None:
    """Limits that show the runs that did not diverge, if those that did squeeze them together."""
    regular = [d["value"] for d in dots if not d["diverged"]]
    if not regular or len(regular) == len(dots):
        return None
    low, high = _domain(regular, log=False)
    every = [d["value"] for d in dots]
    return (low, high) if high - low < 0.5 * (max(every) - min(every)) else None


def _lanes(dots: Sequence[Row]) -> list[Row]:
    """Dots moved up and down a little, always in the same way, so that equal values show."""
    return [{**d, "lane": -0.45 + 0.5 * ((i * 0.618034) % 1 - 0.5)} for i, d in enumerate(dots)]


def _marks(marks: Mapping[str, float], scale: Any) -> list[Any]:
    if not marks:
        return []
    base = alt.Chart(_data([{"name": name, "value": value} for name, value in marks.items()]))
    rule = base.mark_rule(strokeDash=[4, 3], color=MUTED).encode(alt.X("value:Q", scale=scale))
    text = base.mark_text(dy=-6, baseline="bottom", color=MUTED, fontSize=11)
    return [rule, text.encode(alt.X("value:Q", scale=scale), y=alt.value(0), text="name:N")]


# -------------------------------------------------------------------------- shares and shapes


def heat(rows: Sequence[Row], slots: Sequence[str], labels: Sequence[str]) -> Any:
    """Shares by activation and slot: rows of ``label, slot, share``, each printed in its cell."""
    x = alt.X("slot:N", sort=list(slots), title=None,
              axis=alt.Axis(labelAngle=0, labelFontSize=11, domain=False, ticks=False,
                            labelExpr="split(datum.label, ' ')"))  # fmt: skip
    y = alt.Y("label:N", sort=list(labels), title=None,
              axis=alt.Axis(labelLimit=110, labelFontSize=13, labelColor=INK))  # fmt: skip
    labels = [label for label in labels if any(row["label"] == label for row in rows)]
    base = alt.Chart(_data(rows)).encode(x, y)
    colour = alt.Color("share:Q", legend=None,
                       scale=alt.Scale(domain=[0, 1], range=["#f7f3ec", "#e69f00"]))  # fmt: skip
    tip = [alt.Tooltip("label:N"), alt.Tooltip("slot:N"), alt.Tooltip("share:Q", format=".1%")]
    cells = base.mark_rect(stroke="#ffffff", strokeWidth=2).encode(colour, tooltip=tip)
    numbers = base.mark_text(color="#000000").encode(alt.Text("share:Q", format=".0%"))
    return alt.layer(cells, numbers).properties(height=30 * len(labels))


ORDERS = {"f": Look(INK, (1, 0), "circle"), "f′": Look("#0072b2", (7, 3), "square"),
          "f″": Look("#d55e00", (2, 2), "triangle-up")}  # fmt: skip
"""The function and its derivatives, as they are drawn in every formula panel."""


def shape(
    rows: Sequence[Row], saturated: Sequence[tuple[float, float]], *, lo: float, hi: float,
    limits: tuple[float, float], legend: bool,
) -> Any:  # fmt: skip
    """f, f′ and f″ of one activation on ``[lo, hi]``: rows of ``x, label, value``.

    Saturated stretches are shaded. Values outside ``limits`` are cut off at the frame.
    """
    scale = alt.Scale(domain=[lo, hi], nice=False)
    x = alt.X("x:Q", title="x", scale=scale,
              axis=alt.Axis(tickCount=5, grid=False))  # fmt: skip
    y = alt.Y("value:Q", title=None, scale=alt.Scale(domain=list(limits), nice=False),
              axis=alt.Axis(tickCount=5))  # fmt: skip
    colour, dash, _ = _scales(ORDERS)
    if legend:
        key = alt.Legend(title=None, orient="bottom", symbolSize=300)
        colour, dash = colour.legend(key), dash.legend(key)
    stretches = [{"from": max(a, lo), "to": min(b, hi)} for a, b in saturated if b > lo and a < hi]
    shade = alt.Chart(_data(stretches)).mark_rect(color="#8a94a0", opacity=0.2)
    line = alt.Chart(_data(rows)).mark_line(clip=True, strokeWidth=2).encode(x, y, colour, dash)
    zero = alt.Chart(_data([{"value": 0}])).mark_rule(color=MUTED, strokeWidth=0.75)
    layers = [zero.encode(alt.Y("value:Q")), line]
    if stretches:
        layers.insert(0, shade.encode(alt.X("from:Q", scale=scale), x2="to:Q"))
    return alt.layer(*layers).properties(height=190)
