"""The judges of the studies, on results made by hand: what they must say, and what a judge that is
broken on purpose would not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from made_results import around, results

from anygate.lab.statistics import max_t, spending
from studies import effects, judge
from studies.arms import BOTH, Arm, arm
from studies.claims import (
    CLAIMS,
    Claim,
    Diverging,
    Expected,
    Measured,
    Part,
    against_usual,
    main_effect,
)
from studies.effects import (
    LOOKS,
    Comparison,
    Outcome,
    Share,
    differences,
    judged_family,
    over_tasks,
)
from studies.experiments import FACTORIAL, RATES, factorial, grid
from studies.judge import Verdict
from studies.results import Results
from studies.setups import CORE, FACTORED

TASKS = ("adding", "order", "parity")


def claim(expects: Expected, *tasks: str) -> Claim:
    """ReLU as candidate should have this outcome on these tasks."""
    found = against_usual(grid(task, "candidate", "relu") for task in tasks or TASKS)
    part = Part("relu", "ReLU as candidate", False, Measured(expects, found))
    return Claim("made", "", "", "", "", (part,))


def arms_of(*claims: Claim) -> list[Arm]:
    return [a for each in claims for c in each.family for a in c.all]


def slower(factor: float, *tasks: str) -> Callable[[Arm, int], int]:
    """ReLU takes this factor of tanh's 8 epochs on these tasks, on others the same."""

    def reached(each: Arm, place: int) -> int:
        worse = each.slots and each.setup in tasks
        return around(8 * factor if worse else 8, place + 100 * bool(each.slots))

    return reached


def verdict(expects: Expected, factor: float, *tasks: str, seeds: int = 16) -> judge.JudgedPart:
    made = claim(expects)
    held = results(arms_of(made), slower(factor, *tasks), seeds=seeds)
    return judge.judge(made, held).parts[0]


# ---- signs and words ---------------------------------------------------------------------------


def test_twice_the_epochs_is_worse_and_half_is_better() -> None:
    """A sign turned would exchange the two."""
    worse, better = verdict(Expected.WORSE, 2, *TASKS), verdict(Expected.WORSE, 0.5, *TASKS)
    assert [e.outcome for e in worse.effects if e] == [Outcome.WORSE] * 3
    assert [e.outcome for e in better.effects if e] == [Outcome.BETTER] * 3
    assert all(e and 1.8 < e.ratio < 2.2 and e.low < e.ratio < e.high for e in worse.effects)
    assert (worse.verdict, worse.words) == (Verdict.SUPPORTED, "supported in 3 of 3 tasks")
    assert better.verdict is Verdict.COUNTEREXAMPLE


@pytest.mark.parametrize(
    ("expects", "factor", "wanted"),
    [
        (Expected.WORSE, 2, Verdict.SUPPORTED),
        (Expected.BETTER, 2, Verdict.COUNTEREXAMPLE),
        (Expected.SAME, 2, Verdict.COUNTEREXAMPLE),
        (Expected.NOT_WORSE, 2, Verdict.COUNTEREXAMPLE),
        (Expected.NOT_WORSE, 0.5, Verdict.SUPPORTED),
        (Expected.SAME, 1, Verdict.SUPPORTED),
        (Expected.WORSE, 1, Verdict.COUNTEREXAMPLE),
        (Expected.NOT_WORSE, 1, Verdict.SUPPORTED),
    ],
)
def test_every_expectation_with_every_outcome(
    expects: Expected, factor: float, wanted: Verdict
) -> None:
    assert verdict(expects, factor, *TASKS, seeds=32).verdict is wanted


def test_a_counterexample_in_one_task_does_not_take_the_others() -> None:
    found = verdict(Expected.NOT_WORSE, 2, "order", seeds=32)
    assert found.verdict is Verdict.COUNTEREXAMPLE
    assert (found.contrary, set(found.supporting)) == (("order",), {"adding", "parity"})
    assert found.words == "counterexample found in 1 of 3 tasks, supported in 2"


def test_no_difference_shown_is_not_resolved_and_never_the_same() -> None:
    """Sixteen seeds that scatter widely around no difference show neither."""
    made = claim(Expected.WORSE)
    held = results(arms_of(made), lambda a, k: around(8, k + 100 * bool(a.slots), spread=0.6))
    found = judge.judge(made, held).parts[0]
    assert found.verdict is Verdict.OPEN
    assert found.words == "not resolved in 3 tasks"


def test_before_the_first_look_nothing_is_judged() -> None:
    found = verdict(Expected.WORSE, 2, *TASKS, seeds=LOOKS[0] - 1)
    assert found.verdict is Verdict.WAITING
    assert all(e and e.n == LOOKS[0] - 1 and e.p is None for e in found.effects)
    nobody = judge.judge(claim(Expected.WORSE), results([], lambda a, k: 1)).parts[0]
    assert nobody.words == "waiting for the first look (0 seeds)"


def test_between_two_looks_the_seeds_of_the_last_look_count() -> None:
    found = verdict(Expected.WORSE, 2, *TASKS, seeds=LOOKS[0] + 3)
    assert all(e and e.n == LOOKS[0] for e in found.effects)


def test_a_gap_in_the_seeds_ends_what_counts() -> None:
    """Else which seeds count could depend on their outcome."""
    made = claim(Expected.WORSE)
    held = results(arms_of(made), slower(2, *TASKS), seeds=32)
    first = made.family[0]
    del held.held.runs[first.arms[0].name][held.seeds[20]]
    assert len(held.common(*first.all)) == 20
    assert all(e and e.n == 16 for e in judged_family(held, made.family))


# ---- failures ----------------------------------------------------------------------------------


def test_a_diverged_run_counts_as_the_worst_even_if_it_had_reached_the_level() -> None:
    made = claim(Expected.WORSE, "adding")
    calm = results(arms_of(made), slower(1))
    wild = results(arms_of(made), slower(1), diverged=lambda a, k: bool(a.slots) and k < 4)
    (before,), (after,) = (judged_family(r, made.family) for r in (calm, wild))
    assert before is not None
    assert after is not None
    budget = arm("adding").settings.epochs
    found = differences(wild, made.family[0], wild.seeds[:16])
    assert found[:4] == pytest.approx(
        [np.log2(budget / wild.run(arm("adding"), s).reached) for s in wild.seeds[:4]]
    )
    assert after.ratio > before.ratio
    assert (after.diverged, after.reference_diverged) == (Share(4, 16), Share(0, 16))
    part = judge.judge(made, wild).parts[0]
    assert part.diverged == (Share(4, 16), Share(0, 16))


def test_divergences_stand_in_every_line_of_the_verdicts() -> None:
    from studies.__main__ import verdict_lines

    made = claim(Expected.WORSE, "adding")
    wild = results(arms_of(made), slower(1), diverged=lambda a, k: bool(a.slots) and k < 4)
    text = "\n".join(verdict_lines([judge.judge(made, wild)]))
    assert "diverged 4 of 16 (7.3 to 52.4 %), other 0 of 16" in text


def test_the_interval_of_a_share_is_clopper_and_pearsons() -> None:
    """0 of n ends at 1 - 0.025**(1/n)."""
    found = Share(0, 16).interval
    assert (found.low, found.high) == (0, pytest.approx(1 - 0.025 ** (1 / 16)))
    assert str(Share(4, 16)) == "4 of 16 (7.3 to 52.4 %)"


def test_a_run_that_never_reached_the_level_counts_with_all_epochs() -> None:
    made = claim(Expected.WORSE, "adding")
    held = results(arms_of(made), lambda a, k: None if a.slots else 10)
    (found,) = judged_family(held, made.family)
    assert found is not None
    assert found.ratio == pytest.approx(arm("adding").settings.epochs / 10)
    assert found.reached == Share(0, 16)


@pytest.mark.parametrize("at", [None, 2])
def test_an_experiment_that_cannot_tell_counts_for_nothing(at: int | None) -> None:
    """Nobody reached the level, or everybody at once."""
    made = claim(Expected.NOT_WORSE)
    found = judge.judge(made, results(arms_of(made), lambda a, k: at)).parts[0]
    assert found.verdict is Verdict.NOTHING
    assert found.over is None

    def one_tells(each: Arm, place: int) -> int | None:
        return slower(2, "adding")(each, place) if each.setup == "adding" else at

    found = judge.judge(made, results(arms_of(made), one_tells)).parts[0]
    assert found.words == "counterexample found in 1 of 1 task, supported in 0"


def test_diverging_needs_intervals_that_do_not_meet_and_zero_of_both_says_nothing() -> None:
    relu, tanh = grid("long", BOTH, "relu"), arm("long")
    part = Part("d", "", False, Diverging((relu,), (tanh,)))
    made = Claim("made", "", "", "", "", (part,))

    def outcome(bad: int, other: int = 0) -> judge.JudgedPart:
        def diverged(each: Arm, place: int) -> bool:
            return place < (bad if each.slots else other)

        held = results([relu, tanh], lambda a, k: 5, diverged=diverged)
        return judge.judge(made, held).parts[0]

    assert outcome(12).verdict is Verdict.SUPPORTED
    assert outcome(0, 12).verdict is Verdict.COUNTEREXAMPLE
    assert outcome(3).verdict is Verdict.OPEN
    assert outcome(0).verdict is Verdict.NOTHING
    assert "12 of 16 (47.6 to 92.7 %) against 0 of 16" in outcome(12).words


# ---- families and looks ------------------------------------------------------------------------


def test_a_family_is_corrected_together() -> None:
    """A family forgotten would give the smaller p value of the comparison alone."""
    made = claim(Expected.WORSE, *CORE)

    def reached(each: Arm, place: int) -> int:
        drawn = place + 50 * bool(each.slots) + 100 * CORE.index(each.setup)
        return around(9 if each.slots else 8, drawn, 0.3)

    held = results(arms_of(made), reached)
    rows = np.stack([differences(held, c, held.seeds[:16]) for c in made.family])
    together = [e.p for e in judged_family(held, made.family) if e is not None]
    alone = [max_t(row[None])[0] for row in rows]
    assert together == pytest.approx(max_t(rows))
    pairs = [(p, q) for p, q in zip(together, alone, strict=True) if p is not None]
    assert all(p >= q for p, q in pairs)
    assert sum(p > 1.2 * q for p, q in pairs) >= 2


def test_the_family_of_a_claim_is_all_of_its_measured_parts() -> None:
    for each in CLAIMS:
        tests = [p.test for p in each.parts if isinstance(p.test, Measured)]
        assert set(each.family) == {c for t in tests for c in t.comparisons}


def test_the_level_is_that_of_the_look() -> None:
    """p = 0.01 is too much at the first look and enough at the last."""
    first, last = spending(LOOKS)
    assert first < 0.01 < last
    assert effects._outcome(0.5, (0.01, 1.0), first) is Outcome.OPEN
    assert effects._outcome(0.5, (0.01, 1.0), last) is Outcome.WORSE
    assert effects._outcome(-0.5, (0.01, 1.0), last) is Outcome.BETTER
    assert effects._outcome(0.5, (0.01, 0.01), last) is Outcome.SAME
    for seeds, level in zip(LOOKS, spending(LOOKS), strict=True):
        found = verdict(Expected.WORSE, 2, *TASKS, seeds=seeds)
        assert all(e and e.level == level for e in found.effects)


def test_an_effect_within_the_margin_is_the_same_even_if_it_is_no_accident() -> None:
    """8 against 9 epochs in every seed: a ratio of 1.125."""
    made = claim(Expected.WORSE, "adding")
    held = results(arms_of(made), lambda a, k: 9 if a.slots else 8, seeds=32)
    (found,) = judged_family(held, made.family)
    assert found is not None
    assert (found.ratio, found.outcome) == (pytest.approx(1.125), Outcome.SAME)


# ---- contrasts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", range(3))
def test_a_main_effect_is_the_factor_left_out(factor: int) -> None:
    """Each factor left out costs its own ratio: 3, 2 and 1.5, and the effects come back."""
    costs = (3.0, 2.0, 1.5)
    comparison = main_effect("adding", "candidate", factor)
    levels = {factorial("adding", "candidate", k): k for k in FACTORIAL}

    def reached(each: Arm, place: int) -> int:
        found = 3.0
        for cost, there in zip(costs, levels[each], strict=True):
            found *= 1 if there else cost
        return round(found)

    held = results(comparison.all, reached)
    (found,) = judged_family(held, [comparison])
    assert found is not None
    assert found.ratio == pytest.approx(costs[factor], rel=0.06)
    assert len(comparison.arms) == len(comparison.references) == 4
    assert found.reached.n == 64


def test_the_two_corners_of_the_factorial_are_tanh_and_sigmoid() -> None:
    from anygate.formulas import resolve

    x = np.linspace(-4, 4, 9)
    for (centred, steep, wide), text in FACTORIAL.items():
        k, a, m = (2 if steep else 1), (2 if wide else 1), (0.5 if centred else 0)
        wanted = a * (1 / (1 + np.exp(-k * x)) - m)
        assert resolve(text)(x) == pytest.approx(wanted, abs=1e-12), text
    assert factorial("adding", "candidate", (True, True, True)) == arm("adding")


def test_an_own_rate_is_chosen_by_the_seeds_between() -> None:
    """ReLU needs a third of the rate on every seed but one, which alone would choose otherwise."""
    base = grid("adding", BOTH, "relu")
    (comparison,) = against_usual([base], own_rate=True)

    def reached(each: Arm, place: int) -> int:
        if not each.slots:
            return {RATES[0]: 16, RATES[1]: 8, RATES[2]: 12}[each.rate]
        if place == 3:
            return {RATES[0]: 20, RATES[1]: 20, RATES[2]: 1}[each.rate]
        return {RATES[0]: 4, RATES[1]: 16, RATES[2]: 20}[each.rate]

    held = results(comparison.all, reached)
    found = differences(held, comparison, held.seeds[:16])
    assert found[3] == pytest.approx(np.log2(20 / 8))
    assert np.delete(found, 3) == pytest.approx(np.log2(4 / 8))


def test_no_seed_chooses_its_own_rate() -> None:
    """If every second seed wants another rate, each gets that of its neighbours."""
    (comparison,) = against_usual([grid("adding", BOTH, "relu")], own_rate=True)

    def reached(each: Arm, place: int) -> int:
        return 4 if each.slots and each.rate == RATES[place % 2] else 8

    held = results(comparison.all, reached)
    assert differences(held, comparison, held.seeds[:16]) == pytest.approx(0)


def test_the_mean_over_tasks_needs_three_and_leaves_out_what_says_nothing() -> None:
    three = verdict(Expected.WORSE, 2, *TASKS)
    assert three.over is not None
    assert three.over.tasks == 3
    assert three.over.low < 2 < three.over.high
    assert three.over.new_low < three.over.low
    assert over_tasks(three.effects[:2]) is None
    mixed = [replace(e, outcome=Outcome.NOTHING) for e in three.effects[:1] if e]
    assert over_tasks([*mixed, *three.effects[1:]]) is None


# ---- the claims --------------------------------------------------------------------------------


def test_every_measured_part_compares_what_is_trained_in_a_task_at_a_time() -> None:
    from studies.experiments import trials

    planned = {each for each, _ in trials()}
    names = {}
    for each in planned:
        assert names.setdefault(each.name, each) == each
    for each in CLAIMS:
        keys = [part.key for part in each.parts]
        assert len(set(keys)) == len(keys)
        for part in each.parts:
            test = part.test
            if isinstance(test, Measured):
                tasks = [c.task for c in test.comparisons]
                assert len(set(tasks)) == len(tasks)
                for c in test.comparisons:
                    assert {a.setup for a in c.all} == {c.task}
                    assert set(c.all) <= planned, c.name
            if isinstance(test, Diverging):
                assert set(test.arms) | set(test.references) <= planned
                assert len(test.arms) == len(test.references)


def test_what_no_source_said_is_not_quoted() -> None:
    """A quotation has a source outside, and only parts of quoted claims are said."""
    for each in CLAIMS:
        assert bool(each.quotation) == (each.said_by != "derived for this project")
        assert each.quotation or not any(part.said for part in each.parts)


@pytest.mark.parametrize("key", [c.key for c in CLAIMS])
def test_every_claim_is_judged_on_complete_results_and_on_none(key: str) -> None:
    (each,) = [c for c in CLAIMS if c.key == key]
    arms = arms_of(each)
    for part in each.parts:
        if isinstance(part.test, Diverging):
            arms += [*part.test.arms, *part.test.references]
    full = judge.judge(each, results(arms, lambda a, k: around(8 + 4 * bool(a.slots), k)))
    assert Verdict.WAITING not in {
        p.verdict for p in full.parts if isinstance(p.part.test, Measured | Diverging)
    }
    empty = judge.judge(each, Results(results([], lambda a, k: 1).held))
    assert {p.verdict for p in empty.parts if isinstance(p.part.test, Measured)} <= {
        Verdict.WAITING
    }


def test_centring_alone_explains_what_it_explains() -> None:
    """If only centring matters, its main effect and both single steps say so, and the others do
    not."""
    (each,) = [c for c in CLAIMS if c.key == "symmetric"]
    levels = {
        factorial(s, p, k): k
        for s in FACTORED
        for p in ("candidate", "cell_output")
        for k in FACTORIAL
    }

    def reached(one: Arm, place: int) -> int:
        slow = 1 if levels[one][0] else 1.8
        return around(10 * slow, place + 97 * hash(levels[one]) % 1000, 0.05)

    found = judge.judge(each, results(levels, reached, seeds=32))
    assert found.part("centring candidate").words == "supported in 4 of 4 tasks"
    assert found.part("gain cell_output").words == "supported in 4 of 4 tasks"
    assert found.part("enough candidate").words == "supported in 4 of 4 tasks"
    assert found.part("slope candidate").verdict is Verdict.COUNTEREXAMPLE
    assert not found.part("slope candidate").supporting


def test_comparisons_name_what_they_compare() -> None:
    assert Comparison("a", "n", (arm("adding"),), (arm("adding"),)).all == (arm("adding"),) * 2
