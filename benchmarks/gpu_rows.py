"""The comparisons of benchmarks/gpu.py: rows, modules, data, and how their times are taken."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import anygate

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "cuda"))
from stand_in import EMULATED

ROOT = Path(__file__).parents[1]
__all__ = ["KINDS", "Row", "carried", "compare", "grid", "own_module", "recorded", "small_model",
           "timed", "training"]  # fmt: skip

KINDS = {
    "half": (torch.float16, True),
    "bf16": (torch.bfloat16, True),
    "TF32": (torch.float32, True),
    "float32": (torch.float32, False),
}
"""Name -> dtype, and whether TF32 is allowed."""
FAMILIES: dict[str, tuple[Any, Any]] = {
    "LSTM": (nn.LSTM, anygate.LSTM),
    "GRU": (nn.GRU, anygate.GRU),
    "RNN": (nn.RNN, anygate.RNN),
}
REPEATS = 7


@dataclass(frozen=True)
class Row:
    """One comparison. options: of both modules; own: of anygate's (an activation); pack: lengths
    uniform from 10 to T."""

    family: str
    hidden: int
    batch: int
    steps: int = 512
    inputs: int = 0
    options: tuple[tuple[str, Any], ...] = ()
    own: tuple[tuple[str, Any], ...] = ()
    pack: bool = False

    @property
    def title(self) -> str:
        more = [f"{k}={v}" for k, v in (*self.options, *self.own)] + ["packed"] * self.pack
        return (
            f"{self.family} H={self.hidden} B={self.batch} T={self.steps} {' '.join(more)}".strip()
        )

    @property
    def directions(self) -> int:
        return 2 if dict(self.options).get("bidirectional") else 1


def grid(quick: bool) -> list[Row]:
    """The rows asked for, those of the quick grid first."""
    if EMULATED:
        two: Any = (("num_layers", 2), ("bidirectional", True))
        return [
            Row("LSTM", 8, 2, 3),
            Row("GRU", 8, 2, 14, pack=True),
            Row("RNN", 8, 2, 3, options=two),
        ]
    quick_rows = _grid((64, 256, 1024), (1, 32, 128), True)
    if quick:
        return quick_rows
    rows = _grid((32, 64, 128, 256, 512, 768, 1024, 1536), (1, 8, 32, 64, 128, 256), False)
    return list(dict.fromkeys((*quick_rows, *rows)))


def _grid(sizes: tuple[int, ...], batches: tuple[int, ...], quick: bool) -> list[Row]:
    rows = [
        Row("LSTM", 128, 64, 200, pack=True),
        Row("LSTM", 256, 32, 128, options=(("num_layers", 2), ("bidirectional", True))),
        Row("LSTM", 512, 32, 128, 256, options=(("proj_size", 128),)),
    ]
    rows += [Row("LSTM", h, b) for h in sizes for b in batches]
    rows += [Row("LSTM", h, 32, 50) for h in ((256,) if quick else (64, 256))]
    for activation in ("relu", "swish"):
        rows += [Row("LSTM", h, 32, own=(("activation", activation),)) for h in sizes[:: 1 + quick]]
    others = ((256, 32),) if quick else tuple((h, b) for h in sizes for b in (1, 32, 128))
    rows += [Row(family, h, b, 256) for family in ("GRU", "RNN") for h, b in others]
    return rows


def timed(runs: dict[str, Callable[[], None]], repeats: int = REPEATS) -> dict[str, float]:
    """Median microseconds of each, one after the other in turn."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 3):  # the third call of a size is the first that launches graphs
        for name, run in runs.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            if turn > 2:
                found[name].append(start.elapsed_time(end) * 1e3)
    return {name: statistics.median(times) for name, times in found.items()}


def allow_tf32(allowed: bool) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def _data(row: Row, dtype: torch.dtype) -> Any:
    """The input, which wants its gradient where it is not packed."""
    torch.manual_seed(0)
    shape = (row.steps, row.batch, row.inputs or row.hidden)
    x = torch.randn(shape, device="cuda", dtype=dtype)
    if not row.pack:
        return x.requires_grad_()
    lengths = torch.randint(10, row.steps + 1, (row.batch,)).sort(descending=True).values
    lengths[0] = row.steps
    return pack_padded_sequence(x, lengths)


def training(module: nn.Module, x: Any) -> Callable[[], None]:
    """A training step: forward, backward, all gradients."""

    def train() -> None:
        module.zero_grad(set_to_none=True)
        _values(module(x)[0]).sum().backward()

    return train


def _inference(module: nn.Module, x: Any) -> Callable[[], None]:
    def infer() -> None:
        with torch.no_grad():
            module(x)

    return infer


def _values(output: Any) -> torch.Tensor:
    return output.data if isinstance(output, PackedSequence) else output


def own_module(row: Row, kind: str, engine: str) -> tuple[nn.Module, Any]:
    """anygate's module of a row, and its input."""
    dtype, tf32 = KINDS[kind]
    allow_tf32(tf32)
    options: dict[str, Any] = {**dict(row.options), **dict(row.own)}
    options |= {"device": "cuda", "dtype": dtype, "engine": engine}
    module = FAMILIES[row.family][1](row.inputs or row.hidden, row.hidden, **options)
    return module, _data(row, dtype)


def compare(row: Row, kind: str, engine: str) -> dict[str, Any]:
    """Microseconds a step of both, their ratio, and anygate's error and cuDNN's against float64."""
    own, x = own_module(row, kind, engine)
    sizes, options = (row.inputs or row.hidden, row.hidden), dict(row.options)
    peer = FAMILIES[row.family][0](*sizes, **options, device="cuda", dtype=KINDS[kind][0])
    own.load_state_dict(peer.state_dict())
    found: dict[str, Any] = {"row": row.title, "type": kind}
    if not row.own:
        found["error"] = _errors(row, peer, own, x)
    for what, calls in (("inference", _inference), ("training", training)):
        times = timed({"cuDNN": calls(peer, x), "ours": calls(own, x)})
        found[what] = {name: round(t / row.steps, 3) for name, t in times.items()}
        found[what]["ratio"] = round(times["ours"] / times["cuDNN"], 3)
    return found


def _errors(row: Row, peer: nn.Module, own: nn.Module, x: Any) -> dict[str, float]:
    """Of outputs, relative to float64."""
    sizes = (row.inputs or row.hidden, row.hidden)
    wide = FAMILIES[row.family][0](*sizes, **dict(row.options)).cuda().double()
    wide.load_state_dict({k: v.double() for k, v in peer.state_dict().items()})
    with torch.no_grad():
        true = _values(
            wide(x.to(torch.float64) if isinstance(x, PackedSequence) else x.double())[0]
        )
        size = true.norm()
        return {
            name: float((_values(module(x)[0]).double() - true).norm() / size)
            for name, module in (("cuDNN", peer), ("ours", own))
        }


def recorded(row: Row, kind: str, engine: str) -> dict[str, Any]:
    """A training step inside anygate.record beside one outside of it."""
    own, x = own_module(row, kind, engine)
    step = training(own, x)

    def within() -> None:
        with anygate.record(own):
            step()

    times = timed({"plain": step, "recorded": within})
    ratio = round(times["recorded"] / times["plain"], 3)
    return {"row": f"{row.title} recorded", "type": kind, "recorded": {**times, "ratio": ratio}}


def carried(row: Row, kind: str, engine: str) -> dict[str, Any]:
    """One time step a call, 32 calls, the state carried on: microseconds a call."""
    dtype = KINDS[kind][0]
    own, x = own_module(row, kind, engine)
    peer = FAMILIES[row.family][0](row.hidden, row.hidden, device="cuda", dtype=dtype)

    def calls(module: nn.Module) -> Callable[[], None]:
        def run() -> None:
            state = None
            with torch.no_grad():
                for _ in range(32):
                    _, state = module(x[:1], state)

        return run

    times = timed({"cuDNN": calls(peer), "ours": calls(own)})
    found = {name: round(t / 32, 2) for name, t in times.items()}
    ratio = round(times["ours"] / times["cuDNN"], 3)
    return {"row": f"{row.title} one step a call", "type": kind, "calls": {**found, "ratio": ratio}}


class Model(nn.Module):
    """Embedding, recurrent layer, linear."""

    def __init__(self, lstm: nn.Module) -> None:
        super().__init__()
        self.embedding, self.lstm, self.out = nn.Embedding(256, 128), lstm, nn.Linear(256, 256)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.lstm(self.embedding(ids))[0])


def small_model(kind: str, engine: str) -> dict[str, Any]:
    """A training step with Adam, T = 128, B = 32."""
    dtype, tf32 = KINDS[kind]
    allow_tf32(tf32)
    ids = torch.randint(256, ((4 if EMULATED else 128) + 1, 32), device="cuda")
    runs = {}
    for name, make in (("cuDNN", nn.LSTM), ("ours", anygate.LSTM)):
        own: dict[str, Any] = {"engine": engine} if name == "ours" else {}
        model = Model(make(128, 256, **own)).cuda().to(dtype)
        adam = torch.optim.Adam(model.parameters(), fused=not EMULATED)

        def step(model: Model = model, adam: Any = adam) -> None:
            adam.zero_grad()
            logits = model(ids[:-1]).float().flatten(0, 1)
            nn.functional.cross_entropy(logits, ids[1:].flatten()).backward()
            adam.step()

        runs[name] = step
    times = timed(runs)
    ratio = round(times["ours"] / times["cuDNN"], 3)
    return {"row": "small model with Adam", "type": kind, "training": {**times, "ratio": ratio}}
