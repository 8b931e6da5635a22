"""The contents of a study's files, as frozen values whose fields are the schema of the files.

Nothing here knows of folders; that is :mod:`anygate.lab.study.store.results`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from itertools import chain
from statistics import fmean
from typing import Annotated, Any, Literal, TypedDict

from msgspec import Meta

from ...wording import noun_of
from .files import (
    Count,
    FileName,
    Line,
    Measured,
    Name,
    Number,
    Positive,
    Seed,
    Whole,
    Word,
)

MOST_ACTIVATIONS, MOST_SEEDS, MOST_EPOCHS = 100, 1_000, 10_000
"""Of one study: beyond them a report takes minutes and nobody reads it."""
MOST_TRIALS = 10_000
"""Activations times seeds."""


@dataclass(frozen=True)
class TaskInfo:
    """The task of a study: its metric, which way is better, and two landmarks of that metric.

    ``baseline`` is what guessing reaches (a diverged run is given this value), or what
    ``baseline_name`` says instead; ``solved`` is the level that counts as solved, if the task has
    one. ``same_data``: every seed has the same data in the same split. ``own``: the training is the
    user's own. ``worst_counts``: ``baseline`` is not known beforehand; a diverged run counts as the
    worst run that did not.
    """

    name: Line
    metric: Name
    higher_is_better: bool
    baseline: Number
    title: Line = ""
    description: Line = ""
    unit: Name = ""
    solved: Number | None = None
    steps: Count | None = None
    baseline_name: Name = "guessing"
    same_data: bool = False
    own: bool = False
    worst_counts: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "title", self.title or self.name)

    @property
    def as_percent(self) -> bool:
        """True if values are fractions that read better as percentages."""
        return not self.unit and "accuracy" in self.metric.lower()

    def show(self, value: float) -> str:
        """A value of the metric for people: ``93.1%`` or ``0.0123 m``; a dash for none."""
        if not math.isfinite(value):
            return "–"
        if self.as_percent:
            return f"{100 * value:.1f}%"
        return f"{value:.4g} {self.unit}".rstrip()

    def tell(self, value: float) -> str:
        """As show, for a sentence: a relative error says of what it is a share."""
        relative = self.metric == "relative error" and self.baseline == 1
        return f"{self.show(value)}{f' of the error of {self.baseline_name}' if relative else ''}"

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
        """True if ``value`` is strictly better than ``other``."""
        return value > other if self.higher_is_better else value < other

    def is_solved(self, value: float) -> bool:
        """True if ``value`` reaches the solved level (False if the task has none)."""
        return self.solved is not None and not self.better(self.solved, value)


Setting = Line | bool | int | Number | None
"""A setting as files hold it; lists and mappings as their text (msgspec 0.22 frees a union with
``list[Any]`` and ``dict[str, Any]`` twice when Python ends)."""


@dataclass(frozen=True)
class ActivationInfo:
    """One arm under test, as the study wrote it down. formula: of the activation that stands for
    it, empty if there is none. settings: all that the arm sets, by name."""

    label: Annotated[Name, Meta(min_length=1)]
    formula: Line
    source: Line = ""
    settings: dict[Line, Setting] = field(default_factory=dict)


class Settings(TypedDict, total=False):
    """The settings that all trials share, as far as sentences are made of them."""

    hidden_size: Count
    epochs: Annotated[int, Meta(ge=1, le=MOST_EPOCHS)]
    batch_size: Count
    learning_rate: Positive
    gradient_clip: Number
    forget_bias: Number
    init: Line
    clip: Number
    engine: Line
    optimizer: Line
    margin: Positive


@dataclass(frozen=True)
class StudyConfig:
    """``study.json``: what was asked for. The first activation is the reference of comparisons.

    learning_rates: of a study that tunes them; None where the settings hold the only one.
    """

    task: TaskInfo
    slot: Word
    activations: Annotated[
        tuple[ActivationInfo, ...], Meta(min_length=1, max_length=MOST_ACTIVATIONS)
    ]
    seeds: Annotated[tuple[Seed, ...], Meta(max_length=MOST_SEEDS)]
    slots: Annotated[tuple[Word, ...], Meta(max_length=20)] = ()
    command: Line = ""
    settings: Settings = field(default_factory=Settings)
    machine: Annotated[dict[Word, Line | Whole | Number | None], Meta(max_length=30)] = field(
        default_factory=dict
    )
    learning_rates: LearningRates | None = None

    def __post_init__(self) -> None:
        labels = [a.label for a in self.activations]
        if len(set(labels)) < len(labels) or len(set(self.seeds)) < len(self.seeds):
            raise ValueError("an activation or a seed is given twice")
        if len(labels) * len(self.seeds) > MOST_TRIALS:
            raise ValueError(
                f"{len(labels)} activations with {len(self.seeds)} seeds; at most {MOST_TRIALS:,} "
                "trials make a study"
            )


@dataclass(frozen=True)
class Divergence:
    """The place and the way in which a run stopped being finite.

    ``step``: of training. ``time_step``: of the sequence, from 1; with ``slot`` it is where the
    first number that is not finite appeared, without, where the gradient did. The sizes before it
    are the largest |c|, with the time step ``largest_at``, and the norm of the gradient at the next
    time step; NaN if not known.
    """

    epoch: Count | None = None
    step: Count | None = None
    what: Line = "the run diverged"
    slot: Line = ""
    value: Line = ""
    time_step: Count | None = None
    largest_at: Count | None = None
    max_abs_cell_before: Measured = math.nan
    gradient_before: Measured = math.nan


@dataclass(frozen=True)
class EpochRecord:
    """The measurements of one epoch; NaN where the run had no finite number."""

    epoch: Count
    metric: Measured = math.nan
    train_loss: Measured = math.nan
    gradient_norm: Measured = math.nan
    gradient_norm_max: Measured = math.nan
    max_abs_cell: Measured = math.nan
    slots: dict[Word, dict[Word, Measured]] = field(default_factory=dict)
    values: dict[Name, Measured] = field(default_factory=dict)
    """Everything else that the user's own training reported."""


Series = tuple[Measured, ...]


@dataclass(frozen=True)
class Snapshot:
    """One recorded pass through the first LSTM layer, in bins of time steps.

    Bin k holds time steps ``edges[k]`` to ``edges[k + 1] - 1``, from 0. ``slots`` maps a slot to
    its statistics, ``states`` holds ``max_abs_cell``, ``grad_h``, ``grad_c`` and the direct norms:
    one number a bin, NaN where it was not finite. See :func:`anygate.lab.study.measure.snapshot`.
    """

    edges: Annotated[tuple[Whole, ...], Meta(min_length=2, max_length=1_000)]
    slots: dict[Word, dict[Word, Series]]
    max_abs_cell: Series | None = None
    grad_h: Series | None = None
    grad_c: Series | None = None
    grad_h_direct: Series | None = None
    grad_c_direct: Series | None = None

    def __post_init__(self) -> None:
        if self.edges[0] != 0 or list(self.edges) != sorted(set(self.edges)):
            raise ValueError("the edges of a snapshot must rise from 0")
        bins = len(self.edges) - 1
        for name, series in chain(self.states.items(), *(s.items() for s in self.slots.values())):
            if len(series) != bins:
                raise ValueError(f"{name} of a snapshot must hold {bins} numbers")

    @property
    def states(self) -> dict[str, Series]:
        """By name, those that were recorded."""
        names = ("max_abs_cell", "grad_h", "grad_c", "grad_h_direct", "grad_c_direct")
        return {name: series for name in names if (series := getattr(self, name)) is not None}


@dataclass(frozen=True)
class Trial:
    """One run: an arm with a seed. ``inside`` holds the snapshots "start" (before the first
    training step) and "end" (after the last), if taken. ``settings``: all that it ran with.
    ``values``: other final numbers of the user's own training."""

    key: FileName
    activation: Name
    seed: Seed
    diverged: Divergence | None
    epochs: Annotated[tuple[EpochRecord, ...], Meta(max_length=MOST_EPOCHS)]
    final_metric: Number
    inside: dict[Literal["start", "end"], Snapshot] = field(default_factory=dict)
    settings: dict[Line, Setting] = field(default_factory=dict)
    values: dict[Name, Measured] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if [e.epoch for e in self.epochs] != list(range(1, len(self.epochs) + 1)):
            raise ValueError("the epochs must count 1, 2, 3 and so on")


@dataclass(frozen=True)
class Timing:
    """The seconds that a training step of a trial took, NaN if it made none, and all of it; and the
    machine and versions that it ran with."""

    key: FileName
    seconds_per_step: Measured
    seconds_total: Measured = math.nan
    machine: dict[Word, Line | Whole | Number | None] = field(default_factory=dict)


CLOCK = 1.25
"""The rounds' ratios of time may differ by this factor; beyond it the clock was disturbed."""


@dataclass(frozen=True)
class StepTimes:
    """cost/steps.json: for each activation the least seconds of a training step in each round."""

    seconds: dict[Name, Annotated[tuple[Positive, ...], Meta(min_length=1, max_length=1_000)]]
    machine: dict[Word, Line | Whole | Number | None] = field(default_factory=dict)

    @property
    def steady(self) -> bool:
        """True if no activation's time relative to the first one's differs too much by round."""
        first, *others = self.seconds.values()
        ratios = [[t / f for t, f in zip(own, first, strict=False)] for own in others]
        return all(max(own) <= CLOCK * min(own) for own in ratios)


@dataclass(frozen=True)
class PlannedRuns:
    """The keys of the short trials with one activation, learning rate and forget bias."""

    activation: Name
    learning_rate: Positive
    forget_bias: Number
    keys: Annotated[tuple[FileName, ...], Meta(max_length=MOST_SEEDS)]


@dataclass(frozen=True)
class StabilityPlan:
    """``stability/grid.json``."""

    cells: Annotated[tuple[PlannedRuns, ...], Meta(max_length=MOST_TRIALS)]


@dataclass(frozen=True)
class Tried:
    """One value of the setting: the final metric of each tuning seed, and how many of these runs
    diverged (they score the baseline)."""

    rate: Number
    values: Annotated[tuple[Number, ...], Meta(min_length=1, max_length=1_000)]
    diverged: Whole


@dataclass(frozen=True)
class Tuned:
    """The result of tuning one variant: the best value among those tried, which ascend."""

    rate: Number
    tried: Annotated[tuple[Tried, ...], Meta(min_length=1, max_length=100)]

    def __post_init__(self) -> None:
        if self.rate not in self.scores:
            raise ValueError(f"the best rate {self.rate} is none of those tried")

    @property
    def scores(self) -> dict[float, tuple[float, ...]]:
        """Rate -> the final metric of each tuning seed."""
        return {t.rate: t.values for t in self.tried}

    @property
    def diverged(self) -> dict[float, int]:
        """Rate -> how many runs did."""
        return {t.rate: t.diverged for t in self.tried}

    @property
    def edge(self) -> str:
        """'lowest' or 'highest' if the best rate is an end of the grid, beyond which a better one
        may lie; '' if it lies inside."""
        rates = list(self.scores)
        ends = {rates[0]: "lowest", rates[-1]: "highest"}
        return ends.get(self.rate, "") if len(rates) > 1 else ""

    @property
    def means(self) -> dict[float, float]:
        """Rate -> mean final metric."""
        return {rate: fmean(values) for rate, values in self.scores.items()}


@dataclass(frozen=True)
class LearningRates:
    """rates: the grid. seeds: those of the tuning. shared: the one rate for all, `given` or else
    the best for the first activation. tuned: by activation. None and empty until tuning is done.
    tuner: "grid", or "optuna", for which `rates` are only bounds. setting: what is tuned, a numeric
    setting; its values are called rates, as those of the usual one are."""

    rates: Annotated[tuple[Number, ...], Meta(max_length=100)]
    seeds: Annotated[tuple[Seed, ...], Meta(max_length=1_000)]
    given: bool
    shared: Number | None = None
    tuned: Annotated[dict[Name, Tuned], Meta(max_length=200)] = field(default_factory=dict)
    tuner: Word = "grid"
    setting: Word = "learning_rate"

    @property
    def word(self) -> str:
        """The setting in sentences."""
        return self.setting.replace("_", " ")

    @property
    def noun(self) -> str:
        """One of its values in sentences: rate or value."""
        return noun_of(self.setting)

    def describe(self) -> dict[str, Any]:
        """As study.json holds it."""
        found = asdict(self)
        if self.setting == "learning_rate":  # as older versions wrote and read it
            del found["setting"]
        for label, tuned in self.tuned.items():
            found["tuned"][label]["edge"] = tuned.edge
        return found
