"""Targets of a forecast, and the scores of answers that need no learning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .arrangement import FEW, Rows, Series, levels_of
from .base import TaskError
from .gaps import filled_forward, root_mean_square
from .metrics import IGNORE, Metric
from .sizes import LARGEST

__all__ = ["Asked", "baseline", "labels", "too_large", "values"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """The targets by the last row of the window. y [R, K] values or [R] classes. naive: a season
    of s rows -> what "as one season ago" answers for these rows."""

    y: NDArray[np.float32] | NDArray[np.int64]
    outputs: int
    values: int
    persistence: Callable[[Rows], NDArray[np.float32]]
    naive: Callable[[Rows, int], NDArray[np.float32] | None]
    majority: NDArray[np.float32] | None = None

    def kept(self, origins: Rows) -> Rows:
        """The rows for which anything is asked."""
        y = self.y[origins]
        return origins[y != IGNORE] if y.ndim == 1 else origins[~np.isnan(y).all(1)]

    def of(self, origins: Rows) -> NDArray[Any]:
        """The targets of these windows, [N] or [N, K]."""
        y = self.y[origins]
        return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y

    def check(self, title: str, test: Rows) -> None:
        """Raise TaskError where every forecast is trivial."""
        y = self.y[test]
        if y.ndim == 2 and not np.nan_to_num(y).any():
            raise TaskError(
                f"the last fifth of {title} is constant: every forecast of it is trivial"
            )


def values(title: str, series: Series) -> Asked:
    """The changes of each target from the last known row to each of the next ones, over their root
    mean square in training: so the answer 0 is "as the last one", and a series that grows gives no
    targets in its last part that its beginning never had."""
    targets = np.stack([c.values for c in series.columns.targets], -1)
    total, horizon = len(targets), series.horizon
    if (size := targets.size * horizon * 8) > LARGEST:
        raise TaskError(
            f"{title}: {targets.size:,} values {horizon:,} rows ahead hold {size >> 20:,} MiB; at "
            f"most {LARGEST >> 20} are made: set a smaller --horizon"
        )
    base = np.concatenate([filled_forward(targets[b]) for b in series.blocks])
    y = np.full((total, horizon, targets.shape[1]), np.nan)
    spread = np.ones((len(series.blocks), *y.shape[1:]))
    with np.errstate(over="ignore", invalid="ignore"):
        for block in series.blocks:
            for h in range(1, min(horizon, block.stop - block.start - 1) + 1):
                now = slice(block.start, block.stop - h)
                y[now, h - 1] = targets[block.start + h : block.stop] - base[now]
        pooled = root_mean_square(np.concatenate([_trained(y, *b) for b in series.parts]))
        if (pooled == 0).any():
            raise TaskError(f"{title} is constant where it is for training: nothing can be learned")
        for k, (block, cut) in enumerate(series.parts):
            own = root_mean_square(_trained(y, block, cut))
            spread[k] = np.where((own > 0) & (cut >= FEW), own, pooled)
            y[block] /= spread[k]
        scaled = y.reshape(total, -1).astype(np.float32)
        finite = np.isfinite(pooled).all() and np.isfinite(root_mean_square(y)).all()
    if not finite or np.isinf(scaled).any():
        raise TaskError(too_large(title, targets))
    group_of, starts = series.groups, series.starts

    def naive(origins: Rows, season: int) -> NDArray[np.float32] | None:
        found = np.empty((len(origins), horizon, targets.shape[1]))
        for h in range(1, horizon + 1):
            ago = origins + h - season * -(-h // season)
            if (ago < starts[group_of[origins]]).any():
                return None
            found[:, h - 1] = (base[ago] - base[origins]) / spread[group_of[origins], h - 1]
        answer = np.nan_to_num(found.reshape(len(origins), -1))
        return answer.astype(np.float32)

    width = scaled.shape[1]
    return Asked(
        scaled, width, width, lambda origins: np.zeros((len(origins), width), np.float32), naive
    )


def _trained(y: Array, block: slice, cut: int) -> Array:
    """The changes [R, horizon, targets] that lie within the rows for training."""
    part = y[block.start : block.start + cut].copy()
    for h in range(1, part.shape[1] + 1):
        part[max(0, len(part) - h) :, h - 1] = np.nan
    return part


def labels(title: str, series: Series) -> Asked:
    """The class of the next row, of those that training has."""
    codes, levels = levels_of(series.columns.targets[0], series.known)
    if len(levels) < 2:
        raise TaskError(f"{title} has one class only where it is for training")
    y = np.full(len(codes), IGNORE)
    known = codes.copy()
    for block in series.blocks:
        part = codes[block]
        y[block][:-1] = np.where(part[1:] < 0, IGNORE, part[1:])
        known[block] = np.maximum(
            filled_forward(np.where(part < 0, np.nan, part)[:, None]).ravel(), -1
        )
    counts = np.bincount(codes[series.known & (codes >= 0)], minlength=len(levels))

    def answers(rows: Rows) -> NDArray[np.float32]:
        return np.eye(len(levels) + 1, dtype=np.float32)[known[rows], :-1] * 100

    def naive(origins: Rows, season: int) -> NDArray[np.float32] | None:
        ago = origins + 1 - season
        return answers(ago) if (ago >= series.starts[series.groups[origins]]).all() else None

    majority = np.log((counts + 0.5) / (counts + 0.5).sum()).astype(np.float32)
    return Asked(y, len(levels), 1, answers, naive, majority)


def baseline(asked: Asked, metric: Metric, test: Rows, season: int | None) -> tuple[float, str]:
    """The score and the name of the best answer that needs no learning."""
    answers: dict[str, NDArray[np.float32] | None] = {"persistence": asked.persistence(test)}
    if season is not None:
        answers["seasonal naive"] = asked.naive(test, season)
    if asked.majority is not None:
        answers["majority class"] = np.tile(asked.majority, (len(test), 1))
    wanted = torch.from_numpy(asked.of(test).copy())
    scores = {
        name: metric.score(torch.from_numpy(answer), wanted)
        for name, answer in answers.items()
        if answer is not None
    }
    best = (max if metric.higher_is_better else min)(scores, key=scores.__getitem__)
    return float(scores[best]), best


def too_large(title: str, values: Array) -> str:
    """The sentence for numbers whose squares are not finite."""
    largest = np.abs(values[~np.isnan(values)]).max()
    return f"{title} holds values too large to be scaled, up to {largest:g}"
