"""Run what claims need, into one folder, so that nothing is run twice and little is lost.

The folder holds claims.json (scale, command, machine), trials/ and timing/ as a study does,
experiments/NAME.json, and in the end results.json, from which verdicts and page are made.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .claims import CLAIMS, EXPERIMENTS
from .findings import SCHEMA, Findings, Run
from .flow import trained
from .grid import FIRST_SEED, Arm, Scale, spec_of
from .lab import (
    Executor,
    Progress,
    StudyConflict,
    StudyError,
    Trial,
    TrialSpec,
    Tuned,
    choose,
    cores,
    in_processes,
    locked,
    machine,
    missing,
    on_this_machine,
    one_thread,
    refuse_if_running,
    result_of,
    run_trials,
    seeded,
    tuning_seeds,
    tuning_trials,
    write_json,
    writing,
)
from .model import Claim

__all__ = ["Plan", "plan", "run"]

_SNAPSHOTS = frozenset(arm for e in EXPERIMENTS.values() for arm in e.snapshots)
_INSPECTED = _SNAPSHOTS | {arm for e in EXPERIMENTS.values() for arm in e.inspected}
_OURS = {"claims.json", "trials", "timing", "experiments", "results.json", "claims.md", "images"}


@dataclass(frozen=True)
class Plan:
    """The needs of some claims at a scale. arms: each with its number of seeds; names: of the
    experiments without training."""

    scale: Scale
    claims: tuple[str, ...]
    arms: dict[Arm, int]
    names: tuple[str, ...]

    def shared(self) -> list[TrialSpec]:
        """The trials at shared rates, seed by seed, so that an early stop leaves whole pairs."""
        chosen = [(arm, n) for arm, n in self.arms.items() if arm.rate == "shared"]
        return self._by_seed([(arm, n, None) for arm, n in chosen])

    def tuned(self) -> list[Arm]:
        """Arms that get a rate of their own."""
        tasks = self.scale.tuned
        return [arm for arm in self.arms if arm.rate == "own" and arm.task in tasks]

    def own(self, rates: dict[str, float]) -> list[TrialSpec]:
        """The trials at own rates that are not the shared ones again."""
        chosen = [(arm, self.arms[arm], rates[arm.name]) for arm in self.tuned()]
        return self._by_seed([c for c in chosen if c[2] != _shared_rate(c[0], self.scale)])

    def _by_seed(self, chosen: Sequence[tuple[Arm, int, float | None]]) -> list[TrialSpec]:
        longest = max((n for _, n, _ in chosen), default=0)
        return [
            _inspected(arm, spec_of(arm, FIRST_SEED + k, self.scale, rate))
            for k in range(longest)
            for arm, n, rate in chosen
            if k < n
        ]

    def tuning(self) -> list[TrialSpec]:
        """The trials that choose rates."""
        seeds = tuning_seeds(self.scale.tuning)
        return [
            trial
            for arm in self.tuned()
            for trial in tuning_trials(
                [replace(spec_of(arm, 0, self.scale), health_every=0)], self.rates(arm), seeds
            )
        ]

    def rates(self, arm: Arm) -> tuple[float, ...]:
        """The rates to try: the one that all share, smaller and larger ones."""
        shared = _shared_rate(arm, self.scale)
        return tuple(float(f"{shared * factor:.3g}") for factor in sorted(self.scale.factors))


def _inspected(arm: Arm, spec: TrialSpec) -> TrialSpec:
    """The trial, measured only where a claim needs it: after every epoch the inside is a tenth of
    the time on adding, a fifth on Reber."""
    plain = arm.shared
    look = spec.settings.epochs if plain in _INSPECTED else 0
    return replace(spec, snapshots=plain in _SNAPSHOTS, health_every=look)


def _shared_rate(arm: Arm, scale: Scale) -> float:
    return spec_of(arm, 0, scale).settings.learning_rate


def plan(claims: Iterable[Claim], scale: Scale) -> Plan:
    """All that these claims need, each trial once; with all claims also what stands beside
    published figures."""
    chosen = tuple(claims)
    names = list(dict.fromkeys(e.name for claim in chosen for e in claim.experiments))
    if {claim.key for claim in chosen} == set(CLAIMS):
        names += [name for name in EXPERIMENTS if name not in names]
    arms: dict[Arm, int] = {}
    for name in names:
        experiment = EXPERIMENTS[name]
        seeds = scale.survey if experiment.survey else scale.seeds
        for arm in experiment.arms:
            arms[arm] = max(seeds, arms.get(arm, 0))
    computed = tuple(name for name in names if EXPERIMENTS[name].compute)
    return Plan(scale, tuple(c.key for c in chosen), arms, computed)


def run(
    planned: Plan,
    directory: Path,
    *,
    command: str,
    fresh: bool = False,
    jobs: int | None = None,
    executor: Executor = on_this_machine,
    progress: Progress = lambda done, total, name: None,
) -> Findings:
    """Run what the folder lacks and write results.json. Stopped at any moment it goes on from
    there. executor: runs the trials. Raises StudyConflict if the folder holds something else,
    FolderInUse if another process writes there, WriteError if it cannot be written."""
    started = time.monotonic()
    with writing(directory):
        _prepare(directory, planned, command, fresh)
    with locked(directory):
        return _run_locked(planned, directory, jobs or cores(), executor, progress, started)


def _run_locked(
    planned: Plan,
    directory: Path,
    workers: int,
    executor: Executor,
    progress: Progress,
    started: float,
) -> Findings:
    state = _State(planned, directory, workers, progress)
    state.compute()
    state.train([*planned.tuning(), *planned.shared()], executor)
    tuned = _choices(planned, directory)
    rates = {name: found.rate for name, found in tuned.items()}
    own = planned.own(rates)
    state.total = state.done + len({spec.key for spec in own})
    state.train(own, executor)
    whole = round(time.monotonic() - started, 1) if state.from_nothing else None
    about = _held(directory) | {
        "seconds": whole,
        "claims": list(planned.claims),
        "edges": sorted(n for n, t in tuned.items() if t.edge),
    }
    found = _collect(planned, directory, rates, about)
    write_json(directory / "results.json", found.to_dict())
    return found


class _State:
    """One run: counts what is done over all its stages."""

    def __init__(self, planned: Plan, directory: Path, jobs: int, progress: Progress) -> None:
        self.planned, self.directory, self.jobs = planned, directory, jobs
        self.progress = progress
        self.names = [n for n in planned.names if not _read(_file(directory, n))]
        first = [*planned.tuning(), *planned.shared()]
        every = {spec.key for spec in [*first, *planned.own(_guess(planned))]}
        self.total = len(planned.names) + len(every)
        self.done = len(planned.names) - len(self.names)
        self.from_nothing = not self.done and len(missing(first, directory)) == len(first)
        progress(self.done, self.total, "")

    def compute(self) -> None:
        """Experiments without training: timed ones alone, the others side by side."""
        for name in [n for n in self.names if EXPERIMENTS[n].alone]:
            self._write(name, _compute(name, self.planned.scale))
        rest = [n for n in self.names if not EXPERIMENTS[n].alone]
        if not rest:
            return
        asked = [(name, self.planned.scale) for name in rest]
        for name, found in in_processes(_compute_named, asked, min(self.jobs, len(rest))):
            self._write(name, found)

    def _write(self, name: str, found: dict[str, Any]) -> None:
        write_json(_file(self.directory, name), {"schema": SCHEMA, "found": found})
        self.done += 1
        self.progress(self.done, self.total, name)

    def train(self, specs: Sequence[TrialSpec], executor: Executor) -> None:
        """Trials; their keys may repeat, for arms may be the same under two names."""
        unique = list({spec.key: spec for spec in specs}.values())
        before = self.done

        def told(done: int, total: int, key: str) -> None:
            self.progress(before + done, self.total, key)

        run_trials(unique, self.directory, jobs=self.jobs, executor=executor, progress=told)
        self.done += len(unique)


def _guess(planned: Plan) -> dict[str, float]:
    """Rates as if every own one differed from the shared one: the most that there can be to do."""
    return {arm.name: math.pi for arm in planned.tuned()}


# ---- what runs in the workers ---------------------------------------------------------------


def _compute(name: str, scale: Scale) -> dict[str, Any]:
    compute = EXPERIMENTS[name].compute
    assert compute is not None
    with seeded(0):
        return compute(scale)


def _compute_named(name: str, scale: Scale) -> tuple[str, dict[str, Any]]:
    with one_thread():
        return name, _compute(name, scale)


# ---- the folder -----------------------------------------------------------------------------


def _prepare(directory: Path, planned: Plan, command: str, fresh: bool) -> None:
    """Mark the folder as one of claims, or refuse it."""
    if directory.exists() and not directory.is_dir():
        raise StudyConflict(f"{directory} is a file, not a folder; choose another --out")
    found = {p.name for p in directory.iterdir()} if directory.is_dir() else set()
    if "claims.json" not in found and {n for n in found if not n.endswith(".part")} - _OURS:
        raise StudyConflict(f"{directory} holds other things and no claims; choose another --out")
    refuse_if_running(directory)
    if fresh:
        for part in ("trials", "timing", "experiments", "images"):
            shutil.rmtree(directory / part, ignore_errors=True)
        for part in ("claims.json", "results.json", "claims.md"):
            (directory / part).unlink(missing_ok=True)
    held = _held(directory)
    if held and held.get("scale") != planned.scale.name:
        raise StudyConflict(
            f"{directory} holds results of the {held.get('scale')} run; choose another --out, or "
            "--fresh to delete them"
        )
    about = {
        "schema": SCHEMA,
        "scale": planned.scale.name,
        "command": command,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": ", ".join(dict.fromkeys(filter(None, (held.get("commit"), _commit())))),
        "machine": machine(),
    }
    write_json(directory / "claims.json", about)


def _commit() -> str:
    """The commit of the checkout that runs, with a mark if files differ from it; "" outside one. A
    folder that is gone on with names all of its commits."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip()


def _held(directory: Path) -> dict[str, Any]:
    return _read(directory / "claims.json")


def _file(directory: Path, name: str) -> Path:
    return directory / "experiments" / f"{name}.json"


def _read(path: Path) -> dict[str, Any]:
    """A file of this folder; empty if it is not there, damaged or of another schema."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return raw if isinstance(raw, dict) and raw.get("schema") == SCHEMA else {}


# ---- from files to findings -----------------------------------------------------------------


def _choices(planned: Plan, directory: Path) -> dict[str, Tuned]:
    seeds = tuning_seeds(planned.scale.tuning)
    return {
        arm.name: choose(spec_of(arm, 0, planned.scale), planned.rates(arm), seeds, directory)
        for arm in planned.tuned()
    }


def _collect(
    planned: Plan, directory: Path, rates: dict[str, float], about: dict[str, Any]
) -> Findings:
    runs: dict[str, list[Run]] = {}
    for arm, seeds in planned.arms.items():
        own = arm.rate == "own"
        if own and rates.get(arm.name) in (None, _shared_rate(arm, planned.scale)):
            continue
        rate = rates[arm.name] if own else None
        which = range(FIRST_SEED, FIRST_SEED + seeds)
        specs = [spec_of(arm, seed, planned.scale, rate) for seed in which]
        runs[arm.name] = [_run(spec, result_of(spec, directory)) for spec in specs]
    every = dict(rates)
    for arm in planned.arms:  # of a task that is not tuned, the own rate is the shared one
        if arm.rate == "own":
            every.setdefault(arm.name, _shared_rate(arm, planned.scale))
    numbers = {name: _read(_file(directory, name)).get("found", {}) for name in planned.names}
    if lost := [name for name, found in numbers.items() if not found]:
        raise StudyError(f"{directory} has lost {', '.join(lost)}; run the command again")
    kept = {k: v for k, v in about.items() if k not in ("schema", "scale")}
    return Findings(planned.scale, runs, every, numbers, kept)


def _run(spec: TrialSpec, trial: Trial) -> Run:
    metric = spec.task
    solved_at = None
    if trial.diverged is None and metric.solved is not None:
        for record in trial.epochs:
            value = record.metric
            reached = value >= metric.solved if metric.higher_is_better else value <= metric.solved
            if reached:
                solved_at = record.epoch
                break
    last = trial.epochs[-1] if trial.epochs else None
    shares = last.slots if last else {}
    return Run(
        seed=trial.seed,
        final=trial.final_metric,
        solved_at=solved_at,
        diverged=None if trial.diverged is None else trial.diverged.step,
        max_cell=_finite(last.max_abs_cell) if last else None,
        saturated=_shares(shares, "saturated"),
        dead=_shares(shares, "dead"),
        after=_tidy(trained(trial.inside.get("end"))),
    )


def _finite(value: float) -> float | None:
    return value if value == value and abs(value) != float("inf") else None


_REPORTED = ("candidate", "cell_output", "forget_gate")


def _shares(slots: Any, what: str) -> dict[str, float]:
    found = {slot: slots[slot][what] for slot in _REPORTED if slot in slots}
    return {slot: round(v, 4) for slot, v in found.items() if v == v}


def _tidy(value: Any) -> Any:
    """Numbers to four digits: what was measured on some sequences has no more."""
    if isinstance(value, dict):
        return {k: _tidy(v) for k, v in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value
