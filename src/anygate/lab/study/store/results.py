"""The results of a finished (or half finished) study, read from disk and arranged.

``load(directory)`` reads ``study.json``, ``trials/*.json`` and ``timing/*.json`` of one study
directory into frozen values. Nothing is computed here beyond arranging numbers by activation,
seed and epoch: missing runs become NaN, and a run that diverged keeps the value it was given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from .files import StudyError, read
from .schema import (
    Divergence,
    LearningRates,
    Snapshot,
    StabilityPlan,
    StepTimes,
    StudyConfig,
    TaskInfo,
    Timing,
    Trial,
)

T = TypeVar("T")
_MOST_SHOWN = 20  # damaged files in one message
LARGEST_FOLDER = 256 * 2**20
"""Bytes of all trials of a study."""
Quantity = Literal["metric", "train_loss", "gradient_norm", "gradient_norm_max", "max_abs_cell"]
Health = Literal["saturated", "dead"]


@dataclass(frozen=True)
class StudyResults:
    """A study as it stands on disk: the plan, the trials that are there, and their timing.

    ``trials`` holds planned runs only, at most one per (activation, seed). ``ignored`` counts trial
    files outside the plan. ``timings``: by key, with the machine. ``costs``: the seconds of a
    training step of each activation, round by round, measured in turn (study/costs.py).
    ``stability`` holds the short runs of the stability map, if there is one.
    ``own``: the same comparison at each activation's own best learning rate, where the study tuned
    them and not all are best at the shared one, which this is then.
    """

    config: StudyConfig
    trials: tuple[Trial, ...]
    ignored: int = 0
    own: StudyResults | None = None
    stability: tuple[ShortRuns, ...] = ()
    timings: Mapping[str, Timing] = field(default_factory=dict)
    costs: Mapping[str, Sequence[float]] = field(default_factory=dict)
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
        """The number of trials that the plan asks for."""
        return len(self.labels) * len(self.seeds)

    @property
    def present(self) -> int:
        """The number of them that have a result."""
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
        """The number of present runs of ``label`` that reached the task's solved level."""
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
                row[record.epoch - 1] = getattr(record, quantity)
            if quantity == "metric" and run.diverged is not None:
                row[len(run.epochs) :] = run.final_metric
                row[~np.isfinite(row)] = run.final_metric
        return table

    def share(self, label: str, slot: str, health: Health) -> NDArray[np.float64]:
        """The fraction saturated or dead in ``slot`` at each run's last recorded epoch."""
        last = [run.epochs[-1].slots.get(slot, {}) for run in self.runs(label) if run.epochs]
        values = np.array([record.get(health, math.nan) for record in last], dtype=np.float64)
        return values[np.isfinite(values)]

    def snapshots(self, label: str, when: Literal["start", "end"]) -> list[Snapshot]:
        """The snapshots recorded inside the runs of ``label`` before or after training, by seed; at
        the end without the runs that diverged."""
        kept = [t for t in self.runs(label) if when == "start" or t.diverged is None]
        return [t.inside[when] for t in kept if when in t.inside]

    @property
    def measured_slots(self) -> list[str]:
        """The slots that any run reports on, in the order of the cell's equations."""
        order = ("input_gate", "forget_gate", "candidate", "output_gate", "cell_output")
        seen = {slot for t in self.trials for e in t.epochs for slot in e.slots}
        return [s for s in order if s in seen] + sorted(seen.difference(order))


def load(directory: Path | str) -> StudyResults:
    """Read a study directory.

    Raises :class:`StudyError` if ``study.json`` is missing, of another schema or incomplete, or if
    trial or timing files are damaged; the message names every such file and says what to do.
    Missing trials and missing timing are normal (an interrupted study) and raise nothing.
    """
    root = Path(directory)
    config = _load_config(root / "study.json")
    rates = config.learning_rates
    found = _gather(config, {root: None}) if rates is None else _tuned(root, config, rates)
    short, times = load_short_runs(root), load_step_times(root)
    own = None if found.own is None else replace(found.own, costs=times)
    return replace(found, stability=short, costs=times, own=own)


def _tuned(root: Path, config: StudyConfig, chosen: LearningRates) -> StudyResults:
    """The results at the shared value of what was tuned, with those at each one's own where there
    are others."""
    labels = [a.label for a in config.activations]
    if chosen.shared is None or not set(labels) <= set(chosen.tuned):
        raise StudyError(
            f"{root}: the best {chosen.word} of each activation is not chosen yet; run the same "
            "`anygate compare` again, which goes on"
        )

    def at(rates: Mapping[str, float], shown: float | str) -> StudyResults:
        groups: dict[Path, set[str] | None] = {
            root / "rates" / repr(float(rate)): {x for x in labels if rates[x] == rate}
            for rate in rates.values()
        }
        settings: Any = {**config.settings, chosen.setting: shown}
        return _gather(replace(config, settings=settings), groups)

    shared = at(dict.fromkeys(labels, chosen.shared), chosen.shared)
    # An arm that says its value itself was run beside those at the shared one.
    fixed = {a.label for a in config.activations if chosen.setting in a.settings}
    best = {x: chosen.shared if x in fixed else chosen.tuned[x].rate for x in labels}
    if set(best.values()) == {chosen.shared}:
        return shared
    own = at(best, ", ".join(f"{label} {chosen.tuned[label].rate:g}" for label in labels))
    return replace(shared, own=own)


def _gather(config: StudyConfig, folders: Mapping[Path, set[str] | None]) -> StudyResults:
    """The results of the activations that are named for each folder (None: of all in it)."""
    damaged: list[tuple[Path, str]] = []
    trials: list[tuple[Path, Trial]] = []
    timings: dict[str, Timing] = {}
    for folder, labels in folders.items():
        found = _read_all(folder / "trials", Trial, damaged)
        trials += [each for each in found if labels is None or each[1].activation in labels]
        timed = _read_all(folder / "timing", Timing, damaged)
        timings |= {t.key: t for _, t in timed}
    if damaged:
        raise StudyError(_damage(damaged))
    placed, ignored = _place(config, trials)
    if config.task.worst_counts:
        config, placed = _worst_counts(config, placed)
    return StudyResults(config, placed, ignored, timings=timings)


def in_memory(config: StudyConfig, scores: Mapping[str, Mapping[int, float]]) -> StudyResults:
    """Results that lie in no folder: arm -> seed -> final metric, not finite for a run that
    failed."""
    trials = tuple(
        Trial(
            key=f"arm{k}-seed{seed}",
            activation=label,
            seed=seed,
            diverged=None if math.isfinite(value) else Divergence(what=f"the value is {value}"),
            epochs=(),
            final_metric=value if math.isfinite(value) else config.task.baseline,
        )
        for k, (label, column) in enumerate(scores.items())
        for seed, value in column.items()
    )
    if config.task.worst_counts:
        config, trials = _worst_counts(config, trials)
    return StudyResults(config, trials)


def _worst_counts(
    config: StudyConfig, trials: tuple[Trial, ...]
) -> tuple[StudyConfig, tuple[Trial, ...]]:
    """A diverged run counts as the worst run that did not (0 if all did)."""
    worst = min if config.task.higher_is_better else max
    value = worst((t.final_metric for t in trials if t.diverged is None), default=0.0)
    scored = (t if t.diverged is None else replace(t, final_metric=value) for t in trials)
    return replace(config, task=replace(config.task, baseline=value)), tuple(scored)


def _place(config: StudyConfig, trials: list[tuple[Path, Trial]]) -> tuple[tuple[Trial, ...], int]:
    """The planned trials, one for each activation and seed, and how many were not planned."""
    planned = {(a.label, seed) for a in config.activations for seed in config.seeds}
    found: dict[tuple[str, int], tuple[Path, Trial]] = {}
    ignored = 0
    for path, trial in trials:
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
    return tuple(trial for _, trial in found.values()), ignored


def _load_config(path: Path) -> StudyConfig:
    if not path.is_file():
        raise StudyError(
            f"{path} does not exist: {path.parent} is not a study directory. "
            "`anygate compare` makes one."
        )
    try:
        return read(path, StudyConfig)
    except StudyError as error:
        remedy = "run `anygate compare` again to write it anew"
        raise StudyError(f"{path} is damaged: {error}; {remedy}") from error


def _read_all(
    directory: Path, kind: type[T], damaged: list[tuple[Path, str]]
) -> list[tuple[Path, T]]:
    """Every JSON file of a folder as a value; those that are bad go to ``damaged`` with the why.
    Raises StudyError for a folder of more than LARGEST_FOLDER bytes."""
    found, size = [], 0
    for path in sorted(directory.glob("*.json")):
        size += path.lstat().st_size
        if size > LARGEST_FOLDER:
            raise StudyError(
                f"{directory} holds more than {LARGEST_FOLDER >> 20} MiB; delete what is not of "
                "this study"
            )
        try:
            found.append((path, read(path, kind)))
        except StudyError as error:
            damaged.append((path, str(error)))
    return found


def _damage(damaged: list[tuple[Path, str]]) -> str:
    """All damaged files with what is wrong, and the remedy."""
    if len(damaged) == 1:
        ((path, why),) = damaged
        return (
            f"{path} is damaged: {why}; run the same `anygate compare` again, which replaces it, "
            "or delete this file"
        )
    shown = damaged[:_MOST_SHOWN]
    listed = "".join(f"\n  {path}: {why}" for path, why in shown)
    listed += f"\n  and {len(damaged) - len(shown)} more" if len(damaged) > len(shown) else ""
    return (
        f"{len(damaged)} files are damaged; run the same `anygate compare` again, which replaces "
        f"them, or delete them:{listed}"
    )


@dataclass(frozen=True)
class ShortRuns:
    """The short runs of one activation with one learning rate and one initial forget bias,
    as far as they are done."""

    activation: str
    learning_rate: float
    forget_bias: float
    runs: tuple[Trial, ...]

    @property
    def diverged(self) -> int:
        """The number of runs that diverged."""
        return sum(run.diverged is not None for run in self.runs)

    @property
    def share(self) -> float:
        """The share of runs that diverged."""
        return self.diverged / len(self.runs)


def load_short_runs(directory: Path) -> tuple[ShortRuns, ...]:
    """The short runs in a study's folder, none if there is no map. Settings of which no run is
    done are left out. Raises StudyError, which names the file, for a damaged one."""
    root = directory / "stability"
    if not (root / "grid.json").exists():
        return ()
    found = []
    for plan in _read_short_runs(root / "grid.json", StabilityPlan).cells:
        paths = [root / "trials" / f"{key}.json" for key in plan.keys]
        runs = tuple(_read_short_runs(path, Trial) for path in paths if path.exists())
        if runs:
            found.append(ShortRuns(plan.activation, plan.learning_rate, plan.forget_bias, runs))
    return tuple(found)


def steps_path(directory: Path) -> Path:
    """The file of a study's folder with the times of training steps."""
    return directory / "cost" / "steps.json"


def load_step_times(directory: Path) -> Mapping[str, Sequence[float]]:
    """Seconds of a training step by activation, round by round; none where they were not measured.
    Raises StudyError, which names the file, for a damaged one."""
    path = steps_path(directory)
    if not path.exists():
        return {}
    try:
        return read(path, StepTimes).seconds
    except StudyError as error:
        raise StudyError(
            f"{path} is damaged: {error}; run the same `anygate compare` again, which replaces it"
        ) from error


def _read_short_runs(path: Path, kind: type[T]) -> T:
    try:
        return read(path, kind)
    except StudyError as error:
        raise StudyError(
            f"{path} is damaged: {error}; run the same `anygate compare --stability` again, which "
            "replaces it, or delete the folder stability"
        ) from error


def stable_rate(found: Sequence[ShortRuns]) -> float | None:
    """The largest learning rate at which, and below which, none of these runs diverged, with
    whatever forget bias; None if some did at the smallest."""
    stable = None
    for rate in sorted({c.learning_rate for c in found}):
        if any(c.diverged for c in found if c.learning_rate == rate):
            break
        stable = rate
    return stable
