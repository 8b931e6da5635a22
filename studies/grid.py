"""The trials that claims need: which arms, on which tasks, with how many seeds.

An arm is a training setting without its seed. Claims name arms; arms that several claims need are
trained once. Two scales share all code: QUICK for a quarter of an hour on two cores, FULL for a
night.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from anygate.formulas import resolve

from .lab import Settings, Task, TrialSpec, find_task

__all__ = ["FULL", "QUICK", "SCALES", "Arm", "Scale", "Setup", "arms", "spec_of"]

FIRST_SEED = 200
"""Tasks, sizes and rates were calibrated on the seeds 0 to 7 and in a first run on 100 to 107; no
claim rests on those."""

Measure = Literal["time", "metric"]


@dataclass(frozen=True)
class Setup:
    """A task at one scale.

    measure: "time" compares the share of the epochs until solved (1 if never), "metric" the final
    error (1 - accuracy). margin: in that measure, what counts as not worse; declared here, before
    any run. level: the metric that counts as solved, if not the task's own.
    """

    task: str
    settings: tuple[tuple[str, Any], ...]
    measure: Measure
    margin: float
    level: float | None = None

    @property
    def epochs(self) -> int:
        """Epochs of a trial."""
        return self.make().settings.epochs

    def make(self) -> Task:
        """The task with its settings."""
        task = _task(self.task)
        solved = task.solved if self.level is None else self.level
        settings = replace(task.settings, **dict(self.settings))
        return replace(task, solved=solved, settings=settings)


@lru_cache
def _task(name: str) -> Task:
    return find_task(name)


@dataclass(frozen=True)
class Scale:
    """The size of everything.

    seeds: how many of a compared arm, from FIRST_SEED on; survey: of an arm that only a survey over
    many functions uses. factors: of the shared learning rate, tried on the tasks `tuned`, each on
    `tuning` seeds of its own; on others an arm's own rate is the shared one. rounds: of a
    benchmark; sizes: hidden units there. starts: models at initialisation.
    """

    name: str
    setups: dict[str, Setup]
    seeds: int
    survey: int
    tuning: int
    tuned: tuple[str, ...]
    factors: tuple[float, ...]
    rounds: int
    sizes: tuple[int, ...]
    starts: int


def _setup(
    task: str, measure: Measure, margin: float, level: float | None = None, **settings: Any
) -> Setup:
    return Setup(task, tuple(settings.items()), measure, margin, level)


TENTH = 1 / 60
"""Of the mean squared error that guessing reaches on adding: the marks have been found."""


QUICK = Scale(
    name="quick",
    setups={
        "adding": _setup(
            "adding:30", "time", 0.2, TENTH, hidden_size=16, epochs=20, learning_rate=0.03
        ),
        "long": _setup(
            "adding:100", "time", 0.2, TENTH, hidden_size=16, epochs=24, learning_rate=0.03
        ),
        "reber": _setup("reber", "time", 0.2, hidden_size=16, epochs=20, learning_rate=0.02),
        "rows": _setup(
            "digits-rows", "metric", 0.02, hidden_size=16, epochs=15, learning_rate=0.02
        ),
        "pixels": _setup("digits", "metric", 0.02, hidden_size=16, epochs=15, learning_rate=0.02),
    },
    seeds=8,
    survey=3,
    tuning=3,
    tuned=("adding", "rows", "pixels"),
    factors=(1 / 3, 1, 3),
    rounds=41,
    sizes=(8, 64, 256),
    starts=4,
)
FULL = Scale(
    name="full",
    setups={
        "adding": _setup("adding:100", "time", 0.1, hidden_size=32, epochs=60, learning_rate=0.01),
        "long": _setup("adding:400", "time", 0.1, hidden_size=128, epochs=60, learning_rate=0.002),
        "reber": _setup("reber", "time", 0.1, hidden_size=16, epochs=60),
        "rows": _setup("digits-rows", "metric", 0.01, hidden_size=32, epochs=40),
        "pixels": _setup("digits", "metric", 0.01, hidden_size=32, epochs=40),
    },
    seeds=20,
    survey=10,
    tuning=5,
    tuned=("adding", "reber", "rows", "pixels"),
    factors=(0.1, 1 / 3, 1, 3),
    rounds=101,
    sizes=(8, 64, 256, 512),
    starts=20,
)
SCALES = {scale.name: scale for scale in (QUICK, FULL)}


@dataclass(frozen=True, order=True)
class Arm:
    """One setting: a task of the scale, what stands in which slot (tanh and sigmoid elsewhere),
    changes of the settings, and a learning rate "shared" by all or its "own" best."""

    task: str
    slot: str = "activation"
    activation: str = "tanh"
    changes: tuple[tuple[str, Any], ...] = ()
    rate: Literal["shared", "own"] = "shared"

    @property
    def name(self) -> str:
        """As results are filed: ``adding/candidate=relu`` or ``pixels/activation=relu
        initial=identity @own``."""
        extra = "".join(f" {k}={v}" for k, v in self.changes)
        own = " @own" if self.rate == "own" else ""
        return f"{self.task}/{self.slot}={self.activation}{extra}{own}"

    @property
    def shared(self) -> Arm:
        """The same at the shared rate."""
        return replace(self, rate="shared")

    @property
    def own(self) -> Arm:
        """The same at its own best rate."""
        return replace(self, rate="own")


def arms(
    task: str,
    slots: str | Iterable[str],
    activations: Iterable[str],
    **changes: Any,
) -> tuple[Arm, ...]:
    """An arm for each slot and activation."""
    which = [slots] if isinstance(slots, str) else list(slots)
    changed = tuple(sorted(changes.items()))
    return tuple(Arm(task, slot, name, changed) for slot in which for name in activations)


def _as_setting(name: str, value: Any) -> tuple[str, Any]:
    """A change as the lab calls it; the names of arms, and with them those of committed results,
    stay."""
    if name == "variant":
        return str(value), True
    return {"clip": "gradient_clip", "initial": "init"}.get(name, name), value


def spec_of(arm: Arm, seed: int, scale: Scale, rate: float | None = None) -> TrialSpec:
    """The trial of an arm and a seed. rate: for an arm with its own."""
    task = scale.setups[arm.task].make()
    changes = dict(_as_setting(name, value) for name, value in arm.changes)
    settings: Settings = replace(task.settings, **changes)
    if rate is not None:
        settings = replace(settings, learning_rate=rate)
    return TrialSpec(task, resolve(arm.activation), arm.slot, seed, settings)
