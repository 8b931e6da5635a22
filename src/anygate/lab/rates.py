"""Learning rates of a study: the grid that was tried, and what was found best for whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

__all__ = ["LearningRates", "Tuned", "rates_from"]


@dataclass(frozen=True)
class Tuned:
    """What tuning found for one variant.

    rate: the best one. scores: rate -> the final metric of each tuning seed, the rates ascending.
    diverged: rate -> how many runs did (they score the baseline).
    """

    rate: float
    scores: Mapping[float, tuple[float, ...]]
    diverged: Mapping[float, int]

    @property
    def edge(self) -> str:
        """'lowest' or 'highest' if the best rate is an end of the grid, beyond which a better one
        may lie; '' if it lies inside."""
        rates = list(self.scores)
        ends = {rates[0]: "lowest", rates[-1]: "highest"}
        return ends.get(self.rate, "") if len(rates) > 1 else ""

    @property
    def means(self) -> dict[float, float]:
        """Rate -> mean final metric."""
        return {rate: fmean(values) for rate, values in self.scores.items()}

    def describe(self) -> dict[str, Any]:
        """As study.json holds it; :func:`rates_from` reads it."""
        tried = [
            {"rate": rate, "values": list(values), "diverged": self.diverged[rate]}
            for rate, values in self.scores.items()
        ]
        return {"rate": self.rate, "edge": self.edge, "tried": tried}


@dataclass(frozen=True)
class LearningRates:
    """rates: the grid. seeds: those of the tuning. shared: the one rate for all, `given` or else
    the best for the first activation. tuned: by activation. None and empty until tuning is done."""

    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    given: bool
    shared: float | None = None
    tuned: Mapping[str, Tuned] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """As study.json holds it; :func:`rates_from` reads it."""
        return {
            "rates": list(self.rates),
            "seeds": list(self.seeds),
            "given": self.given,
            "shared": self.shared,
            "tuned": {label: tuned.describe() for label, tuned in self.tuned.items()},
        }


def rates_from(raw: dict[str, Any]) -> LearningRates:
    """The part ``learning_rates`` of study.json as a value."""
    shared = raw.get("shared")
    return LearningRates(
        rates=tuple(float(rate) for rate in raw["rates"]),
        seeds=tuple(int(seed) for seed in raw["seeds"]),
        given=bool(raw["given"]),
        shared=None if shared is None else float(shared),
        tuned={str(label): _tuned(found) for label, found in raw["tuned"].items()},
    )


def _tuned(raw: dict[str, Any]) -> Tuned:
    tried = {float(row["rate"]): row for row in raw["tried"]}
    if float(raw["rate"]) not in tried:
        raise ValueError(f"the best rate {raw['rate']} is none of those tried")
    return Tuned(
        rate=float(raw["rate"]),
        scores={rate: tuple(float(v) for v in row["values"]) for rate, row in tried.items()},
        diverged={rate: int(row["diverged"]) for rate, row in tried.items()},
    )
