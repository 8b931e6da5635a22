"""The functions over which properties are surveyed: bounded or not, with and without kinks,
monotone or not, in most combinations, so that the three can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .grid import Arm

if TYPE_CHECKING:
    from .findings import Findings, Run

__all__ = ["FUNCTIONS", "PLACES", "surveyed", "surveyed_runs"]

FUNCTIONS = (
    "tanh",
    "sigmoid",
    "softsign",
    "hard_tanh",
    "relu6",
    "penalized_tanh",
    "sine",
    "2*x*gaussian(x)",
    "max(1 - abs(x), -1)",
    "identity",
    "softplus",
    "symlog",
    "relu",
    "leaky_relu",
    "silu",
    "mish",
    "abs(x)",
)
"""From bounded, smooth and monotone to unbounded, with a kink and not monotone."""
PLACES = ("candidate", "cell_output")
"""Where each of them is put, one at a time."""


def surveyed(findings: Findings, place: str, name: str) -> list[float]:
    """The losses of one function in one place on the survey's seeds, which all functions have."""
    return list(findings.loss(_arm(place, name)).values())[: findings.scale.survey]


def surveyed_runs(findings: Findings, place: str, name: str) -> Sequence[Run]:
    """The runs behind `surveyed`."""
    return findings.of(_arm(place, name))[: findings.scale.survey]


def _arm(place: str, name: str) -> Arm:
    return Arm("adding") if name == "tanh" else Arm("adding", place, name)
