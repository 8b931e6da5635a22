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


def nested(name: str, times: int, inner: str) -> str:
    return f"{name}(" * times + inner + ")" * times


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
    # SymPy evaluated both sides of each comparison, as a tree: such texts took 2.4 to 4.5 s
    nested("hard_swish", 10, f"({nested('hard_swish', 5, '1/3')})**0.5"),
    "where(" + nested("hard_swish", 7, nested("hard_swish", 6, "1/3") + "**0.5") + " < x, x, 2)",
    # and factored what came under the roots: 2.3 s for the first
    "sqrt(0.123456789123*" * 25 + "x" + ")" * 25,
    "squareplus(" * 6 + "1.7e-120*x" + ")" * 6,
    " + ".join(f"sqrt(1.{k}e-299*x)" for k in range(100, 160)),
)


@pytest.mark.parametrize("whole", NAMED, ids=lambda t: t[:30])
def test_texts_that_were_found(whole: str) -> None:
    assert attempt(whole).seconds < SECONDS
