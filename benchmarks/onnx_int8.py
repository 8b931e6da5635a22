"""A layer in int8 by ONNX Runtime: its size, error and time beside the float32 file and anygate.

    python benchmarks/onnx_int8.py --out benchmarks/results/onnx_int8.json

Shortest of the rounds, alternating, one thread each; ratios are what to look at.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import onnx
import onnxruntime
import torch
from cpu import machine
from onnxruntime.quantization import QuantType, quantize_dynamic

from anygate import LSTM
from tests.onnx_files import layer_file

SHAPES = ((100, 1, 64, 128), (100, 8, 64, 128), (100, 1, 256, 512), (100, 32, 256, 512))


def session(path: Path) -> Callable[[torch.Tensor], Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    made = onnxruntime.InferenceSession(str(path), options)
    return lambda x: made.run(["y"], {"x": x.numpy()})[0]


@torch.no_grad()
def measure(activation: str, shape: tuple[int, ...], rounds: int, folder: Path) -> dict[str, Any]:
    """One row of the result."""
    steps, batch, inputs, hidden = shape
    layer = LSTM(inputs, hidden, activation=activation).eval()
    model, report = layer_file(layer)
    plain, small = folder / "float32.onnx", folder / "int8.onnx"
    onnx.save(model, plain)
    quantize_dynamic(
        plain, small, weight_type=QuantType.QInt8, extra_options={"EnableSubgraph": True}
    )
    runs: dict[str, Callable[[torch.Tensor], Any]]
    runs = {"float32": session(plain), "int8": session(small), "anygate": layer}
    x = torch.randn(steps, batch, inputs)
    expected = layer(x)[0].numpy()
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(rounds):
        for name, run in runs.items():
            begun = time.perf_counter()
            run(x)
            best[name] = min(best[name], time.perf_counter() - begun)
    return {
        "activation": activation,
        "became": report.became,
        "shape [T B I H]": shape,
        "bytes": {"float32": plain.stat().st_size, "int8": small.stat().st_size},
        "int8 error / largest value": float(
            abs(runs["int8"](x) - expected).max() / abs(expected).max()
        ),
        "ms": {name: round(1e3 * seconds, 3) for name, seconds in best.items()},
        "int8 / float32": round(best["int8"] / best["float32"], 3),
        "int8 / anygate": round(best["int8"] / best["anygate"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    logging.disable(logging.WARNING)  # the quantiser's advice on preparing the file
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measure(activation, shape, chosen.rounds, Path(folder))
            for activation in ("relu", "silu")
            for shape in SHAPES
        ]
    for row in rows:
        print(json.dumps(row))
    if chosen.out:
        command = f"benchmarks/onnx_int8.py --rounds {chosen.rounds} --out {chosen.out}"
        versions = {m.__name__: m.__version__ for m in (onnxruntime, torch)}
        result = {"command": command, "machine": machine() | versions, "rows": rows}
        chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
