"""Uses of torch.nn.LSTM besides whole batches: packs, streams, projections, tiny modules.

    python benchmarks/dropin.py --out FILE.json

Alternated runs in one process, medians, anygate's time over torch.nn.LSTM's.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from cpu import machine, medians
from peers import Run
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import anygate


def step(module: nn.Module, x: Tensor | PackedSequence) -> Run:
    """Forward and backward."""

    def run() -> None:
        module.zero_grad()
        output = module(x)[0]
        (output.data if isinstance(output, PackedSequence) else output).sum().backward()

    return run


def packed() -> dict[str, Run]:
    """Lengths drawn from 10 to 200, B=64, I=H=128; beside it nn.LSTM on the padded batch."""
    torch.manual_seed(0)
    lengths = torch.randint(10, 201, (64,))
    x = torch.randn(int(lengths.max()), 64, 128)
    pack = pack_padded_sequence(x, lengths, enforce_sorted=False)
    return {
        "anygate": step(anygate.LSTM(128, 128), pack),
        "anygate, relu": step(anygate.LSTM(128, 128, activation="relu"), pack),
        "nn.LSTM": step(nn.LSTM(128, 128), pack),
        "nn.LSTM, padded": step(nn.LSTM(128, 128), x),
    }


def stream(module: nn.Module, size: int) -> Run:
    """One step at a time, B=1, the state carried."""
    x, state = torch.randn(1, 1, size), [None]

    def run() -> None:
        with torch.inference_mode():
            _, state[0] = module(x, state[0])

    return run


def streaming(size: int) -> dict[str, Run]:
    """T=1 a call."""
    return {
        "anygate": stream(anygate.LSTM(size, size), size),
        "nn.LSTM": stream(nn.LSTM(size, size), size),
    }


def projected() -> dict[str, Run]:
    """Training at T=100, B=32, I=128, H=256, proj_size=64."""
    x = torch.randn(100, 32, 128)
    return {
        "anygate": step(anygate.LSTM(128, 256, proj_size=64), x),
        "nn.LSTM": step(nn.LSTM(128, 256, proj_size=64), x),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each comparison")
    parser.add_argument("--out", type=Path, help="file for the results")
    options = parser.parse_args()
    report: dict[str, Any] = {"command": " ".join(sys.argv), "machine": machine()}
    for name, runs in {
        "packed, training": packed(),
        "streaming, H=64": streaming(64),
        "streaming, H=256": streaming(256),
        "one call at 1 1 8 8": streaming(8),
        "projected, training": projected(),
    }.items():
        times = medians(runs, options.seconds)
        ratio = {k: round(times["anygate"] / t, 3) for k, t in times.items() if k != "anygate"}
        report[name] = {"ms": {k: round(t, 4) for k, t in times.items()}, "ratio": ratio}
        print(name, ratio, file=sys.stderr, flush=True)
    text = json.dumps(report, indent=1)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
