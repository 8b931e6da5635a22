"""Shared by all tests: one torch thread (pytest-xdist runs several processes) and Hypothesis
without a clock and without chance, so that a run today is the run of tomorrow."""

from collections import Counter
from typing import Any

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
