"""The kernels that the cost model chooses for real sizes, emulated: minutes, so no test.

python tests/cuda/hot_emulated.py
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ["ANYGATE_CACHE"] = ""

import torch
from drawn_layers import check, draw
from emulated import Emulated, EmulatedDriver
from test_compile import CARDS, HOT, Plan

NAMES = {"LSTM": "lstm", "GRU": "gru"}

if __name__ == "__main__":
    torch.set_num_threads(1)
    for kind, hidden, batch, parts, half, card in HOT:
        begun = time.perf_counter()
        dtype = torch.float32 if parts > 1 else torch.float16 if half else torch.bfloat16
        driver = EmulatedDriver(CARDS[card])
        chosen = Emulated(driver, parts)
        case = draw(NAMES[kind.name], 3, 9, 4, hidden, packed=True, dtype=dtype)
        cell = case.known.cell
        plan = chosen.plan(cell, hidden, batch, 1, dtype, torch.device("cpu"))
        assert isinstance(plan, Plan)
        engine = Emulated(
            driver,
            parts,
            plan.held,
            **{name: getattr(plan, name) for name in ("exchange", "units", "splits", "tiles")},
        )
        check(case, False, engine, 2.0**-16 if parts == 2 else None)
        took = time.perf_counter() - begun
        print(
            kind.name,
            hidden,
            parts,
            card,
            plan,
            plan.units,
            plan.splits,
            f"{took:.0f} s: right",
            flush=True,
        )
