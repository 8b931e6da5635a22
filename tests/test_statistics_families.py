"""Families of comparisons, looks, effects over tasks and exact rates: brute force over every sign
vector, other people's code and printed tables, and simulations of what each one promises."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from anygate.lab.statistics import (
    clopper_pearson,
    max_t,
    random_effects,
    sign_flip_p,
    spending,
    wilson,
)

Array = NDArray[np.float64]
whole = st.integers(-9, 9).map(float)  # exact sums, so that ties are ties


@st.composite
def families(draw: st.DrawFn) -> list[list[float]]:
    """Up to five comparisons of up to eight seeds; equal, zero and opposite ones are common."""
    seeds = draw(st.integers(1, 8))
    row = st.lists(whole, min_size=seeds, max_size=seeds) | whole.map(lambda d: [d] * seeds)
    rows = draw(st.lists(row, min_size=1, max_size=5))
    if draw(st.booleans()):
        rows.append([-d for d in rows[0]])
    return rows


def student(rows: list[list[float]], sides: int) -> list[float]:
    """Student's t of each comparison; of no spread it is infinite, of all zeros there is none."""
    found = []
    for row in rows:
        mean, spread = float(np.mean(row)), float(np.std(row, ddof=1)) if len(row) > 1 else 0.0
        if spread <= 1e-9:
            t = math.copysign(math.inf, mean) if mean else (0.0 if any(row) else -math.inf)
        else:
            t = mean / (spread / math.sqrt(len(row)))
        found.append(abs(t) if sides == 2 and any(row) else t)
    return found


def westfall_and_young(rows: list[list[float]], sides: int) -> list[float]:
    """Step-down maxT as the book has it, with Student's t over every sign vector."""
    observed = student(rows, sides)
    order = sorted(range(len(rows)), key=lambda j: -observed[j])
    hits = [0] * len(rows)
    vectors = list(itertools.product((1.0, -1.0), repeat=len(rows[0])))
    for signs in vectors:
        found = student([[s * d for s, d in zip(signs, row, strict=True)] for row in rows], sides)
        for k, j in enumerate(order):
            largest = max(found[i] for i in order[k:])
            reached = observed[j]
            near = math.isfinite(reached) and largest >= reached - 1e-9 * max(1, abs(reached))
            hits[k] += largest >= reached or near
    adjusted, running = [0.0] * len(rows), 0.0
    for k, j in enumerate(order):
        running = max(running, hits[k] / len(vectors))
        adjusted[j] = running
    return adjusted


@examples(60)
@given(families(), st.sampled_from([1, 2]))
def test_max_t_is_the_book_with_students_t_over_every_sign_vector(
    rows: list[list[float]], sides: int
) -> None:
    assert max_t(rows, sides=sides) == pytest.approx(westfall_and_young(rows, sides), abs=1e-12)


@pytest.mark.parametrize(("sides", "alternative"), [(2, "two-sided"), (1, "greater")])
@pytest.mark.parametrize("n", [1, 6, 10, 14])
def test_max_t_of_one_comparison_is_the_sign_flip_test(
    n: int, sides: int, alternative: str
) -> None:
    differences = np.random.default_rng(n).normal(0.4, 1, size=n)
    expected = sign_flip_p(differences, alternative=alternative)  # type: ignore[arg-type]
    assert max_t([differences], sides=sides) == [pytest.approx(expected, abs=1e-12)]


def test_max_t_pays_nothing_for_a_comparison_that_repeats_another() -> None:
    """Holm doubles the p value of two equal comparisons; their maximum is either one."""
    differences = np.random.default_rng(1).normal(0.7, 1, size=10)
    alone = max_t([differences])[0]
    assert max_t([differences, 3 * differences, -differences]) == [alone] * 3


def test_max_t_knows_equal_and_zero_differences() -> None:
    """Equal ones are the most that n seeds can show, as in every unit; zeros show nothing and do
    not stand in the way of the others."""
    equal, zeros, mixed = [1e-300] * 6, [0.0] * 6, [1e300, 2e300, -1e300, 3e300, 1e300, 4e300]
    assert max_t([equal, zeros, mixed])[:2] == [2 / 64, 1.0]
    assert max_t([zeros, zeros], sides=1) == [1.0, 1.0]
    assert max_t([mixed, zeros]) == [*max_t([mixed]), 1.0]
    assert max_t([[-1.0] * 6, [-2.0] * 6], sides=1) == [1.0, 1.0]


def test_random_sign_vectors_find_the_exact_p_values() -> None:
    """9,999 of the 16,384 vectors, drawn with replacement: within five standard errors."""
    rows = np.random.default_rng(3).normal([[0.2], [0.6], [0.9]], 1, size=(3, 14))
    exact, drawn = max_t(rows), max_t(rows, resamples=9_999, seed=1)
    for p, q in zip(exact, drawn, strict=True):
        assert q != p and abs(q - p) < 5 * math.sqrt(p * (1 - p) / 9_999) + 1e-4
    assert max_t(rows, resamples=9_999, seed=1) == drawn
    assert min(max_t(np.ones((1, 40)), resamples=99)) == 0.01  # the observed one always counts


def test_the_family_wise_error_is_kept_and_holms_power_is_beaten() -> None:
    """Ten comparisons with one baseline, as activations have, eight without any effect. Over 1500
    families of 12 seeds any false rejection happens in 5% (three standard errors allowed), and the
    true effects are found more often than by Holm over the same sign-flip tests."""
    random = np.random.default_rng(7)
    effects = np.array([1.0, 1.0] + [0.0] * 8)
    false, found, found_by_holm, runs = 0, 0, 0, 1500
    for _ in range(runs):
        baseline = random.standard_t(4, size=12)
        rows = effects[:, None] + random.standard_t(4, size=(10, 12)) * 0.7 - baseline
        p = np.array(max_t(rows, resamples=4095))
        false += bool((p[2:] <= 0.05).any())
        found += int((p[:2] <= 0.05).sum())
        single = [sign_flip_p(row) for row in rows[:2]]
        found_by_holm += sum(q * 10 <= 0.05 for q in single)  # at least Holm's, at most ten tests
    assert false / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert found > 1.1 * found_by_holm > 0


@pytest.mark.parametrize(
    ("rows", "sides"),
    [([], 2), ([[1.0], [1.0, 2.0]], 2), ([[math.nan, 1.0]], 2), ([[]], 2), ([[1.0, 2.0]], 3)],
)
def test_max_t_refuses(rows: list[list[float]], sides: int) -> None:
    with pytest.raises(ValueError, match="max_t"):
        max_t(rows, sides=sides)


# ---------------------------------------------------------------------------------------- looks

PRINTED = {  # by ld98 (Reboussin, DeMets, Kim and Lan 2000) and ldbounds, two sides, 5%
    1: (1.9600,),
    2: (2.9626, 1.9686),
    3: (3.7103, 2.5114, 1.9930),
    4: (4.3326, 2.9631, 2.3590, 2.0141),
    5: (4.8769, 3.3569, 2.6803, 2.2898, 2.0310),
}


@pytest.mark.parametrize("count", PRINTED)
def test_spending_gives_the_printed_boundaries(count: int) -> None:
    levels = spending(tuple(range(7, 7 * count + 1, 7)))
    assert [stats.norm.isf(p / 2) for p in levels] == pytest.approx(PRINTED[count], abs=2e-4)


@pytest.mark.parametrize(("looks", "alpha"), [((16, 32, 64), 0.05), ((3, 4, 9, 10), 0.2)])
def test_spending_spends_alpha_and_no_more_at_any_look(
    looks: tuple[int, ...], alpha: float
) -> None:
    """Against SciPy's multivariate normal: what has crossed by each look is the function's share,
    twice what one side spends (that both sides are crossed has no weight to speak of)."""
    bounds = stats.norm.isf(np.array(spending(looks, alpha)) / 2)
    times = np.array(looks) / looks[-1]
    for k in range(1, len(looks) + 1):
        between = np.sqrt(
            np.minimum.outer(times[:k], times[:k]) / np.maximum.outer(times[:k], times[:k])
        )
        law = stats.multivariate_normal(cov=between, seed=0, maxpts=2_000_000, abseps=1e-7)
        crossed = 1 - law.cdf(bounds[:k], lower_limit=-bounds[:k])
        allowed = 4 * stats.norm.sf(stats.norm.isf(alpha / 4) / math.sqrt(times[k - 1]))
        assert crossed == pytest.approx(allowed, abs=3e-6)


def test_one_look_spends_all_and_a_look_far_too_early_nothing() -> None:
    assert spending((8,), 0.01) == [pytest.approx(0.01)]
    assert spending((1, 10_000)) == [0.0, pytest.approx(0.05)]


@pytest.mark.parametrize("looks", [(), (0, 4), (4, 4), (8, 4)])
def test_spending_refuses(looks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="looks must rise"):
        spending(looks)
    with pytest.raises(ValueError, match="alpha"):
        spending((4, 8), 1.0)


# ---------------------------------------------------------------------------------------- tasks

# The 13 trials of the BCG vaccine (Colditz et al. 1994): ill, well with it; ill, well without.
BCG = np.array(
    [
        (4, 119, 11, 128),
        (6, 300, 29, 274),
        (3, 228, 11, 209),
        (62, 13536, 248, 12619),
        (33, 5036, 47, 5761),
        (180, 1361, 372, 1079),
        (8, 2537, 10, 619),
        (505, 87886, 499, 87892),
        (29, 7470, 45, 7232),
        (17, 1699, 65, 1600),
        (186, 50448, 141, 27197),
        (5, 2493, 3, 2338),
        (27, 16886, 29, 17825),
    ],
    dtype=float,
)


def log_risk_ratios() -> tuple[Array, Array]:
    """The logarithm of the ratio of risks in each trial and its standard error."""
    a, b, c, d = BCG.T
    return np.log(a / (a + b) * (c + d) / c), np.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d))


def statsmodels(effects: Array, errors: Array) -> tuple[float, float, float, float]:
    """Mean, tau and the ends of Hartung and Knapp's interval by statsmodels."""
    found = combine_effects(effects, errors**2, method_re="iterated", use_t=True, atol=1e-7)
    low, high = found.conf_int()[3]
    return found.mean_effect_re, math.sqrt(found.tau2), low, high


def test_random_effects_of_the_bcg_trials() -> None:
    """tau**2 is 0.3181 by Paule and Mandel (printed by metafor), all else as by statsmodels."""
    effects, errors = log_risk_ratios()
    found = random_effects(effects, errors)
    assert found.tau**2 == pytest.approx(0.3181, abs=5e-5)
    mine = (found.mean, found.tau, found.interval.low, found.interval.high)
    assert mine == pytest.approx(statsmodels(effects, errors), rel=1e-6)
    spread = math.sqrt(
        found.tau**2 + ((found.interval.high - found.mean) / stats.t.isf(0.025, 12)) ** 2
    )
    assert found.prediction.high == pytest.approx(found.mean + stats.t.isf(0.025, 11) * spread)
    assert found.prediction.low == pytest.approx(2 * found.mean - found.prediction.high)


@examples(60)
@given(st.integers(2, 12), st.integers(0, 10_000), st.sampled_from([1e-150, 1.0, 1e150]))
def test_random_effects_equal_statsmodels_where_tasks_differ(
    k: int, seed: int, unit: float
) -> None:
    random = np.random.default_rng(seed)
    errors = random.uniform(0.1, 1.0, size=k)
    effects = random.normal(0, 2, size=k)
    found = random_effects(effects * unit, errors * unit)
    mean, tau, low, high = statsmodels(effects, errors)
    if tau > 1e-3:
        assert found.tau == pytest.approx(tau * unit, rel=1e-4)
        assert (found.interval.low, found.interval.high) == pytest.approx(
            (low * unit, high * unit), rel=1e-4, abs=1e-4 * unit
        )
    else:  # Hartung and Knapp's own interval may shrink to a point; this one does not
        width = 2 * stats.t.isf(0.025, k - 1) / math.sqrt((1 / errors**2).sum()) * unit
        assert found.tau <= 1e-2 * unit
        assert found.interval.high - found.interval.low == pytest.approx(width, rel=1e-3)
    assert found.mean == pytest.approx(mean * unit, rel=1e-4, abs=1e-4 * unit)


def test_effects_that_agree_have_no_spread_and_the_interval_of_their_errors() -> None:
    found = random_effects([0.5, 0.5, 0.5, 0.5], [0.1, 0.1, 0.1, 0.1])
    half = stats.t.isf(0.025, 3) * 0.05
    assert (found.tasks, found.mean, found.tau) == (4, pytest.approx(0.5), 0.0)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.5 - half, 0.5 + half))
    assert found.prediction.high == pytest.approx(0.5 + stats.t.isf(0.025, 2) * 0.05)


def test_two_tasks_predict_nothing_of_a_third() -> None:
    found = random_effects([0.0, 1.0], [0.1, 0.1])
    assert (found.prediction.low, found.prediction.high) == (-math.inf, math.inf)
    assert found.interval.contains(0.5) and math.isfinite(found.interval.high)


def test_the_interval_and_the_prediction_hold_as_often_as_they_say() -> None:
    """Six tasks, effects spread three times as far as their errors, 3000 times: the mean lies
    in its interval and a seventh task's true effect in the prediction in 95%. Equal standard
    errors, for which Hartung and Knapp's interval is exact; the prediction is nearly so."""
    random = np.random.default_rng(11)
    covered, predicted, runs = 0, 0, 3000
    for _ in range(runs):
        truths = random.normal(1.0, 0.3, size=7)
        found = random_effects(random.normal(truths[:6], 0.1), np.full(6, 0.1))
        covered += found.interval.contains(1.0)
        predicted += found.prediction.contains(truths[6])
    assert abs(covered / runs - 0.95) < 3 * math.sqrt(0.05 * 0.95 / runs)
    assert 0.94 < predicted / runs < 0.98


@pytest.mark.parametrize(
    ("effects", "errors"),
    [([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([1.0, 2.0], [1.0, 0.0]), ([1.0, math.inf], [1.0, 1.0])],
)
def test_random_effects_refuse(effects: list[float], errors: list[float]) -> None:
    with pytest.raises(ValueError, match="random_effects"):
        random_effects(effects, errors)


# ---------------------------------------------------------------------------------------- rates


@examples(60)
@given(st.integers(1, 60), st.sampled_from([0.8, 0.95, 0.99]), st.data())
def test_clopper_pearson_holds_the_rates_that_neither_tail_refuses(
    n: int, confidence: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(0, n))
    found, tail = clopper_pearson(k, n, confidence=confidence), (1 - confidence) / 2
    assert found.confidence == confidence
    assert (k == 0 and found.low == 0) or math.isclose(stats.binom.sf(k - 1, n, found.low), tail)
    assert (k == n and found.high == 1) or math.isclose(stats.binom.cdf(k, n, found.high), tail)


def test_clopper_pearson_covers_at_every_rate_where_wilson_does_not() -> None:
    rates, n = np.linspace(0.005, 0.995, 199), 24
    for interval, least in ((clopper_pearson, 0.95), (wilson, 0.0)):
        found = [interval(k, n) for k in range(n + 1)]
        covered = [
            sum(stats.binom.pmf(k, n, p) for k in range(n + 1) if found[k].contains(p))
            for p in rates
        ]
        assert min(covered) >= least
    assert min(covered) < 0.9


@pytest.mark.parametrize(("k", "n"), [(-1, 4), (5, 4), (0, 0), (0.5, 4)])
def test_clopper_pearson_refuses(k: float, n: int) -> None:
    with pytest.raises(ValueError, match="clopper_pearson"):
        clopper_pearson(k, n)  # type: ignore[arg-type]
