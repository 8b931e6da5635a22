"""anygate on the CPU beside its peers: alternating runs in one process, medians, ratios.

    python benchmarks/cpu.py --quick          nn.LSTM and anygate, five shapes, one JSON object
    python benchmarks/cpu.py --out FILE.json  all shapes, activations and peers
    python benchmarks/cpu.py --short --out FILE.json  the same without JAX, and the loop by hand
                                              beside tanh alone: two minutes with --seconds 0.2

Peers: torch.nn.LSTM (oneDNN; its tanh and sigmoid are fixed), the loop that people write by hand in
torch, and where they are installed onnxruntime (inference), Flax and Keras 3 on JAX, all with the
same activations. A ratio is anygate's time over the peer's: below 1, anygate is faster. Also a
training step of a small model, the peak memory of one, and the share of the multiply-add limit,
which a loop of our own measures (limit.py), beside what torch.mm reaches.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from limit import multiply_add_limit
from peers import PLAIN, HandLoop, JaxProcess, Run, inference, onnx_runner, training
from torch import Tensor, nn

import anygate

SHAPES = [
    (50, 1, 32, 64),
    (100, 1, 128, 128),
    (100, 1, 256, 256),
    (100, 8, 128, 128),
    (100, 32, 64, 128),
    (100, 32, 128, 256),
    (100, 64, 256, 512),
    (784, 32, 1, 128),
    (1000, 16, 64, 128),
    (1, 1, 128, 128),
]
QUICK = [SHAPES[1], SHAPES[3], SHAPES[4], SHAPES[7], SHAPES[9]]
ACTIVATIONS = ["tanh", "relu", "x*sigmoid(x)", "gelu"]
SMALL_MODEL = (64, 32, 64, 128)


class SmallModel(nn.Module):
    """Embedding, LSTM, linear: what surrounds an LSTM in a language model of bytes."""

    def __init__(self, lstm: nn.Module, inputs: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(256, inputs)
        self.lstm, self.head = lstm, nn.Linear(hidden, 256)

    def forward(self, bytes_: Tensor) -> Tensor:
        return self.head(self.lstm(self.embedding(bytes_))[0])


def small_model(lstm: nn.Module, shape: tuple[int, ...]) -> Run:
    """A whole training step with Adam."""
    steps, batch, inputs, hidden = shape
    model = SmallModel(lstm, inputs, hidden)
    optimizer = torch.optim.Adam(model.parameters())
    text = torch.randint(256, (steps + 1, batch))

    def run() -> None:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(text[:-1]).flatten(0, 1), text[1:].flatten())
        loss.backward()
        optimizer.step()

    return run


def medians(
    runs: dict[str, Run], seconds: float, timers: dict[str, Callable[[], float]] | None = None
) -> dict[str, float]:
    """Milliseconds; the runs take turns, so that a slow moment of the machine meets them all. The
    first run of a turn is not timed: the peer before may have left threads that still spin.
    timers: peers in another process, which tell their seconds."""
    timed = {name: _timer(run) for name, run in runs.items()} | (timers or {})
    times: dict[str, list[float]] = {name: [] for name in timed}
    warm = time.perf_counter() + min(0.3, seconds)
    while time.perf_counter() < warm:
        for timer in timed.values():
            timer()
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(next(iter(times.values()))) < 5:
        for name, timer in timed.items():
            timer()
            times[name] += [1000 * timer(), 1000 * timer()]
    return {name: statistics.median(t) for name, t in times.items()}


def _timer(run: Run) -> Callable[[], float]:
    def timer() -> float:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    return timer


def compare(
    shape: tuple[int, ...],
    activation: str,
    mode: str,
    seconds: float,
    jax: JaxProcess | None,
    peers: frozenset[str],
) -> Any:
    """One row: milliseconds of each, and anygate's ratio to each peer: nn.LSTM and those named."""
    steps, batch, inputs, hidden = shape
    torch.manual_seed(0)
    peer = nn.LSTM(inputs, hidden)
    ours = anygate.LSTM(inputs, hidden, activation=activation)
    ours.load_state_dict(peer.state_dict())
    x = torch.randn(steps, batch, inputs)
    make = inference if mode == "inference" else training
    runs = {"anygate": make(ours, x), "nn.LSTM": make(peer, x)}
    timers: dict[str, Callable[[], float]] = {}
    if "hand loop" in peers:
        runs["hand loop"] = make(HandLoop(peer, PLAIN[activation]), x)
    if "onnxruntime" in peers and (run := onnx_runner(peer, activation, mode, x)) is not None:
        runs["onnxruntime"] = run
    if jax is not None:
        for kind in jax.kinds:
            timers[kind] = jax.timer(kind, shape, activation, mode)
    times = medians(runs, seconds, timers)
    ratios = {k: round(times["anygate"] / t, 3) for k, t in times.items() if k != "anygate"}
    return {
        "shape": list(shape),
        "activation": activation,
        "mode": mode,
        "engine": ours.explain(x).name,
        "ms": {k: round(t, 4) for k, t in times.items()},
        "ratio": ratios,
    }


def best_of_torch_mm() -> float:
    """GFLOP/s of torch.mm on all threads, best of several sizes."""
    best = 0.0
    for n in (512, 1024, 2048):
        a, b = torch.randn(n, n), torch.randn(n, n)
        for _ in range(8):
            start = time.perf_counter()
            torch.mm(a, b)
            best = max(best, 2 * n**3 / (time.perf_counter() - start) / 1e9)
    return round(best, 1)


def small_models(seconds: float) -> Any:
    """A training step of embedding, LSTM, linear and Adam: milliseconds, ratio to nn.LSTM's."""
    _, _, inputs, hidden = SMALL_MODEL
    runs = {"nn.LSTM": small_model(nn.LSTM(inputs, hidden), SMALL_MODEL)}
    for activation in ACTIVATIONS:
        lstm = anygate.LSTM(inputs, hidden, activation=activation)
        runs[activation] = small_model(lstm, SMALL_MODEL)
    times = medians(runs, max(2.0, 2 * seconds))  # shorter runs differed by a tenth
    ratio = {k: round(t / times["nn.LSTM"], 3) for k, t in times.items() if k != "nn.LSTM"}
    return {"shape": list(SMALL_MODEL), "ms": times, "ratio": ratio}


_MEMORY = """
import sys, torch, anygate

def status(name):
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])

kind = torch.nn.LSTM if sys.argv[1] == "nn.LSTM" else anygate.LSTM
steps, batch, inputs, hidden = map(int, sys.argv[2:])
lstm, x = kind(inputs, hidden), torch.randn(steps, batch, inputs)
lstm(x[:2, :2])[0].sum().backward()  # code is loaded before the count begins
open("/proc/self/clear_refs", "w").write("5")  # the high water mark is now
before = status("VmRSS")
for _ in range(3):
    lstm.zero_grad()
    lstm(x)[0].sum().backward()
print((status("VmHWM") - before) / 1024)
"""


def peak_memory() -> Any:
    """The memory of a training step above what was there before, each in a process of its own."""
    found = {}
    for shape in ((100, 64, 256, 512), (784, 32, 1, 128), (1000, 16, 64, 128)):
        row = {}
        for kind in ("nn.LSTM", "anygate"):
            command = [sys.executable, "-c", _MEMORY, kind, *map(str, shape)]
            row[kind] = round(float(subprocess.check_output(command)), 1)
        found[str(list(shape))] = {**row, "ratio": round(row["anygate"] / row["nn.LSTM"], 3)}
    return found


def shares_of_limit(rows: list[Any], limit: float) -> dict[str, float]:
    """Arithmetic of the products alone over the multiply-add limit, of the fastest activation. In
    training: forward, backward through R, and the gradients of both weights; that of x is not asked
    for."""
    steps, batch, inputs, hidden = shape = (100, 64, 256, 512)
    per_row = 8 * hidden
    work = {
        "inference": per_row * (inputs + hidden),
        "training": per_row * (2 * (inputs + hidden) + hidden),
    }
    found = {}
    for mode, numbers in work.items():
        times = [
            r["ms"]["anygate"] for r in rows if r["shape"] == list(shape) and r["mode"] == mode
        ]
        found[mode] = round(steps * batch * numbers / min(times) / 1e6 / limit, 3)
    return found


def geometric_mean(rows: list[Any], peer: str, mode: str, activation: str | None = None) -> float:
    values = [
        r["ratio"][peer]
        for r in rows
        if r["mode"] == mode and peer in r["ratio"] and activation in (None, r["activation"])
    ]
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
    parser.add_argument("--short", action="store_true", help="fewer peers")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each comparison")
    parser.add_argument("--out", type=Path, help="file for the results")
    options = parser.parse_args()
    report: dict[str, Any] = {"command": " ".join(sys.argv), "machine": machine(), "rows": []}
    jax = None if options.quick or options.short else JaxProcess()
    shapes = QUICK if options.quick else SHAPES
    activations = ["tanh"] if options.quick else ACTIVATIONS
    seconds = min(options.seconds, 1.5) if options.quick else options.seconds
    for shape in shapes:
        for activation in activations:
            peers = frozenset() if options.quick else frozenset({"hand loop", "onnxruntime"})
            if options.short and activation != activations[0]:
                peers -= {"hand loop"}
            for mode in ("inference", "training"):
                row = compare(shape, activation, mode, seconds, jax, peers)
                report["rows"].append(row)
                print(shape, activation, mode, row["ratio"], file=sys.stderr, flush=True)
    rows = report["rows"]
    compared = sorted({peer for row in rows for peer in row["ratio"]})
    report["geometric mean"] = {
        f"{mode}, ours/{peer}": value
        for mode in ("inference", "training")
        for peer in compared
        if not math.isnan(value := geometric_mean(rows, peer, mode))
    } | {
        f"{mode}, {activation}/nn.LSTM": geometric_mean(rows, "nn.LSTM", mode, activation)
        for mode in ("inference", "training")
        for activation in activations
    }
    report["multiply-add limit GFLOP/s"] = limit = multiply_add_limit(torch.get_num_threads())
    report["torch.mm GFLOP/s"] = best_of_torch_mm()
    if not options.quick:
        report["small model"] = small_models(seconds)
        report["peak memory of a training step, MiB"] = peak_memory()
        report["share of the limit at 100 64 256 512"] = shares_of_limit(rows, limit)
    text = json.dumps(report, indent=1)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
