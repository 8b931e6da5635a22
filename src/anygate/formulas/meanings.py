"""Plain sentences on what a function's range means in each slot of the LSTM."""

from __future__ import annotations

import math

__all__ = ["meanings"]

Intervals = tuple[tuple[float, float], ...]


def meanings(low: float, high: float, dead: Intervals, monotone: str) -> dict[str, tuple[str, ...]]:
    """One tuple of sentences for each slot, from infimum and supremum, the intervals where the
    derivative is exactly zero, and the kind of monotony."""
    if math.isnan(low) or math.isnan(high):
        return dict.fromkeys(_WRITERS, ("Gives no number; it cannot be used.",))
    shared = tuple(_dead(dead)) + (
        ("Not monotone: a larger pre-activation can lower the value.",) if monotone == "no" else ()
    )
    return {slot: (*write(low, high), *shared) for slot, write in _WRITERS.items()}


def _number(value: float) -> str:
    return f"{value:.4g}"


def _dead(dead: Intervals) -> list[str]:
    if not dead:
        return []
    places = " and ".join(
        "everywhere"
        if math.isinf(a) and math.isinf(b)
        else f"below {_number(b)}"
        if math.isinf(a)
        else f"above {_number(a)}"
        if math.isinf(b)
        else f"from {_number(a)} to {_number(b)}"
        for a, b in dead
    )
    return [f"The derivative is exactly zero {places}: a unit that stays there does not learn."]


def _gate_range(low: float, high: float) -> list[str]:
    said = []
    if low >= 0 and high <= 1:
        whole = low < 0.01 and high > 0.99
        said.append(
            "Within [0, 1]: lets through between none and all."
            if whole
            else f"Within [{_number(low)}, {_number(high)}], inside [0, 1]: it can never "
            + ("close fully." if low >= 0.01 else "open fully.")
        )
    if low < 0:
        said.append("Can be negative: the gate can flip the sign of what passes.")
    return said


def _input_gate(low: float, high: float) -> list[str]:
    said = _gate_range(low, high)
    if math.isinf(high) or math.isinf(low):
        said.append("Unbounded: one step can write any amount into the cell state.")
    elif high > 1:
        said.append(f"Up to {_number(high)}: one step can write more than the candidate.")
    return said


def _forget_gate(low: float, high: float) -> list[str]:
    said = _gate_range(low, high)
    size = max(abs(low), abs(high))
    if math.isinf(size):
        said.append(
            "Unbounded: above 1 the cell state grows exponentially with the time steps and can "
            "overflow; clip it, or keep a bounded gate here."
        )
    elif size > 1:
        said.append(
            f"Size up to {_number(size)}: held there, the cell state grows {_number(size)} times "
            f"each step, {_growth(size)} over 100 steps."
        )
    elif size <= 0.99:
        said.append(
            f"Size at most {_number(size)}: the cell state halves at least every "
            f"{_number(_half_life(size))} steps."
        )
    return said


def _growth(size: float) -> str:
    power = 100 * math.log10(size)
    return f"{size**100:.3g} times" if power < 4 else f"10^{power:.0f} times"


def _half_life(size: float) -> float:
    return math.log(2) / -math.log(size) if size > 0 else 0.0


def _candidate(low: float, high: float) -> list[str]:
    said = []
    if low >= 0:
        said.append(
            "Never negative: with gates that are not negative either, the cell state can only "
            "be lowered by forgetting."
        )
    if math.isinf(low) or math.isinf(high):
        said.append("Unbounded: the cell state can grow by any amount in one step.")
    else:
        size = max(abs(low), abs(high))
        said.append(
            f"Each step adds at most {_number(size)} times the input gate to the cell state."
        )
    return said


def _output_gate(low: float, high: float) -> list[str]:
    said = _gate_range(low, high)
    if math.isinf(high) or math.isinf(low):
        said.append("Unbounded: the hidden state has no bound, whatever the cell output.")
    elif high > 1:
        said.append(f"Up to {_number(high)}: the hidden state can exceed the cell output.")
    return said


def _cell_output(low: float, high: float) -> list[str]:
    if math.isinf(low) or math.isinf(high):
        return [
            "Unbounded: the hidden state grows with the cell state, and feeds back into it "
            "through the recurrent weights; training can diverge."
        ]
    said = [f"The hidden state stays within [{_number(low)}, {_number(high)}] times the gate."]
    if low >= 0:
        said.append("Never negative: the hidden state carries no sign.")
    return said


_WRITERS = {
    "input_gate": _input_gate,
    "forget_gate": _forget_gate,
    "candidate": _candidate,
    "output_gate": _output_gate,
    "cell_output": _cell_output,
}
