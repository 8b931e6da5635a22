"""The arguments of a user's own training: `swap`, which puts the arm into a model, and `trial`,
which keeps curves, recordings and checkpoints."""

from __future__ import annotations

import io
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import nn

from ... import nn as ours
from ...nn import init
from ...nn.layers import RecurrentLayers
from ...nn.recording import Recording
from ...nn.step import StepCell
from ...nn.swap import Match
from ..arms import Arm, ArmError
from .begin import begin
from .live import Log
from .measure import inside_of
from .store.files import write_bytes
from .trial import tidy

M = TypeVar("M", bound=nn.Module)


class Swap:
    """Puts the arm of a trial into a model: ``model = swap(MyModel())``."""

    def __init__(self, arm: Arm) -> None:
        self.arm = arm
        self.calls = 0
        self.failed = False

    def __call__(
        self, model: M, *, match: Match | None = None, steps: int | None = None, **options: Any
    ) -> M:
        """The same model, of which every LSTM, GRU and RNN has this arm's activations, options and
        initial weights now. Make the optimizer afterwards.

        match: which modules, as in :func:`anygate.swap`. steps: the sequences' length, for arms
        with init="chrono". options: further arguments of anygate.swap for all arms, such as
        strict=False or engine="eager". Raises ArmError, naming the arm, for what cannot be.
        """
        self.calls += 1
        try:
            self._swap_into(model, match, steps, options)
        except (ValueError, TypeError) as error:
            self.failed = True
            raise ArmError(f"arm {self.arm.label!r}: {error}") from error
        return model

    def _swap_into(
        self, model: nn.Module, match: Match | None, steps: int | None, options: dict[str, Any]
    ) -> None:
        settings = dict(self.arm.settings)
        chosen = settings.pop("init", "torch")
        bias = settings.pop("forget_bias", None)
        known = {k: v for k, v in settings.items() if k in _SWAP_OPTIONS}
        summary = ours.swap(model, match=match, **{**options, **self.arm.slots, **known})
        names = [entry.names[0] for entry in summary.replaced]
        names += [s.names[0] for s in summary.skipped if s.reason.endswith(" already")]
        for name in names:
            module = model.get_submodule(name)
            if isinstance(module, RecurrentLayers | StepCell):
                begin(module, chosen, steps)
                if bias is not None:
                    init.forget_bias_(module, bias)


_SWAP_OPTIONS = {
    "peephole",
    "coupled",
    "reset_after",
    "clip",
    "trainable",
    "zoneout",
    "recurrent_dropout",
    "layer_norm",
    "engine",
}
"""Settings of an arm that are arguments of the modules."""


class Stateful(Protocol):
    """A model, optimizer or scheduler: anything with a state to save and to load."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state_dict: Any) -> Any: ...


class RunningTrial:
    """One running trial, as the third argument of `train`.

    arm: its name. settings: the arm's own settings, such as ``trial.settings["learning_rate"]``.
    seed. folder: a folder for files of this trial alone, which stay (below ``out``).
    """

    def __init__(self, arm: Arm, seed: int, folder: Path, metric: str) -> None:
        self.arm = arm.label
        self.settings: dict[str, Any] = arm.given()
        self.seed = seed
        self.metric = metric
        self._folder = folder
        self.reports: list[dict[str, Any]] = []
        self.inside: dict[str, Any] = {}
        self.log: Log = lambda epoch, values: None
        self._recording: Recording | None = None

    @property
    def folder(self) -> Path:
        """Made on first use."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def report(self, **values: Any) -> None:
        """The numbers of one more epoch, by name: ``trial.report(rmse=0.3, train_loss=0.1)``.

        They become curves. The metric's last value is the score if `train` returns none.
        """
        row: dict[str, Any] = {name: as_number(name, v) for name, v in values.items()}
        if self._recording is not None:
            row |= self._last_lines(self._recording)
        self.reports.append(row)
        self.log(len(self.reports), row)

    @contextmanager
    def record(self, model: nn.Module, every: int = 1) -> Iterator[Recording]:
        """As :func:`anygate.record`; what it measures in the first layer also goes into the
        result: the first and the last recorded pass, and the saturation at each report."""
        with ours.record(model, every=every) as recording:
            self._recording = recording
            try:
                yield recording
            finally:
                self._recording = None
                self._last_lines(recording)

    def _last_lines(self, recording: Recording) -> dict[str, Any]:
        """The last pass in numbers of an epoch; keeps the first and the last for the report."""
        records = recording.records
        if not records:
            return {}
        own = [r for r in records if r.layer == records[0].layer]
        passed = [r for r in own if any(v is not None for k, v in r.lines.items() if "grad" in k)]
        if passed:
            self.inside.setdefault("start", inside_of(passed[0]))
            self.inside["end"] = inside_of(passed[-1])
        slots = {
            slot: {"saturated": float(np.mean(s.saturated))}
            for slot, s in own[-1].slots.items()
            if not np.isnan(s.saturated).all()
        }
        return {"slots": slots} if slots else {}

    def epochs(self, count: int, *state: Stateful) -> Iterator[int]:
        """The numbers 0 to count - 1, saving a checkpoint after each.

            for epoch in trial.epochs(30, model, optimizer, scheduler):

        After a crash or kill -9 the same call goes on behind the last whole epoch: the states of
        the objects given, torch's, NumPy's and Python's random numbers and the reported curves are
        then as they were. Make the objects first; only ``out=`` keeps checkpoints.
        """
        names = {str(k): each for k, each in enumerate(state)}
        for epoch in range(self.restore(**names), count):
            yield epoch
            self.checkpoint(epoch + 1, **names)

    def checkpoint(self, epoch: int, **state: Stateful) -> None:
        """Save the states of models, optimizers and the like, the random numbers and what was
        reported, whole or not at all. epoch: what restore returns."""
        content = {
            "epoch": int(epoch),
            "state": {name: each.state_dict() for name, each in state.items()},
            "random": _random_state(),
            "reports": self.reports,
            "inside": self.inside,
        }
        held = io.BytesIO()
        torch.save(content, held)
        write_bytes(self.folder / CHECKPOINT, held.getvalue())

    def restore(self, **state: Stateful) -> int:
        """Load the last checkpoint of this trial into the objects; returns its epoch, 0 if there
        is none."""
        path = self._folder / CHECKPOINT
        if not path.is_file():
            return 0
        held = torch.load(path, map_location="cpu", weights_only=True)
        if held["state"].keys() != state.keys():
            raise ValueError(
                f"{path} holds {len(held['state'])} objects, {len(state)} are to be restored; "
                "delete it if train has changed"
            )
        for name, each in state.items():
            each.load_state_dict(held["state"][name])
        _set_random_state(held["random"])
        self.reports, self.inside = held["reports"], held["inside"]
        return int(held["epoch"])


CHECKPOINT = "checkpoint.pt"


def as_number(name: str, value: Any) -> float:
    """A number, also one in a tensor or array of one element. Raises TypeError for others."""
    try:
        return float(value.item() if isinstance(value, torch.Tensor) else value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}") from None


def as_numbers(name: str, value: Any) -> list[float]:
    """A curve: a sequence, array or tensor of numbers."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().tolist()
    if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str):
        raise TypeError(f"{name} must be a number or a list of numbers, not {type(value).__name__}")
    return [as_number(name, each) for each in value]


@contextmanager
def all_seeded(seed: int) -> Iterator[None]:
    """Random numbers of Python, NumPy and torch (GPUs too) from a seed on, inside; outside they go
    on as before."""
    with random_kept():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002  (the user's code may use it)
        torch.manual_seed(seed)
        yield


@contextmanager
def random_kept() -> Iterator[None]:
    """Whatever is drawn inside, the random numbers outside go on as before."""
    before = _random_state()
    try:
        yield
    finally:
        _set_random_state(before)


def _random_state() -> dict[str, Any]:
    """Of plain values and tensors, as torch.load reads them without trust."""
    version, inner, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": [version, list(inner), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "torch": torch.get_rng_state(),
        "cuda": _cuda_random(),
    }


def _cuda_random() -> list[torch.Tensor]:
    """Of all GPUs, if this process uses any: asking for them would begin that."""
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return torch.cuda.get_rng_state_all() if used else []


def _set_random_state(state: Mapping[str, Any]) -> None:
    version, inner, gauss = state["python"]
    random.setstate((version, tuple(inner), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])


def merged_curves(
    reports: Sequence[Mapping[str, Any]], curves: Mapping[str, Sequence[float]]
) -> list[dict[str, Any]]:
    """A row for each epoch, of what was reported and of the curves that were returned. Raises
    ValueError if they have other lengths."""
    lengths = {len(curve) for curve in curves.values()} | ({len(reports)} if reports else set())
    if len(lengths) > 1:
        raise ValueError(f"curves of different lengths: {sorted(lengths)} epochs")
    rows = [dict(row) for row in reports] or [{} for _ in range(max(lengths, default=0))]
    for name, curve in curves.items():
        for row, value in zip(rows, curve, strict=True):
            row[name] = value
    return rows


_FIELDS = ("train_loss", "gradient_norm", "gradient_norm_max", "max_abs_cell")


def as_epochs(rows: Sequence[Mapping[str, Any]], metric: str) -> list[dict[str, Any]]:
    """The rows as the epochs of a trial's file: fields of their own for what the report draws."""
    epochs = []
    for number, row in enumerate(rows, start=1):
        known = {name: row[name] for name in (*_FIELDS, "slots") if name in row}
        others = {k: v for k, v in row.items() if k not in known and k != metric}
        epoch = {"epoch": number, "metric": row.get(metric, math.nan), **known}
        epochs.append(tidy(epoch | ({"values": others} if others else {})))
    return epochs
