"""A learning rate for each variant, chosen on seeds of its own, apart from those that compare.

A rate that suits one activation can ruin another, and a tiny one that is shared by all flatters
those that blow up: with 1e-6 for every network LSTM came last on sequential MNIST (Hu et al. 2018,
Overcoming the vanishing gradient problem in plain recurrent networks).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .engines import Engine, on_this_machine
from .rates import Tried, Tuned
from .runner import Progress, result_of, run_trials
from .trial import TrialSpec

__all__ = ["FIRST_SEED", "Tuned", "choose", "tune", "tuning_seeds", "tuning_trials"]

FIRST_SEED = 1_000_000
"""Tuning counts its seeds from here, so that they never are those of a comparison."""


def tuning_seeds(count: int) -> tuple[int, ...]:
    """`count` seeds for tuning."""
    return tuple(range(FIRST_SEED, FIRST_SEED + count))


def tuning_trials(
    variants: Sequence[TrialSpec], rates: Sequence[float], seeds: Sequence[int]
) -> tuple[TrialSpec, ...]:
    """Every variant with every rate and seed; a variant's own seed and rate do not matter."""
    return tuple(
        replace(v, seed=seed, settings=replace(v.settings, learning_rate=rate), watched=False)
        for seed in seeds
        for rate in sorted(set(rates))
        for v in variants
    )


def tune(
    variants: Mapping[str, TrialSpec],
    rates: Sequence[float],
    directory: Path,
    *,
    seeds: Sequence[int] = tuning_seeds(3),
    jobs: int | None = None,
    engine: Engine = on_this_machine,
    progress: Progress = lambda done, total, key: None,
) -> dict[str, Tuned]:
    """Train every variant with every rate, and choose. Resumes as run_trials does.

    The best rate is that of the best mean final metric over the seeds, a diverged run counting as
    the baseline; of equals the middle one, which is furthest from where it gets worse.
    """
    trials = tuning_trials(tuple(variants.values()), rates, seeds)
    run_trials(trials, directory, jobs=jobs, engine=engine, progress=progress)
    return {name: choose(v, rates, seeds, directory) for name, v in variants.items()}


def choose(
    variant: TrialSpec, rates: Sequence[float], seeds: Sequence[int], directory: Path
) -> Tuned:
    """The choice from results that lie in the folder. Raises StudyError if one is missing."""
    tried = []
    for rate in sorted(set(rates)):
        runs = [result_of(t, directory) for t in tuning_trials([variant], [rate], seeds)]
        diverged = sum(run.diverged is not None for run in runs)
        tried.append(Tried(rate, tuple(run.final_metric for run in runs), diverged))
    found = Tuned(tried[0].rate, tuple(tried))
    top = (max if variant.task.higher_is_better else min)(found.means.values())
    equals = [rate for rate, mean in found.means.items() if math.isclose(mean, top, rel_tol=1e-12)]
    return replace(found, rate=equals[len(equals) // 2])
