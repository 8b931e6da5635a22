"""Tasks from a user's file or frame: forecasting a table, or classes and values of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..settings import DATA_OPTIONS, DATA_OPTIONS_OF_SEQUENCES, MISSING
from .base import Task, TaskError
from .columns import choose
from .forecasting import WINDOW, forecast_columns
from .npz import read_npz
from .own import find_metric
from .reading import label, listed, shown
from .sequences import sequence_task
from .tables import Table, from_frame, read_table
from .ts import read_ts

__all__ = ["file_task", "frame_task"]

_UNREAD = (".xlsx", ".xls", ".ods", ".feather", ".h5", ".mat")


def file_task(
    path: str,
    target: str | Sequence[str] | None = None,
    window: int | None = None,
    **options: Any,
) -> Task:
    """The task of a data file, by its ending: .npz and .ts hold sequences with classes or values,
    .parquet and anything else, which is CSV, a table of which the columns `target` are forecast.
    options: those of :func:`frame_task`, of sequences `missing` and `metric`; None where nothing
    is said. Raises TaskError."""
    file, ending = Path(path), Path(path).suffix.lower()
    given = {"target": target, "window": window, **options}
    given = {name: value for name, value in given.items() if value is not None}
    if unknown := [name for name in given if name not in DATA_OPTIONS]:
        raise TaskError(
            f"data files have no option {unknown[0]!r}; there are: {', '.join(DATA_OPTIONS)}"
        )
    if ending in _UNREAD:
        raise TaskError(f"{path}: files of this kind are not read; export the data as CSV")
    if ending in (".npz", ".ts"):
        return _sequences(file, given)
    if ending == ".txt" and target is None:
        raise TaskError(
            f"{path}: to predict the characters of a text, --task chars:{path}; to "
            "forecast a column of it, --target NAME"
        )
    return _table_task(read_table(file), file.name, file.stem, f"the file {file.name}", given)


def frame_task(
    frame: Any,
    target: str | Sequence[str] | None = None,
    *,
    name: str = "frame",
    features: Sequence[str] | None = None,
    group: str | None = None,
    window: int = WINDOW,
    horizon: int = 1,
    season: int | None = None,
    test_from: str | None = None,
    missing: str | None = None,
    metric: str | None = None,
) -> Task:
    """The task of forecasting columns of a DataFrame of pandas, or of Polars, in the order of its
    rows.

    target: the columns to forecast, all numbers or one of classes; may be left out of a frame of
    one column. features: the columns that are seen besides; None for all that hold numbers,
    categories (text of at most 32 different values, one feature each) or dates (sine and cosine of
    the day, the week and the year). group: the column that tells several series apart, each of
    which is scaled by itself. window: rows that are seen. horizon: the next so many rows are
    forecast at once. season: rows of a season, for the baseline; None for that of the dates.
    test_from: the date from which on rows are for testing; None for the last fifth. missing: None
    to refuse missing values, or "forward" for the last known value, "linear" for a straight line
    between the neighbours (of which none is used that comes after the window), "drop" to leave out
    the row, "mask" for "forward" with a feature that marks it. metric: a name of METRICS, or
    MODULE:NAME.

    A value that is missing is never counted as a target. The baseline is the best of persistence,
    of "as one season ago", and for classes of the majority class. Raises TaskError.
    """
    given = {
        "target": target,
        "features": features,
        "group": group,
        "window": window,
        "horizon": horizon,
        "season": season,
        "test_from": test_from,
        "missing": missing,
        "metric": metric,
    }
    given = {key: value for key, value in given.items() if value is not None}
    return _table_task(from_frame(frame, name), name, name, f"the frame {name}", given)


def _table_task(table: Table, title: str, stem: str, source: str, given: dict[str, Any]) -> Task:
    target, features = (_texts(given.get(key)) for key in ("target", "features"))
    missing = _treatment_of_gaps(given)
    columns = choose(table, target or (), features, given.get("group"), missing is not None)
    names = [c.name for c in columns.targets]
    metric = None if "metric" not in given else find_metric(given["metric"])
    return forecast_columns(
        label(stem, *names),
        f"{listed([shown(n) for n in names], 3)} of {title}",
        columns,
        window=given.get("window", WINDOW),
        horizon=given.get("horizon", 1),
        season=given.get("season"),
        missing=missing,
        test_from=given.get("test_from"),
        metric=metric,
        source=source,
    )


def _texts(given: str | Sequence[str] | None) -> tuple[str, ...] | None:
    return given if given is None else (given,) if isinstance(given, str) else tuple(given)


def _treatment_of_gaps(given: dict[str, Any]) -> str | None:
    how: str | None = given.get("missing")
    if how is not None and how not in MISSING:
        raise TaskError(f"missing is one of {', '.join(MISSING)}, not '{shown(str(how))}'")
    return how


def _sequences(file: Path, given: dict[str, Any]) -> Task:
    if misplaced := [name for name in given if name not in DATA_OPTIONS_OF_SEQUENCES]:
        options = " and ".join(f"--{name.replace('_', '-')}" for name in misplaced)
        raise TaskError(
            f"{options} {'belong' if len(misplaced) > 1 else 'belongs'} to tables (CSV, Parquet); "
            f"{file} says itself what its sequences and targets are"
        )
    test, title, missing = 0, file.name, _treatment_of_gaps(given)
    if file.suffix.lower() == ".npz":
        x, y = read_npz(file)
    else:
        x, y, test, title = read_ts(file, missing is not None)
    return sequence_task(
        title,
        x,
        y,
        name=label(Path(title).stem),
        test=test,
        missing=missing,
        metric=None if "metric" not in given else find_metric(given["metric"]),
    )
