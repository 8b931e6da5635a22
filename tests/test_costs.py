"""The cost of a training step: measured in turn, in a run of its own, or not told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from anygate import resolve
from anygate.lab.findings.cost import cost_sentences, costs
from anygate.lab.study.costs import ROUNDS, alternated, measure_costs
from anygate.lab.study.plan import Study
from anygate.lab.study.store.results import load, steps_path
from anygate.lab.tasks import Settings, find_task


class Clock:
    """A time that only the steps move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.called: list[str] = []

    def __call__(self) -> float:
        return self.now

    def step(self, name: str, seconds: float) -> Any:
        def run() -> None:
            self.called.append(name)
            self.now += seconds * (3.0 if len(self.called) <= 2 else 1.0)

        return run


def test_steps_are_called_in_turn_and_the_first_does_not_count() -> None:
    clock = Clock()
    found = alternated({"a": clock.step("a", 0.02), "b": clock.step("b", 0.04)}, clock)
    assert found == {"a": pytest.approx([0.02] * ROUNDS), "b": pytest.approx([0.04] * ROUNDS)}
    pairs = [set(clock.called[k : k + 2]) for k in range(0, len(clock.called), 2)]
    assert all(pair == {"a", "b"} for pair in pairs) and len(pairs) == 2 + 2 * ROUNDS


def study(*names: str) -> Study:
    settings = Settings(hidden_size=4, epochs=1, batch_size=64)
    task = find_task("adding")
    return Study(task, tuple(map(resolve, names)), "activation", (0, 1), settings)


def test_of_a_study(tmp_path: Path) -> None:
    """Written once; told after it is there, and never from the trials' own clocks."""
    plan = study("tanh", "relu")
    plan.run(tmp_path, jobs=1)
    assert cost_sentences(load(tmp_path)) == ["The time of a training step was not measured."]
    measure_costs(plan, tmp_path)
    before = steps_path(tmp_path).read_bytes()
    held = json.loads(before)
    held["seconds"] = {"tanh": [1.0] * ROUNDS, "relu": [2.0] * ROUNDS}
    steps_path(tmp_path).write_text(json.dumps(held))
    before = steps_path(tmp_path).read_bytes()
    assert {n: len(t) for n, t in held["seconds"].items()} == {"tanh": ROUNDS, "relu": ROUNDS}
    measure_costs(plan, tmp_path)
    assert steps_path(tmp_path).read_bytes() == before
    results = replace(load(tmp_path), costs={"tanh": [1.0, 1.1], "relu": [2.0, 2.2]})
    assert costs(results)[0].ratio == pytest.approx(2.0)
    assert "measured in turn: relu 2.00 times" in cost_sentences(results)[0]
    held["seconds"]["relu"][3] = 5.0  # another process took the processor: measured again
    steps_path(tmp_path).write_text(json.dumps(held))
    measure_costs(plan, tmp_path)
    assert json.loads(steps_path(tmp_path).read_text())["seconds"]["relu"][3] < 5.0
    measure_costs(study("tanh", "relu", "sin"), tmp_path)
    assert set(json.loads(steps_path(tmp_path).read_text())["seconds"]) == {"tanh", "relu", "sine"}


def test_one_activation_has_nothing_to_compare(tmp_path: Path) -> None:
    measure_costs(study("tanh"), tmp_path)
    assert not steps_path(tmp_path).exists()
