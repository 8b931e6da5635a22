"""The committed results, as judges and pages read them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from .arms import Arm
from .store import Run, Runs, Store

__all__ = ["COMMITTED", "CONFIRMING", "QUICK_SEEDS", "SEEDS", "Results", "load"]

COMMITTED = Path(__file__).parent / "results"
"""The folder of everything that was measured."""
CONFIRMING = COMMITTED / "confirming.jsonl"
FIRST_SEED = 6100
"""Of the confirming run. Seen before: 0 to 7, 100 to 107, 200 to 239 (results/earlier.json), from a
million on (rates of earlier runs), 5000 (a smoke test), 6000 to 6002 (a start that was given up)
and 9000 to 9017 (calibration)."""
SEEDS = tuple(range(FIRST_SEED, FIRST_SEED + 32))
"""In the order in which they are run."""
QUICK_SEEDS = tuple(range(7000, 7032))
"""Of quick runs, which are no part of the confirming run."""


@dataclass(frozen=True)
class Results:
    """All runs of a store, and the seeds that count, in their order. Raises KeyError where a run
    is asked for that was not made."""

    held: Runs
    seeds: tuple[int, ...] = SEEDS

    def run(self, arm: Arm, seed: int) -> Run:
        """One run."""
        return self.held.runs[arm.name][seed]

    def of(self, arm: Arm) -> tuple[Run, ...]:
        """All runs of an arm, in the order of the seeds."""
        found = self.held.runs.get(arm.name, {})
        return tuple(found[seed] for seed in self.seeds if seed in found)

    def common(self, *arms: Arm) -> tuple[int, ...]:
        """The seeds with which all of these arms ran, from the first one on without a gap, so that
        which seeds count never depends on how a run went."""
        found = []
        for seed in self.seeds:
            if not all(seed in self.held.runs.get(arm.name, {}) for arm in arms):
                break
            found.append(seed)
        return tuple(found)

    @property
    def stretches(self) -> list[dict[str, Any]]:
        """The time, machine and rules of each stretch of runs."""
        return self.held.stretches

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """The names of all arms that ran."""
        return tuple(self.held.runs)

    def settings(self, arm: Arm) -> dict[str, Any]:
        """All settings of an arm, as they were."""
        return self.held.arms[arm.name]

    def diverged(self, arms: Iterable[Arm]) -> tuple[int, int]:
        """The number of runs of these arms that diverged, and of all."""
        runs = [run for arm in arms for run in self.of(arm)]
        return sum(run.diverged is not None for run in runs), len(runs)


def load(path: Path = CONFIRMING, seeds: tuple[int, ...] = SEEDS) -> Results:
    """The results that are committed, or those of another file, of which other seeds count."""
    return Results(Store(path).load(), seeds)
