"""A study: activations x seeds on one task, on all cores, each result written as it comes."""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..nn import LSTM
from ..symbolic import Activation
from .engines import Engine, cores, on_this_machine
from .files import write_json, writing
from .records import SCHEMA, StudyError, config_from, read, trial_from
from .runner import Progress, missing, run_trials
from .tasks import Settings, Task
from .trial import TrialSpec, slots_of

__all__ = ["Study", "StudyConflict"]

Notice = Callable[[str], None]
"""Called with a sentence that the user should read."""


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)


class StudyConflict(ValueError):
    """The folder holds another study."""


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
        engine: Engine = on_this_machine,
        progress: Progress = lambda done, total, key: None,
        notice: Notice = _to_stderr,
    ) -> None:
        """Run what is missing. Stopped at any moment, it goes on from there when called again.

        fresh: forget earlier results first. jobs: processes; default one for each core.
        notice: told when a damaged study.json is replaced. Raises StudyConflict if the folder holds
        a study with another task, slot or settings, and WriteError if it cannot be written.
        """
        with writing(directory):
            _check_folder(directory)
            if fresh:
                _forget(directory)
            self._claim(directory, command, notice)
        run_trials(self.trials, directory, jobs=jobs, engine=engine, progress=progress)

    def _claim(self, directory: Path, command: str, notice: Notice) -> None:
        """Write study.json, or find that the folder holds the same study."""
        config = self.describe(command)
        held = _held(directory, notice)
        if held is None:
            self._refuse_strangers(directory)
        else:
            _refuse_another(directory, held, config)
        write_json(directory / "study.json", config)

    def _refuse_strangers(self, directory: Path) -> None:
        """Where no study.json vouches for the trials, those of other settings must not mix in."""
        keys = {(t.activation.label, t.seed): t.key for t in self.trials}
        for path in sorted((directory / "trials").glob("*.json")):
            try:
                trial = read(path, trial_from)
            except StudyError:
                continue
            if keys.get((trial.activation, trial.seed), trial.key) != trial.key:
                raise StudyConflict(
                    f"{directory} has lost its study.json and holds results of other settings, "
                    f"such as {path.name}; choose another --out, or --fresh to delete them"
                )

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
            "machine": _machine(),
        }


def _describe(activation: Activation) -> dict[str, str]:
    return {
        "label": activation.label,
        "formula": str(activation.closed),
        "latex": activation.latex_closed(),
        "latex_derivative": activation.derivative().latex_closed(),
        "source": activation.source,
    }


def _difference(held: Any, wanted: Any) -> str:
    if isinstance(held, dict) and isinstance(wanted, dict):
        parts = [k for k in {**wanted, **held} if held.get(k) != wanted.get(k)]
        return ", ".join(f"{k} {held.get(k)} there, {wanted.get(k)} here" for k in parts[:3])
    return f"{held} there, {wanted} here"


_PARTS = {"task": "another task", "slot": "another slot", "settings": "other settings"}
"""What every trial of a folder must share."""
_OURS = {"study.json", "trials", "timing", "figures", "report.html", "summary.json"}


def _refuse_another(directory: Path, held: dict[str, Any], config: dict[str, Any]) -> None:
    """Raise StudyConflict unless both studies share the parts that all trials depend on."""
    for part, name in _PARTS.items():
        if held.get(part) != config[part]:
            raise StudyConflict(
                f"{directory} holds a study with {name} "
                f"({_difference(held.get(part), config[part])}); choose another --out, or "
                "--fresh to delete its results"
            )


def _check_folder(directory: Path) -> None:
    """Refuse what is no folder, and a folder with other things and no study in it."""
    if directory.exists() and not directory.is_dir():
        raise StudyConflict(f"{directory} is a file, not a folder; choose another --out")
    if directory.is_dir() and not (directory / "study.json").exists() and not _is_ours(directory):
        raise StudyConflict(f"{directory} is not empty and holds no study; choose another --out")


def _is_ours(directory: Path) -> bool:
    return {p.name for p in directory.iterdir() if p.suffix != ".part"} <= _OURS


def _forget(directory: Path) -> None:
    """Delete the results of a folder that holds a study."""
    for part in ("trials", "timing", "figures"):
        shutil.rmtree(directory / part, ignore_errors=True)
    (directory / "study.json").unlink(missing_ok=True)


def _held(directory: Path, notice: Notice) -> dict[str, Any] | None:
    """The study.json of the folder; None if there is none, or none that can be read."""
    path = directory / "study.json"
    if not path.exists():
        return None
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raw = None
    version = raw.get("schema", SCHEMA) if isinstance(raw, dict) else SCHEMA
    if version != SCHEMA:
        raise StudyConflict(
            f"{path} is of schema {version!r}, this anygate writes {SCHEMA}; choose another --out, "
            "or --fresh to delete its results"
        )
    try:
        read(path, config_from)
    except StudyError as error:
        if not _is_ours(directory):
            raise StudyConflict(
                f"{path} is damaged ({error}) and lies among other files; choose another --out"
            ) from error
        notice(f"{path} was damaged ({error}); it is written anew, the trials are kept")
        return None
    return raw  # type: ignore[no-any-return]


def _machine() -> dict[str, Any]:
    engine = LSTM(1, 1).explain(torch.zeros(1, 1, 1)).name
    return {
        "cpu": _cpu_name(),
        "cores": cores(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "anygate": __version__,
        "engine": engine,
    }


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.machine()
