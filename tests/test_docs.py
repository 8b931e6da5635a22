"""The site: its pages are made, it builds without a warning, and no page asks for anything else."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from pages import blocks

from anygate import explorer

ROOT = Path(__file__).parent.parent


def test_every_activations_page_is_made_and_its_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a checkout the folder of these pages is not there yet."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    from activation_pages import write_pages

    import anygate
    from anygate.formulas import ACTIVATIONS

    write_pages(tmp_path / "activations")
    for name in ACTIVATIONS:
        code = [
            b.code for b in blocks(tmp_path / "activations" / f"{name}.md") if b.kind == "python"
        ]
        assert code
        for text in code:
            exec(compile(text, name, "exec"), {"anygate": anygate})


def test_the_site_builds(tmp_path: Path) -> None:
    """With -W a warning is an error. Nothing that a page loads lies outside of it."""
    for needed in ("sphinx", "furo", "myst_parser"):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", ROOT / "docs", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 50
    assert (tmp_path / "explore.html").read_text("utf-8") == explorer.page()
    assert 'href="explore.html"' in (tmp_path / "explorer.html").read_text("utf-8")
    loads = re.compile(
        r'<(?:script|img|iframe)[^>]*\ssrc="(?:https?:)?//|<link[^>]*href="https?://'
    )
    assert [p.name for p in pages if loads.search(p.read_text("utf-8"))] == []
