"""A study: activations x seeds on one task, on all cores, each result written as it comes."""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..nn import LSTM
from ..symbolic import Activation
from .tasks import Settings, Task
from .trial import SCHEMA, TrialSpec, run_trial, slots_of

__all__ = ["Study", "StudyConflict", "write_json"]

Progress = Callable[[int, int, str], None]
"""Called with trials done, trials in all and the key of the last."""


class StudyConflict(ValueError):
    """The folder holds another study."""


@dataclass(frozen=True)
class Study:
    """Every activation with every seed, in one slot, on one task.

    The first activation is the one that all others are compared with. Results lie in a folder:
    study.json, trials/KEY.json (the same whenever and wherever a trial runs) and timing/KEY.json.
    """

    task: Task
    activations: tuple[Activation, ...]
    slot: str
    seeds: tuple[int, ...]
    settings: Settings

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
        """Trials without a result in the folder."""
        return tuple(t for t in self.trials if not _result_path(directory, t).is_file())

    def run(
        self,
        directory: Path,
        *,
        command: str = "",
        fresh: bool = False,
        jobs: int | None = None,
        progress: Progress = lambda done, total, key: None,
    ) -> None:
        """Run what is missing. Stopped at any moment, it goes on from there when called again.

        fresh: forget earlier results first. jobs: processes; default one for each core.
        Raises StudyConflict if the folder holds a study with another task, slot or settings.
        """
        if fresh:
            for part in ("trials", "timing", "figures"):
                shutil.rmtree(directory / part, ignore_errors=True)
            (directory / "study.json").unlink(missing_ok=True)
        self._claim(directory, command)
        todo = self.missing(directory)
        total = len(self.trials)
        done = total - len(todo)
        progress(done, total, "")
        for key in _execute(todo, directory, jobs or _cores()):
            done += 1
            progress(done, total, key)

    def _claim(self, directory: Path, command: str) -> None:
        """Write study.json, or find that the folder holds the same study."""
        config = self.describe(command)
        path = directory / "study.json"
        if path.is_file():
            held = json.loads(path.read_text(encoding="utf-8"))
            for part in ("task", "slot", "settings"):
                if held.get(part) != config[part]:
                    raise StudyConflict(
                        f"{directory} holds a study with another {part} "
                        f"({_difference(held.get(part), config[part])}); choose another --out, or "
                        "--fresh to delete its results"
                    )
        elif directory.is_dir() and any(directory.iterdir()) and not _is_ours(directory):
            raise StudyConflict(
                f"{directory} is not empty and holds no study; choose another --out"
            )
        write_json(path, config)

    def describe(self, command: str) -> dict[str, Any]:
        """The study as study.json holds it."""
        return {
            "schema": SCHEMA,
            "command": command
            or f"anygate compare {shlex.join(a.label for a in self.activations)}",
            "task": self.task.describe(),
            "slot": self.slot,
            "slots": list(slots_of(self.slot)),
            "activations": [_describe(a) for a in self.activations],
            "seeds": list(self.seeds),
            "settings": {**asdict(self.settings), "optimizer": "Adam"},
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
        parts = [k for k in wanted if held.get(k) != wanted[k]]
        return ", ".join(f"{k} {held.get(k)} there, {wanted[k]} here" for k in parts[:3])
    return f"{held} there, {wanted} here"


def _is_ours(directory: Path) -> bool:
    return {p.name for p in directory.iterdir()} <= {"trials", "timing", "figures", "report.html"}


def _machine() -> dict[str, Any]:
    engine = LSTM(1, 1).explain(torch.zeros(1, 1, 1)).name
    return {
        "cpu": _cpu_name(),
        "cores": _cores(),
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


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _result_path(directory: Path, spec: TrialSpec) -> Path:
    return directory / "trials" / f"{spec.key}.json"


def _execute(todo: tuple[TrialSpec, ...], directory: Path, jobs: int) -> Iterator[str]:
    """Run trials in processes of one thread each; yield keys as they are done."""
    if not todo:
        return
    from joblib import Parallel, delayed, parallel_config

    with parallel_config(backend="loky", n_jobs=min(jobs, len(todo)), inner_max_num_threads=1):
        yield from Parallel(return_as="generator_unordered", batch_size=1)(
            delayed(_run_and_write)(spec, directory) for spec in todo
        )


def _run_and_write(spec: TrialSpec, directory: Path) -> str:
    torch.set_num_threads(1)
    result, timing = run_trial(spec)
    write_json(directory / "timing" / f"{spec.key}.json", timing)
    write_json(_result_path(directory, spec), result)  # last: its presence means done
    return spec.key


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all: a temporary file, flushed, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.parent, prefix=".", suffix=".part", delete=False
    ) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, path)
