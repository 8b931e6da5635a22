"""Rows of a table in the order of groups and time, and where testing begins in each group."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .base import TaskError
from .columns import Column, Columns
from .reading import shown

__all__ = ["FEW", "LEAST", "Rows", "Series", "arranged", "levels_of", "step_of"]

LEAST = 20
"""Windows that are needed at least: 16 for training, 4 for testing."""
FEW = 10
"""A group with fewer rows for training is scaled as all groups together are."""
TESTED = 5  # every fifth window, the latest ones, is for testing

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Series:
    """Columns in the order of groups and time. blocks: the rows of each group. cuts: in each block
    the first row that is for testing."""

    columns: Columns
    blocks: list[slice]
    cuts: list[int]
    window: int
    horizon: int
    missing: str | None

    @property
    def parts(self) -> list[tuple[slice, int]]:
        """The rows and the cut of each group."""
        return list(zip(self.blocks, self.cuts, strict=True))

    @property
    def groups(self) -> Rows:
        """The group of each row."""
        return np.repeat(np.arange(len(self.blocks)), [b.stop - b.start for b in self.blocks])

    @property
    def starts(self) -> Rows:
        """The first row of each group."""
        return np.array([b.start for b in self.blocks])

    @property
    def known(self) -> NDArray[np.bool_]:
        """True for the rows for training."""
        rows = np.zeros(self.blocks[-1].stop, dtype=bool)
        for block, cut in self.parts:
            rows[block.start : block.start + cut] = True
        return rows

    def origins(self, tested: bool) -> Rows:
        """The last row of each window; the `horizon` rows after it are asked for."""
        found = []
        for block, cut in self.parts:
            length = block.stop - block.start
            first, stop = self.window - 1, cut - self.horizon
            if tested:
                first, stop = max(first, cut - 1), length - self.horizon
            found.append(np.arange(first, max(first, stop)) + block.start)
        return np.concatenate(found)


def arranged(
    title: str,
    columns: Columns,
    window: int,
    horizon: int,
    missing: str | None,
    test_from: str | None,
) -> Series:
    """Rows in the order of groups, and where testing begins in each."""
    for name, value in (("window", window), ("horizon", horizon)):
        if value < 1:
            raise TaskError(f"the {name} must be 1 or more rows, not {value}")
    used = [*columns.targets, *columns.features]
    count = len(used[0].values)
    keep = np.ones(count, dtype=bool)
    if missing == "drop":
        keep = ~np.any([c.missing for c in used], axis=0)
    order = np.flatnonzero(keep)
    blocks = [slice(0, len(order))]
    if columns.group is not None:
        order = order[np.argsort(columns.group.values[order], kind="stable")]
        sizes = np.bincount(columns.group.values[order], minlength=len(columns.group.levels))
        ends = np.cumsum(sizes)
        blocks = [slice(int(e - n), int(e)) for e, n in zip(ends, sizes, strict=True) if n]
    arranged = replace(
        columns,
        targets=[_taken(c, order) for c in columns.targets],
        features=[_taken(c, order) for c in columns.features],
        time=None if columns.time is None else _taken(columns.time, order),
    )
    lengths = [b.stop - b.start for b in blocks]
    windows = sum(max(0, n - window - horizon + 1) for n in lengths)
    if windows < LEAST:
        _refuse_short(title, lengths, window, horizon)
    cuts = _cuts(title, arranged, blocks, window, horizon, test_from)
    return Series(arranged, blocks, cuts, window, horizon, missing)


def _taken(column: Column, rows: Rows) -> Column:
    return replace(column, values=column.values[rows])


def _refuse_short(title: str, lengths: list[int], window: int, horizon: int) -> None:
    longest, needed = max(lengths, default=0), window + horizon - 1 + LEAST
    if len(lengths) > 1:
        raise TaskError(
            f"{title} has {len(lengths)} series of at most {longest} rows, which hold fewer than "
            f"{LEAST} windows of {window}: set a smaller --window"
        )
    room = longest - LEAST - horizon + 1
    raise TaskError(
        f"{title} has {longest} values; windows of {window} need {needed} or more"
        + (f": set --window {room} or less" if room > 0 else "")
    )


def _cuts(
    title: str,
    columns: Columns,
    blocks: list[slice],
    window: int,
    horizon: int,
    test_from: str | None,
) -> list[int]:
    """In each block the first row for testing: where the last fifth of all windows begins, at one
    time for all groups if there are dates; or at the date that is asked for."""
    lengths = [b.stop - b.start for b in blocks]
    time = columns.time
    if test_from is not None:
        if time is None:
            raise TaskError(f"{title} has no column of dates that rise, which --test-from needs")
        cut = _date(test_from)
    elif time is not None and len(blocks) > 1:
        firsts = [time.values[b.start + window : b.stop - horizon + 1] for b in blocks]
        asked = np.sort(np.concatenate(firsts))
        cut = asked[len(asked) - len(asked) // TESTED]
    else:
        counts = [max(0, n - window - horizon + 1) for n in lengths]
        return [n - horizon + 1 - c // TESTED for n, c in zip(lengths, counts, strict=True)]
    return [int(np.searchsorted(time.values[b], cut, "left")) for b in blocks]


def _date(text: str) -> np.datetime64:
    import pandas

    try:
        stamp = pandas.to_datetime(text, format="ISO8601", utc=True)
    except (ValueError, TypeError):
        raise TaskError(
            f"--test-from needs a date such as 2024-05-31, not '{shown(text)}'"
        ) from None
    return np.datetime64(stamp.tz_localize(None).to_datetime64())


def step_of(series: Series) -> float:
    """The usual seconds from one row to the next; 0 without dates."""
    time = series.columns.time
    if time is None:
        return 0.0
    steps = np.concatenate([np.diff(time.values[b]) for b in series.blocks])
    steps = steps[steps > np.timedelta64(0, "us")]
    return float(np.median(steps / np.timedelta64(1, "s"))) if len(steps) else 0.0


def levels_of(column: Column, known: NDArray[np.bool_]) -> tuple[Rows, tuple[str, ...]]:
    """Codes by the levels that occur in the rows for training, -1 for others, and their names."""
    present = np.unique(column.values[known & ~column.missing])
    place = np.full(len(column.levels) + 1, -1)
    place[present] = np.arange(len(present))
    return place[column.values], tuple(column.levels[k] for k in present)
