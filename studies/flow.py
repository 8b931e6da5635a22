"""The reach of a gradient back in time: ||dL/dc|| and ||dL/dh|| over the lag, and the share that
the forget gates alone would let through, before and after training.

    python -m studies.flow

writes results/flow.json. The loss is that of the last step of the adding problem, so that a lag of
k is k steps before the end; each curve is the mean over the seeds of log10 of the norm over that at
the last step. Direct is the product of the mean forget gates: along the cell no derivative of
candidate or cell output enters. What comes besides goes through h.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from .arms import BOTH, Arm, arm
from .lab import find_task, machine, one_thread, run_trial
from .results import COMMITTED

__all__ = ["ACTIVATIONS", "curves", "flow"]

ACTIVATIONS = ("tanh", "relu", "sigmoid", "hard_tanh")
BIASES = (1.0, 3.0)
SEEDS = tuple(range(9100, 9104))
"""Of no other run."""
SETUP, LONG = "adding30", "adding:60"
"""After training over 30 steps, before it over 60, with the same settings. Snapshots hold 64 steps
one by one."""
TINY = 1e-30


def _arm(activation: str, bias: float) -> Arm:
    slots = [] if activation == "tanh" else [f"{BOTH}={activation}"]
    return arm(SETUP, *slots, forget_bias=bias)


def curves(each: Arm, when: str) -> dict[str, Any]:
    """The mean curves of one arm at the "start" or the "end" of its training, with the number of
    seeds whose gradients were finite."""
    found: dict[str, list[Any]] = {"cell": [], "hidden": [], "direct": []}
    for seed in SEEDS:
        spec = replace(each.spec(seed), snapshots=True)
        if when == "start":
            settings = replace(spec.settings, epochs=1)
            spec = replace(spec, task=find_task(LONG), settings=settings)
        result, _ = run_trial(spec)
        inside = result["inside"].get(when)
        if inside is None or (when == "end" and result["diverged"]):
            continue
        gates = inside["slots"]["forget_gate"]["mean"]
        forget = np.log10(np.maximum(np.abs(np.array(gates, dtype=float)), TINY))
        found["cell"].append(_decades(inside["grad_c"]))
        found["hidden"].append(_decades(inside["grad_h"]))
        found["direct"].append(np.concatenate([[0.0], np.cumsum(forget[::-1])[:-1]]))
    rows = {
        name: [round(float(v), 3) for v in np.mean(held, axis=0)] if held else []
        for name, held in found.items()
    }
    return {"seeds": len(found["cell"]), **rows}


def _decades(norms: list[float | None]) -> Any:
    """log10 of the norms from the last step backwards, over that at the last step."""
    held = np.array([np.nan if v is None else v for v in norms], dtype=float)[::-1]
    return np.log10(np.maximum(held, TINY) / max(held[0], TINY))


def flow() -> dict[str, Any]:
    """All curves: by when, activation and forget bias."""
    with one_thread():
        return {
            "command": "python -m studies.flow",
            "machine": machine(),
            "seeds": list(SEEDS),
            "start": {
                f"{name}, forget bias {bias:g}": curves(_arm(name, bias), "start")
                for name in ACTIVATIONS
                for bias in BIASES
            },
            "trained": {name: curves(_arm(name, 1.0), "end") for name in ACTIVATIONS},
        }


if __name__ == "__main__":
    path = COMMITTED / "flow.json"
    path.write_text(json.dumps(flow(), separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"written: {path}")
