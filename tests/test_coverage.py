"""The simulated coverage that the module text quotes, its committed results and their script."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from anygate.lab import statistics

ROOT = Path(__file__).parent.parent
RESULT: dict[str, Any] = json.loads((ROOT / "benchmarks/results/coverage.json").read_text())
SEEDS = (6, 10, 20)


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    """benchmarks/coverage.py as a module."""
    spec = importlib.util.spec_from_file_location(
        "coverage_script", ROOT / "benchmarks/coverage.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def quoted(part: str, value: str, method: str, quantity: str, data: str) -> str:
    """``.97 .95 .94``: the shares for 6, 10 and 20 seeds as the text has them."""
    found = {
        row["seeds"]: row[value]
        for row in RESULT[part]
        if (row["method"], row["quantity"], row["data"]) == (method, quantity, data)
    }
    return " ".join(f"{found[n]:.2f}".replace("0.", ".") for n in SEEDS)


TIMES = ("exponential", "log-normal")
PAIRED_IQM = "paired difference of IQM"
COVERAGE = {
    "mean: sign flips": ("sign-flip", "mean", ("normal", "skewed")),
    "mean: percentile bootstrap": ("percentile", "mean", ("normal", "skewed")),
    "mean: BCa bootstrap": ("BCa", "mean", ("normal", "skewed")),
    "mean: Student t, for comparison": ("Student t", "mean", ("normal", "skewed")),
    "IQM, one task": ("stratified percentile", "IQM, one task", ("normal", "skewed")),
    "IQM, four tasks": ("stratified percentile", "IQM, four tasks", ("normal", "skewed")),
    "difference of IQM, one task": (
        "stratified percentile",
        f"{PAIRED_IQM}, one task",
        ("normal", "skewed"),
    ),
    "difference of IQM, four tasks": (
        "stratified percentile",
        f"{PAIRED_IQM}, four tasks",
        ("normal", "skewed"),
    ),
    "rate: Wilson, p = .5 | .95": ("Wilson", "rate", ("p = 0.5", "p = 0.95")),
    "improvement, not paired: Wilson": (
        "Wilson",
        "probability of improvement, not paired",
        ("normal, p = 0.8", "skewed, p = 0.8"),
    ),
    "the same: bootstrap": (
        "stratified percentile",
        "probability of improvement, not paired",
        ("normal, p = 0.8", "skewed, p = 0.8"),
    ),
    "median time": ("order statistics", "median time, 30% censored", TIMES),
    "restricted mean time": ("sign-flip", "restricted mean time, 30% censored", TIMES),
    "its paired difference": ("sign-flip", "paired difference of restricted mean times", TIMES),
}
FALSE_CLAIMS = {
    "no difference": ("sign-flip", "no difference", ("normal", "skewed")),
    "mean 0, differences skewed": ("sign-flip", "mean difference 0", ("skewed differences",)),
    "same times, 30% censored": ("sign-flip of ranks", "same times, 30% censored", TIMES),
    "TOST on the margin": (
        "sign-flip TOST",
        "difference equal to the margin",
        ("normal", "skewed outwards"),
    ),
    "the same, Student t": (
        "Student t TOST",
        "difference equal to the margin",
        ("normal", "skewed outwards"),
    ),
}


@pytest.mark.parametrize(
    ("part", "value", "table"),
    [("intervals", "coverage", COVERAGE), ("tests", "false_claims", FALSE_CLAIMS)],
)
def test_the_text_quotes_the_results(part: str, value: str, table: dict[str, Any]) -> None:
    text = statistics.__doc__ or ""
    for name, (method, quantity, kinds) in table.items():
        line = re.search(rf"^ *{re.escape(name)}  +(.*)$", text, re.MULTILINE)
        assert line, f"{name} is not in the text"
        cells = re.split(r"  +", line[1].strip())
        assert cells == [quoted(part, value, method, quantity, data) for data in kinds], name
    assert f"{RESULT['replications']} repetitions" in text


def test_nothing_of_the_script_is_missing_in_the_results(script: ModuleType) -> None:
    for part, rows in (("intervals", script.intervals()), ("tests", script.tests())):
        wanted = [(r.method, r.quantity, r.data, n) for r in rows for n in script.SEEDS]
        found = [(r["method"], r["quantity"], r["data"], r["seeds"]) for r in RESULT[part]]
        assert found == wanted and len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("part", "method", "quantity", "data"),
    [
        ("intervals", "sign-flip", "mean", "skewed"),
        ("intervals", "Wilson", "rate", "p = 0.95"),
        ("intervals", "order statistics", "median time, 30% censored", "exponential"),
        ("tests", "sign-flip TOST", "difference equal to the margin", "normal"),
    ],
)
def test_a_row_is_measured_again(
    script: ModuleType, part: str, method: str, quantity: str, data: str
) -> None:
    """Its random stream is its own; a hit more or less is left to another NumPy's rounding."""
    name = (method, quantity, data)
    row = next(r for r in getattr(script, part)() if (r.method, r.quantity, r.data) == name)
    again = script.measure(row, 6, RESULT["replications"])
    there = next(
        r for r in RESULT[part] if (r["method"], r["quantity"], r["data"], r["seeds"]) == (*name, 6)
    )
    value = "coverage" if part == "intervals" else "false_claims"
    assert again[value] == pytest.approx(there[value], abs=1 / RESULT["replications"], rel=0)


def covered(method: str, quantity: str) -> list[float]:
    return [
        r["coverage"]
        for r in RESULT["intervals"]
        if r["method"] == method and quantity in r["quantity"]
    ]


def test_what_the_lab_relies_on_is_what_covers() -> None:
    """The claim behind the choice of intervals, in the committed numbers."""
    for chosen, other in (("sign-flip", "percentile"), ("sign-flip", "BCa")):
        pairs = zip(covered(chosen, "mean")[:6], covered(other, "mean"), strict=True)
        assert all(a >= b for a, b in pairs)
    assert min(covered("order statistics", "median")) > 0.95
    assert min(covered("Wilson", "improvement")) > 0.95
