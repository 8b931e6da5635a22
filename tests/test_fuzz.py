"""A small fuzz with a clock; `benchmarks/fuzz_formulas.py` runs a large one."""

from __future__ import annotations

import random

import pytest
from fuzzing import attempt, text

SECONDS = 2.0


@pytest.mark.parametrize("seed", range(6))
def test_any_text(seed: int) -> None:
    draw = random.Random(seed)
    accepted = values = 0
    for k in range(50):
        whole = text(draw)
        outcome = attempt(whole, k % 2 == 0, k % 10 == 0)
        assert outcome.seconds < SECONDS, (outcome.seconds, whole)
        accepted += outcome.accepted
        values += outcome.values
    assert accepted > 15
    assert values > 500


NAMED = (
    "gelu_jax(gelu_jax(gelu_jax(gelu_jax(1))))",
    "cloglog(cloglog(cloglog(cloglog(cloglog(cloglog(cloglog(cloglog(1))))))))",
    "(x + log1p(x)) * (6.5383e-08*gaussian(-3.56))",
    " + ".join(f"1e-{k}*x" for k in range(1, 150)),
    "(pi + e)**32*(pi - 1/3)**-32*x",
    "where(exp(exp(3)) < exp(20.0855), x, 0)",
    "isru(x)*sign(x)",
    "hypot(x, sqrt(-x))",
    "clip(x, -1e300, 1e300)",
)


@pytest.mark.parametrize("whole", NAMED, ids=lambda t: t[:30])
def test_texts_that_were_found(whole: str) -> None:
    assert attempt(whole).seconds < SECONDS
