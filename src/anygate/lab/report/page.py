"""The HTML page: one file, no network, every chart with a sentence and a table.

All text from the study passes through Jinja2's autoescaping, and all data through its ``tojson``,
which leaves no ``<`` in a script. Beyond that, a content security policy in the page names the two
scripts by their hash and forbids everything else, the network included.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from ..findings.advice import advice
from ..findings.comparison import comparisons, in_short, ranking
from ..findings.verdict import judge
from ..study.store.files import write_text
from ..study.store.results import StudyResults
from . import across, flow, inside, outcome
from .export import javascript, page_spec
from .formulas import Shape
from .parts import Figure, band_name, looks
from .style import swatch
from .summary import SCHEMA, as_text, finite, summary
from .terminal import cells
from .tuning import tuning


def render(
    results: StudyResults, figures: Sequence[Figure], shapes: Mapping[str, Shape | None]
) -> str:
    """The report of ``results`` as one HTML document."""
    scripts = [javascript(), asset("page.js")]
    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    template = environment.from_string(asset("template.html.j2"))
    header, rows = cells(results)
    return template.render(
        results=results,
        heading=_heading(results),
        verdict=judge(results),
        band=band_name(results),
        columns=header[1:],
        summary=[
            _summary_row(results, label, row, shapes)
            for label, row in zip(results.labels, rows, strict=True)
        ],
        solvable=results.task.solved is not None,
        advice=_advice(results) if results.present else [],
        figures=[_figure(figure) for figure in figures],
        style=Markup(asset("style.css")),
        scripts=[Markup(text) for text in scripts],
        policy=_policy(scripts),
    )


def asset(name: str) -> str:
    """A file that lies beside this module, with plain line ends (the hashes depend on them)."""
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    return text.replace("\r\n", "\n")


def _policy(scripts: Sequence[str]) -> str:
    """A content security policy that admits exactly these inline scripts."""
    digests = (hashlib.sha256(text.encode()).digest() for text in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(d).decode()}'" for d in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _heading(results: StudyResults) -> str:
    title = results.task.title[:1].upper() + results.task.title[1:]
    if not results.rivals:
        return f"{title}: {results.first}"
    rivals = results.rivals
    few = " and ".join([", ".join(rivals[:-1]), rivals[-1]] if len(rivals) > 1 else rivals)
    return f"{title}: {results.first} against {few if len(few) <= 60 else f'{len(rivals)} rivals'}"


def _summary_row(
    results: StudyResults, label: str, cells: Sequence[str], shapes: Mapping[str, Shape | None]
) -> dict[str, Any]:
    """The cells of one activation in the summary table, as text."""
    values = results.final(label)
    info = results.config.activations[results.labels.index(label)]
    shape = shapes[label]
    return {
        "label": label,
        "swatch": Markup(swatch(looks(results)[label])),
        "formula": info.formula,
        "mathml": Markup(shape.mathml) if shape else "",
        "best": bool(values.size and results.rivals) and ranking(results)[0][0] == label,
        "cells": cells[1:],
    }


def _advice(results: StudyResults) -> list[dict[str, Any]]:
    """The suggestions of each activation, also of those that have none."""
    found = advice(results)
    shared = [item for item in found if not item.label]
    groups = [{"label": "Every activation", "swatch": "", "items": shared}] if shared else []
    return groups + [
        {
            "label": label,
            "swatch": Markup(swatch(drawn)),
            "items": [item for item in found if item.label == label],
        }
        for label, drawn in looks(results).items()
    ]


def _figure(figure: Figure) -> dict[str, Any]:
    """A figure for the template: its texts, its table, and the specification of each panel."""
    panels = [
        {
            "id": f"{figure.name}-{i}",
            "title": panel.title,
            "note": panel.note,
            "description": panel.description,
            "spec": finite(page_spec(panel)),
        }
        for i, panel in enumerate(figure.panels)
    ]
    key = [
        (name, Markup(swatch(drawn, symbol=figure.symbols)))
        for name, drawn in (figure.key or {}).items()
    ]
    return {
        "name": figure.name,
        "title": figure.title,
        "sentence": figure.sentence,
        "table": figure.table,
        "panels": panels,
        "key": key,
    }


def figures(results: StudyResults, shapes: Mapping[str, Shape | None]) -> list[Figure]:
    """All figures for which there is data, in reading order."""
    made = [
        outcome.learning(results),
        outcome.final(results),
        outcome.differences(results),
        across.pairwise(results),
        tuning(results),
        inside.formulas(results, shapes),
        inside.health(results),
        flow.saturation(results),
        flow.gradients(results),
        inside.over_epochs(results, "gradient_norm", "Gradient norm", "norm of the gradient"),
        inside.over_epochs(results, "max_abs_cell", "Size of the cell state", "largest |c|"),
        across.stability(results),
        inside.cost(results),
        across.cost_and_outcome(results),
    ]
    return [figure for figure in made if figure is not None]


def _best(results: StudyResults) -> str:
    """``relu 93.1%, 2.1 points better than tanh``: the highest mean of a study, in a few words."""
    label, mean = ranking(results)[0]
    text = f"{label} {results.task.show(mean)}"
    compared = next((c for c in comparisons(results) if c.rival == label), None)
    if compared is None:
        return f"{text}, the standard" if results.rivals else text
    return f"{text}, {in_short(results.task, compared)} (against {results.first})"


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
        studies=[(f.name, results, judge(results)) for f, results in found.items()],
        tasks=list(dict.fromkeys(results.task.title for results in found.values())),
        slots=list(dict.fromkeys(results.config.slot for results in found.values())),
        best={
            (results.task.title, results.config.slot): (f.name, _best(results))
            for f, results in found.items()
            if results.present
        },
        unfinished=[(f.name, why) for f, why in unfinished.items()],
        command=command,
        style=Markup(asset("style.css")),
    )
    return write_text(directory / "index.html", page)
