"""anygate on a CUDA device beside torch.nn.LSTM (cuDNN) and the loop by hand: alternated medians.

    python benchmarks/gpu.py [--out FILE.json]

A training step (forward + backward) in float32, synchronised. anygate has no fused engine for GPUs:
this says what its eager engine costs there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import torch
from peers import PLAIN, HandLoop, training

import anygate

SHAPES = [(100, 8, 128, 128), (100, 32, 128, 256), (100, 64, 256, 512)]


def row(shape: tuple[int, ...], activation: str) -> dict[str, object]:
    """Milliseconds of each, and anygate's ratio to each peer."""
    steps, batch, inputs, hidden = shape
    torch.manual_seed(0)
    peer = torch.nn.LSTM(inputs, hidden).cuda()
    ours = anygate.LSTM(inputs, hidden, activation=activation).cuda()
    ours.load_state_dict(peer.state_dict())
    x = torch.randn(steps, batch, inputs, device="cuda")
    modules = {"anygate": ours, "nn.LSTM": peer, "hand loop": HandLoop(peer, PLAIN[activation])}
    runs = {name: training(module, x) for name, module in modules.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(12):
        for name, run in runs.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            torch.cuda.synchronize()
            if turn > 1:
                times[name].append(1000 * (time.perf_counter() - start))
    ms = {name: round(statistics.median(t), 3) for name, t in times.items()}
    ratio = {name: round(ms["anygate"] / t, 3) for name, t in ms.items() if name != "anygate"}
    print(list(shape), activation, ms, ratio, file=sys.stderr)
    return {"shape": shape, "activation": activation, "ms": ms, "ratio": ratio}


def main() -> None:
    """All shapes, tanh and ReLU."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", help="a JSON file; else it is printed")
    options = parser.parse_args()
    found = {
        "command": " ".join(["benchmarks/gpu.py", *sys.argv[1:]]),
        "machine": {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__},
        "rows": [row(shape, activation) for shape in SHAPES for activation in ("tanh", "relu")],
    }
    text = json.dumps(found, indent=1)
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
