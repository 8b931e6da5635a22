"""One table of settings for the command line, TOML files and Python; arms; rows for others."""

from __future__ import annotations

import csv
import html
import math
import re
import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from anygate.cli import Exit, main, parser
from anygate.cli.request import ARM_KEYS, OPTIONS, SLOTS, merged
from anygate.formulas import resolve
from anygate.lab.arms import SLOT_ARGUMENTS, Arm
from anygate.lab.findings.verdict import verdict
from anygate.lab.settings import SETTINGS, Bounds, Option, Settings, TaskError, value_of
from anygate.lab.study.grid import run_studies
from anygate.lab.study.plan import Study
from anygate.lab.study.store.results import load
from anygate.lab.study.trial import Model, spec_of
from anygate.lab.study.tuning import TunedStudy
from anygate.lab.tasks import find_task

TINY = Settings(hidden_size=3, epochs=1, batch_size=500, engine="eager")


def other(name: str, option: Option) -> Any:
    """A value that is not the default."""
    default = getattr(Settings(), name)
    if option.choices:
        return next(choice for choice in option.choices if choice != default)
    if isinstance(option.kind, Bounds):
        return option.kind.kind(0.5) or option.kind.kind(3)
    return True if option.kind is bool else {"cell": "GRU", "engine": "eager"}.get(name, "cuda")


@pytest.mark.parametrize("name", SETTINGS)
def test_the_command_line_the_file_and_python_read_each_setting_alike(
    name: str, tmp_path: Path
) -> None:
    option, flag = SETTINGS[name], name.replace("_", "-")
    value = other(name, option)
    assert getattr(replace(Settings(), **{name: value}), name) == value
    assert value_of(name, str(value).lower() if option.kind is bool else str(value)) == value
    words = [f"--{flag}"] if option.kind is bool else [f"--{flag}", str(value)]
    path = tmp_path / "study.toml"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    path.write_text(f"{flag} = {text}\n[arm.mine]\n{flag} = {text}\n")
    arm = ["--arm", "mine", f"{name}={str(value).lower() if value is True else value}"]
    by_line = merged(parser().parse_args(["compare", "tanh", *words, *arm]))
    by_file = merged(parser().parse_args(["compare", "tanh", "--config", str(path)]))
    for found in (by_line, by_file):
        assert getattr(found, name) == value and found.arm == {"mine": {name: value}}
    with pytest.raises(TaskError):
        replace(Settings(), **{name: ["no value"]})


def test_the_table_is_whole_and_the_help_tells_all_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert [f.name for f in fields(Settings)] == list(
        SETTINGS
    ) and SETTINGS.keys() <= OPTIONS.keys()
    assert set(SLOTS) == set(SLOT_ARGUMENTS) and set(ARM_KEYS) == {*SLOTS, *SETTINGS}
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    for name, option in OPTIONS.items():
        assert f"--{name.replace('_', '-')} " in said
        assert " ".join(option.help.replace("%%", "%").split()[:3]) in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["mine"], "say what it sets"),
        (["mine", "relu"], "SETTING=VALUE is needed, not 'relu'"),
        (["mine", "hiden_size=3"], "hiden_size is no setting (did you mean hidden_size?)"),
        (["mine", "layers=0"], "layers: a whole number from 1 to 100 is needed"),
        (["mine", "init=zero"], "init: one of torch, identity"),
        (["mine", "candidate=nosuch"], "arm 'mine': candidate: "),
        (["tanh", "init=identity"], "'tanh' is given twice"),
        (["mine", "cell=nosuch"], "cell: one of LSTM, GRU, RNN or MODULE:NAME"),
        (["mine", "cell=RNN", "forget_gate=relu"], "forget_gate"),
    ],
)
def test_a_wrong_arm_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["compare", "tanh", "--task", "adding:5", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--arm", *words]) == Exit.USAGE
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "GRU", "layers": 2, "dropout": 0.5},
        {"cell": "RNN", "bidirectional": True},
        {"peephole": True, "clip": 2.0, "init": "orthogonal", "optimizer": "sgd"},
        {"coupled": True, "schedule": "cosine", "weight_decay": 0.1, "dtype": "float64"},
        {"layer_norm": True, "zoneout": 0.2, "recurrent_dropout": 0.2, "init": "chrono"},
    ],
    ids=str,
)
def test_a_trial_with_other_settings_trains_and_is_repeatable(settings: dict[str, Any]) -> None:
    task = find_task("adding:5")
    spec = spec_of(task, Arm("mine", {}, settings), "activation", 1, TINY)
    result, timing = spec.run()
    assert result == spec.run()[0] and result["diverged"] is None
    assert settings.items() <= result["settings"].items() and timing["machine"]["torch"]
    assert spec.key != spec_of(task, Arm("mine"), "activation", 1, TINY).key
    model = Model(spec, 2, False)
    assert model.head.weight.dtype == getattr(torch, settings.get("dtype", "float32"))


def test_a_schedule_ends_at_nothing_and_dropout_is_for_training_alone() -> None:
    task = find_task("adding:5")
    arm = Arm("mine", {}, {"layers": 2, "dropout": 0.9, "hidden_size": 8})
    model = Model(spec_of(task, arm, "activation", 0, TINY), 2, False)
    x = torch.randn(5, 4, 2)
    assert torch.equal(model.answers(x), model.answers(x)) and model.training
    assert not torch.equal(model(x), model(x))


def test_a_cell_of_ones_own_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_cells.py").write_text(
        "import anygate\nSLOW = anygate.CellType('slow', products=('z',), states=('h',),"
        " slots={'candidate': 'tanh'}, lines='h = 0.5*h_before + 0.5*candidate(z)')\n"
    )
    monkeypatch.chdir(tmp_path)
    arm = Arm("mine", {"candidate": resolve("relu")}, {"cell": "slow_cells:SLOW"})
    result, _ = spec_of(find_task("adding:5"), arm, "candidate", 0, TINY).run()
    assert result["diverged"] is None and result["settings"]["cell"] == "slow_cells:SLOW"


STUDY = """
activations = ["relu"]
task = "adding:5"
seed-list = [3, 5]
hidden-size = 3
epochs = 1
batch-size = 500
engine = "eager"

[arm.mine]
gate_activation = "hard_sigmoid"
activation = "relu"
init = "chrono"

[arm."two layers"]
cell = "GRU"
layers = 2
"""


def test_arms_of_one_file_its_advice_runs_as_printed_and_its_rows_go_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = tmp_path / "study.toml", tmp_path / "out"
    config.write_text(STUDY)
    words = ["compare", "--config", str(config), "--out", str(out), "--jobs", "1", "--keep-weights"]
    assert main(words) == Exit.DONE
    assert "difference from tanh" in capsys.readouterr().out
    results = load(out)
    assert results.labels == ["tanh", "relu", "mine", "two layers"] and results.seeds == [3, 5]
    page = html.unescape((out / "report.html").read_text(encoding="utf-8"))
    printed = re.findall(r"<code>(anygate compare [^<]*--arm 'relu, [^<]*)</code>", page)
    assert printed and main(shlex.split(printed[0])[1:]) == Exit.DONE
    again = load(out)
    assert again.labels[:4] == results.labels and len(again.labels) == 5
    assert again.present == 10 and again.labels[4].startswith("relu, ")
    weights = sorted((out / "weights").glob("*.pt"))
    assert len(weights) == 8 and "lstm.weight_hh_l0" in torch.load(weights[0])

    capsys.readouterr()
    assert main(["export", str(out), "--csv", str(tmp_path / "rows.csv")]) == Exit.DONE
    rows = list(csv.DictReader((tmp_path / "rows.csv").read_text().splitlines()))
    assert len(rows) == 10 and set(SETTINGS) <= rows[0].keys()
    mine = next(row for row in rows if row["arm"] == "mine")
    assert mine["gate_activation"] == "hard_sigmoid" and mine["init"] == "chrono"
    assert {row["cell"] for row in rows} == {"LSTM", "GRU"} and mine["cpu"] and mine["torch"]
    assert len(Study.load(out).rows()) == 10
    assert main(["export", str(out), "--csv", "--curves"]) == Exit.DONE
    assert (out / "curves.csv").read_text().count("\n") == 11


def test_parquet_where_pyarrow_is(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    from anygate.lab.study.store.rows import as_parquet

    as_parquet([{"a": 1, "b": "x"}, {"a": 2.5, "c": True}], tmp_path / "x.parquet")
    assert parquet.read_table(tmp_path / "x.parquet").to_pylist() == [
        {"a": 1.0, "b": "x", "c": None},
        {"a": 2.5, "b": None, "c": True},
    ]


def test_live_curves_where_tensorboard_is(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    spec = spec_of(find_task("adding:5"), Arm("mine"), "activation", 0, TINY)
    replace(spec, log=tmp_path).run()
    assert list(tmp_path.glob(f"{spec.key}/events.out.tfevents.*"))


def test_optuna_asks_for_the_same_again_and_comes_close_to_the_best() -> None:
    pytest.importorskip("optuna")
    from anygate.lab.study.optuna_rates import asked_rates

    def at(rate: float) -> list[float] | None:
        return [(math.log10(rate) + 2) ** 2] * 2  # the best is 0.01

    rates, is_open = asked_rates(1e-4, 1.0, 12, False, at)
    assert len(rates) == 12 and not is_open
    assert min(abs(math.log10(rate) + 2) for rate in rates) < 0.5
    for done in (0, 5):  # stopped there, it asks for the next one
        values = {rate: at(rate) for rate in rates[:done]}
        again, is_open = asked_rates(1e-4, 1.0, 12, False, values.get)
        assert is_open and again == rates[: done + 1]


def test_a_study_tuned_by_optuna_tells_both_rates(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    base = Study(
        find_task("adding:5"), (resolve("tanh"), resolve("relu")), "activation", (0,), TINY
    )
    tuned = TunedStudy(base, (1e-4, 0.1), (1_000_000,), tuner="optuna", tries=2)
    run_studies({tmp_path: tuned}, jobs=1)
    chosen = load(tmp_path).config.learning_rates
    assert chosen is not None and {len(t.tried) for t in chosen.tuned.values()} == {2}
    assert "between 0.0001 and 0.1 by Optuna (2 rates)" in " ".join(verdict(load(tmp_path)))
    before = sorted(tmp_path.rglob("trials/*.json"))
    run_studies({tmp_path: tuned}, jobs=1)
    assert sorted(tmp_path.rglob("trials/*.json")) == before
