"""Results made by hand for the tests of the studies: every arm that is asked for, with the epochs
until the level, the divergences and the failures that a test wants."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from studies.arms import Arm
from studies.results import SEEDS, Results
from studies.store import Run, Runs

Reached = Callable[[Arm, int], int | None]
"""The epoch in which an arm reached its level with the seed of this place; None if never."""


def results(
    arms: Iterable[Arm],
    reached: Reached,
    *,
    diverged: Callable[[Arm, int], bool] = lambda arm, place: False,
    seeds: int = 16,
) -> Results:
    """Results with the first so many seeds."""
    held = Runs()
    for arm in arms:
        held.arms[arm.name] = {}
        for place, seed in enumerate(SEEDS[:seeds]):
            bad = 1 if diverged(arm, place) else None
            at = reached(arm, place)
            run = Run(arm.name, seed, at, bad, 0.5, (0.5,), 1.0, 0)
            held.runs.setdefault(arm.name, {})[seed] = run
    return Results(held)


def around(epochs: float, place: int, spread: float = 0.08) -> int:
    """Epochs that scatter from seed to seed, the same in every test."""
    return max(1, round(epochs * float(np.exp(np.random.default_rng(place).normal(0, spread)))))
