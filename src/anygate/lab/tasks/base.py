"""Tasks: data as sequences, a metric with its baseline and a solved level, settings."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from ..settings import Settings, TaskError
from .metrics import IGNORE, Metric

__all__ = ["Data", "Settings", "Task", "TaskError", "packed"]


@dataclass(frozen=True)
class Data:
    """Sequences x [N, T, I] float32 and targets y: [N] for an output after the last step, [N, T]
    for one at every step. Targets are int64 classes or float32 values; steps with the class
    IGNORE or the value NaN do not count. test_y may count fewer steps than train_y: the metric is
    taken where it counts, the training where it helps.

    train_lengths, test_lengths [N] int64: the steps that each sequence has, from 1 to T, where they
    are uneven; what x holds after them is never seen. values: the numbers of one target; where it
    has several, such as the next twelve months, y has a last axis of so many.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    train_lengths: Tensor | None = None
    test_lengths: Tensor | None = None
    values: int = 1

    @property
    def every_step(self) -> bool:
        """True if there is an output at every time step."""
        return self.train_y.dim() == (2 if self.values == 1 else 3)

    @property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of all numbers and shapes."""
        content = hashlib.sha256()
        for part in fields(self):
            tensor = getattr(self, part.name)
            if isinstance(tensor, Tensor):
                content.update(f"{part.name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                content.update(tensor.contiguous().numpy().tobytes())
        return content.hexdigest()[:16]

    def first(self, train: int, test: int) -> Data:
        """The first so many sequences for training and for testing."""
        cut = {"train": train, "test": test}
        tensors: dict[str, Any] = {
            part.name: tensor[: cut[part.name.partition("_")[0]]]
            for part in fields(self)
            if isinstance(tensor := getattr(self, part.name), Tensor)
        }
        return replace(self, **tensors)


def packed(x: Tensor, lengths: Tensor | None) -> Tensor | PackedSequence:
    """x [T, B, I] as a layer takes it: itself, or packed where the B lengths are uneven."""
    if lengths is None:
        return x
    return pack_padded_sequence(x, lengths, enforce_sorted=False)


@dataclass(frozen=True)
class Task:
    """One task.

    baseline: what the best answer reaches that does not look at the sequence (it may depend on the
    time step), or what baseline_name says instead. solved: the level that counts as solved, None
    if there is none. steps: T, of the longest sequence where they are uneven. outputs: the number
    of classes, or of the values of a target. make: seed -> Data;
    the seed decides which sequences are for training, unless same_data. data: what identifies data
    that do not follow from the name and the seed, such as a digest; part of every trial's key.
    source: who defined the task. needs: modules that must be installed. notes: sentences on the
    data that whoever starts a study should read, such as the columns that are not used.
    """

    name: str
    title: str
    description: str
    metric: Metric
    baseline: float
    solved: float | None
    steps: int
    outputs: int
    make: Callable[[int], Data]
    settings: Settings = field(default_factory=Settings)
    data: str = ""
    source: str = ""
    needs: tuple[str, ...] = ()
    baseline_name: str = "guessing"
    same_data: bool = False
    notes: tuple[str, ...] = ()

    @property
    def higher_is_better(self) -> bool:
        """Accuracy is better when larger, an error when smaller."""
        return self.metric.higher_is_better

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """The loss, which training makes small. output [B, outputs] or [B, T, outputs]."""
        return self.metric.loss(output, target)

    def score(self, output: Tensor, target: Tensor) -> float:
        """The metric on all test sequences."""
        return self.metric.score(output, target)

    def load(self, seed: int) -> Data:
        """Make the data and check them. Raises TaskError where they are not as :class:`Data` and
        this task say."""
        data = self.make(seed)
        if not isinstance(data, Data):
            raise TaskError(f"{self._make_name} must return Data, not {type(data).__name__}")
        for part in ("train", "test"):
            x, y, lengths = (getattr(data, f"{part}_{name}") for name in ("x", "y", "lengths"))
            self._check(data, part, x, y)
            self._check_lengths(data, part, lengths)
        if data.train_x.shape[2] != data.test_x.shape[2]:
            raise TaskError(
                f"{self._make_name}: train_x has {data.train_x.shape[2]} features, test_x has "
                f"{data.test_x.shape[2]}"
            )
        if data.train_y.dim() != data.test_y.dim():
            raise TaskError(f"{self._make_name}: train_y and test_y must both be [N], or [N, T]")
        if (data.train_lengths is None) != (data.test_lengths is None):
            raise TaskError(f"{self._make_name}: give both train_lengths and test_lengths, or none")
        if data.train_x.shape[1] != self.steps:
            raise TaskError(
                f"{self._make_name}: train_x has {data.train_x.shape[1]} steps, the task says "
                f"steps={self.steps}"
            )
        return data

    @property
    def _make_name(self) -> str:
        return f"make of the task '{self.name}'"

    def _check(self, data: Data, part: str, x: Tensor, y: Tensor) -> None:
        """One part of the data; for what is wrong, which tensor and what it must be."""
        wanted = torch.int64 if self.metric.of_classes else torch.float32
        for name, tensor, dtype in ((f"{part}_x", x, torch.float32), (f"{part}_y", y, wanted)):
            if not isinstance(tensor, Tensor) or tensor.dtype != dtype:
                kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
                raise TaskError(f"{self._make_name}: {name} must be a {dtype} tensor, not {kind}")
        if x.dim() != 3 or 0 in x.shape:
            raise TaskError(
                f"{self._make_name}: {part}_x must be [N, T, I] with nothing of length 0, not "
                f"{list(x.shape)}"
            )
        last = () if data.values == 1 else (data.values,)
        allowed = [[*x.shape[:1], *last], [*x.shape[:2], *last]]
        if list(y.shape) not in allowed:
            raise TaskError(
                f"{self._make_name}: {part}_y must be [N{', values' * bool(last)}] or "
                f"[N, T{', values' * bool(last)}], here {allowed[0]} or {allowed[1]}, not "
                f"{list(y.shape)}"
            )
        if not torch.isfinite(x).all():
            raise TaskError(f"{self._make_name}: {part}_x holds numbers that are not finite")
        self._check_targets(part, y)

    def _check_lengths(self, data: Data, part: str, lengths: Tensor | None) -> None:
        """The lengths of one part, and that no step after a sequence's end counts."""
        if lengths is None:
            return
        x, y = getattr(data, f"{part}_x"), getattr(data, f"{part}_y")
        if lengths.shape != x.shape[:1] or lengths.dtype != torch.int64:
            raise TaskError(f"{self._make_name}: {part}_lengths must be [{len(x)}] of torch.int64")
        if not 1 <= int(lengths.min()) <= int(lengths.max()) <= x.shape[1]:
            raise TaskError(
                f"{self._make_name}: {part}_lengths must lie between 1 and the {x.shape[1]} steps "
                f"of {part}_x"
            )
        if not data.every_step:
            return
        if x.shape[1] != self.steps:
            raise TaskError(f"{self._make_name}: {part}_x must be padded to {self.steps} steps")
        after = torch.arange(self.steps) >= lengths[:, None]
        rest = y[after]
        if not (rest.isnan() if y.is_floating_point() else rest == IGNORE).all():
            raise TaskError(
                f"{self._make_name}: {part}_y counts steps after the end of a sequence; they must "
                "be NaN, of classes IGNORE"
            )

    def _check_targets(self, part: str, y: Tensor) -> None:
        counts = ~y.isnan() if y.is_floating_point() else y != IGNORE
        if not counts.view(len(y), -1).any(1).all():
            raise TaskError(f"{self._make_name}: a sequence of {part}_y has no step that counts")
        found = y[counts]
        if y.is_floating_point():
            if not torch.isfinite(found).all():
                raise TaskError(f"{self._make_name}: {part}_y holds infinities")
        elif found.min() < 0 or found.max() >= self.outputs:
            raise TaskError(
                f"{self._make_name}: the classes of {part}_y must be from 0 to outputs - 1 = "
                f"{self.outputs - 1}, and go from {found.min()} to {found.max()}"
            )

    def describe(self) -> dict[str, Any]:
        """The task as study.json holds it."""
        described = {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "metric": self.metric.name,
            "unit": self.metric.unit,
            "higher_is_better": self.higher_is_better,
            "baseline": self.baseline,
            "solved": self.solved,
            "steps": self.steps,
        }
        if self.data:
            described["data"] = self.data
        if self.baseline_name != "guessing":
            described["baseline_name"] = self.baseline_name
        return described | ({"same_data": True} if self.same_data else {})
