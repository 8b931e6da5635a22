"""The site: its pages are made, it builds without a warning, and no page asks for anything else."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from browser import Browser, find
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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. With -W a warning is an error."""
    for needed in ("sphinx", "furo", "myst_parser"):
        if find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", ROOT / "docs", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_nothing_that_a_page_loads_lies_outside_of_the_site(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 50
    loads = re.compile(
        r'<(?:script|img|iframe)[^>]*\ssrc="(?:https?:)?//|<link[^>]*href="https?://'
    )
    assert [p.name for p in pages if loads.search(p.read_text("utf-8"))] == []


def test_the_explorer_is_part_of_the_site(site: Path) -> None:
    assert (site / "explore.html").read_text("utf-8") == explorer.page("answer.html")
    assert 'href="answer.html"' in explorer.page("answer.html") and (site / "answer.html").exists()
    assert 'href="explore.html"' in (site / "explorer.html").read_text("utf-8")


@pytest.mark.skipif(find() is None, reason="no Chromium or Chrome on this machine")
@pytest.mark.parametrize("width", [1400, 400])
def test_pages_in_a_browser_without_a_network(site: Path, width: int) -> None:
    """No message in the console, no request to elsewhere, nothing wider than the window, and every
    picture is there."""
    shown = [
        "index",
        "answer",
        "evidence/grid",
        "evidence/symmetric",
        "activations/relu",
        "speed",
        "api",
        "explore",
    ]
    with Browser(find() or "") as browser:
        for name in shown:
            browser.open(site / f"{name}.html", width=width)
            assert browser.errors == [], name
            assert [r for r in browser.requests if not r.startswith(("file:", "data:"))] == []
            wide, broken = browser.evaluate(
                "[document.documentElement.scrollWidth, [...document.images]"
                ".filter(i => !i.complete || !i.naturalWidth).map(i => i.src)]"
            )
            assert wide <= width and broken == [], name


@pytest.mark.skipif(find() is None, reason="no Chromium or Chrome on this machine")
def test_every_link_of_the_answer_is_reached_by_keyboard(site: Path) -> None:
    with Browser(find() or "") as browser:
        browser.open(site / "answer.html", width=1400)
        # But for the theme's own marks beside headings, which lead to where one is.
        own = "[...document.querySelectorAll('article a[href]:not(.headerlink)')].map(a => a.href)"
        links = set(browser.evaluate(own))
        assert len(links) > 30
        seen = set()
        for _ in range(250):
            browser.press("Tab", 9)
            seen.add(browser.evaluate("document.activeElement.href || ''"))
            if links <= seen:
                break
        assert links <= seen
