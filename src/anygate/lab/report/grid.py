"""The page of a grid: every study with its answer and a link to its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from .. import verdict as judged
from ..files import write_text
from ..results import StudyResults
from .page import asset
from .summary import SCHEMA, as_text, summary


def write_index(
    found: Mapping[Path, StudyResults], unfinished: Mapping[Path, str], directory: Path
) -> Path:
    """Write ``index.html`` and ``summary.json``; returns the path of the page."""
    command = next(iter(found.values())).config.command
    content = {
        "schema": SCHEMA,
        "command": command,
        "studies": [{"folder": f.name, **summary(results)} for f, results in found.items()],
        "unfinished": [{"folder": f.name, "why": why} for f, why in unfinished.items()],
    }
    write_text(directory / "summary.json", as_text(content))
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    page = environment.from_string(asset("index.html.j2")).render(
        studies=[(f.name, results, judged.judge(results)) for f, results in found.items()],
        unfinished=[(f.name, why) for f, why in unfinished.items()],
        command=command,
        style=Markup(asset("style.css")),
    )
    return write_text(directory / "index.html", page)
