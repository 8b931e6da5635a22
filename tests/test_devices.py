"""Devices of trials: one that is not here is refused before anything is written, and processes take
several cards in turn. No GPU is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import current_process
from pathlib import Path

import pytest
import torch

from anygate.cli import Exit, main
from anygate.formulas import resolve
from anygate.lab.arms import Arm
from anygate.lab.study import devices
from anygate.lab.study.devices import card_of, device_fault, most_processes, on_card
from anygate.lab.study.executors import in_processes
from anygate.lab.study.plan import Study
from anygate.lab.tasks import Settings, TaskError, find_task

Cards = Callable[[int], None]


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> Cards:
    """Lets torch find so many cards, whatever is here."""
    return lambda count: monkeypatch.setattr(torch.cuda, "device_count", lambda: count)


def study(device: str, *arms: Arm) -> Study:
    settings = Settings(hidden_size=4, epochs=1, batch_size=256, device=device)
    two = (resolve("tanh"), resolve("relu"))
    return Study(find_task("digits-rows"), two, "activation", (0,), settings, arms=arms)


@pytest.mark.parametrize(
    "words",
    [
        ["--device", "cuda"],
        ["--device", "cuda", "--engine", "cuda"],
        ["--device", "cuda", "--dry-run"],
        ["--device", "cuda:7", "--learning-rates", "0.1", "0.2"],
        ["--arm", "mine", "activation=relu", "device=cuda"],
    ],
    ids=lambda words: " ".join(words),
)
def test_without_a_card_the_command_says_so_and_writes_nothing(
    words: list[str], cards: Cards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cards(0)
    out = tmp_path / "out"
    common = ["compare", "tanh", "relu", "--seeds", "1", "--out", str(out), "--task", "digits-rows"]
    assert main([*common, *words]) == Exit.USAGE
    said = capsys.readouterr().err.strip()
    assert said.startswith("anygate: device cuda") and "\n" not in said
    assert "leave device out to train on the CPU" in said
    assert not out.exists()


def test_python_says_so_too(cards: Cards, tmp_path: Path) -> None:
    cards(0)
    with pytest.raises(TaskError, match="device cuda: torch "):
        study("cuda").run(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(TaskError, match="device: cpu, cuda or cuda:1 is needed, not 'gpu'"):
        Settings(device="gpu")


def test_a_card_that_is_not_there_is_named_with_those_that_are(cards: Cards) -> None:
    cards(2)
    assert device_fault("cuda") == device_fault("cuda:1") == device_fault("cpu") == ""
    assert "torch finds cuda:0 to cuda:1 here; take one of these" in device_fault("cuda:2")
    cards(1)
    assert "torch finds only cuda:0 here" in device_fault("cuda:1")


def test_a_study_for_a_cluster_is_described_without_its_device(cards: Cards) -> None:
    """Whoever asks may have no GPU where the nodes have some."""
    cards(0)
    held = study("cuda").describe("")["machine"]
    assert "engine" not in held and held["torch"] == torch.__version__
    assert study("cpu").describe("")["machine"]["engine"]


def test_the_devices_of_a_study_are_those_of_all_its_arms() -> None:
    mine = Arm("mine", {"activation": resolve("relu")}, {"device": "cuda:1"})
    assert study("cpu", mine).devices == ["cpu", "cuda:1"]


# ---- several processes, one card or several ---------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "cores", "count", "wanted"),
    [
        ({"cpu"}, 16, 4, 16),
        ({"cuda"}, 4, 1, 4),  # all share the card
        ({"cuda"}, 64, 1, 8),
        ({"cuda"}, 64, 4, 32),
        ({"cuda:0", "cpu"}, 64, 4, 8),
        ({"cuda:0", "cuda:2"}, 64, 4, 16),
        ({"cuda"}, 16, 0, 1),
    ],
)
def test_how_many_processes(asked: set[str], cores: int, count: int, wanted: int) -> None:
    assert most_processes(asked, cores, count) == wanted


def test_workers_take_the_cards_in_turn() -> None:
    names = [f"LokyProcess-{k}" for k in range(1, 7)]
    assert [card_of(name, 3) for name in names] == [1, 2, 0, 1, 2, 0]
    assert {card_of(name, 1) for name in names} == {0}
    assert card_of("MainProcess", 3) is None and card_of(names[0], 0) is None


def _name() -> str:
    return current_process().name


def test_worker_processes_are_numbered() -> None:
    names = set(in_processes(_name, [()] * 4, 2))
    assert names and all(card_of(name, 2) in (0, 1) for name in names)


def test_inside_a_trial_cuda_is_the_card_of_its_process(
    cards: Cards, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered: list[int] = []

    @contextmanager
    def device(card: int) -> Iterator[None]:
        entered.append(card)
        yield

    class Worker:
        name = "LokyProcess-4"

    cards(3)
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(devices, "current_process", Worker)
    for asked in ("cpu", "cuda:2"):  # these say where
        with on_card(asked):
            pass
    assert entered == []
    with on_card("cuda"):
        pass
    assert entered == [1]
