"""Studies: pairing, resuming, and the same files however often they are interrupted."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from anygate.formulas import resolve
from anygate.lab.study.executors import IDLE_SECONDS
from anygate.lab.study.plan import Study
from anygate.lab.study.store import files
from anygate.lab.study.store.files import WriteError, write_json
from anygate.lab.study.store.folder import StudyConflict
from anygate.lab.study.store.results import load
from anygate.lab.study.trial import TrialSpec, run_trial, slots_of
from anygate.lab.tasks import TASKS, Settings, TaskError, find_task

SMALL = Settings(hidden_size=4, epochs=2, batch_size=256)


def small_study(names: tuple[str, ...] = ("tanh", "relu"), seeds: int = 2) -> Study:
    activations = tuple(resolve(n) for n in names)
    return Study(find_task("digits-rows"), activations, "activation", tuple(range(seeds)), SMALL)


def spec(name: str = "tanh", seed: int = 0, **settings: float) -> TrialSpec:
    return TrialSpec(
        find_task("digits-rows"), resolve(name), "activation", seed, replace(SMALL, **settings)
    )


def results_in(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((directory / "trials").iterdir())}


# ---- tasks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*TASKS, "adding:7"])
def test_data_has_the_stated_shape_and_follows_from_the_seed(name: str) -> None:
    task = find_task(name)
    data = task.make(3)
    assert data.train_x.shape[1] == data.test_x.shape[1] == task.steps
    assert data.train_x.dtype == torch.float32
    again, other = task.make(3), task.make(4)
    assert torch.equal(data.train_x, again.train_x) and torch.equal(data.test_y, again.test_y)
    assert not torch.equal(data.test_x, other.test_x)


def test_training_and_test_digits_do_not_overlap() -> None:
    data = find_task("digits").make(0)
    train = {tuple(row) for row in data.train_x.flatten(1).tolist()}
    test = {tuple(row) for row in data.test_x.flatten(1).tolist()}
    assert len(data.train_y) + len(data.test_y) == 1797
    assert len(train & test) <= 2  # the data set itself holds a few equal images


def test_digit_rows_are_the_rows_of_the_pixels() -> None:
    pixels, rows = find_task("digits").make(1), find_task("digits-rows").make(1)
    assert torch.equal(pixels.train_x.flatten(1), rows.train_x.flatten(1))
    assert pixels.train_x.shape[1:] == (64, 1) and rows.train_x.shape[1:] == (8, 8)


def test_adding_targets_are_the_sum_of_the_two_marked_numbers() -> None:
    task = find_task("adding:20")
    data = task.make(0)
    values, marks = data.train_x.unbind(-1)
    assert torch.equal(marks.sum(1), torch.full((len(marks),), 2.0))
    torch.testing.assert_close((values * marks).sum(1), data.train_y)
    # The baseline is the variance of the sum of two uniform numbers.
    assert data.train_y.var().item() == pytest.approx(task.baseline, rel=0.1)


def test_unknown_task_slot_and_bad_settings_are_refused_with_the_known_ones() -> None:
    with pytest.raises(TaskError, match="digits, digits-rows, adding"):
        find_task("mnist")
    with pytest.raises(TaskError, match="2 or more steps"):
        find_task("adding:1")
    with pytest.raises(TaskError, match="cell_output"):
        slots_of("gate")
    for bad in (
        {"epochs": 0},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"gradient_clip": -1.0},
        {"hidden_size": 0},
    ):
        with pytest.raises(TaskError):
            replace(SMALL, **bad)


# ---- one trial ------------------------------------------------------------------------------


def test_a_trial_is_reproducible_and_strict_json() -> None:
    result, timing = run_trial(spec())
    again, _ = run_trial(spec())
    assert result == again
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["final_metric"] == result["epochs"][-1]["metric"]
    assert len(result["epochs"]) == 2 and result["diverged"] is None
    assert timing["seconds_per_step"] > 0
    shares = result["epochs"][-1]["slots"]
    assert set(shares) == {"input_gate", "forget_gate", "candidate", "output_gate", "cell_output"}
    assert all(0 <= v <= 1 for slot in shares.values() for v in slot.values())


def test_trials_with_the_same_seed_start_from_the_same_weights_and_data() -> None:
    """tanh and tanh written as a formula are the same function: the whole run must agree."""
    one, _ = run_trial(spec("tanh"))
    other, _ = run_trial(spec("2*sigmoid(2*x) - 1"))
    assert one["epochs"][0]["train_loss"] == pytest.approx(other["epochs"][0]["train_loss"], 1e-4)
    elsewhere, _ = run_trial(spec("tanh", seed=1))
    assert elsewhere["epochs"][0]["train_loss"] != one["epochs"][0]["train_loss"]


def test_keys_differ_with_every_setting_and_are_safe_file_names() -> None:
    specs = [
        spec(),
        spec(seed=1),
        spec("relu"),
        spec("leaky_relu"),
        spec("leaky_relu(k=0.2)"),
        spec(epochs=3),
        replace(spec(), slot="candidate"),
        spec("x/(1+abs(x))"),
    ]
    keys = [s.key for s in specs]
    assert len(set(keys)) == len(keys)
    assert all(
        set(k) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
        for k in keys
    )


def test_a_diverging_trial_is_a_result_that_names_the_step_and_the_slot() -> None:
    diverging = TrialSpec(
        find_task("digits"),
        resolve("10*x**2"),
        "activation",
        0,
        replace(SMALL, gradient_clip=0.0, learning_rate=1.0),
    )
    result, _ = run_trial(diverging)
    found = result["diverged"]
    assert found is not None
    assert found["step"] >= 1 and found["epoch"] >= 1
    assert found["slot"] in ("candidate", "cell_output", "input_gate", "forget_gate", "output_gate")
    assert 1 <= found["time_step"] <= 64
    assert result["final_metric"] == 0.1
    json.dumps(result, allow_nan=False)


# ---- the study ------------------------------------------------------------------------------


def test_a_study_writes_a_file_for_each_trial_and_loads(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    study = small_study()
    study.run(tmp_path / "s", progress=lambda done, total, key: calls.append((done, total)))
    assert calls == [(k, 4) for k in range(5)]
    results = load(tmp_path / "s")
    assert results.labels == ["tanh", "relu"] and results.present == 4
    assert not list((tmp_path / "s").rglob("*.part"))


def test_more_seeds_and_activations_extend_a_study_and_keep_what_is_there(tmp_path: Path) -> None:
    small_study(("tanh",), 1).run(tmp_path)
    (path,) = (tmp_path / "trials").iterdir()
    before = path.stat().st_mtime_ns
    larger = small_study(("tanh", "relu"), 2)
    assert len(larger.missing(tmp_path)) == 3
    larger.run(tmp_path, jobs=1)
    assert path.stat().st_mtime_ns == before and len(results_in(tmp_path)) == 4


def test_another_study_in_the_folder_is_refused_and_fresh_replaces_it(tmp_path: Path) -> None:
    small_study(("tanh",), 1).run(tmp_path)
    other = replace(small_study(("tanh",), 1), settings=replace(SMALL, epochs=1))
    with pytest.raises(StudyConflict, match=r"epochs 2 there, 1 here.*--fresh"):
        other.run(tmp_path)
    other.run(tmp_path, fresh=True)
    assert [len(json.loads(b)["epochs"]) for b in results_in(tmp_path).values()] == [1]


def test_a_folder_with_other_files_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StudyConflict, match="not empty"):
        small_study().run(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_fresh_deletes_nothing_in_a_folder_without_a_study(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "photo.png").write_text("precious")
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StudyConflict, match="holds no study"):
        small_study().run(tmp_path, fresh=True)
    assert (tmp_path / "figures" / "photo.png").exists()


DAMAGE = ["", '{"bad', "{}", "[1,2]", '{"schema": 1, "task": {}}', "\x00"]


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_study_json_is_replaced_with_one_notice(tmp_path: Path, content: str) -> None:
    small_study(("tanh",), 1).run(tmp_path)
    before = results_in(tmp_path)
    (tmp_path / "study.json").write_text(content)
    said: list[str] = []
    small_study(("tanh",), 1).run(tmp_path, notice=said.append)
    assert len(said) == 1 and "study.json was damaged" in said[0]
    assert results_in(tmp_path) == before and load(tmp_path).present == 1
    small_study(("tanh",), 1).run(tmp_path, notice=said.append)
    assert len(said) == 1


def test_a_damaged_study_json_does_not_let_other_settings_mix(tmp_path: Path) -> None:
    small_study(("tanh",), 1).run(tmp_path)
    (tmp_path / "study.json").write_text("{")
    other = replace(small_study(("tanh",), 1), settings=replace(SMALL, epochs=1))
    with pytest.raises(StudyConflict, match=r"results of other settings.*--fresh"):
        other.run(tmp_path, notice=lambda text: None)


@pytest.mark.parametrize(
    ("content", "said"), [("{", "among other files"), ('{"schema": 2}', "schema 2 was found")]
)
def test_a_study_json_that_may_be_of_value_is_not_replaced(
    tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "study.json").write_text(content)
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(StudyConflict, match=said):
        small_study(("tanh",), 1).run(tmp_path)
    assert (tmp_path / "study.json").read_text() == content


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_trial_is_missing_and_is_run_again(tmp_path: Path, content: str) -> None:
    study = small_study(("tanh",), 2)
    study.run(tmp_path, jobs=1)
    whole = results_in(tmp_path)
    first = tmp_path / "trials" / f"{study.trials[0].key}.json"
    first.write_text(content)
    assert study.missing(tmp_path) == study.trials[:1]
    study.run(tmp_path, jobs=1)
    assert results_in(tmp_path) == whole
    first.write_bytes(whole[f"{study.trials[1].key}.json"])  # sound, but another trial
    assert study.missing(tmp_path) == study.trials[:1]
    first.write_bytes(whole[first.name])
    (tmp_path / "timing" / first.name).write_text(content)
    assert study.missing(tmp_path) == study.trials[:1]
    (tmp_path / "timing" / first.name).unlink()  # lost, not damaged
    assert study.missing(tmp_path) == ()


def test_idle_workers_do_not_outlive_a_study_for_long(tmp_path: Path) -> None:
    from joblib.externals.loky import reusable_executor

    small_study(("tanh",), 2).run(tmp_path, jobs=2)
    assert reusable_executor._executor._timeout == IDLE_SECONDS <= 60


def test_a_full_disk_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, writes = small_study(("tanh",), 3), 0
    fsync = os.fsync

    def fill(descriptor: int) -> None:
        nonlocal writes
        writes += 1
        if writes > 3:  # study.json, then timing and result of the first trial
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", fill)
    with pytest.raises(WriteError, match="cannot be written: No space left on device"):
        study.run(tmp_path, jobs=1)
    assert len(study.missing(tmp_path)) == 2
    assert not list(tmp_path.rglob("*.part"))
    monkeypatch.undo()
    study.run(tmp_path, jobs=1)
    assert study.missing(tmp_path) == ()


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


STUDY_SCRIPT = """
import sys
from pathlib import Path
from anygate.lab.study.plan import Study
from anygate.lab.tasks import Settings, find_task
from anygate.formulas import resolve

if __name__ == "__main__":
    activations = (resolve("tanh"), resolve("relu"))
    settings = Settings(hidden_size=4, epochs=4, batch_size=64)
    study = Study(find_task("digits-rows"), activations, "activation", (0, 1), settings)
    study.run(Path(sys.argv[1]), jobs=1)
"""


def test_killed_half_way_it_resumes_and_gives_the_same_files(tmp_path: Path) -> None:
    """kill -9 of a study and its workers, then the same study again."""
    script = tmp_path / "study.py"
    script.write_text(STUDY_SCRIPT)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = [sys.executable, str(script)]
    process = subprocess.Popen([*command, str(broken)], start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not list(broken.glob("trials/*.json")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    kept = {p: p.stat().st_mtime_ns for p in broken.glob("trials/*.json")}
    assert 1 <= len(kept) < 4
    for directory in (broken, whole):
        subprocess.run([*command, str(directory)], check=True)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept  # not run again
    assert results_in(broken) == results_in(whole) and len(results_in(whole)) == 4
