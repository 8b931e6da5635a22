"""Figures along the time steps of a sequence: where values saturate, where the gradient goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..findings.arrival import arrival
from ..study.store.results import StudyResults
from ..study.store.schema import Snapshot
from ..wording import join
from . import charts, maps
from .charts import Row
from .parts import Figure, Panel, Table, looks, number

Array = NDArray[np.float64]
When = Literal["start", "end"]
_TIMES: dict[When, str] = {"start": "before training", "end": "after training"}
_SHOWN = 6  # columns of a table over time steps
_NAMED = 5  # activations in a sentence; of more, only both ends


@dataclass(frozen=True)
class Along:
    """One quantity of one activation over bins of time steps: ``values`` [run, bin]."""

    edges: tuple[int, ...]
    values: Array

    @property
    def steps(self) -> int:
        return self.edges[-1]

    @property
    def lags(self) -> list[float]:
        """Time steps from the middle of each bin to the last step."""
        pairs = zip(self.edges[:-1], self.edges[1:], strict=True)
        return [self.steps - 1 - (a + b - 1) / 2 for a, b in pairs]

    @property
    def median(self) -> Array:
        """Over the runs that have a number, [bin]."""
        return _quantile(self.values, 0.5)


def _quantile(values: Array, q: float) -> Array:
    finite = [column[np.isfinite(column)] for column in values.T]
    return np.array([np.quantile(c, q) if c.size else np.nan for c in finite])


def _absent(results: StudyResults) -> str:
    """A sentence on the activations that have nothing to show after training, because every run
    diverged."""
    gone = [
        x
        for x in results.labels
        if results.runs(x) and len(results.diverged(x)) == len(results.runs(x))
    ]
    return f" After training nothing is left of {join(gone)}: every run diverged." if gone else ""


def _states(results: StudyResults, label: str, when: When, name: str) -> Along | None:
    return _along(results.snapshots(label, when), lambda s: s.states.get(name))


def _along(seen: Sequence[Snapshot], pick: Any) -> Along | None:
    """The values that `pick` takes of the snapshots, which must share the bins of the first."""
    if not seen or len(seen[0].edges) < 3:  # a single time step has nothing along it
        return None
    rows = [row for s in seen if s.edges == seen[0].edges and (row := pick(s)) is not None]
    return Along(seen[0].edges, np.array(rows, dtype=np.float64)) if rows else None


# --------------------------------------------------------------------------------- saturation


def saturation(results: StudyResults) -> Figure | None:
    """Saturated shares by slot and time step after training, one panel for each activation."""
    found = {label: _saturated(results, label, "end") for label in results.labels}
    found = {label: slots for label, slots in found.items() if slots}
    if not found:
        return None
    slots = [s for s in results.measured_slots if any(s in f for f in found.values())]
    panels = [_saturation_panel(label, f, slots) for label, f in found.items()]
    label, slot = max(
        ((x, s) for x, f in found.items() for s in f),
        key=lambda place: float(np.nanmax(found[place[0]][place[1]][0].mean)),
    )
    top = found[label][slot][0]
    k = int(np.nanargmax(top.mean))
    sentence = (
        f"After training most is saturated in the {_slot_in_words(slot)} of {label}: "
        f"{top.mean[k]:.0%} of its values at {_span(top.edges, k)}. Each row is a slot; the line "
        "rises from 0% at its bottom to 100% at its top, and the colour deepens with it."
        f"{_absent(results)}"
    )
    return Figure(
        "saturation_over_time",
        "Saturation over the time steps",
        sentence,
        panels,
        _saturation_table(results),
    )


@dataclass(frozen=True)
class _Share:
    edges: tuple[int, ...]
    mean: Array


def _saturated(
    results: StudyResults, label: str, when: When
) -> dict[str, tuple[_Share, _Share, _Share]]:
    """Slot -> the share saturated, of it low, and high, over bins; means over the runs."""
    seen, found = results.snapshots(label, when), {}
    for slot in results.measured_slots:
        sides = [
            _along(seen, lambda s, name=name, slot=slot: s.slots.get(slot, {}).get(name))
            for name in ("saturated_low", "saturated_high")
        ]
        if sides[0] is not None and sides[1] is not None:
            edges = sides[0].edges
            low, high = (_mean(side.values) for side in sides if side is not None)
            found[slot] = (_Share(edges, low + high), _Share(edges, low), _Share(edges, high))
    return {slot: f for slot, f in found.items() if np.isfinite(f[0].mean).any()}


def _mean(values: Array) -> Array:
    finite = [column[np.isfinite(column)] for column in values.T]
    return np.array([c.mean() if c.size else np.nan for c in finite])


def _saturation_panel(
    label: str, found: dict[str, tuple[_Share, _Share, _Share]], slots: list[str]
) -> Panel:
    rows: list[Row] = []
    for slot, (share, low, high) in found.items():
        for k, (a, b) in enumerate(zip(share.edges[:-1], share.edges[1:], strict=True)):
            if np.isfinite(share.mean[k]):
                parts = {"share": share.mean[k], "low": low.mean[k], "high": high.mean[k]}
                rows.append(
                    {"slot": _slot_in_words(slot), "from": a + 1, "to": b + 1}
                    | {n: round(float(v), 4) for n, v in parts.items()}
                )
    steps = next(iter(found.values()))[0].edges[-1]
    names = [_slot_in_words(slot) for slot in slots]
    text = f"Share of values saturated by slot and time step with {label}, after training."
    return Panel(f"saturation_{label}", label, text, lambda _: maps.over_time(rows, names, steps))


def _saturation_table(results: StudyResults) -> Table:
    rows, columns = [], list[str]()
    for label in results.labels:
        for when, text in _TIMES.items():
            for slot, (share, _, _) in _saturated(results, label, when).items():
                picks = _picks(len(share.mean))
                columns = columns or [_span(share.edges, k) for k in picks]
                cells = [
                    f"{share.mean[k]:.1%}" if np.isfinite(share.mean[k]) else "–" for k in picks
                ]
                rows.append([f"{label}, {_slot_in_words(slot)}, {text}", *cells])
    caption = "Share of values saturated, mean over the runs that did not diverge"
    return Table(caption, ["slot", *columns], rows)


def _picks(count: int) -> list[int]:
    """A few bins, evenly from the first to the last."""
    return sorted({round(k * (count - 1) / (_SHOWN - 1)) for k in range(_SHOWN)})


def _span(edges: tuple[int, ...], k: int) -> str:
    """The time steps of a bin, counted from 1."""
    a, b = edges[k] + 1, edges[k + 1]
    return f"step {a}" if a == b else f"steps {a} to {b}"


def _slot_in_words(slot: str) -> str:
    return slot.replace("_", " ")


# ---------------------------------------------------------------------------------- gradients


_STATES = {"grad_h": "norm of ∂L/∂h", "grad_c": "norm of ∂L/∂c"}
"""In words: the font of the files has no double bars."""


def gradients(results: StudyResults) -> Figure | None:
    """Total gradient norms of both states over the time lag, before and after training."""
    panels, values = [], list[float]()
    lines = {
        (name, when): rows
        for name in _STATES
        for when in _TIMES
        if (rows := _gradient_rows(results, name, when))
    }
    if not lines:
        return None
    values = [r[k] for rows in lines.values() for r in rows for k in ("low", "mid", "high")]
    limits = charts.value_limits(values, True)
    panels = [_gradient_panel(results, place, rows, limits) for place, rows in lines.items()]
    decay = " ".join(text for when in _TIMES if (text := _decay(results, when)))
    sentence = (
        (
            f"Of ‖∂L/∂c‖ at the last time step, so much arrives at the first. {decay} "
            if decay
            else ""
        )
        + "Lines are medians over the runs, bands their range; a line ends where the gradient is "
        f"exactly zero.{_absent(results)} {_direct(results)}"
    )
    return Figure(
        "gradient_flow",
        "Where the gradient goes",
        sentence.strip(),
        panels,
        _gradient_table(results),
        looks(results),
        symbols=True,
    )


def _gradient_rows(results: StudyResults, name: str, when: When) -> list[Row]:
    rows: list[Row] = []
    for label in results.labels:
        along = _states(results, label, when, name)
        if along is None:
            continue
        low, high = (_quantile(along.values, q) for q in (0.0, 1.0))
        smallest = along.values[along.values > 0].min(initial=np.inf)
        for lag, mid, a, b in zip(along.lags, along.median, low, high, strict=True):
            if mid > 0:
                rows.append(
                    {
                        "label": label,
                        "lag": lag,
                        "mid": _round(mid),
                        "low": _round(max(a, smallest)),
                        "high": _round(b),
                    }
                )
    return rows


def _round(value: float) -> float:
    return float(f"{value:.4g}")


def _gradient_panel(
    results: StudyResults, place: tuple[str, When], rows: list[Row], limits: tuple[float, float]
) -> Panel:
    title = f"{_STATES[place[0]]}, {_TIMES[place[1]]}"

    def chart(legend: bool) -> Any:
        return charts.curves(
            rows,
            looks(results),
            y_title="norm",
            y_format="~g",
            log=True,
            height=240,
            along=charts.LAGS,
            limits=limits,
            end_labels=False,
            legend=legend,
        )

    text = f"The {title}, over the time steps before the last, on a log scale."
    return Panel(f"{place[0]}_{place[1]}", title, text, chart)


def _decay(results: StudyResults, when: When) -> str:
    """The share of dL/dc at the last time step that arrives at the first, by activation."""
    found = {x: a for x in results.labels if (a := arrival(results, x, when))}
    shares = {x: a.share for x, a in found.items()}
    parts = {
        x: f"{x} {a.share:.2g} ({a.per_step:.3g} a step)" if a.share else f"{x} exactly none"
        for x, a in found.items()
    }
    if not parts:
        return ""
    if len(parts) <= _NAMED:
        return f"{_TIMES[when].capitalize()}: {', '.join(parts.values())}."
    most, least = max(shares, key=lambda x: shares[x]), min(shares, key=lambda x: shares[x])
    return f"{_TIMES[when].capitalize()}: from {parts[least]} to {parts[most]}."


def _direct(results: StudyResults) -> str:
    """A sentence on why the direct norm, which is easy to get, misleads."""
    found = [_states(results, label, "start", "grad_h_direct") for label in results.labels]
    known = [a for a in found if a is not None]
    if not known:
        return ""
    zero = max(int((np.nan_to_num(a.values, nan=1.0) == 0).all(0).sum()) for a in known)
    bins = len(known[0].edges) - 1
    only_last = zero == bins - 1
    what = "time steps" if bins == known[0].steps else "stretches of time steps"
    text = (
        "These norms are total. The direct one, which retain_grad on the output of torch.nn.LSTM "
        "gives, leaves out what flows through later time steps"
    )
    if only_last:
        return f"{text}: it is zero at {zero} of {bins} {what}, as if everything had vanished."
    return f"{text}, so that it does not say how far back the gradient reaches."


def _gradient_table(results: StudyResults) -> Table:
    rows, columns = [], list[str]()
    for label in results.labels:
        for when, text in _TIMES.items():
            for name, symbol in _STATES.items():
                for kind, suffix in (("total", ""), ("direct", "_direct")):
                    along = _states(results, label, when, name + suffix)
                    if along is None:
                        continue
                    picks = _picks(len(along.lags))[::-1]
                    columns = columns or [f"lag {along.lags[k]:g}" for k in picks]
                    cells = [number(float(along.median[k])) for k in picks]
                    rows.append([f"{label}, {text}, {symbol}, {kind}", *cells])
    caption = "Median norms of the gradient by time steps before the last"
    return Table(caption, ["norm", *columns], rows)
