"""anygate.compare: the user's own training, paired, kept whatever happens, and told."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import end_of_session
from torch import nn

import anygate
from anygate.lab.arms import ArmError, read_arms
from anygate.lab.compare import direction
from anygate.lab.comparison import Comparison, paired
from anygate.lab.study.own import TrainError, code_digest
from anygate.lab.study.plan import Study
from anygate.lab.study.store.files import WriteError, write_json
from anygate.lab.study.store.folder import FolderInUse, StudyConflict, locked
from anygate.lab.study.store.rows import curve_rows

ERROR: dict[str, Any] = {"metric": "error", "progress": False}


def forecaster() -> nn.ModuleDict:
    return nn.ModuleDict({"rnn": nn.LSTM(1, 3), "head": nn.Linear(3, 1)})


def train(swap: Any, seed: int, trial: Any) -> None:
    """Forecasts of a wave."""
    model = swap(forecaster(), engine="eager")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    wave = torch.sin(torch.arange(8) + torch.rand(1)).view(8, 1, 1)
    for _ in trial.epochs(3, model, optimizer):
        loss = (model["head"](model["rnn"](wave[:-1])[0]) - wave[1:]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        trial.report(error=loss, other=float(torch.rand(1)))
        if (pause := float(os.environ.get("PAUSE", 0))) > 0:
            time.sleep(pause)


def score(swap: Any, seed: int) -> float:
    """A number without training."""
    swap(forecaster())
    return seed + random.random() + float(np.random.rand()) + float(torch.rand(1))  # noqa: NPY002


# ---- what it gives ----------------------------------------------------------------------------


def test_arms_with_one_seed_begin_alike_and_the_callers_random_numbers_go_on() -> None:
    torch.manual_seed(5)
    random.seed(5)
    expected = (random.getstate(), torch.get_rng_state())
    found = anygate.compare(score, ["tanh", "relu"], seeds=(3, 1, 2), progress=False)
    assert random.getstate() == expected[0] and torch.equal(torch.get_rng_state(), expected[1])
    assert found.scores["tanh"] == found.scores["relu"]
    assert found.results.seeds == [3, 1, 2]
    assert found.scores["tanh"] != anygate.compare(score, "tanh", seeds=3, progress=False).scores


def test_the_standard_activation_is_always_an_arm_and_comes_first() -> None:
    for given, labels in (
        (["relu", "elu"], ["tanh", "relu", "elu"]),
        (["relu", "tanh"], ["relu", "tanh"]),
        ("softsign", ["tanh", "softsign"]),
        ({"mine": {"activation": "relu", "peephole": True}}, ["standard", "mine"]),
        ({"mine": "relu", "plain": {}}, ["mine", "plain"]),
        ([{"name": "mine", "init": "chrono"}, "relu"], ["standard", "mine", "relu"]),
    ):
        assert [arm.label for arm in read_arms(given)] == labels
    assert [a.label for a in read_arms(["relu"], "forget_gate")] == ["sigmoid", "relu"]
    for wrong, said in (
        (["relu", "relu"], "given twice"),
        ({"mine": {"activation": "nosuch"}}, "arm 'mine': activation: "),
        ([{"activation": "relu"}], "needs a name"),
        ([], "no activation is given"),
    ):
        with pytest.raises(ArmError, match=said):
            read_arms(wrong)
    with pytest.raises(ArmError, match="no slot is called 'gate'"):
        read_arms(["relu"], "gate")


def test_an_arm_is_put_in_with_all_its_settings() -> None:
    seen: dict[str, Any] = {}

    def look(swap: Any, seed: int, trial: Any) -> float:
        model = nn.LSTM(2, 4, num_layers=2)
        assert swap(model, steps=9) is model
        seen[trial.arm] = (model, dict(trial.settings))
        return 1.0

    arms = {
        "plain": {},
        "mine": {"activation": "relu", "forget_gate": "hard_sigmoid", "clip": 5.0, "rate": 0.1},
        "biased": {"init": "orthogonal", "forget_bias": 2.0},
        "long": {"init": "chrono"},
    }
    anygate.compare(look, arms, seeds=1, settings={"rate": 0.5, "size": 4}, progress=False)
    model, settings = seen["mine"]
    assert model.cell.slots["candidate"].label == "relu" and model.cell.clip == 5.0
    assert model.cell.slots["forget_gate"].label == "hard_sigmoid"
    assert settings == {"size": 4} | arms["mine"]
    weights, biased = seen["biased"][0].weight_hh_l1[:4], seen["biased"][0]
    assert torch.allclose(weights @ weights.T, torch.eye(4), atol=1e-5)
    assert torch.equal((biased.bias_ih_l1 + biased.bias_hh_l1)[4:8], torch.full((4,), 2.0))
    forget = (seen["long"][0].bias_ih_l0 + seen["long"][0].bias_hh_l0)[4:8]
    assert (forget >= 0).all() and (forget <= math.log(8)).all()
    for arm, said in (
        ({"init": "orthodox"}, "init is one of torch, identity"),
        ({"init": "chrono"}, "needs the sequences' length"),
    ):
        with pytest.raises(ArmError, match=f"arm 'bad': .*{said}"):
            anygate.compare(score, {"plain": {}, "bad": arm}, seeds=1, progress=False)


def test_it_prints_shows_frames_and_reports(tmp_path: Path) -> None:
    found = anygate.compare(train, ["tanh", "relu"], seeds=2, out=tmp_path / "own", **ERROR)
    text = str(found)
    assert text.startswith("activation   mean error") and "No claim possible" in text
    assert found.verdict[0] in " ".join(text.split()).replace("- ", "")
    assert repr(found).startswith("<Comparison of error: tanh ")
    assert "<td>relu</td>" in found._repr_html_() and "<script" not in found._repr_html_()
    row = found.rows()[-1]
    assert (row["arm"], row["seed"], row["diverged"]) == ("relu", 1, False)
    assert row["error"] == found.scores["relu"][1] and row["activation"] == "relu"
    assert row["seconds"] > 0 and {"cpu", "torch", "anygate", "python"} <= row.keys()
    assert len(curve_rows(found.results)) == 12 and "other" in curve_rows(found.results)[0]
    page = found.report().read_text(encoding="utf-8")
    assert page.count("Forecasts of a wave.") == 1 and "anygate.compare(train," in page
    assert json.loads((tmp_path / "own" / "summary.json").read_text())["first"] == "tanh"
    again = Comparison.load(tmp_path / "own")
    assert again.scores == found.scores == Study.load(tmp_path / "own").scores
    assert not list((tmp_path / "own" / "work").glob("*/checkpoint.pt"))


def test_frames_are_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    found = anygate.compare(train, ["tanh", "relu"], seeds=2, **ERROR)
    assert isinstance(found.frame(), pandas.DataFrame)
    assert list(found.frame().groupby("arm").error.mean().index) == ["relu", "tanh"]
    assert set(found.curves().epoch) == {1, 2, 3}
    again = paired(found.frame().pivot(index="seed", columns="arm", values="error"), metric="error")
    assert again.scores["relu"] == found.scores["relu"]


@pytest.mark.parametrize(
    "returned",
    [
        {"error": [3.0, 2.0, 1.5], "loss": [1, 2, 3]},
        {"error": 1.5, "seconds": 7},
        {"error": torch.tensor([2.0, 1.5])},
        np.float32(1.5),
        torch.tensor(1.5, requires_grad=True),
    ],
    ids=str,
)
def test_a_score_may_be_a_number_or_a_dict_of_curves(returned: Any) -> None:
    def own(swap: Any, seed: int) -> Any:
        swap(forecaster())
        return returned

    assert anygate.compare(own, ["tanh"], seeds=1, **ERROR).scores == {"tanh": [1.5]}


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "returned nothing and reported no 'error'"),
        ({"loss": 1.0}, "returned loss, and compare looks for 'error'"),
        ("much", "must be a number, not str"),
        ({"error": "much"}, "error must be a number or a list"),
        ({"error": [1.0], "loss": [1.0, 2.0]}, "curves of different lengths"),
    ],
)
def test_what_train_returns_wrong_is_said_at_once(returned: Any, said: str) -> None:
    def own(swap: Any, seed: int) -> Any:
        swap(forecaster())
        return returned

    with pytest.raises(TrainError, match=said):
        anygate.compare(own, ["tanh", "relu"], seeds=2, **ERROR)


def test_a_train_that_never_swaps_or_takes_other_arguments_is_refused() -> None:
    with pytest.raises(TrainError, match=r"never called swap\(model\)"):
        anygate.compare(lambda swap, seed: 1.0, ["relu"], seeds=1, progress=False)
    with pytest.raises(TrainError, match=r"takes \(swap, seed\)"):
        anygate.compare(lambda model: 1.0, ["relu"], seeds=1, progress=False)
    with pytest.raises(ValueError, match="is a higher pleasure better"):
        anygate.compare(score, ["relu"], metric="pleasure")


def test_the_direction_is_read_from_the_name_where_it_says() -> None:
    names = {"test RMSE": False, "accuracy": True, "val_loss": False, "F1": True, "R2": True}
    assert {name: direction(name) for name in names} == names


# ---- failures ---------------------------------------------------------------------------------


def failing(swap: Any, seed: int, trial: Any) -> float:
    swap(forecaster())
    trial.report(error=1.0)
    if trial.arm == "relu" and seed == 1:
        raise FloatingPointError("the loss\nis gone")
    return math.nan if trial.arm == "relu" and seed == 2 else 1.0 + seed


def test_a_failure_is_an_outcome_that_stands_in_the_table() -> None:
    found = anygate.compare(failing, ["tanh", "relu"], seeds=4, **ERROR)
    assert found.scores == {"tanh": [1, 2, 3, 4], "relu": [1, 4, 4, 4]}  # as the worst
    why = {(r["arm"], r["seed"]): r["why"] for r in found.rows() if r["diverged"]}
    assert why == {("relu", 1): "FloatingPointError: the loss is gone", ("relu", 2): "error is nan"}
    assert "2 of 4" in str(found) and "the loss is gone" in " ".join(str(found).split())
    fixed = anygate.compare(failing, ["tanh", "relu"], seeds=4, baseline=9.0, **ERROR)
    assert fixed.scores["relu"] == [1, 9, 9, 4]
    with pytest.raises(FloatingPointError):
        anygate.compare(failing, ["tanh", "relu"], seeds=4, on_error="raise", **ERROR)


@pytest.mark.parametrize("error", [NameError, KeyError, MemoryError, torch.OutOfMemoryError])
def test_mistakes_and_the_machines_failures_are_no_outcome(error: type[Exception]) -> None:
    def own(swap: Any, seed: int) -> float:
        swap(forecaster())
        if seed:
            raise error("here")
        return 1.0

    with pytest.raises(error):
        anygate.compare(own, ["tanh"], seeds=2, **ERROR)


def test_a_failure_of_the_first_trial_of_all_is_taken_for_a_mistake() -> None:
    def own(swap: Any, seed: int) -> float:
        swap(forecaster())
        raise ValueError("a wrong shape")

    with pytest.raises(ValueError, match="a wrong shape") as raised:
        anygate.compare(own, ["tanh", "relu"], seeds=2, **ERROR)
    assert "taken for a mistake in train" in raised.value.__notes__[0]


# ---- kept and resumed -------------------------------------------------------------------------


def test_other_code_other_settings_and_two_writers_are_refused(tmp_path: Path) -> None:
    def make(constant: float) -> Any:
        namespace: dict[str, Any] = {"forecaster": forecaster}
        exec(f"def f(swap, seed):\n    swap(forecaster())\n    return {constant}", namespace)
        return namespace["f"]

    def go(constant: float, **more: Any) -> list[float]:
        found = anygate.compare(make(constant), ["tanh"], seeds=2, out=tmp_path, **ERROR, **more)
        return found.scores["tanh"]

    assert go(1.0) == go(1.0) == [1.0, 1.0]
    assert code_digest(make(1.0)) == code_digest(make(1.0)) != code_digest(make(2.0))
    with pytest.raises(StudyConflict, match="other code; same_train=True"):
        go(2.0)
    assert go(2.0, same_train=True) == [1.0, 1.0]
    with pytest.raises(StudyConflict, match="other settings"):
        go(1.0, settings={"size": 3})
    assert go(2.0, fresh=True) == [2.0, 2.0]

    caught: list[BaseException] = []

    def other() -> None:
        try:
            go(2.0, fresh=True)
        except FolderInUse as error:
            caught.append(error)

    with locked(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(caught) == 1 and "is writing results into" in str(caught[0])


def test_ctrl_c_keeps_and_returns_what_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def own(swap: Any, seed: int) -> float:
        calls.append(seed)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return score(swap, seed)

    found = anygate.compare(own, ["tanh", "relu"], seeds=3, out=tmp_path, progress=False)
    assert found.results.present == 3 and "3 of 6 trials present" in found.verdict[0]
    said = capsys.readouterr().err
    assert "interrupted: 3 of 6 trials are done; the same call goes on in" in said
    assert "mean score" in said
    found = anygate.compare(own, ["tanh", "relu"], seeds=3, out=tmp_path, progress=False)
    assert found.results.present == 6 and len(calls) == 7


def test_a_full_disk_still_tells_what_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: Any) -> None:
        if len(list(tmp_path.glob("trials/*.json"))) == 3:
            raise WriteError(f"{path} cannot be written: No space left on device")
        write_json(path, content)

    monkeypatch.setattr("anygate.lab.study.executors.write_json", full)
    with pytest.raises(WriteError, match="No space left"):
        anygate.compare(score, ["tanh", "relu"], seeds=3, out=tmp_path, progress=False)
    assert "3 of 6 trials present" in " ".join(capsys.readouterr().err.split())
    monkeypatch.undo()
    found = anygate.compare(score, ["tanh", "relu"], seeds=3, out=tmp_path, progress=False)
    assert found.results.present == 6


SCRIPT = """
import sys
sys.path.insert(0, sys.argv[2])
import anygate
from test_compare import ERROR, train

if __name__ == "__main__":
    jobs = int(sys.argv[3])
    anygate.compare(train, ["tanh", "relu"], seeds=2, out=sys.argv[1], jobs=jobs, **ERROR)
"""


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((folder / "trials").glob("*.json"))}


@pytest.mark.parametrize("killed_by", [signal.SIGKILL, signal.SIGTERM], ids=lambda s: s.name)
def test_a_killed_comparison_goes_on_within_its_trial_to_the_same_results(
    killed_by: signal.Signals, tmp_path: Path
) -> None:
    anygate.compare(train, ["tanh", "relu"], seeds=2, out=tmp_path / "whole", **ERROR)
    script, folder = tmp_path / "run.py", tmp_path / "killed"
    script.write_text(SCRIPT)
    jobs = "2" if killed_by is signal.SIGTERM else "1"
    command = [sys.executable, str(script), str(folder), str(Path(__file__).parent), jobs]
    process = subprocess.Popen(
        command,
        env=os.environ | {"PAUSE": "0.4"},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(folder.glob("work/*/checkpoint.pt")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(killed_by)
        process.wait(60)
    finally:
        process.kill()
        process.wait()
    end_of_session(process.pid, limit=30)
    assert len(contents(folder)) < 4
    held = list(folder.glob("work/*/checkpoint.pt"))
    assert held  # the trial that was running goes on from here
    anygate.compare(train, ["tanh", "relu"], seeds=2, out=folder, **ERROR)
    assert contents(folder) == contents(tmp_path / "whole")
    assert not list(folder.glob("work/*/checkpoint.pt"))


# ---- scores that exist ------------------------------------------------------------------------


def test_scores_that_exist_are_compared_as_if_they_had_been_run_here() -> None:
    found = anygate.compare(failing, ["tanh", "relu"], seeds=4, **ERROR)
    again = paired({"tanh": [1, 2, 3, 4], "relu": [1, math.nan, math.inf, 4]}, metric="error")
    assert again.scores == found.scores
    assert again.verdict[0].partition(" on ")[0] == found.verdict[0].partition(" on ")[0]
    apart = paired({"a": {5: 0.1, 6: 0.2}, "b": {6: 0.4, 7: 0.3}})
    assert apart.results.paired("b", "a")[0] == [6]
    with pytest.raises(ValueError, match="pairs need one for each seed"):
        paired({"a": [1, 2], "b": [1]})
    assert anygate.lab.statistics.paired is paired
