"""The results of `record`: for each measured call, layer and direction, numbers per time step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..cells import Cell
from ..cells.measures import COUNTS, Measured, measured

__all__ = ["LayerRecord", "Piece", "Recording", "SlotRecord"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class SlotRecord:
    """One slot of one layer and direction in one call; every field [T] float64, over batch rows and
    hidden units.

    mean, spread: mean and standard deviation of the slot's value f(a). saturated_low,
    saturated_high: share with |f'(a)| under a tenth of its largest, to the left and to the right of
    where it is largest; NaN where |f'| has no maximum. near_low, near_high: share within a tenth of
    f's range of its lower and upper bound (Karpathy et al. 2015, arXiv:1506.02078, with 0.1 and 0.9
    for the gates); NaN where f is not bounded. zero_slope: share with f'(a) exactly 0 in the
    arithmetic of the run. not_finite: how many values are infinite or NaN.
    """

    mean: Array
    spread: Array
    saturated_low: Array
    saturated_high: Array
    near_low: Array
    near_high: Array
    zero_slope: Array
    not_finite: Array

    @property
    def saturated(self) -> Array:
        """The share of values that are saturated, on either side."""
        return self.saturated_low + self.saturated_high


STATISTICS = tuple(f.name for f in fields(SlotRecord))


@dataclass(frozen=True)
class LayerRecord:
    """One layer and direction in one call of the model.

    step: which call of the model, from 0. layer: the module's name in the model and its layer,
    such as "encoder.l0" or "l1_reverse". call: 0, or how often the module had run before in the
    same call of the model. slots: by name. lines: numbers per time step, [T], by name; each is an
    attribute too:
    max_abs_STATE (max_abs_c of an LSTM), the largest size of a state other than the output.
    grad_STATE (grad_h, grad_c), the norm of dL by the state at a time step, over the batch.
    grad_STATE_direct, the part of it that does not come through a later time step; the gradient of
    an output that retain_grad() shows is that part alone, by which everything before the last step
    looks vanished. Gradients are None where no backward ran; the direct ones are None for a
    single-step cell, which sees no difference. With proj_size, h is the state before the
    projection. Index t is the place in the sequence, in the reverse direction too.
    values, slopes: with `record(units=...)`, the values of single units by slot and by state, and
    f'(a) by slot, [T, B, units] ([N, units] packed).
    """

    step: int
    layer: str
    call: int
    slots: dict[str, SlotRecord] = field(repr=False)
    lines: dict[str, Array | None] = field(repr=False)
    reverse: bool = False
    values: dict[str, Array] = field(default_factory=dict, repr=False)
    slopes: dict[str, Array] = field(default_factory=dict, repr=False)

    def __getattr__(self, name: str) -> Any:
        lines = self.__dict__.get("lines", {})
        if name in lines:
            return lines[name]
        raise AttributeError(f"a LayerRecord has no '{name}'; its lines are: {', '.join(lines)}")

    @property
    def time_steps(self) -> int:
        """The number of time steps."""
        return len(next(iter(self.slots.values())).mean)

    def scalars(self) -> dict[str, float]:
        """For loggers, by "LAYER/SLOT/mean" and the like: means over the time steps of each slot's
        statistics that are finite, the largest size of the states, and the gradients' norms at the
        first and the last time step."""
        found = {
            f"{self.layer}/{slot}/{name}": float(np.mean(getattr(s, name)))
            for slot, s in self.slots.items()
            for name in STATISTICS
        }
        for name, line in self.lines.items():
            if line is not None and name.startswith("max_abs"):
                found[f"{self.layer}/{name}"] = float(line.max())
            elif line is not None:
                found[f"{self.layer}/{name}/first_time_step"] = float(line[0])
                found[f"{self.layer}/{name}/last_time_step"] = float(line[-1])
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def first_bad(self) -> tuple[str, int] | None:
        """Slot and time step of the first value that is not finite, in the order in which the steps
        were taken and then of the slots; None if all are."""
        found = []
        for place, (slot, seen) in enumerate(self.slots.items()):
            steps = np.flatnonzero(seen.not_finite)
            if len(steps):
                t = int(steps[-1 if self.reverse else 0])
                found.append((-t if self.reverse else t, place, slot, t))
        return None if not found else min(found)[2:]


@dataclass
class Piece:
    """The measurements of an engine in one call of one layer and direction (a `Measures`).

    rows: of the batch, in each of the time steps or in all. one_step: of a single-step cell; alone:
    it ran outside of a call of the model. units: hidden units whose values are kept.
    """

    step: int
    layer: str
    call: int
    cell: Cell
    rows: Any
    hidden: int
    reverse: bool
    one_step: bool = False
    alone: bool = False
    units: tuple[int, ...] = ()
    tables: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Array] = field(default_factory=dict)
    slopes: dict[str, Array] = field(default_factory=dict)

    def forward(self, table: Any) -> None:
        """[threads, T, numbers of `Measured`]. Of a GPU it stays there until it is looked at: to
        fetch it would wait for all that the GPU has been given to do."""
        self.tables["forward"] = table

    def backward(self, table: Any) -> None:
        """[threads, T, norms of `Measured`]; of several backward passes the last one counts."""
        self.tables["backward"] = table

    def fetch(self) -> None:
        """Get the tables from the GPU."""
        for name, table in list(self.tables.items()):
            self.tables[name] = table.cpu()

    @property
    def measured(self) -> Measured:
        """The meaning of the tables' columns."""
        return measured(self.cell)

    @property
    def numbers(self) -> Array:
        """[T, numbers], over all threads."""
        parts = np.asarray(self.tables["forward"].cpu())
        found: Array = parts.sum(0)
        for column, (_, name) in enumerate(self.measured.numbers):
            if name == "max":
                found[:, column] = parts[..., column].max(0)
        return found

    @property
    def counts(self) -> Array:
        """The number of values each time step had, [T]: batch rows times hidden units."""
        rows = np.asarray(self.rows, dtype=np.float64)
        return np.broadcast_to(rows * self.hidden, self.tables["forward"].shape[1:2])


def _layer_record(pieces: list[Piece]) -> LayerRecord:
    """One record of pieces that follow each other in time."""
    first = pieces[0]
    table = np.concatenate([p.numbers for p in pieces])
    counts = np.concatenate([p.counts for p in pieces])
    columns = first.measured
    lines: dict[str, Array | None] = {
        f"max_abs_{state}": table[:, k]
        for k, (state, name) in enumerate(columns.numbers)
        if name == "max"
    }
    norms = [_norm_name(*norm) for norm in columns.norms]
    lines |= dict.fromkeys(norms)
    if all("backward" in p.tables for p in pieces):
        found = np.sqrt(np.concatenate([_norms(p) for p in pieces]))
        lines |= {
            name: found[:, k]
            for k, name in enumerate(norms)
            if not (first.one_step and name.endswith("direct"))
        }
    slots = {slot: _slot_record(columns, slot, table, counts) for slot in first.cell.slots}
    values, slopes = (
        {name: np.concatenate([getattr(p, kind)[name] for p in pieces]) for name in of_first}
        for kind, of_first in (("values", first.values), ("slopes", first.slopes))
    )
    return LayerRecord(
        first.step, first.layer, first.call, slots, lines, first.reverse, values, slopes
    )


def _norms(piece: Piece) -> Array:
    """[T, norms], squared, over all threads."""
    found: Array = np.asarray(piece.tables["backward"].cpu()).sum(0)
    return found


def _norm_name(state: str, kind: str) -> str:
    return f"grad_{state}_direct" if kind == "direct" else f"grad_{state}"


def _slot_record(columns: Measured, slot: str, table: Array, counts: Array) -> SlotRecord:
    held = columns.limits[slot]
    column = {name: table[:, columns.numbers.index((slot, name))] for name in COUNTS}
    with np.errstate(all="ignore"):  # a batch of no rows has no mean
        share = {name: numbers / counts for name, numbers in column.items()}
        spread = np.sqrt(np.maximum(share["squares"] - share["sum"] ** 2, 0.0))
    none = np.full(len(table), np.nan)
    limited, bounded = held.slope is not None, held.low is not None
    return SlotRecord(
        mean=share["sum"],
        spread=spread,
        saturated_low=share["low"] if limited else none,
        saturated_high=share["high"] if limited else none,
        near_low=share["near_low"] if bounded else none,
        near_high=share["near_high"] if bounded else none,
        zero_slope=share["flat"],
        not_finite=column["bad"],
    )


_FETCHED = 64
"""So many pieces are fetched from a GPU together, which waits for it once; its memory holds as many
at most, but for backward passes that come much later."""


class Recording:
    """All that `anygate.record` has measured so far, kept until `clear`: about 0.7 kB for each
    record, time step and thread."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def append(self, piece: Piece) -> None:
        """Take in the piece of a call that is about to run."""
        if self.pieces and len(self.pieces) % _FETCHED == 0:
            for earlier in self.pieces[-2 * _FETCHED :]:  # some have had their backward since
                earlier.fetch()
        self.pieces.append(piece)

    @property
    def records(self) -> list[LayerRecord]:
        """The records, in the order in which the layers ran. A call whose backward has not run yet,
        or never will, has no gradients. Calls of an LSTMCell in one call of the model are its time
        steps."""
        groups: dict[Any, list[Piece]] = {}
        for place, piece in enumerate(list(self.pieces)):
            if "forward" not in piece.tables:  # the call failed
                continue
            of_many = piece.one_step and not piece.alone
            key = (piece.step, piece.layer) if of_many else place
            groups.setdefault(key, []).append(piece)
        return [_layer_record(group) for group in groups.values()]

    @property
    def layers(self) -> list[str]:
        """Names of the layers, in the order in which they first ran."""
        return list(dict.fromkeys(r.layer for r in self.records))

    def clear(self) -> None:
        """Forget what was measured so far."""
        self.pieces.clear()

    def add(self, other: Recording, step: int) -> None:
        """Take over what another has measured, as of the given step."""
        self.pieces += [replace(piece, step=step) for piece in other.pieces]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[LayerRecord]:
        return iter(self.records)

    def table(self) -> list[dict[str, Any]]:
        """A row for each record, slot and time step, for pandas.DataFrame and the like: step,
        layer, call, slot, t, the fields of SlotRecord, and the record's lines, which stand in every
        slot's row."""
        rows = []
        for r in self.records:
            for slot, s in r.slots.items():
                columns = {name: getattr(s, name) for name in STATISTICS} | r.lines
                for t in range(r.time_steps):
                    numbers = {k: None if v is None else float(v[t]) for k, v in columns.items()}
                    head = {"step": r.step, "layer": r.layer, "call": r.call, "slot": slot, "t": t}
                    rows.append(head | numbers)
        return rows

    def arrays(self) -> dict[str, Array]:
        """The records as arrays, by name: "LAYER/step" [n], "LAYER/SLOT/mean" and the like, and
        "LAYER/grad_h" and the like, each [n, longest T], NaN where there is no number."""
        found: dict[str, Array] = {}
        for layer in self.layers:
            own = [r for r in self.records if r.layer == layer]
            found[f"{layer}/step"] = np.array([r.step for r in own], dtype=np.float64)
            for slot in own[0].slots:
                for name in STATISTICS:
                    lines = [getattr(r.slots[slot], name) for r in own]
                    found[f"{layer}/{slot}/{name}"] = _padded(lines, own)
            for name in own[0].lines:
                found[f"{layer}/{name}"] = _padded([r.lines[name] for r in own], own)
        return found

    def to_tensorboard(self, writer: Any, tag: str = "anygate") -> None:
        """`LayerRecord.scalars` of each record, at its step. writer: a
        torch.utils.tensorboard.SummaryWriter, or anything with its add_scalar."""
        for r in self.records:
            for name, value in r.scalars().items():
                writer.add_scalar(f"{tag}/{name}", value, r.step)

    def __repr__(self) -> str:
        layers = ", ".join(name or "(the model itself)" for name in self.layers) or "no layer"
        return f"<Recording: {len(self)} records of {layers}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        return f"<pre>{escape(str(self))}</pre>"

    def __str__(self) -> str:
        """The last record of each layer, means over time."""
        last = {r.layer: r for r in self.records}
        if not last:
            return "nothing recorded"
        return "\n\n".join(_in_one_line(r) for r in last.values())


def _padded(lines: list[Array | None], records: list[LayerRecord]) -> Array:
    longest = max(r.time_steps for r in records)
    found = np.full((len(lines), longest), np.nan)
    for row, line in zip(found, lines, strict=True):
        if line is not None:
            row[: len(line)] = line
    return found


def _in_one_line(r: LayerRecord) -> str:
    title = f"{r.layer}, call {r.step}, {r.time_steps} time steps"
    sizes = [
        f"largest |{name.removeprefix('max_abs_')}| {line.max():.3g}"
        for name, line in r.lines.items()
        if line is not None and name.startswith("max_abs") and len(line)
    ]
    lines = [": ".join([title, *sizes[:1]]) + "".join(f", {size}" for size in sizes[1:])]
    lines.append(f"  {'':12} {'mean':>9} {'spread':>9} {'saturated':>9} {'zero slope':>10}")
    for slot, s in r.slots.items():
        share = "" if np.isnan(s.saturated).all() else f"{s.saturated.mean():.1%}"
        lines.append(
            f"  {slot:12} {s.mean.mean():9.3g} {s.spread.mean():9.3g} {share:>9} "
            f"{s.zero_slope.mean():>10.1%}"
        )
    ends = [
        f"|dL/d{name.removeprefix('grad_')}| {line[0]:.3g} at the first time step, "
        f"{line[-1]:.3g} at the last"
        for name, line in r.lines.items()
        if line is not None and name.startswith("grad") and not name.endswith("direct")
    ]
    lines += [f"  {'; '.join(ends)}"] if ends else []
    if bad := r.first_bad():
        lines.append(f"  not finite, first in {bad[0]} at time step {bad[1]} (from 0)")
    return "\n".join(lines)
