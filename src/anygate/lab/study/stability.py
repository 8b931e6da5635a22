"""The stability map: short trainings over learning rates and forget biases, which of them diverge.

It lies in the folder of a study: stability/grid.json says which trials belong to which setting, and
stability/trials/ holds them, one file for each, so that it resumes as a study does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..tasks import Data
from .executors import Executor, Progress, missing, on_this_machine, run_trials
from .store.files import SCHEMA, write_json, writing
from .trial import PROBE, TrialSpec, spec_of

if TYPE_CHECKING:
    from .plan import Study
    from .tuning import TunedStudy


RATE_FACTORS = (0.3, 1.0, 3.0, 10.0, 30.0)
"""Learning rates of the map, as multiples of the study's own."""
FORGET_BIASES = (0.0, 1.0, 2.0, 4.0)
STEPS = 40
"""Training steps of each short run, at least."""
SEEDS = 3
"""Seeds of each setting: the first ones of the study."""


@dataclass(frozen=True)
class StabilityMap:
    """The short runs of a study, to be run; `load_short_runs` of the store reads them."""

    study: Study
    rate_factors: tuple[float, ...] = RATE_FACTORS
    forget_biases: tuple[float, ...] = FORGET_BIASES
    steps: int = STEPS
    seeds: int = SEEDS

    def planned(self) -> dict[tuple[str, float, float], tuple[TrialSpec, ...]]:
        """(activation, learning rate, forget bias) -> its trials. This loads the task's data once,
        to know how many epochs make `steps` training steps."""
        study, settings = self.study, self.study.settings
        count = len(study.task.load(study.seeds[0]).train_y)
        kept = min(count, self.steps * settings.batch_size)
        per_epoch = math.ceil(kept / settings.batch_size)
        short = replace(settings, epochs=math.ceil(self.steps / per_epoch))
        task = replace(
            study.task,
            make=partial(_first_sequences, study.task.make, kept),
            data=f"{study.task.data} first {kept}".strip(),
        )
        return {
            (arm.label, rate, bias): tuple(
                _short_trial(spec_of(task, arm, study.slot, seed, short), rate, bias)
                for seed in study.seeds[: self.seeds]
            )
            for arm in study.members
            for rate in (float(f"{f * settings.learning_rate:.2g}") for f in self.rate_factors)
            for bias in self.forget_biases
        }

    def run(
        self,
        directory: Path,
        *,
        jobs: int | None = None,
        executor: Executor = on_this_machine,
        progress: Progress = lambda done, total, key: None,
    ) -> None:
        """Run what the study's folder lacks. Stopped at any moment, it goes on from there when
        called again. Raises WriteError if the folder cannot be written."""
        planned, root = self.planned(), Path(directory) / "stability"
        with writing(root):
            write_json(
                root / "grid.json",
                {
                    "schema": SCHEMA,
                    "steps": self.steps,
                    "cells": [
                        {
                            "activation": label,
                            "learning_rate": rate,
                            "forget_bias": bias,
                            "keys": [t.key for t in trials],
                        }
                        for (label, rate, bias), trials in planned.items()
                    ],
                },
            )
        run_trials(_seed_by_seed(planned), root, jobs=jobs, executor=executor, progress=progress)

    def missing(self, directory: Path) -> int:
        """The number of short runs that the folder lacks."""
        return len(missing(_seed_by_seed(self.planned()), Path(directory) / "stability"))


def map_of(study: Study | TunedStudy) -> StabilityMap:
    """The usual map of a study; of one that tunes its rates, around the rate of its task."""
    from .plan import Study

    return StabilityMap(study if isinstance(study, Study) else study.study)


def _short_trial(spec: TrialSpec, rate: float, bias: float) -> TrialSpec:
    settings = replace(spec.settings, learning_rate=rate, forget_bias=bias)
    return replace(spec, settings=settings, snapshots=False)


def _seed_by_seed(planned: Mapping[Any, tuple[TrialSpec, ...]]) -> tuple[TrialSpec, ...]:
    """All trials, in an order in which a map that is stopped early is whole for some seeds."""
    rounds = max(len(trials) for trials in planned.values())
    return tuple(t[k] for k in range(rounds) for t in planned.values() if k < len(t))


def _first_sequences(make: Callable[[int], Data], kept: int, seed: int) -> Data:
    """A part of the data: the first sequences for training, and as many for testing as are
    measured."""
    return make(seed).first(kept, PROBE)
