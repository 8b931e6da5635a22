"""Bootstrap intervals, aggregates over tasks, rates, probabilities and equivalence: their laws.

That they are the numbers of SciPy and rliable is tested in test_statistics_oracles.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from examples import examples
from hypothesis import assume, given
from hypothesis import strategies as st

from anygate.lab.statistics import (
    Interval,
    NominalInterval,
    aggregate_iqm,
    bootstrap_interval,
    equivalence,
    holm,
    iqm,
    iqm_difference,
    is_equivalent,
    mean_interval,
    normalised,
    performance_profile,
    probability_of_improvement,
    seeds_needed,
    sign_flip_p,
    smallest_reachable_p,
    wilson,
)

eighths = st.integers(-40, 40).map(lambda k: k / 8)  # exact sums: ties are ties
values = st.lists(eighths, min_size=1, max_size=10)
positive = st.integers(1, 40).map(lambda k: k / 8)
METHODS = ["bca", "percentile"]
FEW: Any = {"resamples": 400}
ROUNDING = 1e-11  # of a few dozen operations on numbers up to 100


def ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


# ------------------------------------------------------------------------------- the bootstrap


@pytest.mark.parametrize("method", METHODS)
@given(data=values, scale=st.sampled_from([-4.0, -1.0, 1 / 3, 0.7, 16.0]), shift=eighths)
def test_bootstrap_moves_and_stretches_with_the_values(
    method: Any, data: list[float], scale: float, shift: float
) -> None:
    """Thirds and tenths too, whose sums depend on their order."""
    here = bootstrap_interval(data, method=method, **FEW)
    there = bootstrap_interval([scale * x + shift for x in data], method=method, **FEW)
    moved = sorted(scale * end + shift for end in ends(here))
    assert ends(there) == pytest.approx(moved, abs=ROUNDING)


@pytest.mark.parametrize("method", METHODS)
@given(data=values, level=st.sampled_from([0.5, 0.8, 0.95]))
def test_bootstrap_stays_in_the_range_and_grows_with_confidence(
    method: Any, data: list[float], level: float
) -> None:
    inner = bootstrap_interval(data, method=method, confidence=level, **FEW)
    outer = bootstrap_interval(data, method=method, confidence=0.99, **FEW)
    assert min(data) <= outer.low <= inner.low <= inner.high <= outer.high <= max(data)


def test_bootstrap_says_that_its_confidence_is_nominal() -> None:
    interval = bootstrap_interval([1.0, 2.0, 4.0], **FEW)
    assert isinstance(interval, NominalInterval) and interval.confidence == 0.95
    assert not isinstance(mean_interval([1.0, 2.0, 4.0]), NominalInterval)


def test_bootstrap_of_one_value_or_of_equal_ones_has_no_width() -> None:
    assert bootstrap_interval([3.0]) == NominalInterval(3.0, 3.0, 0.0)
    assert bootstrap_interval([0.1] * 5) == NominalInterval(0.1, 0.1, 0.95)


def test_bca_does_not_depend_on_the_size_of_the_numbers() -> None:
    """Cubes of 1e-150 are zero in float64; the acceleration is free of scale."""
    data = np.array([1.0, 2.0, 4.0, 9.0, 1.0, 3.0])
    here, there = bootstrap_interval(data, **FEW), bootstrap_interval(1e-150 * data, **FEW)
    assert ends(there) == pytest.approx([1e-150 * x for x in ends(here)], rel=1e-12)


def test_bca_leans_towards_the_long_tail() -> None:
    data = np.random.default_rng(0).exponential(size=20)
    plain, moved = (bootstrap_interval(data, method=m) for m in ("percentile", "bca"))
    assert moved.low > plain.low and moved.high > plain.high


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        ([], {}, "at least one"),
        ([math.nan, 1.0], {}, "finite"),
        ([1.0, 2.0], {"method": "basic"}, "bca or percentile"),
        ([1.0, 2.0], {"confidence": 95}, "between 0 and 1"),
    ],
)
def test_bootstrap_refuses(data: list[float], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap_interval(data, **options)


# --------------------------------------------------------------------------------- aggregates


@given(st.lists(eighths, min_size=1, max_size=20), st.randoms(), positive, eighths)
def test_iqm_laws(data: list[float], random: Any, scale: float, shift: float) -> None:
    mixed = random.sample(data, len(data))
    assert iqm(mixed) == iqm(data)
    assert iqm([scale * x + shift for x in data]) == pytest.approx(scale * iqm(data) + shift)
    assert iqm([-x for x in data]) == pytest.approx(-iqm(data))
    assert iqm([data[0] + scale, *data[1:]]) >= iqm(data) - ROUNDING  # monotone in every value


def test_one_odd_run_moves_the_mean_and_not_the_iqm() -> None:
    assert iqm([1.0, 2.0, 3.0, 4.0]) == iqm([1.0, 2.0, 3.0, 1e9]) == 2.5


def test_the_strata_are_resampled_apart() -> None:
    """Tasks that differ while their seeds do not: nothing is uncertain. Pooled, much would be."""
    table = np.tile([0.0, 1.0, 5.0], (6, 1))
    found = aggregate_iqm(table, **FEW)
    assert found.value == found.interval.low == found.interval.high == iqm(table.ravel())


def test_a_flat_list_is_one_task() -> None:
    data = [1.0, 2.0, 4.0, 8.0, 16.0]
    flat, column = aggregate_iqm(data, **FEW), aggregate_iqm([[x] for x in data], **FEW)
    assert flat == column and flat.value == iqm(data)
    assert 1.0 <= flat.interval.low < flat.value < flat.interval.high <= 16.0


@given(st.lists(st.tuples(eighths, eighths), min_size=2, max_size=8), eighths)
def test_iqm_difference_keeps_the_pairs(pairs: list[tuple[float, float]], gain: float) -> None:
    """A gain that is the same in every seed is certain, however far the seeds lie apart."""
    b = np.array(pairs)
    found = iqm_difference(b + gain, b, **FEW)
    assert [found.value, *ends(found.interval)] == pytest.approx([gain] * 3, abs=ROUNDING)


def test_iqm_difference_mirrors() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 8, 3))
    there, back = iqm_difference(a, b, **FEW), iqm_difference(b, a, **FEW)
    assert there.value == -back.value == iqm(a.ravel()) - iqm(b.ravel())
    assert ends(there.interval) == pytest.approx([-x for x in reversed(ends(back.interval))])


def test_normalised_puts_guessing_at_0_and_solved_at_1() -> None:
    accuracy = normalised([0.1, 0.95, 0.525], baseline=0.1, solved=0.95)
    error = normalised([[0.167], [0.007]], baseline=0.167, solved=0.007)
    assert accuracy.tolist() == pytest.approx([0.0, 1.0, 0.5])
    assert error.tolist() == [[0.0], [1.0]]


def test_profile_by_hand_and_downhill() -> None:
    profile = performance_profile([[0.0, 1.0], [2.0, 3.0]], [-1.0, 0.0, 1.5, 3.0])
    assert [p.value for p in profile] == [1.0, 0.75, 0.5, 0.0]
    assert [p.interval for p in profile] == [wilson(k, 4) for k in (4, 3, 2, 0)]


@pytest.mark.parametrize(
    "call",
    [
        lambda: aggregate_iqm([]),
        lambda: aggregate_iqm([[1.0], [math.nan]]),
        lambda: aggregate_iqm([[1.0, 2.0], [3.0]]),
        lambda: aggregate_iqm(np.zeros((2, 2, 2))),
        lambda: aggregate_iqm([1.0], confidence=95),
        lambda: iqm_difference([1.0, 2.0], [1.0]),
        lambda: normalised([1.0], 0.5, 0.5),
        lambda: normalised([math.inf], 0.0, 1.0),
        lambda: performance_profile([1.0], []),
        lambda: probability_of_improvement([1.0, 2.0], [1.0]),
        lambda: probability_of_improvement([[1.0, 2.0]], [[1.0]], paired=False),
        lambda: wilson(1, 2, confidence=1.5),
    ],
)
def test_what_is_no_table_is_refused(call: Any) -> None:
    with pytest.raises(ValueError, match=r"needed|finite|same|match|both|between"):
        call()


# ------------------------------------------------------------------- rates and probabilities


@given(st.integers(1, 40), st.data())
def test_wilson_laws(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, 2 * n)) / 2
    here, mirror = wilson(k, n), wilson(n - k, n)
    assert 0 <= here.low <= k / n <= here.high <= 1
    assert ends(mirror) == pytest.approx((1 - here.high, 1 - here.low), abs=ROUNDING)
    more = wilson(10 * k, 10 * n)
    assert here.high - here.low > more.high - more.low
    if k < n:
        up = wilson(k + 0.5, n)
        assert up.low > here.low and up.high >= here.high


def test_wilson_reaches_the_ends_exactly() -> None:
    for n in range(1, 100):
        assert wilson(0, n).low == 0.0 and wilson(n, n).high == 1.0


def test_improvement_by_hand() -> None:
    """Seed by seed 2 better, 1 worse, 1 tie; over all 16 combinations 7 better and 4 ties."""
    a, b = [3.0, 5.0, 1.0, 4.0], [1.0, 4.0, 3.0, 4.0]
    paired = probability_of_improvement(a, b)
    assert (paired.value, paired.interval) == (0.625, wilson(2.5, 4))
    unpaired = probability_of_improvement(a, b, paired=False)
    assert unpaired.value == (7 + 2) / 16
    assert unpaired.interval == wilson(4 * unpaired.value, 4)


tables = st.integers(1, 3).flatmap(
    lambda tasks: st.lists(
        st.tuples(*[st.lists(eighths, min_size=tasks, max_size=tasks)] * 2), min_size=1, max_size=6
    )
)


@given(tables, st.booleans())
def test_improvement_laws(rows: list[tuple[list[float], list[float]]], paired: bool) -> None:
    a, b = (np.array(x) for x in zip(*rows, strict=True))
    here = probability_of_improvement(a, b, paired=paired)
    back = probability_of_improvement(b, a, paired=paired)
    assert here.value + back.value == pytest.approx(1)
    assert ends(here.interval) == pytest.approx((1 - back.interval.high, 1 - back.interval.low))
    assert here.interval.low <= here.value <= here.interval.high
    assert here.interval.high > here.interval.low  # never a point, however clear
    # Only the order counts: cubes keep it. So does the order of the seeds, if pairs stay pairs.
    assert probability_of_improvement(a**3, b**3, paired=paired) == here
    turned = probability_of_improvement(a[::-1], b[::-1], paired=paired)
    assert turned.value == pytest.approx(here.value)
    raised = probability_of_improvement(a + 0.125, b, paired=paired)
    assert raised.value >= here.value - ROUNDING


def test_tasks_add_up_to_more_runs() -> None:
    a, b = np.ones((5, 4)), np.zeros((5, 4))
    assert probability_of_improvement(a, b).interval == wilson(20, 20)
    fewer = probability_of_improvement(a, b[:3], paired=False)
    assert fewer.interval == wilson(12, 12)


# -------------------------------------------------------------------------------- equivalence


@given(values)
def test_one_sided_and_two_sided_p_values_belong_together(data: list[float]) -> None:
    greater, less = (sign_flip_p(data, alternative=s) for s in ("greater", "less"))
    assert sign_flip_p(data) == pytest.approx(min(1.0, 2 * min(greater, less)))
    assert sign_flip_p([-x for x in data], alternative="greater") == less


def test_an_unknown_alternative_is_refused() -> None:
    wrong: Any = "larger"
    with pytest.raises(ValueError, match="two-sided, greater or less"):
        sign_flip_p([1.0], alternative=wrong)


pairs = st.lists(st.tuples(eighths, eighths), min_size=1, max_size=9)


@given(pairs, positive)
def test_equivalence_is_shown_exactly_when_the_interval_lies_inside(
    drawn: list[tuple[float, float]], margin: float
) -> None:
    a, b = zip(*drawn, strict=True)
    found = equivalence(a, b, margin)
    assume(found.interval.confidence >= 0.9)  # below five seeds it is only the range
    inside = -margin < found.interval.low and found.interval.high < margin
    assert inside == (found.p_value <= 0.05)


@given(st.lists(eighths, min_size=15, max_size=20), positive)
@examples(20)
def test_equivalence_and_interval_agree_when_sampled(a: list[float], margin: float) -> None:
    found = equivalence(a, [0.0] * len(a), margin, resamples=999)
    inside = -margin < found.interval.low and found.interval.high < margin
    assert inside == (found.p_value <= 0.05)


@given(pairs, positive, positive, eighths)
def test_equivalence_laws(
    drawn: list[tuple[float, float]], margin: float, scale: float, shift: float
) -> None:
    a, b = (np.array(x) for x in zip(*drawn, strict=True))
    here, back = equivalence(a, b, margin), equivalence(b, a, margin)
    assert (here.p_above, here.p_below) == (back.p_below, back.p_above)
    assert here.p_value == max(here.p_above, here.p_below) >= 2.0 ** -len(a)
    assert equivalence(a, b, margin + scale).p_value <= here.p_value
    stretched = equivalence(scale * a, scale * b, scale * margin)
    assert (stretched.p_above, stretched.p_below) == (here.p_above, here.p_below)
    assert equivalence(a + shift, b + shift, margin).p_value == here.p_value
    assert equivalence(a[::-1], b[::-1], margin).p_value == here.p_value


def test_equivalence_by_hand() -> None:
    """Differences 1, 0, -1 and a margin of 2: shifted 3, 2, 1, all above 0, so 1 pattern of 8."""
    found = equivalence([1.0, 0.0, -1.0], [0.0] * 3, 2.0)
    assert (found.n, found.margin, found.p_above, found.p_below) == (3, 2.0, 1 / 8, 1 / 8)
    tight = equivalence([1.0, 0.0, -1.0], [0.0] * 3, 0.5)  # shifted 1.5, 0.5, -0.5
    assert tight.p_value == 3 / 8  # totals of at least 1.5: +++ is that, +-- too, ++- is 2.5


def test_a_difference_on_the_margin_is_not_inside_it() -> None:
    """In float64 0.91 - 0.9 is 0.010000000000000009, and 0.11 - 0.1 is 0.009999999999999995."""
    a, b = [0.11, 0.51, 0.91, 0.11, 0.11, 0.11], [0.1, 0.5, 0.9, 0.1, 0.1, 0.1]
    assert equivalence(a, b, 0.01).p_below == 1.0
    assert equivalence(b, a, 0.01).p_above == 1.0
    assert equivalence(a, b, 0.0101).p_value == 2.0**-6


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan, math.inf])
def test_a_margin_must_be_positive(margin: float) -> None:
    with pytest.raises(ValueError, match="the margin must be a positive number"):
        equivalence([1.0], [1.0], margin)


def test_five_seeds_show_no_equivalence_however_equal() -> None:
    """Their p value of 1/32 is below 5%; the rule for claims is six seeds."""
    five, six = (equivalence([0.0] * n, [0.0] * n, 1.0) for n in (5, 6))
    assert five.p_value == 1 / 32 and not is_equivalent(five, five.p_value)
    assert six.p_value == 1 / 64 and is_equivalent(six, six.p_value)
    assert not is_equivalent(six, holm([six.p_value] * 4)[0])


def test_what_equivalence_can_reach() -> None:
    assert smallest_reachable_p(6, 4, sides=1) == 4 / 64
    assert smallest_reachable_p(0, 1, sides=1) == smallest_reachable_p(1, 9, sides=1) == 1.0
    assert [seeds_needed(k, sides=1) for k in (1, 3, 4, 9)] == [6, 6, 7, 8]
