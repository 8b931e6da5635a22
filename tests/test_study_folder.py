"""A stranger's study folder: what does not fit is one sentence, and nothing is written outside."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_verdict import write_study

import anygate.lab.study.store.files
from anygate.cli import Exit, main
from anygate.formulas import Activation, resolve
from anygate.formulas.errors import printable
from anygate.lab.findings.sheets import TooSlow, sheet_of, within
from anygate.lab.report import write
from anygate.lab.study.plan import Study
from anygate.lab.study.store.files import StudyError, WriteError, checked, write_text
from anygate.lab.study.store.results import load
from anygate.lab.study.store.schema import StudyConfig, Trial
from anygate.lab.tasks import Settings, find_task

posix = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes as POSIX has them")


def small(root: Path) -> Path:
    return write_study(root, {"tanh": [0.9, 0.8], "relu": [0.7, 0.6]})


def changed(root: Path, name: str, place: tuple[Any, ...], value: str) -> Path:
    """The folder with raw JSON text in the place of a field of one of its files."""
    path = small(root) / name
    content = json.loads(path.read_text())
    container = content
    for key in place[:-1]:
        container = container[key]
    container[place[-1]] = "@"
    path.write_text(json.dumps(content).replace('"@"', value))
    return root


LONG = "9" * 400
MANY = "[" + ",".join(map(str, range(5000))) + "]"
CASES = [
    ("study.json", ("task", "metric"), r'"a\nb"', "task.metric"),
    ("study.json", ("task", "unit"), r'"\f"', "task.unit"),
    ("study.json", ("task", "baseline_name"), r'"\ufffe"', "task.baseline_name"),
    ("study.json", ("task", "title"), r'"\u001b]0;t\u0007"', "task.title"),
    ("study.json", ("task", "metric"), r'"a\\"', "task.metric"),
    ("study.json", ("task", "metric"), r'"\ud800"', ""),
    ("study.json", ("task", "baseline"), "1e400", "task.baseline"),
    ("study.json", ("task", "solved"), "1e300", "task.solved"),
    ("study.json", ("activations", 0, "label"), r'"a\nb"', "activations[0].label"),
    ("study.json", ("activations", 1, "formula"), r'"x\u0000"', "activations[1].formula"),
    ("study.json", ("activations", 1, "label"), '"tanh"', "given twice"),
    ("study.json", ("activations",), "[]", "activations"),
    ("study.json", ("seeds", 0), LONG, "seeds[0]"),
    ("study.json", ("seeds",), MANY, "seeds"),
    ("study.json", ("slot",), r'"<a\u202eb>"', "slot"),
    ("study.json", ("settings", "learning_rate"), '"fast"', "settings.learning_rate"),
    ("study.json", ("settings", "hidden_size"), LONG, "settings.hidden_size"),
    ("study.json", ("machine", "cpu"), r'"\u001b[2J"', "machine"),
    ("trials/a0-0.json", ("epochs", 2, "epoch"), "1000000000000", "epochs[2].epoch"),
    ("trials/a0-0.json", ("epochs", 2, "epoch"), "9", "must count 1, 2, 3"),
    ("trials/a0-0.json", ("epochs", 0, "metric"), "1e400", "epochs[0].metric"),
    ("trials/a0-0.json", ("seed",), LONG, "seed"),
    ("trials/a0-0.json", ("key",), '"../../x"', "key"),
    ("trials/a0-0.json", ("final_metric",), "NaN", ""),
    ("trials/a0-0.json", ("schema",), "[" * 5000 + "]" * 5000, "schema"),
]


@pytest.mark.parametrize(("name", "place", "value", "said"), CASES)
def test_what_does_not_fit_is_one_sentence_with_file_and_field(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    place: tuple[Any, ...],
    value: str,
    said: str,
) -> None:
    assert main(["report", str(changed(tmp_path, name, place, value))]) == Exit.USAGE
    error = capsys.readouterr().err
    assert error.startswith(f"anygate: {tmp_path / name} is damaged: ") and said in error
    assert error.count("\n") == 1 and all(c.isprintable() for c in error[:-1])
    assert not (tmp_path / "report.html").exists()


@posix
@pytest.mark.parametrize("name", ["study.json", "trials/a0-0.json", "timing/x.json"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    path = small(tmp_path) / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(StudyError, match=r"is damaged: it is no regular file|does not exist"):
        load(tmp_path)


@posix
def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    precious, study = tmp_path / "precious", small(tmp_path / "study")
    precious.write_text("mine")
    (study / "figures").mkdir()
    names = ("report.html", "summary.json", "figures/final_metric.svg", "figures/final_metric.png")
    for name in names:
        (study / name).symlink_to(precious)
    write(load(study), study)
    assert precious.read_text() == "mine"
    assert all((study / n).is_file() and not (study / n).is_symlink() for n in names)
    assert not list(study.rglob("*.part"))


def test_every_file_of_the_lab_is_written_by_one_function() -> None:
    """So that what holds for one file holds for all."""
    writer = Path(anygate.lab.study.store.files.__file__)
    for path in set(writer.parents[2].rglob("*.py")) - {writer}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("write_text", "write_bytes", "mkstemp"), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                modes = [a.value for a in node.args if isinstance(a, ast.Constant)]
                assert name != "open" or not {"w", "wb", "a", "x"} & set(modes), path


@posix
def test_a_folder_that_is_a_link_out_of_the_results_is_refused(tmp_path: Path) -> None:
    outside, study = tmp_path / "outside", small(tmp_path / "study")
    outside.mkdir()
    (study / "figures").symlink_to(outside)
    with pytest.raises(WriteError, match="figures is a link out of the folder of the results"):
        write(load(study), study)
    (study / "rates").symlink_to(outside)
    with pytest.raises(WriteError, match="rates is a link"):
        write_text(study / "rates" / "0.1" / "study.json", "{}")
    assert list(outside.iterdir()) == []
    # The folder that is named may itself be reached by a link: that is the user's own.
    (tmp_path / "runs").symlink_to(tmp_path / "study")
    write_text(tmp_path / "runs" / "note.txt", "x")
    assert (study / "note.txt").read_text() == "x"


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/tmp", "a\\b", "..\\x"])
def test_a_grid_names_folders_of_its_own_only(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tmp_path / "outer" / "grid"
    small(tmp_path / "outer")
    small(grid)
    (grid / "grid.json").write_text(json.dumps({"schema": 1, "studies": [name]}))
    assert main(["report", str(grid)]) == Exit.USAGE
    assert "grid.json is damaged: studies[0]: " in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.html"))


def test_no_escape_sequence_reaches_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printable("a\x1b[31mb\u202ec\udcff\nd\x07") == "a\\x1b[31mb\\u202ec\\udcff\nd\\x07"
    assert main(["compare", "tanh", "--task", "\x1b[31mred"]) == Exit.USAGE
    assert main(["report", str(tmp_path / "\x1b[2J")]) == Exit.USAGE
    captured = capsys.readouterr()
    assert "\\x1b[31mred" in captured.err and "\x1b" not in captured.out + captured.err


def test_a_formula_of_two_lines_simply_works(tmp_path: Path) -> None:
    assert resolve("x *\n   sigmoid(x)").label == "x * sigmoid(x)"
    path = tmp_path / "study.toml"
    path.write_text(
        'activations = ["tanh", """\nx *\n  sigmoid(x)\n"""]\ntask = "adding:4"\n'
        "seeds = 1\nepochs = 1\nhidden_size = 2\n"
    )
    assert (
        main(["compare", "--config", str(path), "--jobs", "1", "--out", str(tmp_path / "o")]) == 0
    )
    assert load(tmp_path / "o").labels == ["tanh", "x * sigmoid(x)"]


@pytest.mark.parametrize("label", ["a\nb", "a\\b", "\x1b[31m", "\ufffe"])
def test_nothing_is_trained_of_which_no_report_could_be_made(tmp_path: Path, label: str) -> None:
    activation = Activation("fine", "tanh(x)")
    object.__setattr__(activation, "name", label)
    study = Study(find_task("adding:4"), (activation,), "candidate", (0,), Settings())
    with pytest.raises(StudyError, match=r"cannot be run: activations\[0\]\.label"):
        study.run(tmp_path / "o", command="anygate compare", jobs=1)
    assert not (tmp_path / "o").exists()


def test_the_schema_is_what_is_written(tmp_path: Path) -> None:
    study = Study(
        find_task("adding:4"),
        (resolve("tanh"), resolve("relu")),
        "candidate",
        (0,),
        Settings(hidden_size=2, epochs=1),
        margin=0.1,
    )
    study.run(tmp_path, jobs=1)
    raw = json.loads((tmp_path / "study.json").read_text())
    assert checked(raw, StudyConfig).settings == raw["settings"]
    (path, _) = (tmp_path / "trials").iterdir()
    trial = checked(json.loads(path.read_text()), Trial)
    assert len(trial.epochs) == 1 and set(trial.inside) == {"start", "end"}


@posix
def test_a_formula_that_takes_too_long_costs_its_picture_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def hang(spec: object) -> Any:
        while True:
            try:
                pass
            except Exception:  # noqa: BLE001 - as SymPy does
                continue

    with pytest.raises(TooSlow), within(0.05):
        hang("x")
    monkeypatch.setattr("anygate.lab.findings.sheets.sheet", hang)
    monkeypatch.setattr("anygate.lab.findings.sheets.SECONDS", 0.05)
    assert sheet_of("x*1.25", "slow") is None
    assert (
        "study.json: activations: the formula of 'slow' takes more than" in capsys.readouterr().err
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the fuzzer forks")
def test_changed_folders_end_with_a_sentence_or_a_report() -> None:
    """A few of the thousands that benchmarks/fuzz_folders.py makes, in a process of their own."""
    path = Path(__file__).parents[1] / "benchmarks" / "fuzz_folders.py"
    done = subprocess.run(
        [sys.executable, str(path), "--count", "20", "--seed", "1"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("20 folders in ")
