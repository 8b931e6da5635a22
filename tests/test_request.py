"""The settings of compare: the command line over the file over the defaults, and mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from anygate.cli import Exit, main, parser
from anygate.cli.base import UsageError
from anygate.cli.request import merged, read_config
from anygate.lab.tasks import Settings


def request_of(*arguments: str) -> object:
    return merged(parser().parse_args(["compare", *arguments]))


def test_the_command_line_counts_more_than_the_file_and_the_file_more_than_the_defaults(
    tmp_path: Path,
) -> None:
    path = tmp_path / "study.toml"
    path.write_text(
        'activations = ["tanh", "relu"]\ntask = "adding"\nseeds = 3\nhidden_size = 5\n'
        "learning-rates = [1, 0.1]\n"
    )
    found = vars(request_of("--config", str(path), "--seeds", "4", "--epochs", "2"))
    assert found["activations"] == ["tanh", "relu"] and found["task"] == ["adding"]
    assert (found["seeds"], found["hidden_size"], found["epochs"]) == (4, 5, 2)
    assert found["learning_rates"] == [1.0, 0.1] and found["slot"] == ["activation"]
    assert (found["tuning_seeds"], found["executor"], found["jobs"]) == (3, "local", None)
    assert vars(request_of("elu", "--config", str(path)))["activations"] == ["elu"]
    # A data file on the command line takes the place of the file's task, and the other way round.
    assert vars(request_of("--config", str(path), "--data", "x.csv"))["task"] is None
    path.write_text('activations = "tanh"\ndata = "x.csv"\ntarget = "price"\n')
    found = vars(request_of("--config", str(path), "--task", "digits"))
    assert found["task"] == ["digits"] and found["data"] is found["target"] is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("epocs = 3", "epocs is no key of a study (did you mean epochs?); there are: activations"),
        ("colour = 3", "colour is no key of a study; there are: activations, slot, task"),
        ("seeds = 8 8", "is not TOML: "),
        ("task = adding", "text stands in quotes"),
        ('seeds = "8"', "without quotes is needed, not '8'"),
        ("seeds = 0", "seeds: a whole number from 1 to 1,000 without quotes is needed, not 0"),
        ("seeds = 2.5", "from 1 to 1,000 without quotes is needed, not 2.5"),
        ("seeds = true", "without quotes is needed, not True"),
        ("seeds = [1, 2]", "without quotes is needed, not a list"),
        ("gradient-clip = inf", "gradient-clip: a number without quotes is needed, not inf"),
        ("margin = 0.0", "margin: a number above 0 without quotes is needed"),
        ("task = 5", "task: one line of text in quotes is needed, not 5"),
        ('task = ["adding", 5]', "task: one line of text in quotes is needed, not 5"),
        ("slot = []", "slot: the list is empty"),
        ("data = [5]", "data: one line of text in quotes is needed, not 5"),
        ('executor = "slurm"', "executor: one of local, ray, dask is needed, not 'slurm'"),
        ("[settings]\nepochs = 3", "[settings] is a table; all keys stand at the top"),
        ("learning-rate = 1\nlearning_rate = 1", "learning_rate is given twice, with - and with _"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_names_the_key(
    content: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.toml"
    path.write_text(content)
    assert main(["compare", "tanh", "--config", str(path)]) == Exit.USAGE
    error = capsys.readouterr().err
    assert said in error and error.startswith(f"anygate: {path}") and error.count("\n") == 1


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "no.toml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=f"{path} cannot be read: {said}"):
            read_config(path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"bytes\.toml is not TOML"):
        read_config(tmp_path / "bytes.toml")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no activation is given"),
        (["--task", "adding", "tanh", "relu"], "they come first, before options"),
        (["tanh", "--learning-rates", "0.1"], "needs two values of learning-rate or more"),
        (["tanh", "--learning-rates", "0.1", "-0.2"], "learning_rate must be positive, not -0.2"),
        (["tanh", "--task", "adding", "adding"], "adding is given twice for the slot activation"),
        (["tanh", "--task", "adding", "nothing"], "no task is called 'nothing'"),
        (["tanh", "--slot", "candidate", "gate"], "no slot is called 'gate'"),
        (["tanh", "--address", "here:1"], "say which kind with --executor ray or dask"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *arguments]) == Exit.USAGE
    error = capsys.readouterr().err
    assert said in error and error.startswith("anygate: ") and error.count("\n") == 1


@pytest.mark.parametrize(("executor", "package"), [("ray", "ray"), ("dask", "distributed")])
def test_an_executor_that_is_not_installed_is_named_with_its_remedy(
    executor: str,
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(
        "anygate.lab.study.executors.find_spec", lambda name: None if name == package else object()
    )
    words = ["compare", "tanh", "--executor", executor, "--out", str(tmp_path / "o")]
    assert main(words) == Exit.USAGE
    error = capsys.readouterr().err
    assert f"needs {package}, which is not installed; pip install 'anygate[cluster]'" in error
    assert not list((tmp_path / "o").rglob("trials"))


def test_an_engine_that_is_unknown_is_refused_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study.toml").write_text('activations = "tanh"\nengine = "warp"\n')
    words = ["compare", "--config", str(tmp_path / "study.toml"), "--out", str(tmp_path / "o")]
    assert main(words) == Exit.USAGE
    assert "no engine is called 'warp'" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_the_usual_engine_leaves_the_keys_of_earlier_trials_alone() -> None:
    assert "engine" not in Settings().describe()
    assert Settings(engine="eager").describe()["engine"] == "eager"
