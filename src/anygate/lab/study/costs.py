"""The time of a training step of each activation, measured in a run of its own: step by step in
turn, in one thread, so that what else the machine does meets all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .devices import device_fault
from .machine import machine
from .plan import Study
from .store.files import SCHEMA, StudyError, read, write_json
from .store.results import steps_path
from .store.schema import StepTimes
from .trial import one_thread, seeded, steps_of

__all__ = ["alternated", "measure_costs"]

ROUNDS = 8
"""Ratios of times are taken in each round on its own: so many show how far to trust them."""
_SECONDS = 0.1
"""A round's time for one activation, of at least one step and at most _MOST."""
_MOST = 10


def measure_costs(study: Study, directory: Path) -> None:
    """Measures and writes what is not there yet, and again where the clock was disturbed. A study
    of one activation has nothing to compare; one whose device is not here, but on a cluster, has
    no clock to measure by."""
    path = steps_path(directory)
    if any(map(device_fault, study.devices)):
        return
    if len(study.labels) < 2 or _known(path, study.labels):
        return
    trials = {t.label: t for t in replace(study, seeds=study.seeds[:1], log=None).trials}
    with one_thread(), seeded(study.seeds[0], study.settings.device):
        steps = {label: steps_of(trial) for label, trial in trials.items()}
        found = alternated(steps)
    content = {
        "schema": SCHEMA,
        "seconds": found,
        "machine": machine(study.settings.engine, study.settings.device),
    }
    write_json(path, content)


def alternated(
    steps: dict[str, Callable[[], Any]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """For each name the seconds of the shortest call in each round: what else the machine does only
    adds to them. In a round all are called in turn, several times; a first call of each is not
    counted."""

    def seconds(step: Callable[[], Any]) -> float:
        begun = clock()
        step()
        return clock() - begun

    for step in steps.values():
        step()
    slowest = max(seconds(step) for step in steps.values())
    calls = max(1, min(_MOST, int(_SECONDS / max(slowest, 1e-9))))
    found: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for _ in range(ROUNDS):
        times: dict[str, list[float]] = {name: [] for name in steps}
        for k in range(calls):
            for name in names[k % len(names) :] + names[: k % len(names)]:
                times[name].append(seconds(steps[name]))
        for name, own in times.items():
            found[name].append(min(own))
    return found


def _known(path: Path, labels: Sequence[str]) -> bool:
    """True if the file is sound, has all of them and was not disturbed."""
    try:
        held = read(path, StepTimes) if path.exists() else None
    except StudyError:
        return False
    return held is not None and set(labels) <= held.seconds.keys() and held.steady
