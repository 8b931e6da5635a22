"""The site: its Python runs, and it builds without a warning and without a request to elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda page: page.stem)
def test_python_blocks_run(page: Path) -> None:
    names: dict[str, object] = {}
    for code in blocks(page):
        exec(compile(code, str(page), "exec"), names)


def test_there_are_pages_with_python() -> None:
    assert {"index", "cells"} <= {page.stem for page in PAGES if blocks(page)}


def test_the_site_builds(tmp_path: Path) -> None:
    """With -W a warning is an error. Nothing that a page loads lies outside of it."""
    for needed in ("sphinx", "furo", "myst_parser"):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", ROOT / "docs", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 50 and tmp_path / "explorer.html" in pages
    loads = re.compile(
        r'<(?:script|img|iframe)[^>]*\ssrc="(?:https?:)?//|<link[^>]*href="https?://'
    )
    assert [p.name for p in pages if loads.search(p.read_text("utf-8"))] == []
