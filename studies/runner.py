"""Making the runs, in stretches: every run is written as soon as it is done, and the next stretch,
wherever it is made, goes on with the first one that is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import date
from typing import Any

from .arms import Arm
from .lab import in_processes, machine, one_thread, run_trial
from .rules import commit, digest, refuse_other_rules
from .setups import SETUPS
from .store import Run, Runs, Store

__all__ = ["KEPT", "missing", "run", "run_one"]

KEPT = 6
"""Epochs of a curve that are kept."""


def missing(held: Runs, plan: Iterable[tuple[Arm, int]]) -> Iterator[tuple[Arm, int]]:
    """The runs of the plan that were not made yet, in its order."""
    return ((arm, seed) for arm, seed in plan if seed not in held.runs.get(arm.name, {}))


def run(
    store: Store,
    plan: Iterable[tuple[Arm, int]],
    *,
    minutes: float,
    jobs: int,
    confirming: bool,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Make runs of the plan until the time is over, and return how many. A confirming stretch is
    refused unless its rules are committed and those of all runs in the store (RulesChanged)."""
    held = store.load()
    rules = commit() if confirming else "not committed"
    if confirming:
        refuse_other_rules(held.stretches)
    stretch = store.begin(
        {
            "date": str(date.today()),
            "rules": rules,
            "digest": digest(),
            "device": device,
            "machine": machine(),
        }
    )
    named = set(held.arms)
    end = time.monotonic() + 60 * minutes
    todo = missing(held, plan)
    done = 0

    def until_the_end() -> Iterator[tuple[Arm, int, str]]:
        for arm, seed in todo:
            if time.monotonic() > end:
                return
            yield arm, seed, device

    found = (
        in_processes(run_one, until_the_end(), jobs)
        if jobs > 1
        else (run_one(*each) for each in until_the_end())
    )
    for arm, outcome in found:
        lines: list[Any] = []
        if arm.name not in named:
            named.add(arm.name)
            lines.append({"arm": arm.name, "settings": described(arm)})
        store.append([*lines, replace(outcome, stretch=stretch).line()])
        done += 1
        progress(done)
    return done


def described(arm: Arm) -> dict[str, Any]:
    """The settings of an arm where they are not the lab's own, with its task, level and
    activations."""
    setup = SETUPS[arm.setup]
    return {
        "task": setup.task_name,
        "level": setup.level,
        "slots": dict(arm.slots),
        **arm.settings.describe(),
    }


def run_one(arm: Arm, seed: int, device: str = "cpu") -> tuple[Arm, Run]:
    """One run; its stretch is not known here."""
    spec = arm.spec(seed)
    if device != "cpu":
        spec = replace(spec, settings=replace(spec.settings, device=device))
    with one_thread():
        result, timing = run_trial(spec)
    curve = [epoch.get("metric") for epoch in result["epochs"]]
    reached = [k for k, metric in enumerate(curve, 1) if arm.at.reached(metric)]
    diverged = result["diverged"]
    return arm, Run(
        arm.name,
        seed,
        reached[0] if reached else None,
        None if diverged is None else diverged["epoch"],
        float(f"{result['final_metric']:.4g}"),
        tuple(None if v is None else float(f"{v:.3g}") for v in _thinned(curve)),
        round(timing["seconds_total"], 1),
        stretch=-1,
    )


def _thinned(curve: list[float | None]) -> list[float | None]:
    """At most KEPT values, evenly spread, the last one among them."""
    n = len(curve)
    if n <= KEPT:
        return curve
    return [curve[round((k + 1) * n / KEPT) - 1] for k in range(KEPT)]
