"""The inputs of a forecast at each row: numbers, categories, dates, and marks of what is
missing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .arrangement import FEW, Rows, Series, levels_of, step_of
from .base import TaskError
from .columns import Column
from .dates import cycles
from .gaps import filled_forward, filled_linear, moments, next_known, root_mean_square
from .reading import listed, shown
from .sizes import LARGEST
from .targets import too_large

__all__ = ["Inputs"]

Array = NDArray[np.float64]
Features = NDArray[np.float32]


class Inputs:
    """The features of every row, [R, I]: of each target its value and its change from the row
    before, the other numbers, categories as one feature for each level, dates as sine and cosine.

    forward, next_known: with straight lines over gaps, what stands for a value while the next known
    one, whose row is given, lies after the window; else None.
    """

    def __init__(self, title: str, series: Series) -> None:
        self.series, self.title = series, title
        self.notes: list[str] = []
        self.sentences: list[str] = []
        columns, known = series.columns, series.known
        numbers = [c for c in columns.targets if c.kind == "number"]
        changing = len(numbers)
        numbers += [c for c in columns.features if c.kind == "number" and self._varies(c)]
        texts = [c for c in (*columns.targets, *columns.features) if c.kind == "category"]
        levels = [levels_of(c, known) for c in texts]
        marked = (
            [c for c in (*numbers, *texts) if c.missing.any()] if series.missing == "mask" else []
        )
        circles = self._circles()
        features = (
            len(numbers)
            + changing
            + sum(len(names) for _, names in levels)
            + len(marked)
            + 2 * len(circles)
        )
        self._check_size(features)
        values = np.stack([c.values for c in numbers], -1) if numbers else np.empty((len(known), 0))
        linear = series.missing == "linear" and bool(np.isnan(values).any())
        others = [_one_hot(codes, len(names), series) for codes, names in levels]
        others += circles.values()
        others += [c.missing[:, None].astype(np.float32) for c in marked]
        scaled = self._scaled(values, changing, filled_linear if linear else filled_forward)
        self.rows = np.concatenate([scaled, *others], -1)
        self.forward: Features | None = None
        self.next_known: Rows | None = None
        if linear:
            plain = self._scaled(values, changing, filled_forward)
            self.forward = np.concatenate([plain, *others], -1)
            self.next_known = self._next_known(values, changing, self.rows.shape)
        self._describe(numbers, texts, levels, circles)

    def _varies(self, column: Column) -> bool:
        present = column.values[self.series.known & ~column.missing]
        if len(present) and (present != present[0]).any():
            return True
        self.series.columns.unused[column.name] = "is constant where it is for training"
        return False

    def _circles(self) -> dict[str, Features]:
        time = self.series.columns.time
        if time is None or not self.series.columns.time_is_feature:
            return {}
        step = step_of(self.series)
        trained = time.values[self.series.known]
        span = (trained.max() - trained.min()) / np.timedelta64(1, "s") if len(trained) else 0.0
        return cycles(time.values, step, span)

    def _check_size(self, features: int) -> None:
        series = self.series
        count = sum(len(series.origins(tested)) for tested in (False, True))
        if (size := count * series.window * features * 4) > LARGEST:
            most = LARGEST // (4 * features) // max(count, 1)
            raise TaskError(
                f"{self.title}: {count:,} windows of {series.window:,} values hold "
                f"{size / 2**20:,.0f} MiB; at most {LARGEST >> 20} are made: set --window {most} "
                "or less, or leave out rows or columns"
            )

    def _scaled(self, values: Array, changing: int, fill: Callable[[Array], Array]) -> Features:
        """Numbers [R, V], centred and scaled by the rows for training of their group, with the
        changes of the first so many after them; 0 where nothing is known yet."""
        known = self.series.known
        filled = np.concatenate([fill(values[b]) for b in self.series.blocks])
        plain = np.concatenate([filled_forward(values[b]) for b in self.series.blocks])
        with np.errstate(over="ignore", invalid="ignore"):
            change = _changes(filled[:, :changing], self.series.blocks)
            steps = _changes(plain[:, :changing], self.series.blocks)
            mean, spread = moments(values[known])
            pooled = root_mean_square(_within(steps, self.series))
            for block, cut in self.series.parts:
                part = slice(block.start, block.start + cut)
                own_mean, own_spread = moments(values[part])
                use = (own_spread > 0) & (cut >= FEW)
                centre, width = np.where(use, own_mean, mean), np.where(use, own_spread, spread)
                filled[block] = (filled[block] - centre) / np.where(width > 0, width, 1)
                own_step = root_mean_square(steps[part][1:])
                step = np.where((own_step > 0) & (cut >= FEW), own_step, pooled)
                change[block] /= np.where(step > 0, step, 1)
            # A target's value and its change stand side by side, as they did when there was one.
            pairs = np.stack([filled[:, :changing], change], -1).reshape(len(filled), -1)
            found = np.concatenate([pairs, filled[:, changing:]], -1).astype(np.float32)
        if np.isinf(found).any() or not np.isfinite([*mean, *spread, *pooled]).all():
            raise TaskError(too_large(self.title, values))
        return np.nan_to_num(found)

    def _next_known(self, values: Array, changing: int, shape: tuple[int, ...]) -> Rows:
        """[R, I], of every feature; -1 for those without gaps."""
        rows = np.concatenate([next_known(values[b]) + b.start for b in self.series.blocks])
        found = np.full(shape, -1)
        pairs = np.repeat(rows[:, :changing], 2, axis=1)
        both = np.concatenate([pairs, rows[:, changing:]], -1)
        found[:, : both.shape[1]] = both
        return found

    def _describe(
        self,
        numbers: list[Column],
        texts: list[Column],
        levels: list[tuple[Rows, tuple[str, ...]]],
        circles: dict[str, Features],
    ) -> None:
        seen = [shown(c.name) for c in numbers]
        seen += [
            f"{shown(c.name)} ({len(names)} categories)"
            for c, (_, names) in zip(texts, levels, strict=True)
        ]
        time = self.series.columns.time
        if circles and time is not None:
            seen.append(f"{shown(time.name)} ({', '.join(circles)})")
        if len(seen) > 1:
            self.sentences.append(f"Seen in each row: {listed(seen)}.")
        gaps = {c.name: int(c.missing.sum()) for c in (*numbers, *texts) if c.missing.any()}
        if gaps:
            told = [f"{shown(name)} ({count:,})" for name, count in gaps.items()]
            self.notes.append(
                f"Missing values, treated as '{self.series.missing}': {listed(told)}."
            )
        for column, (codes, names) in zip(texts, levels, strict=True):
            later = int((codes < 0).sum() - column.missing.sum())
            if later:
                self.notes.append(
                    f"{later:,} rows have a value of {shown(column.name)!r} that training does not "
                    f"have; it counts as none of its {len(names)}."
                )


def _changes(values: Array, blocks: list[slice]) -> Array:
    return np.concatenate([np.diff(values[b], prepend=values[b][:1], axis=0) for b in blocks])


def _within(steps: Array, series: Series) -> Array:
    """The changes within the rows for training."""
    return np.concatenate([steps[b.start + 1 : b.start + cut] for b, cut in series.parts])


def _one_hot(codes: Rows, count: int, series: Series) -> Features:
    """[R, count]; the last known level in a gap."""
    table = np.eye(count + 1, count, dtype=np.float32)
    parts = []
    for block in series.blocks:
        part = np.where(codes[block] < 0, np.nan, codes[block])[:, None]
        filled = filled_forward(part).ravel()
        parts.append(table[np.where(np.isnan(filled), count, filled).astype(np.int64)])
    return np.concatenate(parts)
