"""Figures as files: a Vega-Lite specification for the page, SVG and PNG beside it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from ..study.store.files import write_bytes, write_text
from .parts import Figure, Panel
from .style import config

VL_VERSION = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])
WIDE, MIDDLE, NARROW = 640, 460, 270
_CRISP = "<style>.mark-rect path{shape-rendering:crispEdges}</style>"
"""Else cells that touch have seams."""
PADDING = {"left": 4, "top": 18, "right": 12, "bottom": 4}


@cache
def javascript() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script of 0.9 MB that needs no network."""
    script = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VL_VERSION))
    if "</script" in script.lower():
        raise RuntimeError("the Vega bundle holds a closing script tag and cannot be inlined")
    return script


def page_spec(panel: Panel) -> dict[str, Any]:
    """The specification of a panel that takes the width of its container."""
    spec = _plain(panel.chart(False).properties(width="container"))
    spec["padding"] = PADDING
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec


def file_spec(figure: Figure) -> dict[str, Any]:
    """The specification of a whole figure with fixed widths, title and legend."""
    width = WIDE if len(figure.panels) == 1 else NARROW
    if figure.name != "formulas" and width == NARROW:
        width = MIDDLE
    charts = [
        p.chart(True).properties(width=width, **({"title": p.title} if p.title else {}))
        for p in figure.panels
    ]
    whole = alt.concat(*charts, columns=3 if width == NARROW else 1)
    title = {"text": figure.title, "offset": 16}
    whole = whole.properties(title=title, background="#ffffff", description=figure.sentence)
    spec = _plain(whole)
    spec["padding"] = PADDING
    return spec


def _plain(chart: Any) -> dict[str, Any]:
    """A chart as a dictionary without a schema address, with the shared configuration."""
    spec: dict[str, Any] = chart.to_dict(validate=False)
    spec.pop("$schema", None)
    spec["config"] = config()
    datasets: dict[str, list[Any]] = {}
    _share_data(spec, datasets)
    spec["datasets"] = datasets
    return spec


def _share_data(part: Any, datasets: dict[str, list[Any]]) -> None:
    """Move the rows of every layer into ``datasets``, equal ones only once."""
    if isinstance(part, list):
        for item in part:
            _share_data(item, datasets)
    elif isinstance(part, dict):
        data = part.get("data")
        if isinstance(data, dict) and "values" in data:
            rows = data["values"]
            same = (name for name, known in datasets.items() if known == rows)
            name = next(same, f"rows{len(datasets)}")
            datasets[name] = rows
            part["data"] = {"name": name}
        for value in part.values():
            _share_data(value, datasets)


def save_figures(figures: Sequence[Figure], directory: Path) -> None:
    """Write ``NAME.svg`` and ``NAME.png`` (twice the resolution) for every figure."""
    for figure in figures:
        svg = str(vl_convert.vegalite_to_svg(file_spec(figure), vl_version=VL_VERSION))
        svg = svg.replace("><", f">{_CRISP}<", 1)
        write_text(directory / f"{figure.name}.svg", svg)
        write_bytes(directory / f"{figure.name}.png", vl_convert.svg_to_png(svg, scale=2))
