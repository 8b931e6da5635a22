"""ONNX Runtime's time for a layer as its operator and as a Scan, and anygate's, alternating.

    python benchmarks/onnx_scan.py [--rounds 60]

Shortest of the rounds, in milliseconds, one thread each; ratios are what to look at.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import onnxruntime
import torch

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, load {os.getloadavg()[0]:.1f}; T={STEPS} "
        f"I={INPUTS} H={HIDDEN}; onnxruntime {onnxruntime.__version__}"
    )
    for activation in ("tanh", "softsign", "silu"):
        layer = LSTM(INPUTS, HIDDEN, activation=activation).eval()
        runs: dict[str, Callable[[torch.Tensor], Any]] = {"Scan": session(layer, True)}
        if activation != "silu":
            runs["operator"] = session(layer, False)
        runs["anygate"] = layer
        for batch in (1, 8, 32):
            x = torch.randn(STEPS, batch, INPUTS)
            best = dict.fromkeys(runs, float("inf"))
            with torch.no_grad():
                for _ in range(rounds):
                    for name, run in runs.items():
                        begun = time.perf_counter()
                        run(x)
                        best[name] = min(best[name], time.perf_counter() - begun)
            times = ", ".join(f"{name} {1e3 * t:.2f}" for name, t in best.items())
            beside = best.get("operator", best["anygate"])
            other = "operator" if "operator" in best else "anygate"
            print(f"{activation} B={batch}: {times} ms; Scan / {other} {best['Scan'] / beside:.2f}")


if __name__ == "__main__":
    main()
