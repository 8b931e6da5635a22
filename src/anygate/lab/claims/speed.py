"""What a function, its gradient and a whole LSTM cost: alternated, round by round, on one thread.

All are measured in every round, one after the other, so that a machine that slows down for a while
slows down all of them. Of each the fastest of a few samples counts; ratios are taken within a
round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...engines.cpu.elementwise import elementwise
from ...formulas import resolve
from ...formulas.closed import VALUE, derivative_in_value
from ...formulas.program import Program, lower
from ...nn import LSTM
from ..study.trial import one_thread
from .grid import Scale

Numbers = NDArray[np.float32]
Job = Callable[[int], None]
"""Does its work so many times."""

__all__ = ["LAYER", "UNITS", "functions", "layers"]

UNITS = ("tanh", "sigmoid", "hard_tanh", "relu", "leaky_relu", "softsign")
NUMBERS = 2048
"""Of an array: 8 KiB in float32, so that arguments and results stay in the first-level cache."""
LAYER = {"steps": 50, "batch": 8}
SECONDS = 0.0005
"""A sample repeats the work until it takes about this long."""
SAMPLES = {True: 5, False: 2}
"""Of short work and of long: whatever else runs on the processor only ever adds."""


def functions(scale: Scale) -> dict[str, Any]:
    """Nanoseconds an element, in float32: the value, and the gradient as backward passes take it,
    from what forward passes save (the value where f' closes in it, else the argument)."""
    x = np.random.default_rng(0).normal(0, 2, NUMBERS).astype(np.float32)
    jobs: dict[str, Job] = {}
    how = {}
    for name in UNITS:
        value = _Applied(lower({"value": resolve(name).closed}, ("x",)), x)
        value(1)
        slope, how[name] = _gradient(name)
        jobs[f"{name} value"] = value
        jobs[f"{name} gradient"] = _Applied(slope, value.result if how[name] == "value" else x)
    found = _alternated(jobs, scale.rounds, 1e9 / NUMBERS)
    return {"unit": "ns an element", "saved": how, "rounds": found}


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


def _gradient(name: str) -> tuple[Program, str]:
    """The derivative as a Program of what is saved, and which of both that is."""
    activation = resolve(name)
    slope = derivative_in_value(activation.expression)
    if slope is not None:
        numbers = {s: activation.parameters[s.name] for s in slope.free_symbols
                   if s.name in activation.parameters}  # fmt: skip
        return lower({"value": slope.subs(numbers)}, (VALUE.name,)), "value"
    return lower({"value": resolve(name).derivative().closed}, ("x",)), "argument"


def layers(scale: Scale) -> dict[str, Any]:
    """Milliseconds of a training step (forward and backward) and of inference of a whole LSTM, with
    each unit as candidate and cell output; by hidden size."""
    found: dict[str, Any] = {}
    for size in scale.sizes:
        jobs: dict[str, Job] = {}
        x = torch.randn(LAYER["steps"], LAYER["batch"], size, generator=_generator())
        for name in UNITS:
            torch.manual_seed(0)
            lstm = LSTM(size, size, activation=name)
            jobs[f"{name} training"] = partial(_train, lstm, x)
            jobs[f"{name} inference"] = partial(_infer, lstm, x)
        found[str(size)] = _alternated(jobs, scale.rounds, 1e3)
    return {"unit": "ms", **LAYER, "rounds": found}


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _train(lstm: LSTM, x: torch.Tensor, times: int) -> None:
    for _ in range(times):
        output, _ = lstm(x)
        output.sum().backward()
        lstm.zero_grad()


def _infer(lstm: LSTM, x: torch.Tensor, times: int) -> None:
    with torch.no_grad():
        for _ in range(times):
            lstm(x)


def _alternated(jobs: Mapping[str, Job], rounds: int, unit: float) -> dict[str, list[float]]:
    """Time a call of every job in each round, in the given unit a second."""
    with one_thread():
        repeats, samples = {}, {}
        for name, job in jobs.items():
            job(1)  # compiles
            once = min(_seconds(job, 1) for _ in range(3))
            repeats[name] = max(1, round(SECONDS / once))
            samples[name] = SAMPLES[once < 4 * SECONDS]
        found: dict[str, list[float]] = {name: [] for name in jobs}
        for _ in range(rounds):
            for name, job in jobs.items():
                seconds = min(_seconds(job, repeats[name]) for _ in range(samples[name]))
                found[name].append(float(f"{seconds * unit:.5g}"))
    return found


def _seconds(job: Job, repeats: int) -> float:
    started = time.perf_counter()
    job(repeats)
    return (time.perf_counter() - started) / repeats
