"""anygate on the CPU beside its peers: alternating runs in one process, medians, ratios.

    python benchmarks/cpu.py --quick          nn.LSTM and anygate, five shapes, one JSON object
    python benchmarks/cpu.py --out FILE.json  all shapes, activations and peers

Peers: torch.nn.LSTM (oneDNN; its tanh and sigmoid are fixed), the loop that people write by hand in
torch, and onnxruntime's LSTM with the same activations (inference) where it is installed. A ratio
is anygate's time over the peer's: below 1, anygate is faster.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import anygate

SHAPES = [
    (50, 1, 32, 64), (100, 1, 128, 128), (100, 1, 256, 256), (100, 8, 128, 128),
    (100, 32, 64, 128), (100, 32, 128, 256), (100, 64, 256, 512), (784, 32, 1, 128),
    (1000, 16, 64, 128), (1, 1, 128, 128),
]  # fmt: skip
QUICK = [SHAPES[1], SHAPES[3], SHAPES[4], SHAPES[7], SHAPES[9]]
ACTIVATIONS = ["tanh", "relu", "hard_tanh", "x*sigmoid(x)"]
PLAIN: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "hard_tanh": nn.functional.hardtanh,
    "x*sigmoid(x)": nn.functional.silu,
}
ONNX = {"tanh": "Tanh", "relu": "Relu"}

Run = Callable[[], object]


class HandLoop(nn.Module):
    """What people write today: a Python loop over time steps."""

    def __init__(self, like: nn.RNNBase, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.like, self.function = like, function

    def forward(self, x: Tensor) -> Tensor:
        m: Any = self.like
        h = c = x.new_zeros(x.shape[1], m.hidden_size)
        outputs = []
        for step in x:
            z = nn.functional.linear(step, m.weight_ih_l0, m.bias_ih_l0) + nn.functional.linear(
                h, m.weight_hh_l0, m.bias_hh_l0
            )
            i, f, g, o = z.chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * self.function(g)
            h = o.sigmoid() * self.function(c)
            outputs.append(h)
        return torch.stack(outputs)


def onnx_runner(like: nn.RNNBase, activation: str, x: Tensor) -> Run | None:
    """onnxruntime's LSTM with these weights; None if not installed or without this function."""
    try:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    if activation not in ONNX:
        return None
    m: Any = like
    hidden = m.hidden_size

    def iofc(weight: Tensor) -> Any:
        i, f, g, o = weight.detach().chunk(4)
        return torch.cat([i, o, f, g])[None].numpy()

    bias = torch.cat(
        [torch.from_numpy(iofc(m.bias_ih_l0)), torch.from_numpy(iofc(m.bias_hh_l0))], 1
    )
    weights = {"W": iofc(m.weight_ih_l0), "R": iofc(m.weight_hh_l0), "B": bias.numpy()}
    node = helper.make_node(
        "LSTM", ["X", "W", "R", "B"], ["Y", "Y_h", "Y_c"], hidden_size=hidden,
        activations=["Sigmoid", ONNX[activation], ONNX[activation]],
    )  # fmt: skip
    graph = helper.make_graph(
        [node],
        "lstm",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, list(x.shape))],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Its idle threads would go on spinning while the others run: they doubled anygate's time.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {"X": x.numpy()}
    return lambda: session.run(["Y"], feed)


def inference(module: nn.Module, x: Tensor) -> Run:
    def run() -> None:
        with torch.inference_mode():
            module(x)

    return run


def training(module: nn.Module, x: Tensor) -> Run:
    def run() -> None:
        module.zero_grad()
        output = module(x)
        output = output[0] if isinstance(output, tuple) else output
        output.sum().backward()

    return run


def medians(runs: dict[str, Run], seconds: float) -> dict[str, float]:
    """Milliseconds; the runs take turns, so that a slow moment of the machine meets them all. The
    first run of a turn is not timed: the peer before may have left threads that still spin."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(next(iter(times.values()))) < 5:
        for name, run in runs.items():
            run()
            for _ in range(2):
                start = time.perf_counter()
                run()
                times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(t) for name, t in times.items()}


def compare(shape: tuple[int, ...], activation: str, mode: str, seconds: float, full: bool) -> Any:
    """One row: milliseconds of each, and anygate's ratio to each peer."""
    steps, batch, inputs, hidden = shape
    torch.manual_seed(0)
    peer = nn.LSTM(inputs, hidden)
    ours = anygate.LSTM(inputs, hidden, activation=activation)
    ours.load_state_dict(peer.state_dict())
    x = torch.randn(steps, batch, inputs)
    make = inference if mode == "inference" else training
    runs = {"anygate": make(ours, x), "nn.LSTM": make(peer, x)}
    if full:
        runs["hand loop"] = make(HandLoop(peer, PLAIN[activation]), x)
        if mode == "inference" and (onnx := onnx_runner(peer, activation, x)):
            runs["onnxruntime"] = onnx
    times = medians(runs, seconds)
    ratios = {k: round(times["anygate"] / t, 3) for k, t in times.items() if k != "anygate"}
    return {
        "shape": list(shape),
        "activation": activation,
        "mode": mode,
        "engine": ours.explain(x).name,
        "ms": {k: round(t, 4) for k, t in times.items()},
        "ratio": ratios,
    }


def sgemm_peak() -> float:
    """GFLOP/s of torch.mm on all threads, best of several sizes: the machine's own peak."""
    best = 0.0
    for n in (512, 1024, 2048):
        a, b = torch.randn(n, n), torch.randn(n, n)
        for _ in range(8):
            start = time.perf_counter()
            torch.mm(a, b)
            best = max(best, 2 * n**3 / (time.perf_counter() - start) / 1e9)
    return round(best, 1)


def geometric_mean(rows: list[Any], peer: str, mode: str, activation: str | None = None) -> float:
    values = [
        r["ratio"][peer] for r in rows
        if r["mode"] == mode and peer in r["ratio"] and activation in (None, r["activation"])
    ]  # fmt: skip
    return round(math.exp(statistics.fmean(map(math.log, values))), 3) if values else math.nan


def machine() -> dict[str, Any]:
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [v for v in info.read_text().splitlines() if v.startswith("model name")]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return {
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "load before": os.getloadavg()[0],
        "torch": torch.__version__,
        "anygate": anygate.__version__,
        "python": platform.python_version(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="five shapes, nn.LSTM and anygate")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each comparison")
    parser.add_argument("--out", type=Path, help="file for the results")
    options = parser.parse_args()
    report: dict[str, Any] = {"command": " ".join(sys.argv), "machine": machine(), "rows": []}
    shapes = QUICK if options.quick else SHAPES
    activations = ["tanh"] if options.quick else ACTIVATIONS
    seconds = min(options.seconds, 1.5) if options.quick else options.seconds
    for shape in shapes:
        for activation in activations:
            for mode in ("inference", "training"):
                row = compare(shape, activation, mode, seconds, full=not options.quick)
                report["rows"].append(row)
                print(shape, activation, mode, row["ratio"], file=sys.stderr, flush=True)
    rows = report["rows"]
    peers = sorted({peer for row in rows for peer in row["ratio"]})
    report["geometric mean"] = {
        f"{mode}, ours/{peer}": value
        for mode in ("inference", "training")
        for peer in peers
        if not math.isnan(value := geometric_mean(rows, peer, mode))
    }
    report["sgemm GFLOP/s"] = sgemm_peak()
    text = json.dumps(report, indent=1)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
