"""The trials that a study has left, and about how long they take: --dry-run."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..tasks import Data
from ..wording import at_own, at_shared
from .executors import missing
from .plan import Study
from .trial import TrialSpec, one_thread, run_trial
from .tuning import TunedStudy

STEPS = 5
"""Training steps that are timed."""
_TESTED = 1000  # test sequences at most that are timed


@dataclass(frozen=True)
class Part:
    """A part of a study: how many trials it has, and how many of each activation are left.

    open: the rates are not chosen yet, so that these are the most there can be.
    """

    name: str
    trials: int
    left: Mapping[str, int]
    open: bool = False

    @property
    def done(self) -> int:
        """Trials whose result is there."""
        return self.trials - sum(self.left.values())


def outlook(directory: Path, study: Study | TunedStudy, *, fresh: bool = False) -> list[Part]:
    """The parts of a study in the order in which they run, with what its folder holds; fresh: as if
    it held nothing."""
    if isinstance(study, Study):
        return [_open_part("training", {directory: study.trials}, fresh)]
    if study.tuner != "grid" and (fresh or study.asked_trials(directory)):
        most = _most(study)
        tuning = Part("tuning", sum(most.values()), most, open=True)
    elif study.tuner != "grid":
        tuning = Part("tuning", sum(_most(study).values()), {})
    else:
        tuning = _open_part("tuning", {directory / "tuning": study.tuning_trials}, fresh)
    if tuning.left:
        labels, seeds = list(study.variants), len(study.study.seeds)
        own = labels if study.given else labels[1:]  # the shared rate is the best for the first
        own = [label for label in own if label not in study.fixed]
        return [tuning] + [
            Part(name, seeds * len(some), dict.fromkeys(some, seeds), open=True)
            for name, some in ((at_shared(study.setting), labels), (at_own(study.setting), own))
            if some
        ]
    shared, *others = (
        {directory / "rates" / repr(rate): part.trials}
        for rate, part in study.studies(study.choices(directory)).items()
    )
    parts = [tuning, _open_part(at_shared(study.setting), shared, fresh)]
    if others:
        own_rates = {folder: trials for other in others for folder, trials in other.items()}
        parts.append(_open_part(at_own(study.setting), own_rates, fresh))
    return parts


def _most(study: TunedStudy) -> dict[str, int]:
    """The trials by which Optuna tunes each arm."""
    tries = {label: 1 if label in study.fixed else study.tries for label in study.variants}
    return {label: count * len(study.seeds) for label, count in tries.items()}


def _open_part(name: str, planned: Mapping[Path, Sequence[TrialSpec]], fresh: bool) -> Part:
    left = Counter(
        t.label
        for folder, trials in planned.items()
        for t in (trials if fresh else missing(trials, folder))
    )
    return Part(name, sum(map(len, planned.values())), dict(left))


def left_seconds(study: Study | TunedStudy, parts: Sequence[Part]) -> float:
    """Seconds that the trials that are left take one after another, by timing one of each
    activation (see trial_seconds)."""
    base = study.study if isinstance(study, TunedStudy) else study
    left: Counter[str] = Counter()
    for part in parts:
        left.update(part.left)
    specs = {t.label: t for t in replace(base, seeds=base.seeds[:1]).trials}
    return sum(n * trial_seconds(specs[label]) for label, n in left.items() if n)


def trial_seconds(spec: TrialSpec) -> float:
    """An estimate of a trial's seconds in a process of one thread, from short runs on STEPS batches
    with one and with two epochs: their difference is an epoch, the rest is once a trial."""
    started = time.perf_counter()
    data = spec.task.load(spec.seed)
    loading = time.perf_counter() - started
    part = data.first(STEPS * spec.settings.batch_size, _TESTED)
    with one_thread():
        _timed(spec, part, 1)  # compiles
        once, _ = _timed(spec, part, 1)
        twice, step = _timed(spec, part, 2)
    epoch = max(twice - once, 0.0)
    batch = spec.settings.batch_size
    steps, taken = (math.ceil(len(d.train_y) / batch) for d in (data, part))
    testing = max(epoch - taken * step, 0.0) * len(data.test_y) / len(part.test_y)
    per_trial = max(once - epoch, 0.0)
    return loading + per_trial + spec.settings.epochs * (steps * step + testing)


def _timed(spec: TrialSpec, data: Data, epochs: int) -> tuple[float, float]:
    """Seconds of a trial on these data without loading them, and of one of its steps."""
    task = replace(spec.task, make=partial(_same, data))
    settings = replace(spec.settings, epochs=epochs)
    short = replace(spec, task=task, settings=settings, keep_weights=False, log=None)
    _, timing = run_trial(short)
    return timing["seconds_total"], timing["seconds_per_step"] or 0.0


def _same(data: Data, seed: int) -> Data:
    return data
