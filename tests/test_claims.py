"""The claims as data, and their judges on results made by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from claims_tiny import accuracies, findings, solved
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from studies import contrast as contrasts
from studies.claims import CLAIMS, EXPERIMENTS, collect
from studies.claims.cost import ratio
from studies.claims.properties import least_squares, rank_correlation
from studies.contrast import Contrast, label_of
from studies.experiments import FORGET, OUTSIDE, SINGLE_GATES, STABILITY, TASKS, plain
from studies.findings import Findings, Run
from studies.grid import FULL, QUICK, Arm, spec_of
from studies.history import EARLIER, SEEN, WITHDRAWN
from studies.model import Claim, Effect, Experiment, Judgement, Part, Question, Sentence, Verdict
from studies.page import judge_all, page
from studies.rules import holm_of
from studies.runner import plan
from studies.survey import FUNCTIONS, PLACES

HELD, REFUTED, UNDECIDED = Verdict.HELD, Verdict.REFUTED, Verdict.UNDECIDED
EARLY, MIDDLE, LATE = (solved(*[e, e + 1] * 4) for e in (5, 6, 15))
FAILED = solved(*[None] * 8)


def judge(key: str, found: Findings) -> Judgement:
    return CLAIMS[key].judge(found)


PROPERTIES = {
    "tanh": (1, 1, 1),
    "sigmoid": (1, 1, 1),
    "softsign": (1, 1, 1),
    "hard_tanh": (1, 0, 1),
    "relu6": (1, 0, 1),
    "penalized_tanh": (1, 0, 1),
    "sine": (1, 1, 0),
    "2*x*gaussian(x)": (1, 1, 0),
    "max(1 - abs(x), -1)": (1, 0, 0),
    "identity": (0, 1, 1),
    "softplus": (0, 1, 1),
    "symlog": (0, 1, 1),
    "relu": (0, 0, 1),
    "leaky_relu": (0, 0, 1),
    "silu": (0, 1, 0),
    "mish": (0, 1, 0),
    "abs(x)": (0, 0, 0),
}
"""Bounded, differentiable, monotone: by hand, against the property sheets in test_claims_run."""

# ---- the data --------------------------------------------------------------------------------


def test_every_row_of_the_list_is_a_claim() -> None:
    rows = [c.row for c in CLAIMS.values()]
    assert rows[:10] == [*map(str, range(1, 11))] and set("abcde") <= set(rows)
    assert all(key == claim.key for key, claim in CLAIMS.items())


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_a_claim_has_a_source_a_rule_and_experiments_that_exist(claim: Any) -> None:
    assert claim.said_by and all(isinstance(source, str) and source for source in claim.said_by)
    assert claim.refuted_if and claim.held_if and claim.measure and claim.sentence.endswith(".")
    assert claim.experiments
    assert all(EXPERIMENTS[experiment.name] is experiment for experiment in claim.experiments)


ADDED = Claim(
    key="added-by-a-test",
    row="99",
    sentence="The sine converges faster than tanh.",
    said_by=("A paper that nobody has cited here before",),
    experiments=(
        Experiment("added", "the sine as both", arms=(Arm("adding", "activation", "sine"),)),
    ),
    measure="epochs",
    held_if="it is sooner",
    refuted_if="it is later",
    judge=lambda found: Judgement((Part("sine", Verdict.HELD, "It was sooner."),)),
    answers=(Sentence(Question.TANH, "The sine is sooner.", "It is not.", "It is open."),),
)
"""All that a new claim takes."""


def test_a_claim_is_added_by_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else is touched: it is planned, judged, worded and cited."""
    claims, experiments = collect([*CLAIMS.values(), ADDED])
    rows = [c.row for c in claims.values()]
    assert rows.index("10") < rows.index("99") < rows.index("a")
    monkeypatch.setitem(CLAIMS, ADDED.key, ADDED)  # type: ignore[arg-type]
    monkeypatch.setitem(EXPERIMENTS, "added", experiments["added"])  # type: ignore[arg-type]
    assert plan([ADDED], QUICK).arms == {Arm("adding", "activation", "sine"): QUICK.seeds}
    text = page(findings())
    assert f"### 99. {ADDED.sentence}\n\nVerdict: held" in text
    assert "The sine is sooner. ([99](#claim-99))" in text
    assert text.rstrip().endswith(f"- {ADDED.said_by[0]}")  # after the sources of the others


def test_claims_and_experiments_are_told_apart_by_name() -> None:
    with pytest.raises(ValueError, match="the key added-by-a-test"):
        collect([ADDED, replace(ADDED, row="98")])
    with pytest.raises(ValueError, match="the row 99"):
        collect([ADDED, replace(ADDED, key="other")])
    other = replace(ADDED, key="other", row="98", experiments=(Experiment("added", "another"),))
    with pytest.raises(ValueError, match="several experiments are called added"):
        collect([ADDED, other])


def test_every_source_and_every_trained_experiment_can_be_made() -> None:
    for name, experiment in EXPERIMENTS.items():
        assert bool(experiment.arms) != bool(experiment.compute), name
        for arm in experiment.arms:
            assert spec_of(arm, 0, QUICK).key != spec_of(arm, 1, QUICK).key
            assert spec_of(arm, 0, FULL).settings.hidden_size >= 16
    reproduced = {"ablations", "chrono"}
    used = {e.name for claim in CLAIMS.values() for e in claim.experiments}
    assert set(EXPERIMENTS) - used == reproduced


def test_arms_are_named_apart_and_trained_once() -> None:
    planned = plan(CLAIMS.values(), QUICK)
    names = [arm.name for arm in planned.arms]
    assert len(set(names)) == len(names)
    assert planned.arms[plain("adding")] == QUICK.seeds
    assert planned.arms[Arm("adding", "candidate", "mish")] == QUICK.survey
    # What a claim's test needs, a survey does not shorten.
    assert planned.arms[Arm("adding", "candidate", "relu")] == QUICK.seeds


def test_published_figures_are_planned_with_all_claims_only() -> None:
    chrono = plain("long", initial="chrono")
    assert chrono in plan(CLAIMS.values(), QUICK).arms
    assert chrono not in plan([CLAIMS["forgetting"]], QUICK).arms


def test_eight_seeds_can_decide_every_family() -> None:
    """One-sided over four, two-sided over four comparisons: the largest families."""
    assert 4 * 2**-QUICK.seeds <= 0.05 and 4 * 2 * 2**-QUICK.seeds <= 0.05


def test_the_survey_tells_its_three_properties_apart() -> None:
    rows = [[1.0, *(float(PROPERTIES[f][k]) for k in range(3))] for f in FUNCTIONS]
    assert len(FUNCTIONS) >= 15
    assert np.linalg.matrix_rank(np.array(rows)) == 4


def test_margins_are_those_that_the_rules_name() -> None:
    for key in ("adding", "reber", "long"):
        assert (QUICK.setups[key].margin, FULL.setups[key].margin) == (0.2, 0.1)
    for key in ("rows", "pixels"):
        assert (QUICK.setups[key].margin, FULL.setups[key].margin) == (0.02, 0.01)
    named = [c.margin for c in CLAIMS.values() if "epochs" in c.margin or "points" in c.margin]
    assert all(m.replace("; ", " ").count("full: ") == m.count(";") + 1 for m in named) and named


# ---- rules -------------------------------------------------------------------------------------


def test_the_whole_follows_from_its_parts() -> None:
    def of(*verdicts: Verdict | None) -> Verdict:
        return Judgement(tuple(Part("", v, "") for v in verdicts)).verdict

    assert of(HELD, HELD, None) is HELD
    assert of(HELD, REFUTED, UNDECIDED) is REFUTED
    assert of(HELD, UNDECIDED) is UNDECIDED
    assert of(None) is UNDECIDED and of() is UNDECIDED


@pytest.mark.parametrize("key", CLAIMS)
def test_without_results_nothing_is_decided(key: str) -> None:
    assert judge(key, findings()).verdict is UNDECIDED


def test_p_values_are_corrected_over_the_whole_family() -> None:
    assert holm_of([0.02, 0.5], 3) == pytest.approx([0.06, 1])
    assert holm_of([0.01, 0.02], 2) == pytest.approx([0.02, 0.02])


# ---- gates -------------------------------------------------------------------------------------


def gate_runs(all_gates: Any, single: Any, plain_runs: Any = EARLY) -> Findings:
    runs = {plain(task): plain_runs for task in ("adding", "reber")}
    runs |= {Arm(t, "gate_activation", g): all_gates for g in OUTSIDE for t in ("adding", "reber")}
    runs |= {Arm("adding", s, g): single for s in SINGLE_GATES for g in ("penalized_tanh", "relu")}
    return findings(runs)


def test_gates() -> None:
    assert judge("sigmoid-gates", gate_runs(FAILED, LATE)).verdict is HELD
    found = judge("sigmoid-gates", gate_runs(FAILED, MIDDLE))
    assert found.verdict is REFUTED
    assert found.part("all three gates").verdict is HELD
    assert found.part("forget gate").verdict is REFUTED
    effect = found.part("forget gate").effects[0]
    assert effect.value == pytest.approx(5) and effect.n == 8  # an epoch of twenty


def test_where_the_reference_is_slow_nothing_is_called_not_worse() -> None:
    """Solved at 18 of 20 epochs, an arm that never solves is later by 10 % only."""
    slow = solved(*[18] * 8)
    found = judge("sigmoid-gates", gate_runs(FAILED, FAILED, slow))
    assert found.verdict is HELD  # worse it can still be called
    same = judge("sigmoid-gates", gate_runs(slow, slow, slow))
    assert same.verdict is UNDECIDED
    assert "too few epochs" in same.parts[0].effects[0].note


def test_a_gate_that_does_as_well_but_diverged_once_refutes_nothing() -> None:
    once, never = solved(*[1] * 8, diverged=[3]), solved(*[1] * 8)
    half = solved(*[10, 11] * 4)
    assert judge("sigmoid-gates", gate_runs(FAILED, never, half)).verdict is REFUTED
    assert judge("sigmoid-gates", gate_runs(FAILED, once, half)).verdict is UNDECIDED


def test_one_gate_that_is_not_worse_leaves_the_claim_open() -> None:
    found = gate_runs(FAILED, FAILED)
    open_one = {Arm("adding", "input_gate", "relu").name: solved(20, 2, 20, 3, 9, 20, 4, 20)}
    found = replace(found, runs={**found.runs, **open_one})
    part = judge("sigmoid-gates", found).part("input gate")
    assert part.verdict is UNDECIDED and "penalized_tanh did worse" in part.because


def test_five_seeds_decide_nothing_however_clear() -> None:
    few = solved(*[None] * 5)
    found = judge("sigmoid-gates", gate_runs(few, few, solved(*[5] * 5)))
    assert found.verdict is UNDECIDED
    assert "5 paired seeds" in found.parts[0].because


# ---- units -------------------------------------------------------------------------------------


def converging(rival: Any, others: Any = LATE) -> Findings:
    runs = {plain("adding"): EARLY}
    runs |= {
        Arm("adding", slot, "sigmoid"): rival for slot in ("activation", "candidate", "cell_output")
    }
    runs |= {Arm("adding", "activation", u): others for u in ("relu", "softsign", "lecun_tanh")}
    return findings(runs)


def test_convergence() -> None:
    assert judge("tanh-converges", converging(LATE)).verdict is HELD
    sooner = judge("tanh-converges", converging(LATE, solved(*[2, 3] * 4)))
    assert sooner.verdict is REFUTED
    assert sooner.part("than relu").because.startswith("relu is sooner")
    assert sooner.part("than the logistic sigmoid, as both").verdict is HELD
    same = judge("tanh-converges", converging(solved(*[5, 6] * 4)))
    assert same.part("than the logistic sigmoid, as candidate").verdict is REFUTED
    mixed = judge("tanh-converges", converging(solved(2, 20, 3, 19, 1, 18, 2, 20)))
    assert mixed.part("than the logistic sigmoid, as both").verdict is UNDECIDED


def test_own_rates_decide_where_they_were_tuned() -> None:
    """At the shared rate ReLU is late, at its own it is early."""
    relu = Arm("adding", "activation", "relu")
    found = findings(
        {plain("adding"): MIDDLE, relu: LATE, relu.own: solved(*[2] * 8)},
        rates={relu.own.name: 0.01, plain("adding").own.name: 0.03},
    )
    part = judge("tanh-converges", found).part("than relu")
    assert part.because.startswith("relu is sooner")
    assert [round(e.value) for e in part.effects] == [-22, 45]


def replaced(adding: Any, rows: Any = None) -> Findings:
    good = accuracies(*[0.9, 0.91] * 4)
    runs = {plain("adding"): EARLY, plain("reber"): EARLY, plain("rows"): good}
    for slot in ("activation", "candidate", "cell_output"):
        runs[Arm("adding", slot, "relu")] = adding
        runs[Arm("reber", slot, "relu")] = EARLY
        runs[Arm("rows", slot, "relu")] = good if rows is None else rows
    return findings(runs)


def test_relu_for_tanh_must_not_be_worse_on_any_task() -> None:
    assert judge("relu-for-tanh", replaced(MIDDLE)).verdict is HELD
    assert judge("relu-for-tanh", replaced(LATE)).verdict is REFUTED
    low = accuracies(*[0.8, 0.81] * 4)
    assert judge("relu-for-tanh", replaced(EARLY, low)).verdict is REFUTED
    wide = accuracies(0.95, 0.8, 0.95, 0.82, 0.96, 0.9, 0.99, 0.86)
    assert judge("relu-for-tanh", replaced(EARLY, wide)).verdict is UNDECIDED


def test_a_diverged_run_counts_as_never_solving() -> None:
    gone = solved(*[5] * 8, diverged=range(8))
    found = judge("relu-for-tanh", replaced(gone))
    assert found.verdict is REFUTED
    assert found.parts[0].effects[0].diverged == "8 and 0 of 8"


def test_vision() -> None:
    relu = Arm("pixels", "activation", "relu")
    good, low = accuracies(*[0.9, 0.91] * 4), accuracies(*[0.7, 0.75] * 4)
    assert judge("relu-vision", findings({plain("pixels"): good, relu: low})).verdict is REFUTED
    assert judge("relu-vision", findings({plain("pixels"): low, relu: good})).verdict is HELD


UNITS = {
    "units": {
        "relu": {"slope": {"0.5": 1, "2": 1, "10": 1, "-2": 0, "-10": 0}},
        "leaky_relu": {"slope": {"-2": 0.01}},
        "hard_tanh": {"dead": [["-inf", -1.0], [1.0, "inf"]], "slope": {"2": 0.0}},
    }
}


def test_stability_counts_diverged_runs() -> None:
    def found(relu: Any, tuned: Any = EARLY) -> Judgement:
        runs = {arm: relu if arm.activation == "relu" else EARLY for arm in STABILITY}
        runs |= {Arm(task, "activation", "relu"): tuned for task in TASKS}
        return judge("relu-no-saturation", findings(runs, {"formulas": UNITS}))

    name = "without clipping it is as stable as tanh"
    assert found(EARLY).verdict is UNDECIDED  # no divergence is no equality
    assert found(EARLY).part(name).verdict is UNDECIDED
    assert found(EARLY).parts[1].verdict is HELD
    gone = solved(*[5] * 8, diverged=range(8))
    assert found(gone).part(name).verdict is REFUTED
    assert found(gone).part(name).effects[0].value == 8 * len(STABILITY) / 2
    assert found(solved(*[5] * 8, diverged=[0])).part(name).verdict is UNDECIDED
    once = found(EARLY, solved(*[5] * 8, diverged=[0]))
    assert once.verdict is REFUTED
    assert "3 of 24 runs" in once.parts[1].because  # of each task, tuned or not


@pytest.mark.parametrize("task", list(QUICK.setups))
@pytest.mark.parametrize("rate", ["shared", "own"])
def test_a_clipped_run_that_diverges_counts_wherever_it_is(task: str, rate: Any) -> None:
    """No task and no rate is left out of the count."""
    runs = {Arm(t, "activation", "relu"): EARLY for t in QUICK.setups}
    runs[Arm(task, "activation", "relu", rate=rate)] = solved(*[5] * 8, diverged=[3])
    part = judge("relu-no-saturation", findings(runs)).parts[1]
    total = sum(map(len, runs.values()))
    assert part.verdict is REFUTED and part.because.startswith(f"1 of {total} runs diverged")
    assert "1 of 8" in [e.diverged for e in part.effects]


# ---- every divergence is told ----------------------------------------------------------------


def lived_through(bad: Mapping[Arm, Sequence[int]]) -> Findings:
    """All trained arms of the quick scale, of which these seeds diverged."""
    planned = plan(CLAIMS.values(), QUICK)
    shared = [arm for arm in planned.arms if arm.rate == "shared"]
    sheets = {
        name: dict(zip(("bounded", "differentiable", "monotone"), map(bool, truth), strict=True))
        for name, truth in PROPERTIES.items()
    }
    return findings(
        {arm: solved(*[5] * 8, diverged=bad.get(arm, ())) for arm in shared},
        {"formulas": {**UNITS, "sheets": sheets}},
    )


def check_that_divergences_are_told(found: Findings) -> None:
    """The page against a count of the runs that shares nothing with its code."""
    text = page(found)
    raw = {name: sum(run.diverged is not None for run in runs) for name, runs in found.runs.items()}
    for name, bad in raw.items():
        row = f"| `{name}` | {bad} of {len(found.runs[name])} |"
        assert (row in text) == bool(bad), name
    assert f"Of {8 * len(raw)} runs {sum(raw.values())} diverged." in text or not any(raw.values())
    for arm, reference in [
        (Arm("adding", "gate_activation", "relu"), plain("adding")),
        (Arm("reber", "activation", "relu"), plain("reber")),
        (Arm("adding", "activation", "leaky_relu"), Arm("adding", "activation", "relu")),
    ]:
        head = f"| {label_of(arm)} against {label_of(reference)}, on "
        rows = [row for row in text.splitlines() if row.startswith(head)]
        counts = f"| 8 | {raw[arm.name]} and {raw[reference.name]} of 8 |"
        assert rows and any(counts in row for row in rows), head
    for task in ("adding", "long"):
        title = QUICK.setups[task].make().title
        for unit in ("tanh", "relu"):
            name = f"{task}/activation={unit}"
            solved_there = 8 - raw[name]
            row = f"| {title} | {unit} | {solved_there} of 8 | {raw[name]} of 8 |"
            assert row in text, name
    clipped = [name for name in raw if name.endswith("/activation=relu")]
    bad = sum(raw[name] for name in clipped)
    told = f"{bad} of {8 * len(clipped)} runs diverged" if bad else f"None of {8 * len(clipped)}"
    assert told in text
    title = QUICK.setups["reber"].make().title
    (row,) = [row for row in text.splitlines() if row.startswith("| peepholes |")]
    assert f"{raw['reber/activation=tanh variant=peephole']} diverged" in row.split("|")[3], title


TRAINED = [arm for arm in plan(CLAIMS.values(), QUICK).arms if arm.rate == "shared"]


@given(
    st.dictionaries(st.sampled_from(TRAINED), st.sets(st.integers(0, 7), min_size=1), max_size=12)
)
@examples(12)
def test_the_page_tells_every_divergence(bad: dict[Arm, set[int]]) -> None:
    check_that_divergences_are_told(lived_through({arm: sorted(s) for arm, s in bad.items()}))


BAD = {
    Arm("long", "activation", "relu"): [0, 1, 2, 3, 4],
    Arm("reber", "activation", "relu"): [6],
    Arm("adding", "gate_activation", "relu"): [2],
    plain("reber", variant="peephole"): [1],
}
"""Some divergences of which none may be lost."""


def _blind_effect(c: Contrast) -> Effect:
    return replace(SEEING(c), diverged="")


SEEING = Contrast.effect
BLIND: dict[str, tuple[Any, str, Any]] = {
    "an arm's count": (Findings, "diverged", lambda self, arm: 0),
    "the text of a count": (Findings, "diverged_of", lambda self, *arms: ""),
    "the list of arms": (Findings, "all_diverged", lambda self: {}),
    "a contrast's count": (
        contrasts,
        "_count",
        lambda f, arm, seeds, what: 0 if what == "diverged" else 8,
    ),
    "the column of a table": (Contrast, "effect", _blind_effect),
}
"""Judges and tables that drop a divergence."""


@pytest.mark.parametrize("broken", BLIND)
def test_a_judge_that_drops_a_divergence_is_seen(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = lived_through(BAD)
    check_that_divergences_are_told(found)
    home, name, blind = BLIND[broken]
    monkeypatch.setattr(home, name, blind)
    with pytest.raises(AssertionError):
        check_that_divergences_are_told(found)


# ---- what was run before ---------------------------------------------------------------------


def test_a_withdrawn_verdict_stands_for_no_results_that_had_been_seen() -> None:
    key = "relu-no-saturation"
    runs = {"long/activation=relu": [Run(seed, 0.1) for seed in SEEN["quick"]]}
    seen = replace(findings(), runs=runs)
    assert judge_all(seen)[key].verdict is Verdict.WITHDRAWN
    assert "Verdict: **withdrawn**. This page said *held*" in page(seen)
    fresh = replace(seen, runs={"long/activation=relu": [Run(seed, 0.1) for seed in range(8)]})
    assert judge_all(fresh)[key].verdict is not Verdict.WITHDRAWN
    assert WITHDRAWN.keys() <= CLAIMS.keys()
    assert {name for key in WITHDRAWN for name in CLAIMS[key].speaks_of} == {"relu"}


def test_the_page_says_above_its_verdicts_what_was_run_before_and_changed() -> None:
    text = page(findings())
    before, after = text.split("## Verdicts")
    assert "seeds 100 to 107" in before and "T = 50" in before and "seeds 100" not in after
    assert "| 5 | refuted |" in before  # the earlier run had refuted it
    assert "claim 5 no longer counted runs on tasks without a tuned rate" in before
    assert EARLIER.verdicts.keys() <= CLAIMS.keys()


def test_leaky() -> None:
    def found(leaky: Any) -> Judgement:
        rows = accuracies(*[0.9, 0.91] * 4)
        runs: dict[Arm, Any] = {Arm("adding", "activation", "relu"): MIDDLE}
        runs[Arm("rows", "activation", "relu")] = rows
        for name in ("leaky_relu", "leaky_relu(k=0.3)"):
            runs[Arm("adding", "activation", name)] = leaky
            runs[Arm("rows", "activation", name)] = rows
        return judge("leaky-relu", findings(runs, {"formulas": UNITS}))

    assert found(solved(*[2, 3] * 4)).verdict is HELD
    assert found(MIDDLE).verdict is REFUTED  # fewer zero slopes, the same outcome
    assert found(solved(20, 3, 19, 2, 18, 8, 20, 9)).verdict is UNDECIDED


# ---- cost --------------------------------------------------------------------------------------


def timed(tanh: float, sigmoid: float, rounds: int = 9) -> Findings:
    def jobs(kinds: tuple[str, ...]) -> dict[str, list[float]]:
        wave = [1 + 0.001 * (k % 3) for k in range(rounds)]
        return {
            f"{unit} {kind}": [cost * w for w in wave]
            for unit, cost in (("tanh", tanh), ("sigmoid", sigmoid), ("hard_tanh", 0.5))
            for kind in kinds
        }

    return findings(
        experiments={
            "functions": {"rounds": jobs(("value", "gradient"))},
            "layers": {"rounds": {"8": jobs(("training", "inference"))}},
            "formulas": UNITS,
        }
    )


def test_cost() -> None:
    assert judge("tanh-gradient", timed(0.9, 1)).verdict is HELD
    assert judge("tanh-gradient", timed(1, 1)).verdict is REFUTED
    assert judge("tanh-gradient", timed(0.98, 1)).verdict is REFUTED  # 2 % on the spot is not more
    assert judge("tanh-gradient", timed(0.5, 1, rounds=5)).verdict is UNDECIDED
    assert judge("hard-tanh", timed(1, 1)).verdict is HELD


def test_a_ratio_is_taken_within_rounds() -> None:
    found = ratio("x", {"a": [1, 2, 4, 8, 16, 32], "b": [2, 4, 8, 16, 32, 64]}, ["a"], ["b"])
    assert found is not None
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)


# ---- properties --------------------------------------------------------------------------------


def surveyed(loss_of: Any) -> Findings:
    sheets = {}
    for name in FUNCTIONS:
        bounded, smooth, monotone = PROPERTIES[name]
        sheets[name] = {"bounded": bounded, "differentiable": smooth, "monotone": monotone}
    runs: dict[Arm, Any] = {plain("adding"): solved(*[5] * 8)}
    for place in PLACES:
        for k, name in enumerate(n for n in FUNCTIONS if n != "tanh"):
            epoch = loss_of(sheets[name]) + k % 2
            runs[Arm("adding", place, name)] = solved(*[epoch] * 8)
    return findings(runs, {"formulas": {"sheets": sheets}})


def test_properties() -> None:
    late = judge("good-unit", surveyed(lambda p: 5 + 9 * (not p["bounded"])))
    assert late.part("a unit must be bounded").verdict is HELD
    assert late.part("a unit must be monotone").verdict is REFUTED
    none = judge("good-unit", surveyed(lambda p: 5))
    assert {p.verdict for p in none.parts} == {REFUTED}
    assert "did not do worse" in none.parts[0].because


def test_regression_and_correlation_against_known_numbers() -> None:
    x = np.array([[1.0, 0], [1, 1], [1, 0], [1, 1], [1, 0]])
    effects, errors, freedom = least_squares(x, np.array([1.0, 3, 2, 4, 3]))
    assert effects == pytest.approx([2, 1.5]) and freedom == 3
    assert errors == pytest.approx([math.sqrt(2.5 / 9), math.sqrt(2.5 / 3 * (1 / 3 + 1 / 2))])
    rho, low, high = rank_correlation([1, 2, 3, 4, 5], [1, 2, 3, 5, 4])
    assert rho == pytest.approx(0.9) and low < 0.9 < high <= 1
    assert rank_correlation([1, 2, math.inf, 4], [4, 3, 1, 2])[0] == pytest.approx(-1)


def second(dies: dict[str, float], gradient: Any, forget: float = 1.0) -> Findings:
    rows = {n: {"dies": d, "dies_relative": d, "peak": 1, "at": 1} for n, d in dies.items()}
    sheets = {f: {"second_dies": float(k)} for k, f in enumerate(FUNCTIONS)}
    found = {f: [{"cell_half": gradient(k)}] for k, f in enumerate(FUNCTIONS)}
    biases = {
        f"{b:g}": [{"cell_half": b + s, "forget_half": forget * (b + s)} for s in range(4)]
        for b in FORGET
    }
    return findings(
        experiments={
            "formulas": {"second": rows, "sheets": sheets},
            "starts-candidate": found,
            "starts-cell_output": found,
            "starts-forget": biases,
        }
    )


def test_second_derivative() -> None:
    first = {"tanh": 3.0, "sigmoid": 4.0, "softsign": 5.0}
    last = {"tanh": 6.0, "sigmoid": 4.0, "softsign": 5.0}
    assert judge("second-derivative", second(last, lambda k: float(k))).verdict is HELD
    backwards = judge("second-derivative", second(last, lambda k: -float(k)))
    assert backwards.part("the wider f'', the more gradient arrives").verdict is REFUTED
    assert judge("second-derivative", second(first, lambda k: float(k))).verdict is REFUTED
    assert judge("second-derivative-dies", second(first, float)).verdict is HELD
    assert judge("second-derivative-dies", second(last, float)).verdict is REFUTED
    weak = second(last, lambda k: float((k * 7) % 17))
    assert judge("second-derivative", weak).verdict is UNDECIDED
    blind = second(last, lambda k: -float(k), forget=-1.0)
    assert judge("second-derivative", blind).verdict is UNDECIDED  # what predicts it is not known


# ---- points (a) to (e), computed ----------------------------------------------------------------


def test_limits_hold_as_derived_and_a_wrong_number_is_refuted() -> None:
    found = findings(experiments={"limits": EXPERIMENTS["limits"].compute(QUICK)})  # type: ignore[misc]
    for key in ("chrono-hard", "relu-growth", "forgetting"):
        assert judge(key, found).verdict is HELD, key
    limits: dict[str, Any] = dict(found.experiment("limits"))
    limits["forget"] = {"1.0": {"by_formula": 2.5e-14, "seen": 2.6e-14}}
    wrong = replace(found, experiments={"limits": limits})
    assert judge("forgetting", wrong).verdict is REFUTED


def test_the_printed_derivative_is_refuted_by_the_limit() -> None:
    rows = [
        {
            "z": 0.0,
            "limit": 0.25,
            "derived": 0.25,
            "right": 0.25,
            "printed": 0.0,
            "printed_in_brackets": -0.25,
        }
    ]
    found = findings(experiments={"formulas": {"sigmoid": {"rows": rows}}})
    assert judge("sigmoid-derivative", found).verdict is HELD
    rows[0]["right"] = -0.25
    assert judge("sigmoid-derivative", found).verdict is REFUTED


def test_findings_speak_json_both_ways() -> None:
    run = Run(3, 0.5, solved_at=None, diverged=9, after={"cell_half": -1.5})
    found = findings({plain("adding"): [run]})
    row = found.to_dict()["runs"][plain("adding").name][0]
    assert Run(**row) == run and "solved_at" not in row
