"""Imports run one way: formulas <- cells <- engines <- nn <- interop, lab <- cli;
the explorer needs the formulas alone."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "src" / "anygate"

MAY_USE: dict[str, set[str]] = {
    "formulas": set(),
    "cells": {"formulas"},
    "engines": {"formulas", "cells"},
    "nn": {"formulas", "cells", "engines"},
    "interop": {"formulas", "cells", "engines", "nn"},
    "lab": {"formulas", "cells", "engines", "nn"},
    "explorer": {"formulas"},
    "cli": {"formulas", "cells", "engines", "nn", "interop", "lab", "explorer"},
    "__main__": {"formulas", "cells", "engines", "nn", "interop", "lab", "explorer", "cli"},
    # The face of the package: only public names, and imported when they are used. What torch must
    # know as soon as both are imported stands beside it.
    "__init__": {"formulas", "cells", "engines", "nn", "lab", "arrival"},
    "arrival": {"operators"},
    "operators": {"engines"},
}
"""The layers that each may import besides itself and the bare package."""
WITHOUT_FRAMEWORKS = {"formulas", "cells"}
"""Layers that need SymPy alone."""
SYMPY = {"sympy", "mpmath"}
ENGINES = {path.name for path in (ROOT / "engines").iterdir() if (path / "__init__.py").exists()}
"""Each has a folder, and no other knows it by name: `engines.protocol` finds it."""
CLI_IMPORTED_AT_ONCE = sys.stdlib_module_names  # `anygate --help` must not wait for torch
OPTION_TABLES = [ROOT / "lab" / "settings.py"]
"""The rooms that the command line may import at once besides: options as data."""


def imports_of(source: str, module: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Every module that a source imports, anywhere in it, as absolute parts; `module` is where
    it stands, such as ("anygate", "nn", "lstm"), or (..., "__init__") for a package."""
    found: list[tuple[str, ...]] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [tuple(name.name.split(".")) for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            inner = tuple(node.module.split(".")) if node.module else ()
            base = module[: len(module) - node.level] if node.level else ()
            found += [(*base, *inner, name.name) for name in node.names]
    return found


def layer_of(module: tuple[str, ...]) -> str:
    """The layer of a module of the package; its own name if it stands at the top."""
    return module[1] if len(module) > 1 else "__init__"


def engine_of(module: tuple[str, ...]) -> str | None:
    """The engine that a module belongs to; None outside the engines."""
    is_engine = len(module) > 2 and module[1] == "engines" and module[2] in ENGINES
    return module[2] if is_engine else None


def complaints(source: str, module: tuple[str, ...]) -> list[str]:
    """The complaints about the imports of one file."""
    here, engine = layer_of(module), engine_of(module)
    if here not in MAY_USE:
        return [f"{'.'.join(module)} belongs to no layer"]
    wrong = []
    for target in imports_of(source, module):
        outside = target[0] != "anygate"
        if outside and here in WITHOUT_FRAMEWORKS:
            if target[0] not in SYMPY | sys.stdlib_module_names:
                wrong.append(f"{here} imports {target[0]}")
            continue
        if target[0] == "llvmlite" and engine != "cpu":
            wrong.append(f"{here} imports llvmlite, which is the engine cpu's")
        if outside or target[:2] == ("anygate", "__version__"):
            continue
        there = layer_of(target)
        if there != here and there not in MAY_USE[here]:
            wrong.append(f"{here} imports {there}")
        other = engine_of(target)
        if engine and other and other != engine:
            wrong.append(f"the engine {engine} imports the engine {other}")
        if here == "nn" and other:
            wrong.append(f"nn imports the engine {other}")
    return wrong


def engines_named(source: str) -> list[str]:
    """Names of engines in a source: as words of code and as whole texts, in docstrings and in
    messages not; torch's devices (x.type == "cpu", .cpu()) are none."""
    tree = ast.parse(source)
    devices = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and getattr(node.left, "attr", "") == "type"
        for part in node.comparators
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in ENGINES and id(node) not in devices:
            found.append(f"line {node.lineno}: '{node.value}'")
        elif isinstance(node, ast.Name) and node.id.lower() in ENGINES:
            found.append(f"line {node.lineno}: {node.id}")
        elif isinstance(node, ast.ImportFrom):
            names = {name.name.lower() for name in node.names} | set((node.module or "").split("."))
            if names & ENGINES:
                found.append(f"line {node.lineno}: {', '.join(sorted(names & ENGINES))}")
    return found


def _module(path: Path) -> tuple[str, ...]:
    return ("anygate", *path.relative_to(ROOT).with_suffix("").parts)


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    assert complaints(path.read_text(encoding="utf-8"), _module(path)) == []


@pytest.mark.parametrize("path", sorted((ROOT / "nn").glob("*.py")), ids=lambda p: p.name)
def test_modules_know_no_engine_by_name(path: Path) -> None:
    """They ask the registry; see tests/toy_engine.py."""
    assert engines_named(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('if engine == "cpu": pass', ["line 1: 'cpu'"]),
        ("from ..engines.cpu import run", ["line 1: cpu"]),
        ("from ..engines import eager\neager.run(x)", ["line 1: eager", "line 2: eager"]),
        ('names = ("eager",)', ["line 1: 'eager'"]),
        ('if x.device.type == "cpu": y = x.cpu()', []),
        ("from ..engines.reference import Reference", ["line 1: reference"]),
        ('def f():\n    """On the cpu engine."""\n    raise ValueError("another than cpu")', []),
    ],
)
def test_an_engines_name_is_seen(source: str, found: list[str]) -> None:
    assert engines_named(source) == found


def test_layers_are_there() -> None:
    assert {"formulas", "cells", "engines", "nn"} <= {layer_of(_module(p)) for p in FILES}
    assert {"cpu", "eager", "reference"} <= ENGINES


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("formulas.parse", "from ..engines import eager", "formulas imports engines"),
        ("formulas.parse", "import torch", "formulas imports torch"),
        ("formulas.parse", "def f():\n    import numpy as np", "formulas imports numpy"),
        ("engines.eager", "from ..nn.lstm import LSTM", "engines imports nn"),
        ("engines.eager", "from anygate.nn import LSTM", "engines imports nn"),
        (
            "engines.eager",
            "from . import reference",
            "the engine eager imports the engine reference",
        ),
        (
            "engines.cpu.loops",
            "from ..eager import run",
            "the engine cpu imports the engine eager",
        ),
        ("cells.derive", "import numpy", "cells imports numpy"),
        ("cells.derive", "from ..engines.protocol import Layer", "cells imports engines"),
        (
            "engines.eager",
            "import llvmlite.ir",
            "engines imports llvmlite, which is the engine cpu's",
        ),
        ("nn.run", "from ..engines import eager", "nn imports the engine eager"),
        ("nn.lstm", "from .. import lab", "nn imports lab"),
        ("nn.lstm", "from ..lab.study import run", "nn imports lab"),
        ("nn.__init__", "from ..cli import main", "nn imports cli"),
        ("lab.study", "from ..interop import onnx", "lab imports interop"),
        ("lab.report.page", "from ...cli import main", "lab imports cli"),
        ("tools", "", "anygate.tools belongs to no layer"),
    ],
)
def test_a_wrong_arrow_is_seen(module: str, source: str, complaint: str) -> None:
    assert complaints(source, ("anygate", *module.split("."))) == [complaint]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("formulas.parse", "import ast\nfrom sympy import Expr\nfrom .errors import FormulaError"),
        (
            "engines.eager.layer",
            "import torch\nfrom ...cells import Cell\nfrom ..protocol import X",
        ),
        ("engines.cpu.loops", "from . import tiles\nimport llvmlite\nimport numpy"),
        ("nn.run", "from ..engines.protocol import Layer"),
        ("lab.report.page", "from . import charts\nfrom ..study import Study\nimport numpy, torch"),
        ("cli", "from . import __version__\nfrom .lab import study"),
    ],
)
def test_a_right_arrow_is_let_through(module: str, source: str) -> None:
    assert complaints(source, ("anygate", *module.split("."))) == []


CLI_FILES = [*sorted((ROOT / "cli").glob("*.py")), ROOT / "lab" / "settings.py"]


@pytest.mark.parametrize("path", CLI_FILES, ids=lambda p: p.name)
def test_cli_waits_for_nothing(path: Path) -> None:
    """Imports at the top of the command line's files are of the standard library, of each other, of
    the bare package and of the table of settings, which has the standard library alone."""
    top = ast.Module(
        [
            node
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Import | ast.ImportFrom)
        ],
        [],
    )
    names = imports_of(ast.unparse(top), _module(path))
    free = (("anygate", "cli"), ("anygate", "__version__"))
    tables = [_module(table) for table in OPTION_TABLES]
    ours = [n for n in names if n[:2] in free or n[:3] in tables]
    assert [n for n in names if n[0] not in CLI_IMPORTED_AT_ONCE and n not in ours] == []


# ---- docstrings ------------------------------------------------------------------------------

QUESTION = re.compile(r"(What|Whether|How|Is|Are|Why|When|Where|Which|Who|Those|Tells)\b")


def asking_docstrings(source: str) -> list[str]:
    """Docstrings of a file, those of constants and attributes too, that begin as a question or with
    a pointing word, with their lines."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text))) if QUESTION.match(text.strip()):
                found.append(f"{node.lineno}: {text.strip()[:40]}")
    return found


@pytest.mark.parametrize("folder", ["src", "studies", "tests", "benchmarks"])
def test_docstrings_say_what_a_thing_is(folder: str) -> None:
    paths = sorted((ROOT.parents[1] / folder).rglob("*.py"))
    found = {
        str(path): asked for path in paths if (asked := asking_docstrings(path.read_text("utf-8")))
    }
    assert paths and not found


def test_an_asking_docstring_is_seen() -> None:
    assert asking_docstrings('class A:\n    """What it is."""') == ["2: What it is."]
    assert asking_docstrings('A = 1\n"""Those of B."""') == ["2: Those of B."]
    assert asking_docstrings('def whatever():\n    """Whatever: a name."""') == []


@pytest.mark.parametrize("path", OPTION_TABLES, ids=lambda p: p.name)
def test_tables_of_options_wait_for_nothing_either(path: Path) -> None:
    names = imports_of(path.read_text(encoding="utf-8"), _module(path))
    assert {n[0] for n in names} <= set(sys.stdlib_module_names)
