"""Formula texts, valid and not, drawn by the thousand: no exception but FormulaError, none that
takes long, and the same values from every engine.

    python benchmarks/fuzz_formulas.py --count 100000 --seed 0 --jobs 2

Each thousand runs in a process of its own, with an alarm: a text that hangs is named, and of a
thousand whose process dies the seed. Of one text in so many the engines are compared
(--engines-every), of one in so many of those the cpu engine too (--cpu-every), which compiles each.
What is found is printed at once. Exit code 1 if anything was found.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import multiprocessing
import random
import resource
import signal
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
CHUNK = 1_000
LIMIT = 2.0  # seconds of processor time for one text
HANG = 300  # seconds of the clock for one text with all its checks


def run(seed: int, count: int, engines_every: int, cpu_every: int) -> dict[str, Any]:
    """One chunk: counts, the slowest text and everything that was wrong."""
    import torch
    from fuzzing import attempt, text

    def ring(*_: object) -> None:
        raise TimeoutError(f"not done in {HANG} s")

    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, ring)
    draw = random.Random(seed)
    attempt("x*sigmoid(x)")
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counts: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    slowest = (0.0, "")
    for k in range(count):
        whole = text(draw)
        signal.alarm(HANG)
        try:
            outcome = attempt(whole, k % engines_every == 0, k % (engines_every * cpu_every) == 0)
        except Exception as error:  # noqa: BLE001  # any exception at all is what is looked for
            wrong.append(f"{type(error).__name__}: {str(error)[:300]}\n    {whole!r}")
            print(wrong[-1], flush=True)
            continue
        finally:
            signal.alarm(0)
        counts["accepted" if outcome.accepted else "refused"] += 1
        counts["values"] += outcome.values
        slowest = max(slowest, (outcome.seconds, whole))
        if outcome.seconds > LIMIT:
            wrong.append(f"{outcome.seconds:.1f} s\n    {whole!r}")
            print(wrong[-1], flush=True)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun
    return {"counts": counts, "wrong": wrong, "slowest": slowest, "grown": grown / 1024}


def in_a_process(*arguments: int) -> dict[str, Any]:
    """`run` in a process that ends with it, and may die."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        try:
            return pool.submit(run, *arguments).result()
        except BrokenProcessPool:
            died = f"the process of seed {arguments[0]} died"
            print(died, flush=True)
            return {"counts": {}, "wrong": [died], "slowest": (0.0, ""), "grown": 0.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--engines-every", type=int, default=1)
    parser.add_argument("--cpu-every", type=int, default=1)
    options = parser.parse_args()
    begun = time.perf_counter()
    total: collections.Counter[str] = collections.Counter()
    wrong: list[str] = []
    slowest, grown = (0.0, ""), 0.0
    every = options.engines_every, options.cpu_every
    sizes = [min(CHUNK, options.count - k) for k in range(0, options.count, CHUNK)]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        chunks = [
            pool.submit(in_a_process, options.seed + k, size, *every)
            for k, size in enumerate(sizes)
        ]
        for done, chunk in enumerate(concurrent.futures.as_completed(chunks), 1):
            result = chunk.result()
            total += result["counts"]
            slowest = max(slowest, result["slowest"])
            grown = max(grown, result["grown"])
            wrong += result["wrong"]
            print(
                f"{done} of {len(sizes)}: {total['accepted']:,} accepted, {total['refused']:,} "
                f"refused, {total['values']:,} values, {len(wrong)} wrong, slowest "
                f"{slowest[0]:.2f} s, {grown:.0f} MB, {time.perf_counter() - begun:.0f} s",
                flush=True,
            )
    print(f"slowest: {slowest[1]!r}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
