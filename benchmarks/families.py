"""LSTM, GRU and RNN beside torch's on the CPU, and a cell that no library has: medians of runs that
take turns in one process, as ratios.

    python benchmarks/families.py --seconds 0.5 --out benchmarks/results/families.json

A ratio is anygate's time over torch's: below 1, anygate is faster. The cell without a peer, an LSTM
with a second, slow memory, stands beside nn.LSTM of the same size.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from pathlib import Path
from typing import Any

import torch
from cpu import medians
from peers import inference, training
from torch import nn

import anygate

SHAPES = [
    (100, 32, 64, 128),
    (50, 1, 32, 64),
    (100, 8, 128, 128),
    (100, 64, 256, 512),
    (1, 1, 64, 256),
]
QUICK = [(10, 4, 16, 32), (1, 1, 16, 32)]
SLOW = anygate.CellType(
    "LSTM with a slow memory",
    products=("z_i", "z_f", "z_g", "z_o"),
    states=("h", "c", "s"),
    slots={"gate": "sigmoid", "forget": "sigmoid", "candidate": "tanh", "output": "sigmoid"},
    gates=("gate", "forget", "output"),
    lines="""c = forget(z_f)*c_before + gate(z_i)*candidate(z_g)
             s = 0.95*s_before + 0.05*c
             h = output(z_o)*tanh(c + s)""",
)
FAMILIES: dict[str, Any] = {
    "LSTM": (anygate.LSTM, nn.LSTM),
    "GRU": (anygate.GRU, nn.GRU),
    "RNN": (anygate.RNN, nn.RNN),
    "slow memory / nn.LSTM": (lambda i, h: anygate.Recurrent(SLOW, i, h), nn.LSTM),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row")
    parser.add_argument(
        "--quick", action="store_true", help="two small shapes, to see that it runs"
    )
    parser.add_argument("--out", type=Path, help="write all rows as JSON")
    options = parser.parse_args()
    shapes, seconds = (QUICK, 0.01) if options.quick else (SHAPES, options.seconds)
    rows = []
    for name, (ours, theirs) in FAMILIES.items():
        for mode, make in (("inference", inference), ("training", training)):
            for shape in shapes:
                steps, batch, inputs, hidden = shape
                torch.manual_seed(0)
                x = torch.randn(steps, batch, inputs)
                runs = {
                    "ours": make(ours(inputs, hidden), x),
                    "torch": make(theirs(inputs, hidden), x),
                }
                times = medians(runs, seconds)
                ratio = round(times["ours"] / times["torch"], 3)
                rows.append(
                    {"cell": name, "mode": mode, "shape": shape, "ratio": ratio, "ms": times}
                )
                print(f"{name:22} {mode:10} {shape!s:20} {ratio:.2f}", flush=True)
    means = {
        f"{name}, {mode}": round(
            statistics.geometric_mean(
                r["ratio"] for r in rows if (r["cell"], r["mode"]) == (name, mode)
            ),
            3,
        )
        for name in FAMILIES
        for mode in ("inference", "training")
    }
    print(json.dumps(means, indent=2))
    if options.out:
        machine = {
            "cpu": platform.processor() or platform.machine(),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "flags": _vectors(),
        }
        found = {
            "command": "python benchmarks/families.py",
            "machine": machine,
            "geometric means": means,
            "rows": rows,
        }
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _vectors() -> list[str]:
    """The widest vector instructions that the processor has."""
    path = Path("/proc/cpuinfo")
    words = set(path.read_text(encoding="utf-8").split()) if path.exists() else set()
    return [name for name in ("avx2", "avx512f", "amx_bf16") if name in words]


if __name__ == "__main__":
    main()
