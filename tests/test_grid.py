"""Several studies as one, and learning rates tuned: from the command line and from a TOML file."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from anygate.cli import Exit, main
from anygate.formulas import resolve
from anygate.lab.arms import Arm
from anygate.lab.findings.verdict import judge
from anygate.lab.study import outlook as module
from anygate.lab.study.grid import claim_grid, grid_folders, place, run_studies
from anygate.lab.study.outlook import STEPS, outlook, trial_seconds
from anygate.lab.study.plan import Study
from anygate.lab.study.store.files import StudyError, checked
from anygate.lab.study.store.folder import StudyConflict
from anygate.lab.study.store.results import StudyResults, load
from anygate.lab.study.store.schema import LearningRates
from anygate.lab.study.trial import TrialSpec
from anygate.lab.study.tuning import FIRST_SEED, TunedStudy, tuning_seeds
from anygate.lab.tasks import Settings, find_task

SMALL = Settings(hidden_size=4, epochs=1, batch_size=64)
TWO = (resolve("tanh"), resolve("relu"))


def study(name: str = "digits-rows", seeds: int = 2) -> Study:
    return Study(find_task(name), TWO, "candidate", tuple(range(seeds)), SMALL)


def tuned(rates: tuple[float, ...] = (1e-6, 0.02), **settings: float) -> TunedStudy:
    """A study whose best rate is 0.02 for all, and the shared rate 1e-6."""
    base = replace(study(), settings=replace(SMALL, learning_rate=1e-6, **settings))
    return TunedStudy(base, rates, tuning_seeds(1), given=True)


def files_in(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("trials/*")}


# ---- a tuned study --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tuned study of two activations, all of it."""
    directory = tmp_path_factory.mktemp("tuned") / "study"
    run_studies({directory: tuned()}, command="anygate compare tanh relu", jobs=1)
    return directory


def test_a_tuned_study_compares_at_the_shared_rate_and_at_own_rates(finished: Path) -> None:
    results = load(finished)
    assert results.own is not None and results.present == results.own.present == 4
    assert results.config.settings["learning_rate"] == 1e-6
    assert results.own.config.settings["learning_rate"] == "tanh 0.02, relu 0.02"
    chosen = results.config.learning_rates
    assert chosen is not None and chosen.shared == 1e-6 and chosen.given
    assert chosen.tuned["tanh"].edge == "highest" and set(chosen.tuned) == {"tanh", "relu"}
    assert checked(chosen.describe(), LearningRates) == chosen
    # Each result is that of the study at its rate, whoever asks for it.
    for rate, found in ((1e-6, results), (0.02, results.own)):
        for path in (finished / "rates" / repr(rate) / "trials").iterdir():
            raw = json.loads(path.read_text())
            trial = found.trial(raw["activation"], raw["seed"])
            assert trial is not None and trial.final_metric == raw["final_metric"]
    assert results.final("tanh").mean() < results.own.final("tanh").mean()


def test_at_own_rates_each_activation_is_read_from_the_folder_of_its_rate(
    finished: Path, tmp_path: Path
) -> None:
    """tanh best at the shared rate, whose folder holds relu as well."""
    directory = tmp_path / "s"
    shutil.copytree(finished, directory)
    raw = json.loads((directory / "study.json").read_text())
    raw["learning_rates"]["tuned"]["tanh"]["rate"] = 1e-6
    (directory / "study.json").write_text(json.dumps(raw))
    before, results = load(finished), load(directory)
    assert before.own is not None and results.own is not None and results.own.ignored == 0
    for found, wanted in ((results, before), (results.own, before.own)):
        assert list(found.final("relu")) == list(wanted.final("relu"))
    assert list(results.own.final("tanh")) == list(before.final("tanh"))
    wanted = {k: timing for k, timing in before.own.timings.items() if k.startswith("relu")}
    assert wanted and wanted.items() <= results.own.timings.items()


def test_tuning_and_comparison_share_no_seed(finished: Path) -> None:
    seeds = {
        part: {json.loads(p.read_text())["seed"] for p in (finished / part).rglob("trials/*")}
        for part in ("tuning", "rates")
    }
    assert seeds == {"tuning": {FIRST_SEED}, "rates": {0, 1}}
    with pytest.raises(ValueError, match="must be none of those that compare"):
        replace(tuned(), seeds=(1, 2))


def test_the_verdict_says_which_rate_each_got_and_where_the_grid_ends(finished: Path) -> None:
    results = load(finished)
    found = judge(results)
    assert results.own is not None
    shared = found.answer.index("At one learning rate for all, 1e-06 (as given):")
    own = found.answer.index("At each one's own best rate (tanh 0.02 and relu 0.02):")
    assert shared == 0 and found.answer[own + 1 :] == judge(results.own).answer
    rates = " ".join(found.tuning)
    assert "among 1e-06 and 0.02, by the accuracy over 1 seed that no comparison uses" in rates
    assert "The best rates of tanh and relu are the highest of the grid: the grid ends" in rates
    assert "error rate of 5% is that of each" in rates
    assert all(s.startswith("At own rates: ") for s in found.own) and found.own
    assert not any("A rate shared by all suits" in s for s in found.caveats)


def test_another_setting_is_told_by_its_name(finished: Path) -> None:
    """No sentence speaks of rates where the gradient's clip was tuned."""
    results = load(finished)
    chosen = results.config.learning_rates
    assert chosen is not None and results.own is not None
    clips = replace(chosen, setting="gradient_clip")

    def retold(part: StudyResults) -> StudyResults:
        settings = dict(part.config.settings)
        settings["gradient_clip"] = settings.pop("learning_rate")
        return replace(part, config=replace(part.config, settings=settings, learning_rates=clips))

    own = retold(results.own)
    found = judge(replace(retold(results), own=own))
    assert all(s.startswith("At own values of the gradient clip: ") for s in found.own)
    assert (
        found.own
        and "At each one's own best gradient clip (tanh 0.02 and relu 0.02):" in found.answer
    )
    told = " ".join([*found.answer, *found.tuning, *found.own])
    assert "at the shared gradient clip and that at own values of the gradient clip are" in told
    assert not re.search(r"(own|best|shared|learning) rate", told)
    # The rate was one for all, which it is not where it is what was tuned.
    assert any("A rate shared by all suits" in s for s in found.caveats)


def test_an_arm_that_sets_what_is_tuned_keeps_its_value(tmp_path: Path) -> None:
    """It is compared once, at its own value, in both comparisons."""
    base = tuned()
    mine = Arm("mine", {"candidate": resolve("softsign")}, {"learning_rate": 0.01})
    each = replace(base, study=replace(base.study, arms=(mine,)))
    parts = [(p.name, p.trials) for p in outlook(tmp_path / "s", each)]
    assert parts == [("tuning", 5), ("at the shared rate", 6), ("at own rates", 4)]
    run_studies({tmp_path / "s": each}, jobs=1)
    assert sorted(p.name for p in (tmp_path / "s" / "rates").iterdir()) == ["0.02", "1e-06"]
    results = load(tmp_path / "s")
    assert results.own is not None and results.present == results.own.present == 6
    for seed in (0, 1):
        trial = results.trial("mine", seed)
        assert trial is not None and trial == results.own.trial("mine", seed)
        assert trial.settings["learning_rate"] == 0.01
    assert results.own.config.settings["learning_rate"] == "tanh 0.02, relu 0.02, mine 0.01"
    said = " ".join(judge(results).tuning)
    assert "For mine nothing was tuned: its value is the one that the arm sets." in said
    assert "The best rates of tanh and relu are the highest of the grid" in said


def test_with_no_rate_given_the_shared_one_is_the_best_of_the_first(tmp_path: Path) -> None:
    each = replace(tuned(), given=False)
    run_studies({tmp_path / "s": each}, jobs=1)
    results = load(tmp_path / "s")
    chosen = results.config.learning_rates
    assert chosen is not None and chosen.shared == chosen.tuned["tanh"].rate == 0.02
    assert results.own is None  # relu's best is the same
    assert judge(results).answer[0] == "All at 0.02, the best learning rate for each:"
    assert sorted(p.name for p in (tmp_path / "s" / "rates").iterdir()) == ["0.02"]


def test_a_wider_grid_keeps_what_is_done_and_an_untuned_study_is_refused(
    finished: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "s"
    run_studies({directory: tuned()}, jobs=1)
    before = {p: p.stat().st_mtime_ns for p in directory.rglob("trials/*")}
    wider = tuned(rates=(1e-6, 0.02, 1e-5))
    assert [p.trials - p.done for p in outlook(directory, wider)] == [2, 4, 4]
    wider.prepare(directory)
    with pytest.raises(StudyError, match="not chosen yet; run the same `anygate compare` again"):
        load(directory)
    run_studies({directory: wider}, jobs=1)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(list(directory.rglob("trials/*"))) == len(before) + 2
    with pytest.raises(StudyConflict, match="other settings"):
        study().run(directory, jobs=1)
    with pytest.raises(StudyConflict, match=r"epochs 1 there, 2 here"):
        tuned(epochs=2).prepare(directory)
    study().run(directory, jobs=1, fresh=True)
    assert sorted(p.name for p in directory.iterdir()) == ["study.json", "timing", "trials"]


def test_a_damaged_choice_is_named(tmp_path: Path, finished: Path) -> None:
    raw = json.loads((finished / "study.json").read_text())
    raw["learning_rates"]["tuned"]["tanh"]["rate"] = 0.5
    (tmp_path / "study.json").write_text(json.dumps(raw))
    with pytest.raises(StudyError, match=r"the best rate 0\.5 is none of those tried"):
        load(tmp_path)


def test_the_results_of_an_untuned_study_are_what_they_were(tmp_path: Path) -> None:
    study(seeds=1).run(tmp_path / "s", jobs=1)
    assert "learning_rates" not in json.loads((tmp_path / "s" / "study.json").read_text())
    results = load(tmp_path / "s")
    assert results.own is None and judge(results).tuning == judge(results).own == []


@pytest.mark.parametrize("rates", [(), (0.1,), (0.1, 0.1)])
def test_one_rate_is_no_grid(rates: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="two values of learning-rate or more"):
        tuned(rates=rates)


# ---- a grid ---------------------------------------------------------------------------------


def test_a_grid_has_a_folder_for_each_task_and_slot(tmp_path: Path) -> None:
    studies = [
        replace(study(name), slot=slot)
        for name in ("digits-rows", "adding:5")
        for slot in ("candidate", "forget_gate")
    ]
    placed = place(tmp_path / "g", studies)
    assert [f.name for f in placed] == [
        "digits-rows-candidate",
        "digits-rows-forget_gate",
        "adding-5-candidate",
        "adding-5-forget_gate",
    ]
    claim_grid(tmp_path / "g", list(placed), "anygate compare")
    assert grid_folders(tmp_path / "g") == list(placed)
    assert place(tmp_path, studies[:1]) == {tmp_path: studies[0]}
    with pytest.raises(ValueError, match="adding:5 is given twice for the slot candidate"):
        place(tmp_path, [studies[2], studies[2]])


@pytest.mark.parametrize(
    ("name", "said"),
    [("study.json", "holds a single study, this is a grid of 2"), ("thesis.tex", "not empty")],
)
def test_a_grid_does_not_touch_what_is_not_its_own(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(StudyConflict, match=said):
        claim_grid(tmp_path, [tmp_path / "a", tmp_path / "b"], "")
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("content", ["{", '{"schema": 1}', '{"schema": 1, "studies": ["../x"]}'])
def test_a_damaged_grid_is_named_and_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "grid.json").write_text(content)
    with pytest.raises(StudyError, match=r"grid\.json is damaged: .*run the same"):
        grid_folders(tmp_path)
    claim_grid(tmp_path, [tmp_path / "a"], "")
    assert grid_folders(tmp_path) == [tmp_path / "a"]


CONFIG = """
activations = ["tanh", "relu"]
task = ["digits-rows", "adding:5"]
slot = "candidate"
seeds = 1
learning-rates = [1e-6, 0.02]
learning-rate = 1e-6
tuning-seeds = 1
epochs = 1
hidden-size = 4
batch-size = 256
"""


def test_a_grid_from_a_file_to_its_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Rendering the figures takes most of the time; test_report.py does it.
    monkeypatch.setattr("anygate.lab.report.export.save_figures", lambda figures, directory: None)
    (tmp_path / "study.toml").write_text(CONFIG)
    assert main(["compare", "--config", "study.toml", "--dry-run"]) == Exit.DONE
    text = capsys.readouterr().out
    assert re.search(r"^At most 16 trials left: at most about \d+ \w+ in \d", text, re.MULTILINE)
    assert not (tmp_path / "runs").exists()
    assert main(["compare", "--config", "study.toml", "--jobs", "1"]) == Exit.DONE
    out = capsys.readouterr().out
    assert "at each one's own learning rate:" in out
    (grid,) = (tmp_path / "runs").iterdir()
    assert f"report: runs/{grid.name}/index.html" in out
    index = (grid / "index.html").read_text(encoding="utf-8")
    pages = list(dict.fromkeys(re.findall(r'href="([^"#]+\.html)"', index)))
    assert len(pages) == 2 and all((grid / page).is_file() for page in pages)
    own = (grid / pages[0]).read_text(encoding="utf-8")
    assert (
        "own/report.html" in own and (grid / pages[0]).parent.joinpath("own/report.html").exists()
    )
    summary = json.loads((grid / "summary.json").read_text())
    assert [s["task"]["name"] for s in summary["studies"]] == ["digits-rows", "adding:5"]
    first = summary["studies"][0]
    assert first["learning_rates"]["shared"] == 1e-6
    assert first["at_own_rates"]["trials"] == {"present": 2, "expected": 2}
    # The command that is kept says all, without the file; run again, it finds everything done.
    (tmp_path / "study.toml").unlink()
    command = shlex.split(summary["command"])
    before = {p: p.stat().st_mtime_ns for p in grid.rglob("trials/*")}
    assert main([*command[1:], "--dry-run", "--json"]) == Exit.DONE
    assert json.loads(capsys.readouterr().out)["estimated_seconds"] == 0
    assert main(["report", str(grid), "--json"]) == Exit.DONE
    assert json.loads(capsys.readouterr().out) == summary
    assert {p: p.stat().st_mtime_ns for p in grid.rglob("trials/*")} == before


def test_an_unfinished_study_of_a_grid_is_named_on_its_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped in the tuning of the second study: the first has a report."""
    placed = place(tmp_path / "g", [study(seeds=1), replace(tuned(), study=study("adding:5"))])
    claim_grid(tmp_path / "g", list(placed), "anygate compare")
    first, second = placed
    placed[first].prepare(first)
    placed[second].prepare(second)
    assert main(["report", str(tmp_path / "g")]) == Exit.DONE
    assert "the best learning rate of each activation is not chosen yet" in capsys.readouterr().err
    page = (tmp_path / "g" / "index.html").read_text(encoding="utf-8")
    assert "Not finished" in page and "0 of 2 trials present" in page


# ---- stopped --------------------------------------------------------------------------------

GRID = [
    "tanh",
    "relu",
    "--task",
    "digits-rows",
    "adding:5",
    "--slot",
    "candidate",
    "--seeds",
    "2",
    "--learning-rates",
    "1e-06",
    "0.02",
    "--tuning-seeds",
    "1",
    "--epochs",
    "2",
    "--hidden-size",
    "4",
    "--batch-size",
    "64",
]


@pytest.mark.parametrize("part", ["tuning", "rates"])
def test_a_grid_killed_in_either_part_resumes_and_gives_the_same_files(
    tmp_path: Path, part: str
) -> None:
    """kill -9 while it tunes or while it compares, then the same command again."""
    broken = tmp_path / "broken"
    command = [sys.executable, "-m", "anygate", "compare", *GRID, "--jobs", "1"]
    process = subprocess.Popen(
        [*command, "--out", str(broken)],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(broken.glob(f"*/{part}/**/trials/*.json")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    kept = {p: p.stat().st_mtime_ns for p in broken.rglob("trials/*.json")}
    assert 1 <= len(kept) < 16
    grids = {}
    for directory in (broken, tmp_path / "whole"):
        placed = place(directory, [_like_the_command(n) for n in ("digits-rows", "adding:5")])
        run_studies(placed, jobs=1)
        grids[directory.name] = files_in(directory)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept  # not run again
    assert grids["broken"] == grids["whole"] and len(grids["whole"]) >= 16


def _like_the_command(name: str) -> TunedStudy:
    settings = replace(find_task(name).settings, hidden_size=4, epochs=2, batch_size=64)
    base = Study(find_task(name), TWO, "candidate", (0, 1), settings)
    return TunedStudy(base, (1e-6, 0.02), tuning_seeds(1))


def test_ctrl_c_says_the_command_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("anygate.lab.study.executors.run_one", stop)
    out = str(tmp_path / "g")
    assert main(["compare", *GRID, "--jobs", "1", "--out", out]) == Exit.INTERRUPTED
    error = capsys.readouterr().err
    assert "0 of at most 20 trials are kept" in error
    said = re.search(r"^  (anygate compare .*)$", error, re.MULTILINE)
    assert said is not None
    monkeypatch.undo()
    words = shlex.split(said[1])
    assert words[-4:] == ["--out", out, "--jobs", "1"]
    assert main([*words[1:], "--dry-run"]) == Exit.DONE
    assert "At most 20 trials left" in capsys.readouterr().out


# ---- the estimate ---------------------------------------------------------------------------


def test_the_estimate_counts_steps_tests_and_what_is_once_a_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a trial that takes 3 s once, 0.1 s a step and 1 ms a test sequence."""
    seen: list[int] = []

    def trial(spec: TrialSpec) -> tuple[dict[str, object], dict[str, object]]:
        data = spec.task.load(0)
        steps = -(-len(data.train_y) // spec.settings.batch_size)
        seen.append(steps)
        epoch = 0.1 * steps + 0.001 * len(data.test_y)
        return {}, {"seconds_total": 3 + spec.settings.epochs * epoch, "seconds_per_step": 0.1}

    monkeypatch.setattr(module, "run_trial", trial)
    spec = TrialSpec(find_task("adding:5"), TWO[0], "candidate", 0, replace(SMALL, epochs=7))
    data = spec.task.load(0)
    steps = -(-len(data.train_y) // 64)
    wanted = 3 + 7 * (0.1 * steps + 0.001 * len(data.test_y))
    assert trial_seconds(spec) == pytest.approx(wanted, rel=0.05)  # loading takes its time too
    assert set(seen) == {STEPS} and steps > STEPS


def test_the_outlook_knows_what_is_open_and_what_is_done(tmp_path: Path) -> None:
    each = replace(tuned(), given=False)
    parts = outlook(tmp_path / "s", each)
    assert [(p.name, p.trials, p.done, p.open) for p in parts] == [
        ("tuning", 4, 0, False),
        ("at the shared rate", 4, 0, True),
        ("at own rates", 2, 0, True),
    ]
    run_studies({tmp_path / "s": each}, jobs=1)
    assert [(p.name, p.trials, p.done, p.open) for p in outlook(tmp_path / "s", each)] == [
        ("tuning", 4, 4, False),
        ("at the shared rate", 4, 4, False),
    ]
    assert [p.done for p in outlook(tmp_path / "s", each, fresh=True)] == [0, 0, 0]
    assert [(p.name, p.trials) for p in outlook(tmp_path / "x", study())] == [("training", 4)]
