"""The cost of an activation: an element, and a training step of a whole LSTM, between processes.

Every job of a round is a process of its own, so that no activation profits from what another left
in caches, in the allocator or in the processor's clock; rounds alternate over the activations, and
ratios are taken within a round. In a process the fastest of several samples counts, since whatever
else runs only ever adds.

    python -m studies costs --rounds 5

adds five rounds to results/costs.json, in about half a minute a round on an idle core.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anygate.engines.cpu.elementwise import elementwise
from anygate.formulas import resolve
from anygate.formulas.closed import VALUE, derivative_in_value
from anygate.formulas.program import Program, lower
from anygate.nn import LSTM

from .lab import machine, median_interval, one_thread
from .results import COMMITTED

__all__ = ["JOBS", "LAYER", "SIZES", "Costs", "add_rounds", "load_costs"]

Numbers = NDArray[np.float32]
JOBS = ("tanh", "sigmoid", "hard_tanh", "relu", "leaky_relu", "torch")
"""The activations, in candidate and cell output; and torch's own LSTM, which takes tanh alone."""
SIZES = (64, 256)
LAYER = {"steps": 50, "batch": 16}
NUMBERS = 2048
"""Of an array: 8 KiB in float32, so that argument and result stay in the first-level cache."""
SECONDS = 0.15
"""For which a job is repeated in its process."""
SAMPLE = 0.002
MIN_ROUNDS = 6
"""With fewer the median has no 95 % interval."""


@dataclass(frozen=True)
class Costs:
    """The rounds of costs.json: for each a time by name, such as ``step 64 relu`` in ms and
    ``relu gradient`` in ns an element; and the machine."""

    rounds: tuple[dict[str, float], ...]
    machine: dict[str, Any]

    def ratios(self, job: str, reference: str) -> list[tuple[float, float, float]]:
        """The median ratio of two times with its 95 % interval: one, or one a size for ``step
        relu`` over ``step tanh``. ``relu element`` is value and gradient. Empty with too few
        rounds."""
        if len(self.rounds) < MIN_ROUNDS:
            return []
        kind, _, name = job.partition(" ")
        if kind != "step":
            return [self._ratio(job, reference)]
        other = reference.removeprefix("step ")
        return [self._ratio(f"step {size} {name}", f"step {size} {other}") for size in SIZES]

    def _ratio(self, job: str, reference: str) -> tuple[float, float, float]:
        found = [_time(r, job) / _time(r, reference) for r in self.rounds]
        span = median_interval(found)
        return median(found), span.low, span.high


def _time(times: dict[str, float], job: str) -> float:
    if job.endswith(" element"):
        name = job.removesuffix(" element")
        return times[f"{name} value"] + times[f"{name} gradient"]
    return times[job]


def load_costs(path: Path = COMMITTED / "costs.json") -> Costs | None:
    """The committed costs; None where there are none."""
    if not path.exists():
        return None
    held = json.loads(path.read_text(encoding="utf-8"))
    return Costs(tuple(held["rounds"]), held["machine"])


def add_rounds(rounds: int, path: Path = COMMITTED / "costs.json") -> Costs:
    """Measure some rounds more and add them to the file, which must be of this machine."""
    before = load_costs(path)
    here = machine()
    if before is not None and before.machine["cpu"] != here["cpu"]:
        raise ValueError(f"{path} is of {before.machine['cpu']}; move it away first")
    held = [] if before is None else list(before.rounds)
    for _ in range(rounds):
        found: dict[str, float] = {}
        for job in JOBS:
            done = subprocess.run(
                [sys.executable, "-m", "studies.costs", job],
                check=True,
                capture_output=True,
                text=True,
            )
            found |= json.loads(done.stdout)
        held.append(found)
        content = {
            "command": "python -m studies costs",
            "layer": LAYER,
            "machine": here,
            "rounds": held,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return Costs(tuple(held), here)


# ---- in a process of its own --------------------------------------------------------------------


def measure(job: str) -> dict[str, float]:
    """All times of one job."""
    found = {} if job == "torch" else _element(job)
    for size in SIZES:
        x = torch.randn(LAYER["steps"], LAYER["batch"], size)
        layer: Any = (
            torch.nn.LSTM(size, size) if job == "torch" else LSTM(size, size, activation=job)
        )

        def step(times: int, layer: Any = layer, x: torch.Tensor = x) -> None:
            for _ in range(times):
                output, _ = layer(x)
                output.sum().backward()
                layer.zero_grad()

        found[f"step {size} {job}"] = 1e3 * _seconds(step)
    return {name: float(f"{value:.5g}") for name, value in found.items()}


def _element(name: str) -> dict[str, float]:
    """ns an element in float32: the value, and the gradient as a backward pass takes it, from what
    the forward pass saves (the value where f' closes in it, else the argument)."""
    x = np.random.default_rng(0).normal(0, 2, NUMBERS).astype(np.float32)
    activation = resolve(name)
    value = _Applied(lower({"value": activation.closed}, ("x",)), x)
    value(1)
    slope = derivative_in_value(activation.expression)
    if slope is None:
        gradient = _Applied(lower({"value": activation.derivative().closed}, ("x",)), x)
    else:
        held = {
            s: activation.parameters[s.name]
            for s in slope.free_symbols
            if s.name in activation.parameters
        }
        gradient = _Applied(lower({"value": slope.subs(held)}, (VALUE.name,)), value.result)
    return {
        f"{name} value": 1e9 / NUMBERS * _seconds(value),
        f"{name} gradient": 1e9 / NUMBERS * _seconds(gradient),
    }


class _Applied:
    """A Program applied to an array so many times.

    Argument and result lie where a page's first and middle lines do: for work as light as this,
    where arrays lie changes the time by half.
    """

    def __init__(self, program: Program, x: Numbers) -> None:
        page = 4096
        self.room = np.empty(4 * x.nbytes + 2 * page, np.uint8)
        start = -self.room.ctypes.data % page
        self.argument, self.result = (
            self.room[start + k : start + k + x.nbytes].view(x.dtype)
            for k in (0, -(-x.nbytes // page) * page + page // 2)
        )
        self.argument[:] = x
        self.run = elementwise(program, "float32")
        self.where = self.argument.ctypes.data, self.result.ctypes.data, x.size

    def __call__(self, times: int) -> None:
        self.run(*self.where, times)


def _seconds(job: Callable[[int], None]) -> float:
    """The fastest sample, a call."""
    job(1)  # compiles
    started = time.perf_counter()
    job(1)
    repeats = max(1, round(SAMPLE / max(time.perf_counter() - started, 1e-7)))
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        started = time.perf_counter()
        job(repeats)
        best = min(best, (time.perf_counter() - started) / repeats)
    return best


if __name__ == "__main__":
    with one_thread():
        print(json.dumps(measure(sys.argv[1])))
