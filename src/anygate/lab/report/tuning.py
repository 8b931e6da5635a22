"""The figure of a tuned study: what each learning rate, or value of another setting, reached, and
which was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from ..findings.verdict import tuning_sentences
from ..study.store.results import StudyResults
from .charts import Row
from .parts import Figure, Table, looks, metric_format, single
from .style import Look


def tuning(results: StudyResults) -> Figure | None:
    """Mean metric of the tuning seeds over what was tuned, a line for each activation; None if
    nothing was."""
    chosen, task = results.config.learning_rates, results.task
    if chosen is None or chosen.shared is None:
        return None
    rows: list[Row] = []
    cells = []
    for label in results.labels:
        tuned = chosen.tuned[label]
        for rate, values in tuned.scores.items():
            rows.append(
                {
                    "label": label,
                    "rate": rate,
                    "mean": tuned.means[rate],
                    "low": min(values),
                    "high": max(values),
                    "best": rate == tuned.rate,
                }
            )
            cells.append(
                [
                    label,
                    f"{rate:g}",
                    task.show(tuned.means[rate]),
                    f"{task.show(min(values))} to {task.show(max(values))}",
                    f"{tuned.diverged[rate]} of {len(values)}",
                    "best" if rate == tuned.rate else "",
                ]
            )
    sentence = " ".join(
        [
            *tuning_sentences(results),
            "Points are means over the tuning seeds, bars their range; a ring marks the best "
            f"{chosen.noun}.",
        ]
    )
    columns = ["activation", chosen.word, f"mean {task.metric}", "range", "diverged", ""]
    table = Table(f"Final {task.metric} of the tuning runs", columns, cells)
    chart = _chart(rows, looks(results), chosen.word, task.metric, metric_format(results))
    title = f"{chosen.word[:1].upper()}{chosen.word[1:]} by activation"
    if chosen.setting == "learning_rate":
        title = "Learning rates"
    return single("tuning", title, sentence, chart, table)


def _chart(
    rows: Sequence[Row], drawn: Mapping[str, Look], word: str, title: str, number: str
) -> Any:
    names, rates = list(drawn), sorted({row["rate"] for row in rows})
    legend = alt.Legend(title=None, orient="bottom", columns=4)
    colour = alt.Color(
        "label:N",
        legend=legend,
        scale=alt.Scale(domain=names, range=[look.colour for look in drawn.values()]),
    )
    dash = alt.StrokeDash(
        "label:N",
        legend=legend,
        scale=alt.Scale(domain=names, range=[list(look.dash) for look in drawn.values()]),
    )
    shape = alt.Shape(
        "label:N",
        legend=legend,
        scale=alt.Scale(domain=names, range=[look.shape for look in drawn.values()]),
    )
    if rates[0] > 0:
        ends = alt.Scale(type="log", domain=[rates[0] / 1.3, rates[-1] * 1.3], nice=False)
    else:
        room = 0.05 * (rates[-1] - rates[0])
        ends = alt.Scale(domain=[rates[0] - room, rates[-1] + room], nice=False)
    x = alt.X(
        "rate:Q",
        title=word,
        scale=ends,
        axis=alt.Axis(values=rates if len(rates) <= 12 else alt.Undefined, format="~g", grid=False),
    )
    axis = alt.Axis(tickCount=5, format=number) if number else alt.Axis(tickCount=5)
    y = alt.Y("mean:Q", title=title, axis=axis, scale=alt.Scale(zero=False))
    base = alt.Chart(alt.Data(values=list(rows)))
    tip = [
        alt.Tooltip("label:N", title="activation"),
        alt.Tooltip("rate:Q", format="~g", title=word),
        alt.Tooltip("mean:Q", format=number or ".4~g", title=title),
    ]
    bar = base.mark_rule(strokeWidth=1.5, opacity=0.5).encode(
        x, alt.Y("low:Q"), alt.Y2("high:Q"), colour
    )
    line = base.mark_line(strokeWidth=2).encode(x, y, colour, dash)
    point = base.mark_point(filled=True, size=46, opacity=1).encode(
        x, y, colour, shape, tooltip=tip
    )
    ring = base.transform_filter("datum.best").mark_point(shape="circle", size=240, strokeWidth=2)
    return alt.layer(bar, line, point, ring.encode(x, y, colour)).properties(height=280)
