"""The derived parts, the sentences that `anygate show` quotes, costs, coverage and the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_results import around, results

from anygate.lab.answer import measured
from studies import claims, costs, coverage, exact
from studies.__main__ import main
from studies.answer import TABLE
from studies.arms import arm
from studies.claims import CLAIMS, Derived
from studies.costs import JOBS, SIZES, Costs, load_costs
from studies.experiments import PLACES, grid, trials
from studies.judge import judged
from studies.lab import PUBLISHED
from studies.literature import PUBLISHED as PUBLISHED_FIGURES
from studies.publish import publish, sentences
from studies.results import COMMITTED, load
from studies.setups import CORE

HOLD = {
    "sigmoid range": True,
    "sigmoid ends": True,
    "second derivative": False,
    "forgetting": True,
    "relu qualities": False,
    "hard tanh saturates": True,
    "relu slope": True,
    "relu dead half": True,
    "leaky slope": True,
    "growth": True,
    "sigmoid derivative": False,
    "chrono": True,
}
"""Results that follow from the formulas, known from paper."""


@pytest.mark.parametrize("name", HOLD)
def test_a_derived_part_is_as_on_paper(name: str) -> None:
    found = exact.check(name)
    assert found.holds is HOLD[name]
    assert found.says
    assert found.numbers


def test_every_derived_part_has_its_check() -> None:
    used = {p.test.check for c in CLAIMS for p in c.parts if isinstance(p.test, Derived)}
    assert used == set(HOLD)


def test_numbers_of_the_derivations() -> None:
    """Of literature.md's points a to e, worked out by hand or by other programs."""
    second = exact.check("second derivative").numbers
    assert second["tanh"]["dies"] == pytest.approx(3.34, abs=0.005)
    assert second["tanh"]["peak"] == pytest.approx(0.770, abs=0.001)
    assert second["sigmoid"]["dies"] == pytest.approx(4.56, abs=0.005)
    assert second["softsign"]["dies"] == pytest.approx(4.85, abs=0.005)
    assert exact.check("forgetting").numbers["1"]["by_formula"] == pytest.approx(2.5e-14, rel=0.02)
    assert exact.check("forgetting").numbers["5"]["seen"] == pytest.approx(0.51, abs=0.005)
    chrono = exact.check("chrono").numbers
    assert chrono["hard_sigmoid_onnx, T = 100"]["by_formula"] == pytest.approx(0.886, abs=0.0005)
    assert exact.check("growth").numbers["2"]["overflow_seen"] == pytest.approx(720, rel=0.02)


# ---- publishing ---------------------------------------------------------------------------------


def test_published_sentences_tell_ratios_divergences_and_places(tmp_path: Path) -> None:
    arms = [*(arm(s) for s in CORE), *(grid(s, p, "relu") for s in CORE for p in PLACES)]
    held = results(
        arms,
        lambda a, k: around(16 if a.slots else 8, k),
        diverged=lambda a, k: (
            a.slots == (("activation", "relu"),) and a.setup == "adding" and k < 4
        ),
    )
    held.held.stretches.append(
        {"date": "2026-11-27", "rules": "0123456789", "machine": {"cpu": "a processor"}}
    )
    for each in held.held.arms:
        held.held.arms[each] = {"hidden_size": 12}
    first, *_ = sentences("relu", held, None)
    assert first.startswith("As candidate and cell output it needed these times the epochs")
    assert "over 16 paired seeds: 2." in first or "over 16 paired seeds: 1.9" in first
    assert "in a new task" in first
    *_, last = sentences("relu", held, None)
    assert last.startswith("4 of all 240 such runs diverged (4 of 80 (1.4 to 12.3 %)") or (
        last.startswith("4 of all 240 such runs diverged")
    )
    path = tmp_path / "answer.json"
    publish(held, None, path)
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["run"]["commit"] == "0123456"
    assert set(content["activations"]) == {"tanh", *TABLE}


def test_what_is_published_is_what_the_committed_results_say(tmp_path: Path) -> None:
    path = tmp_path / "answer.json"
    publish(load(), load_costs(), path)
    assert path.read_text(encoding="utf-8") == PUBLISHED.read_text(encoding="utf-8")
    assert measured("relu") is not None


def test_nothing_is_published_without_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["publish", "--file", "nowhere.jsonl"]) == 2
    assert "no runs to publish" in capsys.readouterr().err


# ---- costs --------------------------------------------------------------------------------------


def test_a_ratio_is_taken_within_a_round() -> None:
    """A machine twice as slow in a round changes no ratio."""
    rounds = tuple(
        {
            f"step {size} {job}": k * (1.5 if job == "relu" else 1.0)
            for size in SIZES
            for job in JOBS
        }
        | {"relu value": 3.0 * k, "relu gradient": k, "tanh value": k, "tanh gradient": k}
        for k in (1.0, 2.0, 1.0, 2.0, 1.0, 2.0)
    )
    found = Costs(rounds, {})
    assert found.ratios("step relu", "step tanh") == [(1.5, 1.5, 1.5)] * 2
    assert found.ratios("relu element", "tanh element") == [(2.0, 2.0, 2.0)]
    assert Costs(rounds[:5], {}).ratios("step relu", "step tanh") == []


def test_costs_of_another_machine_are_not_mixed(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({"machine": {"cpu": "another"}, "rounds": []}))
    with pytest.raises(ValueError, match="is of another"):
        costs.add_rounds(1, path)


def test_the_committed_costs_time_every_job() -> None:
    found = load_costs()
    assert found is not None
    assert len(found.rounds) >= costs.MIN_ROUNDS
    names = {f"step {size} {job}" for size in SIZES for job in JOBS}
    assert all(names <= set(times) for times in found.rounds)


# ---- coverage and the rest ----------------------------------------------------------------------


def test_the_committed_coverage_shows_where_intervals_are_too_short() -> None:
    held = json.loads((COMMITTED / "coverage.json").read_text(encoding="utf-8"))["rows"]
    rows = {(r["measure"], r["failing"], r["seeds"]): r["coverage"] for r in held}
    assert len(rows) == len(coverage.DRAWN) * len(coverage.FAILING) * len(coverage.SEEDS_OF)
    assert all(v > 0.93 for (measure, _, _), v in rows.items() if measure == "epochs")
    assert rows["final error", 0.1, 8] < 0.9
    again = coverage.simulate("epochs", 0.1, 8, repeats=200)
    assert abs(again["coverage"] - rows["epochs", 0.1, 8]) < 5 * again["standard_error"] + 0.02


def test_published_figures_stand_beside_arms_that_are_planned() -> None:
    planned = {each for each, _ in trials()}
    for each in PUBLISHED_FIGURES:
        assert each.read in ("source", "quoted", "abstract")
        assert {a for pair in each.ours for a in pair} <= planned, each.source


def test_the_command_lists_and_judges(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert all(claim.title in text for claim in claims.CLAIMS)
    assert main(["judge", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = judged(load(), load_costs())
    assert [[p["verdict"] for p in c["parts"]] for c in told] == [
        [p.words for p in c.parts] for c in found
    ]
