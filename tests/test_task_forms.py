"""Each task in the form its source gives it, and the metrics by which all are judged."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from task_folder import fill, task_of
from torch import Tensor

from anygate.lab.tasks import (
    ACCURACY,
    BITS,
    CROSS_ENTROPY,
    IGNORE,
    MSE,
    RELATIVE_ERROR,
    SEQUENCE_ACCURACY,
    find_task,
)
from anygate.lab.tasks.grammars import reber_string
from anygate.lab.tasks.images import scattered
from anygate.lab.tasks.series import forecast


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("data"))


# ---- single facts ---------------------------------------------------------------------------


def test_copy_is_the_published_form() -> None:
    data = find_task("copy:30").load(0)
    symbols = data.test_x.argmax(-1)
    assert symbols.shape == (500, 50)
    assert (symbols[:, :10] < 8).all() and (symbols[:, 40:] == 8).all()
    assert (symbols[:, 39] == 9).all() and (symbols[:, 10:39] == 8).all()
    assert torch.equal(data.test_y[:, 40:], symbols[:, :10])
    # The figure of the literature for 500 steps, 10 ln 8 / 520.
    assert find_task("copy:500").baseline == pytest.approx(0.040, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "windows"),
    [("order-6a", [(10, 20), (50, 60)]), ("order-6b", [(10, 20), (33, 43), (66, 76)])],
)
def test_temporal_order_is_the_published_form(name: str, windows: list[tuple[int, int]]) -> None:
    data = find_task(name).load(0)
    x = data.train_x
    relevant = (x[..., 6] + x[..., 7]).nonzero()[:, 1].view(len(x), -1)
    for places, (low, high) in zip(relevant.T, windows, strict=True):
        assert (places.min(), places.max()) == (low, high)
    ends = x[..., 1].argmax(1)
    assert (ends.min() + 1, ends.max() + 1) == (100, 110)
    assert (x[:, 0, 0] == 1).all() and x[..., 0].sum() == len(x)
    asked = data.train_y != IGNORE
    assert (asked.sum(1) == 1).all() and torch.equal(asked.long().argmax(1), ends)
    after = torch.arange(x.size(1)) > ends[:, None]
    assert (x[after] == 0).all() and (x[~after].sum(-1) == 1).all()


def test_noise_3c_has_noisy_targets_in_training_only() -> None:
    data = find_task("noise-3c").load(0)
    assert sorted(set(data.test_y.tolist())) == pytest.approx([0.2, 0.8])
    signal = data.train_x[:, :3, 0].mean(1)  # 1 or -1, four standard errors from 0
    noise = data.train_y - torch.where(signal > 0, 0.2, 0.8)
    # The spread of 4,000 draws is known to 1/sqrt(8000) of itself: 5 errors are 6%.
    assert noise.std().item() == pytest.approx(0.32, rel=0.06)
    assert data.train_x[:, 3:].std().item() == pytest.approx(math.sqrt(0.2), rel=0.02)


@given(st.integers(0, 2**32 - 1))
def test_reber_strings_keep_their_grammar(seed: int) -> None:
    string = reber_string(np.random.default_rng(seed))
    # The grammar as a regular expression, solved by hand from its graph.
    upper, lower = "TS*X(?:XT*VP)*(?:S|XT*VV)", "PT*V(?:PXT*V)*(?:V|PS)"
    assert re.fullmatch(rf"B([TP])B(?:{upper}|{lower})E\1E", string)


def test_both_ways_out_of_a_node_of_the_grammar_are_as_likely() -> None:
    rng = np.random.default_rng(0)
    strings = [reber_string(rng) for _ in range(2000)]
    # After the outer and the inner start there are two ways each, and then T's or P's node.
    for place, two in [(1, "TP"), (3, "TP")]:
        share = sum(s[place] == two[0] for s in strings) / len(strings)
        assert abs(share - 0.5) < 5 * math.sqrt(0.25 / len(strings))
    for start, loop in [("T", "S"), ("P", "T")]:
        followers = [s[4] for s in strings if s[3] == start]
        share = followers.count(loop) / len(followers)
        assert abs(share - 0.5) < 5 * math.sqrt(0.25 / len(followers))


@pytest.mark.parametrize("steps", [50, 51, 60])
def test_every_symbol_to_remember_is_counted_and_nothing_else(steps: int) -> None:
    data = find_task(f"reber:{steps}").load(0)
    for symbols, asked in zip(data.test_x.argmax(-1), data.test_y.tolist(), strict=True):
        text = "".join("BTSXPVE"[k] for k in symbols.tolist())
        # Up to the E of each inner string; what comes then is to be remembered.
        ends = [m.end() for m in re.finditer("B[TP]B[^E]*E", text)]
        assert [t for t, target in enumerate(asked) if target != IGNORE] == [e - 1 for e in ends]


def test_pieces_of_a_text_spell_it(folder: Path) -> None:
    data = task_of("chars", folder).load(0)
    text = (folder / "book.txt").read_text()
    ranked = sorted(set(text), key=lambda c: (-text.count(c), c))
    x, y = (
        "".join(ranked[k] for k in codes.flatten().tolist())
        for codes in (data.test_x.argmax(-1), data.test_y)
    )
    assert x in text[-(len(text) // 5) :] and y[:-1] == x[1:] and len(x) % 50 == 0
    assert "".join(ranked[k] for k in data.train_y.flatten().tolist()) in text


def test_reber_streams_are_whole_strings_one_after_another() -> None:
    data = find_task("reber").load(0)
    text = "".join("BTSXPVE"[k] for k in data.test_x[0].argmax(-1).tolist())
    assert text.startswith("B") and text.count("EB") > 3
    assert torch.equal(data.train_x[:, 1:].argmax(-1), data.train_y[:, :-1])


def test_parity_is_asked_at_every_step_in_training_and_at_the_last_in_the_test() -> None:
    data = find_task("parity:9").load(0)
    assert (data.train_y != IGNORE).all()
    assert (data.test_y[:, :-1] == IGNORE).all() and (data.test_y[:, -1] != IGNORE).all()


def test_anbn_trains_on_short_strings_and_tests_every_longer_one() -> None:
    data = find_task("anbn").load(0)
    assert sorted(data.train_x[..., 0].sum(1).unique().tolist()) == list(range(1, 11))
    assert sorted(data.test_x[..., 0].sum(1).tolist()) == list(range(11, 31))


def test_permuted_digits_have_the_same_pixels_in_one_other_order() -> None:
    plain, permuted = find_task("digits").load(5), find_task("digits-permuted").load(5)
    order = scattered(64)
    assert sorted(order.tolist()) == list(range(64)) and order.tolist() != list(range(64))
    assert torch.equal(plain.test_x[:, order], permuted.test_x)
    assert order[:4].tolist() == [55, 51, 39, 49]  # for ever: results must stay comparable


def test_mnist_is_read_as_it_was_written(folder: Path) -> None:
    pixels, rows = task_of("mnist", folder).load(0), task_of("mnist-rows", folder).load(0)
    assert pixels.train_x.shape == (60, 16, 1) and rows.test_x.shape == (300, 4, 4)
    assert torch.equal(rows.train_x.mean(-1).argmax(1), rows.train_y)
    assert torch.equal(pixels.train_x.flatten(1), rows.train_x.flatten(1))
    assert pixels.train_x.min() >= 0 and pixels.train_x.max() <= 1


def test_forecasts_learn_nothing_from_what_they_are_tested_on() -> None:
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=120))
    other = values.copy()
    other[24 + 77 + 1 :] *= 3  # after the last value that training asks for
    one, two = (forecast("v", "v", v).load(0) for v in (values, other))
    assert torch.equal(one.train_x, two.train_x) and torch.equal(one.train_y, two.train_y)
    assert not torch.equal(one.test_y, two.test_y)
    assert (len(one.train_y), len(one.test_y)) == (77, 19)


def test_a_forecast_window_is_the_values_before_its_target() -> None:
    values = np.arange(60.0) ** 2
    data = forecast("v", "v", values, window=5).load(0)
    known = values[: len(data.train_y) + 5]
    step = math.sqrt(np.square(np.diff(known)).mean())
    for x, y, n in [(data.train_x[3], data.train_y[3], 3), (data.test_x[0], data.test_y[0], 44)]:
        window = (values[n : n + 5] - known.mean()) / known.std()
        np.testing.assert_allclose(x[:, 0], window, rtol=1e-6, atol=1e-7)
        assert y.item() == pytest.approx((values[n + 5] - values[n + 4]) / step, rel=1e-6)
        assert x[-1, 1].item() == pytest.approx((values[n + 4] - values[n + 3]) / step, rel=1e-6)


# ---- metrics --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    output: Tensor
    target: Tensor


@st.composite
def outputs_and_targets(draw: st.DrawFn, classes: bool) -> Drawn:
    n, t, k = draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(2, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    kept = torch.rand(n, t, generator=generator) < 0.5
    kept[:, draw(st.integers(0, t - 1))] = True
    output = torch.randn(n, t, k if classes else 1, generator=generator)
    if classes:
        target = torch.randint(k, (n, t), generator=generator)
        return Drawn(output, torch.where(kept, target, IGNORE))
    return Drawn(output, torch.where(kept, torch.randn(n, t, generator=generator), math.nan))


@given(outputs_and_targets(classes=True))
def test_metrics_of_classes_count_the_steps_that_count(drawn: Drawn) -> None:
    surprises, right, sequences = [], [], []
    for row, targets in zip(drawn.output.double(), drawn.target.tolist(), strict=True):
        hits = []
        for scores, target in zip(row, targets, strict=True):
            if target != IGNORE:
                surprises.append((scores.logsumexp(0) - scores[target]).item())
                hits.append(int(scores.argmax()) == target)
        right += hits
        sequences.append(all(hits))
    mean = sum(surprises) / len(surprises)
    assert ACCURACY.score(drawn.output, drawn.target) == pytest.approx(sum(right) / len(right))
    share = sum(sequences) / len(sequences)
    assert SEQUENCE_ACCURACY.score(drawn.output, drawn.target) == pytest.approx(share)
    assert CROSS_ENTROPY.score(drawn.output, drawn.target) == pytest.approx(mean)
    assert BITS.score(drawn.output, drawn.target) == pytest.approx(mean / math.log(2))
    # float32: a few roundings of numbers of this size
    assert ACCURACY.loss(drawn.output, drawn.target).item() == pytest.approx(mean, rel=1e-5)


@given(outputs_and_targets(classes=False))
def test_metrics_of_values_count_the_steps_that_count(drawn: Drawn) -> None:
    pairs = [
        (o, t)
        for o, t in zip(
            drawn.output.flatten().tolist(), drawn.target.flatten().tolist(), strict=True
        )
        if not math.isnan(t)
    ]
    mse = sum((o - t) ** 2 for o, t in pairs) / len(pairs)
    power = sum(t**2 for _, t in pairs) / len(pairs)
    assert MSE.score(drawn.output, drawn.target) == pytest.approx(mse, rel=1e-5)
    assert MSE.loss(drawn.output, drawn.target).item() == pytest.approx(mse, rel=1e-5)
    relative = math.sqrt(mse / power)
    assert RELATIVE_ERROR.score(drawn.output, drawn.target) == pytest.approx(relative, rel=1e-5)


def test_steps_that_do_not_count_send_no_gradient() -> None:
    output = torch.randn(2, 3, 4, requires_grad=True)
    target = torch.tensor([[1, IGNORE, 2], [IGNORE, IGNORE, 0]])
    ACCURACY.loss(output, target).backward()
    assert output.grad is not None
    assert torch.equal(output.grad.abs().sum(-1) > 0, target != IGNORE)
