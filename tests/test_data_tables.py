"""Tables as people have them: several columns, categories, dates, gaps, horizons, groups; and that
nothing a forecast is tested on is seen before."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_bytes import a_task_or_a_sentence, damaged
from hypothesis import given, settings
from hypothesis import strategies as st
from task_folder import spec

from anygate.lab.study.trial import run_trial
from anygate.lab.tasks import ACCURACY, Task, TaskError, file_task, frame_task
from anygate.lab.tasks.columns import choose
from anygate.lab.tasks.gaps import filled_forward, filled_linear, next_known
from anygate.lab.tasks.tables import from_frame, read_table

pandas = pytest.importorskip("pandas")
RNG = np.random.default_rng(0)


def months(count: int = 120) -> Any:
    """A table of a price and what may help to forecast it: two numbers and a category."""
    rng = np.random.default_rng(1)
    time = pandas.date_range("2015-01-01", periods=count, freq="MS")
    season = np.sin(2 * np.pi * np.arange(count) / 12)
    return pandas.DataFrame(
        {
            "month": time,
            "price": 10 + season + rng.normal(0, 0.1, count),
            "volume": rng.normal(5, 2, count),
            "weather": rng.normal(0, 1, count),
            "kind": np.array(["a", "b", "c"])[rng.integers(0, 3, count)],
        }
    )


def with_gaps(frame: Any, share: float = 0.1) -> Any:
    rng = np.random.default_rng(2)
    for name in ("price", "volume", "kind"):
        frame.loc[rng.random(len(frame)) < share, name] = np.nan if name != "kind" else None
    return frame


# ---- what is seen ---------------------------------------------------------------------------


def test_all_columns_are_seen_and_named() -> None:
    frame = months()
    frame["id"] = [f"row {k}" for k in range(len(frame))]
    frame["number"] = range(len(frame))
    frame["same"] = 7.0
    task = frame_task(frame, "price", window=6)
    data = task.load(0)
    # price, its change, volume, weather, three kinds, sine and cosine of the year
    assert data.train_x.shape == (92, 6, 9) and data.test_x.shape == (22, 6, 9)
    assert "price, volume, weather, kind (3 categories), month (time of year)" in task.description
    (note,) = task.notes
    assert note in task.description and note.startswith("Columns that are not used: ")
    for name, why in (
        ("id", "is text with 120 different values"),
        ("number", "counts the rows"),
        ("same", "is constant where it is for training"),
    ):
        assert f"{name!r} {why}" in note


def test_the_features_of_a_row_are_those_of_the_table() -> None:
    frame = months()
    data = frame_task(frame, "price", window=6).load(0)
    known = frame.iloc[: 92 + 6]  # all rows before the first that is tested
    x = data.train_x[3].numpy()
    rows = frame.iloc[3:9]
    for k, name in ((0, "price"), (2, "volume"), (3, "weather")):
        scaled = (rows[name] - known[name].mean()) / known[name].std(ddof=0)
        np.testing.assert_allclose(x[:, k], scaled, rtol=1e-4, atol=1e-6)
    step = math.sqrt(np.square(known["price"].diff()[1:]).mean())
    np.testing.assert_allclose(x[1:, 1], rows["price"].diff()[1:] / step, rtol=1e-4, atol=1e-6)
    assert [int(row.argmax()) for row in x[:, 4:7]] == ["abc".index(k) for k in rows["kind"]]
    passed = (rows["month"].dt.day_of_year - 1) / (365 + rows["month"].dt.is_leap_year)
    np.testing.assert_allclose(x[:, 7], np.sin(2 * np.pi * passed), atol=1e-6)
    np.testing.assert_allclose(x[:, 8], np.cos(2 * np.pi * passed), atol=1e-6)
    change = (frame["price"][9] - frame["price"][8]) / step
    assert data.train_y[3].item() == pytest.approx(change, rel=1e-4)


def test_features_can_be_chosen() -> None:
    frame = months()
    task = frame_task(frame, "price", features=["volume"], window=6)
    assert task.load(0).train_x.shape[2] == 3
    assert "'weather' is not among --features" in task.notes[0]
    assert frame_task(frame, "price", features=["month"], window=6).load(0).train_x.shape[2] == 4
    frame["id"] = [f"row {k}" for k in range(len(frame))]
    with pytest.raises(TaskError, match="'id' cannot be used: it is text with 120"):
        frame_task(frame, "price", features=["id"])
    with pytest.raises(TaskError, match=r"no column 'volumes' \(did you mean 'volume'\?\)"):
        frame_task(frame, "price", features=["volumes"])


@pytest.mark.parametrize(
    ("freq", "count", "cycles", "season"),
    [
        ("h", 400, ["time of day", "day of week"], 24),
        ("D", 500, ["day of week", "time of year"], 7),
        ("D", 100, ["day of week"], 7),
        ("W", 120, ["time of year"], 52),
        ("QS", 60, ["time of year"], 4),
        ("YS", 60, [], None),
        ("7min", 300, ["time of day"], None),
    ],
)
def test_dates_give_the_cycles_that_they_hold(
    freq: str, count: int, cycles: list[str], season: int | None
) -> None:
    time = pandas.date_range("2019-06-01", periods=count, freq=freq)
    wave = np.sin(np.arange(count) * 2 * np.pi / (season or 5)) + 0.01 * np.arange(count) / (
        season or 5
    )
    task = frame_task(pandas.DataFrame({"t": time, "v": wave}), "v", window=5)
    assert task.load(0).train_x.shape[2] == 2 + 2 * len(cycles)
    assert all(name in task.description for name in cycles)
    # A season that repeats is known without learning, where the dates tell its length.
    assert task.baseline_name == ("seasonal naive" if season else "persistence")
    assert task.baseline < 0.2 if season else task.baseline == 1.0


def test_a_season_of_ones_own_and_what_its_baseline_is() -> None:
    values = np.tile([0.0, 3.0, 1.0, 7.0, 2.0], 20) + np.arange(100) / 50
    frame = pandas.DataFrame({"v": values})
    assert frame_task(frame, "v", window=7).baseline_name == "persistence"
    task = frame_task(frame, "v", window=7, season=5)
    data = task.load(0)
    tested = np.arange(100 - len(data.test_y), 100)
    errors = values[tested] - values[tested - 5]
    persistent = values[tested] - values[tested - 1]
    wanted = math.sqrt(np.square(errors).mean() / np.square(persistent).mean())
    assert (task.baseline_name, task.baseline) == (
        "seasonal naive",
        pytest.approx(wanted, rel=1e-5),
    )


# ---- nothing that is tested is seen before --------------------------------------------------


def same_training(one: Task, two: Task) -> bool:
    a, b = one.load(0), two.load(0)
    return torch.equal(a.train_x, b.train_x) and torch.equal(
        a.train_y.nan_to_num(-9.0), b.train_y.nan_to_num(-9.0)
    )


@settings(max_examples=30, deadline=None)
@given(
    missing=st.sampled_from(["forward", "linear", "drop", "mask"]),
    horizon=st.integers(1, 4),
    targets=st.sampled_from([["price"], ["price", "volume"], ["kind"]]),
    grouped=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_is_tested_changes_nothing_in_training(
    missing: str, horizon: int, targets: list[str], grouped: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    frame = with_gaps(months())
    options: dict[str, Any] = {"window": 5, "missing": missing, "test_from": "2023-01-01"}
    options["horizon"] = 1 if targets == ["kind"] else horizon
    if grouped:
        frame["shop"] = rng.integers(0, 3, len(frame)).astype(str)
        options["group"] = "shop"
    other = frame.copy()
    later = other["month"] >= "2023-01-01"
    other.loc[later, ["price", "volume", "weather"]] = rng.normal(0, 1e3, (later.sum(), 3))
    other.loc[later, "kind"] = rng.choice(["a", "z", "y"], later.sum())
    assert same_training(*(frame_task(f, targets, **options) for f in (frame, other)))


@settings(max_examples=30, deadline=None)
@given(
    missing=st.sampled_from(["forward", "linear", "mask"]),
    row=st.integers(30, 110),
    seed=st.integers(0, 99),
)
def test_no_window_knows_what_comes_after_it(missing: str, row: int, seed: int) -> None:
    """A straight line over a gap at the end of a window would tell of the value to forecast."""
    frame = with_gaps(months(), 0.4)
    other = frame.copy()
    rng = np.random.default_rng(seed)
    other.loc[row:, ["price", "volume"]] *= rng.normal(size=(len(frame) - row, 2))
    options: dict[str, Any] = {
        "features": ["volume", "kind"],
        "window": 5,
        "missing": missing,
        "test_from": "2017-01-01",
    }
    one, two = (frame_task(f, "price", **options).load(0) for f in (frame, other))
    # Rows for training (two years) are the same: so are the scales. Windows that end before `row`
    # are the same, those of them that are tested in both: each is known by its place in time.
    assert torch.equal(one.train_x, two.train_x)
    wanted = np.flatnonzero(~frame["price"].isna().to_numpy())
    ends = wanted[wanted >= 24] - 1
    assert len(ends) == len(one.test_x) == len(two.test_x)
    before = torch.from_numpy(ends < row)
    assert torch.equal(one.test_x[before], two.test_x[before])


def test_all_rows_of_a_window_of_training_come_before_what_is_tested() -> None:
    frame = pandas.DataFrame({"v": np.cumsum(np.random.default_rng(0).normal(size=100))})
    values = frame["v"].to_numpy()
    for horizon in (1, 3, 7):
        data = frame_task(frame, "v", window=5, horizon=horizon).load(0)
        first = 100 - len(data.test_y) - horizon + 1  # the first row that is tested
        assert len(data.train_y) == first - 5 - horizon + 1
        steps = [
            math.sqrt(np.square(values[h:first] - values[: first - h]).mean())
            for h in range(1, horizon + 1)
        ]
        for y, last in ((data.train_y[-1], first - horizon - 1), (data.test_y[0], first - 1)):
            wanted = [(values[last + h] - values[last]) / s for h, s in enumerate(steps, start=1)]
            np.testing.assert_allclose(y.reshape(-1), wanted, rtol=1e-5)


def test_testing_begins_at_the_date_that_is_asked_for() -> None:
    frame = months()
    data = frame_task(frame, "price", window=6, test_from="2024-01").load(0)
    assert len(data.test_y) == 12
    for text, said in (("soon", "needs a date such as"), ("2040-01-01", "0 for testing")):
        with pytest.raises(TaskError, match=said):
            frame_task(frame, "price", window=6, test_from=text)
    with pytest.raises(TaskError, match="no column of dates that rise, which --test-from needs"):
        frame_task(frame.drop(columns="month"), "price", test_from="2024-01-01")


# ---- gaps -----------------------------------------------------------------------------------

NAN = math.nan


@given(st.lists(st.floats(-9, 9) | st.none(), min_size=1, max_size=12))
def test_filling_gaps_is_as_a_loop_over_the_rows(values: list[float | None]) -> None:
    column = np.array([NAN if v is None else v for v in values])
    last, forward, known = NAN, [], [k for k, v in enumerate(values) if v is not None]
    linear: list[float] = []
    for k, value in enumerate(values):
        last = last if value is None else value
        forward.append(last)
        before, after = [j for j in known if j <= k], [j for j in known if j >= k]
        if before and after and before[-1] != after[0]:
            a, b = before[-1], after[0]
            line = column[a] + (column[b] - column[a]) * (k - a) / (b - a)
            linear.append(line)
        else:
            linear.append(last)
    later = [next((j for j in known if j >= k), len(values)) for k in range(len(values))]
    np.testing.assert_allclose(filled_forward(column[:, None])[:, 0], forward)
    np.testing.assert_allclose(filled_linear(column[:, None])[:, 0], linear, atol=1e-12)
    assert next_known(column[:, None])[:, 0].tolist() == later


@pytest.mark.parametrize("missing", ["forward", "linear", "drop", "mask"])
def test_gaps_are_treated_as_asked_and_told(missing: str) -> None:
    frame = with_gaps(months())
    with pytest.raises(TaskError, match=r"column 'price': the value is missing .* --missing"):
        frame_task(frame, "price", window=6)
    task = frame_task(frame, "price", window=6, missing=missing)
    data = task.load(0)
    gaps = frame[["price", "volume", "kind"]].isna()
    if missing == "drop":
        assert len(data.train_y) + len(data.test_y) == (~gaps.any(axis=1)).sum() - 6
        assert not any("Missing" in note for note in task.notes)
        return
    assert data.train_x.shape[2] == 9 + 3 * (missing == "mask")
    told = ", ".join(f"{name} ({count})" for name, count in gaps.sum().items())
    assert f"Missing values, treated as '{missing}': {told}." in task.notes
    # A value that is not there is never asked for.
    assert len(data.train_y) + len(data.test_y) == (~gaps["price"][6:]).sum()
    if missing == "mask":
        marks = data.train_x[:, -1, -3:].numpy()
        ends = np.flatnonzero(~gaps["price"].to_numpy()[6:])[: len(marks)] + 5
        assert (marks == gaps.to_numpy()[ends]).all()


def test_missing_values_of_a_csv_file_are_named_with_their_place(tmp_path: Path) -> None:
    frame = with_gaps(months())
    frame.to_csv(tmp_path / "my.csv", index=False)
    row = int(frame["price"].isna().to_numpy().argmax())
    with pytest.raises(TaskError, match=rf"my.csv, line {row + 2}, column 'price'"):
        file_task(str(tmp_path / "my.csv"), "price")
    for missing in ("forward", "linear", "drop", "mask"):
        options: dict[str, Any] = {"window": 6, "missing": missing}
        one = file_task(str(tmp_path / "my.csv"), "price", **options)
        assert one.load(0).digest == frame_task(frame, "price", **options).load(0).digest


def test_one_of_several_targets_may_be_missing() -> None:
    frame = with_gaps(months())
    data = frame_task(frame, ["price", "volume"], window=6, horizon=2, missing="forward").load(0)
    assert data.values == data.train_y.shape[1] == 4
    assert data.train_y.isnan().any() and not data.train_y.isnan().all(1).any()


# ---- groups ---------------------------------------------------------------------------------


def shops(mixed: bool = False) -> Any:
    """Two shops of which one sells a thousand times as much, and one that opened late."""
    parts = [
        months(count).tail(rows).assign(shop=name, price=lambda f, by=by: f["price"] * by)
        for name, count, rows, by in (("x", 120, 120, 1), ("y", 120, 120, 1000), ("z", 120, 4, 1))
    ]
    frame = pandas.concat(parts, ignore_index=True)
    return frame.sort_values("month", kind="stable") if mixed else frame


def test_groups_are_series_of_their_own() -> None:
    task = frame_task(shops(), "price", group="shop", features=[], window=6)
    data = task.load(0)
    assert data.train_x.shape[0] + data.test_x.shape[0] == 2 * (120 - 6)
    assert "1 of 3 series are shorter than a window and left out." in task.notes
    # Each is scaled by itself, so the thousandfold shop is the same series.
    half = len(data.train_x) // 2
    np.testing.assert_allclose(data.train_x[:half], data.train_x[half:], rtol=1e-4, atol=1e-5)
    mixed = frame_task(shops(mixed=True), "price", group="shop", features=[], window=6)
    assert mixed.load(0).digest == data.digest
    with pytest.raises(TaskError, match=r"not in the order of time .* tells series apart: --group"):
        frame_task(shops(), "price")


def test_the_same_date_is_tested_in_every_group() -> None:
    frame = shops()
    frame = frame[~((frame["shop"] == "y") & (frame["month"] < "2019-01-01"))]
    task = frame_task(frame, "price", group="shop", features=[], window=6)
    data = task.load(0)
    x, y = (frame[frame["shop"] == name]["month"].to_numpy() for name in "xy")
    asked = np.sort(np.concatenate([x[6:], y[6:]]))
    cut = asked[len(asked) - len(asked) // 5]
    assert len(data.test_y) == sum((months[6:] >= cut).sum() for months in (x, y))


# ---- classes, values, metrics ---------------------------------------------------------------


def test_a_column_of_texts_is_forecast_as_classes() -> None:
    frame = months(200)
    frame["kind"] = np.array(["a", "a", "b", "c"])[np.arange(200) % 4]
    task = frame_task(frame, "kind", window=6, season=4)
    assert task.metric is ACCURACY and task.outputs == 3
    assert (task.baseline_name, task.baseline) == ("seasonal naive", 1.0)
    data = task.load(0)
    assert data.train_y.tolist()[:6] == [1, 2, 0, 0, 1, 2]
    frame["kind"] = np.where(RNG.random(200) < 0.8, "a", "b")
    task = frame_task(frame, "kind", window=6)
    assert task.baseline_name == "majority class"
    assert task.baseline == (frame["kind"][-len(task.load(0).test_y) :] == "a").mean()
    frame["kind"] = np.where(np.arange(200) // 20 % 2, "a", "b")
    assert frame_task(frame, "kind", window=6).baseline_name == "persistence"
    for options, said in (
        ({"metric": "mse"}, "holds classes; the metric mse judges numbers"),
        ({"horizon": 2}, "classes are forecast one row ahead"),
    ):
        with pytest.raises(TaskError, match=said):
            frame_task(frame, "kind", **options)
    with pytest.raises(TaskError, match="holds numbers; the metric accuracy judges classes"):
        frame_task(frame, "price", metric="accuracy")
    with pytest.raises(TaskError, match="one column at a time"):
        frame_task(frame, ["price", "kind"])


def test_a_class_that_training_does_not_have_is_not_asked_for() -> None:
    frame = months()
    frame.loc[110:, "kind"] = "new"
    task = frame_task(frame, "kind", window=6, missing="forward")
    data = task.load(0)
    assert task.outputs == 3 and len(data.test_y) == 22 - 10
    assert any(
        "10 rows have a value of 'kind' that training does not have" in n for n in task.notes
    )


def test_metrics_by_name_and_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_metrics.py").write_text(
        "from dataclasses import replace\nfrom anygate.lab.tasks import MAE\n"
        "def score(output, target):\n    return 7.0 + MAE.score(output, target)\n"
        "mine = replace(MAE, name='mine', score=score)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    frame = months()
    mae, own = (frame_task(frame, "price", metric=m) for m in ("mae", "my_metrics:mine"))
    assert own.metric.name == "mine" and own.baseline == pytest.approx(7 + mae.baseline)
    assert mae.data != own.data
    result, _ = run_trial(spec(own, engine="eager"))
    assert result["final_metric"] > 7
    for name, said in (
        ("accurate", r"no metric is called 'accurate' \(did you mean accuracy\?\)"),
        ("my_metrics:score", "must be an anygate.lab.tasks.Metric, not function"),
        ("my_metrics:none", r"my_metrics \(.*my_metrics\.py\) has no 'none'"),
    ):
        with pytest.raises(TaskError, match=said):
            frame_task(frame, "price", metric=name)


# ---- every combination trains ---------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda: frame_task(months(), "price", window=6),
        lambda: frame_task(months(), ["price", "volume"], window=6, horizon=3),
        lambda: frame_task(with_gaps(months()), ["price", "volume"], window=6, missing="linear"),
        lambda: frame_task(with_gaps(months()), "kind", window=6, missing="mask"),
        lambda: frame_task(shops(), "price", window=6, group="shop"),
    ],
)
def test_a_trial_runs_and_is_repeatable(build: Callable[[], Task]) -> None:
    task = build()
    result, _ = run_trial(spec(task, engine="eager"))
    assert result["diverged"] is None and math.isfinite(result["final_metric"])
    assert run_trial(spec(build(), engine="eager"))[0] == result


# ---- reading --------------------------------------------------------------------------------


def test_parquet_and_csv_are_the_same_task(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = with_gaps(months())
    frame.to_csv(tmp_path / "my.csv", index=False)
    frame.to_parquet(tmp_path / "my.parquet")
    frame.astype({"kind": "category"}).to_parquet(tmp_path / "categories.parquet")
    options: dict[str, Any] = {"target": "price", "window": 6, "missing": "mask"}
    tasks = [
        file_task(str(tmp_path / name), **options)
        for name in ("my.csv", "my.parquet", "categories.parquet")
    ]
    assert len({t.load(0).digest for t in tasks}) == 1


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_bytes_as_parquet(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.getbasetemp()
    if not (folder / "sound.parquet").exists():
        months(40).to_parquet(folder / "sound.parquet")
    content = data.draw(damaged((folder / "sound.parquet").read_bytes()))
    (folder / "drawn.parquet").write_bytes(content)
    a_task_or_a_sentence(lambda: file_task(str(folder / "drawn.parquet"), "price", 4))


def test_parquet_without_pyarrow_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "anygate.lab.tasks.tables.find_spec", lambda name: None if name == "pyarrow" else name
    )
    with pytest.raises(TaskError, match=r"pip install 'anygate\[parquet\]' brings it, or export"):
        file_task(str(tmp_path / "my.parquet"), "price")
    monkeypatch.setattr("anygate.lab.tasks.tables.find_spec", lambda name: None)
    with pytest.raises(TaskError, match=r"pandas, which is not installed; pip install 'anygate"):
        file_task(str(tmp_path / "my.csv"), "price")


def test_columns_of_lists_are_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = months(60)
    frame["tags"] = [["a", "b"]] * 60
    frame.to_parquet(tmp_path / "my.parquet")
    for task in (frame_task(frame, "price"), file_task(str(tmp_path / "my.parquet"), "price")):
        assert "'tags' holds lists" in task.notes[0]


def test_frames_of_polars_are_read(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    pytest.importorskip("pyarrow")
    frame = months()
    other = polars.DataFrame({name: frame[name].to_list() for name in frame.columns})
    one, two = (frame_task(f, "price", window=6).load(0) for f in (frame, other))
    assert one.digest == two.digest
    with pytest.raises(TaskError, match="must be a DataFrame of pandas or Polars, not list"):
        frame_task([1, 2], "price")


def test_what_a_cell_is_does_not_depend_on_who_splits_the_lines(tmp_path: Path) -> None:
    """The rows are counted by one reader and taken apart by another."""
    lines = ["a,b", '"x, y",1', " z ,2", '"two\nlines",3', "NA,4", '"",5']
    (tmp_path / "my.csv").write_text("\r\n".join(lines) + "\r\n")
    table = read_table(tmp_path / "my.csv")
    assert [table.cell(k, 0)[1] for k in range(5)] == ["x, y", "z", "two\nlines", "NA", ""]
    assert table.cell(3, 1) == (f"{tmp_path / 'my.csv'}, line 6", "4")
    assert table.frame.iloc[:, 1].tolist() == [1, 2, 3, 4, 5]
    (column,) = choose(table, ["b"], allow_missing=True).features
    assert column.levels == ("two\nlines", "x, y", "z") and column.values.tolist() == [
        1,
        2,
        0,
        -1,
        -1,
    ]


CELLS = st.text(alphabet="ab1.,;\"'\n\r -?é", max_size=5)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8))
def test_any_table_is_read_as_the_standard_library_reads_it(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    import csv
    import io

    buffer = io.StringIO()
    csv.writer(buffer).writerows([("one", "two"), *rows])
    path = tmp_path_factory.getbasetemp() / "drawn.csv"
    path.write_text(buffer.getvalue(), newline="")
    try:
        table = read_table(path)
    except TaskError:
        return
    assert len(table.frame) == len(rows)
    for k, row in enumerate(rows):
        for column, cell in enumerate(row):
            found = table.frame.iloc[k, column]
            assert table.cell(k, column)[1] == cell.strip()
            if isinstance(found, str):
                assert found == cell
            else:
                assert pandas.isna(found) or float(found) == float(cell)


def test_dates_of_several_kinds() -> None:
    plain = months()
    texts = plain.assign(month=plain["month"].dt.strftime("%Y-%m-%dT%H:%M:%S"))
    zoned = plain.assign(month=plain["month"].dt.tz_localize("UTC"))
    indexed = plain.set_index("month")
    wanted = frame_task(plain, "price").load(0).digest
    for frame in (texts, zoned, indexed):
        assert frame_task(frame, "price").load(0).digest == wanted
    odd = plain.assign(month=plain["month"].dt.strftime("%d.%m.%Y"))
    assert "'month' is text with 120 different values" in frame_task(odd, "price").notes[0]
    holes = texts.assign(month=[None, *texts["month"][1:]])
    assert "'month' lacks dates" in frame_task(holes, "price").notes[0]


def test_columns_of_other_kinds() -> None:
    frame = months()
    frame["flag"] = np.arange(120) % 3 == 0
    frame["empty"] = np.nan
    frame["whole"] = pandas.array(np.arange(120) % 7, dtype="Int64")
    columns = choose(from_frame(frame, "frame"), ["price"])
    kinds = {c.name: c.kind for c in columns.features}
    assert kinds == {
        "volume": "number",
        "weather": "number",
        "kind": "category",
        "flag": "category",
        "whole": "number",
    }
    assert columns.unused == {"empty": "is empty"}
    frame["endless"] = np.where(np.arange(120) == 50, np.inf, 1.0)
    with pytest.raises(TaskError, match="frame, row 50, column 'endless': 'inf' is not finite"):
        frame_task(frame, "price")


def test_a_word_for_nothing_is_a_missing_number_and_may_be_a_category(tmp_path: Path) -> None:
    rows = [
        f"{k % 7},{'none' if k % 2 else 'sale'},{'none' if k == 3 else k * k}" for k in range(60)
    ]
    (tmp_path / "my.csv").write_text("v,promotion,square\n" + "\n".join(rows) + "\n")
    columns = choose(read_table(tmp_path / "my.csv"), ["v"], allow_missing=True)
    promotion, square = columns.features
    assert promotion.levels == ("none", "sale") and not promotion.missing.any()
    assert square.kind == "number" and np.flatnonzero(square.missing).tolist() == [3]


def test_options_that_are_wrong(tmp_path: Path) -> None:
    frame = months()
    for options, said in (
        ({"missing": "backward"}, "missing is one of forward, linear, drop, mask, not 'backward'"),
        ({"horizon": 0}, "the horizon must be 1 or more"),
        ({"group": "price"}, "a column is given twice among --target and --group"),
        ({"window": 90, "horizon": 20}, "windows of 90 need 129 or more: set --window 81 or less"),
    ):
        with pytest.raises(TaskError, match=said):
            frame_task(frame, "price", **options)
    with pytest.raises(TaskError, match="data files have no option 'horizont'"):
        file_task(str(tmp_path / "my.csv"), "price", horizont=3)


def test_many_steps_ahead_are_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pandas.DataFrame({"v": np.cumsum(RNG.normal(size=20_000))})
    with pytest.raises(TaskError, match=r"20,000 values 9,000 rows ahead hold .* --horizon"):
        frame_task(frame, "v", horizon=9000)
