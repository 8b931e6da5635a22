"""Shared by all tests: one torch thread (pytest-xdist runs several processes) and Hypothesis
without a clock and without chance, so that a run today is the run of tomorrow. What a test imports
from its temporary folder is forgotten after it."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
for name, count in (("quick", 25), ("thorough", 100)):
    settings.register_profile(
        name,
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
settings.load_profile("quick")  # `--hypothesis-profile=thorough` takes the other


@pytest.fixture(autouse=True)
def _own_modules_are_forgotten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Two tests that write a my_metrics.py each import their own: no module of a temporary folder,
    and no such folder on sys.path, outlives its test."""
    temporary = str(tmp_path_factory.getbasetemp()) + os.sep
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(temporary):
            del sys.modules[name]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line on what was left out, and why: `make test-all` has the optional packages."""
    reasons = Counter(
        str(report.longrepr[2]).removeprefix("Skipped: ").splitlines()[0][:80]
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple | list)
    )
    if reasons:
        said = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        terminalreporter.write_line(f"left out: {said}")
