"""The report of a study: one offline HTML file, its figures as SVG and PNG, and a JSON summary.

    from anygate.lab import report, results
    report.write(results.load("study"), "study")

Altair, vl-convert and Jinja2 are imported on the first call of :func:`write`, not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..study.store.results import StudyResults
    from .formulas import ShapeSource

__all__ = ["write", "write_grid"]


def write(
    results: StudyResults, directory: Path | str, *, shapes: ShapeSource | None = None
) -> Path:
    """Write ``report.html``, ``summary.json`` and ``figures/NAME.{svg,png}`` into ``directory``.

    ``shapes`` gives the curve of each activation, :func:`anygate.lab.report.formulas.shape_of` by
    default. Files of an earlier report are overwritten, each in one step. Returns the path of
    ``report.html``. A tuned study has the same for each activation's own rate in ``own``. Works on
    an unfinished study; the report then says what is missing. Raises WriteError if a file cannot be
    written.
    """
    if results.own is not None:
        write(results.own, Path(directory) / "own", shapes=shapes)
    from altair.utils.schemapi import debug_mode

    from ..study.store.files import write_text
    from . import page
    from .export import save_figures
    from .formulas import shape_of
    from .page import figures
    from .summary import summary_text

    root = Path(directory)
    found = {a.label: (shapes or shape_of)(a) for a in results.config.activations}
    made = figures(results, found) if results.present else []
    with debug_mode(False):  # else Altair validates all data against its schema, half of the time
        save_figures(made, root / "figures")
        rendered = page.render(results, made, found)
    write_text(root / "summary.json", summary_text(results))
    return write_text(root / "report.html", rendered)


def write_grid(
    found: Mapping[Path, StudyResults], unfinished: Mapping[Path, str], directory: Path
) -> Path:
    """Write the report of every study of a grid into its folder, and ``index.html`` with
    ``summary.json`` into the grid's. unfinished: folder -> why it has no results yet. Returns the
    path of the index. Raises WriteError if a file cannot be written."""
    from .page import write_index

    for folder, results in found.items():
        write(results, folder)
    return write_index(found, unfinished, directory)
