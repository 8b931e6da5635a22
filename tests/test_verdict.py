"""Reading a study back, and the sentences that are made of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anygate.lab.findings.comparison import comparisons, ranking
from anygate.lab.findings.cost import costs, disturbed_clocks
from anygate.lab.findings.verdict import judge, verdict
from anygate.lab.report import inside
from anygate.lab.report.summary import summary
from anygate.lab.report.terminal import table
from anygate.lab.statistics import Evidence
from anygate.lab.study.store.files import StudyError
from anygate.lab.study.store.results import StudyResults, load, steps_path

ACCURACY = {
    "name": "digits",
    "title": "handwritten digits",
    "description": "Pixel by pixel.",
    "metric": "accuracy",
    "unit": "",
    "higher_is_better": True,
    "baseline": 0.1,
    "solved": 0.95,
    "steps": 64,
}
ERROR = ACCURACY | {
    "name": "adding",
    "title": "the adding problem",
    "metric": "mean squared error",
    "higher_is_better": False,
    "baseline": 0.167,
    "solved": 0.01,
}
SLOTS = ("input_gate", "forget_gate", "candidate", "output_gate", "cell_output")
EPOCHS = 3


def write_study(
    root: Path,
    finals: Mapping[str, Sequence[float | None]],
    *,
    task: Mapping[str, Any] = ACCURACY,
    formulas: Mapping[str, str] | None = None,
    shares: Mapping[str, tuple[float, float]] | None = None,
    seconds: Mapping[str, float] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """A study directory with the given final metrics by activation and seed; None diverged.

    ``shares`` are (saturated, dead) in the candidate; ``seconds`` the time per step, if any.
    """
    seeds = max(len(values) for values in finals.values())
    activations = [
        {"label": n, "formula": (formulas or {}).get(n, n), "source": "a test"} for n in finals
    ]
    config = {
        "schema": 1,
        "command": "anygate compare " + " ".join(finals),
        "task": task,
        "slot": "activation",
        "slots": ["candidate", "cell_output"],
        "activations": activations,
        "seeds": list(range(seeds)),
        "machine": {"cpu": "a test", "cores": 2},
        "settings": settings or {"learning_rate": 0.005, "hidden_size": 32},
    }
    put(root / "study.json", config)
    for index, (name, values) in enumerate(finals.items()):
        for seed, value in enumerate(values):
            key = f"a{index}-{seed}"
            put(root / "trials" / f"{key}.json", _trial(key, name, seed, value, task, shares or {}))
            if seconds and name in seconds:
                timed = seconds[name] * (1 + 0.001 * seed)
                put(
                    root / "timing" / f"{key}.json",
                    {"schema": 1, "key": key, "seconds_per_step": timed},
                )
    if seconds:
        rounds = {n: [s * (1 + 0.001 * k) for k in range(seeds)] for n, s in seconds.items()}
        put(steps_path(root), {"schema": 1, "seconds": rounds})
    return root


def _trial(
    key: str,
    name: str,
    seed: int,
    value: float | None,
    task: Mapping[str, Any],
    shares: Mapping[str, tuple[float, float]],
) -> dict[str, Any]:
    saturated, dead = shares.get(name, (0.01, 0.0))
    slots = {s: {"saturated": 0.02, "dead": 0.0} for s in SLOTS}
    slots["candidate"] = {"saturated": saturated, "dead": dead}
    done = EPOCHS if value is not None else 1
    epochs = [
        {
            "epoch": e,
            "train_loss": 1 / e,
            "metric": 0.5 if value is None else value * e / EPOCHS,
            "gradient_norm": 1 / e,
            "gradient_norm_max": None,
            "max_abs_cell": 2.0 * e,
            "slots": slots,
        }
        for e in range(1, done + 1)
    ]
    bad = {
        "epoch": 2,
        "step": 71,
        "what": "loss is not finite",
        "slot": "cell state",
        "value": "inf",
    }
    return {
        "schema": 1,
        "key": key,
        "task": task["name"],
        "activation": name,
        "slot": "activation",
        "seed": seed,
        "diverged": bad if value is None else None,
        "epochs": epochs,
        "final_metric": task["baseline"] if value is None else value,
    }


def put(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def around(centre: float, seeds: int, width: float = 0.004) -> list[float]:
    """Values around a centre that differ from each other, the same for the same centre."""
    return [centre + width * (i - (seeds - 1) / 2) / seeds for i in range(seeds)]


def study(root: Path, finals: Mapping[str, Sequence[float | None]], **options: Any) -> StudyResults:
    return load(write_study(root, finals, **options))


# ------------------------------------------------------------------------------------ reading


def test_load_arranges_by_activation_and_seed(tmp_path: Path) -> None:
    results = study(tmp_path, {"tanh": [0.9, 0.8], "relu": [0.7, None]}, seconds={"tanh": 0.01})
    assert (results.labels, results.first, results.rivals) == (["tanh", "relu"], "tanh", ["relu"])
    assert (results.present, results.expected, results.epochs) == (4, 4, EPOCHS)
    assert results.matrix.tolist() == [[0.9, 0.8], [0.7, 0.1]]
    assert [t.seed for t in results.diverged("relu")] == [1]
    assert results.costs == {"tanh": pytest.approx((0.01, 0.01001))}
    assert results.share("tanh", "candidate", "saturated").tolist() == [0.01, 0.01]
    assert results.measured_slots == list(SLOTS)


def test_a_diverged_curve_goes_on_at_the_value_it_is_scored_with(tmp_path: Path) -> None:
    results = study(tmp_path, {"tanh": [0.9, None]})
    metric = results.curves("tanh", "metric")
    assert metric[0] == pytest.approx([0.3, 0.6, 0.9])
    assert metric[1] == pytest.approx([0.5, 0.1, 0.1])
    assert np.isnan(results.curves("tanh", "max_abs_cell")[1, 1:]).all()
    assert np.isnan(results.curves("tanh", "gradient_norm_max")).all()  # null is not a number


def test_missing_trials_are_nan_and_unpaired(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": [0.9, 0.8, 0.7], "relu": [0.6, 0.5, 0.4]})
    (tmp_path / "trials" / "a1-1.json").unlink()
    results = load(tmp_path)
    assert np.isnan(results.matrix[1, 1])
    seeds, rival, first = results.paired("relu", "tanh")
    assert (seeds, rival.tolist(), first.tolist()) == ([0, 2], [0.6, 0.4], [0.9, 0.7])


def test_trials_outside_the_plan_are_counted_not_used(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": [0.9]})
    put(tmp_path / "trials" / "old.json", _trial("old", "gone", 0, 0.2, ACCURACY, {}))
    results = load(tmp_path)
    assert (results.present, results.ignored) == (1, 1)


def _spoil(path: Path, **changes: Any) -> None:
    put(path, json.loads(path.read_text()) | changes)


def test_a_missing_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"study\.json does not exist.*anygate compare"):
        load(tmp_path)


def test_another_schema_is_refused(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": [0.9]})
    _spoil(tmp_path / "study.json", schema=2)
    with pytest.raises(StudyError, match=r"study\.json.*schema 2 was found, 1 was expected"):
        load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"schema": 1}', "\x00"])
def test_a_corrupt_trial_is_named_with_the_remedy(tmp_path: Path, content: str) -> None:
    write_study(tmp_path, {"tanh": [0.9]})
    (tmp_path / "trials" / "a0-0.json").write_text(content)
    with pytest.raises(StudyError, match=r"(?s)a0-0\.json.*delete this file"):
        load(tmp_path)


def test_all_damaged_files_are_named_at_once(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": [0.9] * 3}, seconds={"tanh": 0.01})
    for name in ("trials/a0-0.json", "trials/a0-2.json", "timing/a0-1.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(StudyError) as caught:
        load(tmp_path)
    said = str(caught.value)
    assert said.startswith("3 files are damaged") and "anygate compare" in said
    assert all(name in said for name in ("trials/a0-0.json", "trials/a0-2.json", "timing/a0-1"))


@pytest.mark.parametrize(
    "change", [{"final_metric": None}, {"final_metric": "high"}, {"epochs": [{"epoch": 0}]}]
)
def test_impossible_values_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    write_study(tmp_path, {"tanh": [0.9]})
    _spoil(tmp_path / "trials" / "a0-0.json", **change)
    with pytest.raises(StudyError, match=r"a0-0\.json is damaged"):
        load(tmp_path)


def test_two_results_for_one_place_are_refused(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": [0.9]})
    put(tmp_path / "trials" / "b.json", _trial("b", "tanh", 0, 0.2, ACCURACY, {}))
    with pytest.raises(StudyError, match=r"two results for 'tanh' with seed 0.*a0-0.*b\.json"):
        load(tmp_path)


# ----------------------------------------------------------------------------------- claiming


def text(results: StudyResults) -> str:
    return " ".join(verdict(results))


CLAIMS = re.compile(r"held at the 5% level|the difference held|did better|did worse")


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_too_few_seeds_claim_nothing_however_large_the_gap(tmp_path: Path, seeds: int) -> None:
    results = study(tmp_path, {"tanh": around(0.5, seeds), "relu": around(0.99, seeds)})
    assert "No claim possible" in judge(results).answer[1]
    assert comparisons(results)[0].evidence is Evidence.TOO_FEW_SEEDS
    assert not CLAIMS.search(text(results))
    assert "95% interval" not in " ".join(judge(results).comparisons)


def test_six_seeds_claim_against_one_rival_but_not_against_four(tmp_path: Path) -> None:
    one = {"tanh": around(0.5, 6), "relu": around(0.9, 6, 0.01)}
    alone = study(tmp_path / "one", one)
    assert comparisons(alone)[0].evidence is Evidence.HELD
    more = {f"r{i}": around(0.6 + i / 50, 6, 0.01) for i in range(3)}
    crowd = study(tmp_path / "many", one | more)
    said = text(crowd)
    assert "with 6 seeds and 4 rivals the smallest Holm-corrected p value that could be " in said
    assert "reached is 0.125, so no difference can be called significant" in said
    assert "8 seeds would be enough" in said
    assert {c.evidence for c in comparisons(crowd)} == {Evidence.UNREACHABLE}
    assert not CLAIMS.search(said)


def test_a_clear_difference_is_claimed_in_the_right_direction(tmp_path: Path) -> None:
    finals = {"tanh": around(0.9, 10), "relu": around(0.93, 10, 0.01), "sin": around(0.85, 10)}
    results = study(tmp_path, finals)
    assert judge(results).answer[0].startswith("relu has the best mean accuracy")
    assert "Compared with tanh, relu did better and sin did worse" in text(results)
    better, worse = judge(results).comparisons
    assert better.startswith("relu against tanh: 3.0 points better on average")
    assert "better in 10 of 10 seeds" in better
    assert "p = 0.004 after Holm's correction for 2 comparisons" in better
    assert "5.0 points worse" in worse
    assert "better in 0 of 10" in worse


def test_lower_is_better_turns_everything_round(tmp_path: Path) -> None:
    finals = {"tanh": around(0.05, 10), "relu": around(0.02, 10, 0.001)}
    results = study(tmp_path, finals, task=ERROR)
    comparison = comparisons(results)[0]
    assert comparison.difference.mean == pytest.approx(-0.03)
    assert comparison.gain == pytest.approx(0.03)
    assert 0 < comparison.gain_interval.low <= comparison.gain <= comparison.gain_interval.high
    assert (comparison.better_in, comparison.evidence) == (10, Evidence.HELD)
    assert ranking(results)[0][0] == "relu"
    assert "0.03 better on average" in text(results)
    assert "point" not in " ".join(judge(results).comparisons)


def test_a_difference_that_is_not_shown_is_not_called_equality(tmp_path: Path) -> None:
    mixed = [0.9 + 0.01 * (-1) ** i for i in range(10)]
    results = study(tmp_path, {"tanh": around(0.9, 10), "relu": mixed})
    assert comparisons(results)[0].evidence is Evidence.NOT_SHOWN
    sentence = judge(results).comparisons[0]
    assert "; no difference is shown (p = " in sentence
    assert "does not mean that there is none" in sentence
    assert re.search(r"interval .* worse to .* better;", sentence)
    assert "The difference from tanh did not hold" in text(results)


def test_a_tie_is_not_better(tmp_path: Path) -> None:
    results = study(tmp_path, {"tanh": [0.9] * 6, "relu": [0.9, 0.9, 0.95, 0.95, 0.95, 0.8]})
    (comparison,) = comparisons(results)
    assert comparison.better_in == 3
    assert comparison.difference.improvement == pytest.approx(4 / 6)


def test_a_hint_that_the_correction_takes_away(tmp_path: Path) -> None:
    """Nine of ten seeds better is below 5% alone, and above it among five comparisons."""
    hint = [0.9 + 0.01 * d for d in (3, 3, 2, 2, 2, 1, 1, 1, 1, -2)]
    same = [0.9 + 0.01 * (-1) ** i for i in range(10)]
    rivals: dict[str, list[float]] = {"hint": hint} | {f"r{i}": same for i in range(4)}
    results = study(tmp_path, {"tanh": [0.9] * 10, **rivals})
    first = comparisons(results)[0]
    assert first.difference.p_value <= 0.05 < first.corrected_p
    assert first.evidence is Evidence.UNCORRECTED
    assert "a hint, no claim" in judge(results).comparisons[0]


def test_all_equal(tmp_path: Path) -> None:
    results = study(tmp_path, {"tanh": [0.9] * 8, "relu": [0.9] * 8})
    assert judge(results).answer[0] == "tanh and relu share the highest mean accuracy, 90.0%."
    assert "exactly the same accuracy in all 8 seeds, so no difference is shown" in text(results)
    assert comparisons(results)[0].corrected_p == 1.0


@pytest.mark.parametrize(
    ("finals", "task", "said"),
    [
        ({"tanh": around(0.5, 3), "relu": around(0.9, 3)}, ACCURACY, "highest observed mean"),
        ({"tanh": around(0.5, 3), "relu": around(0.1, 3)}, ERROR, "lowest observed mean"),
        ({"tanh": around(0.5, 8), "relu": around(0.9, 8, 0.01)}, ACCURACY, "best mean"),
        ({"tanh": around(0.9, 8), "relu": around(0.5, 8, 0.01)}, ACCURACY, "best mean"),
        # Both rivals are better than tanh, but which of them is the best was not tested.
        (
            {"tanh": around(0.5, 8), "relu": around(0.9, 8, 0.01), "elu": around(0.8, 8, 0.02)},
            ACCURACY,
            "highest observed mean",
        ),
    ],
)
def test_only_what_held_is_called_the_best(
    tmp_path: Path, finals: dict[str, list[float]], task: dict[str, Any], said: str
) -> None:
    answer = judge(study(tmp_path, finals, task=task)).answer[0]
    assert f" has the {said} {task['metric']} on " in answer


def test_the_table_heads_a_range_and_tells_the_difference(tmp_path: Path) -> None:
    finals = {"tanh": around(0.9, 3), "relu": around(0.8, 3)}
    seconds = {"tanh": 0.0125, "relu": 0.015}
    few = table(study(tmp_path / "few", finals, seconds=seconds)).splitlines()
    assert "  range  " in few[0] and few[0].endswith("difference from tanh")
    assert "time per step" in few[0] and "1.20" in few[3]
    assert few[3].endswith("10.0 points worse, may be chance")
    write_study(tmp_path / "more", {"tanh": around(0.9, 6), "relu": around(0.8, 6)})
    assert "95% interval" in table(load(tmp_path / "more"))
    (tmp_path / "more" / "trials" / "a1-0.json").unlink()
    mixed = table(load(tmp_path / "more")).splitlines()
    assert "  interval  " in mixed[0] and "(range)" in mixed[3] and "(range)" not in mixed[2]


# ------------------------------------------------------------------- stability, health, cost


def test_diverged_runs_are_counted_and_scored(tmp_path: Path) -> None:
    relu = [None, *around(0.92, 6), None]
    finals: dict[str, list[float | None]] = {"tanh": [*around(0.9, 8)], "relu": relu}
    results = study(tmp_path, finals)
    said = text(results)
    assert "2 runs diverged (relu); all are counted." in said
    assert "relu: 2 of 8 runs diverged, typically in epoch 2, first seen in the cell state" in said
    assert "(95% interval of the rate: 7% to 59%)" in said
    assert "scored with the value of guessing, 10.0%" in said
    assert results.final("relu").mean() == pytest.approx((6 * 0.92 + 2 * 0.1) / 8)
    assert comparisons(results)[0].difference.n == 8


def test_every_run_diverging_is_a_result(tmp_path: Path) -> None:
    results = study(tmp_path, {"tanh": [None] * 6, "relu": [None] * 6})
    assert "12 runs diverged (tanh and relu)" in text(results)
    assert "tanh: 6 of 6 runs diverged" in text(results)


def test_no_divergence_is_said_too(tmp_path: Path) -> None:
    assert "No run diverged (0 of 4); with 4 runs of each, a failure in up to 49%" in text(
        study(tmp_path, {"tanh": [0.9] * 4})
    )


def test_saturation_and_dead_units(tmp_path: Path) -> None:
    finals = {"tanh": [0.9] * 6, "relu": [0.8] * 6}
    loud = study(tmp_path / "loud", finals, shares={"relu": (0.55, 0.125)})
    assert judge(loud).health == [
        "Where most values were saturated at the last epoch: relu 55% (candidate).",
        "Where most units were dead: relu 12% (candidate).",
    ]
    quiet = " ".join(judge(study(tmp_path / "quiet", finals)).health)
    assert "no slot had 20% of its values saturated" in quiet


def test_cost_is_relative_and_knows_noise(tmp_path: Path) -> None:
    finals = {"tanh": [0.9] * 6, "relu": [0.8] * 6, "sin": [0.8] * 6}
    results = study(tmp_path, finals, seconds={"tanh": 0.010, "relu": 0.010, "sin": 0.015})
    same, slow = costs(results)
    assert [same.ratio, slow.ratio] == pytest.approx([1.0, 1.5])
    assert [same.within_noise, slow.within_noise] == [True, False]
    assert re.search(r"relu 1\.00 times \(.*within noise\); sin 1\.50 times", text(results))
    untimed = study(tmp_path / "untimed", finals)
    assert judge(untimed).cost == ["The time of a training step was not measured."]


def disturb(root: Path, label: str, factor: float) -> None:
    """Another process takes the processor for one activation in one round."""
    content = json.loads(steps_path(root).read_text())
    content["seconds"][label][1] *= factor
    put(steps_path(root), content)


@pytest.mark.parametrize("seeds", [2, 3, 5, 8])
@pytest.mark.parametrize("disturbed", ["tanh", "hard_tanh"])  # the first activation, the rival
def test_no_cost_is_told_where_a_clock_was_disturbed(
    tmp_path: Path, seeds: int, disturbed: str
) -> None:
    """Both take the same time but for one round that took 2.4 times as long."""
    finals = {"tanh": [0.9] * seeds, "hard_tanh": [0.8] * seeds, "sin": [0.8] * seeds}
    seconds = {"tanh": 0.01, "hard_tanh": 0.0097, "sin": 0.015}
    root = write_study(tmp_path, finals, seconds=seconds)
    disturb(root, disturbed, 2.4)
    results = load(root)
    told, said = {c.label for c in costs(results)}, " ".join(judge(results).cost)
    hurt = {"hard_tanh", "sin"} if disturbed == "tanh" else {"hard_tanh"}
    assert set(disturbed_clocks(results)) == hurt and told == {"hard_tanh", "sin"} - hurt
    assert f"is not told for {' and '.join(sorted(hurt))}: the clock was disturbed" in said
    assert "2.4 times" in said
    assert "hard_tanh 0." not in said and "hard_tanh 1." not in said
    assert not inside.cost(results) or "clock was disturbed" in inside.cost(results).sentence
    assert set(summary(results)["cost_not_told"]) == hurt


def test_a_machine_that_slows_both_of_a_pair_disturbs_nothing(tmp_path: Path) -> None:
    finals = {"tanh": [0.9] * 3, "relu": [0.8] * 3}
    root = write_study(tmp_path, finals, seconds={"tanh": 0.01, "relu": 0.02})
    for label in ("tanh", "relu"):
        disturb(root, label, 3.0)
    (cost,) = costs(load(root))
    assert cost.ratio == pytest.approx(2.0) and not disturbed_clocks(load(root))


def test_a_single_seed_says_that_it_is_one(tmp_path: Path) -> None:
    results = study(tmp_path, {"tanh": [0.9], "relu": [0.8]}, seconds={"tanh": 1.0, "relu": 2.0})
    assert "relu 2.00 times (measured once)" in text(results)


def test_caveats_name_the_scope(tmp_path: Path) -> None:
    said = " ".join(judge(study(tmp_path, {"tanh": [0.9], "a": [0.8], "b": [0.8]})).caveats)
    for scope in ("one task (handwritten digits)", "one learning rate (0.005)", "32 hidden units"):
        assert scope in said
    assert "tested against tanh only" in said


# --------------------------------------------------------------------------- unfinished studies


def test_missing_trials_are_announced_first(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": around(0.9, 4), "relu": around(0.8, 4)})
    (tmp_path / "trials" / "a1-3.json").unlink()
    results = load(tmp_path)
    assert verdict(results)[0].startswith("7 of 8 trials present: 1 run is missing")
    assert comparisons(results)[0].seeds == (0, 1, 2)


def test_a_study_without_trials_says_only_that(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": [0.9], "relu": [0.8]})
    for path in (tmp_path / "trials").iterdir():
        path.unlink()
    assert verdict(load(tmp_path)) == ["0 of 2 trials present: there is nothing to report yet."]


def test_no_seed_in_common(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": [0.9, 0.9], "relu": [0.8, 0.8]})
    (tmp_path / "trials" / "a0-0.json").unlink()
    (tmp_path / "trials" / "a1-1.json").unlink()
    results = load(tmp_path)
    assert comparisons(results) == []
    assert "relu: no seed in common with tanh yet" in text(results)


def test_one_activation_alone_is_compared_with_nothing(tmp_path: Path) -> None:
    results = study(tmp_path, {"tanh": around(0.9, 6)})
    assert judge(results).comparisons == judge(results).cost == []
    (said,) = judge(results).answer
    assert said.startswith("tanh alone was trained on handwritten digits; its mean accuracy is 90")
    assert said.endswith("A comparison needs another activation.")
    assert "best" not in text(results) and "order." not in text(results)


def test_the_best_mean_of_runs_that_all_diverged_is_no_praise(tmp_path: Path) -> None:
    results = study(tmp_path, {"tanh": around(0.3, 6), "relu": [None] * 6}, task=ERROR)
    answer = judge(results).answer[0]
    assert answer.startswith("relu has the best mean")
    assert answer.endswith("; but every run of relu diverged and counts as guessing.")
