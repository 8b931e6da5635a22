"""A study: activations x seeds on one task, on all cores, each result written as it comes."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...formulas import Activation
from ..tasks import Settings, Task
from ..wording import Notice, to_stderr
from .executors import Executor, Progress, missing, on_this_machine, run_trials
from .machine import machine
from .store.files import SCHEMA
from .store.folder import claim
from .trial import TrialSpec, slots_of

if TYPE_CHECKING:
    from ..comparison import Comparison


@dataclass(frozen=True)
class Study:
    """Every activation with every seed, in one slot, on one task.

    The first activation is the one that all others are compared with. Results lie in a folder:
    study.json, trials/KEY.json (the same whenever and wherever a trial runs) and timing/KEY.json.
    margin: differences in the metric within it count as equivalent. It is declared with the
    settings, so that a folder with results of another margin, or of none, is refused.
    """

    task: Task
    activations: tuple[Activation, ...]
    slot: str
    seeds: tuple[int, ...]
    settings: Settings
    margin: float | None = None

    def __post_init__(self) -> None:
        slots_of(self.slot)
        labels = [a.label for a in self.activations]
        if len(set(labels)) != len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise ValueError(f"'{twice}' is given twice")
        if not labels or not self.seeds:
            raise ValueError("a study needs at least one activation and one seed")

    @staticmethod
    def load(directory: Path | str) -> Comparison:
        """The results in a folder: ``Study.load(DIR).frame()``; see Comparison.load."""
        from ..comparison import Comparison

        return Comparison.load(directory)

    @property
    def trials(self) -> tuple[TrialSpec, ...]:
        """Seed by seed, so that a study that is stopped early has whole pairs."""
        return tuple(
            TrialSpec(self.task, activation, self.slot, seed, self.settings)
            for seed in self.seeds
            for activation in self.activations
        )

    def missing(self, directory: Path) -> tuple[TrialSpec, ...]:
        """Trials without a sound result in the folder; a damaged file is as good as none."""
        return missing(self.trials, directory)

    def run(
        self,
        directory: Path,
        *,
        command: str = "",
        fresh: bool = False,
        jobs: int | None = None,
        executor: Executor = on_this_machine,
        progress: Progress = lambda done, total, key: None,
        notice: Notice = to_stderr,
    ) -> None:
        """Run what is missing. Stopped at any moment, it goes on from there when called again.

        fresh: forget earlier results first. jobs: processes; default one for each core.
        notice: told when a damaged study.json is replaced. Raises StudyConflict if the folder holds
        a study with another task, slot or settings, and WriteError if it cannot be written.
        """
        self.prepare(directory, command=command, fresh=fresh, notice=notice)
        run_trials(self.trials, directory, jobs=jobs, executor=executor, progress=progress)

    def prepare(
        self,
        directory: Path,
        *,
        command: str = "",
        fresh: bool = False,
        notice: Notice = to_stderr,
    ) -> None:
        """Make the folder ready, as run does, and run nothing."""
        keys = {(t.activation.label, t.seed): t.key for t in self.trials}
        claim(directory, self.describe(command), keys, fresh=fresh, notice=notice)

    def describe(self, command: str) -> dict[str, Any]:
        """The study as study.json holds it."""
        declared = {} if self.margin is None else {"margin": self.margin}
        return {
            "schema": SCHEMA,
            "command": command
            or f"anygate compare {shlex.join(a.label for a in self.activations)}",
            "task": self.task.describe(),
            "slot": self.slot,
            "slots": list(slots_of(self.slot)),
            "activations": [_describe(a) for a in self.activations],
            "seeds": list(self.seeds),
            "settings": {**self.settings.describe(), "optimizer": "Adam", **declared},
            "machine": machine(self.settings.engine),
        }


def _describe(activation: Activation) -> dict[str, str]:
    return {
        "label": activation.label,
        "formula": str(activation.closed),
        "latex": activation.latex_closed(),
        "latex_derivative": activation.derivative().latex_closed(),
        "source": activation.source,
    }
