"""ONNX Runtime's time for a layer as its operator and as a Scan, and anygate's, alternating.

    python benchmarks/onnx_scan.py --out benchmarks/results/onnx_scan.json

Shortest of the rounds, in milliseconds, one thread each; ratios are what to look at.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import onnxruntime
import torch
from cpu import machine

from anygate import LSTM
from anygate.interop.onnx import lowering
from tests.onnx_files import layer_file

STEPS, INPUTS, HIDDEN = 100, 64, 128


def session(layer: LSTM, scan: bool) -> Callable[[torch.Tensor], Any]:
    """The layer in ONNX Runtime; scan: also where an operator would do."""
    chosen = lowering.operator_of
    if scan:
        lowering.operator_of = lambda *_: "asked for"  # type: ignore[assignment]
    try:
        model, _ = layer_file(layer)
    finally:
        lowering.operator_of = chosen
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    made = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return lambda x: made.run(["y"], {"x": x.numpy()})


def measure(activation: str, rounds: int) -> list[dict[str, Any]]:
    """A row for each batch."""
    layer = LSTM(INPUTS, HIDDEN, activation=activation).eval()
    runs: dict[str, Callable[[torch.Tensor], Any]] = {"Scan": session(layer, True)}
    if activation != "silu":
        runs["operator"] = session(layer, False)
    runs["anygate"] = layer
    rows = []
    for batch in (1, 8, 32):
        x = torch.randn(STEPS, batch, INPUTS)
        best = dict.fromkeys(runs, float("inf"))
        with torch.no_grad():
            for _ in range(rounds):
                for name, run in runs.items():
                    begun = time.perf_counter()
                    run(x)
                    best[name] = min(best[name], time.perf_counter() - begun)
        ratios = {f"Scan / {n}": round(best["Scan"] / t, 2) for n, t in best.items() if n != "Scan"}
        ms = {name: round(1e3 * seconds, 3) for name, seconds in best.items()}
        rows.append({"activation": activation, "batch": batch, "ms": ms, **ratios})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    before = machine() | {"onnxruntime": onnxruntime.__version__}
    rows = [r for a in ("tanh", "softsign", "silu") for r in measure(a, chosen.rounds)]
    for row in rows:
        print(json.dumps(row))
    if chosen.out:
        command = f"benchmarks/onnx_scan.py --rounds {chosen.rounds} --out {chosen.out}"
        sizes = {"T": STEPS, "I": INPUTS, "H": HIDDEN}
        result = {"command": command, "machine": before, "sizes": sizes, "rows": rows}
        chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
