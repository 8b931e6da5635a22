"""Measurements inside an LSTM on given sequences, from recordings, as a trial's file holds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ...nn import record
from ...nn.recording import LayerRecord

BINS = 64
"""Time steps are averaged into at most so many bins, so that a file stays small."""

Array = NDArray[np.float64]
_RECORDED = {"max_abs_cell": "max_abs_c"}
"""Name here -> name in `LayerRecord`."""
Loss = Callable[[Tensor], Tensor]
"""From a model's outputs to the loss."""


def _root_mean_square(values: Array) -> Any:
    return np.sqrt(np.mean(np.square(values)))


# Norms are averaged as squares: a bin of which one step has all the gradient keeps it, where a
# geometric mean would be zero.
_SHARES = ("saturated_low", "saturated_high", "near_low", "near_high", "zero_slope")
_OF_SLOTS: dict[str, Callable[[Array], Any]] = {
    "mean": np.mean,
    "spread": _root_mean_square,
    **dict.fromkeys(_SHARES, np.mean),
    "not_finite": np.sum,
}
_OF_STATES: dict[str, Callable[[Array], Any]] = {
    "max_abs_cell": np.max,
    **dict.fromkeys(("grad_h", "grad_c", "grad_h_direct", "grad_c_direct"), _root_mean_square),
}


def snapshot(model: nn.Module, x: Tensor | PackedSequence, loss: Loss) -> dict[str, Any]:
    """One recorded forward and backward pass of `model` on x [T, B, I]; its gradients are cleared.

    Of its first LSTM layer: "edges", where bin k holds time steps edges[k] to edges[k+1] - 1, and
    for each bin "slots" (slot -> statistic -> numbers) and the states' "max_abs_cell", "grad_h",
    "grad_c" and the direct ones. What `anygate.record` gives for a time step is averaged over the
    bin: spread and norms of gradients by the root mean square, max_abs_cell by the largest,
    not_finite by the sum, all else by the mean. A statistic that the formula does not have (a
    bound, a largest slope), or that is zero throughout (not_finite), is left out.
    """
    with record(model) as recording:
        loss(model(x)).backward()  # type: ignore[no-untyped-call]
    model.zero_grad()
    return inside_of(recording.records[0])


def inside_of(first: LayerRecord) -> dict[str, Any]:
    """One recorded pass of a layer in bins, as :func:`snapshot` gives it."""
    edges = bin_edges(first.time_steps)
    slots = {slot: _binned(seen, _OF_SLOTS, edges) for slot, seen in first.slots.items()}
    return {"edges": edges, "slots": slots, **_binned(first, _OF_STATES, edges)}


def bin_edges(steps: int) -> list[int]:
    """The edges of bins of equal length, or nearly: at most BINS of them."""
    count = min(steps, BINS)
    return [k * steps // count for k in range(count + 1)]


def _binned(
    seen: Any, reductions: dict[str, Callable[[Array], Any]], edges: list[int]
) -> dict[str, list[float]]:
    found = {}
    for name, reduce in reductions.items():
        values = getattr(seen, _RECORDED.get(name, name), None)
        if values is None or np.isnan(values).all() or (name == "not_finite" and not values.any()):
            continue
        parts = np.split(np.asarray(values, dtype=np.float64), edges[1:-1])
        found[name] = [float(reduce(part)) for part in parts]
    return found


def health(lstm: nn.Module, x: Tensor | PackedSequence) -> dict[str, Any]:
    """Of the first layer on x [T, B, I]: "max_abs_cell", the largest |c|, and "slots", slot ->
    {"saturated", "dead"}: the share of all (unit, step, sequence) whose |f'| is below a tenth of
    its largest value (NaN where that is infinite), and the share of dead units. Both rest on the
    slopes that `anygate.record` measures."""
    training = lstm.training
    with record(lstm.eval()) as recording, torch.no_grad():
        lstm(x)
    lstm.train(training)
    first = recording.records[0]
    dead = dead_units(lstm, x)
    slots = {
        slot: {"saturated": float(np.mean(s.saturated)), "dead": dead[slot]}
        for slot, s in first.slots.items()
    }
    size = first.lines.get("max_abs_c")
    return ({} if size is None else {"max_abs_cell": float(np.max(size))}) | {"slots": slots}


def dead_units(lstm: Any, x: Tensor | PackedSequence) -> dict[str, float]:
    """Slot -> the share of units of the first layer whose f' is exactly zero at every step of every
    sequence of x [T, B, I]. A recording, which keeps sums over the units, cannot say this: the same
    slopes are taken before they are summed up."""
    with record(lstm, units=range(lstm.hidden_size)) as recording, torch.no_grad():
        lstm(x)
    slopes = recording.records[0].slopes
    return {  # packed, a slope is [all steps of all sequences, units]
        slot: float((slope == 0).reshape(-1, slope.shape[-1]).all(0).mean())
        for slot, slope in slopes.items()
    }


def place_of_divergence(model: nn.Module, x: Tensor | PackedSequence, loss: Loss) -> dict[str, Any]:
    """The place where the first number that is not finite appears on the batch x [T, B, I]: its
    "slot" and "time_step" (from 1) and "max_abs_cell_before", the largest |c| at the steps before
    it.

    If all of the forward pass is finite, "max_abs_cell_before" is of all steps, and "largest_at"
    the step that has it. The backward pass is then searched from the last step on: "time_step" is
    the first one met with a dL/dc that is not finite, and "gradient_before" its norm at the step
    after it. These two are missing where the loss itself overflowed, or only the sums that the
    weights' gradients are.
    """
    with record(model) as recording:
        loss(model(x)).backward()  # type: ignore[no-untyped-call]
    first = recording.records[0]
    cells, bad = first.lines.get("max_abs_c"), first.first_bad()
    if bad is not None:
        slot, step = bad
        if cells is None:  # a cell without c
            return {"slot": slot, "time_step": step + 1}
        before = float(np.max(cells[:step], initial=0.0))
        return {"slot": slot, "time_step": step + 1, "max_abs_cell_before": before}
    if cells is None:
        return {}
    found: dict[str, Any] = {
        "max_abs_cell_before": float(np.max(cells)),
        "largest_at": int(np.argmax(cells)) + 1,
    }
    norms = first.grad_c
    if norms is None:  # no backward pass came this far
        return found
    unsound = np.flatnonzero(~np.isfinite(norms))
    if not len(unsound) or unsound[-1] == len(cells) - 1:
        return found
    step = int(unsound[-1])
    return {"time_step": step + 1, "gradient_before": float(norms[step + 1]), **found}
