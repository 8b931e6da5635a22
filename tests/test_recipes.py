"""The recipes in docs/recipes: every Python block runs, in order, in one namespace a page."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

PAGES = sorted((Path(__file__).parent.parent / "docs" / "recipes").glob("*.md"))
NEEDS = {"compare": ("pandas",), "lightning": ("lightning",), "huggingface": ("transformers",)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_recipe_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in NEEDS.get(page.stem, ()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    names: dict[str, object] = {"__name__": "recipe"}
    with warnings.catch_warnings():
        if page.stem != "compare":  # what the frameworks warn of is theirs
            warnings.simplefilter("ignore")
        for code in blocks:
            exec(compile(code, str(page), "exec"), names)


def test_the_loop_of_the_recipe_is_fifteen_lines() -> None:
    text = next(page for page in PAGES if page.stem == "compare").read_text()
    body = text.partition("def train(")[2].partition("print(found)")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 18
