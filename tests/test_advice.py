"""The changes that the report suggests, and their reasons; one suggestion followed to the end."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recorded import add_snapshots, add_stability
from test_verdict import study, write_study

from anygate.cli import main
from anygate.formulas import resolve
from anygate.lab.findings.advice import Advice, advice, after_divergence, describe_divergence
from anygate.lab.findings.verdict import judge
from anygate.lab.study.store.results import load
from anygate.lab.study.store.schema import Divergence, LearningRates, Trial, Tried, Tuned
from anygate.nn.init import gain


def about(found: list[Advice], label: str, word: str) -> Advice:
    """The one suggestion for a label that holds this word."""
    (one,) = [a for a in found if a.label == label and word in a.do]
    return one


def changed(root: Path, **parts: Any) -> None:
    """Change study.json."""
    config = json.loads((root / "study.json").read_text())
    (root / "study.json").write_text(json.dumps(config | parts))


# ------------------------------------------------------------------------------ runs that diverged


def run(**parts: Any) -> Trial:
    about = {"epoch": 2, "step": 71, "what": "the loss is not finite", "slot": "", "value": "inf"}
    return Trial("k", "relu", 3, Divergence(**(about | parts)), (), 0.1)


def test_a_diverged_run_is_named_with_step_time_step_slot_and_size() -> None:
    text = describe_divergence(run(slot="cell_output", time_step=37, max_abs_cell_before=2.1e38))
    assert text == (
        "relu with seed 3 diverged at training step 71 of epoch 2: the cell output is the first "
        "that is not finite, at time step 37; the largest |c| before it was 2.1e+38."
    )


def test_a_gradient_that_overflowed_is_named_with_its_time_step_and_sizes() -> None:
    text = describe_divergence(
        run(time_step=12, gradient_before=9e30, max_abs_cell_before=4e9, largest_at=50)
    )
    assert "the gradient overflows at time step 12, where ‖∂L/∂c‖ was 9e+30 one step later" in text
    assert text.endswith(
        "the largest |c|, which goes into the cell output, is 4e+09 at time step 50."
    )


def test_a_run_that_did_not_diverge_is_not_said_to() -> None:
    assert describe_divergence(Trial("k", "relu", 3, None, (), 0.1)).endswith("did not diverge.")


def test_the_verdict_names_the_run_and_what_to_try(tmp_path: Path) -> None:
    results = study(
        tmp_path,
        {"tanh": [0.9, 0.8], "relu": [0.8, None]},
        settings={"learning_rate": 0.02, "gradient_clip": 0.0},
    )
    stability = judge(results).stability
    assert "relu with seed 1 diverged at training step 71 of epoch 2" in stability[1]
    assert stability[2] == (
        "To try with relu: Lower the learning rate to 0.002, and clip the norm of the gradient to "
        "1 (--arm 'relu, learning_rate=0.002 gradient_clip=1.0' activation=relu "
        "learning_rate=0.002 gradient_clip=1.0)."
    )
    assert after_divergence(results, "tanh") is None


def test_with_a_stability_map_its_rate_is_suggested(tmp_path: Path) -> None:
    write_study(
        tmp_path,
        {"tanh": [0.9], "relu": [None]},
        settings={"learning_rate": 0.03, "gradient_clip": 1.0},
    )
    add_stability(tmp_path, {"relu": {(0.001, 0.0): 0, (0.01, 0.0): 0, (0.03, 0.0): 2}})
    found = after_divergence(load(tmp_path), "relu")
    assert found is not None and found.settings == {"activation": "relu", "learning_rate": 0.01}
    assert "no run with relu diverged up to a learning rate of 0.01" in found.because


def test_a_run_that_diverged_before_any_change_is_not_the_learning_rates_fault(
    tmp_path: Path,
) -> None:
    write_study(tmp_path, {"tanh": [0.9], "exp": [None]})
    (path,) = (tmp_path / "trials").glob("a1-*")
    trial = json.loads(path.read_text())
    trial["diverged"] |= {"step": 1, "slot": "candidate", "time_step": 4}
    path.write_text(json.dumps(trial))
    found = after_divergence(load(tmp_path), "exp")
    assert found is not None and found.settings == {"candidate": "exp"}
    assert "it is not the learning rate" in found.because


def test_where_each_has_a_rate_of_its_own_that_one_is_lowered(tmp_path: Path) -> None:
    results = study(tmp_path, {"tanh": [0.9], "relu": [None]}, settings={"gradient_clip": 1.0})
    tuned = {
        name: Tuned(rate, (Tried(rate, (0.5,), 0),))
        for name, rate in (("tanh", 0.01), ("relu", 0.2))
    }
    rates = LearningRates((0.01, 0.2), (1_000_000,), False, 0.01, tuned)
    own = replace(results, config=replace(results.config, learning_rates=rates))
    found = after_divergence(own, "relu")
    assert found is not None and found.settings["learning_rate"] == 0.02


def test_what_an_arm_sets_itself_is_what_is_lowered(tmp_path: Path) -> None:
    """Not the study's rate, which no run of the arm ever had."""
    results = study(tmp_path, {"tanh": [0.9], "relu": [None]}, settings={"gradient_clip": 1.0})
    first, second = results.config.activations
    fast = replace(
        second, settings={"activation": "relu", "learning_rate": 0.2, "gradient_clip": 0.0}
    )
    config = replace(results.config, activations=(first, fast))
    found = after_divergence(replace(results, config=config), "relu")
    assert found is not None and found.settings["learning_rate"] == 0.02
    assert found.settings["gradient_clip"] == 1.0


def test_f_is_looked_for_where_it_stands(tmp_path: Path) -> None:
    """Not in a gate that another arm changes, nor in one where an arm has another activation."""
    results = study(tmp_path, {"tanh": [0.9], "relu": [0.8], "mine": [0.8]})
    first, second, third = results.config.activations
    gates = {"gate_activation": "hard_sigmoid", "activation": "relu"}
    mine = replace(third, formula=second.formula, settings=gates)
    slots = ("input_gate", "forget_gate", "candidate", "output_gate", "cell_output")
    config = replace(
        results.config, slot="activation", slots=slots, activations=(first, second, mine)
    )
    found = advice(replace(results, config=config))
    assert about(found, "relu", "identity") and about(found, "mine", "identity")
    assert not [a for a in found if "forget gate" in a.do.lower()]


def options_in(text: str) -> list[str]:
    """The options that `compare` printed, to try with relu."""
    (line,) = re.findall(r"To try with relu: .*?\((--[^)]+)\)", " ".join(text.split()))
    return shlex.split(line)


def test_relu_that_diverges_trains_when_the_printed_suggestion_is_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Adam's second step at a rate of 0.3: the sums overflow. What is printed then solves it."""
    common = [
        "compare",
        "relu",
        "--task",
        "adding:20",
        "--seeds",
        "2",
        "--hidden-size",
        "16",
        "--epochs",
        "8",
    ]
    assert main([*common, "--learning-rate", "0.3", "--out", str(tmp_path / "bad")]) == 0
    printed = capsys.readouterr().out
    bad = load(tmp_path / "bad")
    assert len(bad.diverged("relu")) == 2
    assert re.search(
        r"relu with seed \d diverged at training step 2 of epoch 1: .*\|c\|",
        " ".join(printed.split()),
    )
    options = options_in(printed)
    assert main([*common, "--learning-rate", "0.3", *options, "--out", str(tmp_path / "bad")]) == 0
    good = load(tmp_path / "bad")
    assert not good.diverged(options[1]) and len(good.diverged("relu")) == 2
    assert good.solved(options[1]) == 2


# ------------------------------------------------------------------------------- sheet and numbers


def test_an_unbounded_candidate_is_said_with_its_largest_state(tmp_path: Path) -> None:
    results = study(
        tmp_path,
        {"tanh": [0.9, 0.8], "relu": [0.8, 0.7]},
        formulas={"relu": "max(x, 0)"},
        settings={"learning_rate": 0.01, "gradient_clip": 0},
    )
    found = about(advice(results), "relu", "identity")
    assert "no bound (property sheet), and it is the candidate and cell output" in found.because
    assert "the largest |c| measured is 6, with tanh 6. No run diverged here" in found.because
    assert found.do.startswith("Clip the gradient, begin")
    assert "anygate.init.identity_(lstm)" in found.code
    assert not [a for a in advice(results) if a.label == "tanh"]


def test_a_forget_gate_above_one_and_one_that_stops_learning(tmp_path: Path) -> None:
    write_study(
        tmp_path,
        {"sigmoid": [0.9], "relu": [0.8], "hard": [0.7]},
        formulas={"relu": "max(x, 0)", "hard": "clip(0.2*x + 0.5, 0, 1)"},
    )
    changed(tmp_path, slot="gate_activation", slots=["input_gate", "forget_gate", "output_gate"])
    add_snapshots(tmp_path, {"sigmoid": 0.9, "relu": 0.9, "hard": 0.9})
    found = advice(load(tmp_path))
    grows = about(found, "relu", "forget gate within")
    assert "beyond every bound" in grows.because and "mean after training is 0.5" in grows.because
    stuck = about(found, "hard", "chrono")
    # literature: 1 - (e^2.5 - 1)/(T - 2) of the units, here at T = 64
    assert "above 2.5 (property sheet): at 64 time steps" in stuck.because
    assert "would put 82% of the units there" in stuck.because
    assert not [a for a in found if a.label == "sigmoid"]


def test_a_gain_that_differs_from_tanhs_is_computed(tmp_path: Path) -> None:
    results = study(
        tmp_path, {"tanh": [0.9], "softsign": [0.8]}, formulas={"softsign": "x/(1 + abs(x))"}
    )
    found = about(advice(results), "softsign", "gain")
    own = gain(resolve("softsign"))
    assert f"gain of f, {own:.3g}." in found.do and f"is {1 / own:.3g}, tanh’s is" in found.because
    assert found.because.endswith("are 32% too small for it.")


def test_dead_units_and_saturation_are_said_with_their_shares(tmp_path: Path) -> None:
    shares = {"relu": (0.6, 0.25), "hard_tanh": (0.7, 0.0)}
    results = study(
        tmp_path,
        {"tanh": [0.9], "relu": [0.8], "hard_tanh": [0.7]},
        shares=shares,
        formulas={"relu": "max(x, 0)", "hard_tanh": "clip(x, -1, 1)"},
    )
    found = advice(results)
    dead = about(found, "relu", "nowhere zero")
    assert "leaky_relu" in dead.do and "25% in the candidate" in dead.because
    assert dead.code == ('anygate.LSTM(..., candidate="leaky_relu")',)
    assert "70% of the candidate’s values" in about(found, "hard_tanh", "flattens later").because
    assert not [a for a in found if a.label == "relu" and "flattens" in a.do]


def test_a_gradient_that_vanishes_for_all_is_one_suggestion(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": [0.9], "relu": [0.8]})
    add_snapshots(tmp_path, {"tanh": 0.8, "relu": 0.7})
    found = about(advice(load(tmp_path)), "", "Open the forget gate")
    # a sigmoid of the bias, to the power of 64 steps, is a tenth
    assert found.options == "--arm 'tanh, forget_bias=3.3' activation=tanh forget_bias=3.3"
    assert "with tanh" in found.because and "with relu" in found.because


def test_a_gradient_that_vanishes_for_one_is_its_own(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": [0.9], "relu": [0.8]})
    add_snapshots(tmp_path, {"tanh": 0.99, "relu": 0.7})
    found = [a for a in advice(load(tmp_path)) if "Open the forget gate" in a.do]
    assert [a.label for a in found] == ["relu"]


def test_a_formula_that_cannot_be_read_costs_its_facts_and_nothing_else(tmp_path: Path) -> None:
    results = study(tmp_path, {"tanh": [0.9], "odd(": [None]})
    assert [a.label for a in advice(results)] == ["odd("]
