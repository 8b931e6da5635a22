"""Learning rates of a study: the grid that was tried, and what was found best for whom."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Annotated, Any

from msgspec import Meta

from .schema import Name, Number, Positive, Seed, Whole

__all__ = ["LearningRates", "Tried", "Tuned"]


@dataclass(frozen=True)
class Tried:
    """One learning rate: the final metric of each tuning seed, and how many of these runs diverged
    (they score the baseline)."""

    rate: Positive
    values: Annotated[tuple[Number, ...], Meta(min_length=1, max_length=1_000)]
    diverged: Whole


@dataclass(frozen=True)
class Tuned:
    """What tuning found for one variant: the best rate among those tried, which ascend."""

    rate: Positive
    tried: Annotated[tuple[Tried, ...], Meta(min_length=1, max_length=100)]

    def __post_init__(self) -> None:
        if self.rate not in self.scores:
            raise ValueError(f"the best rate {self.rate} is none of those tried")

    @property
    def scores(self) -> dict[float, tuple[float, ...]]:
        """Rate -> the final metric of each tuning seed."""
        return {t.rate: t.values for t in self.tried}

    @property
    def diverged(self) -> dict[float, int]:
        """Rate -> how many runs did."""
        return {t.rate: t.diverged for t in self.tried}

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


@dataclass(frozen=True)
class LearningRates:
    """rates: the grid. seeds: those of the tuning. shared: the one rate for all, `given` or else
    the best for the first activation. tuned: by activation. None and empty until tuning is done."""

    rates: Annotated[tuple[Positive, ...], Meta(max_length=100)]
    seeds: Annotated[tuple[Seed, ...], Meta(max_length=1_000)]
    given: bool
    shared: Positive | None = None
    tuned: Annotated[dict[Name, Tuned], Meta(max_length=200)] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """As study.json holds it."""
        found = asdict(self)
        for label, tuned in self.tuned.items():
            found["tuned"][label]["edge"] = tuned.edge
        return found
