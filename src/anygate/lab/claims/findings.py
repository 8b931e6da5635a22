"""What was measured, as judges read it: runs by arm, and the numbers of the other experiments.

One JSON document holds it all (results.json, committed as docs/claims.json): what the verdicts and
the page are made of, and nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..statistics import Array, CensoredTimes
from ..study.store.files import StudyError
from .grid import SCALES, Arm, Scale

__all__ = ["SCHEMA", "Findings", "Run", "load"]

SCHEMA = 1


@dataclass(frozen=True)
class Run:
    """One trial. final: the metric, the baseline's if it diverged. solved_at: the first epoch at
    the solved level, None if it never was or diverged. diverged: the training step, None if it
    did not. max_cell: largest |c| in the last epoch. saturated, dead: slot -> share there (see
    lab/measure.py). after: what was measured on the trained model (see flow.py)."""

    seed: int
    final: float
    solved_at: int | None = None
    diverged: int | None = None
    max_cell: float | None = None
    saturated: Mapping[str, float] = field(default_factory=dict)
    dead: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Findings:
    """scale; runs: arm name -> its runs; rates: name of an own-rate arm -> the rate; experiments:
    name -> its numbers; about: command, machine, seconds."""

    scale: Scale
    runs: Mapping[str, Sequence[Run]]
    rates: Mapping[str, float] = field(default_factory=dict)
    experiments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def of(self, arm: Arm) -> Sequence[Run]:
        """The runs of an arm by seed; none if it was not trained. An arm whose own best rate is
        the shared one has the runs of that."""
        found = self.runs.get(arm.name)
        if found is None and arm.rate == "own" and self.rates.get(arm.name) == self.shared(arm):
            found = self.runs.get(arm.shared.name)
        return sorted(found or (), key=lambda run: run.seed)

    def shared(self, arm: Arm) -> float:
        """The learning rate that all arms of this task share."""
        rate = dict(arm.changes).get("learning_rate")
        return float(rate or self.scale.setups[arm.task].make().settings.learning_rate)

    def loss(self, arm: Arm) -> dict[int, float]:
        """Seed -> what contrasts compare, less being better: the share of the epochs until solved,
        or the error; a diverged run counts as never solving, and as guessing."""
        setup = self.scale.setups[arm.task]
        if setup.measure == "time":
            epochs = self.epochs(arm)
            return {
                run.seed: 1.0 if run.solved_at is None else run.solved_at / epochs
                for run in self.of(arm)
            }
        return {run.seed: 1.0 - run.final for run in self.of(arm)}

    def epochs(self, arm: Arm) -> int:
        """How long its runs last."""
        given = dict(arm.changes).get("epochs")
        return int(given or self.scale.setups[arm.task].epochs)

    def times(self, arm: Arm) -> CensoredTimes | None:
        """The epochs until solved; None without runs."""
        runs, epochs = self.of(arm), self.epochs(arm)
        if not runs:
            return None
        solved = tuple(run.solved_at is not None for run in runs)
        times = tuple(_time(run, epochs) for run in runs)
        return CensoredTimes(times, solved)

    def solved(self, arm: Arm) -> int:
        """How many runs were ever at the solved level."""
        return sum(run.solved_at is not None for run in self.of(arm))

    def diverged(self, arm: Arm) -> int:
        """How many runs diverged."""
        return sum(run.diverged is not None for run in self.of(arm))

    def all_diverged(self) -> dict[str, tuple[int, int]]:
        """Name of each arm of which a run diverged -> how many did, and how many runs it has."""
        counts = {
            name: (sum(run.diverged is not None for run in runs), len(runs))
            for name, runs in self.runs.items()
        }
        return {name: count for name, count in counts.items() if count[0]}

    def diverged_of(self, *arms: Arm) -> str:
        """``5 of 8``: the diverged runs of all these arms."""
        runs = sum(len(self.of(arm)) for arm in arms)
        return f"{sum(self.diverged(arm) for arm in arms)} of {runs}" if runs else ""

    def finals(self, arm: Arm) -> Array:
        """The final metrics."""
        return np.array([run.final for run in self.of(arm)])

    def experiment(self, name: str) -> Mapping[str, Any]:
        """The numbers of an experiment; empty if it has not run."""
        return self.experiments.get(name, {})

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema": SCHEMA,
            "scale": self.scale.name,
            "about": dict(self.about),
            "rates": dict(self.rates),
            "runs": {name: [_row(run) for run in runs] for name, runs in self.runs.items()},
            "experiments": {name: dict(found) for name, found in self.experiments.items()},
        }


def _time(run: Run, epochs: int) -> float:
    if run.solved_at is not None:
        return float(run.solved_at)
    return math.inf if run.diverged is not None else float(epochs)


def _row(run: Run) -> dict[str, Any]:
    """A run without what it lacks."""
    return {k: v for k, v in vars(run).items() if v is not None and v != {}}


def load(path: Path) -> Findings:
    """Read what `to_dict` wrote. Raises StudyError, naming the file, for anything else."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema"] != SCHEMA:
            raise StudyError(f"{path} is of schema {raw['schema']!r}, this anygate reads {SCHEMA}")
        return Findings(
            scale=SCALES[raw["scale"]],
            runs={name: [Run(**row) for row in rows] for name, rows in raw["runs"].items()},
            rates=raw["rates"],
            experiments=raw["experiments"],
            about=raw["about"],
        )
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, StudyError):
            raise
        raise StudyError(f"{path} holds no results of anygate claims ({error!r})") from error
