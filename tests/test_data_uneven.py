"""Sequences of uneven lengths, with gaps, and with values instead of classes."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_bytes import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from task_folder import spec

from anygate.lab.study.measure import dead_units
from anygate.lab.study.outlook import trial_seconds
from anygate.lab.study.trial import Model, rows_of, run_trial
from anygate.lab.tasks import (
    ACCURACY,
    CROSS_ENTROPY,
    IGNORE,
    MSE,
    RELATIVE_ERROR,
    Data,
    Task,
    TaskError,
    file_task,
    packed,
    sequence_task,
)

LENGTHS = [3, 7, 1, 5, 7, 2, 4, 6, 3, 3, 5, 2, 7, 4, 6, 1, 2, 3, 4, 5] * 2


def sequences(features: int = 2) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.normal(k % 2, 1, (length, features)) for k, length in enumerate(LENGTHS)]


CLASSES = np.arange(40) % 2


# ---- packed on the way ----------------------------------------------------------------------


def test_a_list_of_arrays_is_padded_and_its_lengths_are_kept() -> None:
    xs = sequences()
    task = sequence_task("mine", xs, CLASSES)
    data = task.load(3)
    assert task.steps == 7 and "40 sequences of 1 to 7 steps with 2 features" in task.description
    assert data.train_lengths is not None and data.test_lengths is not None
    order = np.random.default_rng(3).permutation(40)
    assert data.train_lengths.tolist() == [LENGTHS[k] for k in order[:32]]
    known = np.concatenate([xs[k] for k in order[:32]])
    for row, k in enumerate(order[32:]):
        scaled = (xs[k] - known.mean(0)) / known.std(0)
        length = LENGTHS[k]
        np.testing.assert_allclose(data.test_x[row, :length], scaled, rtol=1e-4, atol=1e-5)
        assert not data.test_x[row, length:].any()


def tiny(every_step: bool) -> tuple[Model, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    task = replace(sequence_task("mine", sequences(), CLASSES), steps=7)
    model = Model(spec(task), 2, every_step)
    lengths = torch.tensor([3, 7, 1, 5])
    x = torch.randn(7, 4, 2)
    return model, x, lengths


def test_the_answer_is_that_after_the_own_last_step_of_each_sequence() -> None:
    model, x, lengths = tiny(every_step=False)
    alone = [model(x[:n, k : k + 1])[0] for k, n in enumerate(lengths.tolist())]
    torch.testing.assert_close(model(packed(x, lengths)), torch.stack(alone))
    torch.testing.assert_close(model.answers(x, lengths), torch.stack(alone))


def test_an_answer_at_every_step_is_that_of_the_sequence_alone() -> None:
    model, x, lengths = tiny(every_step=True)
    answers = model(packed(x, lengths))
    assert answers.shape == (4, 7, 2)
    for k, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(answers[k, :n], model(x[:n, k : k + 1])[0])


def test_what_stands_after_the_end_of_a_sequence_changes_nothing() -> None:
    data = sequence_task("mine", sequences(), CLASSES).load(0)
    assert data.train_lengths is not None and data.test_lengths is not None
    after = torch.arange(7) >= data.train_lengths[:, None]
    other = replace(data, train_x=data.train_x.masked_fill(after[..., None], 1e6))
    results = []
    for each in (data, other):
        task = replace(sequence_task("mine", sequences(), CLASSES), make=lambda _, d=each: d)
        results.append(run_trial(spec(task, epochs=3, batch_size=8))[0])
    assert results[0] == results[1]


def test_dead_units_of_packed_sequences_are_those_of_all_their_steps() -> None:
    task = sequence_task("mine", sequences(), CLASSES)
    model = Model(spec(task, activation="relu", hidden_size=8), 2, every_step=False)
    _, x, lengths = tiny(every_step=False)
    alone = [x[:n, k : k + 1] for k, n in enumerate(lengths.tolist())]
    found = dead_units(model.lstm, rows_of(x, lengths, slice(None)))
    joined = dead_units(model.lstm, torch.cat(alone).reshape(1, -1, 2))
    assert set(found) == set(joined) and all(0 <= share <= 1 for share in found.values())
    even = torch.full((4,), 7)
    assert dead_units(model.lstm, packed(x, even)) == dead_units(model.lstm, x)


def test_time_left_and_cut_data_keep_the_lengths() -> None:
    task = sequence_task("mine", sequences(), CLASSES)
    data = task.load(0).first(5, 3)
    assert data.train_lengths is not None and len(data.train_lengths) == len(data.train_x) == 5
    assert data.test_lengths is not None and len(data.test_lengths) == len(data.test_y) == 3
    assert trial_seconds(spec(task)) > 0


def at_every_step() -> Task:
    xs = torch.randn(30, 7, 2, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor(LENGTHS[:30])
    y = (xs.sum(-1) > 0).long().masked_fill(torch.arange(7) >= lengths[:, None], IGNORE)
    data = Data(xs[:20], y[:20], xs[20:], y[20:], lengths[:20], lengths[20:])
    return Task("mine", "mine", "Mine.", ACCURACY, 0.5, None, 7, 2, lambda seed: data, source="me")


def test_an_own_task_of_uneven_lengths_with_an_answer_at_every_step() -> None:
    task = at_every_step()
    assert task.load(0).every_step
    result, _ = run_trial(spec(task, epochs=30, batch_size=5, hidden_size=6, learning_rate=0.05))
    assert result["final_metric"] > 0.8


def test_lengths_that_do_not_fit_are_named() -> None:
    task = at_every_step()
    data = task.load(0)
    lengths = data.train_lengths
    assert lengths is not None
    for changed, said in (
        ({"train_lengths": None}, "give both train_lengths and test_lengths, or none"),
        ({"train_lengths": lengths[:3]}, r"train_lengths must be \[20\] of torch.int64"),
        ({"train_lengths": lengths.int()}, r"train_lengths must be \[20\] of torch.int64"),
        ({"train_lengths": lengths * 0}, "must lie between 1 and the 7 steps"),
        ({"train_lengths": lengths + 7}, "must lie between 1 and the 7 steps"),
        ({"train_lengths": lengths * 0 + 1}, "train_y counts steps after the end of a sequence"),
        (
            {"test_x": torch.zeros(10, 8, 2), "test_y": torch.zeros(10, 8).long()},
            "test_x must be padded to 7 steps",
        ),
    ):
        with pytest.raises(TaskError, match=said):
            replace(task, make=lambda seed, c=changed: replace(data, **c)).load(0)


# ---- values ---------------------------------------------------------------------------------


def test_values_are_told_and_judged_against_their_mean() -> None:
    xs = sequences()
    y = np.array([x.sum() for x in xs])
    task = sequence_task("mine", xs, y)
    assert task.metric is RELATIVE_ERROR and (task.outputs, task.baseline) == (1, 1.0)
    assert task.baseline_name == "the mean" and "Tell the value of 40" in task.description
    data = task.load(0)
    order = np.random.default_rng(0).permutation(40)
    known = y[order[:32]]
    scaled = (y[order] - known.mean()) / known.std()
    np.testing.assert_allclose(torch.cat([data.train_y, data.test_y]), scaled, rtol=1e-5, atol=1e-6)
    result, _ = run_trial(spec(task, epochs=60, batch_size=8, hidden_size=8, learning_rate=0.03))
    assert result["final_metric"] < 0.7


def test_several_values_of_a_sequence_and_whole_numbers_as_values() -> None:
    xs = sequences()
    y = np.array([x.sum(0) for x in xs])
    task = sequence_task("mine", xs, y, metric=MSE)
    data = task.load(0)
    assert task.outputs == data.values == 2 and data.train_y.shape == (32, 2)
    assert not data.every_step and math.isfinite(run_trial(spec(task))[0]["final_metric"])
    whole = sequence_task("mine", xs, np.array(LENGTHS), metric=RELATIVE_ERROR)
    assert whole.outputs == 1 and whole.load(0).train_y.is_floating_point()
    assert sequence_task("mine", xs, np.array(LENGTHS)).outputs == 7
    for y, metric, said in (
        (np.array([*"ab"] * 20), MSE, "has classes; the metric mse judges values"),
        (np.linspace(0, 1, 40), ACCURACY, "has values; the metric accuracy judges classes"),
    ):
        with pytest.raises(TaskError, match=said):
            sequence_task("mine", xs, y, metric=metric)


def test_two_values_of_sequences_of_two_steps_are_no_answer_at_every_step() -> None:
    """[N, 2] is both [N, T] and [N, values]: the data say which."""
    x = np.random.default_rng(0).normal(size=(40, 2, 1))
    task = sequence_task("mine", x, x[:, :, 0] * [1, 2])
    assert not task.load(0).every_step
    assert math.isfinite(run_trial(spec(task))[0]["final_metric"])


def test_the_baseline_of_classes_under_another_metric() -> None:
    y = np.array([0, 0, 0, 1] * 10)
    task = sequence_task("mine", sequences(), y, metric=CROSS_ENTROPY)
    shares = np.array([30.5, 10.5]) / 41
    wanted = -(0.75 * np.log(shares[0]) + 0.25 * np.log(shares[1]))
    assert task.baseline == pytest.approx(wanted, rel=1e-5)
    assert task.baseline_name == "majority class"


# ---- gaps -----------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    missing=st.sampled_from(["forward", "linear", "mask", "drop"]),
    share=st.floats(0, 0.4),
    uneven=st.booleans(),
    seed=st.integers(0, 999),
)
def test_sequences_with_gaps_are_those_that_were_filled_by_hand(
    missing: str, share: float, uneven: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    xs = [rng.normal(size=(rng.integers(2, 6) if uneven else 5, 2)) for _ in range(12)]
    for x in xs:
        x[1:][rng.random(x[1:].shape) < share] = np.nan
    labels = np.arange(12) % 2
    filled = []
    for x in xs:
        own = x.copy()
        if missing == "drop":
            filled.append(own[~np.isnan(own).any(1)])
            continue
        for k in range(2):
            known = np.flatnonzero(~np.isnan(x[:, k]))
            for t in np.flatnonzero(np.isnan(x[:, k])):
                before, after = known[known < t][-1], known[known > t]
                value = x[before, k]
                if missing == "linear" and len(after):
                    value += (x[after[0], k] - value) * (t - before) / (after[0] - before)
                own[t, k] = value
        filled.append(own)
    if missing == "mask":
        gaps = np.flatnonzero(np.any([np.isnan(x).any(0) for x in xs], axis=0))
        filled = [
            np.concatenate([f, np.isnan(x[:, gaps])], 1) for f, x in zip(filled, xs, strict=True)
        ]
    one = sequence_task("mine", xs, labels, missing=missing).load(0)
    two = sequence_task("mine", filled, labels).load(0)
    torch.testing.assert_close(one.train_x, two.train_x, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.test_x, two.test_x, rtol=1e-4, atol=1e-5)
    assert str(one.train_lengths) == str(two.train_lengths)


def test_what_is_not_known_yet_is_the_mean_of_training() -> None:
    xs = sequences()
    xs[0][:, 0] = np.nan
    data = sequence_task("mine", xs, CLASSES, missing="forward").load(0)
    order = np.random.default_rng(0).permutation(40).tolist()
    row = order.index(0)
    x = torch.cat([data.train_x, data.test_x])[row]
    assert not x[:3, 0].any() and x[:3, 1].all()
    with pytest.raises(TaskError, match="sequence 0 has no step without a missing value"):
        sequence_task("mine", xs, CLASSES, missing="drop")
    with pytest.raises(TaskError, match=r"x\[0, 0, 0\] is nan; .* or say --missing forward"):
        sequence_task("mine", xs, CLASSES)


# ---- files ----------------------------------------------------------------------------------


def test_uneven_sequences_of_an_npz_padded_or_one_after_another(tmp_path: Path) -> None:
    xs = sequences()
    padded = np.full((40, 9, 2), np.nan)
    for k, x in enumerate(xs):
        padded[k, : len(x)] = x
    np.savez(tmp_path / "a.npz", x=np.concatenate(xs), lengths=LENGTHS, y=CLASSES)
    np.savez(tmp_path / "b.npz", x=padded, lengths=LENGTHS, y=CLASSES)
    wanted = sequence_task("mine", xs, CLASSES).load(0).digest
    for name in ("a.npz", "b.npz"):
        assert file_task(str(tmp_path / name)).load(0).digest == wanted
    one = [x[:, 0] for x in xs]
    np.savez(tmp_path / "c.npz", x=np.concatenate(one), lengths=LENGTHS, y=CLASSES)
    assert file_task(str(tmp_path / "c.npz")).load(0).digest == (
        sequence_task("mine", one, CLASSES).load(0).digest
    )
    for lengths, said in (
        (LENGTHS[:-1], r"with lengths \[N\], x must be"),
        ([0, *LENGTHS[1:]], "lengths must be 1 or more, not 0"),
        ([10, *LENGTHS[1:]], "of at least the longest"),
        ([k + 0.5 for k in LENGTHS], r"lengths must be \[N\] of whole numbers"),
        ([10**18] * 40, "lengths must be 1 or more"),
    ):
        np.savez(tmp_path / "d.npz", x=padded, lengths=lengths, y=CLASSES)
        refused(tmp_path / "d.npz", said, None)


def ts_text(xs: list[Any], targets: list[Any], head: str = "@classLabel true a b") -> str:
    def written(x: Any) -> str:
        return ":".join(",".join("?" if np.isnan(v) else repr(float(v)) for v in d) for d in x.T)

    cases = [f"{written(x)}:{t}" for x, t in zip(xs, targets, strict=True)]
    return "\n".join([head, "@data", *cases]) + "\n"


def test_a_ts_file_of_uneven_lengths_with_question_marks(tmp_path: Path) -> None:
    xs = [x.astype(np.float32) for x in sequences()]
    path = tmp_path / "Toy.ts"
    path.write_text(ts_text(xs, ["ab"[k] for k in CLASSES]))
    assert file_task(str(path)).load(0).digest == sequence_task("Toy", xs, CLASSES).load(0).digest
    for x in xs[::3]:
        x[-1, 0] = np.nan
    path.write_text(ts_text(xs, ["ab"[k] for k in CLASSES]))
    refused(
        path, r"Toy.ts, line 3: a value is missing \('\?'\); fill it in, or say --missing", None
    )
    for missing in ("forward", "linear", "mask"):
        found = file_task(str(path), missing=missing).load(0)
        assert found.digest == sequence_task("T", xs, CLASSES, missing=missing).load(0).digest
    refused(path, "has no step without a missing value", None, missing="drop")
    path.write_text(ts_text(xs, ["ab"[k] for k in CLASSES]).replace(":a", ":1,2,3,4,5,6,7,8:a", 1))
    refused(
        path, "line 3: its dimensions have different lengths|has 3 dimensions", None, missing="mask"
    )


def test_a_ts_file_of_values(tmp_path: Path) -> None:
    xs = sequences()
    y = np.array([float(x.sum()) for x in xs])
    path = tmp_path / "Toy_TRAIN.ts"
    path.write_text(ts_text(xs[:30], y[:30].tolist(), "@targetLabel true"))
    (tmp_path / "Toy_TEST.ts").write_text(ts_text(xs[30:], y[30:].tolist(), "@targetLabel true"))
    task = file_task(str(path))
    assert task.metric is RELATIVE_ERROR and task.same_data and len(task.load(0).test_y) == 10
    (tmp_path / "Toy_TEST.ts").write_text(ts_text(xs[30:], ["a"] * 10))
    refused(path, "one of Toy_TRAIN.ts and Toy_TEST.ts has classes, the other values", None)
