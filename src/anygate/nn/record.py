"""record: measure inside the recurrent modules of a model while it runs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from .layers import RecurrentLayers
from .recorder import ACTIVE, Recorder
from .recording import Recording
from .step import StepCell

__all__ = ["record"]


@contextmanager
def record(model: nn.Module, every: int = 1, units: Sequence[int] = ()) -> Iterator[Recording]:
    """Measure what happens inside every LSTM, GRU, RNN, Recurrent and single-step cell of a model.

        with anygate.record(model, every=50) as recording:
            for x, y in batches:
                loss = criterion(model(x), y)
                loss.backward()
                ...
        print(recording)
        recording.records[-1].grad_h    # [T]: the norm of dL/dh at each time step

    Per layer, direction, slot and time step: mean and spread of the values, shares that are
    saturated, near a bound and of slope zero, numbers that are not finite; per time step the
    largest |c| and the norms of dL/dh and dL/dc, or of the states that the cell has, total and
    direct (`LayerRecord`, `SlotRecord`).
    They are summed up inside the kernels while these run: nothing is kept for single units, and
    nothing is measured outside of the context.

    every: only each N-th call of the model is measured, the first one included; the others run as
    always. The model computes the same numbers either way.
    units: hidden units whose values are kept too, at every time step and of every row:
    `records[k].values["forget_gate"]` [T, B, len(units)], and of the states. They are computed
    again from the states, which takes about as long as the reference engine does.

    Raises ValueError for a model without such modules, one that torch.compile made, one
    that is recorded already, or an `every` below 1. A measured call raises RuntimeError under
    torch.func, vmap and create_graph=True.
    Warns at the end if none ran.
    """
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f"every must be a whole number from 1, not {every!r}")
    chosen = tuple(units)
    if not all(isinstance(u, int) and not isinstance(u, bool) and u >= 0 for u in chosen):
        raise ValueError(f"units are numbers of hidden units, from 0, not {units!r}")
    recorder = Recorder(model, _modules(model), every, chosen)
    ACTIVE.update(dict.fromkeys(recorder.modules, recorder))
    try:
        yield recorder.recording
    finally:
        recorder.remove()
        for module in recorder.modules:
            ACTIVE.pop(module, None)
    if not recorder.recording.pieces:
        warnings.warn(
            "anygate.record measured nothing: no recurrent module of the model ran (or "
            "torch.compile ran it)",
            stacklevel=3,
        )


def _modules(model: nn.Module) -> dict[nn.Module, str]:
    """The modules to record, with their names in the model."""
    inside: Any = model
    if hasattr(inside, "_orig_mod") or getattr(inside, "_compiled_call_impl", None) is not None:
        raise ValueError(
            "anygate.record measures plain calls, and torch.compile has taken this model over; "
            "record the model before it is compiled, or a copy that is not"
        )
    found: dict[nn.Module, str] = {
        m: name for name, m in model.named_modules() if isinstance(m, RecurrentLayers | StepCell)
    }
    if not found:
        hint = ""
        if any(isinstance(m, nn.RNNBase | nn.RNNCellBase) for m in model.modules()):
            hint = "; anygate.swap(model) turns torch's into such, with the same weights"
        raise ValueError(
            f"the model has no recurrent module of anygate (LSTM, GRU, RNN, Recurrent){hint}"
        )
    if twice := [name for m, name in found.items() if m in ACTIVE]:
        raise ValueError(f"'{twice[0]}' is being recorded already")
    return found
