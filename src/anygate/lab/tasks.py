"""Tasks: data as sequences, a metric with its baseline and a solved level, sensible settings."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["TASKS", "Data", "Settings", "Task", "TaskError", "find_task"]


class TaskError(ValueError):
    """A task that does not exist or cannot be set up; the message says what to do."""


@dataclass(frozen=True)
class Settings:
    """How a trial trains.

    hidden_size: units of the LSTM. epochs; batch_size: sequences a step. learning_rate of Adam.
    clip: the gradient's norm is scaled down to this, 0 for not at all. forget_bias: initial bias
    of the forget gate (Jozefowicz et al. 2015 recommend 1).
    """

    hidden_size: int = 32
    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.01
    clip: float = 1.0
    forget_bias: float = 1.0

    def __post_init__(self) -> None:
        for name in ("hidden_size", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise TaskError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise TaskError(f"learning_rate must be positive, not {self.learning_rate}")
        if not self.clip >= 0:
            raise TaskError(f"clip must be 0 (off) or positive, not {self.clip}")


@dataclass(frozen=True)
class Data:
    """Sequences x [N, T, I] float32 and targets y [N] (int64 classes, or float32 values)."""

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor


@dataclass(frozen=True)
class Task:
    """One task.

    metric: "accuracy" (of classes) or "mse" (of values). baseline: what a model that ignores the
    input reaches. solved: the level that counts as solved. outputs: classes, or 1. steps: T.
    make: seed -> Data; the seed decides which sequences are for training.
    """

    name: str
    title: str
    description: str
    metric: str
    baseline: float
    solved: float
    steps: int
    outputs: int
    make: Callable[[int], Data]
    settings: Settings = field(default_factory=Settings)

    @property
    def higher_is_better(self) -> bool:
        """Accuracy is better when larger, an error when smaller."""
        return self.metric == "accuracy"

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Cross entropy of classes, mean squared error of values. output [B, outputs]."""
        if self.metric == "accuracy":
            return torch.nn.functional.cross_entropy(output, target)
        return torch.nn.functional.mse_loss(output.squeeze(-1), target)

    def score(self, output: Tensor, target: Tensor) -> float:
        """The metric on all test sequences."""
        if self.metric == "accuracy":
            return (output.argmax(-1) == target).double().mean().item()
        return (output.squeeze(-1) - target).double().square().mean().item()

    def describe(self) -> dict[str, Any]:
        """The task as study.json holds it."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "metric": self.metric,
            "unit": "",
            "higher_is_better": self.higher_is_better,
            "baseline": self.baseline,
            "solved": self.solved,
            "steps": self.steps,
        }


@lru_cache(maxsize=1)
def _digit_images() -> tuple[Tensor, Tensor]:
    """The 1,797 images of 8x8 pixels in [0, 1] that scikit-learn ships, and their digits."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise TaskError(
            "the digits come with scikit-learn, which is not installed; "
            "pip install 'anygate[lab]' brings it"
        ) from None
    pixels, digits = load_digits(return_X_y=True)
    return torch.tensor(pixels / 16, dtype=torch.float32), torch.tensor(digits)


def _digits(steps: int, seed: int) -> Data:
    """A fifth of the images is for testing; which ones, the seed decides."""
    images, digits = _digit_images()
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(images)))
    sequences = images.view(len(images), steps, -1)[order]
    test = len(images) // 5
    return Data(sequences[test:], digits[order][test:], sequences[:test], digits[order][:test])


ADDING_TRAIN, ADDING_TEST = 2000, 500


def _adding(steps: int, seed: int) -> Data:
    """Two features a step: a number from U[0, 1] and a mark; two numbers are marked, one in each
    half, and the target is their sum (Hochreiter & Schmidhuber 1997, experiment 4, in the form of
    Le et al. 2015)."""
    rng = np.random.default_rng([seed, steps])
    count = ADDING_TRAIN + ADDING_TEST
    values = rng.random((count, steps), dtype=np.float32)
    marks = np.zeros_like(values)
    rows = np.arange(count)
    first = rng.integers(0, steps // 2, count)
    second = rng.integers(steps // 2, steps, count)
    marks[rows, first] = marks[rows, second] = 1
    target = torch.from_numpy(values[rows, first] + values[rows, second])
    x = torch.from_numpy(np.stack([values, marks], -1))
    return Data(x[:ADDING_TRAIN], target[:ADDING_TRAIN], x[ADDING_TRAIN:], target[ADDING_TRAIN:])


def _adding_task(steps: int) -> Task:
    return Task(
        name="adding" if steps == 100 else f"adding:{steps}",
        title=f"adding problem, {steps} steps",
        description="Add the two marked numbers of a long sequence of random ones.",
        metric="mse",
        baseline=1 / 6,
        # A hundredth of the target's variance, as in Skip RNN (Campos et al. 2018).
        solved=0.01 / 6,
        steps=steps,
        outputs=1,
        make=partial(_adding, steps),
        settings=Settings(epochs=30, batch_size=50, learning_rate=0.005),
    )


_DIGITS = Task(
    name="digits",
    title="handwritten digits, pixel by pixel",
    description="Read an 8x8 image of a handwritten digit one pixel at a time, then name it.",
    metric="accuracy",
    baseline=0.1,
    solved=0.95,
    steps=64,
    outputs=10,
    make=partial(_digits, 64),
)

TASKS: dict[str, Task] = {
    "digits": _DIGITS,
    "digits-rows": replace(
        _DIGITS,
        name="digits-rows",
        title="handwritten digits, row by row",
        description="Read an 8x8 image of a handwritten digit one row at a time, then name it.",
        steps=8,
        make=partial(_digits, 8),
    ),
    "adding": _adding_task(100),
}
"""Tasks by name; adding:T is the adding problem of T steps."""


def find_task(name: str) -> Task:
    """The task of this name. Raises TaskError for an unknown one."""
    if name in TASKS:
        return TASKS[name]
    if match := re.fullmatch(r"adding:(\d{1,6})", name):
        if int(match[1]) < 2:
            raise TaskError("the adding problem needs 2 or more steps")
        return _adding_task(int(match[1]))
    known = ", ".join(TASKS)
    raise TaskError(f"no task is called '{name}'; there are: {known}, adding:T (T steps)")
