"""Time to solve, where a run that never solved is only known to take longer.

Such a run is *censored*: to drop it would reward an activation for failing, and to count it at the
last epoch would invent a time. A run that diverged will never solve: its time is infinite.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from .proportions import probability_of_improvement
from .signflips import PairedDifference, mean_interval, paired_difference
from .values import Array, Estimate, Interval, check_confidence, check_positive


@dataclass(frozen=True)
class CensoredTimes:
    """One time a run: when it solved, or, if ``solved`` is False, how long it was followed.

    ``math.inf`` without ``solved`` is a run that never will, such as one that diverged. Raises
    ``ValueError`` for no runs, times that are not positive, or a solved run at infinity.
    """

    times: tuple[float, ...]
    solved: tuple[bool, ...]

    def __post_init__(self) -> None:
        if not self.times or len(self.times) != len(self.solved):
            raise ValueError(
                f"one time and one answer a run are needed, got {len(self.times)} and "
                f"{len(self.solved)}"
            )
        if not all(t > 0 for t in self.times):
            raise ValueError("times to solve must be positive (inf for a run that never will)")
        if any(s and not math.isfinite(t) for t, s in zip(self.times, self.solved, strict=True)):
            raise ValueError("a run that solved needs a finite time")

    def until(self, horizon: float) -> Array:
        """Times up to ``horizon``, ``inf`` for what was not solved by then.

        Raises ``ValueError`` if a run was stopped before the horizon without having solved: what
        it would have done is not known.
        """
        check_positive(horizon, "the horizon")
        times = np.array(self.times, dtype=np.float64)
        solved = np.array(self.solved)
        if (short := ~solved & (times < horizon)).any():
            raise ValueError(
                f"a run was followed for {times[short].min():g} only, not until {horizon:g}, and "
                "had not solved; finish it, or take a shorter horizon (common_horizon)"
            )
        times[~solved | (times > horizon)] = math.inf
        return times


def common_horizon(groups: Iterable[CensoredTimes], longest: float) -> float:
    """The longest time, ``longest`` at most, for which every run of all ``groups`` was followed.

    That is the first time at which a run was stopped unsolved, if any was stopped before
    ``longest``. Runs that solved, and those that never will, count as followed for good.
    """
    pairs = [pair for g in groups for pair in zip(g.times, g.solved, strict=True)]
    return min([longest, *(t for t, solved in pairs if not solved)])


@dataclass(frozen=True)
class KaplanMeier:
    """The share of runs that have not solved yet, as a step function of time.

    ``unsolved[k]`` holds from ``times[k]`` (included) to ``times[k+1]``; before ``times[0]`` it
    is 1.
    """

    times: tuple[float, ...]
    unsolved: tuple[float, ...]

    def at(self, time: float) -> float:
        """The share that has not solved by ``time``."""
        steps = int(np.searchsorted(self.times, time, side="right"))
        return self.unsolved[steps - 1] if steps else 1.0

    @property
    def median(self) -> float:
        """The first time by which at least half have solved; ``inf`` if that was not seen."""
        for time, share in zip(self.times, self.unsolved, strict=True):
            if share <= 0.5 + 1e-12:
                return time
        return math.inf

    def restricted_mean(self, horizon: float) -> float:
        """The mean time spent until solving or ``horizon``: the area under the steps up to it.

        Beyond the last run that was followed, the last share is carried on.
        """
        check_positive(horizon, "the horizon")
        edges = [0.0, *(t for t in self.times if t < horizon), horizon]
        shares = [1.0, *self.unsolved]
        return sum((b - a) * s for a, b, s in zip(edges, edges[1:], shares, strict=False))


def kaplan_meier(runs: CensoredTimes) -> KaplanMeier:
    """The product-limit estimate (Kaplan & Meier 1958), for any pattern of censoring.

    At each time with ``d`` runs solving of ``r`` still followed, the share falls by the factor
    ``1 - d/r``; a run stopped at that very time still counts as followed.
    """
    times, solved = np.array(runs.times), np.array(runs.solved)
    steps = np.unique(times[solved])
    followed = (times[:, None] >= steps).sum(axis=0)
    solving = ((times[:, None] == steps) & solved[:, None]).sum(axis=0)
    shares = np.cumprod(1 - solving / followed)
    return KaplanMeier(tuple(steps.tolist()), tuple(shares.tolist()))


@dataclass(frozen=True)
class TimeToSolve:
    """The times of one activation, up to a common ``horizon``.

    ``median``: by when half have solved, ``inf`` if fewer than half did. ``restricted_mean``: the
    mean of ``min(time, horizon)``, a number that counts failures without inventing their time.
    """

    n: int
    solved: int
    horizon: float
    median: Estimate
    restricted_mean: Estimate


def median_interval(times: Sequence[float] | Array, *, confidence: float = 0.95) -> Interval:
    """The interval for a median, of times that may be ``inf``.

    The k-th smallest and k-th largest time, with the largest k for which ``P(Binomial(n, 1/2) <
    k) <= (1-confidence)/2``, but at least 1. Exact for any distribution: ``confidence`` is what it
    reaches (n below 6: the range, with less than 95%). Raises ``ValueError`` for no times or NaN.
    """
    check_confidence(confidence)
    ordered = np.sort(np.asarray(times, dtype=np.float64).ravel())
    n = ordered.size
    if n == 0 or np.isnan(ordered).any():
        raise ValueError("median_interval: at least one time is needed, and none may be NaN")
    k, tail = 1, 2.0**-n
    while k < n and (more := tail + math.comb(n, k) * 2.0**-n) <= (1 - confidence) / 2 + 1e-12:
        k, tail = k + 1, more
    return Interval(float(ordered[k - 1]), float(ordered[n - k]), max(0.0, 1 - 2 * tail))


def time_to_solve(runs: CensoredTimes, horizon: float, *, confidence: float = 0.95) -> TimeToSolve:
    """Median and restricted mean of the times to solve, with their intervals.

    ``horizon``: the same for all that are to be compared (:func:`common_horizon`). Raises
    ``ValueError`` if a run was stopped before it without having solved.
    """
    times = runs.until(horizon)
    solved = int(np.isfinite(times).sum())
    middle = float(np.sort(times)[(times.size - 1) // 2])
    spent = np.minimum(times, horizon)
    return TimeToSolve(
        n=times.size,
        solved=solved,
        horizon=horizon,
        median=Estimate(middle, median_interval(times, confidence=confidence)),
        restricted_mean=Estimate(float(spent.mean()), mean_interval(spent, confidence=confidence)),
    )


@dataclass(frozen=True)
class PairedTimes:
    """``a`` against ``b``, seed by seed, in the time to solve.

    The test is that of ``ranks``: the sign-flip test of the differences of ranks, with the runs
    that did not solve tied at the worst place. ``restricted`` says by how much, in the unit of the
    times; negative if ``a`` was faster. ``sooner`` is the probability that ``a`` solves first on a
    new seed, ties (both at one time, or neither) counted half.
    """

    n: int
    horizon: float
    a_first: int
    b_first: int
    sooner: Estimate
    ranks: PairedDifference
    restricted: PairedDifference

    @property
    def p_value(self) -> float:
        """The p value of the ranks, not yet corrected."""
        return self.ranks.p_value


def paired_times(
    a: CensoredTimes, b: CensoredTimes, horizon: float, *, confidence: float = 0.95
) -> PairedTimes:
    """Compare two times to solve by pairs: ``a.times[i]`` and ``b.times[i]`` share a seed.

    All times are ranked together, as in the paired Prentice-Wilcoxon test (O'Brien & Fleming
    1987), which for one common horizon puts all unsolved runs on one shared last rank. Raises
    ``ValueError`` for different numbers of runs, or a run that was stopped before the horizon.
    """
    left, right = a.until(horizon), b.until(horizon)
    if left.size != right.size:
        raise ValueError(f"paired runs must match one to one, got {left.size} and {right.size}")
    ranks = stats.rankdata(np.concatenate([left, right]))  # finite where times are not
    rank_a, rank_b = ranks[: left.size], ranks[left.size :]
    return PairedTimes(
        n=left.size,
        horizon=horizon,
        a_first=int(np.count_nonzero(left < right)),
        b_first=int(np.count_nonzero(right < left)),
        sooner=probability_of_improvement(-rank_a, -rank_b, confidence=confidence),
        ranks=paired_difference(rank_a, rank_b, confidence=confidence),
        restricted=paired_difference(
            np.minimum(left, horizon), np.minimum(right, horizon), confidence=confidence
        ),
    )
