"""One arm against another, seed by seed, in one number of which less is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .findings import Findings
from .grid import Arm
from .lab import (
    MIN_SEEDS_FOR_CLAIM,
    Equivalence,
    PairedDifference,
    equivalence,
    paired_difference,
    sign_flip_p,
)
from .model import Effect

ROOM = 2
"""Between the reference's mean and never solving there must be so many margins."""

__all__ = ["ROOM", "Contrast", "contrast", "enough", "label_of", "task_name"]


@dataclass(frozen=True)
class Contrast:
    """loss(arm) - loss(reference): positive if the arm is worse. The loss is the share of the
    epochs until solved, or the final error (see Setup). worse, not_worse: one-sided p values
    that the mean is above 0, below the margin. same: that of equivalence.

    sensitive: whether an arm that never solves the task would be seen as worse by the margin. If
    the reference itself takes most of the epochs it would not, and then nothing is "not worse".
    """

    arm: Arm
    reference: Arm
    measure: str
    margin: float
    difference: PairedDifference
    equivalence: Equivalence
    worse: float
    solved: tuple[int, int]
    diverged: tuple[int, int]
    sensitive: bool

    @property
    def n(self) -> int:
        """Pairs."""
        return self.difference.n

    @property
    def not_worse(self) -> float:
        """The p value of non-inferiority; 1 if the comparison is not sensitive."""
        return self.equivalence.p_below if self.sensitive else 1.0

    @property
    def same(self) -> float:
        """The p value of equivalence; 1 if the comparison is not sensitive."""
        return self.equivalence.p_value if self.sensitive else 1.0

    def effect(self) -> Effect:
        """The difference as a number of the page."""
        d = self.difference
        counts = ""
        if self.measure == "time":
            counts = f"solved {self.solved[0]} of {self.n}, the other {self.solved[1]}"
        if not self.sensitive:
            counts += f"{'; ' if counts else ''}too few epochs to show that it is not worse"
        return Effect(
            name=f"{label_of(self.arm)} against {label_of(self.reference)}, "
            f"on {task_name(self.arm)}",
            value=100 * d.mean,
            unit="% of the epochs" if self.measure == "time" else "points of error",
            low=100 * d.interval.low,
            high=100 * d.interval.high,
            confidence=d.interval.confidence,
            n=self.n,
            format="+.1f",
            note=counts,
            diverged=f"{self.diverged[0]} and {self.diverged[1]} of {self.n}",
        )


_SLOTS = {"activation": "candidate and output", "gate_activation": "all gates"}
_TASKS = {
    "long": "longer adding",
    "reber": "Reber",
    "rows": "digits by rows",
    "pixels": "digits by pixels",
}


def label_of(arm: Arm) -> str:
    """An arm for people: ``relu (candidate)``, ``the plain LSTM (own rate)``."""
    slot = _SLOTS.get(arm.slot, arm.slot.replace("_", " "))
    usual = (arm.slot, arm.activation) == ("activation", "tanh")
    inside = [] if usual else [slot]
    inside += [f"{k.replace('_', ' ')} {v}" for k, v in arm.changes]
    inside += ["own rate"] if arm.rate == "own" else []
    name = "the plain LSTM" if usual else arm.activation
    return f"{name} ({', '.join(inside)})" if inside else name


def task_name(arm: Arm) -> str:
    """Its task, in two or three words."""
    return _TASKS.get(arm.task, arm.task)


def contrast(findings: Findings, arm: Arm, reference: Arm) -> Contrast | None:
    """The comparison over the seeds that both have; None if there is no pair."""
    a, b = findings.loss(arm), findings.loss(reference)
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return None
    left, right = [a[s] for s in seeds], [b[s] for s in seeds]
    setup = findings.scale.setups[arm.task]
    pairs = [x - y for x, y in zip(left, right, strict=True)]
    return Contrast(
        arm=arm,
        reference=reference,
        measure=setup.measure,
        margin=setup.margin,
        difference=paired_difference(left, right),
        equivalence=equivalence(left, right, setup.margin),
        worse=sign_flip_p(pairs, alternative="greater"),
        solved=(
            _count(findings, arm, seeds, "solved_at"),
            _count(findings, reference, seeds, "solved_at"),
        ),
        diverged=(
            _count(findings, arm, seeds, "diverged"),
            _count(findings, reference, seeds, "diverged"),
        ),
        sensitive=1 - sum(right) / len(right) >= ROOM * setup.margin,
    )


def _count(findings: Findings, arm: Arm, seeds: Sequence[int], what: str) -> int:
    return sum(getattr(r, what) is not None for r in findings.of(arm) if r.seed in seeds)


def enough(found: Sequence[Contrast | None]) -> bool:
    """True if every contrast is there with the pairs that any claim needs."""
    return bool(found) and all(c is not None and c.n >= MIN_SEEDS_FOR_CLAIM for c in found)
