"""What a finished (or half finished) study left on disk, read back and checked.

``load(directory)`` reads ``study.json``, ``trials/*.json`` and ``timing/*.json`` of one study
directory into frozen values. Nothing is computed here beyond arranging numbers by activation,
seed and epoch: missing runs become NaN, and a run that diverged keeps the value it was given.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

SCHEMA = 1
T = TypeVar("T")
Quantity = Literal["metric", "train_loss", "gradient_norm", "gradient_norm_max", "max_abs_cell"]
Health = Literal["saturated", "dead"]


class StudyError(ValueError):
    """A study directory that cannot be read; the message names the file and the remedy."""


@dataclass(frozen=True)
class TaskInfo:
    """The task of a study: its metric, which way is better, and two landmarks of that metric.

    ``baseline`` is what guessing reaches (a diverged run is given this value); ``solved`` is the
    level that counts as solved, if the task has one.
    """

    name: str
    title: str
    description: str
    metric: str
    unit: str
    higher_is_better: bool
    baseline: float
    solved: float | None
    steps: int | None

    @property
    def as_percent(self) -> bool:
        """Whether values are fractions that read better as percentages."""
        return not self.unit and "accuracy" in self.metric.lower()

    def show(self, value: float) -> str:
        """A value of the metric for people: ``93.1%`` or ``0.0123 m``; a dash for none."""
        if not math.isfinite(value):
            return "–"
        if self.as_percent:
            return f"{100 * value:.1f}%"
        return f"{value:.4g} {self.unit}".rstrip()

    def show_difference(self, value: float, *, signed: bool = False, unit: bool = True) -> str:
        """A difference of two values: ``2.1 points`` (percentage points) or ``0.0123 m``."""
        if not math.isfinite(value):
            return "–"
        sign = "+" if signed else ""
        shown = f"{100 * value:{sign}.1f}" if self.as_percent else f"{value:{sign}.3g}"
        points = "point" if shown.lstrip("+-") == "1.0" else "points"
        name = points if self.as_percent else self.unit
        return f"{shown} {name}".rstrip() if unit else shown

    def better(self, value: float, other: float) -> bool:
        """Whether ``value`` is strictly better than ``other``."""
        return value > other if self.higher_is_better else value < other

    def is_solved(self, value: float) -> bool:
        """Whether ``value`` reaches the solved level (False if the task has none)."""
        return self.solved is not None and not self.better(self.solved, value)


@dataclass(frozen=True)
class ActivationInfo:
    """One activation under test, as the study wrote it down."""

    label: str
    formula: str
    latex: str = ""
    latex_derivative: str = ""
    source: str = ""


@dataclass(frozen=True)
class StudyConfig:
    """``study.json``: what was asked for. The first activation is the reference of comparisons."""

    command: str
    task: TaskInfo
    slot: str
    slots: tuple[str, ...]
    activations: tuple[ActivationInfo, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class Divergence:
    """Where and how a run stopped being finite."""

    epoch: int | None
    step: int | None
    what: str
    slot: str
    value: str


@dataclass(frozen=True)
class EpochRecord:
    """The measurements of one epoch; NaN where the run had no finite number."""

    epoch: int
    values: Mapping[str, float]
    slots: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Trial:
    """One run: an activation with a seed."""

    key: str
    activation: str
    seed: int
    diverged: Divergence | None
    epochs: tuple[EpochRecord, ...]
    final_metric: float


@dataclass(frozen=True)
class StudyResults:
    """A study as it stands on disk: the plan, the trials that are there, and their timing.

    ``trials`` holds planned runs only, at most one per (activation, seed). ``timing`` maps a
    trial's key to its seconds per training step. ``ignored`` counts trial files outside the plan.
    """

    config: StudyConfig
    trials: tuple[Trial, ...]
    timing: Mapping[str, float]
    ignored: int = 0
    _index: Mapping[tuple[str, int], Trial] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        index = {(t.activation, t.seed): t for t in self.trials}
        object.__setattr__(self, "_index", index)

    @property
    def task(self) -> TaskInfo:
        """The task all trials ran."""
        return self.config.task

    @property
    def labels(self) -> list[str]:
        """The activations in the order they were asked for."""
        return [a.label for a in self.config.activations]

    @property
    def first(self) -> str:
        """The activation that the others are compared with."""
        return self.labels[0]

    @property
    def rivals(self) -> list[str]:
        """All activations but the first."""
        return self.labels[1:]

    @property
    def seeds(self) -> list[int]:
        """The planned seeds."""
        return list(self.config.seeds)

    @property
    def expected(self) -> int:
        """How many trials the plan asks for."""
        return len(self.labels) * len(self.seeds)

    @property
    def present(self) -> int:
        """How many of them have a result."""
        return len(self.trials)

    def trial(self, label: str, seed: int) -> Trial | None:
        """The run of ``label`` with ``seed``, or None if it has no result yet."""
        return self._index.get((label, seed))

    def runs(self, label: str) -> list[Trial]:
        """The present runs of ``label``, by seed."""
        return [t for seed in self.seeds if (t := self.trial(label, seed)) is not None]

    def diverged(self, label: str) -> list[Trial]:
        """The present runs of ``label`` that diverged."""
        return [t for t in self.runs(label) if t.diverged is not None]

    def solved(self, label: str) -> int:
        """How many present runs of ``label`` reached the task's solved level."""
        return sum(self.task.is_solved(t.final_metric) for t in self.runs(label))

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """Final metrics ``[activation, seed]``; NaN where a run is missing."""
        return np.array(
            [
                [
                    t.final_metric if (t := self.trial(label, seed)) else math.nan
                    for seed in self.seeds
                ]
                for label in self.labels
            ],
            dtype=np.float64,
        ).reshape(len(self.labels), len(self.seeds))

    def final(self, label: str) -> NDArray[np.float64]:
        """The final metrics of the present runs of ``label``, by seed."""
        row: NDArray[np.float64] = self.matrix[self.labels.index(label)]
        finite: NDArray[np.float64] = row[np.isfinite(row)]
        return finite

    def paired(self, a: str, b: str) -> tuple[list[int], NDArray[np.float64], NDArray[np.float64]]:
        """The seeds for which both are present, and the final metrics of ``a`` and of ``b``."""
        left, right = (self.matrix[self.labels.index(label)] for label in (a, b))
        both = np.isfinite(left) & np.isfinite(right)
        return [s for s, ok in zip(self.seeds, both, strict=True) if ok], left[both], right[both]

    @property
    def epochs(self) -> int:
        """The last epoch that any run recorded."""
        return max((e.epoch for t in self.trials for e in t.epochs), default=0)

    def curves(self, label: str, quantity: Quantity) -> NDArray[np.float64]:
        """``quantity`` of the present runs as ``[run, epoch]``; NaN where nothing was recorded.

        For ``"metric"`` a diverged run is carried on at the value it is scored with, so that the
        mean curve ends at the mean of the final metrics and does not forget the failures.
        """
        runs = self.runs(label)
        table = np.full((len(runs), self.epochs), math.nan)
        for row, run in zip(table, runs, strict=True):
            for record in run.epochs:
                row[record.epoch - 1] = record.values.get(quantity, math.nan)
            if quantity == "metric" and run.diverged is not None:
                row[len(run.epochs) :] = run.final_metric
                row[~np.isfinite(row)] = run.final_metric
        return table

    def share(self, label: str, slot: str, health: Health) -> NDArray[np.float64]:
        """The fraction saturated or dead in ``slot`` at each run's last recorded epoch."""
        last = [run.epochs[-1].slots.get(slot, {}) for run in self.runs(label) if run.epochs]
        values = np.array([record.get(health, math.nan) for record in last], dtype=np.float64)
        return values[np.isfinite(values)]

    @property
    def measured_slots(self) -> list[str]:
        """The slots that any run reports on, in the order of the cell's equations."""
        order = ("input_gate", "forget_gate", "candidate", "output_gate", "cell_output")
        seen = {slot for t in self.trials for e in t.epochs for slot in e.slots}
        return [s for s in order if s in seen] + sorted(seen.difference(order))

    def seconds_per_step(self, label: str) -> dict[int, float]:
        """Seconds per training step by seed, for the runs that were timed."""
        return {t.seed: self.timing[t.key] for t in self.runs(label) if t.key in self.timing}


def load(directory: Path | str) -> StudyResults:
    """Read a study directory.

    Raises :class:`StudyError` if ``study.json`` is missing, of another schema or incomplete, or if
    a trial file is damaged; the message names the file and says what to do. Missing trials and
    missing timing are normal (an interrupted study) and raise nothing.
    """
    root = Path(directory)
    config = _load_config(root / "study.json")
    planned = {(a.label, seed) for a in config.activations for seed in config.seeds}
    found: dict[tuple[str, int], tuple[Path, Trial]] = {}
    ignored = 0
    for path in sorted((root / "trials").glob("*.json")):
        trial = _read(path, _trial, "delete this file and run the study again: it fills the gap")
        place = (trial.activation, trial.seed)
        if place not in planned:
            ignored += 1
        elif place in found:
            raise StudyError(
                f"two results for {trial.activation!r} with seed {trial.seed}: "
                f"{found[place][0]} and {path}; delete the one that belongs to other settings"
            )
        else:
            found[place] = (path, trial)
    trials = tuple(trial for _, trial in found.values())
    return StudyResults(config, trials, _load_timing(root / "timing"), ignored)


def _load_config(path: Path) -> StudyConfig:
    if not path.is_file():
        raise StudyError(
            f"{path} does not exist: {path.parent} is not a study directory. "
            "`anygate compare` makes one."
        )
    return _read(path, _config, "run `anygate compare` again to write it anew")


def _load_timing(directory: Path) -> dict[str, float]:
    timing: dict[str, float] = {}
    for path in sorted(directory.glob("*.json")):
        key, seconds = _read(path, _timing, "delete this file; only its timing is lost")
        if seconds is not None:
            timing[key] = seconds
    return timing


def _read(path: Path, build: Callable[[dict[str, Any]], T], remedy: str) -> T:
    """Parse one JSON file of schema 1 and build a value, or say which file is bad and why."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise TypeError("it does not hold a JSON object")
        if raw.get("schema") != SCHEMA:
            raise ValueError(f"schema {raw.get('schema')!r} was found, {SCHEMA} was expected")
        return build(raw)
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} cannot be read: {error}") from error
    except KeyError as error:
        raise StudyError(f"{path} is damaged: {error} is missing; {remedy}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise StudyError(f"{path} is damaged: {error}; {remedy}") from error


def _number(value: object) -> float:
    """A JSON number, NaN for null; anything else is an error."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a number was expected, not {value!r}")
    return float(value) if math.isfinite(value) else math.nan


def _config(raw: dict[str, Any]) -> StudyConfig:
    task, names = raw["task"], ("label", "formula", "latex", "latex_derivative", "source")
    activations = tuple(
        ActivationInfo(**{n: str(a[n] if n in names[:2] else a.get(n) or "") for n in names})
        for a in raw["activations"]
    )
    labels = [a.label for a in activations]
    if not labels or len(set(labels)) != len(labels):
        raise ValueError("the activations must be at least one, with different labels")
    return StudyConfig(
        command=str(raw.get("command", "")),
        task=TaskInfo(
            name=str(task["name"]),
            title=str(task.get("title") or task["name"]),
            description=str(task.get("description") or ""),
            metric=str(task["metric"]),
            unit=str(task.get("unit") or ""),
            higher_is_better=bool(task["higher_is_better"]),
            baseline=_number(task["baseline"]),
            solved=None if task.get("solved") is None else _number(task["solved"]),
            steps=None if task.get("steps") is None else int(task["steps"]),
        ),
        slot=str(raw["slot"]),
        slots=tuple(str(s) for s in raw.get("slots", ())),
        activations=activations,
        seeds=tuple(dict.fromkeys(int(s) for s in raw["seeds"])),
        settings=dict(raw.get("settings", {})),
        machine=dict(raw.get("machine", {})),
    )


def _trial(raw: dict[str, Any]) -> Trial:
    final = _number(raw["final_metric"])
    if not math.isfinite(final):
        raise ValueError("final_metric must be a number (the baseline value for a diverged run)")
    return Trial(
        key=str(raw["key"]),
        activation=str(raw["activation"]),
        seed=int(raw["seed"]),
        diverged=_divergence(raw["diverged"]),
        epochs=tuple(_epoch(e) for e in raw["epochs"]),
        final_metric=final,
    )


def _divergence(raw: dict[str, Any] | None) -> Divergence | None:
    if raw is None:
        return None
    epoch, step = raw.get("epoch"), raw.get("step")
    return Divergence(
        epoch=None if epoch is None else int(epoch),
        step=None if step is None else int(step),
        what=str(raw.get("what") or "the run diverged"),
        slot=str(raw.get("slot") or ""),
        value=str(raw.get("value") or ""),
    )


def _epoch(raw: dict[str, Any]) -> EpochRecord:
    if int(raw["epoch"]) < 1:
        raise ValueError(f"epochs count from 1, not {raw['epoch']}")
    quantities = ("metric", "train_loss", "gradient_norm", "gradient_norm_max", "max_abs_cell")
    return EpochRecord(
        epoch=int(raw["epoch"]),
        values={q: _number(raw.get(q)) for q in quantities},
        slots={
            str(slot): {health: _number(value) for health, value in shares.items()}
            for slot, shares in raw.get("slots", {}).items()
        },
    )


def _timing(raw: dict[str, Any]) -> tuple[str, float | None]:
    seconds = _number(raw["seconds_per_step"])
    return str(raw["key"]), seconds if math.isfinite(seconds) and seconds > 0 else None
