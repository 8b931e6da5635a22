"""Solving and equivalence: the sentences on who solves a task and when, from studies on disk."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from test_verdict import ACCURACY, ERROR, around, put, study, write_study

from anygate.lab.findings.comparison import comparisons
from anygate.lab.findings.solving import solving, time_comparisons
from anygate.lab.findings.verdict import judge, verdict
from anygate.lab.statistics import Evidence, NominalInterval, wilson
from anygate.lab.study.store.files import StudyError
from anygate.lab.study.store.results import StudyResults, load

LAST = 10
"""Epochs of every run here; 0.95 is solved."""
Curve = Sequence[float | None]


def when(epoch: int | None) -> list[float]:
    """An accuracy that reaches 0.95 at ``epoch`` and stays; None never does."""
    return [0.96 if epoch is not None and e >= epoch else 0.5 for e in range(1, LAST + 1)]


def timed(
    root: Path, curves: Mapping[str, Sequence[Curve | str]], task: Mapping[str, Any] = ACCURACY
) -> StudyResults:
    """A study with these curves by activation and seed; the word "diverged" is a run that did."""
    finals = {
        name: [None if c == "diverged" else float(c[-1] or 0) for c in runs]
        for name, runs in curves.items()
    }
    write_study(root, finals, task=task)
    for index, runs in enumerate(curves.values()):
        for seed, curve in enumerate(runs):
            path = root / "trials" / f"a{index}-{seed}.json"
            trial = json.loads(path.read_text())
            if curve != "diverged":
                first = trial["epochs"][0]
                trial["epochs"] = [
                    first | {"epoch": e, "metric": m} for e, m in enumerate(curve, start=1)
                ]
            put(path, trial)
    return load(root)


def at(*epochs: int | None) -> list[Curve | str]:
    """Runs that solve at these epochs."""
    return [when(e) for e in epochs]


def text(results: StudyResults) -> str:
    return " ".join(verdict(results))


# ------------------------------------------------------------------------------------ numbers


def test_solve_rates_and_times_of_each(tmp_path: Path) -> None:
    results = timed(tmp_path, {"tanh": at(3, 4, 4, 5, 9, None), "relu": at(*[None] * 6)})
    tanh, relu = solving(results)
    assert (tanh.solved, tanh.runs, tanh.rate) == (5, 6, wilson(5, 6))
    assert tanh.time and relu.time
    assert (tanh.time.horizon, tanh.time.solved, tanh.time.median.value) == (10, 5, 4)
    assert tanh.time.restricted_mean.value == (3 + 4 + 4 + 5 + 9 + 10) / 6
    assert (relu.solved, relu.time.solved, relu.time.restricted_mean.value) == (0, 0, 10)


def test_a_run_that_diverged_never_solved(tmp_path: Path) -> None:
    """It was at the level in its first epoch; what is left of it is nothing."""
    root = tmp_path / "study"
    timed(root, {"tanh": [*at(2, 2), "diverged"]})
    path = root / "trials" / "a0-2.json"
    trial = json.loads(path.read_text())
    trial["epochs"][0]["metric"] = 0.99
    put(path, trial)
    (tanh,) = solving(load(root))
    assert tanh.time and (tanh.solved, tanh.time.solved, tanh.time.horizon) == (2, 2, 10)


def test_the_first_time_counts_and_the_end_too(tmp_path: Path) -> None:
    """Reached at epoch 2 and lost again: a time of 2, and not solved at the end."""
    lost = [0.5, 0.96, *[0.7] * 8]
    (tanh,) = solving(timed(tmp_path, {"tanh": [lost, when(3)]}))
    assert tanh.time and (tanh.solved, tanh.time.solved) == (1, 2)
    assert tanh.time.restricted_mean.value == 2.5


def test_an_epoch_without_a_number_is_not_solved(tmp_path: Path) -> None:
    (tanh,) = solving(timed(tmp_path, {"tanh": [[None, None, *when(4)[2:]]]}))
    assert tanh.time and tanh.time.median.value == 4


def test_lower_is_better_solves_downwards(tmp_path: Path) -> None:
    falls: list[Curve | str] = [[0.1, 0.02, 0.009, 0.001]] * 2
    (tanh,) = solving(timed(tmp_path, {"tanh": falls}, ERROR))
    assert tanh.time and (tanh.solved, tanh.time.median.value) == (2, 3)


def test_what_stopped_early_shortens_the_horizon_of_all(tmp_path: Path) -> None:
    short = when(None)[:6]
    results = timed(tmp_path, {"tanh": at(3, 8), "relu": [short, when(5)]})
    assert [s.time.solved for s in solving(results) if s.time] == [1, 1]
    assert time_comparisons(results)[0].times.horizon == 6


def test_tasks_without_a_level_and_runs_without_curves_have_no_times(tmp_path: Path) -> None:
    bare = timed(tmp_path / "bare", {"tanh": at(2), "relu": at(3)}, ACCURACY | {"solved": None})
    assert solving(bare) == time_comparisons(bare) == []
    assert "solved" not in text(bare)
    root = tmp_path / "no curves"
    timed(root, {"tanh": at(2), "relu": at(3)})
    for path in (root / "trials").iterdir():
        put(path, json.loads(path.read_text()) | {"epochs": []})
    empty = load(root)
    assert [s.time for s in solving(empty)] == [None, None]
    assert time_comparisons(empty) == []
    assert "Median number of epochs" not in text(empty)


def test_times_are_paired_and_corrected_over_the_rivals(tmp_path: Path) -> None:
    results = timed(
        tmp_path,
        {
            "tanh": at(*range(4, 10)),
            "relu": at(*range(3, 9)),
            "sin": at(*[None] * 6),
        },
    )
    relu, sin = time_comparisons(results)
    assert (relu.times.a_first, relu.times.b_first, relu.times.p_value) == (6, 0, 2 / 64)
    assert (relu.corrected_p, relu.evidence) == (4 / 64, Evidence.UNREACHABLE)
    assert (sin.times.b_first, sin.corrected_p) == (6, 4 / 64)
    (alone,) = time_comparisons(
        timed(tmp_path / "alone", {"tanh": at(*range(4, 10)), "relu": at(*range(3, 9))})
    )
    assert alone.evidence is Evidence.HELD and alone.corrected_p == 2 / 64


# ---------------------------------------------------------------------------------- sentences


def test_the_sentences_of_solving(tmp_path: Path) -> None:
    results = timed(
        tmp_path,
        {
            "tanh": at(3, 4, 4, 5, 9, None, None, None),
            "relu": at(2, 2, 3, 3, 4, 4, 5, 5),
        },
    )
    said = text(results)
    assert (
        "At the solved level (accuracy 95.0%) at the end, with the 95% interval of the rate: "
        "tanh 5 of 8 runs (31% to 86%); relu 8 of 8 runs (68% to 100%)."
    ) in said
    assert (
        "Median number of epochs until that level was first reached, of 10: tanh 5 (95% interval "
        "3 to more than 10); relu 3 (95% interval 2 to 5)."
    ) in said
    assert (
        "relu against tanh, epochs until solved: sooner in 8 and later in 0 of 8 seeds, 3.38 "
        "epochs sooner on average within 10 (95% interval 1.5 to 5.33 sooner)"
    ) in said
    assert "; the difference in time held (p = 0.008, by ranks)." in said
    assert (
        "Compared with tanh, relu reached the solved level sooner: this held at the 5% level."
    ) in judge(results).answer
    assert "The difference in accuracy and the time to solve are questions of their own" in said


def test_slower_is_said_as_slower(tmp_path: Path) -> None:
    results = timed(
        tmp_path, {"relu": at(*[2] * 8), "tanh": at(*range(3, 11)), "sin": at(*[1] * 8)}
    )
    said = text(results)
    assert "sooner in 0 and later in 8 of 8 seeds, 4.5 epochs later on average within 10" in said
    assert "(p = 0.016 after Holm's correction for 2 comparisons, by ranks)" in said
    assert "sin reached the solved level sooner and tanh later or not at all: this held" in said
    alone = timed(tmp_path / "alone", {"relu": at(*[2] * 8), "tanh": at(*[None] * 8)})
    assert "Compared with relu, tanh reached the solved level later or not at all: this held" in (
        text(alone)
    )


def test_times_that_are_not_shown_to_differ_are_not_called_equal(tmp_path: Path) -> None:
    results = timed(tmp_path, {"tanh": at(2, 3, 4, 5, 6, 7), "relu": at(3, 2, 5, 4, 7, 6)})
    sentence = judge(results).comparisons[-1]
    assert (
        "sooner in 3 and later in 3 of 6 seeds, level on average within 10 (95% interval 1 sooner "
        "to 1 later)"
    ) in sentence
    assert "no difference in time is shown (p = 1.000, by ranks), which does not mean" in sentence
    same = timed(tmp_path / "same", {"tanh": at(*[2] * 6), "relu": at(*[2] * 6)})
    assert "the same (or never) in all 6 seeds, so no difference in time" in text(same)
    assert not re.search(r"\bequal|equivalent", text(results) + text(same))


def test_too_few_seeds_claim_nothing_about_time(tmp_path: Path) -> None:
    results = timed(tmp_path, {"tanh": at(9, 9, 9), "relu": at(1, 1, 1)})
    assert time_comparisons(results)[0].evidence is Evidence.TOO_FEW_SEEDS
    sentence = judge(results).comparisons[-1]
    assert "8 epochs sooner on average within 10 (range 8 to 8 sooner); no claim" in sentence
    assert "reached the solved level" not in text(results) and "questions of their own" not in text(
        results
    )
    one = timed(tmp_path / "one", {"tanh": at(9), "relu": at(None)})
    assert "relu more than 10." in text(one)
    later = "sooner in 0 and later in 1 of 1 seed, 1 epoch later on average within 10; no claim"
    assert later in text(one)


def test_nothing_solved_is_said_once(tmp_path: Path) -> None:
    results = timed(tmp_path, {"tanh": at(*[None] * 6), "relu": at(*[None] * 6)})
    assert "tanh 0 of 6 runs (0% to 39%); relu 0 of 6 runs (0% to 39%)." in text(results)
    assert "epochs until" not in text(results)


# -------------------------------------------------------------------------------- equivalence


def declared(root: Path, finals: Mapping[str, Sequence[float | None]], margin: Any) -> StudyResults:
    settings = {"learning_rate": 0.005, "hidden_size": 32, "margin": margin}
    return study(root, finals, settings=settings)


CLOSE = {"tanh": around(0.9, 8), "relu": [0.9 + 0.002 * (-1) ** i for i in range(8)]}


def test_without_a_margin_nothing_is_called_equivalent(tmp_path: Path) -> None:
    results = study(tmp_path, CLOSE)
    assert comparisons(results)[0].equivalence is None
    assert not re.search("equivalen", text(results), re.IGNORECASE)


def test_a_declared_margin_is_tested(tmp_path: Path) -> None:
    results = declared(tmp_path, CLOSE, 0.01)
    (c,) = comparisons(results)
    assert c.equivalence and c.equivalence.margin == 0.01
    assert c.equivalence_p == c.equivalence.p_value == 2.0**-8 and c.equivalent
    assert c.evidence is Evidence.NOT_SHOWN
    said = judge(results)
    assert "Equivalent to tanh within the margin you declared (1.0 point): relu." in said.answer
    assert re.search(
        r"; no difference is shown \(p = [\d.]+\), and the two are equivalent: within the margin "
        r"you declared \(1\.0 point; p = 0\.004\)\.$",
        said.comparisons[0],
    )
    assert not re.search(r"\. [A-Z]", said.comparisons[0])  # one sentence
    assert "a failure in up to 32% of the runs can stay unseen in 8 seeds." in said.caveats[-1]
    assert "accuracy and equivalence are questions of their own" in said.caveats[-2]


def test_a_margin_that_is_missed_proves_nothing(tmp_path: Path) -> None:
    said = text(declared(tmp_path, CLOSE, 0.0005))
    assert (
        "equivalence within the margin you declared is not shown either (0.1 points; p = " in said
    )
    assert "equivalent within" not in said and "Equivalent to" not in said
    assert "stay unseen" not in said


def test_a_difference_that_held_may_be_smaller_than_the_margin(tmp_path: Path) -> None:
    finals = {"tanh": around(0.9, 8), "relu": around(0.905, 8, 0.001)}
    near = judge(declared(tmp_path / "near", finals, 0.02))
    assert (
        "the difference held (p = 0.008), yet it is too small to matter: within the margin"
        in (near.comparisons[0])
    )
    far = judge(declared(tmp_path / "far", finals, 0.001))
    assert far.comparisons[0].endswith("is not shown (0.1 points; p = 1.000).")


def test_equivalence_needs_seeds_too(tmp_path: Path) -> None:
    five = {k: v[:5] for k, v in CLOSE.items()}
    few = declared(tmp_path / "few", five, 0.5)
    assert comparisons(few)[0].equivalence_p == 1 / 32 and not comparisons(few)[0].equivalent
    assert not re.search("equivalen", text(few), re.IGNORECASE)
    six = {k: v[:6] for k, v in CLOSE.items()}
    crowd = declared(tmp_path / "crowd", six | {f"r{i}": six["relu"] for i in range(3)}, 0.5)
    assert "cannot show equivalence within the margin you declared (50.0 points) either, " in (
        text(crowd)
    )
    assert "7 seeds could." in text(crowd)
    three = declared(tmp_path / "three", six | {f"r{i}": six["relu"] for i in range(2)}, 0.5)
    answer = " ".join(judge(three).answer)
    assert "No difference can be claimed: with 6 seeds and 3 rivals" in answer
    assert "Equivalent to tanh" in answer and "No claim possible" not in answer
    wide = declared(tmp_path / "wide", six | {f"r{i}": six["relu"] for i in range(2)}, 1e-5)
    assert "is not shown either (0.0 points; p = 1.000" in text(wide) and "cannot show" not in text(
        wide
    )


def test_exactly_the_same_runs(tmp_path: Path) -> None:
    results = declared(tmp_path, {"tanh": [0.9] * 8, "relu": [0.9] * 8}, 0.01)
    assert "no difference is shown, and the two are equivalent: within the margin" in text(results)


def test_non_inferiority_points_the_right_way(tmp_path: Path) -> None:
    """Of an error, more is worse: p_above is still that the rival is not worse by the margin."""
    finals = {"tanh": around(0.05, 8), "relu": around(0.02, 8, 0.001)}
    (c,) = comparisons(study(tmp_path, finals, task=ERROR), margin=0.01)
    assert c.equivalence and c.equivalence.p_above == 2.0**-8 and c.equivalence.p_below == 1.0


def test_the_margin_is_declared_beforehand(tmp_path: Path) -> None:
    results = declared(tmp_path / "a", CLOSE, 0.01)
    assert comparisons(results, 0.01) == comparisons(results)
    with pytest.raises(StudyError, match=r"declared a margin of 0\.01; 0\.05 cannot be used"):
        verdict(results, 0.05)
    for wrong in (0, -1.0, "1", True):
        with pytest.raises(StudyError, match=r"study\.json is damaged: settings\.margin: "):
            verdict(declared(tmp_path / f"b{wrong}", CLOSE, wrong))
    with pytest.raises(StudyError, match="the margin must be a positive number"):
        verdict(study(tmp_path / "c", CLOSE), float("nan"))


# ------------------------------------------------------------------- what else a comparison has


@pytest.mark.parametrize("task", [ACCURACY, ERROR])
def test_all_numbers_count_an_improvement_as_positive(tmp_path: Path, task: Any) -> None:
    up = task is ACCURACY
    values = [0.9 + 0.01 * d * (1 if up else -1) for d in (3, 3, 2, 2, 2, 1, 1, 1, 1, -2)]
    (c,) = comparisons(study(tmp_path, {"tanh": [0.9] * 10, "relu": values}, task=task))
    assert isinstance(c.bootstrap, NominalInterval)
    assert c.gain == pytest.approx(0.014)
    assert 0 < c.bootstrap.low < c.gain < c.bootstrap.high < 0.03
    assert c.improvement.value == 0.9 and c.improvement.interval == wilson(9, 10)
    said = judge(load(tmp_path)).comparisons[0]
    assert "better in 9 of 10 seeds, on a new seed with a probability of 60% to 98%)" in said


def test_five_seeds_say_nothing_of_the_next(tmp_path: Path) -> None:
    few = study(tmp_path, {"tanh": around(0.9, 5), "relu": around(0.8, 5)})
    assert "better in 0 of 5 seeds)" in text(few) and "new seed" not in text(few)


def test_ties_are_said(tmp_path: Path) -> None:
    results = study(tmp_path, {"tanh": [0.9] * 8, "relu": [0.9] * 5 + [0.95] * 3})
    assert (
        "better in 3 and tied in 5 of 8 seeds, on a new seed with a probability of 36% to 90%, "
        "where a tie counts half)"
    ) in text(results)


def test_the_data_that_no_seed_changes_are_named(tmp_path: Path) -> None:
    same = study(tmp_path, {"tanh": [0.9] * 6}, task=ACCURACY | {"same_data": True})
    assert "the order of the training data, which are the same in every seed" in text(same)


def test_what_a_diverged_run_is_scored_with_has_its_name(tmp_path: Path) -> None:
    task = ACCURACY | {"baseline_name": "repeating the last value"}
    said = text(study(tmp_path, {"tanh": [0.9, None]}, task=task))
    assert "scored with the value of repeating the last value, 10.0%." in said
