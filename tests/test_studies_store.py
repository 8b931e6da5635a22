"""The file of the runs: killed writers, two writers, cut-off lines, and the committed file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studies import rules, runner
from studies.__main__ import main, status
from studies.arms import Arm, arm
from studies.experiments import SCHEDULE, STAGES, trials
from studies.results import CONFIRMING, QUICK_SEEDS, SEEDS, load
from studies.rules import RulesChanged
from studies.store import Run, Store, StoreError

ROOT = Path(__file__).parents[1]


def line(name: str = "adding", seed: int = 1, **given: Any) -> list[Any]:
    """A run as the file holds it."""
    return replace(RUN, arm=name, seed=seed, **given).line()


RUN = Run("", 0, 3, None, 0.1, (0.3, None, 0.1), 0.5, 0)


# ---- the store ----------------------------------------------------------------------------------


def test_what_is_appended_is_loaded(tmp_path: Path) -> None:
    store = Store(tmp_path / "deep" / "runs.jsonl")
    assert store.load().count == 0
    assert store.begin({"rules": "abc"}) == 0
    store.append([{"arm": "adding", "settings": {"epochs": 3}}, line()])
    assert store.begin({"rules": "abc"}) == 1
    store.append([line(seed=2, diverged=4, reached=None)])
    held = store.load()
    assert held.count == 2
    assert held.arms == {"adding": {"epochs": 3}}
    assert [s["number"] for s in held.stretches] == [0, 1]
    assert held.runs["adding"][2].diverged == 4
    assert held.runs["adding"][1].line() == line()


def test_a_line_that_was_cut_off_is_lost_alone(tmp_path: Path) -> None:
    """And the next writer ends it, so that its own line is whole."""
    store = Store(tmp_path / "runs.jsonl")
    store.append([line()])
    with store.path.open("ab") as file:
        file.write(b'["adding",3,nul')
    assert (store.load().count, store.load().damaged) == (1, 1)
    store.append([line(seed=2)])
    held = store.load()
    assert (held.count, held.damaged) == (2, 1)


def test_of_a_run_that_was_made_twice_the_first_counts(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs.jsonl")
    store.append([line(), line(final=9.0)])
    held = store.load()
    assert held.count == 1
    assert held.runs["adding"][1].final == 0.1


@pytest.mark.parametrize("content", ['["adding",3]', "7", '{"other": 1}', '{"arm": "x"}'])
def test_a_whole_line_that_is_something_else_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "runs.jsonl"
    path.write_text(json.dumps(line()) + "\n" + content + "\n")
    with pytest.raises(StoreError, match="line 2"):
        Store(path).load()


WRITER = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from studies.store import Store
store = Store(Path({path!r}))
for seed in range(int(sys.argv[1]), int(sys.argv[2])):
    store.append([["adding", seed, None, None, 0.5, [0.5] * 6, 1.0, 0]])
"""


def _writer(path: Path, first: int, last: int) -> subprocess.Popen[bytes]:
    text = WRITER.format(paths=[str(ROOT / "src"), str(ROOT)], path=str(path))
    return subprocess.Popen([sys.executable, "-c", text, str(first), str(last)])


def test_two_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    both = [_writer(path, 0, 300), _writer(path, 300, 600)]
    assert [each.wait(timeout=120) for each in both] == [0, 0]
    held = Store(path).load()
    assert (held.count, held.damaged) == (600, 0)


def test_a_writer_that_is_killed_leaves_a_file_to_go_on_with(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    each = _writer(path, 0, 10**6)
    end = time.monotonic() + 60
    while Store(path).load().count < 20 and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(each.pid, signal.SIGKILL)
    each.wait(timeout=60)
    before = Store(path).load()
    assert before.count >= 20
    assert before.damaged <= 1
    Store(path).append([line(seed=10**6)])
    assert Store(path).load().count == before.count + 1


# ---- running ------------------------------------------------------------------------------------


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Runs that take no time, and the list of those that were made."""
    made: list[tuple[str, int]] = []

    def run_one(each: Arm, seed: int, device: str = "cpu") -> tuple[Arm, Run]:
        made.append((each.name, seed))
        return each, replace(RUN, arm=each.name, seed=seed)

    monkeypatch.setattr(runner, "run_one", run_one)
    return made


def _run(store: Store, plan: list[tuple[Arm, int]], **given: Any) -> int:
    options = {"minutes": 1.0, "jobs": 1, "confirming": False} | given
    return runner.run(store, plan, **options)


def test_the_next_stretch_makes_what_is_missing(
    tmp_path: Path, fast: list[tuple[str, int]]
) -> None:
    store = Store(tmp_path / "runs.jsonl")
    plan = list(trials())[:10]
    assert _run(store, plan[:4]) == 4
    assert _run(store, plan) == 6
    assert fast == [(a.name, s) for a, s in plan]
    assert _run(store, plan) == 0
    held = store.load()
    assert held.count == 10
    assert len(held.stretches) == 3
    assert {r.stretch for runs in held.runs.values() for r in runs.values()} == {0, 1}


def test_the_time_ends_a_stretch(tmp_path: Path, fast: list[tuple[str, int]]) -> None:
    assert _run(Store(tmp_path / "runs.jsonl"), list(trials())[:10], minutes=0.0) == 0


def test_one_real_run_is_repeated_by_its_seed(tmp_path: Path) -> None:
    """A short one: the seed gives the run."""
    short = arm("rows", "candidate=relu", epochs=2)
    first, second = (runner.run_one(short, 9100)[1] for _ in range(2))
    assert replace(first, seconds=0) == replace(second, seconds=0)
    assert len(first.curve) == 2
    store = Store(tmp_path / "runs.jsonl")
    assert _run(store, [(short, 9100)]) == 1
    assert store.load().arms[short.name]["slots"] == {"candidate": "relu"}
    assert store.load().arms[short.name]["level"] == 0.85


def test_a_curve_is_thinned_with_its_end() -> None:
    assert runner._thinned([1.0, 2.0]) == [1.0, 2.0]
    assert runner._thinned([float(k) for k in range(1, 25)]) == [4, 8, 12, 16, 20, 24]


# ---- rules --------------------------------------------------------------------------------------


def test_a_confirming_stretch_is_refused_under_other_rules(
    tmp_path: Path, fast: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "commit", lambda: "c0ffee")
    store = Store(tmp_path / "runs.jsonl")
    plan = list(trials())[:2]
    assert _run(store, plan[:1], confirming=True) == 1
    assert store.load().stretches[0]["rules"] == "c0ffee"
    monkeypatch.setattr(rules, "digest", lambda: "another")
    with pytest.raises(RulesChanged, match="c0ffee"):
        _run(store, plan, confirming=True)
    assert store.load().count == 1


def test_rules_before_an_amendment_count_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = (rules.Amendment("a", "b", "", ""), rules.Amendment("b", "c", "", ""))
    monkeypatch.setattr(rules, "AMENDMENTS", chain)
    monkeypatch.setattr(rules, "digest", lambda: "c")
    assert rules.accepted() == {"a", "b", "c"}
    rules.refuse_other_rules([{"digest": "a", "rules": "x"}])
    monkeypatch.setattr(rules, "digest", lambda: "b")
    with pytest.raises(RulesChanged, match="of commit x"):
        rules.refuse_other_rules([{"digest": "c", "rules": "x"}])


def test_rules_that_are_not_committed_are_refused(tmp_path: Path) -> None:
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    for name in rules.FILES:
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(rules, "HERE", tmp_path)
    try:
        before = rules.digest()
        with pytest.raises(RulesChanged, match="commit the rules"):
            rules.commit()
        me = ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "rules"]
        for words in (["add", "."], me):
            subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
        assert len(rules.commit()) == 40
        assert rules.digest() == before
        (tmp_path / "judge.py").write_text("x = 2\n")
        assert rules.digest() != before
        with pytest.raises(RulesChanged, match=r"judge\.py"):
            rules.commit()
        monkeypatch.setattr(rules, "HERE", tmp_path / "nowhere")
        with pytest.raises(RulesChanged, match="git checkout"):
            rules.commit()
    finally:
        monkeypatch.undo()


# ---- the plan -----------------------------------------------------------------------------------


def test_the_plan_goes_breadth_first_and_has_every_run_once() -> None:
    planned = list(trials())
    assert len({(a.name, s) for a, s in planned}) == len(planned)
    assert len(planned) == len({a for stage in STAGES for a in stage.arms}) * len(SEEDS)
    core = next(stage.arms for stage in STAGES if stage.name == "core")
    first = planned[: len(core)]
    assert {s for _, s in first} == {SEEDS[0]}
    assert tuple(a for a, _ in first) == core
    assert {name for name, _ in SCHEDULE} == {stage.name for stage in STAGES}


def test_no_seed_was_seen_before() -> None:
    seen = {*range(8), *range(100, 108), *range(200, 240), 5000, *range(6000, 6003)}
    seen |= set(range(9000, 9018))
    assert not seen & {*SEEDS, *QUICK_SEEDS}
    assert not set(SEEDS) & set(QUICK_SEEDS)


# ---- what is committed --------------------------------------------------------------------------


def test_the_committed_file_is_sound_and_small() -> None:
    found = load()
    assert found.held.damaged == 0
    assert found.held.count > 0
    assert CONFIRMING.stat().st_size < 2_000_000
    names = {a.name for a, _ in trials()}
    assert set(found.arms) <= names
    assert set(found.held.arms) == set(found.arms)
    assert all(set(runs) <= set(SEEDS) for runs in found.held.runs.values())


def test_every_committed_stretch_was_made_by_one_set_of_committed_rules() -> None:
    """The digest is that of the rules as they lie here, or as they were before an amendment."""
    stretches = load().stretches
    assert {stretch["digest"] for stretch in stretches} <= rules.accepted()
    assert all(len(stretch["rules"]) == 40 for stretch in stretches)


def test_the_committed_arms_have_the_settings_of_today() -> None:
    found = load()
    for each in {a for a, _ in trials() if a.name in found.arms}:
        assert found.held.arms[each.name] == runner.described(each)


def test_the_counts_of_the_status_are_those_of_the_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = load()
    said = status(found)
    assert said["runs"] == sum(len(runs) for runs in found.held.runs.values())
    bad = sum(r.diverged is not None for runs in found.held.runs.values() for r in runs.values())
    arms = {a for stage in STAGES for a in stage.arms}
    assert found.diverged(arms) == (bad, said["runs"])
    assert main(["status"]) == 0
    assert f"{said['runs']} of {said['planned']} runs" in capsys.readouterr().out


def test_earlier_runs_are_listed_with_what_diverged() -> None:
    from studies.history import STUDIES, listed, runs_of

    assert {row["study"] for row in listed()} == {each.key for each in STUDIES}
    counts = {each.key: (runs_of(each.key).count, runs_of(each.key).n) for each in STUDIES}
    assert counts == {
        "first": (36, 746),
        "second": (29, 762),
        "further": (28, 129),
        "given up": (0, 228),
    }


def test_a_wrong_stage_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--quick", "--stage", "nothing"]) == 2
    assert "no stage 'nothing'; there are: core, map" in capsys.readouterr().err
