"""The README: its Python runs, its commands exist, its files are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from anygate.cli import parser

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"), ids=lambda code: code.split("\n")[0])
def test_python_blocks_run(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(compile("import anygate\n" + code, "README.md", "exec"), names)
    if "loss {loss" in code:
        said = re.search(r"loss (\S+)", capsys.readouterr().out)
        assert said is not None
        assert float(said[1]) < 0.1  # the wave's own variance is 0.5


def test_there_are_python_blocks_and_commands() -> None:
    assert len(blocks("python")) >= 5
    assert len(commands()) >= 5


def commands() -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("anygate ")]


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_commands_parse_and_name_what_exists(arguments: list[str]) -> None:
    from anygate.formulas import resolve
    from anygate.lab.study.trial import slots_of
    from anygate.lab.tasks import find_task

    options = parser().parse_args(arguments)
    for text in getattr(options, "activations", [getattr(options, "activation", "tanh")]) or []:
        resolve(text)
    for name in getattr(options, "task", None) or ["digits"]:
        find_task(name)
    for slot in getattr(options, "slot", None) or ["activation"]:
        slots_of(slot)


def test_make_targets_and_files_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", "\n".join(blocks("sh")), re.MULTILINE):
        assert f"\n{target}:" in makefile
    for path in re.findall(r"\]\((?!http)([^)]+)\)", TEXT):
        assert (ROOT / path).is_file()


def test_the_names_of_the_vocabulary_are_all_in_the_readme() -> None:
    from anygate.formulas.primitives import PRIMITIVES

    assert [n for n in PRIMITIVES if not re.search(rf"\b{n}\b", TEXT)] == []
