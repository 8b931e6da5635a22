"""anygate's engine cuda beside torch's modules on cuDNN: whole calls, in one process.

    python benchmarks/gpu.py --seconds 540 --out benchmarks/results/gpu.json
        all in one run of a borrowed card: kernels compiled on all cores, the tests, the table (the
        quick rows first, as many more as there is time for), a profile of the worst row, the ways
        of the engine beside its cost model, and what to write into VERIFIED
    python benchmarks/gpu.py --quick                  two minutes
    ANYGATE_EMULATED=1 python benchmarks/gpu.py       no card: to see that it runs

Microseconds a time step, medians of alternating calls, inference and training (forward, backward,
all gradients; autograd and Python included). float32 twice: both sides with TF32 and both without.
After a failed test times are taken all the same, since a card is lent for minutes, but the results
say so, and nothing is to be verified (--untested leaves the tests out). Results are written as they
come.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from gpu_rows import (
    EMULATED,
    FAMILIES,
    KINDS,
    ROOT,
    Row,
    allow_tf32,
    carried,
    compare,
    grid,
    own_module,
    recorded,
    small_model,
    timed,
    training,
)

import anygate
from anygate.cells import LSTM, cell_key, make
from anygate.engines import load
from anygate.engines.cuda.compiler import machine_code
from anygate.engines.cuda.cost import microseconds, step_microseconds
from anygate.engines.cuda.driver import Nvidia
from anygate.engines.cuda.plan import Card, plans
from anygate.engines.cuda.source import measure_source, source
from anygate.engines.cuda.stepwise import Steps
from anygate.engines.layout import layout_of
from anygate.engines.protocol import Layer
from anygate.formulas import ACTIVATIONS

PLAN_ROWS = [Row("LSTM", h, b) for h in (64, 256, 512, 1024) for b in (1, 32, 256)]
"""The shapes for which each way of the engine is timed."""


class Clock:
    """The time that is left."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds

    def left(self) -> float:
        return self.end - time.monotonic()

    def say(self, text: str) -> None:
        print(f"[{self.left():.0f} s left] {text}", flush=True)


# ---- kernels, compiled on all cores ------------------------------------------------------------


def _compile(job: tuple[Card, str]) -> str:
    try:
        machine_code(Nvidia(), *job)
    except RuntimeError as error:
        return str(error)[:500]
    return ""


def sources(rows: list[Row], with_tests: bool, with_plans: bool) -> tuple[Card, list[str]]:
    """The card and the texts of all kernels that will be needed."""
    engine: Any = load("cuda")
    device = torch.device("cuda")
    card = engine.driver.card(device)
    found: dict[str, None] = {}

    def add(cell: Any, plan: Any, *of: tuple[Any, bool, bool]) -> None:
        for way, save, measure in of:
            found[source(cell, plan, way, save, measure)] = None

    train: Any = (("forward", True, False), ("backward", True, False))
    for row in rows:
        for kind, (dtype, tf32) in KINDS.items():
            allow_tf32(tf32)
            width, options = row.inputs or row.hidden, {**dict(row.options), **dict(row.own)}
            cell = FAMILIES[row.family][1](width, row.hidden, **options).cell
            plan = engine.plan(cell, row.hidden, row.batch, row.directions, dtype, device)
            add(cell, plan, ("forward", False, False), *train)
            if row in RECORDED and kind in ("TF32", "bf16"):
                add(cell, plan, ("forward", True, True), ("backward", True, True))
                found[measure_source(cell, plan)] = None
    if with_tests:
        sys.path.insert(0, str(ROOT / "tests"))
        from plain_cells import CELLS
        from test_cuda import INPUTS, B, H
        from test_cuda_engine import KERNELS, forced

        allow_tf32(False)
        for name in ACTIVATIONS:
            cell = anygate.LSTM(INPUTS, H, candidate=name).cell
            for dtype in (torch.float32, torch.float64):
                add(cell, engine.plan(cell, H, B, 1, dtype, device), *train)
        for name, hidden, force, dtype, parts in KERNELS:
            cell = CELLS[name].cell
            plan = forced(parts, **force).plan(cell, hidden, 1, 1, dtype, device)
            add(cell, plan, *train)
    if with_plans:
        for row in PLAN_ROWS:
            for kind in KINDS:
                for plan in ways(row, kind, card):
                    add(make(LSTM), plan, ("forward", False, False))
    return card, list(found)


def compile_all(card: Card, texts: list[str]) -> list[str]:
    """The failures, in words."""
    workers = max(1, (os.cpu_count() or 1) - 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        failed = list(pool.map(_compile, [(card, text) for text in texts], chunksize=4))
    return [text for text in failed if text]


# ---- the ways of the engine --------------------------------------------------------------------


def ways(row: Row, kind: str, card: Card) -> list[Any]:
    """The best two plans of each exchange by the cost model, and a product a step."""
    layout, parts = layout_of(make(LSTM)), {"half": 1, "bf16": 1, "TF32": 2, "float32": 3}[kind]
    half = kind == "half"
    every = plans(layout, row.hidden, parts, half, card)
    every.sort(key=lambda p: microseconds(p, row.batch, 1, card))
    found: list[Any] = []
    for exchange in ("one block", "cluster", "cache"):
        found += [p for p in every if p.exchange == exchange][:2]
    return [*found, Steps(layout, row.hidden, parts, half, "timed")]


def _by(engine: Any, plan: Any, layer: Layer) -> Callable[[], None]:
    class OneWay(type(engine)):  # type: ignore[misc]
        def plan(self, *arguments: Any) -> Any:
            return plan

    one, key = OneWay(engine.driver), cell_key(make(LSTM))

    def run() -> None:
        one.run(key, layer)

    return run


def time_ways(row: Row, kind: str) -> list[dict[str, Any]]:
    """Microseconds of a time step, forward, of each way, and what the cost model says."""
    engine: Any = load("cuda")
    card = engine.driver.card(torch.device("cuda"))
    dtype, tf32 = KINDS[kind]
    allow_tf32(tf32)
    h, b, t = row.hidden, row.batch, row.steps
    like: dict[str, Any] = {"device": "cuda", "dtype": dtype}
    layer = Layer(
        torch.randn(t, b, h, **like),
        tuple(torch.zeros(b, h, **like) for _ in range(2)),
        torch.randn(4 * h, h, **like) / h**0.5,
        torch.randn(4 * h, h, **like) / h**0.5,
    )
    found = []
    for plan in ways(row, kind, card):
        run = _by(engine, plan, layer)
        with torch.no_grad():
            took = timed({"": run}, 3)[""] / t
        model = step_microseconds if isinstance(plan, Steps) else microseconds
        names = ("exchange", "units", "splits", "blocks", "tiles")
        chosen = {name: getattr(plan, name, None) for name in names}
        said: Any = model(plan, b, 1, card)
        found.append(
            {
                "row": row.title,
                "type": kind,
                **chosen,
                "us": round(took, 3),
                "model": round(said, 3),
            }
        )
    return found


# ---- what is said ------------------------------------------------------------------------------


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


def less_exact(rows: list[dict[str, Any]]) -> list[str]:
    """The rows whose error is more than cuDNN's, where that is not the dtype's rounding."""
    room = {"half": 1e-3, "bf16": 8e-3, "TF32": 1e-3, "float32": 1e-6}
    return [
        f"{r['row']} {r['type']}: {r['error']}"
        for r in rows
        if "error" in r and not r["error"]["ours"] <= max(r["error"]["cuDNN"], room[r["type"]])
    ]


def profile(row: Row, kind: str, engine: str) -> str:
    """The kernels of a training step."""
    run = training(*own_module(row, kind, engine))
    run()
    with torch.profiler.profile() as found:
        run()
        torch.cuda.synchronize()
    by = "cpu_time_total" if EMULATED else "cuda_time_total"
    return str(found.key_averages().table(sort_by=by, row_limit=14))


def laws_hold(seconds: float, quick: bool) -> bool:
    """The tests on this card, with "auto" taking the engine; quick: without each activation's."""
    chosen = ["-k", "not activation and not cudnns"] if quick else []
    files = [str(ROOT / "tests" / name) for name in ("test_cuda_engine.py", "test_cuda.py")]
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest"]
    call += ["-W", "default"]  # another torch has other warnings
    environment = {**os.environ, "ANYGATE_CUDA": "1"}
    call += ["--durations=8", "--maxfail=12", *chosen, *files[: 1 if EMULATED else 2]]
    try:
        done = subprocess.run(call, env=environment, timeout=seconds, cwd=ROOT)
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        print(f"the tests were stopped after {seconds:.0f} s", flush=True)
        return False


RECORDED = [Row("LSTM", 64, 32), Row("LSTM", 256, 32)]
"""Rows whose training step is recorded, too."""


class Table:
    """The rows so far, written to a file as they come."""

    def __init__(self, out: str | None) -> None:
        self.out, self.rows = out, list[dict[str, Any]]()
        self.more: dict[str, Any] = {}

    def add(self, *found: dict[str, Any]) -> None:
        self.rows += found
        for one in found:
            print(json.dumps(one), flush=True)
        self.write()

    def write(self) -> None:
        if not self.out:
            return
        machine = {
            "gpu": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuDNN": torch.backends.cudnn.version(),
        }
        command = " ".join(["benchmarks/gpu.py", *sys.argv[1:]])
        head = {"command": command, "machine": machine, "bars": bars(self.rows), **self.more}
        text = json.dumps({**head, "rows": self.rows}, indent=1)
        Path(self.out).write_text(text + "\n", encoding="utf-8")


def attempt(table: Table, clock: Clock, work: Any, row: Any, kind: str, *rest: Any) -> None:
    """Add what work gives, or why it failed; nothing where the time is up."""
    title = row.title if isinstance(row, Row) else str(row)
    if clock.left() < 0:
        table.more.setdefault("left out", []).append(f"{work.__name__} {title} {kind}")
        return
    try:
        found = work(row, kind, *rest) if isinstance(row, Row) else work(kind, *rest)
    except (RuntimeError, NotImplementedError) as error:
        found = {"row": title, "type": kind, "failed": str(error)[:300]}
    table.add(*(found if isinstance(found, list) else [found]))


def main() -> None:
    """Tests, the grid, the worst row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small grid, within two minutes")
    parser.add_argument("--seconds", type=float, default=math.inf, help="for everything")
    parser.add_argument("--untested", action="store_true", help="leave the tests out")
    parser.add_argument(
        "--engine", default="cuda", help="eager: what the engine cuda refuses costs"
    )
    parser.add_argument("--out", help="a JSON file")
    options = parser.parse_args()
    clock, table, engine = Clock(options.seconds), Table(options.out), options.engine
    everything = not options.quick
    rows = grid(options.quick)
    if EMULATED:
        _stand_in()
    if engine == "cuda":
        card, texts = sources(rows, not options.untested, everything)
        clock.say(f"{card}: {len(texts)} kernels")
        failed = [] if EMULATED else compile_all(card, texts)
        clock.say(f"compiled; failed: {failed or 'none'}")
    if not options.untested:
        passed = laws_hold(min(clock.left() * 0.5, 300), options.quick)
        table.more["tests"] = "passed" if passed else "FAILED"
        clock.say(f"tests: {table.more['tests']}")
    # What comes after the table gets a fifth of the time that is left
    whole, clock.end = clock.end, time.monotonic() + 0.8 * clock.left()
    for row in RECORDED if not EMULATED else rows[:1]:
        for kind in ("TF32", "bf16"):
            attempt(table, clock, recorded, row, kind, engine)
    for kind in ("TF32", "bf16"):
        attempt(table, clock, small_model, "small model", kind, engine)
        attempt(table, clock, carried, Row("LSTM", 256, 1, 1), kind, engine)
    titles = {row.title: row for row in rows}
    for row in rows:
        for kind in KINDS:
            attempt(table, clock, compare, row, kind, engine)
    clock.end = whole
    print(json.dumps(bars(table.rows), indent=1))
    measured = [r for r in table.rows if "training" in r and r["row"] in titles]
    if measured:
        worst = max(measured, key=lambda r: r["training"]["ratio"])
        print("worst:", worst)
        print(profile(titles[worst["row"]], worst["type"], engine))
    if everything and engine == "cuda":
        for row in PLAN_ROWS if not EMULATED else rows[:1]:
            for kind in KINDS:
                attempt(table, clock, time_ways, row, kind)
    _say(table)
    table.write()
    if table.more.get("tests") == "FAILED":
        raise SystemExit("the tests failed")


def _say(table: Table) -> None:
    failed = [r for r in table.rows if "failed" in r]
    inexact = less_exact(table.rows)
    print(f"rows: {len(table.rows)}; failed: {failed or 'none'}")
    print(f"less exact than cuDNN: {inexact or 'none'}")
    print(f"left out for want of time: {len(table.more.get('left out', []))}")
    capability = torch.cuda.get_device_capability()
    if failed or inexact or table.more.get("tests") != "passed":
        print(f"{capability} is not to be put into VERIFIED (engines/cuda/engine.py)")
    else:
        print(f"put into engines/cuda/engine.py: VERIFIED = frozenset({{{capability}}})")


def _stand_in() -> None:
    """An emulated card whose launches do nothing: only that everything runs is to be seen."""
    from emulated import EmulatedDriver
    from stand_in import install

    from anygate.engines.cuda.driver import Function

    class Idle(EmulatedDriver):
        def load(self, code: bytes, name: str, threads: int, shared: int, *rest: Any) -> Function:
            return Function(None, threads, shared)

        def launch(self, *arguments: Any) -> None:
            pass

    install(Idle())


if __name__ == "__main__":
    main()
