"""anygate's engine cuda beside torch's modules on cuDNN: whole calls, in one process.

    python benchmarks/gpu.py --quick                  two minutes: correctness, table, worst row
    python benchmarks/gpu.py --out benchmarks/results/gpu_engine.json      the whole grid
    python benchmarks/gpu.py --plans                  each way of the engine, to fit its cost model

Microseconds a time step, medians of alternating calls, inference and training (forward, backward,
all gradients; autograd and Python included). float32 twice: both sides with TF32 and both without.
First tests/test_cuda.py runs; a table of wrong numbers is worth nothing (--untested leaves it out).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import anygate
from anygate.engines import load

ROOT = Path(__file__).parents[1]
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
ENGINE = "cuda"
"""What ours runs on."""


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


def grid(quick: bool) -> list[Row]:
    """The shapes, dtypes and cells that are measured."""
    sizes = (64, 256, 1024) if quick else (32, 64, 128, 256, 512, 768, 1024, 1536)
    batches = (1, 32, 128) if quick else (1, 8, 32, 64, 128, 256)
    rows = [Row("LSTM", h, b) for h in sizes for b in batches]
    rows += [Row("LSTM", h, 32, 50) for h in ((256,) if quick else (64, 256))]
    for activation in ("relu", "swish"):
        rows += [Row("LSTM", h, 32, own=(("activation", activation),)) for h in sizes[:: 1 + quick]]
    rows += [
        Row("LSTM", 128, 64, 200, pack=True),
        Row("LSTM", 256, 32, 128, options=(("num_layers", 2), ("bidirectional", True))),
        Row("LSTM", 512, 32, 128, 256, options=(("proj_size", 128),)),
        Row("LSTM", 256, 32, 1),
    ]
    others = ((256, 32),) if quick else tuple((h, b) for h in sizes for b in (1, 32, 128))
    rows += [Row(family, h, b, 256) for family in ("GRU", "RNN") for h, b in others]
    return rows


def timed(runs: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Median microseconds of each, one after the other in turn."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(REPEATS + 2):
        for name, run in runs.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            run()
            end.record()
            end.synchronize()
            if turn > 1:
                found[name].append(start.elapsed_time(end) * 1e3)
    return {name: statistics.median(times) for name, times in found.items()}


def calls(module: nn.Module, x: Any) -> dict[str, Callable[[], None]]:
    """Inference and a training step."""

    def infer() -> None:
        with torch.no_grad():
            module(x)

    def train() -> None:
        module.zero_grad(set_to_none=True)
        output = module(x)[0]
        data = output.data if isinstance(output, PackedSequence) else output
        data.sum().backward()

    return {"inference": infer, "training": train}


def data(row: Row, dtype: torch.dtype) -> Any:
    """The input, which wants its gradient where it is not packed."""
    torch.manual_seed(0)
    shape = (row.steps, row.batch, row.inputs or row.hidden)
    x = torch.randn(shape, device="cuda", dtype=dtype)
    if not row.pack:
        return x.requires_grad_()
    lengths = torch.randint(10, row.steps + 1, (row.batch,)).sort(descending=True).values
    lengths[0] = row.steps
    return pack_padded_sequence(x, lengths)


def allow_tf32(allowed: bool) -> None:
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def compare(row: Row, kind: str) -> dict[str, Any]:
    """Microseconds a step of both, their ratio, and anygate's error and cuDNN's against float64."""
    dtype, tf32 = KINDS[kind]
    allow_tf32(tf32)
    theirs, ours = FAMILIES[row.family]
    sizes = (row.inputs or row.hidden, row.hidden)
    place: dict[str, Any] = {"device": "cuda", "dtype": dtype}
    peer = theirs(*sizes, **dict(row.options), **place)
    own = ours(*sizes, **dict(row.options), **dict(row.own), engine=ENGINE, **place)
    own.load_state_dict(peer.state_dict())
    x = data(row, dtype)
    sides = {"cuDNN": calls(peer, x), "ours": calls(own, x)}
    found: dict[str, Any] = {"row": row.title, "type": kind}
    if not row.own:
        found["error"] = errors(peer, own, x)
    for what in ("inference", "training"):
        times = timed({name: side[what] for name, side in sides.items()})
        found[what] = {name: round(t / row.steps, 3) for name, t in times.items()}
        found[what]["ratio"] = round(times["ours"] / times["cuDNN"], 3)
    if ENGINE == "cuda":
        directions = 2 if dict(row.options).get("bidirectional") else 1
        engine: Any = load("cuda")
        where = (dtype, torch.device("cuda"))
        found["plan"] = str(engine.plan(own.cell, row.hidden, row.batch, directions, *where))
    return found


def errors(peer: nn.Module, own: nn.Module, x: Any) -> dict[str, float]:
    """Of outputs, relative to float64."""
    wide = type(peer)(**_arguments(peer)).cuda().double()
    wide.load_state_dict({k: v.double() for k, v in peer.state_dict().items()})
    with torch.no_grad():
        true = _data(wide(x.to(torch.float64) if isinstance(x, PackedSequence) else x.double())[0])
        size = true.norm()
        return {
            name: float((_data(module(x)[0]).double() - true).norm() / size)
            for name, module in (("cuDNN", peer), ("ours", own))
        }


def _arguments(module: Any) -> dict[str, Any]:
    names = ("input_size", "hidden_size", "num_layers", "bidirectional", "proj_size")
    found = {name: getattr(module, name) for name in names}
    if not isinstance(module, nn.LSTM):
        del found["proj_size"]
    return found


def _data(output: Any) -> torch.Tensor:
    return output.data if isinstance(output, PackedSequence) else output


class Model(nn.Module):
    """Embedding, recurrent layer, linear."""

    def __init__(self, lstm: nn.Module) -> None:
        super().__init__()
        self.embedding, self.lstm, self.out = nn.Embedding(256, 128), lstm, nn.Linear(256, 256)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.out(self.lstm(self.embedding(ids))[0])


def small_model(kind: str) -> dict[str, Any]:
    """A training step with Adam, T = 128, B = 32."""
    dtype, tf32 = KINDS[kind]
    allow_tf32(tf32)
    ids = torch.randint(256, (129, 32), device="cuda")
    runs = {}
    for name, lstm in (("cuDNN", nn.LSTM), ("ours", anygate.LSTM)):
        own: dict[str, Any] = {"engine": ENGINE} if name == "ours" else {}
        model = Model(lstm(128, 256, **own)).cuda().to(dtype)
        adam = torch.optim.Adam(model.parameters(), fused=True)

        def step(model: Model = model, adam: Any = adam) -> None:
            adam.zero_grad()
            logits = model(ids[:-1]).float().flatten(0, 1)
            nn.functional.cross_entropy(logits, ids[1:].flatten()).backward()
            adam.step()

        runs[name] = step
    times = timed(runs)
    ratio = round(times["ours"] / times["cuDNN"], 3)
    return {"row": "small model with Adam", "type": kind, "training": {**times, "ratio": ratio}}


def plans_of(row: Row, kind: str) -> list[dict[str, Any]]:
    """The best two plans of each exchange by the cost model, and what they take."""
    sys.path.insert(0, str(ROOT / "tests" / "cuda"))
    from forced import Forced

    from anygate.cells import LSTM, cell_key, make
    from anygate.engines.cuda.cost import microseconds
    from anygate.engines.cuda.plan import plans
    from anygate.engines.layout import layout_of
    from anygate.engines.protocol import Layer

    dtype, tf32 = KINDS[kind]
    allow_tf32(tf32)
    cell = make(LSTM)
    layout, parts = layout_of(cell), {"half": 1, "bf16": 1, "TF32": 2, "float32": 3}[kind]
    engine = Forced(None, parts)
    card = engine.driver.card(torch.device("cuda"))
    h, b, t = row.hidden, row.batch, row.steps
    like: dict[str, Any] = {"device": "cuda", "dtype": dtype}
    layer = Layer(
        torch.randn(t, b, h, **like),
        tuple(torch.zeros(b, h, **like) for _ in range(2)),
        torch.randn(4 * h, h, **like) / h**0.5,
        torch.randn(4 * h, h, **like) / h**0.5,
    )
    found = []
    every = plans(layout, h, parts, dtype == torch.float16, card)
    every.sort(key=lambda p: microseconds(p, b, 1, card))
    for exchange in ("one block", "cluster", "cache"):
        for plan in [p for p in every if p.exchange == exchange][:2]:
            names = ("exchange", "units", "splits", "tiles")
            engine.force = {name: getattr(plan, name) for name in names}
            with torch.no_grad():
                times = timed({"": lambda: engine.run(cell_key(cell), layer)})[""] / t
            said = microseconds(plan, b, 1, card)
            found.append({**engine.force, "us": round(times, 3), "model": round(said, 3)})
            print(row.title, kind, found[-1], flush=True)
    return found


def profile(row: Row, kind: str) -> str:
    """The kernels of a training step."""
    dtype, tf32 = KINDS[kind]
    allow_tf32(tf32)
    sizes = (row.inputs or row.hidden, row.hidden)
    ours = FAMILIES[row.family][1]
    own = ours(*sizes, **dict(row.options), **dict(row.own), engine=ENGINE, dtype=dtype).cuda()
    run = calls(own, data(row, dtype))["training"]
    run()
    with torch.profiler.profile() as found:
        run()
        torch.cuda.synchronize()
    return str(found.key_averages().table(sort_by="cuda_time_total", row_limit=14))


def bars(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Geometric means of the ratios by family and type, and the worst."""
    found: dict[str, Any] = {}
    for what in ("inference", "training"):
        for family in FAMILIES:
            for kind in KINDS:
                ratios = [
                    r[what]["ratio"]
                    for r in rows
                    if r["type"] == kind and r["row"].startswith(f"{family} ") and what in r
                ]
                if ratios:
                    mean = math.exp(statistics.fmean(map(math.log, ratios)))
                    found[f"{family} {kind} {what}"] = {
                        "mean": round(mean, 3),
                        "worst": max(ratios),
                        "rows": len(ratios),
                    }
    return found


def main() -> None:
    """Tests, the grid, the worst row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small grid, within two minutes")
    parser.add_argument("--untested", action="store_true", help="leave the tests out")
    parser.add_argument(
        "--engine", default="cuda", help="eager: what the engine cuda refuses costs"
    )
    parser.add_argument("--plans", action="store_true", help="times of each way of the engine")
    parser.add_argument("--out", help="a JSON file")
    options = parser.parse_args()
    global ENGINE
    ENGINE = options.engine
    if not options.untested:
        chosen = ["-k", "kernels or functions or bits"] if options.quick else []
        call = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *chosen]
        code = subprocess.run([*call, str(ROOT / "tests" / "test_cuda.py")]).returncode
        if code:
            raise SystemExit(f"tests/test_cuda.py failed with {code}: no times are taken")
    rows: list[dict[str, Any]] = []
    titles = {}
    for row in grid(options.quick):
        for kind in KINDS:
            try:
                found = plans_of(row, kind) if options.plans else [compare(row, kind)]
            except (RuntimeError, NotImplementedError) as error:
                found = [{"row": row.title, "type": kind, "failed": str(error)[:300]}]
            titles[row.title] = row
            rows += found
            if not options.plans:
                print(json.dumps(found[0]), flush=True)
    if not options.plans:
        rows += [small_model(kind) for kind in ("TF32", "bf16")]
    found_bars = {} if options.plans else bars(rows)
    print(json.dumps(found_bars, indent=1))
    measured = [r for r in rows if "training" in r and r["row"] in titles]
    if measured:
        worst = max(measured, key=lambda r: r["training"]["ratio"])
        print("worst:", worst)
        print(profile(titles[worst["row"]], worst["type"]))
    if options.out:
        machine = {
            "gpu": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuDNN": torch.backends.cudnn.version(),
        }
        command = " ".join(["benchmarks/gpu.py", *sys.argv[1:]])
        result = {"command": command, "machine": machine, "bars": found_bars, "rows": rows}
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
