"""The pictures of the page, as SVG from the same findings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ...formulas.sheet import curve
from ..study.store.files import write_text
from .contrast import contrast
from .experiments import ABLATIONS, OUTSIDE, PAIR, SINGLE_GATES, STABILITY, TASKS, on, plain
from .findings import Findings
from .grid import Arm, arms
from .survey import FUNCTIONS, PLACES, surveyed

if TYPE_CHECKING:
    import altair as alt

__all__ = ["PICTURES", "Picture", "draw"]

Row = dict[str, Any]


@dataclass(frozen=True)
class Picture:
    """file: its name. sentence: what is to be seen. rows: its numbers, none if they are not there.
    chart: of the rows."""

    file: str
    title: str
    sentence: str
    rows: Callable[[Findings], list[Row]]
    chart: Callable[[Sequence[Row]], alt.Chart]


def draw(findings: Findings, directory: Path) -> list[Path]:
    """Write every picture that has numbers. Raises WriteError if one cannot be written."""
    import vl_convert

    from ..report.export import VL_VERSION
    from ..report.style import HUES, config

    paths = []
    for picture in PICTURES:
        rows = picture.rows(findings)
        if not rows:
            continue
        spec = picture.chart(rows).to_dict(validate=False)
        colours = {"category": list(HUES[1:])}
        spec["config"] = {**config(), "background": "#ffffff", "range": colours}
        svg = str(vl_convert.vegalite_to_svg(spec, vl_version=VL_VERSION))
        paths.append(write_text(directory / picture.file, svg))
    return paths


# ---- second derivatives ----------------------------------------------------------------------


def _second_rows(findings: Findings) -> list[Row]:
    if not findings.experiment("formulas"):
        return []
    return [
        {"x": row["x"], "value": abs(row["d2"] or 0.0), "name": name}
        for name in ("tanh", "sigmoid", "softsign")
        for row in curve(name, 0.05, 8, 80)
    ]


def _second(rows: Sequence[Row]) -> Any:
    import altair as alt

    limits = alt.Scale(type="log", domain=[1e-3, 2], clamp=True, nice=False)
    lines = alt.Chart(alt.Data(values=list(rows))).mark_line().encode(
        alt.X("x:Q", title="x", scale=alt.Scale(domain=[0, 8], nice=False)),
        alt.Y("value:Q", title="|f″(x)|", scale=limits),
        alt.Color("name:N", title=None), alt.StrokeDash("name:N", title=None),
    )  # fmt: skip
    level = alt.Chart(alt.Data(values=[{"y": 0.01}])).mark_rule(strokeDash=[3, 3])
    return alt.layer(lines, level.encode(alt.Y("y:Q"))).properties(width=460, height=220)


# ---- paired differences ----------------------------------------------------------------------


def _pairs_rows(findings: Findings) -> list[Row]:
    """All differences in the time to solve: other gates, other units."""
    shown = [
        *(Arm(task, "gate_activation", gate) for gate in OUTSIDE for task in ("adding", "reber")),
        *arms("adding", SINGLE_GATES, ("penalized_tanh", "relu")),
        *(Arm("adding", slot, unit) for unit in ("sigmoid", "relu") for slot in PAIR),
        *(Arm("reber", slot, "relu") for slot in PAIR),
        *(Arm("adding", "activation", unit) for unit in ("softsign", "leaky_relu")),
    ]  # fmt: skip
    rows = []
    for arm in shown:
        c = contrast(findings, arm, plain(arm.task))
        if c is not None:
            d = c.difference
            place = arm.slot.replace("gate_activation", "all gates").replace("activation", "both")
            rows.append({
                "name": f"{arm.activation}, {place.replace('_', ' ')}, {arm.task}",
                "mean": 100 * d.mean, "low": 100 * d.interval.low, "high": 100 * d.interval.high,
                "margin": 100 * c.margin,
            })  # fmt: skip
    return rows


def _pairs(rows: Sequence[Row]) -> Any:
    import altair as alt

    base = alt.Chart(alt.Data(values=list(rows)))
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=260))
    bars = base.mark_rule(strokeWidth=2).encode(
        alt.X("low:Q", title="later than tanh and sigmoid, % of the epochs (negative: sooner)"),
        y, x2="high:Q",
    )  # fmt: skip
    dots = base.mark_point(filled=True, size=50, opacity=1).encode(alt.X("mean:Q"), y)
    marks = [{"x": 0.0}, {"x": rows[0]["margin"]}]
    rule = alt.Chart(alt.Data(values=marks)).mark_rule(strokeDash=[4, 3]).encode(alt.X("x:Q"))
    return alt.layer(rule, bars, dots).properties(width=420, height=18 * len(rows))


# ---- survey ------------------------------------------------------------------------------------


def _survey_rows(findings: Findings) -> list[Row]:
    sheets = findings.experiment("formulas").get("sheets", {})
    rows = []
    for place in PLACES:
        for name in FUNCTIONS:
            found = surveyed(findings, place, name)
            if found and name in sheets:
                kind = "bounded" if sheets[name]["bounded"] else "unbounded"
                rows.append({"name": name, "place": place.replace("_", " "), "kind": kind,
                             "loss": 100 * fmean(found)})  # fmt: skip
    return rows


def _survey(rows: Sequence[Row]) -> Any:
    import altair as alt

    base = alt.Chart(alt.Data(values=list(rows)))
    return base.mark_point(filled=True, size=60, opacity=1).encode(
        alt.X("loss:Q", title="% of the epochs until solved (100: never)"),
        alt.Y("name:N", sort=list(FUNCTIONS), title=None, axis=alt.Axis(labelLimit=200)),
        alt.Color("place:N", title=None), alt.Shape("kind:N", title=None),
    ).properties(width=420, height=18 * len(FUNCTIONS))  # fmt: skip


# ---- stability -----------------------------------------------------------------------------------


def _stability_rows(findings: Findings) -> list[Row]:
    rows = []
    for arm in STABILITY:
        runs = findings.of(arm)
        if runs:
            changed = dict(arm.changes)
            rows.append({"unit": arm.activation, "share": findings.diverged(arm) / len(runs),
                         "rate": f"{changed['learning_rate']:g}",
                         "bias": f"{changed['forget_bias']:g}"})  # fmt: skip
    return rows


def _stability(rows: Sequence[Row]) -> Any:
    import altair as alt

    base = alt.Chart().encode(
        alt.X("rate:N", title="learning rate", sort=None, axis=alt.Axis(labelAngle=0)),
        alt.Y("bias:N", title="forget bias", sort=None),
    )
    cells = base.mark_rect(stroke="#ffffff").encode(
        alt.Color("share:Q", legend=None,
                  scale=alt.Scale(domain=[0, 1], range=["#f7f3ec", "#d55e00"]))
    )  # fmt: skip
    text = base.mark_text().encode(alt.Text("share:Q", format=".0%"))
    chart = alt.layer(cells, text, data=alt.Data(values=list(rows))).properties(
        width=200, height=80
    )
    return chart.facet(column=alt.Column("unit:N", title=None))


# ---- ablations -----------------------------------------------------------------------------------


def _ablation_rows(findings: Findings) -> list[Row]:
    rows = []
    for name, arm in ABLATIONS.items():
        for task in TASKS:
            c = contrast(findings, on(task, arm), plain(task))
            if c is not None:
                d = c.difference
                rows.append({
                    "name": name, "task": task, "mean": 100 * d.mean,
                    "low": 100 * d.interval.low, "high": 100 * d.interval.high,
                })  # fmt: skip
    return rows


def _ablation(rows: Sequence[Row]) -> Any:
    import altair as alt

    base = alt.Chart()
    y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=220))
    bars = base.mark_rule(strokeWidth=2).encode(alt.X("low:Q", title="worse by"), y, x2="high:Q")
    dots = base.mark_point(filled=True, size=50, opacity=1).encode(alt.X("mean:Q"), y)
    zero = base.mark_rule(strokeDash=[4, 3]).encode(x=alt.datum(0))
    chart = alt.layer(zero, bars, dots, data=alt.Data(values=list(rows)))
    return chart.properties(width=190, height=130).facet(
        column=alt.Column("task:N", title=None, sort=list(TASKS))
    ).resolve_scale(x="independent")  # fmt: skip


PICTURES: tuple[Picture, ...] = (
    Picture("claims_second.svg", "Second derivatives",
            "The dashed line is 0.01: that of tanh falls below it first (claims 10 and a).",
            _second_rows, _second),
    Picture("claims_pairs.svg", "Other gates and units against tanh and sigmoid",
            "Means of paired differences with 95 % intervals, at the shared learning rate; dashed: "
            "no difference, and the margin (claims 1, 2 and 9).", _pairs_rows, _pairs),
    Picture("claims_survey.svg", "Seventeen functions as candidate and as cell output",
            "Means over the survey's seeds (claim 8).", _survey_rows, _survey),
    Picture("claims_stability.svg", "Diverged runs without clipping",
            "By learning rate and forget bias, in trainings of five epochs (claim 5; trainings on "
            "longer sequences did diverge).", _stability_rows, _stability),
    Picture("claims_ablations.svg", "One part left out",
            "Paired differences from the whole LSTM with 95 % intervals, in % of the epochs or "
            "points of error.", _ablation_rows, _ablation),
)  # fmt: skip
"""In the order of the page."""
