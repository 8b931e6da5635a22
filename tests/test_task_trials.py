"""Tasks in trials: training, what identifies the data, what is refused, tasks of one's own."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from task_folder import NAMES, fill, spec, task_of

from anygate.formulas import resolve
from anygate.lab.study.plan import Study
from anygate.lab.study.store.folder import StudyConflict
from anygate.lab.study.trial import TESTED_AT_ONCE, Model, TrialSpec, run_trial
from anygate.lab.tasks import (
    ACCURACY,
    FORMS,
    IGNORE,
    MSE,
    SERIES,
    TASKS,
    Data,
    Settings,
    Task,
    TaskError,
    file_task,
    find_task,
)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("data"))


# ---- training -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in NAMES if n not in TASKS or n in FORMS])
def test_a_short_training_runs_and_is_repeatable(name: str, folder: Path) -> None:
    task = task_of(name, folder)
    result, _ = run_trial(spec(task))
    assert result["diverged"] is None and math.isfinite(result["final_metric"])
    assert run_trial(spec(task))[0] == result


def test_training_at_every_step_learns() -> None:
    task = find_task("parity:5")
    result, _ = run_trial(spec(task, hidden_size=8, epochs=10, batch_size=50, learning_rate=0.03))
    assert result["final_metric"] >= 0.99


def test_a_head_at_every_step_is_the_head_after_each_step() -> None:
    task = find_task("parity:6")
    torch.manual_seed(0)
    model = Model(spec(task), 1, every_step=True)
    x = torch.randn(6, 4, 1)
    answers = model(x)
    assert answers.shape == (4, 6, 2)
    model.every_step = False
    for t in range(6):
        torch.testing.assert_close(model(x[: t + 1]), answers[:, t])


def test_many_test_sequences_are_answered_in_parts() -> None:
    model = Model(spec(find_task("parity:4")), 1, every_step=False)
    x = torch.randn(4, TESTED_AT_ONCE + 7, 1)
    with torch.no_grad():
        torch.testing.assert_close(model.answers(x), model(x))


# ---- what identifies the data ---------------------------------------------------------------


def csv_task(path: Path, values: list[float]) -> Task:
    path.write_text("v\n" + "".join(f"{v}\n" for v in values))
    return file_task(str(path))


def test_a_changed_file_is_another_trial_and_another_study(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    values = [math.sin(k) for k in range(60)]
    task = csv_task(path, values)
    same = csv_task(path, values)
    changed = csv_task(path, [*values[:-1], 5.0])
    assert task.data == same.data != changed.data
    assert spec(task).key == spec(same).key != spec(changed).key
    narrow = file_task(str(path), window=5)
    assert spec(narrow).key not in (spec(task).key, spec(changed).key)

    def study(task: Task) -> Study:
        one = spec(task)
        return Study(task, (one.activation,), one.slot, (0,), one.settings)

    study(task).run(tmp_path / "study", jobs=1)
    assert study(same).missing(tmp_path / "study") == ()
    with pytest.raises(StudyConflict, match=r"another task \(data sha256:\w+ .*--fresh"):
        study(changed).run(tmp_path / "study", jobs=1)


def test_trials_of_tasks_without_files_keep_their_keys() -> None:
    """So that results of earlier versions count; those from before settings were renamed (clip ->
    gradient_clip ...) do not."""
    assert find_task("adding").data == "" and "data" not in find_task("adding").describe()
    adding = TrialSpec(find_task("adding"), resolve("tanh"), "activation", 0, Settings())
    assert adding.key == "tanh-seed0-42319d2bcc"


# ---- what is refused ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("addign:7", r"no task is called 'addign:7' \(did you mean adding\?\); there are: digits"),
        ("mnist", r"did you mean mnist:FOLDER\?"),
        ("nothing-like-it", "there are: digits, digits-rows, adding"),
        ("adding:x", "adding:N needs a whole number, not 'x'"),
        ("adding:1", "adding needs 2 or more steps, not 1"),
        ("adding:-5", "needs a whole number"),
        ("adding:99999999", "takes 10000 steps at most"),
        ("adding:" + "9" * 5000, "needs a whole number"),
        ("anbn:19", "20 or more a's"),
        ("reber:49", "50 or more steps"),
        ("chars:/nowhere/book.txt", "there is no file /nowhere/book.txt"),
        ("chars:", "is a folder"),
        ("mnist:/nowhere", "/nowhere is not a folder"),
        ("no_such_module:task", "no module no_such_module in the current directory"),
        ("sys:no_such_name", "sys has no 'no_such_name'"),
        ("math:pi", "must be an anygate.lab.tasks.Task .* not float"),
        ("", "no task is called ''"),
        (":", "no task is called ':'"),
    ],
)
def test_what_does_not_exist_is_refused_in_one_sentence(name: str, said: str) -> None:
    with pytest.raises(TaskError, match=said) as caught:
        find_task(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("which", SERIES)
def test_a_missing_statsmodels_is_named(which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("statsmodels", "statsmodels.datasets", f"statsmodels.datasets.{which}"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(TaskError, match=rf"{which} .*not installed; pip install statsmodels"):
        find_task(which)


def test_a_missing_scikit_learn_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anygate.lab.tasks.find_spec", lambda name: None)
    with pytest.raises(TaskError, match=r"digits needs sklearn, .*pip install 'anygate\[lab\]'"):
        find_task("digits")
    assert find_task("parity").needs == ()


GOOD = Data(
    torch.zeros(3, 4, 2), torch.tensor([0, 1, 1]), torch.zeros(2, 4, 2), torch.tensor([0, 1])
)
EVERY = torch.tensor([[0, IGNORE, 1, 1]] * 3)


def own(data: Any, **changes: Any) -> Task:
    task = Task("mine", "mine", "Mine.", ACCURACY, 0.5, None, 4, 2, lambda seed: data, source="me")
    return replace(task, **changes)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((1, 2), "must return Data, not tuple"),
        (replace(GOOD, train_x=np.zeros((3, 4, 2))), "train_x must be a torch.float32.*ndarray"),
        (replace(GOOD, train_x=GOOD.train_x.double()), "train_x must be .* not torch.float64"),
        (replace(GOOD, test_y=GOOD.test_y.float()), "test_y must be a torch.int64"),
        (replace(GOOD, test_x=torch.zeros(2, 4)), r"test_x must be \[N, T, I\].*not \[2, 4\]"),
        (replace(GOOD, test_x=torch.zeros(2, 4, 0)), "nothing of length 0"),
        (replace(GOOD, train_y=torch.tensor([0, 1])), r"train_y must be .*\[3\] or \[3, 4\]"),
        (replace(GOOD, train_x=GOOD.train_x / 0), "train_x holds numbers that are not finite"),
        (replace(GOOD, train_y=torch.tensor([0, 1, 2])), "from 0 to outputs - 1 = 1, and go .* 2"),
        (replace(GOOD, train_y=torch.tensor([0, 1, -1])), "go from -1 to 1"),
        (replace(GOOD, test_y=torch.tensor([0, IGNORE])), "a sequence of test_y has no step that"),
        (replace(GOOD, train_y=EVERY), r"must both be \[N\], or \[N, T\]"),
        (replace(GOOD, test_x=torch.zeros(2, 4, 1)), "train_x has 2 features, test_x has 1"),
        (replace(GOOD, train_x=torch.zeros(3, 5, 2)), "train_x has 5 steps, the task says steps=4"),
    ],
)
def test_bad_data_of_an_own_task_are_named(data: Any, said: str) -> None:
    assert own(GOOD).load(0) is GOOD
    with pytest.raises(TaskError, match=said):
        own(data).load(0)


def test_infinite_targets_of_values_are_named() -> None:
    data = replace(GOOD, train_y=torch.tensor([0.0, math.inf, 1.0]), test_y=torch.zeros(2))
    with pytest.raises(TaskError, match="train_y holds infinities"):
        own(data, metric=MSE, outputs=1).load(0)


# ---- a task of one's own --------------------------------------------------------------------

OWN = """
import torch
from anygate.lab.tasks import ACCURACY, Data, Settings, Task

def make(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(60, 5, 2, generator=generator)
    y = (x.sum((1, 2)) > 0).long()
    return Data(x[:40], y[:40], x[40:], y[40:])

def build():
    return Task("sign", "sign of a sum", "Say the sign.", ACCURACY, 0.5, 0.9, 5, 2, make,
                Settings(hidden_size=4, epochs=2))

task = build()
class Inside:
    task = task
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", ".")])
    (tmp_path / "my_tasks.py").write_text(OWN)
    return tmp_path


@pytest.mark.parametrize("name", ["task", "build", "Inside.task"])
def test_an_own_task_is_found_in_the_current_directory(here: Path, name: str) -> None:
    task = find_task(f"my_tasks:{name}")
    assert task.name == "sign" and task.data == f"seed 0: {task.load(0).digest}"


def test_another_own_task_of_the_same_name_has_other_keys(here: Path) -> None:
    before = spec(find_task("my_tasks:task")).key
    (here / "my_tasks_two.py").write_text(OWN.replace("> 0)", "> 1)"))
    assert spec(find_task("my_tasks_two:task")).key != before


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_thing", "cannot be imported: No module named 'no_such_thing'"),
        ("task = 1 +", "cannot be imported: invalid syntax"),
        ("task = lambda: 7", "must be an anygate.lab.tasks.Task .* not int"),
    ],
)
def test_an_own_task_that_cannot_be_had_is_explained(here: Path, source: str, said: str) -> None:
    (here / "my_tasks_bad.py").write_text(source)
    with pytest.raises(TaskError, match=said):
        find_task("my_tasks_bad:task")


def test_what_an_own_task_raises_is_shown_as_it_is(here: Path) -> None:
    (here / "my_tasks_odd.py").write_text("def task():\n    return {}['price']\n")
    with pytest.raises(KeyError, match="price"):
        find_task("my_tasks_odd:task")


def test_an_own_task_runs_from_the_command_line_in_several_processes(tmp_path: Path) -> None:
    (tmp_path / "my_tasks.py").write_text(OWN)
    script = "import sys; from anygate.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [
            sys.executable,
            "-P",
            "-c",
            script,
            "compare",
            "tanh",
            "relu",
            "--task",
            "my_tasks:build",
            "--seeds",
            "1",
            "--jobs",
            "2",
            "--out",
            "out",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert "sign of a sum" in done.stdout
    assert len(list((tmp_path / "out" / "trials").glob("*.json"))) == 2
