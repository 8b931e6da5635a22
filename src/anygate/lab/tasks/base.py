"""Tasks: data as sequences, a metric with its baseline and a solved level, settings."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..settings import Settings, TaskError

__all__ = [
    "ACCURACY",
    "BITS",
    "CROSS_ENTROPY",
    "IGNORE",
    "MSE",
    "RELATIVE_ERROR",
    "SEQUENCE_ACCURACY",
    "Data",
    "Metric",
    "Settings",
    "Task",
    "TaskError",
]

IGNORE = -100
"""The class of a time step that does not count, as in torch's cross_entropy. For values: NaN."""


@dataclass(frozen=True)
class Data:
    """Sequences x [N, T, I] float32 and targets y: [N] for an output after the last step, [N, T]
    for one at every step. Targets are int64 classes or float32 values; steps with the class
    IGNORE or the value NaN do not count. test_y may count fewer steps than train_y: the metric is
    taken where it counts, the training where it helps."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def every_step(self) -> bool:
        """True if there is an output at every time step."""
        return self.train_y.dim() == 2

    @property
    def digest(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of all numbers and shapes."""
        content = hashlib.sha256()
        for part in fields(self):
            tensor = getattr(self, part.name)
            content.update(f"{part.name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            content.update(tensor.contiguous().numpy().tobytes())
        return content.hexdigest()[:16]


@dataclass(frozen=True)
class Metric:
    """The measure that judges a task.

    loss(output, target) is what training makes small, a tensor; score(output, target) is what
    study and report show, a number. output: [N, outputs], or [N, T, outputs] with targets [N, T].
    unit: shown after a value.
    """

    name: str
    higher_is_better: bool
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], float]
    of_classes: bool
    unit: str = ""


def _counted(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs [M, outputs] and targets [M] that count."""
    kept = ~target.isnan() if target.is_floating_point() else target != IGNORE
    return output[kept], target[kept]


def _cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(*_counted(output, target))


def _squared_error(output: Tensor, target: Tensor) -> Tensor:
    found, wanted = _counted(output, target)
    return functional.mse_loss(found.squeeze(-1), wanted)


def _mean_cross_entropy(output: Tensor, target: Tensor) -> float:
    return _cross_entropy(output.double(), target).item()


def _bits(output: Tensor, target: Tensor) -> float:
    return _mean_cross_entropy(output, target) / math.log(2)


def _mean_squared_error(output: Tensor, target: Tensor) -> float:
    found, wanted = _counted(output, target)
    return (found.squeeze(-1) - wanted).double().square().mean().item()


def _relative_error(output: Tensor, target: Tensor) -> float:
    _, wanted = _counted(output, target)
    return math.sqrt(_mean_squared_error(output, target) / wanted.double().square().mean().item())


def _accuracy(output: Tensor, target: Tensor) -> float:
    found, wanted = _counted(output, target)
    return (found.argmax(-1) == wanted).double().mean().item()


def _sequence_accuracy(output: Tensor, target: Tensor) -> float:
    right = (output.argmax(-1) == target) | (target == IGNORE)
    return right.flatten(1).all(1).double().mean().item()


ACCURACY = Metric("accuracy", True, _cross_entropy, _accuracy, of_classes=True)
"""The share of right classes."""
SEQUENCE_ACCURACY = Metric(
    "sequence accuracy", True, _cross_entropy, _sequence_accuracy, of_classes=True
)
"""The share of sequences in which every step that counts is right."""
CROSS_ENTROPY = Metric(
    "cross entropy", False, _cross_entropy, _mean_cross_entropy, of_classes=True, unit="nats"
)
"""Mean of -ln p(target)."""
BITS = Metric("bits per character", False, _cross_entropy, _bits, of_classes=True)
"""Mean of -log2 p(target)."""
MSE = Metric("mse", False, _squared_error, _mean_squared_error, of_classes=False)
"""Mean squared error."""
RELATIVE_ERROR = Metric("relative error", False, _squared_error, _relative_error, of_classes=False)
"""Root mean square of (output - target) over that of the target: 1 is reached by answering 0."""


@dataclass(frozen=True)
class Task:
    """One task.

    baseline: what the best answer reaches that does not look at the sequence (it may depend on the
    time step), or what baseline_name says instead. solved: the level that counts as solved, None
    if there is none. steps: T. outputs: the number of classes, or 1 for values. make: seed -> Data;
    the seed decides which sequences are for training, unless same_data. data: what identifies data
    that do not follow from the name and the seed, such as a digest; part of every trial's key.
    source: who defined the task. needs: modules that must be installed.
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
        self._check(data, "train", data.train_x, data.train_y)
        self._check(data, "test", data.test_x, data.test_y)
        if data.train_x.shape[2] != data.test_x.shape[2]:
            raise TaskError(
                f"{self._make_name}: train_x has {data.train_x.shape[2]} features, test_x has "
                f"{data.test_x.shape[2]}"
            )
        if data.train_y.dim() != data.test_y.dim():
            raise TaskError(f"{self._make_name}: train_y and test_y must both be [N], or [N, T]")
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
        if y.shape not in {x.shape[:1], x.shape[:2]}:
            raise TaskError(
                f"{self._make_name}: {part}_y must be [N] or [N, T], here [{x.shape[0]}] or "
                f"[{x.shape[0]}, {x.shape[1]}], not {list(y.shape)}"
            )
        if not torch.isfinite(x).all():
            raise TaskError(f"{self._make_name}: {part}_x holds numbers that are not finite")
        self._check_targets(part, y)

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
