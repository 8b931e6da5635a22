"""The share of the gradient at the last time step that arrives at the first: one figure for the
whole report."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..study.store.results import StudyResults


@dataclass(frozen=True)
class Arrival:
    """share: ||dL/dc|| in the first bin of time steps over that in the last, the median over the
    runs. lag: time steps between the middles of both bins."""

    share: float
    lag: float

    @property
    def per_step(self) -> float:
        """The factor that makes `share` if it is the same at each time step."""
        return math.pow(self.share, 1 / self.lag)


def arrival(results: StudyResults, label: str, when: Literal["start", "end"]) -> Arrival | None:
    """The share that arrives with an activation before or after training; None without a recording
    of two bins or more, or where no run has both numbers."""
    seen = [s for s in results.snapshots(label, when) if "grad_c" in s.states and len(s.edges) > 2]
    norms = [s.states["grad_c"] for s in seen if s.edges == seen[0].edges]
    shares = [n[0] / n[-1] for n in norms if n[-1] > 0]
    finite = [share for share in shares if math.isfinite(share)]
    if not finite:
        return None
    edges = seen[0].edges
    lag = (edges[-1] + edges[-2] - edges[0] - edges[1]) / 2
    return Arrival(float(np.median(finite)), lag)
