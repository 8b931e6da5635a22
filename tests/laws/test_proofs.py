"""Every "proved" holds: intervals contain every value, proved bounds every point."""

from __future__ import annotations

import contextlib
import itertools
import math
import random
from collections.abc import Iterator

import pytest
from drawn_formulas import formula
from mpmath import mp

from anygate.formulas import ACTIVATIONS, Activation, FormulaError, evaluate, resolve, sheet
from anygate.formulas.intervals import enclose
from anygate.formulas.precise import CONTEXT, OPS, working

SLACK = 1e-3
"""The distance from the stated value at which a proof may end (survey.py)."""


def drawn(seed: int, count: int, size: int = 9) -> Iterator[Activation]:
    draw = random.Random(seed)
    while count:
        text = formula(draw, draw.randint(2, size), harsh=False).replace("k", "-0.6")
        try:
            activation = resolve(text)
        except FormulaError:
            continue
        count -= 1
        yield activation


def boxes(draw: random.Random) -> Iterator[tuple[float, float]]:
    """Intervals of all sizes, with 0 and without."""
    for _ in range(6):
        middle, half = draw.gauss(0, 3), 10 ** draw.uniform(-6, 2)
        yield middle - half, middle + half
    yield from ((0.0, draw.uniform(0, 3)), (-draw.uniform(0, 3), 0.0), (-1e300, 1e300), (5.0, 5.0))


@pytest.mark.parametrize("seed", range(6))
def test_intervals_contain_every_value(seed: int) -> None:
    draw = random.Random(seed)
    for activation in drawn(seed, 50):
        programs = [activation.value_program]
        with contextlib.suppress(FormulaError):
            programs.append(activation.derivative().value_program)
        for program in programs:
            for low, high in boxes(draw):
                with working(25):
                    ends = enclose(program, (CONTEXT.mpf(low), CONTEXT.mpf(high)), {})
                    for k in range(8):
                        x = low + (high - low) * (k / 7 if k < 2 else draw.random())
                        value = evaluate(program, OPS, {"x": CONTEXT.mpf(x)})
                        (number,) = value.values()
                        inside = ends[0] <= number <= ends[1]
                        assert inside or CONTEXT.isnan(number), (activation.formula, x, low, high)


KNOWN = (
    "(log(x) - 1)*log(x + 2)",
    "sin(x)/x*cos(x)/x",
    "(1/x)*(x/(x - 3))*gaussian(x)",
    "where(x > 0, 1/x, 3)*where(x > 0, x - 1, 1/x)*gaussian(x)",
    "x*sigmoid(x)*(x - 1)*gaussian(x)",
    "tanh(x)*sin(x)",
)


def dense(draw: random.Random) -> list[float]:
    near = [draw.uniform(-9, 9) for _ in range(500)]
    return near + [draw.choice((-1, 1)) * 10 ** draw.uniform(-7, 7) for _ in range(120)]


@pytest.mark.parametrize(
    "activation",
    [*map(resolve, KNOWN), *ACTIVATIONS.values(), *drawn(77, 40, 6)],
    ids=lambda a: a.name[:40],
)
def test_proved_bounds_hold(activation: Activation) -> None:
    said, slope = sheet(activation), activation.derivative()
    points = sorted(dense(random.Random(activation.name)))
    with mp.workdps(25):
        values = [activation.precise(x) for x in points]
        slopes = [slope.precise(x) for x in points]
    finite = [v for v in values if mp.isfinite(v)]
    if said.low.how == "proved":
        assert min(finite) >= said.low.value - SLACK * max(1, abs(said.low.value))
    if said.high.how == "proved":
        assert max(finite) <= said.high.value + SLACK * max(1, abs(said.high.value))
    if said.bounded.how == "proved":
        assert all(math.isfinite(p.value) for p in (said.low, said.high)) == said.bounded.value
    if said.largest_slope.how == "proved":
        largest = max(abs(s) for s in slopes if mp.isfinite(s))
        assert largest <= said.largest_slope.value * (1 + SLACK) + SLACK
    if said.monotone.how == "proved" and said.monotone.value in ("increasing", "decreasing"):
        sign = 1 if said.monotone.value == "increasing" else -1
        steps = [sign * (b - a) for a, b in itertools.pairwise(finite)]
        assert min(steps) >= 0
    if said.odd.how == "proved" and said.odd.value:
        with mp.workdps(25):
            for x, value in zip(points, values, strict=True):
                mirrored = activation.precise(-x)
                assert mp.isnan(value) or abs(mirrored + value) <= abs(value) * 1e-15
    for low, high in said.dead_region.value:
        for x, s in zip(points, slopes, strict=True):
            assert not low < x < high or s == 0 or abs(s) < 1e-300, x
