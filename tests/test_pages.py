"""Every block of code in README and docs is executed.

Python runs, the blocks of a page one after the other. A command of `anygate` runs too; one that
trains, `compare`, with --dry-run, which does all but train (and here does not time steps either);
on the page about data it runs in full, with networks of three units. `make`, `pip` and `python`
take minutes or need a network: what they name must exist. A block in any other language fails,
unless it is no code: text, or a directive of the site."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from pages import ROOT, Block, blocks, name, pages

import anygate
from anygate.cli import Exit, main

NO_CODE = {"text", "{toctree}", "{eval-rst}", "{raw}", "{include}"}
NEEDS = {  # the pages on other runtimes; each has a process of its own
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "quantisation": ("onnx", "onnxscript", "onnxruntime"),
    "keras": ("h5py", "keras"),
    "flax": ("jax", "flax", "equinox"),
}
IN_FULL = "data"
SMALL = ["--seeds", "2", "--epochs", "1", "--hidden-size", "3", "--jobs", "1"]
_IMPORTS = re.compile(r"^(?:from|import) ([a-z_0-9]+)", re.MULTILINE)
_WITH_CODE = [page for page in pages() if {b.kind for b in blocks(page)} - NO_CODE]


@pytest.mark.parametrize("page", [p for p in _WITH_CODE if p.stem not in NEEDS], ids=name)
def test_the_code_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("anygate.lab.study.outlook.left_seconds", lambda study, parts: 0.0)
    monkeypatch.setattr("anygate.cli.compare.finish", lambda folder, as_json: Exit.DONE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other packages warn of is theirs
        code = "".join(block.code for block in blocks(page) if block.kind == "python")
        for package in sorted(set(_IMPORTS.findall(code)) - {"my_metrics", "my_tasks"}):
            pytest.importorskip(package)
        if "from transformers" in code:
            pytest.importorskip("accelerate")  # which its Trainer asks for when it is made
        torch.manual_seed(0)
        names: dict[str, Any] = {"__name__": "page"}
        for block in blocks(page):
            _run(block, page, names, tmp_path)


def _run(block: Block, page: Path, names: dict[str, Any], folder: Path) -> None:
    if block.file is not None:
        (folder / block.file).write_text(block.code)
    elif block.kind == "python":
        exec(compile("\n" * block.line + block.code, str(page), "exec"), names)
    elif block.kind == "sh":
        for line in block.code.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                _command(words, page)
    else:
        assert block.kind in NO_CODE, f"{page}: no test runs a block of {block.kind!r}"


def _command(words: list[str], page: Path) -> None:
    match words:
        case ["anygate", "compare", *_] if page.stem == IN_FULL:
            folder = f"out{len(list(Path().glob('out*')))}"
            assert main([*words[1:], *SMALL, "--out", folder]) == Exit.DONE
            assert len(list(Path(folder, "trials").iterdir())) == 4
        case ["anygate", "compare", *_]:
            assert main([*words[1:], "--dry-run"]) == Exit.DONE
        case ["anygate", "show" | "list", *_]:
            assert main(words[1:]) == Exit.DONE
        case ["make", target]:
            assert f"\n{target}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
        case ["pip", "install", what]:
            project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
            extras = re.fullmatch(r"\.(?:\[([\w,-]+)\])?", what)
            assert extras, what
            wanted = (extras[1] or "lab").split(",")
            assert set(wanted) <= set(project["project"]["optional-dependencies"])
        case ["python", "-m", "studies", *options]:
            from studies.__main__ import parser

            parser().parse_args(options)
        case ["python", script, *options]:
            text = (ROOT / script).read_text(encoding="utf-8")
            assert all(f'"{option}"' in text for option in options if option.startswith("--"))
        case _:
            raise AssertionError(f"{page}: no test knows the command {' '.join(words)}")


@pytest.mark.parametrize("page", [p for p in _WITH_CODE if p.stem in NEEDS], ids=name)
def test_the_code_of_a_page_on_another_runtime_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    for package in NEEDS[page.stem]:
        pytest.importorskip(package)
    kinds = {block.kind for block in blocks(page)}
    assert kinds <= {"python", *NO_CODE}
    code = "\n".join(block.code for block in blocks(page) if block.kind == "python")
    path = str(Path(anygate.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_code_stands_in_fences_and_nowhere_else() -> None:
    """Four spaces would be a block that no test sees."""
    for page in pages():
        text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
        assert not re.search(r"\n\n    \S", text), name(page)


def test_files_that_the_readme_names_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for path in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", text):
        assert (ROOT / path).is_file(), path


def test_the_readme_is_one_screen() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 64 and len(text.split()) <= 560


def test_the_whole_vocabulary_stands_on_the_page_of_formulas() -> None:
    from anygate.formulas.primitives import PRIMITIVES

    text = (ROOT / "docs" / "formulas.md").read_text(encoding="utf-8")
    assert [n for n in PRIMITIVES if not re.search(rf"\b{n}\b", text)] == []


def test_the_loop_of_the_recipe_is_fifteen_lines() -> None:
    text = (ROOT / "docs" / "recipes" / "compare.md").read_text(encoding="utf-8")
    body = text.partition("def train(")[2].partition("print(found)")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 18
