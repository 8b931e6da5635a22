"""A learning rate for each activation, chosen on seeds of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from anygate.formulas import resolve
from anygate.lab.findings.verdict import verdict
from anygate.lab.report.tuning import tuning
from anygate.lab.study.grid import run_studies
from anygate.lab.study.plan import Study
from anygate.lab.study.store.files import StudyError
from anygate.lab.study.store.results import load
from anygate.lab.study.store.schema import Tried, Tuned
from anygate.lab.study.trial import TrialSpec
from anygate.lab.study.tuning import (
    FIRST_SEED,
    TunedStudy,
    choose,
    tune,
    tuning_seeds,
    tuning_trials,
)
from anygate.lab.tasks import Settings, find_task

SMALL = Settings(hidden_size=4, epochs=2, batch_size=256)
TANH = TrialSpec(find_task("digits-rows"), resolve("tanh"), "activation", 0, SMALL)
ADDING = replace(TANH, task=find_task("adding:5"))


def test_tuning_runs_every_rate_on_seeds_of_its_own_and_chooses_the_best(tmp_path: Path) -> None:
    rates, seeds = (0.1, 1e-6, 0.02), tuning_seeds(2)
    found = tune({"tanh": TANH}, rates, tmp_path, seeds=seeds, jobs=1)
    (tuned,) = found.values()
    files = [json.loads(p.read_text()) for p in (tmp_path / "trials").iterdir()]
    assert len(files) == 6 and {f["seed"] for f in files} == {FIRST_SEED, FIRST_SEED + 1}
    assert list(tuned.scores) == [1e-6, 0.02, 0.1]
    means = {rate: sum(values) / 2 for rate, values in tuned.scores.items()}
    assert tuned.rate == max(means, key=lambda rate: means[rate]) != 1e-6
    assert sorted(f["final_metric"] for f in files) == sorted(sum(tuned.scores.values(), ()))
    # Resumed: nothing runs again.
    before = [p.stat().st_mtime_ns for p in sorted((tmp_path / "trials").iterdir())]
    assert tune({"tanh": TANH}, rates, tmp_path, seeds=seeds, jobs=1) == found
    assert [p.stat().st_mtime_ns for p in sorted((tmp_path / "trials").iterdir())] == before


def written(directory: Path, variant: TrialSpec, scores: dict[float, list[float]]) -> None:
    (directory / "trials").mkdir(parents=True, exist_ok=True)
    for rate, values in scores.items():
        for spec, value in zip(
            tuning_trials([variant], [rate], tuning_seeds(len(values))), values, strict=True
        ):
            bad = value == variant.task.baseline
            (directory / "trials" / f"{spec.key}.json").write_text(
                json.dumps(
                    {
                        "schema": 1,
                        "key": spec.key,
                        "activation": "tanh",
                        "seed": spec.seed,
                        "diverged": {"epoch": 1, "step": 1} if bad else None,
                        "epochs": [],
                        "final_metric": value,
                    }
                )
            )


@pytest.mark.parametrize(
    ("variant", "scores", "rate", "edge"),
    [
        (TANH, {0.001: [0.5, 0.5], 0.01: [0.7, 0.6], 0.1: [0.6, 0.6]}, 0.01, ""),
        (TANH, {0.001: [0.5, 0.5], 0.01: [0.9, 0.0], 0.1: [0.8, 0.1]}, 0.001, "lowest"),
        (ADDING, {0.001: [0.1, 0.1], 0.01: [0.01, 0.1667], 0.1: [0.05, 0.02]}, 0.1, "highest"),
        (ADDING, {0.001: [0.01], 0.01: [0.05], 0.1: [0.02]}, 0.001, "lowest"),
        (TANH, {0.001: [0.9], 0.01: [1.0], 0.1: [1.0], 0.2: [1.0]}, 0.1, ""),
        (TANH, {0.01: [0.5]}, 0.01, ""),
    ],
)
def test_the_choice_is_the_best_mean_and_says_where_the_grid_ends(
    variant: TrialSpec, scores: dict[float, list[float]], rate: float, edge: str, tmp_path: Path
) -> None:
    written(tmp_path, variant, scores)
    seeds = tuning_seeds(len(next(iter(scores.values()))))
    tuned = choose(variant, list(scores), seeds, tmp_path)
    assert (tuned.rate, tuned.edge) == (rate, edge)
    assert tuned.scores == {k: tuple(v) for k, v in scores.items()}


def test_a_diverged_run_counts_as_the_baseline(tmp_path: Path) -> None:
    baseline = TANH.task.baseline
    written(tmp_path, TANH, {0.01: [0.5, 0.5], 0.1: [0.85, baseline]})
    tuned = choose(TANH, [0.01, 0.1], tuning_seeds(2), tmp_path)
    assert tuned == Tuned(0.01, (Tried(0.01, (0.5, 0.5), 0), Tried(0.1, (0.85, baseline), 1)))


def test_a_missing_result_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"tanh-seed1000000-\w+\.json: it cannot be read"):
        choose(TANH, [0.01], tuning_seeds(1), tmp_path)


@pytest.mark.parametrize("tuner", ["grid", "optuna"])
@pytest.mark.parametrize(
    ("setting", "values"), [("hidden_size", (2, 6)), ("gradient_clip", (0.0, 1.0))]
)
def test_another_setting_is_tuned(
    tuner: str, setting: str, values: tuple[float, ...], tmp_path: Path
) -> None:
    """A whole number and one that may be zero: chosen, compared at one value and at each own, told
    by name."""
    if tuner == "optuna":
        pytest.importorskip("optuna")
    settings = replace(SMALL, epochs=1)
    activations = (resolve("tanh"), resolve("relu"))
    plan = Study(find_task("digits-rows"), activations, "activation", (0, 1), settings)
    tuned = TunedStudy(plan, values, tuning_seeds(1), tuner=tuner, tries=2, setting=setting)
    run_studies({tmp_path: tuned}, jobs=1)
    results = load(tmp_path)
    chosen = results.config.learning_rates
    assert chosen is not None and chosen.setting == setting and chosen.shared is not None
    assert results.present == 4 and setting in results.config.settings
    sizes = {getattr(t.settings, setting) for t in tuned.studies(tuned.choices(tmp_path)).values()}
    assert chosen.shared in sizes
    said = " ".join(verdict(results))
    assert f"The {setting.replace('_', ' ')} was tuned for each activation" in said
    assert "learning rate was tuned" not in said
    figure = tuning(results)
    assert figure is not None and setting.replace("_", " ") in figure.table.columns


def test_what_cannot_be_tuned() -> None:
    plan = Study(find_task("digits-rows"), (resolve("tanh"),), "activation", (0,), SMALL)
    with pytest.raises(ValueError, match="init is no numeric setting; there are: hidden_size"):
        TunedStudy(plan, (0.1, 0.2), tuning_seeds(1), setting="init")
    with pytest.raises(ValueError, match="tuning needs two values of weight-decay or more"):
        TunedStudy(plan, (0.1,), tuning_seeds(1), setting="weight_decay")
    with pytest.raises(ValueError, match="hidden_size: a whole number"):
        TunedStudy(plan, (2.5, 3), tuning_seeds(1), setting="hidden_size")
