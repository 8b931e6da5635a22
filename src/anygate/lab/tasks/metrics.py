"""Metrics: what training makes small and what a study shows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "ACCURACY",
    "BALANCED_ACCURACY",
    "BITS",
    "CROSS_ENTROPY",
    "IGNORE",
    "MAE",
    "METRICS",
    "MSE",
    "RELATIVE_ERROR",
    "SEQUENCE_ACCURACY",
    "Metric",
]

IGNORE = -100
"""The class of a time step that does not count, as in torch's cross_entropy. For values: NaN."""


@dataclass(frozen=True)
class Metric:
    """The measure that judges a task.

    loss(output, target) is what training makes small, a tensor; score(output, target) is what
    study and report show, a number. output: [N, outputs], or [N, T, outputs] with targets [N, T];
    where one target has several values, targets have the shape of the outputs. Both are functions
    that can be imported by name, as processes get them so. unit: shown after a value.
    """

    name: str
    higher_is_better: bool
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], float]
    of_classes: bool
    unit: str = ""


def _counted(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The outputs [M, outputs] and classes [M] that count; of values [M] both."""
    if not target.is_floating_point():
        kept = target != IGNORE
        return output[kept], target[kept]
    if output.dim() > target.dim():
        output = output.squeeze(-1)
    kept = ~target.isnan()
    return output[kept], target[kept]


def _cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(*_counted(output, target))


def _squared_error(output: Tensor, target: Tensor) -> Tensor:
    return functional.mse_loss(*_counted(output, target))


def _absolute_error(output: Tensor, target: Tensor) -> Tensor:
    return functional.l1_loss(*_counted(output, target))


def _mean_cross_entropy(output: Tensor, target: Tensor) -> float:
    return _cross_entropy(output.double(), target).item()


def _bits(output: Tensor, target: Tensor) -> float:
    return _mean_cross_entropy(output, target) / math.log(2)


def _mean_squared_error(output: Tensor, target: Tensor) -> float:
    found, wanted = _counted(output, target)
    return (found - wanted).double().square().mean().item()


def _mean_absolute_error(output: Tensor, target: Tensor) -> float:
    found, wanted = _counted(output, target)
    return (found - wanted).double().abs().mean().item()


def _relative_error(output: Tensor, target: Tensor) -> float:
    _, wanted = _counted(output, target)
    return math.sqrt(_mean_squared_error(output, target) / wanted.double().square().mean().item())


def _accuracy(output: Tensor, target: Tensor) -> float:
    found, wanted = _counted(output, target)
    return (found.argmax(-1) == wanted).double().mean().item()


def _balanced_accuracy(output: Tensor, target: Tensor) -> float:
    found, wanted = _counted(output, target)
    right = (found.argmax(-1) == wanted).double()
    return torch.stack([right[wanted == k].mean() for k in set(wanted.tolist())]).mean().item()


def _sequence_accuracy(output: Tensor, target: Tensor) -> float:
    right = (output.argmax(-1) == target) | (target == IGNORE)
    return right.flatten(1).all(1).double().mean().item()


ACCURACY = Metric("accuracy", True, _cross_entropy, _accuracy, of_classes=True)
"""The share of right classes."""
BALANCED_ACCURACY = Metric(
    "balanced accuracy", True, _cross_entropy, _balanced_accuracy, of_classes=True
)
"""The mean over the classes of the share of each that is right."""
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
MAE = Metric("mae", False, _absolute_error, _mean_absolute_error, of_classes=False)
"""Mean absolute error."""
RELATIVE_ERROR = Metric("relative error", False, _squared_error, _relative_error, of_classes=False)
"""Root mean square of (output - target) over that of the target: 1 is reached by answering 0."""
METRICS = {
    "accuracy": ACCURACY,
    "balanced_accuracy": BALANCED_ACCURACY,
    "cross_entropy": CROSS_ENTROPY,
    "mse": MSE,
    "mae": MAE,
    "relative_error": RELATIVE_ERROR,
}
"""The metrics of data files by name."""
