"""The pages of recipes: every block of code runs, those of a page one after the other."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "docs" / "recipes"
ELSEWHERE = {"data"}  # test_data_study.py runs its commands too
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.stem not in ELSEWHERE)
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
_NEEDED = re.compile(r"^(?:from|import) ([a-z_0-9]+)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_of_recipes(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    blocks = _BLOCK.findall(text)
    assert blocks, "a recipe has code"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other packages warn of is theirs
        for name in sorted({name for block in blocks for name in _NEEDED.findall(block)}):
            pytest.importorskip(name)
        torch.manual_seed(0)
        place: dict[str, Any] = {"__name__": "recipe"}
        for block in blocks:
            line = text[: text.index(block)].count("\n")
            exec(compile("\n" * line + block, str(page), "exec"), place)


def test_the_loop_of_the_recipe_is_fifteen_lines() -> None:
    text = (FOLDER / "compare.md").read_text(encoding="utf-8")
    body = text.partition("def train(")[2].partition("print(found)")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 18
