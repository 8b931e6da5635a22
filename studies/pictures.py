"""The pictures of the answer and of its evidence, as SVG, each made of the same results as the
words beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from .arms import BOTH
from .costs import SIZES
from .effects import Effect, Outcome, Over
from .experiments import FACTORS, MAP_BIASES, MAP_CLIPS, MAP_RATES, MAP_SETUPS, map_arm
from .grid import PLACES
from .judge import JudgedClaim
from .lag import UNITS, WAYS, load_lags
from .setups import SETUPS
from .story import Story, name

__all__ = ["PICTURES", "Picture", "claim_picture", "digest", "svg"]

Row = dict[str, Any]
WORSE, BETTER, PLAIN = "#d55e00", "#0072b2", "#1b1f24"
_COLOURS = {
    Outcome.WORSE: WORSE,
    Outcome.BETTER: BETTER,
    Outcome.SAME: "#009e73",
}


@dataclass(frozen=True)
class Picture:
    """file: its name. title and sentence: what is to be seen. chart: None without numbers."""

    file: str
    title: str
    sentence: str
    chart: Callable[[Story], Any]


def specification(chart: Any) -> dict[str, Any]:
    """A chart on white, in the colours of the reports; four digits of every number."""
    from anygate.lab.report.style import HUES, config

    spec: dict[str, Any] = _rounded(chart.to_dict(validate=False))
    spec["config"] = {**config(), "background": "#ffffff", "range": {"category": list(HUES)}}
    spec["padding"] = 8
    return spec


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(held) for key, held in value.items()}
    return [_rounded(held) for held in value] if isinstance(value, list) else value


def digest(chart: Any) -> str:
    """Of what is drawn: the same on every machine, while an SVG follows its fonts."""
    text = json.dumps(specification(chart), sort_keys=True)
    return f"<!-- {hashlib.sha256(text.encode()).hexdigest()[:16]} -->"


def svg(chart: Any) -> str:
    """A chart as SVG, with its digest at the end."""
    import vl_convert

    from anygate.lab.report.export import VL_VERSION

    drawn = vl_convert.vegalite_to_svg(specification(chart), vl_version=VL_VERSION)
    return f"{drawn}{digest(chart)}\n"


def _panels(rows: Sequence[Row], key: str, draw: Callable[[Any], Any], columns: int) -> Any:
    """A chart for each value of a key, in the order of the rows, under that value as its title.
    Vega's facets are not taken: given an order, their titles stood over other panels' data."""
    import altair as alt

    panels = []
    for value in dict.fromkeys(row[key] for row in rows):
        own = alt.Chart(alt.Data(values=[row for row in rows if row[key] == value]))
        title = alt.Title(value, fontSize=12, offset=4)
        panels.append(draw(own).properties(title=title))
    return alt.concat(*panels, columns=columns)


# ---- forests ------------------------------------------------------------------------------------


def _task_row(effect: Effect, group: str, label: str) -> Row:
    return {
        "group": group,
        "name": label,
        "ratio": effect.ratio,
        "low": effect.low,
        "high": effect.high,
        "colour": _COLOURS.get(effect.outcome, "#8a939c"),
        "mean": False,
    }


def _over_rows(over: Over | None, group: str, label: str, new: bool) -> Iterable[Row]:
    if over is None:
        return
    row = {"group": group, "ratio": over.ratio, "colour": PLAIN, "mean": True}
    yield {**row, "name": label, "low": over.low, "high": over.high}
    if new:
        yield {**row, "name": "a new task", "low": over.new_low, "high": over.new_high}


_LEAST, _MOST = 0.2, 8.0


def _forest(rows: Sequence[Row], columns: int, groups: Sequence[str]) -> Any:
    """Ratios with intervals on a logarithmic axis, a panel a group; 1 is marked."""
    import altair as alt

    shown = [
        {**row, "low": max(row["low"], _LEAST), "high": min(row["high"], _MOST)} for row in rows
    ]
    panels = []
    for group in groups:
        own = [row for row in shown if row["group"] == group]
        base = alt.Chart(alt.Data(values=own))
        y = alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=170))
        scale = alt.Scale(type="log", domain=[_LEAST, _MOST], nice=False, clamp=True)
        axis = alt.Axis(values=[0.25, 0.5, 1, 2, 4], format="~g")
        x = alt.X("low:Q", title="times the epochs", scale=scale, axis=axis)
        colour = alt.Color("colour:N", scale=None)
        one = alt.Chart(alt.Data(values=[{"one": 1}])).mark_rule(strokeDash=[3, 3])
        bars = base.mark_rule(strokeWidth=2).encode(x, y, colour, x2="high:Q")
        points = base.mark_point(filled=True, size=55, opacity=1).encode(
            alt.X("ratio:Q", scale=scale),
            y,
            colour,
            shape=alt.Shape(
                "mean:N",
                scale=alt.Scale(domain=[False, True], range=["circle", "diamond"]),
                legend=None,
            ),
        )
        layers = alt.layer(one.encode(alt.X("one:Q", scale=scale)), bars, points)
        panels.append(
            layers.properties(
                width=190, height=alt.Step(17), title=alt.Title(group, fontSize=12, offset=4)
            )
        )
    return alt.concat(*panels, columns=columns)


def _effects(story: Story) -> Any:
    """ReLU by place, and the others in both places: tasks, their mean, a new task."""
    shown = [
        ("candidate", "relu"),
        ("cell_output", "relu"),
        (BOTH, "relu"),
        (BOTH, "sigmoid"),
        (BOTH, "hard_tanh"),
        (BOTH, "leaky_relu"),
    ]
    from .effects import over_tasks

    rows, groups = [], []
    for place, unit in shown:
        cell = story.grid[place, unit]
        if not cell.effects:
            continue
        group = f"{name(unit)} {_PLACED[place]}"
        groups.append(group)
        rows += [_task_row(e, group, e.comparison.task) for e in cell.effects]
        rows += _over_rows(over_tasks(cell.effects), group, "mean of tasks", new=True)
    return _forest(rows, 3, groups) if rows else None


_PLACED = {
    "gate_activation": "in the gates",
    "candidate": "as candidate",
    "cell_output": "as cell output",
    BOTH: "in both places",
}
assert set(_PLACED) == set(PLACES)


def _factorial(story: Story) -> Any:
    rows, groups = [], []
    for place in ("candidate", "cell_output"):
        for factor in FACTORS:
            part = story.part("symmetric", f"{factor} {place}")
            found = [e for e in part.effects if e is not None]
            if not found:
                continue
            group = f"without {factor}, {_PLACED[place].removeprefix('as ')}"
            groups.append(group)
            rows += [_task_row(e, group, e.comparison.task) for e in found]
            rows += _over_rows(part.over, group, "mean of tasks", new=False)
    return _forest(rows, 3, groups) if rows else None


def claim_picture(judged: JudgedClaim) -> Any:
    """Every effect of a claim, a panel a part; None without any."""
    rows, groups = [], []
    for part in judged.parts:
        found = [e for e in part.effects if e is not None]
        if found:
            groups.append(part.part.key)
            rows += [_task_row(e, part.part.key, e.comparison.task) for e in found]
            rows += _over_rows(part.over, part.part.key, "mean of tasks", new=False)
    return _forest(rows, 3, groups) if rows else None


# ---- the way of a gradient ----------------------------------------------------------------------


def _lags(story: Story) -> Any:
    """dL/dc over the lag: all of it, and its direct part."""
    import altair as alt

    words = {"start": "at the start, forget bias 1", "trained": "after training"}
    rows = [
        {"unit": name(row["unit"]), "when": words[row["when"]], "way": row["way"], "lag": lag}
        | {"share": share}
        for row in load_lags()
        for lag, share in enumerate(row["shares"])
        if share > 0
    ]
    if not rows:
        return None
    scale = alt.Scale(type="log", domain=[1e-4, 3], clamp=True, nice=False)
    axis = alt.Axis(values=[1e-4, 1e-3, 1e-2, 1e-1, 1], format="~e")
    return _panels(
        rows,
        "when",
        lambda own: (
            own.mark_line()
            .encode(
                alt.X("lag:Q", title="steps before the end"),
                alt.Y("share:Q", title="|dL/dc| over that at the end", scale=scale, axis=axis),
                alt.Color("unit:N", title=None, sort=[name(unit) for unit in UNITS]),
                alt.StrokeDash("way:N", title=None, sort=list(WAYS)),
            )
            .properties(width=260, height=210)
        ),
        columns=2,
    )


# ---- the divergence map -------------------------------------------------------------------------


def _map(story: Story) -> Any:
    import altair as alt

    rows = []
    for unit, setup, clip, rate, bias in product(
        ("tanh", "relu", "leaky_relu", "hard_tanh"), MAP_SETUPS, MAP_CLIPS, MAP_RATES, MAP_BIASES
    ):
        bad, runs = story.results.diverged((map_arm(setup, unit, rate, bias, clip),))
        if runs:
            word = "clipped" if clip else "unclipped"
            rows.append(
                {
                    "unit": unit,
                    "panel": f"{name(unit)}, {SETUPS[setup].task.steps} steps, {word}",
                    "rate": {1 / 3: "1/3", 1.0: "1", 3.0: "3"}[rate],
                    "bias": f"{bias:g}",
                    "fill": _shade(bad / runs),
                    "text": f"{bad}/{runs}",
                }
            )
    whole = len(MAP_SETUPS) * len(MAP_CLIPS)
    panels = dict.fromkeys((row["unit"], row["panel"]) for row in rows)
    rows = [r for r in rows if sum(unit == r["unit"] for unit, _ in panels) == whole]
    if not rows:
        return None

    def cells(own: Any) -> Any:
        base = own.encode(
            alt.X("rate:N", title="times the rate", scale=alt.Scale(domain=["1/3", "1", "3"])),
            alt.Y("bias:N", title="forget bias", scale=alt.Scale(domain=["3", "1"])),
        )
        boxes = base.mark_rect(stroke="#c4cad0").encode(alt.Color("fill:N", scale=None))
        text = base.mark_text(fontSize=11).encode(alt.Text("text:N"))
        return alt.layer(boxes, text).properties(width=145, height=54)

    return _panels(rows, "panel", cells, columns=whole)


def _shade(share: float) -> str:
    """From white to the colour of worse."""
    ends = (255, 255, 255), tuple(int(WORSE[k : k + 2], 16) for k in (1, 3, 5))
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(*ends, strict=True))


# ---- cost ---------------------------------------------------------------------------------------


def _costs(story: Story) -> Any:
    import altair as alt

    if story.costs is None:
        return None
    rows = []
    for unit in ("sigmoid", "hard_tanh", "relu", "leaky_relu"):
        ratios = story.costs.ratios(f"step {unit}", "step tanh")
        kinds = [f"a training step, {size} units" for size in SIZES]
        alone = story.costs.ratios(f"{unit} element", "tanh element")
        for kind, (ratio, low, high) in zip(
            [*kinds, "value and slope alone"], [*ratios, *alone], strict=False
        ):
            rows.append(
                {"name": name(unit), "kind": kind, "ratio": ratio, "low": low, "high": high}
            )
    if not rows:
        return None

    def bars(own: Any) -> Any:
        y = alt.Y("name:N", sort=None, title=None)
        scale = alt.Scale(domain=[0, 1.5], clamp=True)
        rules = own.mark_rule(strokeWidth=2).encode(
            alt.X("low:Q", title="times the time with tanh", scale=scale), y, x2="high:Q"
        )
        points = own.mark_point(filled=True, size=55, opacity=1).encode(alt.X("ratio:Q"), y)
        one = own.mark_rule(strokeDash=[3, 3]).encode(alt.X(datum=1))
        return alt.layer(one, rules, points).properties(width=190, height=alt.Step(18))

    return _panels(rows, "kind", bars, columns=3)


PICTURES = (
    Picture(
        "answer_factorial.svg",
        "Centring, slope, amplitude",
        "tanh is a sigmoid that is centred, twice as steep and twice as wide. A panel leaves one "
        "of the three out, over all levels of the others: right of 1 that costs epochs.",
        _factorial,
    ),
    Picture(
        "answer_lag.svg",
        "The way of a gradient",
        "dL/dc some steps before the end: the direct part is multiplied by forget gates alone; the "
        "part through h meets the activations' slopes.",
        _lags,
    ),
    Picture(
        "answer_map.svg",
        "Where training diverges",
        "Runs of the adding problem that left the finite numbers, by its steps, clipping, learning "
        "rate and forget bias, with the activation in both places.",
        _map,
    ),
    Picture(
        "answer_effects.svg",
        "Effects by task",
        "Epochs over those of tanh, with 95 % intervals; below the tasks their mean, and where a "
        "new task's effect is expected.",
        _effects,
    ),
    Picture(
        "answer_cost.svg",
        "Cost",
        "Time over that with tanh, in processes of their own: a function that is cheaper alone "
        "is hardly so in a network.",
        _costs,
    ),
)
