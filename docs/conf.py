"""Sphinx settings. `make docs` builds the site; no page asks for anything outside of it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from activation_pages import write_pages  # noqa: E402

from anygate import __version__  # noqa: E402
from anygate.explorer import page  # noqa: E402

project = "anygate"
author = "the anygate authors"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence", "attrs_inline"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "Thumbs.db"]
html_theme = "furo"
html_title = f"anygate {__version__}"
smartquotes = False  # --quick stays --quick
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
html_extra_path = ["_explorer"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
suppress_warnings = ["myst.strikethrough"]


ANCHOR = re.compile(r'<a id="([\w-]+)"></a>')
(HERE / "_explorer").mkdir(exist_ok=True)  # Sphinx looks for it before anything else
SPECIAL = re.compile(r"([*|_\\\\])")


def prepare(app: Any) -> None:
    """The pages that are made of the library: an activation each, and the explorer."""
    write_pages(HERE / "activations")
    (HERE / "_explorer" / "explore.html").write_text(page("answer.html"), encoding="utf-8")


def anchors(app: Any, name: str, source: list[str]) -> None:
    """HTML's anchors, which GitHub reads, as targets that Sphinx knows."""
    source[0] = ANCHOR.sub(r"(\1)=", source[0])


def plain_text(app: Any, kind: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """A docstring as it reads in `help()`: paragraphs, an entry a line, indented blocks as code."""
    blocks = re.split(r"\n\s*\n", "\n".join(lines).strip("\n"))
    lines[:] = []
    for block in blocks:
        rows = block.split("\n")
        if all(row.startswith("    ") for row in rows):
            lines += ["::", "", *rows, ""]
            continue
        for row in rows:
            text = "``".join(
                part if k % 2 else SPECIAL.sub(r"\\\1", part)
                for k, part in enumerate(row.strip().replace("``", "`").split("`"))
            )
            lines.append(f"  {text}" if row.startswith(" ") and lines else f"| {text}")
        lines.append("")


def setup(app: Any) -> None:
    """Sphinx calls this first."""
    app.connect("builder-inited", prepare)
    app.connect("source-read", anchors)
    app.connect("autodoc-process-docstring", plain_text)
