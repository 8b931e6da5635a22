"""The study of a user's own training: `train(swap, seed, trial)`, each call a trial."""

from __future__ import annotations

import hashlib
import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any, Literal

import torch

from ...engines.protocol import EngineError
from ..arms import Arm, describe_arm, plain, slots_of_arms
from ..wording import Notice, to_stderr
from .context import (
    CHECKPOINT,
    RunningTrial,
    Swap,
    all_seeded,
    as_epochs,
    as_number,
    as_numbers,
    merged_curves,
)
from .executors import Executor, Progress, on_this_machine, run_trials
from .live import live_log
from .machine import machine
from .store.files import LARGEST_NUMBER, SCHEMA
from .store.folder import claim
from .trial import Outcome, file_key, tidy

Train = Callable[..., object]
OnError = Literal["record", "raise"]

OUTCOMES = (ArithmeticError, ValueError, RuntimeError, AssertionError)
"""Exceptions of a training that are an outcome of its arm, as a loss that is not finite is."""
MISTAKES = (NotImplementedError, RecursionError, torch.OutOfMemoryError, EngineError)
"""The ones among them that say something of the code or the machine: these are raised."""
_LONGEST = 300  # characters of an exception's text in a file


class TrainError(ValueError):
    """A `train` that does or returns something that cannot be used; the message says what to
    change."""


@dataclass(frozen=True)
class OwnTrial:
    """One call of `train`: one arm, one seed. first: an exception in it is raised, not recorded,
    because it is the first trial of all and most likely a mistake in `train`."""

    train: Train
    arm: Arm
    seed: int
    metric: str
    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    baseline: float | None = None
    slot: str = "activation"
    on_error: OnError = "record"
    first: bool = False
    log: Path | None = None

    @property
    def label(self) -> str:
        """The arm's name."""
        return self.arm.label

    @property
    def key(self) -> str:
        """A file name for the result."""
        activations = {s: [str(a.closed), dict(a.parameters)] for s, a in self.arm.slots.items()}
        content = {
            "own": self.metric,
            "label": self.label,
            "arm": self.arm.describe() | {"activations": activations},
            "seed": self.seed,
            "settings": {name: plain(value) for name, value in self.settings.items()},
        }
        return file_key(self.label, self.seed, content)

    @property
    def functions(self) -> tuple[Train, ...]:
        """The user's own."""
        return (self.train,)

    def run(self) -> Outcome:
        """Call `train` with all random numbers seeded, and read what it returns. Raises TrainError
        for what cannot be used, ArmError from swap, and what `train` raises if it is no outcome
        (see OUTCOMES, MISTAKES)."""
        swap = Swap(self.arm)
        trial = RunningTrial(self.arm, self.seed, self.folder / self.key, self.metric)
        trial.settings = {**self.settings, **trial.settings}
        where = None if self.log is None else self.log / self.key
        arguments = (swap, self.seed, trial)[: _arguments(self.train)]
        started = time.perf_counter()
        failure, returned = "", None
        with all_seeded(self.seed), live_log(where) as trial.log:
            try:
                returned = self.train(*arguments)
            except OUTCOMES as error:
                if swap.failed or isinstance(error, MISTAKES) or self.on_error == "raise":
                    raise
                if self.first:
                    error.add_note(
                        "The first trial of all failed, so this is taken for a mistake in train. "
                        "In any other trial it would be recorded as an outcome of its arm."
                    )
                    raise
                failure = f"{type(error).__name__}: {error}"
        if not swap.calls and not failure:
            raise TrainError(
                "train never called swap(model), so that all arms would be the same; write "
                "model = swap(MyModel()) before the optimizer is made"
            )
        return self._outcome(trial, returned, failure, time.perf_counter() - started)

    def _outcome(
        self, trial: RunningTrial, returned: object, failure: str, seconds: float
    ) -> Outcome:
        score, others, curves = (
            (math.nan, {}, {}) if failure else self._read_outcome(trial, returned)
        )
        try:
            rows = merged_curves(trial.reports, curves)
        except ValueError as error:
            raise TrainError(f"train returned {error}") from error
        what = failure
        if not what and not abs(score) <= LARGEST_NUMBER:
            what = f"{self.metric} is {score}"
        diverged = None
        if what:
            line = " ".join("".join(c if c.isprintable() else " " for c in what).split())
            diverged = {"epoch": len(rows) + 1 if failure else max(len(rows), 1), "what": line}
            diverged["what"] = line[:_LONGEST]
            score = 0.0 if self.baseline is None else self.baseline
        result = {
            "schema": SCHEMA,
            "key": self.key,
            "activation": self.label,
            "slot": self.slot,
            "seed": self.seed,
            "diverged": diverged,
            "epochs": as_epochs(rows, self.metric),
            "inside": tidy(trial.inside, 4),
            "final_metric": float(score),
            "settings": {name: plain(value) for name, value in trial.settings.items()},
            "values": tidy(others),
        }
        timing = {
            "schema": SCHEMA,
            "key": self.key,
            "seconds_per_step": None,
            "seconds_total": seconds,
            "machine": machine(),
        }
        return result, timing

    def _read_outcome(
        self, trial: RunningTrial, returned: object
    ) -> tuple[float, dict[str, float], dict[str, list[float]]]:
        """The score, other final numbers, and curves."""
        last = next((r[self.metric] for r in reversed(trial.reports) if self.metric in r), None)
        if returned is None:
            if last is None:
                raise TrainError(
                    f"train returned nothing and reported no {self.metric!r}: return the score, or "
                    f"call trial.report({self.metric}=...) after each epoch"
                )
            return last, {}, {}
        try:
            if not isinstance(returned, Mapping):
                return as_number("the score that train returns", returned), {}, {}
            finals: dict[str, float] = {}
            curves: dict[str, list[float]] = {}
            for name, value in returned.items():
                if not isinstance(name, str):
                    raise TypeError(f"the names in what train returns must be texts, not {name!r}")
                if _is_number(value):
                    finals[name] = as_number(name, value)
                else:
                    curves[name] = as_numbers(name, value)
        except TypeError as error:
            raise TrainError(str(error)) from error
        ends = {name: curve[-1] for name, curve in curves.items() if curve}
        score = finals.pop(self.metric, ends.get(self.metric, last))
        if score is None:
            names = ", ".join(map(str, returned)) or "nothing"
            raise TrainError(
                f"train returned {names}, and compare looks for {self.metric!r}: "
                "metric=NAME says which is compared"
            )
        return score, finals, curves


def _is_number(value: object) -> bool:
    if isinstance(value, bool | int | float):
        return True
    return getattr(value, "ndim", None) == 0


def _arguments(train: Train) -> int:
    """2 or 3: with `trial` or without. Raises TrainError for another number."""
    try:
        signature = inspect.signature(train)
    except (TypeError, ValueError):
        return 2
    for count in (3, 2):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        return count
    raise TrainError(f"train takes (swap, seed) or (swap, seed, trial), not {signature}")


def code_digest(train: Train) -> str:
    """Digits that change when the code of a function does, but not with comments or line numbers;
    functions that it calls do not count. Empty for one without Python code."""
    function: Any = train
    parts: list[Any] = []
    while hasattr(function, "func"):  # functools.partial
        parts += [repr(function.args), repr(sorted(function.keywords.items()))]
        function = function.func
    code = getattr(function, "__code__", None)
    if code is None and callable(function):
        code = getattr(type(function).__call__, "__code__", None)
    if not isinstance(code, CodeType):
        return ""
    return hashlib.sha256(repr([*parts, _code(code)]).encode()).hexdigest()[:10]


def _code(code: CodeType) -> list[Any]:
    return [code.co_code.hex(), list(map(_constant, code.co_consts)), code.co_names]


def _constant(value: object) -> Any:
    if isinstance(value, CodeType):
        return _code(value)
    # A set has another order in every process.
    return sorted(map(repr, value)) if isinstance(value, frozenset) else repr(value)


@dataclass(frozen=True)
class OwnStudy:
    """Every arm with every seed, through a training of the user's own. task: as study.json holds
    it."""

    train: Train
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    task: Mapping[str, Any]
    slot: str = "activation"
    settings: Mapping[str, Any] = field(default_factory=dict)
    margin: float | None = None
    on_error: OnError = "record"
    command: str = ""
    log: Path | None = None

    def trials(self, directory: Path) -> tuple[OwnTrial, ...]:
        """Seed by seed, so that a study that is stopped early has whole pairs."""
        worst = self.task["worst_counts"]
        return tuple(
            OwnTrial(
                train=self.train,
                arm=arm,
                seed=seed,
                metric=self.task["metric"],
                folder=directory / "work",
                settings=self.settings,
                baseline=None if worst else self.task["baseline"],
                slot=self.slot,
                on_error=self.on_error,
                log=self.log,
                first=seed == self.seeds[0] and arm is self.arms[0],
            )
            for seed in self.seeds
            for arm in self.arms
        )

    def run(
        self,
        directory: Path,
        *,
        fresh: bool = False,
        jobs: int = 1,
        executor: Executor = on_this_machine,
        progress: Progress = lambda done, total, key: None,
        notice: Notice = to_stderr,
    ) -> None:
        """Run what the folder lacks; see Study.run."""
        trials = self.trials(directory)
        keys = {(t.label, t.seed): t.key for t in trials}
        claim(directory, self.describe(), keys, fresh=fresh, notice=notice)

        def done(count: int, total: int, key: str) -> None:
            if key:  # its result is on disk now
                (directory / "work" / key / CHECKPOINT).unlink(missing_ok=True)
            progress(count, total, key)

        run_trials(trials, directory, jobs=jobs, executor=executor, progress=done)

    def describe(self) -> dict[str, Any]:
        """The study as study.json holds it."""
        declared = {} if self.margin is None else {"margin": self.margin}
        return {
            "schema": SCHEMA,
            "command": self.command,
            "task": dict(self.task),
            "slot": self.slot,
            "slots": list(slots_of_arms(self.arms)),
            "activations": [describe_arm(arm) for arm in self.arms],
            "seeds": list(self.seeds),
            "settings": {**{k: plain(v) for k, v in self.settings.items()}, **declared},
            "machine": machine(),
        }
