"""The time that property sheets take, of kinked functions nested at random.

    python benchmarks/sheets.py --count 300 --seed 0

Prints the slowest, in seconds of processor time. Exit code 1 if one took more than --limit.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def main() -> int:
    parser = argparse.ArgumentParser(description="How long property sheets take.")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=5.0)
    chosen = parser.parse_args()
    from drawn_formulas import nested_kinks

    from anygate import FormulaError, sheet

    sheet("tanh")
    times: list[tuple[float, str]] = []
    refused = 0
    for seed in range(chosen.seed, chosen.seed + chosen.count):
        text = nested_kinks(random.Random(seed))
        begun = time.process_time()
        try:
            sheet(text)
        except FormulaError:  # too long, or without any value
            refused += 1
        times.append((time.process_time() - begun, text))
    times.sort(reverse=True)
    median = times[len(times) // 2][0]
    print(f"{len(times)} formulas, {refused} refused; median {median:.2f} s; the slowest:")
    for seconds, text in times[:8]:
        print(f"{seconds:6.2f} s  {text}")
    return 1 if times[0][0] > chosen.limit else 0


if __name__ == "__main__":
    sys.exit(main())
