"""The figures of what was recorded inside, of all pairs and of settings: numbers and sentences."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from recorded import EDGES, LAGS, add_snapshots, add_stability
from test_verdict import ERROR, around, study, write_study

from anygate.lab.findings.advice import advice
from anygate.lab.findings.comparison import all_pairs
from anygate.lab.report import across, flow
from anygate.lab.report.parts import Figure, Panel
from anygate.lab.statistics import Evidence, holm, paired_difference
from anygate.lab.study.store.files import StudyError
from anygate.lab.study.store.results import StudyResults, load

SHRINKS = {"tanh": 0.9, "relu": 0.5}


FINALS = {"tanh": [0.9, 0.8], "relu": [0.8, 0.7]}


def recorded(root: Path, finals: Mapping[str, Sequence[float | None]] = FINALS) -> StudyResults:
    write_study(root, finals)
    add_snapshots(root, SHRINKS, saturated=0.8)
    return load(root)


def made(figure: Figure | None) -> Figure:
    assert figure is not None
    return figure


def rows_of(panel: Panel) -> list[dict[str, Any]]:
    """The rows that all layers share, or those of the first."""
    spec: dict[str, Any] = panel.chart(False).to_dict(validate=False)
    return list((spec.get("data") or spec["layer"][0]["data"])["values"])


# ----------------------------------------------------------------------------------- gradients


def test_gradient_lines_are_the_norms_over_the_lag(tmp_path: Path) -> None:
    figure = made(flow.gradients(recorded(tmp_path)))
    titles = [p.title for p in figure.panels]
    assert titles == [
        f"norm of ∂L/∂{state}, {when} training" for state in "hc" for when in ("before", "after")
    ]
    for panel, factor in zip(figure.panels, (1, 1, 2, 2), strict=True):
        for label, shrinks in SHRINKS.items():
            per_step = shrinks if "before" in panel.title else math.sqrt(shrinks)
            line = {r["lag"]: r["mid"] for r in rows_of(panel) if r["label"] == label}
            wanted = {lag: factor * per_step**lag for lag in LAGS}
            assert line == pytest.approx(wanted, rel=1e-3)
    assert set(figure.key or {}) == set(SHRINKS) and figure.symbols


def test_the_sentence_says_what_arrives_and_why_the_direct_norm_misleads(tmp_path: Path) -> None:
    sentence = made(flow.gradients(recorded(tmp_path))).sentence
    arrives = 0.9 ** (LAGS[0] - LAGS[-1])
    assert f"Before training: tanh {arrives:.2g} (0.9 a step), relu" in sentence
    assert "(0.5 a step). After training" in sentence
    assert "(0.949 a step)" in sentence  # the square root of 0.9
    assert "zero at 3 of 4 stretches of time steps" in sentence


def test_what_arrives_is_one_figure_in_all_sections(tmp_path: Path) -> None:
    """With runs that differ, a quotient of medians is not the median of quotients."""
    write_study(tmp_path, {"tanh": [0.9] * 3, "relu": [0.8] * 3})
    add_snapshots(tmp_path, {"tanh": 0.99, "relu": 0.7})
    for k, path in enumerate(sorted((tmp_path / "trials").iterdir())):
        trial = json.loads(path.read_text())
        norms = trial["inside"]["start"]["grad_c"]
        norms[0], norms[-1] = norms[0] * (k % 3 + 1), norms[-1] * [1, 5, 2][k % 3]
        path.write_text(json.dumps(trial))
    results = load(tmp_path)
    (suggested,) = [a for a in advice(results) if "Open the forget gate" in a.do]
    shown = re.search(r"relu (\S+) \((\S+) a step\)", made(flow.gradients(results)).sentence)
    told = re.search(r"(\S+) with relu \(a factor of (\S+) a step\)", suggested.because)
    assert shown and told and shown.groups() == told.groups()
    # of 1, 2/5 and 3/2 times the quotient that all runs shared, the middle one is 1
    assert shown[1] == f"{0.7 ** (LAGS[0] - LAGS[-1]):.2g}"


def test_the_table_holds_total_and_direct_norms(tmp_path: Path) -> None:
    table = made(flow.gradients(recorded(tmp_path))).table
    assert table.columns == ["norm", *(f"lag {lag:g}" for lag in reversed(LAGS))]
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["tanh, before training, norm of ∂L/∂h, direct"] == ["0.5", "0", "0", "0"]
    assert rows["relu, before training, norm of ∂L/∂c, total"][-1] == f"{2 * 0.5 ** LAGS[0]:.3g}"
    assert len(rows) == 2 * 2 * 2 * 2


def test_with_a_loss_at_every_step_the_direct_norm_is_not_said_to_vanish(tmp_path: Path) -> None:
    write_study(tmp_path, FINALS)
    add_snapshots(tmp_path, SHRINKS)
    for path in (tmp_path / "trials").iterdir():
        trial = json.loads(path.read_text())
        trial["inside"]["start"]["grad_h_direct"] = [0.0, 0.1, 0.1, 0.1]
        path.write_text(json.dumps(trial))
    sentence = made(flow.gradients(load(tmp_path))).sentence
    assert "vanished" not in sentence and "does not say how far back" in sentence


def test_of_many_activations_the_sentence_names_both_ends(tmp_path: Path) -> None:
    names = [f"a{k}" for k in range(7)]
    write_study(tmp_path, {name: [0.5] for name in names})
    add_snapshots(tmp_path, {name: 0.9 - k / 20 for k, name in enumerate(names)})
    sentence = made(flow.gradients(load(tmp_path))).sentence
    before = sentence.split("After training")[0]
    assert "Before training: from a6 " in before and " to a0 " in before and "a3" not in before


def test_a_single_time_step_has_no_figure_along_them(tmp_path: Path) -> None:
    write_study(tmp_path, FINALS)
    add_snapshots(tmp_path, SHRINKS)
    for path in (tmp_path / "trials").iterdir():
        trial = json.loads(path.read_text())
        for seen in trial["inside"].values():
            seen |= {"edges": [0, 1], "slots": {}}
            seen |= {n: v[:1] for n, v in seen.items() if n not in ("edges", "slots")}
        path.write_text(json.dumps(trial))
    results = load(tmp_path)
    assert flow.gradients(results) is None and flow.saturation(results) is None


def test_a_gradient_that_is_exactly_zero_ends_its_line_and_is_said(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": [0.9], "relu": [0.8]})
    add_snapshots(tmp_path, SHRINKS)
    for path in (tmp_path / "trials").iterdir():
        trial = json.loads(path.read_text())
        if trial["activation"] == "relu":
            trial["inside"]["start"]["grad_c"][:2] = [0.0, 0.0]
            path.write_text(json.dumps(trial))
    figure = made(flow.gradients(load(tmp_path)))
    line = [r["lag"] for r in rows_of(figure.panels[2]) if r["label"] == "relu"]
    assert sorted(line) == sorted(LAGS[2:])
    assert "relu exactly none" in figure.sentence


def test_runs_that_diverged_count_before_training_and_not_after(tmp_path: Path) -> None:
    results = recorded(tmp_path, {"tanh": [0.9, None], "relu": [0.8, 0.7]})
    assert len(results.snapshots("tanh", "start")) == 2
    assert len(results.snapshots("tanh", "end")) == 1


def test_an_activation_of_which_every_run_diverged_is_missed_aloud(tmp_path: Path) -> None:
    results = recorded(tmp_path, {"tanh": [0.9, 0.8], "relu": [None, None]})
    for figure in (flow.gradients(results), flow.saturation(results)):
        assert "nothing is left of relu: every run diverged" in made(figure).sentence


def test_numbers_that_overflowed_are_left_out(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": [0.9, 0.8], "relu": [0.8, 0.7]})
    add_snapshots(tmp_path, SHRINKS)
    path = next(p for p in (tmp_path / "trials").iterdir() if p.name == "a0-0.json")
    trial = json.loads(path.read_text())
    trial["inside"]["start"]["grad_h"] = [None] * 4
    path.write_text(json.dumps(trial))
    figure = made(flow.gradients(load(tmp_path)))
    line = {r["lag"]: r for r in rows_of(figure.panels[0]) if r["label"] == "tanh"}
    assert line[LAGS[0]]["mid"] == pytest.approx(0.9 ** LAGS[0], rel=1e-3)


# ---------------------------------------------------------------------------------- saturation


def test_saturation_is_drawn_by_slot_and_time_step(tmp_path: Path) -> None:
    figure = made(flow.saturation(recorded(tmp_path)))
    assert [p.title for p in figure.panels] == ["tanh", "relu"]
    rows = [r for r in rows_of(figure.panels[0]) if r["slot"] == "candidate"]
    assert [(r["from"], r["to"]) for r in rows] == [(1, 11), (11, 21), (21, 41), (41, 65)]
    assert [r["share"] for r in rows] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert [r["low"] for r in rows] == pytest.approx([0.05, 0.1, 0.15, 0.2])
    # the line of a share of one reaches the top of its band, that of zero its bottom
    ends = {r["share"]: (r["line"] - r["top"]) / (r["bottom"] - r["top"]) for r in rows}
    assert ends == pytest.approx({0.2: 0.8, 0.4: 0.6, 0.6: 0.4, 0.8: 0.2})
    assert "in the candidate of tanh: 80% of its values at steps 41 to 64" in figure.sentence
    table = {row[0]: row[1:] for row in figure.table.rows}
    assert table["tanh, candidate, after training"] == ["20.0%", "40.0%", "60.0%", "80.0%"]
    assert figure.table.columns[1:3] == ["steps 1 to 10", "steps 11 to 20"]


def test_without_recordings_there_are_no_such_figures(tmp_path: Path) -> None:
    results = study(tmp_path, {"tanh": [0.9], "relu": [0.8]})
    assert flow.saturation(results) is None and flow.gradients(results) is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"edges": [0]}, "edges"),
        ({"edges": [1, 10, 20, 40, 64]}, "edges"),
        ({"edges": [0, 10, 10, 40, 64]}, "edges"),
        ({"edges": [0, 1.5, 20, 40, 64]}, "edges"),
        ({"grad_h": [1.0]}, "grad_h of a snapshot must hold 4 numbers"),
        ({"grad_c": [1.0, 2.0, 3.0, "many"]}, "a number was expected"),
        ({"slots": {"candidate": {"mean": [True] * 4}}}, "a number was expected"),
        (  # a later slot with the same statistic hid it
            {"slots": {"candidate": {"mean": [1.0]}, "output_gate": {"mean": [1.0] * 4}}},
            "mean of a snapshot must hold 4 numbers",
        ),
    ],
)
def test_a_damaged_snapshot_is_named(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    write_study(tmp_path, {"tanh": [0.9]})
    add_snapshots(tmp_path, {"tanh": 0.9})
    (path,) = (tmp_path / "trials").iterdir()
    trial = json.loads(path.read_text())
    trial["inside"]["start"] |= change
    path.write_text(json.dumps(trial))
    with pytest.raises(StudyError, match=f"a0-0.json is damaged.*{why}"):
        load(tmp_path)


def test_snapshots_are_read_with_their_bins(tmp_path: Path) -> None:
    (seen, _) = recorded(tmp_path).snapshots("tanh", "start")
    assert seen.edges == tuple(EDGES)
    assert seen.states["max_abs_cell"] == (1.0, 2.0, 3.0, 4.0)
    assert seen.slots["candidate"]["saturated_low"][-1] == pytest.approx(0.025)


# ----------------------------------------------------------------------------------- all pairs


def pairs_of(figure: Figure) -> dict[tuple[str, str], dict[str, Any]]:
    """(row, column) -> the cell; the names without their numbers."""
    return {
        (r["row"].split(" ", 1)[1], r["column"].split(" ", 1)[1]): r
        for r in rows_of(figure.panels[0])
    }


def test_all_pairs_are_compared_and_corrected_together(tmp_path: Path) -> None:
    finals = {"tanh": around(0.9, 8), "relu": around(0.8, 8, 0.01), "elu": around(0.7, 8, 0.02)}
    results = study(tmp_path, finals)
    found = {(c.rival, c.first): c for c in all_pairs(results)}
    assert list(found) == [("relu", "tanh"), ("elu", "tanh"), ("elu", "relu")]
    alone = [paired_difference(finals[a], finals[b]) for a, b in found]
    assert [c.corrected_p for c in found.values()] == pytest.approx(
        holm([d.p_value for d in alone])
    )
    assert all(c.evidence is Evidence.HELD for c in found.values())
    figure = made(across.pairwise(results))
    cells = pairs_of(figure)
    assert len(cells) == 6
    for (row, column), cell in cells.items():
        assert cell["gain"] == pytest.approx(-cells[column, row]["gain"])
        assert cell["claim"] and cell["count"] == ("8 of 8" if cell["gain"] > 0 else "0 of 8")
    assert cells["tanh", "elu"]["mean"] == "+20.0"
    assert "Bold is a claim: 3 pairs differ" in figure.sentence


def test_too_few_seeds_for_the_pairs_are_said_with_the_smallest_p(tmp_path: Path) -> None:
    finals = {"tanh": around(0.1, 6), "relu": around(0.2, 6, 0.01), "elu": around(0.3, 6, 0.02)}
    results = study(tmp_path, finals, task=ERROR)
    figure = made(across.pairwise(results))
    assert "with 6 seeds the smallest p for 3 pairs is 0.094" in figure.sentence
    cells = pairs_of(figure)
    assert cells["tanh", "relu"]["gain"] > 0  # a smaller error is better
    assert not any(c["claim"] for c in cells.values())


def test_equal_runs_are_better_for_nobody(tmp_path: Path) -> None:
    finals = {"tanh": [0.5, 0.6, 0.7], "relu": [0.5, 0.6, 0.8], "elu": [0.5, 0.6, 0.7]}
    figure = made(across.pairwise(study(tmp_path, finals)))
    counts = {pair: cell["count"] for pair, cell in pairs_of(figure).items()}
    assert counts["relu", "tanh"] == "1 of 3" and counts["tanh", "relu"] == "0 of 3"
    assert counts["elu", "tanh"] == counts["tanh", "elu"] == "0 of 3"


def test_two_activations_need_no_matrix(tmp_path: Path) -> None:
    assert across.pairwise(study(tmp_path, {"tanh": [0.5], "relu": [0.6]})) is None


# -------------------------------------------------------------------------- cost and stability


def test_cost_against_outcome_names_what_nothing_beats_in_both(tmp_path: Path) -> None:
    finals = {
        "tanh": around(0.9, 6),
        "relu": around(0.8, 6),
        "elu": around(0.85, 6),
        "slow": around(0.7, 6),
    }
    seconds = {"tanh": 2.0, "relu": 1.0, "elu": 3.0, "slow": 2.5}
    results = study(tmp_path, finals, seconds=seconds)
    figure = made(across.cost_and_outcome(results))
    assert "better than tanh, relu;" in figure.sentence
    points = {r["label"]: r for r in rows_of(figure.panels[0])}
    assert points["tanh"]["x"] == 1 and points["relu"]["x"] == pytest.approx(0.5)
    assert points["elu"]["y_low"] < points["elu"]["y"] < points["elu"]["y_high"]


def test_the_stability_map_says_up_to_which_rate_nothing_diverged(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": [0.9], "relu": [0.8], "exp": [0.2]})
    grid = [(rate, bias) for rate in (0.01, 0.1) for bias in (0.0, 4.0)]
    add_stability(
        tmp_path,
        {
            "tanh": dict.fromkeys(grid, 0),
            "exp": dict.fromkeys(grid, 1),
            "relu": dict.fromkeys(grid, 0) | {(0.1, 4.0): 2},
        },
    )
    figure = made(across.stability(load(tmp_path)))
    assert figure.sentence.startswith(
        "No run diverged with tanh. With relu none diverged up to a learning rate of 0.01. With "
        "exp some run diverged at every learning rate. Each cell says how many of 3 short"
    )
    cells = {(r["rate"], r["bias"]): r["text"] for r in rows_of(figure.panels[1])}
    assert cells == {
        ("0.01", "0"): "0/3",
        ("0.01", "4"): "0/3",
        ("0.1", "0"): "0/3",
        ("0.1", "4"): "2/3",
    }
    row = next(
        r for r in figure.table.rows if r[0].startswith("relu, learning rate 0.1, forget bias 4")
    )
    assert row[1:] == ["2 of 3", "7"]


def test_a_map_that_is_not_finished_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    write_study(tmp_path, {"tanh": [0.9]})
    add_stability(tmp_path, {"tanh": {(0.01, 0.0): 1, (0.1, 0.0): 1}})
    for path in (tmp_path / "stability" / "trials").glob("s0-0.1-0-*"):
        path.unlink()
    next((tmp_path / "stability" / "trials").glob("s0-0.01-0-2*")).unlink()
    (cell,) = load(tmp_path).stability
    assert (cell.learning_rate, len(cell.runs), cell.diverged) == (0.01, 2, 1)


@pytest.mark.parametrize("name", ["grid.json", "trials/s0-0.01-0-0.json"])
def test_a_damaged_map_is_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    write_study(tmp_path, {"tanh": [0.9]})
    add_stability(tmp_path, {"tanh": {(0.01, 0.0): 0}})
    (tmp_path / "stability" / name).write_text('{"schema": 1}')
    with pytest.raises(StudyError, match=rf"{name} is damaged: .*--stability.*delete the folder"):
        load(tmp_path)
