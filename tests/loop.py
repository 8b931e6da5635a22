"""The oracle of recordings: the LSTM as a loop of torch operations in its own dtype, every tensor
of which keeps its gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anygate.engines import eager
from anygate.formulas import Activation, curve, sheet
from anygate.nn import LSTM

Array = NDArray[np.float64]
GATES = ("input_gate", "forget_gate", "candidate", "output_gate")
"""The slots that the products of W x + R h feed, in the order of the weights' rows."""


@dataclass(frozen=True)
class Looped:
    """One run of the loop: what went into each slot's activation and came out of it, [T, B, H],
    the hidden and cell states, and what every step gave to the loss, all with their gradients."""

    arguments: dict[str, list[Tensor]]
    h: list[Tensor]
    c: list[Tensor]
    outputs: list[Tensor]


def loop(lstm: LSTM, x: Tensor) -> tuple[Tensor, Looped]:
    """The outputs [T, B, H] of the first layer of `lstm` for x [T, B, I], from zeros."""
    slots = lstm.cell.slots
    apply: Callable[[str, Tensor], Tensor] = lambda slot, z: eager.apply(slots[slot], z)  # noqa: E731
    weight_ih, weight_hh = lstm.weight_ih_l0, lstm.weight_hh_l0
    bias = lstm.bias_ih_l0 + lstm.bias_hh_l0 if lstm.bias else None
    h = c = x.new_zeros(x.size(1), lstm.hidden_size)
    seen = Looped({slot: [] for slot in (*GATES, "cell_output")}, [], [], [])
    for step in x:
        z = step @ weight_ih.T + h @ weight_hh.T
        parts = (z if bias is None else z + bias).chunk(4, -1)
        i, f, g, o = (apply(slot, part) for slot, part in zip(GATES, parts, strict=True))
        c = f * c + i * g
        h = o * apply("cell_output", c)
        output = h.clone()  # its gradient is what comes from the loss alone
        for slot, part in zip((*GATES, "cell_output"), (*parts, c), strict=True):
            seen.arguments[slot].append(part)
        for kept, tensor in ((seen.h, h), (seen.c, c), (seen.outputs, output)):
            if tensor.requires_grad:
                tensor.retain_grad()
            kept.append(tensor)
    return torch.stack(seen.outputs), seen


def gradients(seen: Looped) -> dict[str, Array]:
    """After backward(retain_graph=True): ||dL/dh_t|| and ||dL/dc_t||, total, and direct: without
    what arrives through later time steps."""
    found = {
        "grad_h": _norms([h.grad for h in seen.h]),
        "grad_c": _norms([c.grad for c in seen.c]),
        "grad_h_direct": _norms([o.grad for o in seen.outputs]),
    }
    # only now: what is asked of h adds to the gradient that it keeps
    direct = [
        torch.autograd.grad(h, c, output.grad, retain_graph=True)[0]
        for h, c, output in zip(seen.h, seen.c, seen.outputs, strict=True)
    ]
    return {**found, "grad_c_direct": _norms(direct)}


def _norms(found: list[Any]) -> Array:
    return np.array([g.double().norm().item() for g in found])


def statistics(lstm: LSTM, seen: Looped) -> dict[str, dict[str, Array]]:
    """Of each slot and time step, what `anygate.record` calls by the same names."""
    return {
        slot: _statistics(lstm.cell.slots[slot], torch.stack(z).detach().double())
        for slot, z in seen.arguments.items()
    }


def _statistics(activation: Activation, z: Tensor) -> dict[str, Array]:
    known = sheet(activation)
    value = eager.apply(activation, z).flatten(1)
    slope = eager.apply(activation.derivative(), z).abs().flatten(1)
    largest = known.largest_slope.value
    flat = slope < 0.1 * largest
    left = z.flatten(1) < _steepest(activation)
    low, high = known.low.value, known.high.value
    room = 0.1 * (high - low)
    found = {
        "mean": value.mean(1),
        "spread": value.std(1, correction=0),
        "saturated_low": _share(flat & left),
        "saturated_high": _share(flat & ~left),
        "near_low": _share(value < low + room),
        "near_high": _share(value > high - room),
        "zero_slope": _share(slope == 0),
        "not_finite": (~torch.isfinite(value)).double().sum(1),
    }
    missing = torch.full((len(z),), float("nan"), dtype=torch.float64)
    if largest == float("inf"):
        found |= dict.fromkeys(("saturated_low", "saturated_high"), missing)
    if not known.bounded.value:
        found |= dict.fromkeys(("near_low", "near_high"), missing)
    return {name: values.numpy() for name, values in found.items()}


def _share(mask: Tensor) -> Tensor:
    return mask.double().mean(1)


def _steepest(activation: Activation) -> float:
    """An x where |f'| is largest."""
    rows = curve(activation, -8, 8, 1601, orders=1)
    row = max((r for r in rows if r["d1"] is not None), key=lambda r: abs(r["d1"] or 0.0))
    return row["x"] or 0.0
