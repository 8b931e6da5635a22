"""The statistics against scipy, against hand calculation and against their own definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from examples import examples
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from anygate.lab.statistics import (
    MIN_SEEDS_FOR_CLAIM,
    Evidence,
    evidence,
    holm,
    iqm,
    mean_interval,
    paired_difference,
    seeds_needed,
    sign_flip_p,
    smallest_reachable_p,
    wilson,
)

# Whole numbers have exact sums, so that ties are ties; thirds do not, and must not matter.
whole = st.integers(-50, 50).map(float)
thirds = st.integers(-50, 50).map(lambda k: k / 3)
samples = st.lists(whole, min_size=1, max_size=9) | st.lists(thirds, min_size=1, max_size=9)


@given(samples)
def test_p_value_is_the_share_of_sign_patterns(differences: list[float]) -> None:
    observed = abs(sum(differences))
    patterns = list(itertools.product((1, -1), repeat=len(differences)))
    totals = [abs(sum(s * d for s, d in zip(p, differences, strict=True))) for p in patterns]
    expected = sum(t >= observed - 1e-9 for t in totals) / len(patterns)
    assert sign_flip_p(differences) == pytest.approx(expected, abs=1e-12)


def test_p_value_equals_scipy() -> None:
    differences = np.random.default_rng(5).normal(0.4, 1.0, size=9)
    oracle = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=math.inf
    )
    assert sign_flip_p(differences) == pytest.approx(oracle.pvalue)


@pytest.mark.parametrize("n", [1, 3, 5, 6, 10])
def test_all_of_one_sign_gives_the_smallest_p(n: int) -> None:
    assert sign_flip_p(np.arange(1.0, n + 1)) == 2.0 ** (1 - n)


def test_sampled_p_is_close_to_the_normal_theory_and_never_zero() -> None:
    rng = np.random.default_rng(0)
    differences = rng.normal(0.35, 1.0, size=40)
    assert sign_flip_p(differences) == pytest.approx(
        stats.ttest_1samp(differences, 0).pvalue, abs=0.01
    )
    assert 0 < sign_flip_p(np.full(40, 1.0)) <= 2 / 10_000
    assert sign_flip_p(differences, seed=1) == sign_flip_p(differences, seed=1)


@given(st.lists(whole, min_size=1, max_size=9), st.sampled_from([0.5, 0.9, 0.95]))
def test_interval_and_test_agree_about_zero(differences: list[float], confidence: float) -> None:
    interval = mean_interval(differences, confidence=confidence)
    assume(interval.confidence >= confidence)  # below it, the range stands in for the interval
    assert interval.contains(0.0) == (sign_flip_p(differences) > 1 - confidence + 1e-12)


@given(st.lists(whole, min_size=15, max_size=20))
@examples(20)
def test_interval_and_test_agree_when_sampled(differences: list[float]) -> None:
    contains = mean_interval(differences, resamples=999).contains(0.0)
    assert contains == (sign_flip_p(differences, resamples=999) > 0.05 + 1e-12)


@given(samples)
def test_interval_holds_the_mean_and_stays_in_the_range(values: list[float]) -> None:
    interval = mean_interval(values)
    assert min(values) - 1e-9 <= interval.low <= interval.high <= max(values) + 1e-9
    assert interval.low - 1e-9 <= np.mean(values) <= interval.high + 1e-9


@given(samples, whole)
def test_interval_moves_with_the_values(values: list[float], shift: float) -> None:
    here, there = mean_interval(values), mean_interval([v + shift for v in values])
    assert there.low == pytest.approx(here.low + shift, abs=1e-9)
    assert there.high == pytest.approx(here.high + shift, abs=1e-9)


def test_interval_by_hand() -> None:
    """Three values have seven subset means; 50% cuts (1-0.5)/2*8 = 2 off each end."""
    means = sorted([0.0, 3.0, 9.0, 1.5, 4.5, 6.0, 4.0])
    interval = mean_interval([0.0, 3.0, 9.0], confidence=0.5)
    assert (interval.low, interval.high) == (means[1], means[-2])
    assert interval.confidence == 0.5


@pytest.mark.parametrize(
    ("n", "confidence"), [(1, 0.0), (3, 0.75), (5, 0.9375), (6, 0.96875), (10, 0.951171875)]
)
def test_interval_says_what_confidence_it_reaches(n: int, confidence: float) -> None:
    assert mean_interval(np.arange(float(n))).confidence == confidence


def test_fewer_than_six_values_give_their_range() -> None:
    interval = mean_interval([3.0, 1.0, 2.0])
    assert (interval.low, interval.high) == (1.0, 3.0)


def test_equal_values_give_no_width() -> None:
    interval = mean_interval([0.1] * 10)
    assert (interval.low, interval.high) == (0.1, 0.1)


def test_coverage_is_what_is_promised() -> None:
    """Nominal 95% for ten normal values: within three standard errors of the reached 95.1%."""
    rng = np.random.default_rng(1)
    hits = [mean_interval(rng.normal(2.0, 1.0, size=10)).contains(2.0) for _ in range(1500)]
    assert abs(np.mean(hits) - 0.951) < 3 * math.sqrt(0.951 * 0.049 / 1500)


def test_paired_difference_by_hand() -> None:
    d = paired_difference([3.0, 5.0, 4.0, 1.0], [1.0, 5.0, 1.0, 2.0])
    assert d.differences == (2.0, 0.0, 3.0, -1.0)
    assert (d.n, d.mean, d.improvement) == (4, 1.0, 0.625)
    assert (d.interval.low, d.interval.high) == (-1.0, 3.0)
    assert d.p_value == 0.5  # |4| or more in 8 of 16 patterns of +-2 +-0 +-3 +-1
    assert not d.same_sign


@given(st.lists(st.tuples(whole, whole), min_size=1, max_size=8))
def test_swapping_sides_mirrors_the_result(pairs: list[tuple[float, float]]) -> None:
    a, b = zip(*pairs, strict=True)
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there.p_value == back.p_value
    assert there.mean == -back.mean
    assert there.improvement == pytest.approx(1 - back.improvement)
    assert there.interval.low == pytest.approx(-back.interval.high)


def test_a_single_pair_is_no_evidence() -> None:
    d = paired_difference([2.0], [1.0])
    assert (d.p_value, d.interval.confidence) == (1.0, 0.0)
    assert evidence(d, d.p_value, 1) is Evidence.TOO_FEW_SEEDS


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0], [1.0, 2.0], "one to one"),
        ([], [], "at least one"),
        ([math.nan], [1.0], "finite"),
        ([math.inf], [1.0], "finite"),
    ],
)
def test_bad_pairs_are_refused(a: list[float], b: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_difference(a, b)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_bad_confidence_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        mean_interval([1.0, 2.0], confidence=confidence)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([1.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_as_the_step_down_procedure(p_values: list[float]) -> None:
    corrected = holm(p_values)
    m, alive, rejected = len(p_values), True, set[int]()
    for rank, i in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        alive = alive and (m - rank) * p_values[i] <= 0.05
        rejected |= {i} if alive else set()
    assert {i for i, p in enumerate(corrected) if p <= 0.05} == rejected
    assert all(p <= q <= min(1.0, m * p) for p, q in zip(p_values, corrected, strict=True))


def test_six_seeds_and_four_rivals_can_claim_nothing() -> None:
    assert smallest_reachable_p(6, 1) == 0.03125
    assert smallest_reachable_p(6, 4) == 0.125
    assert smallest_reachable_p(0, 4) == smallest_reachable_p(2, 9) == 1.0
    assert [seeds_needed(k) for k in (1, 2, 4, 9)] == [MIN_SEEDS_FOR_CLAIM, 7, 8, 9]
    best = paired_difference(np.arange(1.0, 7.0), np.zeros(6))
    assert evidence(best, holm([best.p_value] * 4)[0], 4) is Evidence.UNREACHABLE


def test_evidence_is_graded() -> None:
    clear = paired_difference(np.arange(1.0, 11.0), np.zeros(10))
    assert evidence(clear, clear.p_value, 1) is Evidence.HELD
    assert evidence(clear, 0.06, 3) is Evidence.UNCORRECTED
    mixed = paired_difference([1.0, -1.0] * 5, [0.0] * 10)
    assert evidence(mixed, mixed.p_value, 1) is Evidence.NOT_SHOWN
    few = paired_difference(np.arange(1.0, 6.0), np.zeros(5))
    assert evidence(few, few.p_value, 1) is Evidence.TOO_FEW_SEEDS


@given(st.integers(1, 200), st.data())
def test_wilson_is_the_score_interval(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    interval = wilson(k, n)
    z = stats.norm.ppf(0.975)
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    assert interval.low == pytest.approx(max(0.0, centre - half), abs=1e-12)
    assert interval.high == pytest.approx(min(1.0, centre + half), abs=1e-12)


@pytest.mark.parametrize(("k", "n"), [(0, 0), (2, 1), (-1, 3)])
def test_wilson_refuses_impossible_counts(k: int, n: int) -> None:
    with pytest.raises(ValueError, match="wilson"):
        wilson(k, n)


@given(st.lists(whole, min_size=1, max_size=20))
def test_iqm_is_the_mean_of_the_middle_half(values: list[float]) -> None:
    cut = len(values) // 4
    middle = sorted(values)[cut : len(values) - cut]
    assert iqm(values) == pytest.approx(sum(middle) / len(middle))


def test_iqm_refuses_nothing() -> None:
    with pytest.raises(ValueError, match="at least one"):
        iqm([])
