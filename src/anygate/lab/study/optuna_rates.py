"""Values of a setting that Optuna asks for, one after another, by what the earlier ones reached.

Ask and tell, without a storage of Optuna's: the results lie in the study's own folder, and a
sampler that begins with the same seed and is told the same asks for the same again.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any

FIRST = 4
"""Rates that are drawn at random before the sampler learns from what was told."""


def asked_rates(
    low: float,
    high: float,
    count: int,
    higher_is_better: bool,
    values_at: Callable[[float], list[float] | None],
    whole: bool = False,
) -> tuple[tuple[float, ...], bool]:
    """The rates so far, and True if the last one is still to be tried.

    values_at: the final metrics at a rate, None while some are missing. Rates have three digits, or
    are whole numbers; they are drawn on a log scale where `low` is above 0.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = "maximize" if higher_is_better else "minimize"
    sampler: Any = optuna.samplers.TPESampler(seed=0, n_startup_trials=FIRST)
    search: Any = optuna.create_study(direction=direction, sampler=sampler)
    rates: list[float] = []
    for _ in range(count):
        trial = search.ask()
        if whole:
            rate = trial.suggest_int("rate", int(low), int(high), log=low > 0)
        else:
            rate = float(f"{trial.suggest_float('rate', low, high, log=low > 0):.3g}")
        rates.append(rate)
        values = values_at(rate)
        if values is None:
            return tuple(rates), True
        search.tell(trial, fmean(values))
    return tuple(rates), False
