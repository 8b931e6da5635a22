"""What the files of a study hold, as frozen values, and reading them with every check.

``read(path, trial_from)`` gives the value or raises :class:`StudyError`, which says what is wrong
with that file. Nothing here knows of folders or plans; that is :mod:`anygate.lab.results`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .rates import LearningRates, rates_from

SCHEMA = 1
T = TypeVar("T")


class StudyError(ValueError):
    """A study directory that cannot be read; the message names the file and the remedy."""


@dataclass(frozen=True)
class TaskInfo:
    """The task of a study: its metric, which way is better, and two landmarks of that metric.

    ``baseline`` is what guessing reaches (a diverged run is given this value), or what
    ``baseline_name`` says instead; ``solved`` is the level that counts as solved, if the task has
    one. ``same_data``: every seed has the same data in the same split.
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
    baseline_name: str = "guessing"
    same_data: bool = False

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
    """``study.json``: what was asked for. The first activation is the reference of comparisons.

    learning_rates: of a study that tunes them; None where the settings hold the only one.
    """

    command: str
    task: TaskInfo
    slot: str
    slots: tuple[str, ...]
    activations: tuple[ActivationInfo, ...]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    machine: Mapping[str, Any]
    learning_rates: LearningRates | None = None


@dataclass(frozen=True)
class Divergence:
    """Where and how a run stopped being finite.

    ``step``: of training. ``time_step``: of the sequence, from 1; with ``slot`` it is where the
    first number that is not finite appeared, without, where the gradient did. The sizes before it
    are the largest |c|, with the time step ``largest_at``, and the norm of the gradient at the next
    time step; NaN if not known.
    """

    epoch: int | None
    step: int | None
    what: str
    slot: str
    value: str
    time_step: int | None = None
    largest_at: int | None = None
    max_abs_cell_before: float = math.nan
    gradient_before: float = math.nan


@dataclass(frozen=True)
class EpochRecord:
    """The measurements of one epoch; NaN where the run had no finite number."""

    epoch: int
    values: Mapping[str, float]
    slots: Mapping[str, Mapping[str, float]]


Series = tuple[float, ...]


@dataclass(frozen=True)
class Snapshot:
    """One recorded pass through the first LSTM layer, in bins of time steps.

    Bin k holds time steps ``edges[k]`` to ``edges[k + 1] - 1``, from 0. ``slots`` maps a slot to
    its statistics, ``states`` holds ``max_abs_cell``, ``grad_h``, ``grad_c`` and the direct norms:
    one number a bin, NaN where it was not finite. See :func:`anygate.lab.measure.snapshot`.
    """

    edges: tuple[int, ...]
    slots: Mapping[str, Mapping[str, Series]]
    states: Mapping[str, Series]


@dataclass(frozen=True)
class Trial:
    """One run: an activation with a seed. ``inside`` holds the snapshots "start" (before the first
    training step) and "end" (after the last), if they were taken."""

    key: str
    activation: str
    seed: int
    diverged: Divergence | None
    epochs: tuple[EpochRecord, ...]
    final_metric: float
    inside: Mapping[str, Snapshot] = field(default_factory=dict)


def read(path: Path, build: Callable[[dict[str, Any]], T]) -> T:
    """Parse one JSON file and build a value, or say in a StudyError why it is bad."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise TypeError("it does not hold a JSON object")
        if raw.get("schema") != SCHEMA:
            raise ValueError(f"schema {raw.get('schema')!r} was found, {SCHEMA} was expected")
        return build(raw)
    except OSError as error:
        raise StudyError(f"it cannot be read ({error.strerror or error})") from error
    except KeyError as error:
        raise StudyError(f"{error} is missing") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise StudyError(str(error)) from error


def _number(value: object) -> float:
    """A JSON number, NaN for null; anything else is an error."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a number was expected, not {value!r}")
    return float(value) if math.isfinite(value) else math.nan


def config_from(raw: dict[str, Any]) -> StudyConfig:
    """``study.json`` as a value."""
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
            baseline_name=str(task.get("baseline_name") or "guessing"),
            same_data=bool(task.get("same_data", False)),
        ),
        slot=str(raw["slot"]),
        slots=tuple(str(s) for s in raw.get("slots", ())),
        activations=activations,
        seeds=tuple(dict.fromkeys(int(s) for s in raw["seeds"])),
        settings=dict(raw.get("settings", {})),
        machine=dict(raw.get("machine", {})),
        learning_rates=rates_from(raw["learning_rates"]) if "learning_rates" in raw else None,
    )


def trial_from(raw: dict[str, Any]) -> Trial:
    """``trials/KEY.json`` as a value."""
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
        inside={str(when): _snapshot(seen) for when, seen in (raw.get("inside") or {}).items()},
    )


_COUNTS = ("epoch", "step", "time_step", "largest_at")


def _divergence(raw: dict[str, Any] | None) -> Divergence | None:
    if raw is None:
        return None
    count = {n: None if raw.get(n) is None else int(raw[n]) for n in _COUNTS}
    return Divergence(
        **count,
        what=str(raw.get("what") or "the run diverged"),
        slot=str(raw.get("slot") or ""),
        value=str(raw.get("value") or ""),
        max_abs_cell_before=_number(raw.get("max_abs_cell_before")),
        gradient_before=_number(raw.get("gradient_before")),
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


def _snapshot(raw: dict[str, Any]) -> Snapshot:
    edges = tuple(raw["edges"])
    whole = all(isinstance(e, int) and not isinstance(e, bool) for e in edges)
    if not whole or len(edges) < 2 or edges[0] != 0 or list(edges) != sorted(set(edges)):
        raise ValueError("the edges of a snapshot must be whole numbers that rise from 0")

    def series(name: str, values: object) -> Series:
        if not isinstance(values, list) or len(values) != len(edges) - 1:
            raise ValueError(f"{name} of a snapshot must hold {len(edges) - 1} numbers")
        return tuple(_number(v) for v in values)

    return Snapshot(
        edges=edges,
        slots={
            str(slot): {str(n): series(n, values) for n, values in seen.items()}
            for slot, seen in raw["slots"].items()
        },
        states={str(n): series(n, v) for n, v in raw.items() if n not in ("edges", "slots")},
    )


def timing_from(raw: dict[str, Any]) -> tuple[str, float | None]:
    """``timing/KEY.json`` as the trial's key and its seconds per step, None if it made none."""
    seconds = _number(raw["seconds_per_step"])
    return str(raw["key"]), seconds if math.isfinite(seconds) and seconds > 0 else None
