"""A study: activations x seeds on one task, on all cores, each result written as it comes."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...formulas import Activation
from ..arms import STANDARD, Arm, describe_arm
from ..tasks import Settings, Task
from ..wording import Notice, to_stderr
from .devices import check_devices, device_fault
from .executors import Executor, Progress, missing, on_this_machine, run_trials
from .machine import machine
from .store.files import SCHEMA
from .store.folder import claim
from .trial import TrialSpec, cell_type, slots_of, spec_of

if TYPE_CHECKING:
    from ..comparison import Comparison


@dataclass(frozen=True)
class Study:
    """Every activation with every seed, in one slot, on one task; and further arms.

    The first one is what all others are compared with. arms: named sets of settings, which follow
    the activations. keep_weights: those of trials that run from now on stay in weights/KEY.pt. log:
    a folder for TensorBoard. Results lie in a folder:
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
    arms: tuple[Arm, ...] = ()
    keep_weights: bool = False
    log: Path | None = None

    def __post_init__(self) -> None:
        slots_of(self.slot, self.settings.cell)
        labels = self.labels
        if len(set(labels)) != len(labels):
            twice = next(label for label in labels if labels.count(label) > 1)
            raise ValueError(f"'{twice}' is given twice")
        if not labels or not self.seeds:
            raise ValueError("a study needs at least one activation and one seed")
        for arm in self.arms:  # raises for a setting that cannot be
            spec = spec_of(self.task, arm, self.slot, self.seeds[0], self.settings)
            for name in spec.arguments:
                slots_of(name, spec.settings.cell)

    @property
    def members(self) -> tuple[Arm, ...]:
        """All that is compared, in order."""
        return (*(Arm(a.label, {self.slot: a}) for a in self.activations), *self.arms)

    @property
    def labels(self) -> list[str]:
        """Their names."""
        return [arm.label for arm in self.members]

    def only(self, labels: Collection[str]) -> Study:
        """The same study of some of them."""
        return replace(
            self,
            activations=tuple(a for a in self.activations if a.label in labels),
            arms=tuple(arm for arm in self.arms if arm.label in labels),
        )

    @staticmethod
    def load(directory: Path | str) -> Comparison:
        """The results in a folder: ``Study.load(DIR).frame()``; see Comparison.load."""
        from ..comparison import Comparison

        return Comparison.load(directory)

    @property
    def trials(self) -> tuple[TrialSpec, ...]:
        """Seed by seed, so that a study that is stopped early has whole pairs."""
        return tuple(
            replace(
                spec_of(self.task, arm, self.slot, seed, self.settings),
                keep_weights=self.keep_weights,
                log=self.log,
            )
            for seed in self.seeds
            for arm in self.members
        )

    @property
    def devices(self) -> list[str]:
        """The devices that its trials train on."""
        return list(dict.fromkeys(t.settings.device for t in replace(self, seeds=(0,)).trials))

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
        a study with another task, slot or settings, WriteError if it cannot be written, and
        TaskError for a device that this machine does not have, if the trials run here.
        """
        if executor is on_this_machine:
            check_devices(self.devices)
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
        keys = {(t.label, t.seed): t.key for t in self.trials}
        claim(directory, self.describe(command), keys, fresh=fresh, notice=notice)

    def describe(self, command: str) -> dict[str, Any]:
        """The study as study.json holds it."""
        declared = {} if self.margin is None else {"margin": self.margin}
        return {
            "schema": SCHEMA,
            "command": command or f"anygate compare {shlex.join(self.labels)}",
            "task": self.task.describe(),
            "slot": self.slot,
            "slots": self._slots(),
            "activations": [_describe(a) for a in self.activations]
            + [describe_arm(arm) for arm in self.arms],
            "seeds": list(self.seeds),
            "settings": {**self.settings.describe(), **declared},
            "machine": self._machine(),
        }

    def _machine(self) -> dict[str, Any]:
        """This machine; of one without the device, whose trials run on a cluster, without the
        engine that is taken there."""
        chosen = self.settings
        if not device_fault(chosen.device):
            return machine(chosen.engine, chosen.device)
        return {name: value for name, value in machine().items() if name != "engine"}

    def _slots(self) -> list[str]:
        """The slots that some arm changes, in the order of the equations."""
        arguments = {self.slot} | {name for arm in self.arms for name in arm.slots}
        known = {*dict(cell_type(self.settings.cell).slots), "activation", "gate_activation"}
        meant = {s for name in arguments & known for s in slots_of(name, self.settings.cell)}
        return [s for s, _ in cell_type(self.settings.cell).slots if s in meant]


def with_standard(
    activations: Sequence[Activation], arms: Sequence[Arm], slot: str, cell: str = "LSTM"
) -> tuple[Activation, ...]:
    """The activations, the slot's usual one first if neither they nor the arms have it."""
    usual = dict(cell_type(cell).slots)
    standard = usual.get(slot) or STANDARD.get(slot)
    there = [a.closed for a in activations]
    if standard is None or standard.closed in there or any(arm.is_standard for arm in arms):
        return tuple(activations)
    return (standard, *activations)


def _describe(activation: Activation) -> dict[str, str]:
    return {
        "label": activation.label,
        "formula": str(activation.closed),
        "latex": activation.latex_closed(),
        "latex_derivative": activation.derivative().latex_closed(),
        "source": activation.source,
    }
