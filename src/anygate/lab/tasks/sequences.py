"""Sequences of one length or of uneven ones: naming the class of each, or telling its value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .base import Data, Settings, Task, TaskError
from .gaps import filled_forward, filled_linear, moments
from .metrics import ACCURACY, RELATIVE_ERROR, Metric
from .reading import digest, label
from .sizes import LARGEST, passes

__all__ = ["LEAST", "Padded", "pad", "sequence_task"]

LEAST = 10
"""Sequences that are needed at least."""
_TESTED = 5  # a fifth is for testing
_AT_ONCE = 256  # sequences that are scaled together

Features = NDArray[np.float32]
Lengths = NDArray[np.int64]


@dataclass(frozen=True)
class Padded:
    """Sequences x [N, T, I] with 0 after each one's end. lengths [N], None if all have T steps."""

    x: Features
    lengths: Lengths | None = None


def pad(title: str, sequences: Sequence[Any]) -> Padded:
    """Sequences [T_k, I] or [T_k] of uneven lengths as one array; that of all of them together is
    known before it is made. Raises TaskError."""
    arrays = [np.asarray(s) for s in sequences]
    shapes = {a.shape[1:] for a in arrays}
    if len(shapes) > 1 or any(a.ndim not in (1, 2) for a in arrays):
        raise TaskError(f"{title}: every sequence must be [T, I] or [T], with the same I")
    lengths = np.array([len(a) for a in arrays], dtype=np.int64)
    longest, features = int(lengths.max(initial=0)), int(np.prod(shapes.pop() if shapes else (0,)))
    check_size(title, len(arrays), longest, features)
    x = np.zeros((len(arrays), longest, features), np.float32)
    with np.errstate(over="ignore"):
        for k, array in enumerate(arrays):
            x[k, : len(array)] = array.reshape(len(array), features)
    return Padded(x, None if (lengths == longest).all() else lengths)


def check_size(title: str, count: int, longest: int, features: int) -> None:
    """Raise TaskError if sequences padded to the longest hold too much."""
    if (size := 4 * count * longest * features) > LARGEST:
        raise TaskError(
            f"{title}: {count:,} sequences, padded to the longest of {longest:,} steps, hold "
            f"{size >> 20:,} MiB; at most {LARGEST >> 20} are read: cut the longest ones, or leave "
            "out sequences"
        )


def sequence_task(
    title: str,
    x: Padded | Any,
    y: NDArray[Any] | Sequence[Any],
    *,
    name: str | None = None,
    test: int = 0,
    missing: str | None = None,
    metric: Metric | None = None,
) -> Task:
    """The task of naming the class of each sequence, or of telling its value.

    x: an array [N, T, I] or [N, T], or N sequences [T_k, I] of uneven lengths. y [N]: whole numbers
    or texts are classes, fractions values, of which each sequence may have several ([N, K]); a
    metric of values makes values of whole numbers too. test: the number of sequences at the end
    that are for testing; 0 for a fifth that the seed draws. missing: what stands for NaN (see
    MISSING). Raises TaskError.
    """
    made = x if isinstance(x, Padded) else _as_padded(title, x)
    targets = np.asarray(y)
    _check_count(title, made, targets)
    given = made
    made, marks = _without_gaps(title, made, missing)
    notes = _gaps_sentence(given, missing)
    known = _valid(made)
    if (made.x[known] == made.x[known][0]).all():
        raise TaskError(f"{title}: x is the same number everywhere: nothing can be learned")
    classes = _are_classes(title, targets, metric)
    names: tuple[str, ...] = ()
    if classes:
        targets, names = _class_numbers(title, targets)
    else:
        targets = targets.astype(np.float64)
        targets = targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
    count, steps, _ = made.x.shape
    judged = metric or (ACCURACY if classes else RELATIVE_ERROR)
    level, level_name = _baseline(targets, judged, len(names), test)
    batch = min(32, max(4, count // 8))
    extra = () if made.lengths is None else (made.lengths,)
    options = [w for w in (missing, None if metric is None else metric.name) if w]
    return Task(
        name=name or label(title),
        title=title,
        description=" ".join(
            [
                _description(made, marks, names),
                _split_sentence(test),
                *([] if classes else [_SCALED]),
                *notes,
            ]
        ),
        metric=judged,
        baseline=level,
        solved=None,
        steps=steps,
        outputs=len(names) if classes else _width(targets),
        make=partial(_split, made.x, targets, test, *extra),
        settings=Settings(epochs=passes(count, batch, 600), batch_size=batch, learning_rate=0.005),
        data=digest(made.x, targets, *names, f"{test} for testing", *extra, *options),
        source=f"the file {title}",
        baseline_name=level_name,
        same_data=bool(test),
        notes=notes,
    )


def _width(targets: NDArray[Any]) -> int:
    return 1 if targets.ndim == 1 else int(targets.shape[1])


def _as_padded(title: str, x: Any) -> Padded:
    if not isinstance(x, np.ndarray | torch.Tensor):
        return pad(title, x)
    array = np.asarray(x)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.dtype.kind not in "biuf":
        raise TaskError(
            f"{title}: x must be [N, T, I] or [N, T] of real numbers, or a list of sequences "
            f"[T, I], not {list(array.shape)} of {array.dtype}"
        )
    with np.errstate(over="ignore"):
        return Padded(array.astype(np.float32))


def _check_count(title: str, made: Padded, y: NDArray[Any]) -> None:
    count, steps, features = made.x.shape
    if len(y) != count:
        raise TaskError(f"{title} has {count} sequences and {len(y)} classes or values")
    if count < LEAST:
        raise TaskError(f"{title} has {count} sequences; {LEAST} or more are needed")
    if not steps or not features or (made.lengths is not None and made.lengths.min() < 1):
        least = steps if made.lengths is None else made.lengths.min()
        raise TaskError(f"{title} has sequences of {least} steps with {features} features")


def _valid(made: Padded) -> NDArray[np.bool_]:
    """[N, T]: True for the steps that there are."""
    count, steps, _ = made.x.shape
    if made.lengths is None:
        return np.ones((count, steps), dtype=bool)
    return np.arange(steps) < made.lengths[:, None]


# ---- missing values -------------------------------------------------------------------------


def _without_gaps(title: str, made: Padded, missing: str | None) -> tuple[Padded, int]:
    """The sequences with gaps treated as `missing` says, and the number of marks among the
    features. NaN is left where nothing is known before: it becomes the mean of training."""
    x = made.x
    finite = np.isfinite(x)
    if finite.all():
        return made, 0
    gaps = np.isnan(x)
    if not (finite | gaps).all() or missing is None:
        wrong = ~finite if missing is None else ~finite & ~gaps
        n, t, i = np.unravel_index(np.argmax(wrong), x.shape)
        remedy = (
            ""
            if missing or not gaps[n, t, i]
            else (", or say --missing forward, linear, drop or mask")
        )
        raise TaskError(
            f"{title}: x[{n}, {t}, {i}] is {x[n, t, i]}; fill in a finite number{remedy}"
        )
    valid = _valid(made)
    if missing == "drop":
        return _dropped(title, x, valid & ~gaps.any(2)), 0
    fill = filled_linear if missing == "linear" else filled_forward
    marked = np.flatnonzero(gaps.any((0, 1))) if missing == "mask" else np.empty(0, dtype=int)
    check_size(title, len(x), x.shape[1], x.shape[2] + len(marked))
    filled = x.copy()
    for n in np.flatnonzero(gaps.any((1, 2))):
        length = int(valid[n].sum())
        filled[n, :length] = fill(x[n, :length].astype(np.float64))
    marks = gaps[:, :, marked].astype(np.float32)
    return Padded(np.concatenate([filled, marks], -1), made.lengths), len(marked)


def _dropped(title: str, x: Features, kept: NDArray[np.bool_]) -> Padded:
    """The steps that are kept, moved together."""
    if not kept.any(1).all():
        n = int((~kept.any(1)).argmax())
        raise TaskError(f"{title}: sequence {n} has no step without a missing value")
    return pad(title, [row[keep] for row, keep in zip(x, kept, strict=True)])


# ---- targets --------------------------------------------------------------------------------

_SCALED = (
    "The values are centred and scaled by the part for training; the relative error is the root "
    "mean square error over that of answering their mean."
)


def _are_classes(title: str, y: NDArray[Any], metric: Metric | None) -> bool:
    """True if the targets are classes. Raises TaskError for what is neither classes nor values, or
    not what the metric judges."""
    if y.ndim not in (1, 2) or y.dtype.kind not in "biufU" or 0 in y.shape:
        raise TaskError(
            f"{title}: y must hold classes (whole numbers or texts) [N], or values [N] or [N, K], "
            f"not {list(y.shape)} of {y.dtype}"
        )
    numbers = y.dtype.kind in "iuf"
    whole = y.dtype.kind != "f" or (np.isfinite(y).all() and (y == np.round(y)).all())
    if metric is not None:
        if not metric.of_classes and not numbers:
            raise TaskError(f"{title} has classes; the metric {metric.name} judges values")
        if metric.of_classes and not whole:
            raise TaskError(f"{title} has values; the metric {metric.name} judges classes")
        classes = metric.of_classes
    else:
        classes = whole
    if classes and y.ndim == 2:
        raise TaskError(f"{title}: y must hold one class for each sequence, not {list(y.shape)}")
    if not classes:
        _check_values(title, y)
    return classes


def _check_values(title: str, y: NDArray[Any]) -> None:
    with np.errstate(over="ignore"):
        if not np.isfinite(np.square(y.astype(np.float64))).all():
            raise TaskError(f"{title}: y must hold finite values, of which the squares are finite")
    if (y == y[0]).all(0).any():
        raise TaskError(f"{title} has the same value for every sequence: nothing can be learned")


def _class_numbers(title: str, labels: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    names, y = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise TaskError(f"{title} has one class only, {str(names[0])!r}: nothing can be told apart")
    if len(names) > len(labels) // 2:
        raise TaskError(
            f"{title} has {len(names)} classes for {len(labels)} sequences; two or more sequences "
            "of each class are needed. If they are values, say --metric relative_error"
        )
    return y.astype(np.int64), tuple(map(str, names))


def _baseline(y: NDArray[Any], metric: Metric, classes: int, test: int) -> tuple[float, str]:
    """The score of an answer that does not look: the shares of the classes, or the mean."""
    tested = y[len(y) - test :] if test else y
    if not classes:
        mean, spread = moments((y[: len(y) - test]).reshape(len(y) - test, -1).astype(np.float64))
        scaled = (tested.reshape(len(tested), -1) - mean) / np.where(spread > 0, spread, 1)
        wanted = torch.from_numpy(scaled.reshape(tested.shape).astype(np.float32))
        answer = torch.zeros(len(tested), scaled.shape[1])
        return float(metric.score(answer, wanted)), "the mean"
    counts = np.bincount(tested, minlength=classes)
    if metric is ACCURACY:
        return float(counts.max() / counts.sum()), "majority class"
    shares = torch.from_numpy((counts + 0.5) / (counts + 0.5).sum()).log().float()
    answer = shares.expand(len(tested), classes)
    return float(metric.score(answer, torch.from_numpy(tested))), "majority class"


# ---- data -----------------------------------------------------------------------------------


def _split(x: Features, y: NDArray[Any], test: int, *lengths_and_seed: Any) -> Data:
    """Each feature is centred and scaled by the part for training, and so are values."""
    *extra, seed = lengths_and_seed
    made = Padded(x, *extra)
    order = np.arange(len(x)) if test else np.random.default_rng(seed).permutation(len(x))
    split = len(x) - (test or len(x) // _TESTED)
    inputs = torch.from_numpy(_scaled(made, order[:split])[order])
    if y.dtype.kind == "f":
        mean, spread = moments(y[order[:split]].reshape(split, -1))
        scaled = (y.reshape(len(y), -1) - mean) / np.where(spread > 0, spread, 1)
        y = scaled.reshape(y.shape).astype(np.float32)
    targets = torch.from_numpy(y[order])
    lengths = None if made.lengths is None else torch.from_numpy(made.lengths[order])
    return Data(
        inputs[:split],
        targets[:split],
        inputs[split:],
        targets[split:],
        None if lengths is None else lengths[:split],
        None if lengths is None else lengths[split:],
        1 if y.ndim == 1 else y.shape[1],
    )


def _scaled(made: Padded, trained: NDArray[np.int64]) -> Features:
    """x centred and scaled by these sequences; 0 where nothing is known, and after their ends."""
    x, valid = made.x, _valid(made)
    known = x[trained][valid[trained]].astype(np.float64)
    whole = made.lengths is None and not np.isnan(x).any()
    with np.errstate(over="ignore", invalid="ignore"):
        mean, spread = (known.mean(0), known.std(0)) if whole else moments(known)
        scale = np.where(spread > 0, spread, 1)
        scaled = np.empty_like(x)
        for start in range(0, len(x), _AT_ONCE):  # in float64, of which all is too much at once
            part = slice(start, start + _AT_ONCE)
            scaled[part] = (x[part] - mean) / scale
    if not whole:
        scaled[~valid] = 0
        scaled[np.isnan(scaled)] = 0
    return scaled


# ---- sentences ------------------------------------------------------------------------------


def _description(made: Padded, marks: int, names: tuple[str, ...]) -> str:
    count, steps, features = made.x.shape
    own = features - marks
    long = f"{steps}" if made.lengths is None else f"{made.lengths.min()} to {steps}"
    of = f"of {count} sequences of {long} steps with {own} feature{'s' * (own > 1)}"
    if marks:
        of += f" and {marks} mark{'s' * (marks > 1)} of what is missing"
    if not names:
        return f"Tell the value {of}."
    return f"Name the class of each {of}; there are {len(names)} classes."


def _gaps_sentence(given: Padded, missing: str | None) -> tuple[str, ...]:
    count = int(np.isnan(given.x).sum())
    return (f"Missing values, treated as '{missing}': {count:,}.",) if count else ()


def _split_sentence(test: int) -> str:
    if test:
        return f"The {test} of the test file are for testing, for every seed."
    return "A fifth, which the seed draws, is for testing."
