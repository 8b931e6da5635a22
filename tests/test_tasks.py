"""Every task keeps the same laws: its data are as it says and follow from the seed, its baseline is
what an answer reaches that does not look, and what it calls solved can be reached by looking."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from task_folder import FILES, NAMES, SHORT, fill, task_of
from torch import Tensor

from anygate.lab.tasks import CROSS_ENTROPY, FORMS, IGNORE, SERIES, Data, Task, find_task
from anygate.lab.tasks.grammars import _guessed


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("data"))


# ---- laws -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_data_are_as_the_task_says(name: str, folder: Path) -> None:
    task = task_of(name, folder)
    data = task.load(3)
    classes = task.metric.of_classes
    for x, y in ((data.train_x, data.train_y), (data.test_x, data.test_y)):
        assert x.dtype == torch.float32 and torch.isfinite(x).all()
        assert x.shape[:2] == (len(y), task.steps) and min(x.shape) > 0
        assert y.shape == (x.shape[:2] if data.every_step else x.shape[:1])
        assert y.dtype == (torch.int64 if classes else torch.float32)
        if classes:
            found = set(y[y != IGNORE].tolist())
            assert found <= set(range(task.outputs)) and len(found) > 1
    if name in SHORT:
        assert (task.name, task.steps) == (name, SHORT[name])
    better = task.solved if task.solved is not None else (1.0 if task.higher_is_better else 0.0)
    assert better > task.baseline if task.higher_is_better else better < task.baseline
    assert task.source and task.description.endswith((".", ")"))


@pytest.mark.parametrize("name", NAMES)
def test_the_data_follow_from_the_seed(name: str, folder: Path) -> None:
    task = task_of(name, folder)
    first = task.load(3)
    assert task.load(3).digest == first.digest == task_of(name, folder).load(3).digest
    assert (task.load(4).digest == first.digest) == task.same_data
    assert pickle.loads(pickle.dumps(task)).load(3).digest == first.digest  # as workers get it


@pytest.mark.parametrize("name", FILES)
def test_workers_may_get_arrays_that_cannot_be_written(name: str, folder: Path) -> None:
    """joblib gives large ones as read-only memory maps; torch warns about such."""
    task = task_of(name, folder)
    wanted = task.load(3).digest
    arrays = [a for a in getattr(task.make, "args", ()) if isinstance(a, np.ndarray)]
    assert arrays
    for array in arrays:
        array.setflags(write=False)
    assert task.load(3).digest == wanted


def blind(task: Task, data: Data) -> tuple[Tensor, float]:
    """The best answer for each time step that does not look at the sequence, learnt from the
    training part, for the test part; and five standard errors of its score there."""
    y, test = data.train_y, data.test_y
    if not task.metric.of_classes:
        errors = (test - y.mean()).square()
        return y.mean().expand(len(test), 1), 5 * errors.std().item() / math.sqrt(len(test))
    # What the test counts may be less than what training does: take the frequencies there.
    asked = torch.where((test != IGNORE).any(0), y, IGNORE) if data.every_step else y
    counts = torch.stack([(asked == c).sum(0) for c in range(task.outputs)], -1).double()
    shares = (counts + 0.5) / (counts + 0.5).sum(-1, keepdim=True)
    answer = shares.log().expand(*test.shape, task.outputs)
    if task.metric is CROSS_ENTROPY:
        surprise = -answer.gather(-1, test.unsqueeze(-1)).mean(1)
        # Frequencies learnt from n sequences cost (classes - 1)/2n nats more than the true ones.
        learnt = task.outputs / (2 * len(y))
        return answer, 5 * surprise.std().item() / math.sqrt(len(test)) + learnt
    n = int((test != IGNORE).sum())
    return answer, 5 * math.sqrt(task.baseline * (1 - task.baseline) / n)


REBER = ("reber", "reber:50")
BLIND = [n for n in NAMES if n not in {*SERIES, *REBER, "csv", "chars", "anbn", "anbn:20"}]


@pytest.mark.parametrize("name", BLIND)
def test_the_baseline_is_what_an_answer_reaches_that_does_not_look(name: str, folder: Path) -> None:
    task = task_of(name, folder)
    data = task.load(0)
    answer, five_errors = blind(task, data)
    assert task.score(answer, data.test_y) == pytest.approx(task.baseline, abs=five_errors)
    assert five_errors < abs(task.baseline - (task.solved or task.higher_is_better)) / 2


def outer(data: Data) -> Tensor:
    """The place of the symbol that a Reber string must repeat, which is all that is counted."""
    return data.test_y[data.test_y != IGNORE]


@pytest.mark.parametrize("name", REBER)
def test_the_counted_symbol_of_reber_streams_is_a_fair_coin(name: str) -> None:
    data = find_task(name).load(0)
    asked = outer(data)
    t, p = (("BTSXPVE".index(s)) for s in "TP")
    assert set(asked.tolist()) == {t, p}
    share = (asked == t).double().mean().item()
    assert share == pytest.approx(0.5, abs=5 * math.sqrt(0.25 / len(asked)))
    # Nor does the time step tell it: at none is the share far from one half.
    for column in data.test_y.T:
        there = column[column != IGNORE]
        if len(there) >= 20:
            assert abs((there == t).double().mean() - 0.5) < 5 * math.sqrt(0.25 / len(there))


@pytest.mark.parametrize("longest", [20, 21, 22, 30, 44, 60])
def test_the_baseline_of_anbn_is_the_largest_set_of_strings_that_agree(longest: int) -> None:
    """Strings that one answer for each step can get right: no step asks two things of them."""
    data = find_task(f"anbn:{longest}").load(0)
    strings = sorted(data.test_y.tolist(), key=lambda y: sum(v != IGNORE for v in y))
    agree = [
        [all(IGNORE in (p, q) or p == q for p, q in zip(a, b, strict=True)) for b in strings]
        for a in strings
    ]

    def largest(chosen: list[int], start: int) -> int:
        return max(
            [len(chosen)]
            + [
                largest([*chosen, k], k + 1)
                for k in range(start, len(strings))
                if all(agree[k][c] for c in chosen)
            ]
        )

    task = find_task(f"anbn:{longest}")
    assert task.baseline == pytest.approx(largest([], 0) / len(strings))
    assert len(strings) == longest - 10 and _guessed(longest) == task.baseline


@pytest.mark.parametrize("name", [*SERIES, "csv"])
def test_persistence_is_the_answer_zero_and_scores_one(name: str, folder: Path) -> None:
    task = task_of(name, folder)
    data = task.load(0)
    zero = torch.zeros(len(data.test_y), 1)
    assert task.score(zero, data.test_y) == task.baseline == 1.0
    assert task.baseline_name == "persistence"


def test_the_levels_of_a_text_are_those_of_its_characters_and_pairs(folder: Path) -> None:
    """In plain Python from the text itself."""
    task = task_of("chars", folder)
    text = (folder / "book.txt").read_text()
    size = len(set(text))
    known, tested = text[: -(len(text) // 5)], text[-(len(text) // 5) :]
    single, pairs, firsts = Counter(known), Counter(pairwise(known)), Counter(known[:-1])
    share = {c: (single[c] + 1) / (len(known) + size) for c in set(text)}
    guess = -sum(math.log2(share[c]) for c in tested) / len(tested)
    # The first character of the part has no character before it and is left out of both.
    first = -math.log2(share[tested[0]])
    assert task.baseline == pytest.approx((guess * len(tested) - first) / (len(tested) - 1))
    told = [math.log2((pairs[a, b] + share[b]) / (firsts[a] + 1)) for a, b in pairwise(tested)]
    assert task.solved == pytest.approx(-sum(told) / len(told))
    # The task's own score of the same shares; the pieces leave out fewer than 50 characters.
    ranked = sorted(set(text), key=lambda c: (-Counter(text)[c], c))
    data = task.load(0)
    answer = torch.tensor([share[c] for c in ranked]).log().expand(*data.test_y.shape, size)
    worst = 50 * -math.log2(min(share.values())) / len(tested)
    assert task.score(answer, data.test_y) == pytest.approx(task.baseline, abs=worst)


# ---- oracles: programs that look at the test input, and at nothing else ------------------------


def classes_to_answer(classes: Tensor, count: int) -> Tensor:
    return torch.nn.functional.one_hot(classes, count).float() * 100


def see_adding(x: Tensor) -> Tensor:
    return (x[..., 0] * x[..., 1]).sum(1, keepdim=True)


def see_copy(x: Tensor) -> Tensor:
    symbols = x.argmax(-1)
    answer = torch.full_like(symbols, 8)
    answer[:, -10:] = symbols[:, :10]
    return classes_to_answer(answer, 9)


def see_order(x: Tensor) -> Tensor:
    xs, ys = x[..., 6].bool(), x[..., 7].bool()
    relevant = int((xs | ys).sum(1)[0])
    found = torch.stack([y[m] for y, m in zip(ys, xs | ys, strict=True)]).long()
    weights = 2 ** torch.arange(relevant - 1, -1, -1)
    return classes_to_answer((found @ weights)[:, None].expand(-1, x.size(1)), 2**relevant)


def see_noise(x: Tensor) -> Tensor:
    return torch.where(x[:, :3].mean(1) > 0, 0.2, 0.8)


def see_parity(x: Tensor) -> Tensor:
    return classes_to_answer((x[..., 0] > 0).cumsum(1) % 2, 2)


def see_reber(x: Tensor) -> Tensor:
    """Parse each stream: after the outer B the symbol to remember, then a Reber string, whose E
    ends it; then say that symbol again."""
    answers = torch.zeros(x.shape[:2], dtype=torch.long)
    for symbols, answer in zip(x.argmax(-1).tolist(), answers, strict=True):
        place, remembered = 0, 0
        for t, symbol in enumerate(symbols):
            if place == 1:
                remembered = symbol
            if place >= 2 and symbol == 6:  # E of the inner string; the next symbol is the outer
                answer[t], place = remembered, -3
            place += 1
    return classes_to_answer(answers, 7)


def see_anbn(x: Tensor) -> Tensor:
    a, b = x[..., 0].sum(1, keepdim=True), x[..., 1].cumsum(1)
    return classes_to_answer(torch.where(b < a, 1, 2), 3)


SEE: dict[str, Callable[[Tensor], Tensor]] = {
    "adding": see_adding,
    "copy": see_copy,
    "order-6a": see_order,
    "order-6b": see_order,
    "noise-3c": see_noise,
    "parity": see_parity,
    "reber": see_reber,
    "anbn": see_anbn,
}


def test_every_synthetic_task_has_an_oracle() -> None:
    assert set(SEE) == set(FORMS)


@pytest.mark.parametrize("name", [*FORMS, *SHORT])
def test_looking_at_the_input_reaches_the_solved_level(name: str) -> None:
    task = find_task(name)
    data = task.load(1)
    score = task.score(SEE[name.split(":")[0]](data.test_x), data.test_y)
    assert task.solved is not None
    assert score >= task.solved if task.higher_is_better else score <= task.solved


@pytest.mark.parametrize("name", ["digits", "digits-rows", "digits-permuted"])
def test_the_nearest_training_image_reaches_the_solved_level_of_digits(name: str) -> None:
    task = find_task(name)
    data = task.load(0)
    near = torch.cdist(data.test_x.flatten(1), data.train_x.flatten(1)).argmin(1)
    answer = classes_to_answer(data.train_y[near], 10)
    assert task.solved is not None and task.score(answer, data.test_y) >= task.solved


def test_remembering_characters_beats_pairs(folder: Path) -> None:
    """Twelve characters back tell more than one: so memory can be seen in the score."""
    task = task_of("chars", folder)
    data = task.load(0)
    context: dict[tuple[int, ...], Counter[int]] = {}

    def contexts(x: Tensor) -> list[list[tuple[int, ...]]]:
        rows = x.argmax(-1).tolist()
        return [[tuple(r[max(0, t - 11) : t + 1]) for t in range(len(r))] for r in rows]

    for row, targets in zip(contexts(data.train_x), data.train_y.tolist(), strict=True):
        for seen, target in zip(row, targets, strict=True):
            context.setdefault(seen, Counter())[target] += 1
    answer = torch.full((*data.test_y.shape, task.outputs), 0.01)
    for n, row in enumerate(contexts(data.test_x)):
        for t, seen in enumerate(row):
            for target, count in context.get(seen, {}).items():
                answer[n, t, target] += count
    assert task.solved is not None
    assert task.score(answer.log(), data.test_y) < task.solved < task.baseline


@pytest.mark.parametrize("name", [*SERIES, "csv"])
def test_past_values_tell_more_than_the_last_one(name: str, folder: Path) -> None:
    """Linear regression on the window, learnt from the training part, beats persistence."""
    task = task_of(name, folder)
    data = task.load(0)
    past, more = (x.flatten(1).double() for x in (data.train_x, data.test_x))
    past, more = (torch.cat([p, torch.ones(len(p), 1)], 1) for p in (past, more))
    # A little ridge: values and changes of one window depend on each other.
    gram = past.T @ past + 1e-3 * len(past) * torch.eye(past.size(1), dtype=torch.float64)
    weights = torch.linalg.solve(gram, past.T @ data.train_y.double())
    assert task.score((more @ weights)[:, None], data.test_y) < 0.9
