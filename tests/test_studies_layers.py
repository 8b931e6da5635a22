"""The studies stand above the package: they use its layers, and nothing in it imports them."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_layers import ROOT, imports_of, layer_of

STUDIES = Path(__file__).parents[1] / "studies"
MAY_USE = {"formulas", "cells", "nn", "lab"}
TIMED_ALONE = ("anygate", "engines", "cpu", "elementwise")
"""A kernel without a layer around it, whose cost the studies measure; nothing else of an engine."""
SEE_THE_LAB = {("studies", "lab"), ("studies", "pictures")}
"""The module that imports it; the others import studies/lab.py. Pictures imports the report's style
where it draws, for Altair takes a second."""


def complaints(source: str, module: tuple[str, ...]) -> list[str]:
    """Wrong imports of one file of the package or of the studies."""
    found = imports_of(source, module)
    if module[0] == "anygate":
        return [f"{'.'.join(module)} imports the studies" for t in found if t[0] == "studies"]
    wrong = []
    for target in found:
        if target[0] != "anygate" or target[: len(TIMED_ALONE)] == TIMED_ALONE:
            continue
        if layer_of(target) not in MAY_USE:
            wrong.append(f"studies imports {layer_of(target)}")
        elif layer_of(target) == "lab" and module not in SEE_THE_LAB:
            wrong.append(f"{'.'.join(module)} imports the lab past studies/lab.py")
    return wrong


def _module(path: Path, base: Path) -> tuple[str, ...]:
    return (base.name, *path.relative_to(base).with_suffix("").parts)


FILES = {_module(p, base): p for base in (ROOT, STUDIES) for p in sorted(base.rglob("*.py"))}


def test_imports_run_one_way() -> None:
    assert {"anygate", "studies"} == {module[0] for module in FILES}
    for module, path in FILES.items():
        assert complaints(path.read_text(encoding="utf-8"), module) == []


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("anygate.lab.study", "from studies.claims import CLAIMS", "imports the studies"),
        ("anygate.cli.lookup", "def f():\n    import studies", "imports the studies"),
        ("studies.runner", "from anygate.cli import main", "studies imports cli"),
        ("studies.costs", "from anygate.engines import eager", "studies imports engines"),
        ("studies.costs", "from anygate.engines.cpu.engine import CPU", "studies imports engines"),
        ("studies.runner", "from anygate.lab.study import run", "past studies/lab.py"),
    ],
)
def test_a_wrong_arrow_is_seen(module: str, source: str, complaint: str) -> None:
    (found,) = complaints(source, tuple(module.split(".")))
    assert found.endswith(complaint)
