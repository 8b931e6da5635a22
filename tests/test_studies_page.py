"""The answer's page and all that is made with it: short enough, complete, and what is committed is
what the committed results give."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from functools import cache

import pytest
from made_results import around, results

from studies import answer, page, pictures
from studies.arms import Arm
from studies.costs import load_costs
from studies.experiments import trials
from studies.grid import PLACES, UNITS
from studies.results import Results, load
from studies.story import Story, number

README = (page.ROOT / "README.md").read_text(encoding="utf-8")
FACTORS = {"sigmoid": 1.8, "relu": 1.5, "leaky_relu": 0.6}


def place(arm: Arm, seed: int) -> int:
    """A number of its own for every arm and seed."""
    return zlib.crc32(arm.name.encode()) % 10_000 + seed


@cache
def made(seeds: int, diverging: bool = True) -> Story:
    """Every planned arm: sigmoid and ReLU slower, leaky ReLU faster, ReLU diverging when hot."""

    def reached(arm: Arm, seed: int) -> int | None:
        factor = 1.0
        for _, unit in arm.slots:
            factor *= FACTORS.get(unit, 1.0)
        epoch = around(8 * factor, place(arm, seed), 0.2)
        return epoch if epoch <= arm.settings.epochs else None

    def diverged(arm: Arm, seed: int) -> bool:
        hot = arm.rate > 1 and any(unit == "relu" for _, unit in arm.slots)
        return diverging and hot and place(arm, seed) % 2 == 0

    arms = list(dict.fromkeys(arm for arm, _ in trials()))
    found = results(arms, reached, diverged=diverged, seeds=seeds)
    machine = {"cpu": "made up", "cores": 2, "torch": "2", "anygate": "0"}
    stretch = {"number": 0, "date": "2026-01-01", "rules": "abcdef0123", "device": "cpu"}
    found.held.stretches.append({**stretch, "machine": machine})
    for arm in arms:
        found.held.arms[arm.name] = {"hidden_size": arm.settings.hidden_size}
    return Story(found, None)


STORIES: dict[str, Callable[[], Story]] = {
    "judged": lambda: made(16),
    "not judged yet": lambda: made(8),
    "committed": lambda: Story(load(), load_costs()),
}
stories = pytest.mark.parametrize("story", STORIES.values(), ids=list(STORIES))


@stories
def test_the_page_is_short(story: Callable[[], Story]) -> None:
    told = story()
    text = page.answer_page(told, {p.file for p in pictures.PICTURES})
    before, _, _ = text.partition("## The evidence")
    assert len(before.split()) <= page.BEFORE_EVIDENCE
    assert len(answer.top(told).split()) <= answer.TOP_WORDS
    for judged in told.claims:
        assert len(answer.card(judged).split()) <= answer.CARD_WORDS, judged.claim.key
    assert len(answer.lines(told)) == 10


@stories
def test_every_part_of_the_question_is_answered_at_once(story: Callable[[], Story]) -> None:
    parts = re.findall(r"\*\*(.+?)\*\*", answer.top(story()))
    wanted = ["Gates.", "Input and output.", "Just a nonlinearity?", "Change both?", "The risk."]
    assert parts == wanted
    for unit in ("sigmoid", "ReLU", "hard tanh", "leaky"):
        assert unit in answer.top(story())


def test_words_of_the_grid_are_those_of_the_results() -> None:
    grid = made(16).grid
    assert grid["activation", "sigmoid"].text == "worse in 5 of 5"
    assert grid["activation", "relu"].text.startswith("worse in")
    assert grid["activation", "relu"].text.endswith("unstable")
    assert grid["activation", "leaky_relu"].text == "better in 5 of 5"
    assert grid["candidate", "tanh"].text == grid["gate_activation", "sigmoid"].text == "usual"
    assert made(8).grid["activation", "relu"].text.startswith("waiting: 8 seeds")


def test_a_dropped_divergence_is_seen_everywhere() -> None:
    """With and without the divergences everything that counts them says something else."""
    bad, good = made(16), made(16, diverging=False)
    assert not good.grid["activation", "relu"].unstable
    assert "tanh 0" in bad.risk()
    assert bad.risk() != good.risk()
    assert good.risk().startswith("ReLU 0,")
    for told in (answer.top, answer.lines, lambda s: list(answer.changes(s))):
        assert told(bad) != told(good)
    assert pictures.digest(pictures.PICTURES[2].chart(bad)) != pictures.digest(
        pictures.PICTURES[2].chart(good)
    )
    assert answer.unit(bad, "relu") != answer.unit(good, "relu")


def test_a_turned_sign_is_seen() -> None:
    """Slower is not faster: sigmoid needs more epochs, leaky ReLU fewer."""
    told = made(16)
    assert told.brief("activation", "sigmoid") == "slower 5 of 5"
    assert told.brief("activation", "leaky_relu") == "faster 5 of 5"
    ratios = [e.ratio for e in told.grid["activation", "sigmoid"].effects]
    assert all(ratio > 1 for ratio in ratios)
    assert number(min(ratios)) in told.compared("activation", "sigmoid")


@stories
def test_every_cell_leads_to_its_data(story: Callable[[], Story]) -> None:
    told = story()
    made_ = dict(page.files(told.results, told.costs, README, pictures.digest))
    links = re.findall(r"\(evidence/grid\.md#([\w-]+)\)", made_["docs/answer.md"])
    assert len(links) == len(PLACES) * len(UNITS)
    for link in links:
        assert f'<a id="{link}"></a>' in made_["docs/evidence/grid.md"]
    pages = re.findall(r"\]\((evidence/[\w-]+\.md)", made_["docs/answer.md"])
    images = re.findall(r"!\[.*?\]\((images/.*?)\)", made_["docs/answer.md"])
    assert {f"docs/{name}" for name in (*pages, *images)} <= set(made_)
    for name, text in made_.items():
        for image in re.findall(r"\]\(\.\./(images/.*?)\)", text):
            assert f"docs/{image}" in made_, name


def test_divergences_stand_in_every_table_of_effects() -> None:
    told = made(16)
    for name, text in page.files(told.results, told.costs, README, pictures.digest):
        for line in text.splitlines():
            if line.startswith("| task | epochs, ratio"):
                assert "| diverged |" in line, name


def test_what_is_committed_is_what_the_results_give() -> None:
    """`python -m studies page` would change nothing. Pictures are compared by what they draw."""
    made_ = dict(page.files(load(), load_costs(), README, pictures.digest))
    for name, text in made_.items():
        committed = (page.ROOT / name).read_text(encoding="utf-8")
        assert (text in committed) if name.endswith(".svg") else (text == committed), name
    assert page.stale(page.ROOT, set(made_)) == []


def test_superseded_runs_and_changes_are_listed() -> None:
    from studies.history import STUDIES

    text = dict(page.files(load(), load_costs(), README, pictures.digest))["docs/evidence/runs.md"]
    for study in STUDIES:
        assert study.title in text
        for change in study.after:
            assert change in text


def test_results_without_a_run_make_no_page() -> None:
    from studies.store import Runs

    with pytest.raises(ValueError, match="no runs"):
        dict(page.files(Results(Runs()), None, README, pictures.digest))
