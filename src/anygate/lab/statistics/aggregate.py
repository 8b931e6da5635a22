"""Many runs in one number, over one task or several (Agarwal et al. 2021, arXiv:2108.13264), and
the bootstrap, plain and stratified: shown for comparison, no claim rests on it.

BCa is written here and not taken from scipy.stats.bootstrap: SciPy compares resampled means
exactly, so that the rounding of equal ones moves the interval when all values move by a constant;
here it does not (tests/test_bootstrap.py). For other values both are equal."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Literal

import numpy as np

from .proportions import wilson
from .values import (
    Array,
    Estimate,
    NominalInterval,
    Scores,
    Values,
    check_confidence,
    finite,
    matrix,
)

Statistic = Callable[..., Array]
"""Of arrays ``[..., seeds, tasks]``, with shared leading axes ``[...]``, to an array ``[...]``."""


def replicates(statistic: Statistic, *samples: Array, resamples: int, seed: int) -> Array:
    """``statistic`` of ``resamples`` bootstrap samples ``[resamples]``.

    Each of ``samples`` is ``[seeds, tasks]``, all of one shape. Seeds are drawn with replacement
    for each task on its own (the tasks are strata); all samples take the same draw, so that what
    was paired stays paired.
    """
    seeds, tasks = samples[0].shape
    drawn = np.random.default_rng(seed).integers(0, seeds, size=(resamples, seeds, tasks))
    return statistic(*(np.take_along_axis(s[None], drawn, axis=1) for s in samples))


def percentile_interval(found: Array, confidence: float) -> NominalInterval:
    """The middle ``confidence`` of bootstrap replicates."""
    check_confidence(confidence)
    tail = (1 - confidence) / 2
    low, high = np.quantile(found, [tail, 1 - tail])
    return NominalInterval(float(low), float(high), confidence)


def _mean(sample: Array) -> Array:
    return np.asarray(sample.mean(axis=(-2, -1)))


def bootstrap_interval(
    values: Values,
    *,
    method: Literal["bca", "percentile"] = "bca",
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> NominalInterval:
    """The bootstrap interval for the mean of ``values``.

    ``"percentile"``: the quantiles of the resampled means. ``"bca"`` (Efron 1987): quantiles moved
    for the bias ``z0``, the normal quantile of the share of resampled means below the mean, and
    the acceleration ``a = sum(u**3) / (6 * sum(u**2)**1.5)`` of the jackknife, ``u`` being the
    deviations of the leave-one-out means. Equal to ``scipy.stats.bootstrap`` with the generator
    ``default_rng(seed)``. One value, or equal ones, give an interval of no width (one value: with
    confidence 0). It covers less often than it says: see the text of
    :mod:`anygate.lab.statistics`. Raises ``ValueError`` for no values, values that are not finite,
    an unknown method or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    if method not in ("bca", "percentile"):
        raise ValueError(f"method is bca or percentile, not {method!r}")
    data = finite(values, "bootstrap_interval")
    if data.min() == data.max():
        only = float(data[0])
        return NominalInterval(only, only, confidence if data.size > 1 else 0.0)
    found = replicates(_mean, data[:, None], resamples=resamples, seed=seed)
    if method == "percentile":
        return percentile_interval(found, confidence)
    low, high = np.quantile(found, _bca_levels(data, found, confidence))
    return NominalInterval(float(low), float(high), confidence)


def _bca_levels(data: Array, found: Array, confidence: float) -> list[float]:
    """The two quantiles of the resampled means that BCa takes."""
    normal = NormalDist()
    u = data - data.mean()  # the leave-one-out means deviate from their mean by -u/(n - 1)
    u /= np.abs(u).max()  # a is free of scale; cubes of small numbers are not
    acceleration = float((u**3).sum() / (6 * (u**2).sum() ** 1.5))
    off = found - data.mean()
    off[np.abs(off) <= 1e-12 * np.abs(data).max()] = 0.0  # the same values in another order
    share = (np.count_nonzero(off < 0) + np.count_nonzero(off <= 0)) / (2 * off.size)
    bias = normal.inv_cdf(share)
    tail = (1 - confidence) / 2
    moved = [bias + normal.inv_cdf(level) for level in (tail, 1 - tail)]
    return [normal.cdf(bias + z / (1 - acceleration * z)) for z in moved]


def iqm(values: Values) -> float:
    """The interquartile mean: the mean without the lowest and the highest quarter of the values.

    ``floor(n/4)`` values are cut from each end, so below 4 values it is the plain mean. It resists
    a single odd run, which the mean does not. Raises ``ValueError`` for none or not finite values.
    """
    return float(_iqm(finite(values, "iqm")[:, None]))


def _iqm(scores: Array) -> Array:
    """The IQM over the last two axes, seeds and tasks pooled."""
    pooled = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    cut = pooled.shape[-1] // 4
    return np.asarray(pooled[..., cut : pooled.shape[-1] - cut].mean(axis=-1))


def _iqm_difference(a: Array, b: Array) -> Array:
    return _iqm(a) - _iqm(b)


def normalised(values: Scores, baseline: float, solved: float) -> Array:
    """Metrics on a scale that tasks share: 0 is what guessing reaches, 1 the solved level.

    ``(value - baseline) / (solved - baseline)``, of the shape of ``values``; more is better
    whichever way the metric points. Raises ``ValueError`` if both landmarks are the same or
    anything is not finite.
    """
    finite([baseline, solved], "normalised")
    if baseline == solved:
        raise ValueError(f"normalised: baseline and solved level are both {solved}")
    finite(np.asarray(values, dtype=np.float64), "normalised")
    return np.asarray((np.asarray(values, dtype=np.float64) - baseline) / (solved - baseline))


def aggregate_iqm(
    scores: Scores, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Estimate:
    """The IQM of all runs of ``scores`` ``[seeds, tasks]``, with a stratified bootstrap interval.

    Seeds are resampled within each task, so the interval speaks of new seeds on these tasks and
    not of other tasks. Percentile bootstrap, as in rliable; what it covers with few seeds is in
    the text of :mod:`anygate.lab.statistics`. Raises ``ValueError`` for values that are none, not
    finite or not rectangular.
    """
    data = matrix(scores, "aggregate_iqm")
    check_confidence(confidence)
    found = replicates(_iqm, data, resamples=resamples, seed=seed)
    return Estimate(float(_iqm(data)), percentile_interval(found, confidence))


def iqm_difference(
    a: Scores, b: Scores, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Estimate:
    """The IQM of ``a`` minus that of ``b``, with a stratified bootstrap interval that keeps pairs.

    ``a[i]`` and ``b[i]`` share a seed, and are drawn together. Raises ``ValueError`` as
    :func:`aggregate_iqm`, and for different shapes.
    """
    left, right = matrix(a, "iqm_difference"), matrix(b, "iqm_difference")
    if left.shape != right.shape:
        raise ValueError(
            f"iqm_difference: paired scores must match, got {left.shape} and {right.shape}"
        )
    check_confidence(confidence)
    found = replicates(_iqm_difference, left, right, resamples=resamples, seed=seed)
    value = float(_iqm_difference(left, right))
    return Estimate(value, percentile_interval(found, confidence))


def performance_profile(
    scores: Scores, thresholds: Values, *, confidence: float = 0.95
) -> list[Estimate]:
    """The share of runs above each threshold: the whole distribution instead of one number.

    ``scores`` ``[seeds, tasks]``, usually :func:`normalised`. The intervals are Wilson's for
    ``seeds * tasks`` runs, each threshold on its own; with several tasks they are wider than
    needed (see :func:`probability_of_improvement`). Raises ``ValueError`` for values that are none
    or not finite.
    """
    data = matrix(scores, "performance_profile")
    counts = [int(np.count_nonzero(data > t)) for t in finite(thresholds, "performance_profile")]
    return [Estimate(k / data.size, wilson(k, data.size, confidence=confidence)) for k in counts]
