"""Claims from nothing to the page: the runner, resuming, the command, the committed page."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from claims_tiny import CLAIM, TINY, accuracies, findings, run_tiny, solved
from test_claims import PROPERTIES

from anygate.cli import parser as anygate_parser
from anygate.engines.cpu.elementwise import elementwise
from anygate.formulas import ACTIVATIONS, resolve
from anygate.formulas.program import lower
from anygate.lab.answer import measured
from anygate.lab.study.store.files import checked
from anygate.lab.study.trial import run_trial
from anygate.nn import LSTM
from studies.__main__ import Exit, main
from studies.answer import ANSWER, worded
from studies.claims import CLAIMS
from studies.experiments import plain
from studies.findings import load
from studies.flow import flow, trained
from studies.grid import QUICK, Arm, spec_of
from studies.lab import Model, StudyConflict, StudyError, Trial
from studies.model import Verdict
from studies.page import judge_all, page, write_page
from studies.pictures import PICTURES
from studies.publish import PUBLISHED, published
from studies.runner import plan, run
from studies.speed import functions

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent


def texts(directory: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in sorted(directory.rglob("trials/*.json"))}


# ---- one claim, end to end -----------------------------------------------------------------------


def test_one_claim_from_nothing_to_the_page(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    found = run_tiny(tmp_path / "c", progress=lambda done, total, name: told.append((done, total)))
    assert told[0][0] == 0 and told[-1][0] == told[-1][1]
    assert len(found.of(plain("pixels"))) == TINY.seeds
    assert 0 < found.finals(plain("pixels")).max() <= 1
    assert found.rates[plain("pixels").own.name] in (0.01, 0.02)
    assert len(found.of(plain("pixels").own)) == TINY.seeds
    assert load(tmp_path / "c" / "results.json") == found
    assert found.about["seconds"] > 0 and found.about["claims"] == [CLAIM]
    assert judge_all(found)[CLAIM].verdict is Verdict.UNDECIDED  # two seeds
    written = write_page(found, tmp_path / "c").read_text()
    assert "2 paired seeds" in written and CLAIMS[CLAIM].sentence in written

    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "c" / "trials").iterdir()}
    again = run_tiny(tmp_path / "c")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "c" / "trials").iterdir()} == before
    assert again.runs == found.runs and again.about["seconds"] is None


def test_a_folder_of_another_scale_or_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "claims.json").write_text('{"schema": 1, "scale": "full"}')
    with pytest.raises(StudyConflict, match="results of the full run"):
        run_tiny(tmp_path)
    (tmp_path / "claims.json").unlink()
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StudyConflict, match="other things"):
        run_tiny(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_killed_half_way_it_resumes_and_gives_the_same_files(tmp_path: Path) -> None:
    """kill -9 of the run and its workers, then the same run again."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = [sys.executable, str(HERE / "claims_tiny.py"), str(broken)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(command, start_new_session=True, env=environment)
    try:
        deadline = time.monotonic() + 120
        while len(list(broken.glob("trials/*.json"))) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not (broken / "results.json").exists()
    kept = {p: p.stat().st_mtime_ns for p in broken.glob("trials/*.json")}
    found, other = run_tiny(broken), run_tiny(whole)
    assert found.runs == other.runs and found.rates == other.rates
    assert texts(broken) == texts(whole)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept  # not run again


def test_a_damaged_experiment_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def compute(name: str, scale: Any) -> dict[str, Any]:
        calls.append(name)
        return {"forget": {}}

    monkeypatch.setattr("studies.runner._compute", compute)
    planned = plan([CLAIMS["forgetting"]], TINY)
    for _ in range(2):
        run(planned, tmp_path, command="c", jobs=1)
    assert calls == ["limits"]
    (tmp_path / "experiments" / "limits.json").write_text('{"schema": 1, "fou')
    run(planned, tmp_path, command="c", jobs=1)
    assert calls == ["limits", "limits"]


# ---- what is measured ----------------------------------------------------------------------------


def test_a_trial_of_before_keeps_its_key_and_new_settings_change_it() -> None:
    arm = Arm("adding", "activation", "relu")
    keys = {
        spec_of(a, 0, QUICK).key
        for a in (
            arm,
            Arm("adding", "activation", "relu", (("initial", "identity"),)),
            Arm("adding", "activation", "relu", (("variant", "coupled"),)),
        )
    }
    assert len(keys) == 3
    assert not {"initial", "variant"} & spec_of(arm, 0, QUICK).settings.describe().keys()


def test_initial_weights_and_variants_reach_the_model() -> None:
    def model(**changes: Any) -> Model:
        spec = spec_of(plain("pixels", **changes), 0, TINY)
        return Model(spec, 8, every_step=False)

    assert np.array_equal(model(initial="identity").lstm.weight_hh_l0[6:9].detach(), np.eye(3))
    chrono = model(initial="chrono").lstm.bias_ih_l0.detach()
    assert (chrono[3:6] > 0).all() and np.array_equal(chrono[:3], -chrono[3:6])
    assert model(variant="coupled").lstm.cell.type == LSTM(1, 1, coupled=True).cell.type
    assert model(variant="peephole").lstm.cell.type == LSTM(1, 1, peephole=True).cell.type
    assert (model().lstm.bias_ih_l0.detach()[3:6] == 1).all()


@pytest.mark.parametrize("variant", ["coupled", "peephole"])
def test_a_variant_trains_and_is_measured(variant: str) -> None:
    result, _ = run_trial(spec_of(plain("pixels", variant=variant), 0, TINY))
    assert result["diverged"] is None and "candidate" in result["epochs"][-1]["slots"]


def test_the_flow_through_closed_gates_is_the_forget_gates_product() -> None:
    """Without recurrent weights and with an output gate that hardly opens, dL/dc is f^lag."""
    import torch

    spec = spec_of(plain("pixels", forget_bias=0.5), 0, TINY)
    model = Model(spec, 1, every_step=False)
    with torch.no_grad():
        model.lstm.weight_hh_l0.zero_()
        model.lstm.weight_ih_l0.zero_()
    x = torch.zeros(11, 4, 1)
    seen = flow(model, lambda output, y: output.sum(), x, torch.zeros(4))
    expected = 5 * np.log10(1 / (1 + np.exp(-0.5)))
    assert seen["cell_half"] == pytest.approx(expected, rel=1e-5)
    assert seen["forget_half"] == pytest.approx(expected, rel=1e-5)
    assert seen["hidden_half"] is not None


def test_a_trial_is_looked_at_as_often_as_asked() -> None:
    spec = spec_of(plain("pixels", epochs=3), 0, TINY)
    for look, seen in ((0, []), (2, [2, 3]), (1, [1, 2, 3])):
        result, _ = run_trial(replace(spec, health_every=look, snapshots=False))
        assert [e["epoch"] for e in result["epochs"] if "slots" in e] == seen
        assert result["inside"] == {} and result["key"] == spec.key


def test_what_is_kept_of_a_trained_model_comes_from_its_last_snapshot() -> None:
    result, _ = run_trial(spec_of(plain("pixels"), 0, TINY))
    kept = trained(checked(result, Trial).inside["end"])
    norms = result["inside"]["end"]["grad_c"]
    assert kept["cell_half"] == pytest.approx(np.log10(norms[-5] / norms[-1]))
    assert kept["zero_slope"]["candidate"] == 0
    assert trained(None) == {}


def test_elementwise_code_computes_the_program_and_refuses_what_it_cannot() -> None:
    x = np.linspace(-3, 3, 64, dtype=np.float32)
    y = np.empty_like(x)
    run = elementwise(lower({"value": resolve("silu").closed}, ("x",)), "float32")
    run(x.ctypes.data, y.ctypes.data, x.size, 2)
    assert y == pytest.approx(x / (1 + np.exp(-x)), rel=1e-5, abs=1e-6)
    with pytest.raises(ValueError, match="multiple of 16"):
        run(x.ctypes.data, y.ctypes.data, 5, 1)


def test_functions_are_timed_in_every_round() -> None:
    found = functions(TINY)
    assert found["saved"]["tanh"] == "value" and found["saved"]["softsign"] == "argument"
    assert all(len(times) == TINY.rounds and min(times) > 0 for times in found["rounds"].values())
    assert "sigmoid gradient" in found["rounds"]


# ---- the page ------------------------------------------------------------------------------------


def test_the_answer_follows_the_verdicts() -> None:
    good, low = accuracies(*[0.9, 0.91] * 4), accuracies(*[0.6, 0.65] * 4)
    relu = Arm("pixels", "activation", "relu")
    worse = page(findings({plain("pixels"): good, relu: low}))
    better = page(findings({plain("pixels"): low, relu: good}))
    nothing = page(findings())
    refuted = "On images read pixel by pixel ReLU was worse than tanh"
    held = "On images read pixel by pixel ReLU was not worse than tanh"
    assert refuted in worse and held not in worse
    assert held in better and refuted not in better
    assert held not in nothing and refuted not in nothing
    assert "On images read pixel by pixel our runs do not decide" in nothing


def test_every_sentence_of_the_answer_stands_on_a_claim_or_a_source() -> None:
    for key, judgement in judge_all(findings()).items():
        for said in CLAIMS[key].answers:
            assert said.held and said.refuted and said.undecided
            if said.part:
                judgement.part(said.part)  # KeyError for a part that no judge makes
            text = worded(said, CLAIMS[key], judgement)
            assert text.endswith(f"(#claim-{CLAIMS[key].row}))")
            assert text in page(findings())
    for around in ANSWER.values():
        assert all(cited.source and cited.text for cited in (*around.opening, *around.closing))


def test_the_commands_of_the_answer_are_commands() -> None:
    for around in ANSWER.values():
        program, *arguments = shlex.split(around.command)
        assert program == "anygate"
        anygate_parser().parse_args(arguments)


def test_pictures_need_their_numbers_and_are_drawn(tmp_path: Path) -> None:
    runs = {plain(t): solved(*[5] * 8) for t in ("adding", "reber")}
    runs[Arm("adding", "forget_gate", "relu")] = solved(*[9] * 8)
    found = findings(runs)
    write_page(found, tmp_path)
    drawn = {p.name for p in (tmp_path / "images").iterdir()}
    assert drawn == {p.file for p in PICTURES if p.rows(found)} == {"claims_pairs.svg"}
    assert "images/claims_pairs.svg" in (tmp_path / "claims.md").read_text()


def test_results_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for text in ("{", '{"schema": 1}', '{"schema": 7}'):
        path.write_text(text)
        with pytest.raises(StudyError, match=r"results\.json"):
            load(path)


# ---- the command ---------------------------------------------------------------------------------


def test_the_command_lists_and_refuses_unknown_claims(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--json"]) == Exit.DONE
    listed = json.loads(capsys.readouterr().out)["claims"]
    assert [c["claim"] for c in listed] == list(CLAIMS)
    assert main(["--quick", "--only", "tanh"]) == Exit.USAGE
    assert "tanh-converges" in capsys.readouterr().err


def test_the_command_runs_judges_and_judges_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["--quick", "--only", "e", "--jobs", "1", "--out", out]) == Exit.DONE
    assert capsys.readouterr().out.split()[:3] == ["e", "forgetting", "held"]
    source = f"{out}/results.json"
    assert main(["--from", source, "--out", str(tmp_path / "b"), "--json"]) == Exit.DONE
    said = json.loads(capsys.readouterr().out)
    assert [(c["claim"], c["verdict"]) for c in said["claims"]] == [("forgetting", "held")]
    assert (tmp_path / "b/claims.md").read_text() == Path(out, "claims.md").read_text()


def test_interrupted_it_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(name: str, scale: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("studies.runner._compute", stop)
    command = ["--quick", "--only", "e", "--out", str(tmp_path), "--jobs", "1"]
    assert main(command) == Exit.INTERRUPTED
    assert f"python -m studies --quick --only e --out {tmp_path}" in capsys.readouterr().err


# ---- what the wheel keeps ------------------------------------------------------------------------


def test_the_packaged_sentences_are_what_the_committed_results_make() -> None:
    """After another run or a change of the rules: python -m studies --publish."""
    made = published(load(ROOT / "docs" / "claims.json"))
    assert json.loads(PUBLISHED.read_text(encoding="utf-8")) == json.loads(json.dumps(made))
    assert PUBLISHED.stat().st_size < 8000
    assert all(made["run"].values())
    assert made["activations"].keys() <= ACTIVATIONS.keys()
    for name, found in made["activations"].items():
        quoted = measured(name)
        assert quoted is not None and list(quoted.sentences) == found["sentences"]
        assert 1 <= len(quoted.sentences) <= 3 and made["run"]["commit"] in quoted.run
    assert measured("gelu") is None


def test_the_packaged_sentences_tell_divergences_and_what_is_withdrawn() -> None:
    relu, tanh = measured("relu"), measured("tanh")
    assert relu is not None and tanh is not None
    assert "longer adding (5 of 8 diverged)" in relu.sentences[0]
    assert "5 of 176 such runs diverged" in relu.sentences[1]
    assert "14 of 24 on longer adding" in relu.sentences[1]
    assert CLAIMS["relu-no-saturation"].sentence in relu.withdrawn[0] and not tanh.withdrawn


def test_what_diverged_in_new_results_is_in_the_sentences() -> None:
    """Two seeds of ReLU on Reber diverge in results made by hand."""
    relu = Arm("reber", "activation", "relu")
    found = findings({plain("reber"): solved(*[5] * 8), relu: solved(*[5] * 8, diverged=[1, 4])})
    assert (
        "2 of 8 such runs diverged (2 of 8 on Reber)."
        in (published(found)["activations"]["relu"]["sentences"])
    )
    assert published(findings())["activations"]["relu"] == {"sentences": [], "withdrawn": []}


# ---- what is committed ---------------------------------------------------------------------------


def test_the_committed_page_is_what_the_committed_results_make() -> None:
    found = load(ROOT / "docs" / "claims.json")
    assert (ROOT / "docs" / "claims.md").read_text(encoding="utf-8") == page(found)
    for picture in PICTURES:
        assert (ROOT / "docs" / "images" / picture.file).exists() == bool(picture.rows(found))


def test_the_committed_page_withdraws_what_its_data_contradict() -> None:
    found = load(ROOT / "docs" / "claims.json")
    verdicts = {key: judged.verdict for key, judged in judge_all(found).items()}
    assert [key for key, v in verdicts.items() if v is Verdict.WITHDRAWN] == ["relu-no-saturation"]
    text = page(found)
    assert "| adding problem, 100 steps | relu | 3 of 8 | 5 of 8 |" in text
    assert "as stable as tanh: held" not in text and "No run of ReLU diverged" not in text


def test_the_committed_results_are_of_all_claims_and_know_the_properties() -> None:
    found = load(ROOT / "docs" / "claims.json")
    assert {*map(str, range(1, 11)), *"abcde"} <= {CLAIMS[k].row for k in found.about["claims"]}
    sheets = found.experiment("formulas")["sheets"]
    for name, truth in PROPERTIES.items():
        row = sheets[name]
        assert (row["bounded"], row["differentiable"], row["monotone"]) == tuple(map(bool, truth))
    planned = plan([CLAIMS[key] for key in found.about["claims"]], found.scale)
    for arm, seeds in planned.arms.items():
        assert len(found.of(arm)) >= seeds, arm.name
