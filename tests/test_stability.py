"""The stability map: short runs over learning rates and forget biases, resumable."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from anygate.cli import main
from anygate.formulas import resolve
from anygate.lab.study.plan import Study
from anygate.lab.study.stability import FORGET_BIASES, RATE_FACTORS, SEEDS, StabilityMap
from anygate.lab.study.store.results import ShortRuns, load, load_short_runs, stable_rate
from anygate.lab.study.store.schema import Divergence, Trial
from anygate.lab.tasks import find_task


def small(steps: int = 2) -> StabilityMap:
    task = find_task("adding:8")
    settings = replace(task.settings, hidden_size=4, epochs=30, batch_size=500, learning_rate=0.01)
    study = Study(task, (resolve("tanh"), resolve("exp(x)")), "activation", (0, 1), settings)
    return StabilityMap(study, rate_factors=(1.0, 100.0), forget_biases=(0.0, 3.0), steps=steps)


def test_cells_are_short_runs_of_the_study_with_another_rate_and_bias() -> None:
    cells = small().planned()
    assert set(cells) == {
        (label, rate, bias)
        for label in ("tanh", "exp(x)")
        for rate in (0.01, 1.0)
        for bias in (0.0, 3.0)
    }
    for (label, rate, bias), trials in cells.items():
        assert [t.seed for t in trials] == [0, 1]
        for trial in trials:
            assert trial.activation.label == label and not trial.snapshots
            assert trial.settings == replace(
                small().study.settings, learning_rate=rate, forget_bias=bias, epochs=1
            )
            assert len(trial.task.load(0).train_y) == 1000  # two steps of 500
    keys = [t.key for trials in cells.values() for t in trials]
    own = {t.key for t in small().study.trials}
    assert len(set(keys)) == len(keys) == 16 and not own & set(keys)


def test_a_task_with_few_sequences_is_gone_through_again() -> None:
    (trial, *_) = small(steps=10).planned()["tanh", 0.01, 0.0]
    assert trial.settings.epochs == 3  # four steps of 500 in 2000 sequences
    assert len(trial.task.load(0).train_y) == 2000


def test_a_map_is_run_once_read_back_and_resumed(tmp_path: Path) -> None:
    made, seen = small(), list[tuple[int, int]]()
    (tmp_path / "study.json").write_text(json.dumps(made.study.describe("")))
    made.run(tmp_path, jobs=2, progress=lambda done, total, key: seen.append((done, total)))
    assert seen[0] == (0, 16) and seen[-1] == (16, 16) and made.missing(tmp_path) == 0
    cells = {(c.activation, c.learning_rate, c.forget_bias): c for c in load_short_runs(tmp_path)}
    assert set(cells) == set(made.planned())
    assert all(len(c.runs) == 2 for c in cells.values())
    assert not any(c.diverged for c in cells.values() if c.activation == "tanh")
    assert cells["exp(x)", 1.0, 3.0].share > 0
    assert load(tmp_path).stability == tuple(cells.values())
    path = next((tmp_path / "stability" / "trials").iterdir())
    whole = path.read_bytes()
    path.unlink()
    damaged = sorted((tmp_path / "stability" / "trials").iterdir())[0]
    damaged.write_text("{")
    assert made.missing(tmp_path) == 2
    made.run(tmp_path, jobs=1)
    assert path.read_bytes() == whole and made.missing(tmp_path) == 0
    assert not list(tmp_path.rglob("*.part"))


def test_the_usual_map_is_small() -> None:
    assert len(RATE_FACTORS) * len(FORGET_BIASES) * SEEDS <= 60


@pytest.mark.parametrize(
    ("diverged", "wanted"),
    [
        ((0, 0, 0), 0.1),
        ((0, 0, 1), 0.01),
        ((0, 1, 0), 0.001),
        ((1, 0, 0), None),
    ],
)
def test_a_rate_is_stable_if_no_smaller_one_is_not(
    diverged: tuple[int, ...], wanted: float | None
) -> None:
    def runs(bad: int) -> tuple[Trial, ...]:
        gone = Divergence(1, 1, "loss", "", "inf")
        return tuple(Trial("k", "relu", s, gone if s < bad else None, (), 0.1) for s in range(2))

    cells = [
        ShortRuns("relu", rate, bias, runs(bad if bias else 0))
        for rate, bad in zip((0.001, 0.01, 0.1), diverged, strict=True)
        for bias in (0.0, 1.0)
    ]
    assert stable_rate(cells[::-1]) == wanted


def test_compare_makes_the_map_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StabilityMap.__init__, "__defaults__", ((1.0, 30.0), (1.0,), 1, 1))
    out = tmp_path / "s"
    command = [
        "compare",
        "tanh",
        "relu",
        "--task",
        "adding:6",
        "--seeds",
        "1",
        "--epochs",
        "1",
        "--hidden-size",
        "4",
        "--stability",
        "--out",
        str(out),
    ]
    assert main(command) == 0
    assert "report:" in capsys.readouterr().out
    results = load(out)
    assert "--stability" in results.config.command
    assert {(c.activation, c.learning_rate) for c in results.stability} == {
        (label, rate) for label in ("tanh", "relu") for rate in (0.005, 0.15)
    }
    assert "Stability map" in (out / "report.html").read_text(encoding="utf-8")
    before = {p: p.stat().st_mtime_ns for p in (out / "stability" / "trials").iterdir()}
    assert len(before) == 4 and main(command) == 0
    assert before == {p: p.stat().st_mtime_ns for p in (out / "stability" / "trials").iterdir()}
    assert main([*command, "--fresh"]) == 0
    assert all(p.stat().st_mtime_ns > t for p, t in before.items())
