"""An arm: everything of a training but its seed. Arms are written as they are called, for instance
``adding candidate=relu rate*3``, and arms that several claims need are trained once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from anygate.formulas import resolve

from .lab import Settings, TrialSpec, changed
from .setups import SETUPS, Setup

__all__ = ["BOTH", "Arm", "arm"]

BOTH = "activation"
"""Candidate and cell output together, the two places of tanh."""


@dataclass(frozen=True)
class Arm:
    """A setup, what stands in which slot (tanh and sigmoid elsewhere), a factor of the setup's
    learning rate, and other changes of its settings."""

    setup: str
    slots: tuple[tuple[str, str], ...] = ()
    rate: float = 1.0
    changes: tuple[tuple[str, Any], ...] = ()

    @property
    def name(self) -> str:
        """As results are filed: ``adding activation=relu rate*3 gradient_clip=0.0``."""
        words = [self.setup, *(f"{s}={a.replace(' ', '')}" for s, a in self.slots)]
        words += [f"rate*{self.rate:.3g}"] if self.rate != 1 else []
        return " ".join([*words, *(f"{k}={v}" for k, v in self.changes)])

    @property
    def at(self) -> Setup:
        """Its setup."""
        return SETUPS[self.setup]

    @property
    def usual(self) -> Arm:
        """The same with tanh and sigmoid."""
        return replace(self, slots=())

    @property
    def settings(self) -> Settings:
        """All settings of the training."""
        base = self.at.settings
        rate = float(f"{self.rate * base.learning_rate:.4g}")
        return changed(base, {"learning_rate": rate, **dict(self.changes)})

    def on(self, setup: str) -> Arm:
        """The same on another setup."""
        return replace(self, setup=setup)

    def times(self, rate: float) -> Arm:
        """The same with another factor of the learning rate."""
        return replace(self, rate=rate)

    def spec(self, seed: int) -> TrialSpec:
        """One run."""
        slots = [(slot, resolve(text)) for slot, text in self.slots] or [(BOTH, resolve("tanh"))]
        (slot, activation), *others = slots
        return TrialSpec(
            self.at.task,
            activation,
            slot,
            seed,
            self.settings,
            snapshots=False,
            health_every=0,
            others=tuple(others),
            name=self.name,
        )


def arm(setup: str, *slots: str, rate: float = 1.0, **changes: Any) -> Arm:
    """An arm from texts such as ``candidate=relu``."""
    pairs = tuple((s.partition("=")[0], s.partition("=")[2]) for s in slots)
    return Arm(setup, pairs, rate, tuple(sorted(changes.items())))
