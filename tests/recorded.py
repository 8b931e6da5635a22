"""Snapshots and a stability map for the studies that `test_verdict.write_study` writes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from test_verdict import SLOTS, put

EDGES = [0, 10, 20, 40, 64]
LAGS = [58.5, 48.5, 33.5, 11.5]
"""From the middle of each bin to the last of 64 steps."""


def snapshot(per_step: float, saturated: float = 0.1) -> dict[str, Any]:
    """A snapshot in which gradients shrink by `per_step` a step, and `saturated` is the share in
    the candidate, a quarter of it low, rising over the bins."""
    bins = len(EDGES) - 1
    slots = {
        slot: {
            "mean": [0.5] * bins,
            "spread": [0.1] * bins,
            "saturated_low": [0.0] * bins,
            "saturated_high": [0.0] * bins,
        }
        for slot in SLOTS
    }
    rising = [saturated * (k + 1) / bins for k in range(bins)]
    slots["candidate"] |= {
        "saturated_low": [r / 4 for r in rising],
        "saturated_high": [3 * r / 4 for r in rising],
    }
    norms = [per_step**lag for lag in LAGS]
    return {
        "edges": EDGES,
        "slots": slots,
        "max_abs_cell": [1.0, 2.0, 3.0, 4.0],
        "grad_h": norms,
        "grad_c": [2 * n for n in norms],
        "grad_h_direct": [0.0] * (bins - 1) + [0.5],
        "grad_c_direct": [0.0] * (bins - 1) + [0.4],
    }


def add_snapshots(root: Path, per_step: Mapping[str, float], saturated: float = 0.1) -> None:
    """Give every trial snapshots before and after training; gradients shrink more slowly after."""
    for path in (root / "trials").iterdir():
        trial = json.loads(path.read_text())
        factor = per_step[trial["activation"]]
        trial["inside"] = {"start": snapshot(factor), "end": snapshot(math.sqrt(factor), saturated)}
        path.write_text(json.dumps(trial))


def add_stability(
    root: Path, diverged: Mapping[str, Mapping[tuple[float, float], int]], seeds: int = 3
) -> None:
    """Write a map: activation -> (learning rate, forget bias) -> how many runs diverged."""
    cells = []
    for index, (label, of_label) in enumerate(diverged.items()):
        for (rate, bias), bad in of_label.items():
            keys = [f"s{index}-{rate:g}-{bias:g}-{seed}" for seed in range(seeds)]
            cells.append(
                {"activation": label, "learning_rate": rate, "forget_bias": bias, "keys": keys}
            )
            for seed, key in enumerate(keys):
                end = {"epoch": 1, "step": 7 + seed, "what": "the loss is not finite"}
                put(
                    root / "stability" / "trials" / f"{key}.json",
                    {
                        "schema": 1,
                        "key": key,
                        "activation": label,
                        "seed": seed,
                        "epochs": [],
                        "diverged": end if seed < bad else None,
                        "final_metric": 0.1,
                    },
                )
    put(root / "stability" / "grid.json", {"schema": 1, "steps": 40, "cells": cells})
