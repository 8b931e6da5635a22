"""Many runs in one number, over one task or several (Agarwal et al. 2021, arXiv:2108.13264)."""

from __future__ import annotations

import numpy as np

from .bootstrap import percentile_interval, replicates
from .rates import wilson
from .values import Array, Estimate, Scores, Values, check_confidence, finite, matrix


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
