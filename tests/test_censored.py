"""Time to solve with runs that never did: by hand, and the laws."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anygate.lab.statistics import (
    CensoredTimes,
    Evidence,
    common_horizon,
    evidence,
    kaplan_meier,
    mean_interval,
    median_interval,
    paired_times,
    time_to_solve,
    wilson,
)

NEVER = math.inf
ROUNDING = 1e-12


def runs(*times: float, stopped: tuple[int, ...] = ()) -> CensoredTimes:
    """Times to solve; infinite ones, and those at the places ``stopped``, did not."""
    solved = (math.isfinite(t) and k not in stopped for k, t in enumerate(times))
    return CensoredTimes(times, tuple(solved))


whole = st.integers(1, 12).map(float)
any_runs = st.lists(st.tuples(whole | st.just(NEVER), st.booleans()), min_size=1, max_size=12).map(
    lambda pairs: CensoredTimes(
        tuple(t for t, _ in pairs), tuple(s and math.isfinite(t) for t, s in pairs)
    )
)
solved_or_never = st.lists(whole | st.just(NEVER), min_size=1, max_size=9)
twins = st.lists(st.tuples(*[whole | st.just(NEVER)] * 2), min_size=1, max_size=9)


# ---------------------------------------------------------------------------------- the curve


def test_kaplan_meier_by_hand() -> None:
    """Six runs: one solves at 2 of 6 followed, one stops at 3, two solve at 4 of 4, one stops at
    4 (still followed then), one solves at 7 of 1."""
    curve = kaplan_meier(runs(2, 3, 4, 4, 4, 7, stopped=(1, 4)))
    assert curve.times == (2.0, 4.0, 7.0)
    assert curve.unsolved == pytest.approx([5 / 6, 5 / 6 * 2 / 4, 0.0])
    assert [curve.at(t) for t in (0, 1.9, 2, 3)] == pytest.approx([1, 1, 5 / 6, 5 / 6])
    assert curve.median == 4.0
    area = 2 + 2 * 5 / 6 + 3 * 5 / 12
    assert curve.restricted_mean(7) == pytest.approx(area)
    assert curve.restricted_mean(3) == pytest.approx(2 + 5 / 6)
    assert curve.restricted_mean(1) == 1.0


@given(solved_or_never)
def test_without_early_stops_it_is_the_share_of_runs(times: list[float]) -> None:
    curve = kaplan_meier(runs(*times))
    for t in range(14):
        assert curve.at(t) == pytest.approx(np.mean(np.array(times) > t), abs=ROUNDING)


@given(any_runs)
def test_the_curve_falls_and_the_area_grows(times: CensoredTimes) -> None:
    curve = kaplan_meier(times)
    assert all(1 >= a > b >= 0 for a, b in pairwise((1.0, *curve.unsolved)))
    areas = [curve.restricted_mean(h) for h in range(1, 15)]
    assert all(0 <= b - a <= 1 + ROUNDING for a, b in pairwise(areas))


@given(solved_or_never, st.data())
def test_a_slower_run_never_lowers_the_curve(times: list[float], data: st.DataObject) -> None:
    """Of runs of which none was stopped early: among those that were, each weighs more later."""
    place = data.draw(st.integers(0, len(times) - 1))
    later = [*times]
    later[place] += data.draw(st.integers(1, 5))
    slower, faster = kaplan_meier(runs(*later)), kaplan_meier(runs(*times))
    assert all(slower.at(t) >= faster.at(t) - ROUNDING for t in range(20))
    assert (
        time_to_solve(runs(*later), 9).median.value >= time_to_solve(runs(*times), 9).median.value
    )


@given(any_runs, st.randoms(), st.sampled_from([0.5, 2.0, 8.0]))
def test_order_and_unit_do_not_matter(times: CensoredTimes, random: Any, scale: float) -> None:
    pairs = list(zip(times.times, times.solved, strict=True))
    mixed, solved = zip(*random.sample(pairs, len(pairs)), strict=True)
    here, there = kaplan_meier(times), kaplan_meier(CensoredTimes(mixed, solved))
    assert here == there
    other = kaplan_meier(CensoredTimes(tuple(scale * t for t in mixed), solved))
    assert other.median == scale * here.median
    assert other.restricted_mean(scale * 9) == pytest.approx(scale * here.restricted_mean(9))


# ------------------------------------------------------------------------------ one activation


def test_time_to_solve_by_hand() -> None:
    found = time_to_solve(runs(3, 5, 20, NEVER, 4, 20, stopped=(2, 5)), 20)
    assert (found.n, found.solved, found.horizon) == (6, 3, 20)
    assert found.median.value == 5.0
    assert (found.median.interval.low, found.median.interval.high) == (3.0, NEVER)
    assert found.median.interval.confidence == 1 - 2 * 2**-6
    assert found.restricted_mean.value == (3 + 5 + 4 + 3 * 20) / 6
    assert found.restricted_mean.interval == mean_interval([3.0, 5.0, 20.0, 20.0, 4.0, 20.0])


def test_failures_are_neither_dropped_nor_given_a_time() -> None:
    """Dropped, this activation would have a median of 2 epochs."""
    found = time_to_solve(runs(2, 2, NEVER, NEVER, NEVER), 20)
    assert found.median.value == NEVER and found.solved == 2


@given(solved_or_never, st.integers(1, 14))
def test_median_and_restricted_mean_are_those_of_the_curve(
    times: list[float], horizon: int
) -> None:
    found, curve = time_to_solve(runs(*times), horizon), kaplan_meier(runs(*times))
    assert found.restricted_mean.value == pytest.approx(curve.restricted_mean(horizon))
    assert found.median.value == (curve.median if curve.median <= horizon else NEVER)
    assert found.solved == sum(t <= horizon for t in times)
    interval = found.median.interval
    assert interval.low <= found.median.value <= interval.high


@pytest.mark.parametrize(
    ("n", "places", "confidence"),
    [
        (1, (1, 1), 0.0),
        (5, (1, 5), 0.9375),
        (6, (1, 6), 0.96875),
        (9, (2, 8), 1 - 20 / 512),
        (10, (2, 9), 1 - 22 / 1024),
        (20, (6, 15), 0.958610535),
    ],
)
def test_median_interval_by_hand(n: int, places: tuple[int, int], confidence: float) -> None:
    interval = median_interval(np.arange(n, 0.0, -1.0))
    assert (interval.low, interval.high) == places
    assert interval.confidence == pytest.approx(confidence)


@given(st.lists(whole | st.just(NEVER), min_size=1, max_size=25), st.sampled_from([0.5, 0.8, 0.99]))
def test_median_interval_laws(times: list[float], confidence: float) -> None:
    inner, outer = (median_interval(times, confidence=c) for c in (confidence, 0.999))
    assert min(times) <= outer.low <= inner.low <= inner.high <= outer.high <= max(times)
    assert median_interval([2 * t for t in times]).low == 2 * median_interval(times).low
    assert inner.confidence >= confidence or (inner.low, inner.high) == (min(times), max(times))


# -------------------------------------------------------------------------------------- pairs


def test_paired_times_by_hand() -> None:
    """Times 2 4 6 - against 4 4 - -: ranks 1 3 5 7 against 3 3 7 7."""
    found = paired_times(runs(2, 4, 6, NEVER), runs(4, 4, NEVER, NEVER), 10)
    assert (found.n, found.a_first, found.b_first, found.horizon) == (4, 2, 0, 10)
    assert found.ranks.differences == (-2.0, 0.0, -2.0, 0.0)
    assert found.p_value == 0.5  # |4| or more in 8 of 16 patterns
    assert found.restricted.differences == (-2.0, 0.0, -4.0, 0.0)
    assert found.sooner.value == 0.75 and found.sooner.interval == wilson(3, 4)


@given(twins)
def test_swapping_the_sides_mirrors_the_times(pairs: list[tuple[float, float]]) -> None:
    a, b = (runs(*t) for t in zip(*pairs, strict=True))
    there, back = paired_times(a, b, 10), paired_times(b, a, 10)
    assert there.p_value == back.p_value
    assert (there.a_first, there.b_first) == (back.b_first, back.a_first)
    assert there.restricted.mean == -back.restricted.mean
    assert there.sooner.value == pytest.approx(1 - back.sooner.value)


@given(twins)
def test_only_the_order_of_times_is_tested(pairs: list[tuple[float, float]]) -> None:
    a, b = zip(*pairs, strict=True)
    here = paired_times(runs(*a), runs(*b), 10)
    there = paired_times(runs(*(t**2 for t in a)), runs(*(t**2 for t in b)), 100)
    assert (there.p_value, there.sooner) == (here.p_value, here.sooner)


@given(twins)
def test_whatever_happens_after_the_horizon_is_never(pairs: list[tuple[float, float]]) -> None:
    a, b = zip(*pairs, strict=True)
    cut_a, cut_b = ([t if t <= 7 else NEVER for t in x] for x in (a, b))
    assert paired_times(runs(*a), runs(*b), 7) == paired_times(runs(*cut_a), runs(*cut_b), 7)


def test_solving_where_the_other_fails_is_evidence_however_late() -> None:
    late, never = runs(*range(10, 20)), runs(*[NEVER] * 10)
    found = paired_times(late, never, 20)
    assert found.p_value == 2 * 2.0**-10 and found.a_first == 10
    assert evidence(found.ranks, found.p_value, 1) is Evidence.HELD
    both = paired_times(never, never, 20)
    assert (both.p_value, both.sooner.value) == (1.0, 0.5)


# ------------------------------------------------------------------------------------- errors


def test_the_common_horizon() -> None:
    assert common_horizon([runs(3, NEVER), runs(25)], 20) == 20
    assert common_horizon([runs(3, 12, stopped=(1,)), runs(5, 9, stopped=(1,))], 20) == 9


@pytest.mark.parametrize(
    ("times", "solved", "message"),
    [
        ((), (), "one time and one answer"),
        ((1.0,), (True, False), "one time and one answer"),
        ((0.0,), (True,), "positive"),
        ((math.nan,), (False,), "positive"),
        ((NEVER,), (True,), "finite time"),
    ],
)
def test_impossible_times_are_refused(
    times: tuple[float, ...], solved: tuple[bool, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        CensoredTimes(times, solved)


def test_a_run_that_was_stopped_early_is_not_guessed() -> None:
    early = runs(3, 8, stopped=(1,))
    with pytest.raises(ValueError, match=r"followed for 8 only, not until 20.*shorter horizon"):
        time_to_solve(early, 20)
    assert time_to_solve(early, 8).solved == 1


@pytest.mark.parametrize("horizon", [0.0, -1.0, math.inf, math.nan])
def test_a_horizon_must_be_positive(horizon: float) -> None:
    for call in (runs(3).until, kaplan_meier(runs(3)).restricted_mean):
        with pytest.raises(ValueError, match="the horizon must be a positive number"):
            call(horizon)


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match="one to one, got 1 and 2"):
        paired_times(runs(1), runs(1, 2), 5)
    for times in ([], [math.nan]):
        with pytest.raises(ValueError, match="median_interval"):
            median_interval(times)
