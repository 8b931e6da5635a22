"""One trial: one activation, one seed, one task, trained and measured."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from ...cells import ELMAN, CellType
from ...cells import GRU as GRU_TYPE
from ...cells import LSTM as LSTM_TYPE
from ...formulas import Activation
from ...nn import GRU, LSTM, RNN, Recurrent
from ...nn.design import shortcuts
from ...nn.init import forget_bias_
from ..arms import STANDARD, Arm, told
from ..settings import OPTIMIZERS, changed
from ..tasks import Data, Settings, Task, TaskError, packed
from ..tasks.own import import_own, is_reference
from .begin import begin
from .devices import on_card
from .live import live_log
from .machine import machine
from .measure import health, place_of_divergence, snapshot
from .store.files import LARGEST_NUMBER, SCHEMA

PROBE = 128  # test sequences on which the inside is measured
TESTED_AT_ONCE = 1000  # test sequences in one call
_TIMED = 50  # batches that a clock goes round in
_DIGITS = 7  # of a number in a result file
_FEW_DIGITS = 4  # of one among the many of a snapshot


def cell_type(name: str) -> CellType:
    """LSTM, GRU or RNN, or the cell that MODULE:NAME is. Raises TaskError for what is none."""
    if name in _CELLS:
        return _CELLS[name][0]
    if not is_reference(name):
        raise TaskError(f"cell: one of {', '.join(_CELLS)} or MODULE:NAME is needed, not {name!r}")
    found = import_own(name, "cell")
    if not isinstance(found, CellType):
        raise TaskError(f"{name} is no anygate.CellType but {type(found).__name__}")
    return found


_CELLS: dict[str, tuple[CellType, type[Any]]] = {
    "LSTM": (LSTM_TYPE, LSTM),
    "GRU": (GRU_TYPE, GRU),
    "RNN": (ELMAN, RNN),
}


def slots_of(slot: str, cell: str = "LSTM") -> tuple[str, ...]:
    """The slots that an argument of the cell sets. Raises TaskError for an unknown one."""
    kind = cell_type(cell)
    groups = shortcuts(kind)
    slots = [name for name, _ in kind.slots]
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


def spec_of(task: Task, arm: Arm, slot: str, seed: int, settings: Settings) -> TrialSpec:
    """The trial of an arm: its activations and settings in place of the study's. Raises TaskError
    for a setting that cannot be."""
    slots = dict(arm.slots) or {slot: STANDARD[slot]}
    main = slot if slot in slots else next(iter(slots))
    activation = slots.pop(main)
    try:
        chosen = changed(settings, arm.settings)
    except TaskError as error:
        raise TaskError(f"arm {arm.label!r}: {error}") from None
    name = "" if arm.label == activation.label else arm.label
    return TrialSpec(task, activation, main, seed, chosen, others=tuple(slots.items()), name=name)


@dataclass(frozen=True)
class TrialSpec:
    """All that decides a trial's result.

    snapshots: one recorded pass before and one after training. health_every: saturated and dead
    units are measured every so many epochs and after the last one, 0 for never. Without them it is
    the same trial, with a shorter file. others: activations of further slots. name: of its arm, if
    that is not the activation alone. keep_weights: the timing holds the trained model's state_dict
    as torch.save writes it. log: a folder for TensorBoard's curves. Neither changes the key.
    """

    task: Task
    activation: Activation
    slot: str
    seed: int
    settings: Settings
    snapshots: bool = True
    health_every: int = 1
    others: tuple[tuple[str, Activation], ...] = ()
    name: str = ""
    keep_weights: bool = False
    log: Path | None = None

    @property
    def label(self) -> str:
        """The name of its arm in tables."""
        return self.name or self.activation.label

    @property
    def arguments(self) -> dict[str, Activation]:
        """The activations as arguments of the module."""
        return {self.slot: self.activation, **dict(self.others)}

    @property
    def functions(self) -> tuple[Callable[..., object], ...]:
        """The parts of the settings that the user may have written."""
        return (self.task.make, self.task.metric.loss, self.task.metric.score)

    def run(self) -> Outcome:
        """Train and measure in one thread; see :func:`run_trial`."""
        with one_thread(), on_card(self.settings.device):
            return run_trial(self)

    @property
    def key(self) -> str:
        """A file name for the result: readable, and different for any different setting."""
        a = self.activation
        content = {
            "task": self.task.name,
            "formula": a.formula,
            "parameters": dict(a.parameters),
            "label": self.label,
            "slot": self.slot,
            "seed": self.seed,
            "settings": self.settings.describe(),
        }
        if self.task.data:  # else name and seed say all, and earlier results keep their names
            content["data"] = self.task.data
        if self.others:
            content["others"] = {s: [o.formula, dict(o.parameters)] for s, o in self.others}
        return file_key(self.label, self.seed, content)


def file_key(label: str, seed: int, content: Mapping[str, object]) -> str:
    """A file name for a trial: readable, and different for any different content."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]
    slug = re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-")[:40] or "formula"
    return f"{slug}-seed{seed}-{digest}"


class Model(nn.Module):
    """Recurrent layers and a linear head after the last step, or after every one.

    x [T, B, I] -> [B, outputs], or [B, T, outputs] if every_step. x may be packed: then the last
    step is each sequence's own, and the outputs after it are those of a state 0.
    """

    def __init__(self, spec: TrialSpec, features: int, every_step: bool) -> None:
        super().__init__()
        self.every_step = every_step
        self.steps = spec.task.steps
        chosen = spec.settings
        wide = chosen.hidden_size * (2 if chosen.bidirectional else 1)
        self.lstm = _layers(spec, features)
        self.head = nn.Linear(wide, spec.task.outputs)
        if "forget_gate" in dict(cell_type(chosen.cell).slots):
            forget_bias_(self.lstm, chosen.forget_bias)
        begin(self.lstm, chosen.init, spec.task.steps)
        self.to(chosen.device, getattr(torch, chosen.dtype))

    def forward(self, x: Tensor | PackedSequence) -> Tensor:
        output, last = self.lstm(x)
        if self.every_step:
            if isinstance(output, PackedSequence):
                output, _ = pad_packed_sequence(output, total_length=self.steps)
            return self.head(output.transpose(0, 1))  # type: ignore[no-any-return]
        if isinstance(output, PackedSequence):  # the states after the last step of each sequence
            h = last[0] if isinstance(last, tuple) else last
            seen = torch.cat([h[-2], h[-1]], -1) if self.lstm.bidirectional else h[-1]
        else:
            seen = output[-1]
            if self.lstm.bidirectional:  # backwards the last step is the first
                size = self.lstm.hidden_size
                seen = torch.cat([seen[:, :size], output[0, :, size:]], -1)
        return self.head(seen)  # type: ignore[no-any-return]

    @property
    def measurable(self) -> bool:
        """True if `anygate.record` can measure inside the cell: not with layer norm, for one."""
        return self.lstm.cell.type.kind in ("one product", "no recurrence")

    @torch.no_grad()
    def answers(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The outputs for x [T, N, I] of any N, a part at a time: the states of all steps of all
        test sequences at once would not fit into memory for MNIST. Without dropout and noise.
        lengths [N]: see Data."""
        self.eval()
        parts = range(0, x.size(1), TESTED_AT_ONCE)
        each = (slice(k, k + TESTED_AT_ONCE) for k in parts)
        found = torch.cat([self(rows_of(x, lengths, rows)) for rows in each])
        self.train()
        return found


def rows_of(x: Tensor, lengths: Tensor | None, rows: Tensor | slice) -> Tensor | PackedSequence:
    """These sequences of x [T, N, I] as the model takes them."""
    return packed(x[:, rows], None if lengths is None else lengths[rows])


def _layers(spec: TrialSpec, features: int) -> Any:
    """The recurrent layers with the arm's activations and options. Raises TaskError for options
    that the cell does not have."""
    chosen = spec.settings
    options: dict[str, Any] = {
        "num_layers": chosen.layers,
        "bidirectional": chosen.bidirectional,
        "dropout": chosen.dropout if chosen.layers > 1 else 0.0,
        "engine": chosen.engine,
    }
    for name in ("peephole", "coupled", "layer_norm", "zoneout", "recurrent_dropout", "clip"):
        if value := getattr(chosen, name):
            options[name] = value
    if chosen.cell in _CELLS:
        make = _CELLS[chosen.cell][1]
        arguments: tuple[Any, ...] = (features, chosen.hidden_size)
    else:
        make, arguments = Recurrent, (cell_type(chosen.cell), features, chosen.hidden_size)
    try:
        return make(*arguments, **options, **spec.arguments)
    except TypeError as error:
        raise TaskError(f"{spec.label}: {chosen.cell}: {error}") from error


def run_trial(spec: TrialSpec) -> Outcome:
    """Train and measure. Returns the result, which depends on the spec alone, and the timing.

    Initial weights, the split of the data and its order follow from the seed, so that trials with
    the same seed are pairs. A loss or gradient that is not finite ends the trial: it diverged,
    which is a result. torch's own random numbers go on afterwards as if nothing had been drawn.
    """
    with seeded(spec.seed, spec.settings.device):
        return _run_trial(spec)


@contextmanager
def seeded(seed: int, device: str = "cpu") -> Iterator[None]:
    """torch's random numbers of the CPU, and of the cards if the device is one (dropout draws
    there), from a seed on, inside; outside they go on as before."""
    on_cards = device.startswith("cuda")
    before = torch.get_rng_state()
    before_on_cards = torch.cuda.get_rng_state_all() if on_cards else []
    torch.default_generator.manual_seed(seed)
    if on_cards:
        torch.cuda.manual_seed_all(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
        if on_cards:
            torch.cuda.set_rng_state_all(before_on_cards)


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
    data = _placed(spec.task.load(spec.seed), spec.settings)
    model = Model(spec, data.train_x.size(-1), data.every_step)
    run = _Training(spec, model, data)
    test_x = data.test_x.transpose(0, 1)
    probe, wanted = rows_of(test_x, data.test_lengths, slice(PROBE)), data.test_y[:PROBE]

    inside: dict[str, Any] = {}

    def take_snapshot(when: str) -> None:
        if spec.snapshots and model.measurable:
            model.eval()
            seen = snapshot(model, probe, lambda y: spec.task.loss(y, wanted))
            inside[when] = tidy(seen, _FEW_DIGITS)
            model.train()

    take_snapshot("start")
    epochs: list[dict[str, Any]] = []
    started = time.perf_counter()
    where = None if spec.log is None else spec.log / spec.key
    with live_log(where) as log:
        for epoch in range(1, spec.settings.epochs + 1):
            record = run.epoch(epoch)
            if run.diverged is not None:
                break
            answers = model.answers(test_x, data.test_lengths)
            record["metric"] = spec.task.score(answers, data.test_y)
            last = epoch == spec.settings.epochs
            if spec.health_every and model.measurable and (last or epoch % spec.health_every == 0):
                record |= health(model.lstm, probe)
            epochs.append(tidy({"epoch": epoch, **record}))
            log(epoch, record)
    take_snapshot("end")
    final = spec.task.baseline if run.diverged else epochs[-1]["metric"]
    if final is None:  # the metric overflowed though the loss did not
        final = spec.task.baseline
        run.diverged = {"epoch": spec.settings.epochs, "step": run.step, "what": "test metric"}
    result = {
        "schema": SCHEMA,
        "key": spec.key,
        "task": spec.task.name,
        "activation": spec.label,
        "slot": spec.slot,
        "seed": spec.seed,
        "diverged": run.diverged,
        "epochs": epochs,
        "inside": inside,
        "final_metric": final,
        "settings": {
            **spec.settings.all(),
            **{slot: told(activation) for slot, activation in spec.arguments.items()},
        },
    }
    timing = {
        "schema": SCHEMA,
        "key": spec.key,
        "seconds_per_step": statistics.median(run.seconds) if run.seconds else None,
        "seconds_total": time.perf_counter() - started,
        "machine": machine(spec.settings.engine, spec.settings.device),
    }
    if spec.keep_weights:
        held = io.BytesIO()
        torch.save({k: v.cpu() for k, v in model.state_dict().items()}, held)
        timing["weights"] = held.getvalue()
    return result, timing


def steps_of(spec: TrialSpec) -> Callable[[], None]:
    """A function that makes one training step of a trial, batch after batch, over and over; for a
    clock."""
    data = _placed(spec.task.load(spec.seed), spec.settings)
    run = _Training(spec, Model(spec, data.train_x.size(-1), data.every_step), data)
    batches = itertools.cycle(list(run.batches())[:_TIMED])

    def step() -> None:
        run.train_on(next(batches))

    return step


def _placed(data: Data, settings: Settings) -> Data:
    """The data where and as the trial computes."""
    kind = getattr(torch, settings.dtype)
    moved: dict[str, Any] = {
        name: part.to(settings.device, kind if part.is_floating_point() else None)
        for name, part in vars(data).items()
        if isinstance(part, Tensor) and not name.endswith("lengths")  # these stay on the CPU
    }
    return replace(data, **moved)


class _Training:
    def __init__(self, spec: TrialSpec, model: Model, data: Data) -> None:
        self.spec, self.model = spec, model
        self.x, self.y = data.train_x.transpose(0, 1), data.train_y
        self.lengths = data.train_lengths
        chosen = spec.settings
        more = {"momentum": 0.9} if chosen.optimizer == "sgd" else {}
        self.optimizer: torch.optim.Optimizer = getattr(torch.optim, OPTIMIZERS[chosen.optimizer])(
            model.parameters(), lr=chosen.learning_rate, weight_decay=chosen.weight_decay, **more
        )
        steps = chosen.epochs * math.ceil(len(self.y) / chosen.batch_size)
        self.schedule = None
        if chosen.schedule != "constant":
            self.schedule = torch.optim.lr_scheduler.LambdaLR(
                self.optimizer, lambda step: _rate(chosen.schedule, step / steps)
            )
        self.order = torch.Generator().manual_seed(spec.seed)
        self.step = 0
        self.seconds: list[float] = []
        self.diverged: dict[str, Any] | None = None

    def epoch(self, epoch: int) -> dict[str, Any]:
        """One pass over the training data: loss and the gradient's norm before clipping."""
        losses, norms = [], []
        for batch in self.batches():
            started = time.perf_counter()
            loss, norm = self.train_on(batch)
            losses.append(loss)
            norms.append(norm)
            if not (math.isfinite(loss) and math.isfinite(norm)):
                self._diverge(epoch, batch, loss, norm)
                return {}
            self.seconds.append(time.perf_counter() - started)
        return {
            "train_loss": statistics.fmean(losses),
            "gradient_norm": statistics.fmean(norms),
            "gradient_norm_max": max(norms),
        }

    def train_on(self, batch: Tensor) -> tuple[float, float]:
        """One training step: the loss and the gradient's norm before clipping; where one of them is
        not finite the weights stay."""
        self.step += 1
        x = rows_of(self.x, self.lengths, batch)
        loss = self.spec.task.loss(self.model(x), self.y[batch])
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        clip = self.spec.settings.gradient_clip or math.inf
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), clip).item()
        value = loss.item()
        if math.isfinite(value) and math.isfinite(norm):
            self.optimizer.step()
            if self.schedule is not None:
                self.schedule.step()
        return value, norm

    def batches(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self.y), generator=self.order)
        return iter(torch.split(order, self.spec.settings.batch_size))

    def _diverge(self, epoch: int, batch: Tensor, loss: float, norm: float) -> None:
        what, value = ("gradient", norm) if math.isfinite(loss) else ("loss", loss)
        wanted = self.y[batch]
        found = {}
        if self.model.measurable:
            found = place_of_divergence(
                self.model,
                rows_of(self.x, self.lengths, batch),
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


def _rate(schedule: str, done: float) -> float:
    """The learning rate's factor after a share of all steps."""
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
    return max(1.0 - done, 0.0)


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
