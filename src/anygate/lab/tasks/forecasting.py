"""Forecasting the next rows of a table, of one series or of several, from a window of past ones.

Time decides what is for testing, and nothing that is tested is seen before: means, spreads, and the
levels of categories are those of the rows for training, a window for training ends before the first
row that is tested, and no value in a window rests on one after it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from .arrangement import LEAST, Rows, Series, arranged, step_of
from .base import Data, Settings, Task, TaskError
from .columns import Columns
from .dates import season_of
from .inputs import Features, Inputs
from .metrics import ACCURACY, RELATIVE_ERROR, Metric
from .reading import digest, listed, shown
from .sizes import passes
from .targets import baseline, labels, values

__all__ = ["WINDOW", "forecast_columns"]

WINDOW = 24
"""Past rows in one sequence: two years of months, two cycles of yearly sunspots."""
_AT_ONCE = 1024  # windows that are gathered together


def forecast_columns(
    name: str,
    title: str,
    columns: Columns,
    *,
    window: int = WINDOW,
    horizon: int = 1,
    season: int | None = None,
    missing: str | None = None,
    test_from: str | None = None,
    metric: Metric | None = None,
    data: str | None = None,
    source: str = "",
) -> Task:
    """The task of forecasting the targets of `columns`. data: what identifies them, by default a
    digest of all that is seen. Raises TaskError for a series that is too short, constant, or of
    other things than the metric judges."""
    classes = _classes(title, columns, metric, horizon)
    series = arranged(title, columns, window, horizon, missing, test_from)
    inputs = Inputs(title, series)
    asked = labels(title, series) if classes else values(title, series)
    train, test = (asked.kept(series.origins(tested)) for tested in (False, True))
    if len(train) < LEAST // 2 or len(test) < 2:
        raise TaskError(
            f"{title}: {len(train)} windows are for training and {len(test)} for testing; "
            f"{LEAST // 2} and 2 are needed"
        )
    asked.check(title, test)
    judged = metric or (ACCURACY if classes else RELATIVE_ERROR)
    season = season if season is not None else season_of(step_of(series))
    level, level_name = baseline(asked, judged, test, season)
    gaps = () if inputs.forward is None else (inputs.forward, inputs.next_known)
    arrays = (inputs.rows, train, asked.of(train), test, asked.of(test))
    notes = (*inputs.notes, *_unused_sentence(columns), *_left_out_sentence(series))
    return Task(
        name=name,
        title=f"{title}, {_horizon_in_words(horizon)}",
        description=" ".join(
            [
                _description(columns, window, horizon, classes),
                _split(series, train, test),
                *([] if classes else [_SCALED]),
                *([_RELATIVE] if judged is RELATIVE_ERROR else []),
                *inputs.sentences,
                *notes,
            ]
        ),
        metric=judged,
        baseline=level,
        solved=None,
        steps=window,
        outputs=asked.outputs,
        make=partial(_make, window, asked.values, *arrays, *gaps),
        settings=_settings(len(train) + len(test), inputs.rows.shape[1]),
        data=digest(*arrays, *gaps, f"{judged.name} {window} {horizon}") if data is None else data,
        source=source,
        baseline_name=level_name,
        same_data=True,
        notes=notes,
    )


def _make(
    window: int,
    values: int,
    rows: Features,
    train: Rows,
    train_y: Features,
    test: Rows,
    test_y: Features,
    *gaps_and_seed: Any,
) -> Data:
    """The same data for every seed: time decides what is for testing."""
    *gaps, _ = gaps_and_seed
    y, tested_y = (torch.from_numpy(part.copy()) for part in (train_y, test_y))
    x, tested_x = (_windows(rows, window, origins, *gaps) for origins in (train, test))
    return Data(x, y, tested_x, tested_y, values=values)


def _windows(
    rows: Features,
    window: int,
    origins: Rows,
    forward: Features | None = None,
    next_known: Rows | None = None,
) -> torch.Tensor:
    """The windows [N, window, I] that end with the rows `origins`. See Inputs for the others."""
    x = np.empty((len(origins), window, rows.shape[1]), np.float32)
    for start in range(0, len(origins), _AT_ONCE):
        last = origins[start : start + _AT_ONCE]
        places = last[:, None] + np.arange(1 - window, 1)
        part = rows[places]
        if forward is not None and next_known is not None:
            later = next_known[places] > last[:, None, None]
            part[later] = forward[places][later]
        x[start : start + _AT_ONCE] = part
    return torch.from_numpy(x)


# ---- sentences
def _classes(title: str, columns: Columns, metric: Metric | None, horizon: int) -> bool:
    """True if the target is a class. Raises TaskError where target and metric do not fit."""
    kinds = {c.kind for c in columns.targets}
    classes = kinds == {"category"}
    if len(kinds) > 1 or (classes and len(columns.targets) > 1):
        raise TaskError(f"{title}: classes are forecast one column at a time, without numbers")
    if classes and horizon > 1:
        raise TaskError(f"{title}: classes are forecast one row ahead; --horizon is for numbers")
    if metric is not None and metric.of_classes != classes:
        found, judged = ("classes", "numbers") if classes else ("numbers", "classes")
        raise TaskError(f"{title} holds {found}; the metric {metric.name} judges {judged}")
    return classes


_SCALED = (
    "Values are centred and scaled by the part for training; the targets are the changes from the "
    "last known value, over their usual size there."
)
_RELATIVE = (
    "The relative error is the root mean square error over that of 'the next value is the last "
    "one': below 1 is better than that."
)


def _horizon_in_words(horizon: int) -> str:
    return "one step ahead" if horizon == 1 else f"1 to {horizon} steps ahead"


def _description(columns: Columns, window: int, horizon: int, classes: bool) -> str:
    names = listed([shown(c.name) for c in columns.targets])
    past = f"from the {window} before {'it' if horizon == 1 else 'them'}"
    if classes:
        return f"Forecast the class of {names} in the next row {past}."
    rows = "value" if horizon == 1 else f"{horizon} values"
    return f"Forecast the next {rows} of {names} {past}."


def _split(series: Series, train: Rows, test: Rows) -> str:
    many = len(series.blocks)
    of = f" of {many} series" if many > 1 else ""
    return (
        f"The last {len(test):,} windows{of} are for testing, for every seed, the "
        f"{len(train):,} before them for training."
    )


def _unused_sentence(columns: Columns) -> tuple[str, ...]:
    if not columns.unused:
        return ()
    told = [f"{shown(name)!r} {why}" for name, why in columns.unused.items()]
    return (f"Columns that are not used: {listed(told)}.",)


def _left_out_sentence(series: Series) -> tuple[str, ...]:
    needed = series.window + series.horizon
    short = [k for k, b in enumerate(series.blocks) if b.stop - b.start < needed]
    if not short or series.columns.group is None:
        return ()
    return (f"{len(short)} of {len(series.blocks)} series are shorter than a window and left out.",)


def _settings(windows: int, features: int) -> Settings:
    """Few units and steps: with 32 units and 600 steps the error on the sunspots rose again."""
    return Settings(
        hidden_size=16 if features <= 4 else 32,
        epochs=passes(windows, 32, 300),
        batch_size=32,
        learning_rate=0.005,
    )
