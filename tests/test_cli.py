"""The command line, as a user calls it."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anygate import FormulaError
from anygate.cli import Exit, main
from anygate.engines import EngineError


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "anygate", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        **options,
    )


def test_help_imports_neither_torch_nor_sympy() -> None:
    code = (
        "import sys, anygate.cli\n"
        "try: anygate.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'sympy', 'numpy', 'rich'} & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    assert "compare" in done.stdout and "exit codes" in done.stdout


def test_list_shows_every_activation(capsys: pytest.CaptureFixture[str]) -> None:
    from anygate import ACTIVATIONS

    assert main(["list"]) == Exit.DONE
    text = capsys.readouterr().out
    assert all(f"\n{name}" in text for name in ACTIVATIONS)
    assert main(["list", "--json"]) == Exit.DONE
    assert len(json.loads(capsys.readouterr().out)["activations"]) == len(ACTIVATIONS)
    assert main(["list", "--tasks"]) == Exit.DONE
    text = capsys.readouterr().out
    assert all(
        word in text for word in ("\nadding ", "\nadding:N ", "\nmnist:FOLDER", "--data FILE")
    )
    assert main(["list", "--tasks", "--json"]) == Exit.DONE
    document = json.loads(capsys.readouterr().out)
    assert all(t["source"] for t in document["tasks"]) and "sunspots" in document["others"]


def test_show_a_name_and_a_formula(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "relu"]) == Exit.DONE
    text = capsys.readouterr().out
    assert "max(x, 0)" in text and "forget_gate" in text and "Unbounded" in text
    assert main(["show", "where(x > 0, x, 0.1*x)", "--json"]) == Exit.DONE
    sheet = json.loads(capsys.readouterr().out)
    assert sheet["kinks"]["value"][0]["slope_left"] == 0.1
    assert sheet["low"]["value"] == "-inf"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "relo"], "Did you mean relu"),
        (["show", "softmax"], "not elementwise"),
        (["show", "x*a"], "free symbol 'a'"),
        (["compare", "tanh", "relu", "--slot", "gate"], "there are: activation"),
        (["compare", "tanh", "tanh"], "'tanh' is given twice"),
        (["compare", "tanh", "--task", "mnist"], "no task is called 'mnist'"),
        (["compare", "tanh", "--task", "chars:/nowhere.txt"], "there is no file /nowhere.txt"),
        (["compare", "tanh", "--data", "/nowhere.csv"], "there is no file /nowhere.csv"),
        (["compare", "tanh", "--target", "price"], "--target belongs to a data file: say which"),
        (["compare", "tanh", "--window", "9"], "--window belongs to a data file: say which"),
        (["compare", "tanh", "--epochs", "1", "--learning-rate", "-1"], "must be positive"),
        (["report", "/nowhere"], "study.json"),
        (["show", "relu", "leaky_relu"], "show takes one activation"),
        (["show", "x", "*", "2"], "anygate show 'x * 2'"),
        (["compare", "tanh", "--out", "/dev/null"], "--out"),
        (["compare", "tanh", "--out", "/dev/null/below"], "--out"),
        (["compare", "tanh", "--out", "/proc/foo/bar"], "--out"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == Exit.USAGE
    error = capsys.readouterr().err
    assert said in error and error.startswith("anygate: ") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--seeds", "x", "a whole number from 1 to 1,000 is needed, not 'x'"),
        ("--seeds", "1001", "a whole number from 1 to 1,000 is needed, not '1001'"),
        ("--epochs", "0", "a whole number from 1 to"),
        ("--window", "0", "a whole number from 1 to"),
        ("--gradient-clip", "inf", "a number is needed, not 'inf'"),
        ("--learning-rate", "fast", "a number is needed, not 'fast'"),
    ],
)
def test_a_bad_number_is_said_in_words(
    option: str, value: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["compare", "tanh", option, value])
    assert caught.value.code == Exit.USAGE
    error = capsys.readouterr().err
    assert f"argument {option}: {said}" in error and "_positive" not in error


def _refuse_engine(*_: object) -> None:
    raise EngineError("no engine for this")


def _refuse_formula(*_: object) -> None:
    raise FormulaError("no such formula")


@pytest.mark.parametrize(
    ("refuse", "said"),
    [(_refuse_engine, "no engine for this"), (_refuse_formula, "no such formula")],
)
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_a_trial_refuses_arrives_as_one_line(
    refuse: object,
    said: str,
    jobs: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Raised in this process or in a worker of joblib's, which sends it back."""
    monkeypatch.setattr("anygate.lab.study.executors.run_one", refuse)
    arguments = ["compare", "tanh", "--seeds", "2", "--jobs", jobs, "--out", str(tmp_path)]
    assert main(arguments) == Exit.USAGE
    assert capsys.readouterr().err.endswith(f"\nanygate: {said}\n")


def _die(*_: object) -> None:
    os._exit(9)


def test_a_process_that_dies_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when the system kills one that takes too much memory."""
    monkeypatch.setattr("anygate.lab.study.executors.run_one", _die)
    arguments = ["compare", "tanh", "--seeds", "2", "--jobs", "2", "--out", str(tmp_path)]
    assert main(arguments) == Exit.USAGE
    assert "\nanygate: a process died while it ran a trial" in capsys.readouterr().err


def test_a_bug_is_not_passed_off_as_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("anygate.formulas.resolve", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["show", "relu"])


def test_one_formula_under_two_names_is_announced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("anygate.lab.study.executors.run_one", _refuse_formula)
    names = ["silu", "relu", "x*sigmoid(x)", "tanh", "max(x,0)"]
    main(["compare", *names, "--jobs", "1", "--out", str(tmp_path)])
    error = capsys.readouterr().err
    for pair in ("silu and x*sigmoid(x)", "relu and max(x,0)"):
        assert f"{pair} are the same formula: their difference shows nothing but rounding" in error
    assert error.count("same formula") == 2


def test_damage_is_named_by_report_and_mended_by_compare(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    compare = [
        "compare",
        "tanh",
        "--task",
        "digits-rows",
        "--seeds",
        "3",
        "--epochs",
        "1",
        "--hidden-size",
        "4",
        "--jobs",
        "1",
        "--json",
        "--out",
        str(out),
    ]
    assert main(compare) == Exit.DONE
    capsys.readouterr()
    for path in sorted((out / "trials").iterdir())[:2]:
        path.write_text('{"bad')
    assert main(["report", str(out)]) == Exit.USAGE
    error = capsys.readouterr().err
    assert error.startswith("anygate: 2 files are damaged") and error.count("tanh-seed") == 2
    (out / "study.json").write_text("[]")
    assert main(compare) == Exit.DONE
    captured = capsys.readouterr()
    assert captured.err.count("study.json was damaged") == 1
    assert "1 of 3 trials are already in" in captured.err
    assert json.loads(captured.out)["trials"] == {"present": 3, "expected": 3}


def test_a_missing_package_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "altair" else find_spec(n, *a)
    )
    assert main(["compare", "tanh", "--out", str(tmp_path / "o")]) == Exit.USAGE
    error = capsys.readouterr().err
    assert "needs altair" in error and "pip install 'anygate[lab]'" in error
    assert not list(tmp_path.iterdir())


def test_a_closed_pipe_is_no_error() -> None:
    code = "import sys; from anygate.cli import main; sys.exit(main(['list']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait() == Exit.DONE and error == b""


def test_compare_writes_everything_and_report_writes_it_again(tmp_path: Path) -> None:
    out = tmp_path / "study"
    small = ["--task", "digits-rows", "--seeds", "2", "--epochs", "1", "--hidden-size", "4"]
    done = run(
        "compare", "tanh", "0.5*x + sin(x)", *small, "--slot", "candidate", "--out", str(out)
    )
    assert done.returncode == Exit.DONE, done.stderr
    assert "No claim possible" in done.stdout and "0.5*x + sin(x)" in done.stdout
    assert "4 of 4 trials" in done.stderr
    page = out / "report.html"
    assert page.stat().st_size > 100_000 and "sin" in page.read_text(encoding="utf-8")
    assert {p.suffix for p in (out / "figures").iterdir()} == {".png", ".svg"}
    page.unlink()
    again = run("report", str(out), "--json")
    assert again.returncode == Exit.DONE and page.exists()
    assert json.loads(again.stdout)["schema"] == 1
    study = json.loads((out / "study.json").read_text())
    assert study["command"].startswith("anygate compare tanh '0.5*x + sin(x)' --slot candidate")


def test_compare_on_a_csv_file_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"2024-01-01 {k // 60:02d}:{k % 60:02d};{k % 7 + k / 100}" for k in range(120)]
    (tmp_path / "my data.csv").write_text("\ufefftime;unit price\n" + "\n".join(rows) + "\n")
    words = ["compare", "tanh", "relu", "--data", "my data.csv", "--target", "unit price"]
    small = ["--window", "7", "--seeds", "2", "--epochs", "2", "--hidden-size", "4", "--jobs", "1"]
    assert main([*words, *small]) == Exit.DONE
    captured = capsys.readouterr()
    assert "relative error on unit price of my data.csv, one step ahead" in captured.out
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("my-data-unit-price-activation-")
    study = json.loads((folder / "study.json").read_text())
    assert study["task"]["data"].startswith("sha256:") and study["task"]["steps"] == 7
    assert (study["task"]["baseline"], study["task"]["baseline_name"]) == (1.0, "persistence")
    assert "persistence" in (folder / "report.html").read_text(encoding="utf-8")
    # The command that is kept says all: run as it stands, it finds every trial done.
    command = shlex.split(study["command"])
    assert command[:1] == ["anygate"] and main(command[1:]) == Exit.DONE
    assert "4 of 4 trials are already in" in capsys.readouterr().err
    # The file has changed: what is there is not mixed with anything new.
    with (tmp_path / "my data.csv").open("a") as file:
        file.write("2024-01-01 02:00;3.25\n")
    assert main(command[1:]) == Exit.USAGE
    assert "holds a study with another task (data sha256:" in capsys.readouterr().err


def test_a_task_and_a_file_at_once_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["compare", "tanh", "--task", "digits", "--data", "my.csv"])
    assert caught.value.code == Exit.USAGE
    assert "argument --data: not allowed with argument --task" in capsys.readouterr().err


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "study"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "anygate",
            "compare",
            "tanh",
            "--task",
            "digits-rows",
            "--seeds",
            "40",
            "--epochs",
            "4",
            "--hidden-size",
            "4",
            "--jobs",
            "1",
            "--out",
            str(out),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("trials/*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED
    assert "Go on with:\n  anygate compare tanh" in error and "Traceback" not in error
    assert list(out.glob("trials/*.json"))
