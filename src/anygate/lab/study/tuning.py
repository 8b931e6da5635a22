"""A study whose learning rate, or another numeric setting, is tuned: one comparison at a shared
value, one at each activation's own.

The rates are chosen on seeds of their own, apart from those that compare. A rate that suits one
activation can ruin another, and a tiny one that is shared by all flatters those that blow up: with
1e-6 for every network LSTM came last on sequential MNIST (Hu et al. 2018, Overcoming the vanishing
gradient problem in plain recurrent networks).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..settings import SETTINGS, Bounds, changed
from ..tasks import Settings, Task
from ..wording import Notice, to_stderr
from .executors import (
    Executor,
    Progress,
    missing,
    on_this_machine,
    result_of,
    run_trials,
)
from .plan import Study
from .store.files import write_json
from .store.folder import claim
from .store.schema import LearningRates, Tried, Tuned
from .trial import TrialSpec


@dataclass(frozen=True)
class TunedStudy:
    """Tune the learning rate of every activation, or another numeric `setting`, whose values are
    called rates all the same; then compare twice.

    study: what is compared; its own rate is used only if `given`. rates: the grid. seeds: for
    tuning, none of them the study's. given: the shared rate is the study's; else it is the one
    that was found best for the first activation: what a swap without tuning would keep. tuner:
    "grid" tries every rate; "optuna" as many as `tries` between the smallest and the largest, for
    each activation by what its earlier ones reached.

    An arm that says the setting's value itself keeps it: nothing is tuned for it, and it is
    compared once, beside those at the shared value.

    In its folder, study.json says what was chosen, tuning/ has the trials of the tuning and
    rates/RATE/ a Study for each rate that is compared: all activations at the shared rate, those
    whose best it is at every other. So wider grids and more activations keep what is done.
    """

    study: Study
    rates: tuple[float, ...]
    seeds: tuple[int, ...]
    given: bool = False
    tuner: str = "grid"
    tries: int = 8
    setting: str = "learning_rate"

    def __post_init__(self) -> None:
        if not isinstance(getattr(SETTINGS.get(self.setting), "kind", None), Bounds):
            numeric = [name for name, o in SETTINGS.items() if isinstance(o.kind, Bounds)]
            raise ValueError(
                f"tune: {self.setting} is no numeric setting; there are: {', '.join(numeric)}"
            )
        if len(set(self.rates)) < 2:
            option = self.setting.replace("_", "-")
            raise ValueError(
                f"tuning needs two values of {option} or more to choose from (--learning-rates, "
                f"--tune); for a single one there is {option}"
            )
        for rate in self.rates:
            changed(self.study.settings, {self.setting: rate})  # raises for one that cannot be
        if set(self.seeds) & set(self.study.seeds):
            raise ValueError(
                f"the tuning's seeds, from {self.seeds[0]:,}, must be none of those that compare; "
                "take fewer seeds"
            )

    @property
    def task(self) -> Task:
        """The study's task."""
        return self.study.task

    @property
    def slot(self) -> str:
        """The study's slot."""
        return self.study.slot

    @property
    def devices(self) -> list[str]:
        """The devices that its trials train on."""
        return self.study.devices

    @property
    def settings(self) -> Settings:
        """The study's settings."""
        return self.study.settings

    @property
    def variants(self) -> dict[str, TrialSpec]:
        """By activation, what tuning varies."""
        return {t.label: t for t in replace(self.study, seeds=(0,)).trials}

    @property
    def fixed(self) -> dict[str, float]:
        """By arm, the value of the ones that say it themselves."""
        return {
            arm.label: arm.settings[self.setting]
            for arm in self.study.arms
            if self.setting in arm.settings
        }

    @property
    def tuning_trials(self) -> tuple[TrialSpec, ...]:
        """Every activation with every rate of the grid and tuning seed, where Optuna asks none; and
        what each arm that says its value itself reaches with it."""
        fixed, variants = self.fixed, self.variants
        free = tuple(v for label, v in variants.items() if label not in fixed)
        found = self._trials(free, self.rates) if self.tuner == "grid" else ()
        for label, rate in fixed.items():
            found += self._trials([variants[label]], [rate])
        return found

    def _trials(
        self, variants: Sequence[TrialSpec], rates: Sequence[float]
    ) -> tuple[TrialSpec, ...]:
        return tuning_trials(variants, rates, self.seeds, self.setting)

    def asked_trials(self, directory: Path) -> tuple[TrialSpec, ...]:
        """The next trials that Optuna asks for, of all activations; none when it has done so often
        enough, or for a grid. directory: the study's."""
        if self.tuner == "grid":
            return ()
        found: list[TrialSpec] = []
        for label, variant in self.variants.items():
            if label in self.fixed:
                continue
            rates, is_open = self._asked(variant, directory / "tuning")
            found += self._trials([variant], rates[-1:]) if is_open else ()
        return tuple(found)

    def _asked(self, variant: TrialSpec, folder: Path) -> tuple[tuple[float, ...], bool]:
        from .optuna_rates import asked_rates

        def values_at(rate: float) -> list[float] | None:
            trials = self._trials([variant], [rate])
            if missing(trials, folder):
                return None
            return [result_of(t, folder).final_metric for t in trials]

        better, kind = self.task.higher_is_better, SETTINGS[self.setting].kind
        whole = isinstance(kind, Bounds) and kind.kind is int
        ends = min(self.rates), max(self.rates)
        return asked_rates(*ends, self.tries, better, values_at, whole)

    def _tried(self, variant: TrialSpec, folder: Path) -> tuple[float, ...]:
        """The rates that a variant was tried with."""
        if variant.label in self.fixed:
            return (self.fixed[variant.label],)
        return self.rates if self.tuner == "grid" else self._asked(variant, folder)[0]

    def prepare(
        self,
        directory: Path,
        *,
        command: str = "",
        fresh: bool = False,
        notice: Notice = to_stderr,
    ) -> None:
        """Claim the folder, as Study.prepare does; what was chosen is open until settle."""
        config = self._describe(
            command,
            LearningRates(
                self.rates, self.seeds, self.given, tuner=self.tuner, setting=self.setting
            ),
        )
        claim(directory, config, {}, fresh=fresh, notice=notice)

    def settle(
        self, directory: Path, *, command: str = "", notice: Notice = to_stderr
    ) -> dict[Path, Study]:
        """Choose the rates, once the tuning is done, write them into study.json and prepare the
        studies that compare: folder -> study, the shared rate first."""
        chosen = self.choices(directory)
        write_json(directory / "study.json", self._describe(command, chosen))
        studies = {
            directory / "rates" / repr(float(rate)): study
            for rate, study in self.studies(chosen).items()
        }
        for folder, study in studies.items():
            study.prepare(folder, command=command, notice=notice)
        return studies

    def choices(self, directory: Path) -> LearningRates:
        """The best rates by the trials of the tuning. Raises StudyError if one is missing."""
        tuned = {
            label: choose(
                variant,
                self._tried(variant, directory / "tuning"),
                self.seeds,
                directory / "tuning",
                self.setting,
            )
            for label, variant in self.variants.items()
        }
        first = self.study.labels[0]
        own = getattr(self.study.settings, self.setting)
        shared = own if self.given else tuned[first].rate
        return LearningRates(
            self.rates, self.seeds, self.given, shared, tuned, self.tuner, self.setting
        )

    def studies(self, chosen: LearningRates) -> dict[float, Study]:
        """Rate -> the activations to compare at it: at the shared rate all."""
        assert chosen.shared is not None
        groups: dict[float, list[str]] = {chosen.shared: self.study.labels}
        for label in self.study.labels:
            own = chosen.tuned[label].rate
            if own != chosen.shared and label not in self.fixed:
                groups.setdefault(own, []).append(label)
        return {
            rate: replace(
                self.study.only(labels),
                settings=changed(self.study.settings, {self.setting: rate}),
            )
            for rate, labels in groups.items()
        }

    def _describe(self, command: str, rates: LearningRates) -> dict[str, Any]:
        config = self.study.describe(command)
        config["settings"].pop(self.setting, None)  # there are several
        return {**config, "learning_rates": rates.describe()}


FIRST_SEED = 1_000_000
"""Tuning counts its seeds from here, so that they never are those of a comparison."""


def tuning_seeds(count: int) -> tuple[int, ...]:
    """`count` seeds for tuning."""
    return tuple(range(FIRST_SEED, FIRST_SEED + count))


def tuning_trials(
    variants: Sequence[TrialSpec],
    rates: Sequence[float],
    seeds: Sequence[int],
    setting: str = "learning_rate",
) -> tuple[TrialSpec, ...]:
    """Every variant with every rate and seed; a variant's own seed and rate do not matter."""
    return tuple(
        replace(v, seed=seed, settings=changed(v.settings, {setting: rate}), snapshots=False)
        for seed in seeds
        for rate in sorted(set(rates))
        for v in variants
    )


def tune(
    variants: Mapping[str, TrialSpec],
    rates: Sequence[float],
    directory: Path,
    *,
    seeds: Sequence[int] = tuning_seeds(3),
    jobs: int | None = None,
    executor: Executor = on_this_machine,
    progress: Progress = lambda done, total, key: None,
) -> dict[str, Tuned]:
    """Train every variant with every rate, and choose. Resumes as run_trials does.

    The best rate is that of the best mean final metric over the seeds, a diverged run counting as
    the baseline; of equals the middle one, which is furthest from where it gets worse.
    """
    trials = tuning_trials(tuple(variants.values()), rates, seeds)
    run_trials(trials, directory, jobs=jobs, executor=executor, progress=progress)
    return {name: choose(v, rates, seeds, directory) for name, v in variants.items()}


def choose(
    variant: TrialSpec,
    rates: Sequence[float],
    seeds: Sequence[int],
    directory: Path,
    setting: str = "learning_rate",
) -> Tuned:
    """The choice from results that lie in the folder. Raises StudyError if one is missing."""
    tried = []
    for rate in sorted(set(rates)):
        trials = tuning_trials([variant], [rate], seeds, setting)
        runs = [result_of(t, directory) for t in trials]
        diverged = sum(run.diverged is not None for run in runs)
        tried.append(Tried(rate, tuple(run.final_metric for run in runs), diverged))
    found = Tuned(tried[0].rate, tuple(tried))
    top = (max if variant.task.higher_is_better else min)(found.means.values())
    equals = [rate for rate, mean in found.means.items() if math.isclose(mean, top, rel_tol=1e-12)]
    return replace(found, rate=equals[len(equals) // 2])
