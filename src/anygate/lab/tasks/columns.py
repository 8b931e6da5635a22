"""The kinds of a table's columns: numbers, categories or dates, and which of them a task sees.

Numbers are 1, -1.5, .5 or 1e-3, dates 2024-05-31 with or without a time. Nothing is guessed: a
decimal comma, a text among numbers and an infinity are refused with their place.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .base import TaskError
from .reading import shown
from .tables import NO_NUMBER, NO_VALUE, NUMBER, Table

if TYPE_CHECKING:
    from pandas import Series

__all__ = ["MOST_LEVELS", "Column", "Columns", "choose"]

MOST_LEVELS = 32
"""Different texts of a column that is a category: each becomes a feature of its own."""
_COMMA = re.compile(r"[+-]?[0-9]+(,[0-9]+)+(\.[0-9]+)?|[+-]?[0-9]{1,3}(\.[0-9]{3})*,[0-9]+")
_INFINITE = re.compile(r"[+-]?inf(inity)?", re.IGNORECASE)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}\b.*")


@dataclass(frozen=True)
class Column:
    """One column. kind: "number" with values float64 (missing: NaN), "category" with the numbers
    of its levels (missing: -1), "date" with datetime64 (missing: NaT), or "" for one that cannot
    be used, with the reason in `why`."""

    name: str
    kind: str
    values: NDArray[Any]
    levels: tuple[str, ...] = ()
    why: str = ""

    @property
    def missing(self) -> NDArray[np.bool_]:
        """True where there is no value."""
        if self.kind == "category":
            gaps = self.values < 0
        else:
            gaps = np.isnat(self.values) if self.kind == "date" else np.isnan(self.values)
        return np.asarray(gaps, dtype=bool)


@dataclass(frozen=True)
class Columns:
    """The columns of a table by their use. time: dates that rise with the rows, if there are such.
    group: which series a row belongs to. unused: name -> reason."""

    targets: list[Column]
    features: list[Column]
    time: Column | None = None
    time_is_feature: bool = False
    group: Column | None = None
    unused: dict[str, str] = field(default_factory=dict)


def choose(
    table: Table,
    target: Sequence[str] = (),
    features: Sequence[str] | None = None,
    group: str | None = None,
    allow_missing: bool = False,
) -> Columns:
    """The columns by their use. features: None for all that can be used. Raises TaskError, also
    for missing values unless they are allowed."""
    if table.frame.empty:
        raise TaskError(f"{table.title} has no rows")
    targets = [_index(table, name) for name in target] or [_only_column(table)]
    grouping = None if group is None else _index(table, group)
    if len(set(targets)) < len(targets) or grouping in targets:
        raise TaskError(f"{table.title}: a column is given twice among --target and --group")
    named = None if features is None else [_index(table, name) for name in features]
    read = {k: _column(table, k) for k in targets}
    for column in read.values():
        if column.kind not in ("number", "category"):
            reason = column.why or "holds dates"
            raise TaskError(f"{table.title}: {column.name!r} cannot be forecast: it {reason}")
    groups = None if grouping is None else _groups(table, grouping)
    unused = dict.fromkeys(table.nested, "holds lists")
    seen: list[Column] = []
    dates: list[Column] = []
    codes = None if groups is None else groups.values
    for k in range(len(table.names)):
        if k in read or k == grouping:
            continue
        column = _column(table, k)
        asked = named is not None and k in named
        if column.kind == "date":
            dates.append(column)
        elif named is not None and not asked:
            unused[column.name] = "is not among --features"
        elif not column.kind:
            if asked:
                raise TaskError(f"{table.title}: {column.name!r} cannot be used: it {column.why}")
            unused[column.name] = column.why
        elif not asked and _counts_rows(column, codes):
            unused[column.name] = "counts the rows"
        else:
            seen.append(column)
    time = _time(table, dates, codes)
    wanted = {table.names[k] for k in named} if named is not None else None
    unused |= {
        d.name: "lacks dates" if d.missing.any() else "holds more dates"
        for d in dates
        if d is not time
    }
    found = Columns(
        list(read.values()),
        seen,
        time,
        time is not None and (wanted is None or time.name in wanted),
        groups,
        unused,
    )
    if not allow_missing:
        _refuse_missing(table, [*found.targets, *seen])
    return found


def _names(table: Table) -> str:
    names = ", ".join(repr(shown(name)) for name in table.names[:30])
    return names + (", ..." if len(table.names) > 30 else "")


def _only_column(table: Table) -> int:
    if len(table.names) == 1:
        return 0
    raise TaskError(
        f"say which column of {table.title} to forecast: --target NAME. It has {_names(table)}"
    )


def _index(table: Table, name: str) -> int:
    """The place of a named column."""
    wanted, names = name.strip(), list(table.names)
    if wanted not in names:
        near = difflib.get_close_matches(name.lower(), [n.lower() for n in names], 1, 0.6)
        meant = next((n for n in names if near and n.lower() == near[0]), None)
        hint = f" (did you mean {meant!r}?)" if meant else ""
        raise TaskError(
            f"{table.title} has no column '{shown(name)}'{hint}; it has {_names(table)}"
        )
    if names.count(wanted) > 1:
        raise TaskError(f"{table.title} has {names.count(wanted)} columns '{wanted}'; rename one")
    return names.index(wanted)


def _column(table: Table, k: int) -> Column:
    """Column k as what it is. Raises TaskError for bad cells among numbers."""
    from pandas.api import types

    series: Series[Any] = table.frame.iloc[:, k]
    name, kind = table.names[k], series.dtype
    if types.is_datetime64_any_dtype(kind):
        return Column(name, "date", _as_dates(series))
    if types.is_numeric_dtype(kind) and not types.is_bool_dtype(kind):
        if types.is_complex_dtype(kind):
            return _unusable(name, "holds complex numbers")
        values = series.to_numpy(np.float64, na_value=np.nan)
        if series.isna().all():
            return _unusable(name, "is empty")
        _refuse_bad(table, k, np.isinf(values))
        return Column(name, "number", values)
    return _of_texts(table, k, series)


def _unusable(name: str, why: str) -> Column:
    return Column(name, "", np.empty(0), (), why)


def _factorized(series: Series[Any]) -> tuple[NDArray[np.int64], Series[Any]]:
    """For each row the place of its text among the different ones, -1 for none; and these texts.
    They are what is looked at: a column of a few long texts has as many strings, not a row each."""
    import pandas

    if isinstance(series.dtype, pandas.CategoricalDtype):
        codes, found = series.cat.codes.to_numpy(), series.cat.categories
    else:
        codes, found = pandas.factorize(series)
    texts = pandas.Series(found, dtype=object).astype(str).str.strip()
    return codes.astype(np.int64), texts.reset_index(drop=True)


def _of_texts(table: Table, k: int, series: Series[Any]) -> Column:
    import pandas

    name = table.names[k]
    try:
        codes, texts = _factorized(series)
    except TypeError:
        return _unusable(name, "holds lists")
    small, counts = texts.str.lower(), np.bincount(codes[codes >= 0], minlength=len(texts))
    named, given = (~small.isin(words).to_numpy() for words in (NO_NUMBER, NO_VALUE))
    rows = counts[named].sum()
    if not rows:
        return _unusable(name, "is empty")

    def matching(pattern: re.Pattern[str]) -> NDArray[np.bool_]:
        return np.asarray(texts.str.fullmatch(pattern).to_numpy(dtype=bool) & named)

    number = matching(NUMBER)
    meant = number | matching(_COMMA) | matching(_INFINITE)
    if 2 * counts[meant].sum() >= rows:
        _refuse_bad(table, k, np.append(named & ~number, False)[codes])
        numbers = np.full(len(texts) + 1, np.nan)
        numbers[:-1][number] = texts[number].astype(np.float64)
        values = numbers[codes]
        _refuse_bad(table, k, np.isinf(values))
        return Column(name, "number", values)
    if 2 * counts[matching(_DATE)].sum() >= rows:
        dates = pandas.to_datetime(texts[named], format="ISO8601", errors="coerce", utc=True)
        if not dates.isna().any():
            times = np.append(_as_dates(dates.reindex(texts.index)), np.datetime64("NaT"))
            return Column(name, "date", times[codes])
    places, levels = pandas.factorize(texts[given], sort=True)
    if len(levels) > MOST_LEVELS:
        return _unusable(name, f"is text with {len(levels):,} different values")
    categories = np.full(len(texts) + 1, -1)
    categories[:-1][given] = places
    return Column(name, "category", categories[codes], tuple(levels))


def _as_dates(series: Series[Any]) -> NDArray[np.datetime64]:
    if series.dt.tz is not None:
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    return np.asarray(series.to_numpy("datetime64[us]"))


def _refuse_bad(table: Table, k: int, bad: NDArray[np.bool_]) -> None:
    """Raise TaskError for the first cell that is no number, if there is one."""
    if not bad.any():
        return
    place, cell = table.cell(int(bad.argmax()), k)
    others = int(bad.sum()) - 1
    raise TaskError(
        f"{place}, column {table.names[k]!r}: {_complaint(cell)}"
        + (f" (and {others} more bad cells)" if others else "")
    )


def _complaint(cell: str) -> str:
    told = repr(cell if len(cell) <= 40 else cell[:37] + "...")
    if NUMBER.fullmatch(cell):
        return f"{told} is too large for a number"
    if _INFINITE.fullmatch(cell):
        return f"{told} is not finite; fill in a number or remove the row"
    if _COMMA.fullmatch(cell):
        return f"{told} has a comma; write a decimal point, and nothing between thousands"
    return f"{told} is not a number"


def _refuse_missing(table: Table, columns: Sequence[Column]) -> None:
    """Raise TaskError for the first missing value, if there is one."""
    for column in columns:
        if not (missing := column.missing).any():
            continue
        place, cell = table.cell(int(missing.argmax()), table.names.index(column.name))
        others = sum(int(c.missing.sum()) for c in columns) - 1
        raise TaskError(
            f"{place}, column {column.name!r}: the value is missing ({cell!r}); fill it in, or say "
            "--missing forward, linear, drop or mask"
            + (f" (and {others} more missing values)" if others else "")
        )


def _groups(table: Table, k: int) -> Column:
    """The group of every row: any text or number, but none missing."""
    import pandas

    series = table.frame.iloc[:, k]
    if series.isna().any():
        place, _ = table.cell(int(np.asarray(series.isna()).argmax()), k)
        raise TaskError(f"{place}, column {table.names[k]!r}: the group is missing")
    codes, texts = _factorized(series)
    places, levels = pandas.factorize(texts, sort=True)
    return Column(table.names[k], "category", places[codes], tuple(levels))


def _counts_rows(column: Column, groups: NDArray[Any] | None) -> bool:
    """True for 1, 2, 3, ... and the like, within each group."""
    if column.kind != "number" or len(column.values) < 3:
        return False
    step = np.diff(column.values)
    if groups is not None:
        step = step[groups[1:] == groups[:-1]]
    return len(step) > 0 and step[0] != 0 and bool((step == step[0]).all())


def _time(table: Table, dates: list[Column], groups: NDArray[Any] | None) -> Column | None:
    """The first column of dates, whole and rising with the rows of each group. Raises TaskError if
    there are dates and none rises."""
    order = np.arange(len(table.frame)) if groups is None else np.argsort(groups, kind="stable")
    first_fall = None
    for column in dates:
        if np.isnat(column.values).any():
            continue
        ordered = column.values[order]
        falls = ordered[1:] < ordered[:-1]
        if groups is not None:
            falls &= groups[order][1:] == groups[order][:-1]
        if not falls.any():
            return column
        row = int(falls.argmax())
        first_fall = first_fall or (column, order[row], order[row + 1])
    if first_fall is None:
        return None
    column, before, after = first_fall
    k = table.names.index(column.name)
    raise TaskError(
        f"{table.title}: the rows are not in the order of time ('{table.cell(before, k)[1]}' comes "
        f"before '{table.cell(after, k)[1]}' in column {column.name!r}); sort them, oldest first"
        + ("" if groups is not None else ", or name the column that tells series apart: --group")
    )
