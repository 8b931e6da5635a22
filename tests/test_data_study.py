"""Data as people have them, from the command line to a report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from anygate.cli import Exit, main
from anygate.lab.tasks import SERIES, find_task, frame_task

SMALL = ["--seeds", "2", "--epochs", "1", "--hidden-size", "3", "--jobs", "1"]


def shop(path: Path, rows: int = 150) -> Path:
    """Sales a day, with three numbers, a category, gaps, and a text that says nothing."""
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame(
        {
            "date": pandas.date_range("2024-01-01", periods=rows, freq="D"),
            "sales": 50 + 10 * np.sin(2 * np.pi * np.arange(rows) / 7) + rng.normal(0, 2, rows),
            "price": rng.uniform(1, 2, rows),
            "visitors": rng.poisson(100, rows).astype(float),
            "promotion": rng.choice(["none", "coupon", "sale"], rows),
            "receipt": [f"R{k:05}" for k in range(rows)],
        }
    )
    for name in ("sales", "price", "visitors"):
        frame.loc[rng.random(rows) < 0.05, name] = np.nan
    frame.to_csv(path, index=False)
    return path


def test_a_table_with_gaps_dates_and_categories_becomes_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shop(tmp_path / "shop.csv")
    words = ["compare", "tanh", "relu", "--data", "shop.csv", "--target", "sales", *SMALL]
    assert main(words) == Exit.USAGE
    assert "column 'sales': the value is missing" in capsys.readouterr().err
    assert main([*words, "--missing", "mask", "--horizon", "7", "--out", "out"]) == Exit.DONE
    shown = capsys.readouterr()
    assert "'receipt' is text with 150 different values" in shown.err
    assert "Missing values, treated as 'mask': sales (" in shown.err
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for part in ("sales of shop.csv, 1 to 7 steps ahead", "seasonal naive", "promotion (3 cat"):
        assert part in page
    study = json.loads((tmp_path / "out" / "study.json").read_text())
    assert study["task"]["baseline_name"] == "seasonal naive" and study["task"]["baseline"] < 1
    assert "--horizon 7 --missing mask" in study["command"]
    # A TOML file says the same, and finds the trials done.
    (tmp_path / "study.toml").write_text(
        'activations = ["tanh", "relu"]\ndata = "shop.csv"\ntarget = "sales"\nhorizon = 7\n'
        'missing = "mask"\nseeds = 2\nepochs = 1\nhidden-size = 3\nout = "out"\n'
    )
    assert main(["compare", "--config", "study.toml", "--dry-run"]) == Exit.DONE
    assert "Nothing is left to run" in capsys.readouterr().out


def test_several_files_make_a_study_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shop(tmp_path / "shop.csv")
    shop(tmp_path / "two  words.csv")
    (tmp_path / "study.toml").write_text(
        'activations = ["tanh", "relu"]\ndata = ["shop.csv", "two  words.csv"]\n'
        'target = "sales"\nmissing = "drop"\nseeds = 2\nepochs = 1\nhidden-size = 3\nout = "out"\n'
    )
    assert main(["compare", "--config", "study.toml"]) == Exit.DONE
    assert "shop.csv: " in capsys.readouterr().err  # what is said of a file names it
    studies = json.loads((tmp_path / "out" / "grid.json").read_text())["studies"]
    assert len(studies) == 2 and all(
        (tmp_path / "out" / s / "report.html").exists() for s in studies
    )
    command = json.loads((tmp_path / "out" / "grid.json").read_text())["command"]
    assert "--data shop.csv 'two  words.csv'" in command


def test_uneven_sequences_with_gaps_become_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lines = ["@equalLength false", "@classLabel true up down", "@data"]
    for k in range(40):
        values = [f"{v:.3f}" for v in rng.normal(k % 2, 1, rng.integers(4, 9))]
        values[2] = "?"
        lines.append(",".join(values) + (":up" if k % 2 else ":down"))
    (tmp_path / "Steps.ts").write_text("\n".join(lines) + "\n")
    words = ["compare", "tanh", "relu", "--data", "Steps.ts", "--missing", "linear", "--out", "out"]
    assert main([*words, *SMALL, "--metric", "balanced_accuracy"]) == Exit.DONE
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "40 sequences of 4 to 8 steps" in page and "mean balanced accuracy" in page
    assert "Missing values, treated as 'linear': 40." in capsys.readouterr().err


# ---- the series that statsmodels ships ------------------------------------------------------


@pytest.mark.parametrize("name", SERIES)
def test_every_shipped_series_is_in_the_list_of_tasks(name: str) -> None:
    from anygate.lab.tasks import OTHERS

    assert name in OTHERS


def test_the_sea_off_peru_is_read_month_by_month() -> None:
    datasets = pytest.importorskip("statsmodels.datasets")
    frame = datasets.elnino.load_pandas().data
    data = find_task("elnino").load(0)
    assert len(data.train_y) + len(data.test_y) == 61 * 12 - 24
    row = frame.iloc[0, 1:].to_numpy()
    first = data.train_x[0, :12, 0].numpy()
    assert np.corrcoef(row, first)[0, 1] == pytest.approx(1, abs=1e-6)


def test_several_columns_of_a_shipped_table() -> None:
    datasets = pytest.importorskip("statsmodels.datasets")
    frame = datasets.macrodata.load_pandas().data
    task = frame_task(frame, ["infl", "unemp"], name="macrodata", horizon=4, window=8)
    data = task.load(0)
    assert data.values == 8 and data.train_x.shape[2] == 2 * 2 + 12
    assert task.baseline_name == "persistence"
