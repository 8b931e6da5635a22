"""One trial: one activation, one seed, one task, trained and measured."""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from ...cells import LSTM as LSTM_TYPE
from ...formulas import Activation
from ...nn import LSTM
from ...nn.design import shortcuts
from ...nn.init import chrono_, forget_bias_, identity_
from ..tasks import Data, Settings, Task, TaskError, packed
from .machine import machine
from .measure import health, place_of_divergence, snapshot
from .store.files import LARGEST_NUMBER, SCHEMA

PROBE = 128  # test sequences on which the inside is measured
TESTED_AT_ONCE = 1000  # test sequences in one call
_DIGITS = 7  # of a number in a result file
_FEW_DIGITS = 4  # of one among the many of a snapshot


def slots_of(slot: str) -> tuple[str, ...]:
    """The slots that an argument of LSTM sets. Raises TaskError for an unknown one."""
    groups = shortcuts(LSTM_TYPE)
    slots = [name for name, _ in LSTM_TYPE.slots]
    if slot in groups:
        return groups[slot]
    if slot in slots:
        return (slot,)
    known = ", ".join((*groups, *slots))
    raise TaskError(f"no slot is called '{slot}'; there are: {known}")


Outcome = tuple[dict[str, Any], dict[str, Any]]
"""A trial's result, which depends on the trial alone, and its timing."""


class Runnable(Protocol):
    """A trial that can be run and stored: of the lab's own model, or of a user's own training."""

    @property
    def key(self) -> str: ...

    @property
    def label(self) -> str: ...

    @property
    def seed(self) -> int: ...

    @property
    def functions(self) -> tuple[Callable[..., object], ...]: ...

    def run(self) -> Outcome: ...


@dataclass(frozen=True)
class TrialSpec:
    """All that decides a trial's result.

    snapshots: one recorded pass before and one after training. health_every: saturated and dead
    units are measured every so many epochs and after the last one, 0 for never. Without them it is
    the same trial, with a shorter file.
    """

    task: Task
    activation: Activation
    slot: str
    seed: int
    settings: Settings
    snapshots: bool = True
    health_every: int = 1

    @property
    def label(self) -> str:
        """The name of its arm in tables."""
        return self.activation.label

    @property
    def functions(self) -> tuple[Callable[..., object], ...]:
        """Those that the user may have written."""
        return (self.task.make, self.task.metric.loss, self.task.metric.score)

    def run(self) -> Outcome:
        """Train and measure in one thread; see :func:`run_trial`."""
        with one_thread():
            return run_trial(self)

    @property
    def key(self) -> str:
        """A file name for the result: readable, and different for any different setting."""
        a = self.activation
        content = {
            "task": self.task.name,
            "formula": a.formula,
            "parameters": dict(a.parameters),
            "label": a.label,
            "slot": self.slot,
            "seed": self.seed,
            "settings": self.settings.describe(),
        }
        if self.task.data:  # else name and seed say all, and earlier results keep their names
            content["data"] = self.task.data
        return file_key(self.label, self.seed, content)


def file_key(label: str, seed: int, content: Mapping[str, object]) -> str:
    """A file name for a trial: readable, and different for any different content."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]
    slug = re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-")[:40] or "formula"
    return f"{slug}-seed{seed}-{digest}"


class Model(nn.Module):
    """An LSTM and a linear head after its last step, or after every one.

    x [T, B, I] -> [B, outputs], or [B, T, outputs] if every_step. x may be packed: then the last
    step is each sequence's own, and the outputs after it are those of a state 0.
    """

    def __init__(self, spec: TrialSpec, features: int, every_step: bool) -> None:
        super().__init__()
        self.every_step = every_step
        self.steps = spec.task.steps
        size = spec.settings.hidden_size
        choice: Any = {spec.slot: spec.activation, "engine": spec.settings.engine}
        if spec.settings.variant:
            choice[spec.settings.variant] = True
        self.lstm = LSTM(features, size, **choice)
        self.head = nn.Linear(size, spec.task.outputs)
        forget_bias_(self.lstm, spec.settings.forget_bias)
        if spec.settings.initial == "identity":
            identity_(self.lstm)
        elif spec.settings.initial == "chrono":
            chrono_(self.lstm, spec.task.steps)

    def forward(self, x: Tensor | PackedSequence) -> Tensor:
        output, (h, _) = self.lstm(x)
        if isinstance(output, PackedSequence):
            if self.every_step:
                output, _ = pad_packed_sequence(output, total_length=self.steps)
            else:
                output = h  # after the last step of each sequence
        seen = output.transpose(0, 1) if self.every_step else output[-1]
        return self.head(seen)  # type: ignore[no-any-return]

    @torch.no_grad()
    def answers(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The outputs for x [T, N, I] of any N, a part at a time: the states of all steps of all
        test sequences at once would not fit into memory for MNIST. lengths [N]: see Data."""
        parts = range(0, x.size(1), TESTED_AT_ONCE)
        return torch.cat([self(chosen(x, lengths, slice(k, k + TESTED_AT_ONCE))) for k in parts])


def chosen(x: Tensor, lengths: Tensor | None, rows: Tensor | slice) -> Tensor | PackedSequence:
    """These sequences of x [T, N, I] as the model takes them."""
    return packed(x[:, rows], None if lengths is None else lengths[rows])


def run_trial(spec: TrialSpec) -> Outcome:
    """Train and measure. Returns the result, which depends on the spec alone, and the timing.

    Initial weights, the split of the data and its order follow from the seed, so that trials with
    the same seed are pairs. A loss or gradient that is not finite ends the trial: it diverged,
    which is a result. torch's own random numbers go on afterwards as if nothing had been drawn.
    """
    with seeded(spec.seed):
        return _run_trial(spec)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's random numbers of the CPU from a seed on, inside; outside they go on as before."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes in one thread inside, and in as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run_trial(spec: TrialSpec) -> Outcome:
    data = spec.task.load(spec.seed)
    model = Model(spec, data.train_x.size(-1), data.every_step)
    run = _Training(spec, model, data)
    test_x = data.test_x.transpose(0, 1)
    probe, wanted = chosen(test_x, data.test_lengths, slice(PROBE)), data.test_y[:PROBE]

    inside: dict[str, Any] = {}

    def take_snapshot(when: str) -> None:
        if spec.snapshots:
            seen = snapshot(model, probe, lambda y: spec.task.loss(y, wanted))
            inside[when] = tidy(seen, _FEW_DIGITS)

    take_snapshot("start")
    epochs: list[dict[str, Any]] = []
    started = time.perf_counter()
    for epoch in range(1, spec.settings.epochs + 1):
        record = run.epoch(epoch)
        if run.diverged is not None:
            break
        answers = model.answers(test_x, data.test_lengths)
        record["metric"] = spec.task.score(answers, data.test_y)
        last = epoch == spec.settings.epochs
        if spec.health_every and (last or epoch % spec.health_every == 0):
            record |= health(model.lstm, probe)
        epochs.append(tidy({"epoch": epoch, **record}))
    take_snapshot("end")
    final = spec.task.baseline if run.diverged else epochs[-1]["metric"]
    if final is None:  # the metric overflowed though the loss did not
        final = spec.task.baseline
        run.diverged = {"epoch": spec.settings.epochs, "step": run.step, "what": "test metric"}
    result = {
        "schema": SCHEMA,
        "key": spec.key,
        "task": spec.task.name,
        "activation": spec.activation.label,
        "slot": spec.slot,
        "seed": spec.seed,
        "diverged": run.diverged,
        "epochs": epochs,
        "inside": inside,
        "final_metric": final,
        "settings": {**spec.settings.describe(), "optimizer": "Adam"},
    }
    timing = {
        "schema": SCHEMA,
        "key": spec.key,
        "seconds_per_step": statistics.median(run.seconds) if run.seconds else None,
        "seconds_total": time.perf_counter() - started,
        "machine": machine(spec.settings.engine),
    }
    return result, timing


class _Training:
    def __init__(self, spec: TrialSpec, model: Model, data: Data) -> None:
        self.spec, self.model = spec, model
        self.x, self.y = data.train_x.transpose(0, 1), data.train_y
        self.lengths = data.train_lengths
        self.optimizer = torch.optim.Adam(model.parameters(), lr=spec.settings.learning_rate)
        self.order = torch.Generator().manual_seed(spec.seed)
        self.step = 0
        self.seconds: list[float] = []
        self.diverged: dict[str, Any] | None = None

    def epoch(self, epoch: int) -> dict[str, Any]:
        """One pass over the training data: loss and the gradient's norm before clipping."""
        losses, norms = [], []
        for batch in self._batches():
            started = time.perf_counter()
            self.step += 1
            x = chosen(self.x, self.lengths, batch)
            loss = self.spec.task.loss(self.model(x), self.y[batch])
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            clip = self.spec.settings.clip or math.inf
            norm = nn.utils.clip_grad_norm_(self.model.parameters(), clip).item()
            losses.append(loss.item())
            norms.append(norm)
            if not (math.isfinite(losses[-1]) and math.isfinite(norm)):
                self._diverge(epoch, batch, losses[-1], norm)
                return {}
            self.optimizer.step()
            self.seconds.append(time.perf_counter() - started)
        return {
            "train_loss": statistics.fmean(losses),
            "gradient_norm": statistics.fmean(norms),
            "gradient_norm_max": max(norms),
        }

    def _batches(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self.y), generator=self.order)
        return iter(torch.split(order, self.spec.settings.batch_size))

    def _diverge(self, epoch: int, batch: Tensor, loss: float, norm: float) -> None:
        what, value = ("gradient", norm) if math.isfinite(loss) else ("loss", loss)
        wanted = self.y[batch]
        found = place_of_divergence(
            self.model,
            chosen(self.x, self.lengths, batch),
            lambda y: self.spec.task.loss(y, wanted),
        )
        place = f", first at time step {found['time_step']}" if "slot" in found else ""
        self.diverged = {
            "epoch": epoch,
            "step": self.step,
            "what": f"the {what} is not finite{place}",
            "value": str(value),
            **tidy(found),
        }


def tidy(value: Any, digits: int = _DIGITS) -> Any:
    """For JSON: numbers to seven digits, or fewer, and null for those that are not finite, or so
    large that their squares would not be."""
    if isinstance(value, dict):
        return {k: tidy(v, digits) for k, v in value.items()}
    if isinstance(value, list):
        return [tidy(v, digits) for v in value]
    if isinstance(value, float):
        return float(f"{value:.{digits}g}") if abs(value) <= LARGEST_NUMBER else None
    return value
