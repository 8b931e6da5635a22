"""Charts made of cells: shares by slot, over time steps, over settings, and between all pairs.

Every cell says its number, or draws it as the height of a line: colour alone says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from .charts import Row, rows_of, shorten
from .style import INK

_AMBER, _BLUE = "#e69f00", "#56b4e9"
# Opacity of one colour and not a range of colours: the page's own background shines through, so
# that cells fit a dark page as well.
_SHARE = alt.FillOpacity("share:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.07, 1]))
_ON_FULL = alt.condition("datum.share > 0.65", alt.value("#000000"), alt.value(INK))
"""Text on a cell: black where amber is strong in both themes, else the page's ink."""


def _rows_axis() -> Any:
    return alt.Axis(labelLimit=110, labelFontSize=13, labelColor=INK)


def _cells(base: Any) -> Any:
    """Cells with gaps between them in the colour of the page."""
    return base.mark_rect(fill=_AMBER, stroke="#ffffff", strokeWidth=2)


def heat(rows: Sequence[Row], slots: Sequence[str], labels: Sequence[str]) -> Any:
    """Shares by activation and slot: rows of ``label, slot, share``, each printed in its cell."""
    x = alt.X(
        "slot:N",
        sort=list(slots),
        title=None,
        axis=alt.Axis(
            labelAngle=0,
            domain=False,
            ticks=False,
            labelFontSize={"expr": f"width / {len(slots)} >= 52 ? 11 : 9"},
            labelExpr="split(datum.label, ' ')",
        ),
    )
    y = alt.Y("label:N", sort=list(labels), title=None, axis=_rows_axis())
    labels = [label for label in labels if any(row["label"] == label for row in rows)]
    base = alt.Chart(rows_of(rows)).encode(x, y)
    tip = [alt.Tooltip("label:N"), alt.Tooltip("slot:N"), alt.Tooltip("share:Q", format=".1%")]
    cells = _cells(base).encode(_SHARE, tooltip=tip)
    numbers = base.mark_text().encode(alt.Text("share:Q", format=".0%"), color=_ON_FULL)
    return alt.layer(cells, numbers).properties(height=30 * len(labels))


def over_time(rows: Sequence[Row], slots: Sequence[str], steps: int) -> Any:
    """Shares by slot and time step: rows of ``slot, from, to, share, low, high``.

    A row for each slot, its colour and the height of its line being the share.
    """
    tall, air = 34, 0.08
    placed = [_placed(row, slots.index(row["slot"]), air) for row in rows]
    scale = alt.Scale(domain=[1, steps + 1], nice=False)
    up = alt.Scale(domain=[len(slots), 0], nice=False)
    names = ", ".join(f"'{slot}'" for slot in slots)
    x = alt.X(
        "from:Q",
        title="time step",
        scale=scale,
        axis=alt.Axis(tickCount=5, format="d", grid=False, tickMinStep=1),
    )
    y = alt.Y(
        "top:Q",
        title=None,
        scale=up,
        axis=alt.Axis(
            values=[k + 0.5 for k in range(len(slots))],
            grid=False,
            labelExpr=f"[{names}][floor(datum.value)]",
            labelColor=INK,
            labelFontSize=12,
        ),
    )
    tip = [
        alt.Tooltip("slot:N"),
        alt.Tooltip("from:Q", title="from step"),
        *(
            alt.Tooltip(f"{k}:Q", format=".1%", title=t)
            for k, t in (("share", "saturated"), ("low", "of it low"), ("high", "of it high"))
        ),
    ]
    base = alt.Chart(rows_of(placed))
    cells = base.mark_rect(fill=_AMBER).encode(x, y, _SHARE, x2="to:Q", y2="bottom:Q", tooltip=tip)
    line = base.mark_line(color=INK, strokeWidth=1.4).encode(
        alt.X("middle:Q", scale=scale), alt.Y("line:Q", scale=up), detail="slot:N"
    )
    return alt.layer(cells, line).properties(height=tall * len(slots))


def _placed(row: Row, k: int, air: float) -> Row:
    """A row with its place from top to bottom; a share of one reaches the top of its band."""
    high = k + 1 - air
    return {
        **row,
        "top": k + air,
        "bottom": high,
        "line": high - row["share"] * (1 - 2 * air),
        "middle": (row["from"] + row["to"]) / 2,
    }


def stability(rows: Sequence[Row], rates: Sequence[float], biases: Sequence[float]) -> Any:
    """Diverged runs by learning rate and forget bias: rows of ``rate, bias, share, text``."""
    x = alt.X(
        "rate:N",
        sort=[f"{r:g}" for r in rates],
        title="learning rate",
        axis=alt.Axis(labelAngle=0, domain=False, ticks=False),
    )
    y = alt.Y(
        "bias:N",
        sort=[f"{b:g}" for b in reversed(biases)],
        title="forget bias",
        axis=alt.Axis(labelColor=INK),
    )
    base = alt.Chart(rows_of(rows)).encode(x, y)
    tip = [
        alt.Tooltip("rate:N", title="learning rate"),
        alt.Tooltip("bias:N", title="forget bias"),
        alt.Tooltip("text:N", title="diverged"),
    ]
    cells = _cells(base).encode(_SHARE, tooltip=tip)
    texts = base.mark_text().encode(text="text:N", color=_ON_FULL)
    return alt.layer(cells, texts).properties(height=30 * len(biases))


def pairwise(rows: Sequence[Row], labels: Sequence[str], largest: float) -> Any:
    """Differences between all pairs: rows of ``row, column, gain, mean, count, p, claim``.

    The mean is printed, bold where it is a claim. Where the cell is wide enough, in how many seeds
    the row was better and the corrected p stand below it; the columns have names, else numbers.
    """
    wide = f"width / {len(labels)} >= "
    short = {label: f"{k} {shorten(label, 14)}" for k, label in enumerate(labels, start=1)}
    order = [short[label] for label in labels]
    named = [
        {
            **r,
            "row": short[r["row"]],
            "column": short[r["column"]],
            "size": abs(r["gain"]) / largest,
            "sign": r["mean"][0],
        }
        for r in rows
    ]
    names = f"{wide}100 ? datum.label : split(datum.label, ' ')[0]"
    x = alt.X(
        "column:N",
        sort=order,
        title="compared with",
        scale=alt.Scale(domain=order),
        axis=alt.Axis(
            orient="top",
            labelAngle=0,
            domain=False,
            ticks=False,
            labelLimit=110,
            labelColor=INK,
            labelExpr=names,
        ),
    )
    y = alt.Y("row:N", sort=order, title=None, scale=alt.Scale(domain=order), axis=_rows_axis())
    base = alt.Chart(rows_of(named)).encode(x, y)
    tip = [
        alt.Tooltip("row:N"),
        alt.Tooltip("column:N", title="against"),
        alt.Tooltip("mean:N", title="better by"),
        alt.Tooltip("count:N", title="better in"),
        alt.Tooltip("p:N"),
    ]
    size = alt.FillOpacity("size:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.05, 0.5]))
    fill = alt.condition("datum.gain > 0", alt.value(_BLUE), alt.value(_AMBER))
    cells = _cells(base).encode(size, fill=fill, tooltip=tip)
    large = {"expr": f"{wide}56 ? 13 : {wide}38 ? 11 : {wide}30 ? 9 : 0"}
    small = {"expr": f"{wide}56 ? 11 : {wide}46 ? 9 : 0"}
    texts = [
        base.mark_text(dy=dy, fontSize=size, fontWeight=weight)
        .transform_filter(f"datum.claim == {str(claim).lower()}")
        .encode(text=f"{field}:N")
        for field, dy, size in (
            ("mean", {"expr": f"{wide}46 ? -14 : 0"}, large),
            ("count", 2, small),
            ("p", 16, small),
            ("sign", 0, {"expr": f"{wide}30 ? 0 : 11"}),
        )
        for claim, weight in ((True, 700), (False, 400))
    ]
    return alt.layer(cells, *texts).properties(height=62 * len(labels))
