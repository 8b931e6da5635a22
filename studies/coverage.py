"""The coverage of the intervals when runs fail: a simulation of what the studies compute.

    python -m studies.coverage

writes results/coverage.json. Two arms of equal speed are drawn again and again: the epochs of a
run, log-normal with the spread that runs of the studies have, rounded up; a run that takes more
than its epochs, and in one arm some in addition, count with all epochs. Of the paired mean of log2
ratios it counts how often the 95 % interval holds the true mean of what is measured, which has
failures counted with all epochs too and comes from a million draws.

Beside it stands what was measured before, a final error: normal differences, of which some are
failures ten standard deviations away. There few seeds see no failure at all, and their intervals
are too short. That is why epochs, which have an end, are the measure here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .lab import Array, machine, mean_interval
from .results import COMMITTED

__all__ = ["DRAWN", "FAILING", "SEEDS_OF", "simulate"]

EPOCHS, MIDDLE, SPREAD = 24, 9.0, 0.45
"""Of a run: its budget, the median epoch of the level, and the spread of its natural logarithm."""
FAILING = (0.0, 0.1, 0.3)
SEEDS_OF = (8, 16, 32)
REPEATS = 2000


def _log2_epochs(random: np.random.Generator, shape: tuple[int, ...], failing: float) -> Array:
    epochs = np.ceil(MIDDLE * np.exp(random.normal(0, SPREAD, shape)))
    failed = (random.random(shape) < failing) | (epochs > EPOCHS)
    return np.asarray(np.log2(np.where(failed, EPOCHS, epochs)))


def _epochs(random: np.random.Generator, shape: tuple[int, ...], failing: float) -> Array:
    return _log2_epochs(random, shape, failing) - _log2_epochs(random, shape, 0.0)


def _errors(random: np.random.Generator, shape: tuple[int, ...], failing: float) -> Array:
    return random.normal(0, 1, shape) + FAILURE * (random.random(shape) < failing)


FAILURE = 10.0
DRAWN: dict[str, Callable[[np.random.Generator, tuple[int, ...], float], Array]] = {
    "epochs": _epochs,
    "final error": _errors,
}


def simulate(measure: str, failing: float, seeds: int, repeats: int = REPEATS) -> dict[str, Any]:
    """The coverage of a measure's interval with so many seeds, of which this share of one arm's
    runs fail."""
    random = np.random.default_rng([round(100 * failing), seeds])
    many = (1_000_000,)
    true = float(DRAWN[measure](random, many, failing).mean())
    held = 0
    for _ in range(repeats):
        found = DRAWN[measure](random, (seeds,), failing)
        held += mean_interval(found, resamples=2000).contains(true)
    share = held / repeats
    return {
        "measure": measure,
        "failing": failing,
        "seeds": seeds,
        "coverage": share,
        "standard_error": round(math.sqrt(share * (1 - share) / repeats), 4),
        "repeats": repeats,
    }


if __name__ == "__main__":
    content = {
        "command": "python -m studies.coverage",
        "model": {"epochs": EPOCHS, "median": MIDDLE, "spread": SPREAD},
        "machine": machine(),
        "rows": [simulate(m, f, seeds) for m in DRAWN for f in FAILING for seeds in SEEDS_OF],
    }
    text = json.dumps(content, indent=1) + "\n"
    (COMMITTED / "coverage.json").write_text(text, encoding="utf-8")
    print(text)
