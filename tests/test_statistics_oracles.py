"""The statistics against SciPy and rliable: the same numbers by other people's code.

What needs rliable is skipped where it is not installed (pip install rliable 'pandas<3'); all else
always runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from anygate.lab.statistics import (
    CensoredTimes,
    aggregate_iqm,
    bootstrap_interval,
    equivalence,
    iqm,
    kaplan_meier,
    median_interval,
    normalised,
    paired_difference,
    paired_times,
    performance_profile,
    probability_of_improvement,
    sign_flip_p,
    wilson,
)
from anygate.lab.statistics.aggregate import replicates

Array = NDArray[np.float64]
eighths = st.integers(-40, 40).map(lambda k: k / 8)  # sums and means are exact, so ties are ties
ROUNDING = 1e-12  # of sums of a few dozen numbers of size 1 to 10, in another order


def scores(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


# --------------------------------------------------------------------------------------- SciPy


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("n", [2, 6, 10, 25])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_bootstrap_equals_scipy(method: Any, n: int, confidence: float) -> None:
    """The same generator draws the same resamples, so that even the ends are the same."""
    values = np.round(np.random.default_rng(n).exponential(size=n) * 64) / 64
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        method=method,
        n_resamples=2000,
        confidence_level=confidence,
        vectorized=True,
        rng=np.random.default_rng(3),
    ).confidence_interval
    ours = bootstrap_interval(values, method=method, confidence=confidence, resamples=2000, seed=3)
    assert (ours.low, ours.high) == pytest.approx(theirs, abs=ROUNDING)


@given(st.lists(eighths, min_size=2, max_size=9), st.sampled_from(["greater", "less"]))
@examples(40)
def test_one_sided_p_equals_scipy(differences: list[float], side: Any) -> None:
    oracle = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=math.inf,
        alternative=side,
        vectorized=True,
    )
    assert sign_flip_p(differences, alternative=side) == pytest.approx(oracle.pvalue, abs=ROUNDING)


@given(
    st.lists(st.tuples(eighths, eighths), min_size=2, max_size=8),
    st.integers(1, 40).map(lambda k: k / 8),
)
@examples(40)
def test_equivalence_is_two_shifted_tests_of_scipy(
    pairs: list[tuple[float, float]], margin: float
) -> None:
    a, b = np.array(pairs).T
    found = equivalence(a, b, margin)
    for ours, moved, side in (
        (found.p_above, a - b + margin, "greater"),
        (found.p_below, a - b - margin, "less"),
    ):
        theirs = stats.permutation_test(
            (moved,),
            np.mean,
            permutation_type="samples",
            n_resamples=math.inf,
            alternative=side,
            vectorized=True,
        )
        assert ours == pytest.approx(theirs.pvalue, abs=ROUNDING)


def test_equivalence_of_many_normal_pairs_is_close_to_the_t_version() -> None:
    """Two one-sided t tests, for which the sign flips are a finite-sample stand-in."""
    delta = 0.2 + scores(1, 60)
    for margin in (0.3, 0.45, 0.6):
        tests = [
            stats.ttest_1samp(delta, -margin, alternative="greater"),
            stats.ttest_1samp(delta, margin, alternative="less"),
        ]
        found = equivalence(delta, np.zeros(60), margin)
        # Four standard errors of a p value from 10,000 patterns, and the difference of the tests.
        p = max(float(t.pvalue) for t in tests)
        assert found.p_value == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / 10_000) + 0.005)


@given(st.integers(1, 60), st.sampled_from([0.5, 0.9, 0.95, 0.99]), st.data())
def test_wilson_equals_scipy(n: int, confidence: float, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    theirs = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    ours = wilson(k, n, confidence=confidence)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=ROUNDING)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=12))
def test_sign_flips_of_solved_or_not_are_mcnemars_exact_test(
    pairs: list[tuple[bool, bool]],
) -> None:
    a, b = zip(*pairs, strict=True)
    only_a, only_b = sum(x > y for x, y in pairs), sum(y > x for x, y in pairs)
    exact = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert paired_difference(a, b).p_value == pytest.approx(exact, abs=ROUNDING)


@given(st.lists(eighths, min_size=1, max_size=30))
def test_iqm_is_scipys_trimmed_mean(values: list[float]) -> None:
    assert iqm(values) == pytest.approx(stats.trim_mean(values, 0.25), abs=ROUNDING)


@given(st.lists(eighths, min_size=1, max_size=9), st.lists(eighths, min_size=1, max_size=9))
def test_probability_of_improvement_is_mann_whitney(a: list[float], b: list[float]) -> None:
    theirs = stats.mannwhitneyu(a, b).statistic / (len(a) * len(b))
    ours = probability_of_improvement(a, b, paired=False)
    assert ours.value == pytest.approx(theirs, abs=ROUNDING)


runs = st.lists(
    st.tuples(st.integers(1, 12).map(float), st.booleans()), min_size=1, max_size=20
).map(lambda pairs: CensoredTimes(*zip(*pairs, strict=True)))


def survival(times: CensoredTimes) -> Any:
    solved = np.array(times.solved)
    all_times = np.array(times.times)
    data = stats.CensoredData(uncensored=all_times[solved], right=all_times[~solved])
    return stats.ecdf(data).sf


@given(runs)
def test_kaplan_meier_equals_scipy(times: CensoredTimes) -> None:
    theirs, ours = survival(times), kaplan_meier(times)
    for t in np.arange(0.0, 14.0, 0.5):
        assert ours.at(t) == pytest.approx(float(theirs.evaluate(t)), abs=ROUNDING)


@given(runs, st.integers(1, 14))
def test_restricted_mean_is_the_area_under_scipys_curve(times: CensoredTimes, end: int) -> None:
    """Times are whole numbers, so the curve is level between them."""
    theirs = sum(float(survival(times).evaluate(t + 0.5)) for t in range(end))
    assert kaplan_meier(times).restricted_mean(end) == pytest.approx(theirs, abs=ROUNDING)


@pytest.mark.parametrize("n", [6, 7, 10, 20, 33])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_median_interval_equals_scipy(n: int, confidence: float) -> None:
    times = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    theirs = stats.quantile_test(times, p=0.5).confidence_interval(confidence)
    ours = median_interval(times, confidence=confidence)
    if math.isnan(theirs.low):  # scipy gives none where the range does not reach the confidence
        assert (ours.low, ours.high) == (1.0, n) and ours.confidence < confidence
    else:
        assert (ours.low, ours.high) == (theirs.low, theirs.high)
        inside = stats.binom.cdf(ours.high - 1, n, 0.5) - stats.binom.cdf(ours.low - 1, n, 0.5)
        assert ours.confidence == pytest.approx(inside, abs=ROUNDING)


@given(st.lists(st.tuples(*[st.integers(1, 9).map(float)] * 2), min_size=2, max_size=8))
@examples(40)
def test_paired_times_are_sign_flips_of_scipys_ranks(pairs: list[tuple[float, float]]) -> None:
    """Up to a horizon of 6; what took longer never solved."""
    drawn = np.array(pairs).T
    a, b = (CensoredTimes(tuple(np.minimum(t, 6.0)), tuple(t <= 6)) for t in drawn)
    ranks = stats.rankdata(np.where(drawn > 6, np.inf, drawn).ravel()).reshape(2, -1)
    theirs = stats.permutation_test(
        (ranks[0] - ranks[1],),
        np.mean,
        permutation_type="samples",
        n_resamples=math.inf,
        vectorized=True,
    )
    found = paired_times(a, b, 6.0)
    assert found.ranks.differences == tuple(ranks[0] - ranks[1])
    assert found.p_value == pytest.approx(theirs.pvalue, abs=ROUNDING)


# ------------------------------------------------------------------------------------- rliable


@pytest.fixture(scope="module")
def metrics() -> ModuleType:
    return pytest.importorskip("rliable.metrics", reason="rliable is not installed")


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """rliable 1.2 hands arch a ``random_state=None`` that arch 8 no longer takes: it is dropped."""
    found = pytest.importorskip("rliable.library", reason="rliable is not installed")
    base = found.arch_bs.IIDBootstrap
    start = base.__init__

    def without(self: Any, *args: Any, random_state: None = None, **options: Any) -> None:
        start(self, *args, **options)

    monkeypatch.setattr(base, "__init__", without)
    return found


SHAPES = [(6, 1), (7, 3), (10, 4), (20, 2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_iqm_equals_rliable(metrics: ModuleType, shape: tuple[int, int]) -> None:
    table = scores(sum(shape), *shape)
    assert aggregate_iqm(table, resamples=10).value == pytest.approx(
        metrics.aggregate_iqm(table), abs=ROUNDING
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ties", [False, True])
def test_probability_of_improvement_equals_rliable(
    metrics: ModuleType, shape: tuple[int, int], ties: bool
) -> None:
    a, b = 0.3 + scores(1, *shape), scores(2, *shape)
    if ties:
        a, b = np.round(a), np.round(b)
    ours = probability_of_improvement(a, b, paired=False)
    assert ours.value == pytest.approx(metrics.probability_of_improvement(a, b), abs=ROUNDING)


def test_performance_profile_equals_rliable(library: ModuleType) -> None:
    table = normalised(scores(3, 8, 3), baseline=-1.0, solved=1.0)
    thresholds = np.linspace(-0.5, 1.5, 9)
    theirs = library.score_distributions(table, thresholds)
    ours = [e.value for e in performance_profile(table, thresholds)]
    assert ours == pytest.approx(theirs, abs=ROUNDING)


RESAMPLES = 4000


def rliables_replicates(
    library: ModuleType, statistic: Callable[[Array], Any], table: Array
) -> Array:
    """Of its stratified bootstrap, which draws from NumPy's global generator whatever is asked."""
    np.random.seed(0)  # noqa: NPY002
    drawn = library.StratifiedBootstrap(table)
    return np.ravel(drawn.apply(lambda x: np.array([statistic(x)]), RESAMPLES))


@pytest.mark.parametrize("shape", SHAPES)
def test_stratified_bootstrap_of_the_iqm_is_rliables(
    library: ModuleType, metrics: ModuleType, shape: tuple[int, int]
) -> None:
    """Other random draws of one distribution: the ends of ours are the 2.5% and 97.5% points of
    theirs within four standard errors, sqrt(p*(1-p)/resamples), of both samples."""
    table = scores(sum(shape), *shape) + np.arange(shape[1])
    theirs = rliables_replicates(library, metrics.aggregate_iqm, table)
    interval = aggregate_iqm(table, resamples=RESAMPLES).interval
    error = 4 * math.sqrt(2 * 0.025 * 0.975 / RESAMPLES)
    assert np.mean(theirs < interval.low) == pytest.approx(0.025, abs=error)
    assert np.mean(theirs > interval.high) == pytest.approx(0.025, abs=error)


def test_stratified_bootstrap_is_rliables_all_over(library: ModuleType) -> None:
    """The whole distribution of the mean over seeds and tasks, by the test of Kolmogorov and
    Smirnov, and its spread: strata that were pooled would give another one."""
    table = scores(5, 10, 3) + 10 * np.arange(3.0)
    theirs = rliables_replicates(library, np.mean, table)
    ours = replicates(lambda x: x.mean(axis=(-2, -1)), table, resamples=RESAMPLES, seed=1)
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-4
    assert ours.std() == pytest.approx(theirs.std(), rel=4 * math.sqrt(1 / RESAMPLES))
