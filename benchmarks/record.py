"""The cost of recording: a training step in `anygate.record` over one outside, alternated medians.

    python benchmarks/record.py [--seconds 0.5] [--out FILE.json]

Ratios of time; the bar of the project is 1.3.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys

import torch
from cpu import ACTIVATIONS, SHAPES, machine, medians
from peers import training

import anygate


def row(shape: tuple[int, ...], activation: str, seconds: float) -> dict[str, object]:
    """Milliseconds of both, and their ratio."""
    steps, batch, inputs, hidden = shape
    torch.manual_seed(0)
    lstm = anygate.LSTM(inputs, hidden, activation=activation)
    twin = copy.deepcopy(lstm)
    x = torch.randn(steps, batch, inputs)
    with anygate.record(twin):
        times = medians({"plain": training(lstm, x), "recorded": training(twin, x)}, seconds)
    ratio = round(times["recorded"] / times["plain"], 3)
    shown = {name: round(t, 4) for name, t in times.items()}
    print(list(shape), activation, shown, ratio, file=sys.stderr)
    return {"shape": shape, "activation": activation, "ms": shown, "ratio": ratio}


def main() -> None:
    """All shapes and activations."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row")
    parser.add_argument("--out", help="a JSON file; else it is printed")
    options = parser.parse_args()
    known = machine()
    rows = [row(s, a, options.seconds) for s in SHAPES for a in ACTIVATIONS]
    mean = math.exp(sum(math.log(float(str(r["ratio"]))) for r in rows) / len(rows))
    found = {
        "command": " ".join(["benchmarks/record.py", *sys.argv[1:]]),
        "machine": known,
        "rows": rows,
        "geometric mean": round(mean, 3),
        "largest": max(float(str(r["ratio"])) for r in rows),
    }
    text = json.dumps(found, indent=1)
    if options.out:
        with open(options.out, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
