"""The multiply-add limit of this machine's vector units: a loop of our own that does nothing else.

    python benchmarks/limit.py

What a product can reach at most. torch.mm is no limit: on Zen 5 it reaches 0.4 of it.
"""

from __future__ import annotations

import ctypes
import threading
import time
from typing import Any

import torch
from llvmlite import ir

from anygate.engines.cpu.compiler import compile_module, link, target_for
from anygate.engines.cpu.emit import I64, Emitter, Target, function

__all__ = ["multiply_add_limit"]

_SUMS = 10
"""Sums that do not wait for each other: units times latency, of which the most is 2 * 4 or 2 * 5;
and as many as fit into 16 registers beside their factors."""
_TURNS = 50_000


def _module(target: Target) -> ir.Module:
    """run(place, turns): `turns` times _SUMS vectors of sums, which are written to place."""
    module = ir.Module("limit")
    run = function(module, "run", 1, 1)
    b = ir.IRBuilder(run.append_basic_block("entry"))
    e = Emitter(b, target)
    place, turns = run.args
    entry, body, end = b.block, b.append_basic_block("body"), b.append_basic_block("end")
    factor, other = e.load(place), e.load(e.at(place, target.lanes))
    b.branch(body)
    b.position_at_end(body)
    k = b.phi(I64)
    k.add_incoming(ir.Constant(I64, 0), entry)
    sums = [b.phi(e.vector) for _ in range(_SUMS)]
    for phi in sums:
        phi.add_incoming(e.splat(0.0), entry)
        phi.add_incoming(e.fma(factor, other, phi), body)
    after = b.add(k, ir.Constant(I64, 1))
    k.add_incoming(after, body)
    b.cbranch(b.icmp_signed("<", after, turns), body, end)
    b.position_at_end(end)
    for n, phi in enumerate(sums):
        e.store(phi, e.at(place, n * target.lanes))
    b.ret_void()
    return module


def multiply_add_limit(threads: int, seconds: float = 0.5) -> float:
    """GFLOP/s of so many threads in float32, which run side by side: the sum of each one's best of
    many runs of less than a millisecond, which nothing interrupts."""
    target = target_for("float32")
    engine = link(compile_module(_module(target)))
    assert engine is not None
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    run: Any = call(engine.get_function_address("run"))
    best = [0.0] * threads

    def work(thread: int) -> None:
        place = torch.full((_SUMS * target.lanes,), 1e-3)
        until = time.perf_counter() + seconds
        while (start := time.perf_counter()) < until:
            run(place.data_ptr(), _TURNS)
            took = time.perf_counter() - start
            best[thread] = max(best[thread], 2 * target.lanes * _SUMS * _TURNS / took / 1e9)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return round(sum(best), 1)


if __name__ == "__main__":
    print(multiply_add_limit(1), multiply_add_limit(torch.get_num_threads()))
