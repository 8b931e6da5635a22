"""A scale of claims small enough for tests, and findings made by hand."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studies.claims import CLAIMS
from studies.findings import Findings, Run
from studies.grid import QUICK, SCALES, Arm, Scale, Setup
from studies.runner import plan, run

_SMALL = (("hidden_size", 3), ("epochs", 2), ("batch_size", 1000), ("learning_rate", 0.01))
TINY = Scale(
    name="tiny",
    setups={
        "pixels": Setup("digits-rows", _SMALL, "metric", 0.02),
        **{
            role: Setup("adding:4", _SMALL, "time", 0.2)
            for role in ("adding", "long", "reber", "rows")
        },
    },
    seeds=2,
    survey=1,
    tuning=1,
    tuned=("pixels",),
    factors=(1, 2),
    rounds=6,
    sizes=(4,),
    starts=1,
)
SCALES["tiny"] = TINY
CLAIM = "relu-vision"
"""The claim whose only task TINY has."""


def run_tiny(directory: Path, **options: Any) -> Findings:
    return run(plan([CLAIMS[CLAIM]], TINY), directory, command="tiny", jobs=1, **options)


def solved(*epochs: int | None, diverged: Sequence[int] = ()) -> list[Run]:
    """Runs of the seeds 0, 1 ... that solved at these epochs, or diverged."""
    return [
        Run(
            seed,
            0.1 if at is None else 1e-4,
            None if seed in diverged else at,
            7 if seed in diverged else None,
            max_cell=1.0,
        )
        for seed, at in enumerate(epochs)
    ]


def accuracies(*values: float) -> list[Run]:
    return [Run(seed, value) for seed, value in enumerate(values)]


def findings(
    runs: Mapping[Arm, Sequence[Run]] | None = None,
    experiments: Mapping[str, Any] | None = None,
    rates: Mapping[str, float] | None = None,
) -> Findings:
    """At the quick scale, with the given runs; own rates are the shared ones."""
    named = {arm.name: found for arm, found in (runs or {}).items()}
    own = {
        arm.own.name: QUICK.setups[arm.task].make().settings.learning_rate
        for arm in (runs or {})
        if arm.task in QUICK.tuned
    }
    return Findings(QUICK, named, dict(rates or own), dict(experiments or {}))


if __name__ == "__main__":
    run_tiny(Path(sys.argv[1]))
