"""The cells of a stability map (:mod:`anygate.lab.stability`), read back from a study's folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from .records import StabilityPlan, StudyError, Trial, read

__all__ = ["Cell", "load_cells", "stable_rate"]

T = TypeVar("T")


@dataclass(frozen=True)
class Cell:
    """The short runs of one activation with one learning rate and one initial forget bias,
    as far as they are done."""

    activation: str
    learning_rate: float
    forget_bias: float
    runs: tuple[Trial, ...]

    @property
    def diverged(self) -> int:
        """How many of the runs did."""
        return sum(run.diverged is not None for run in self.runs)

    @property
    def share(self) -> float:
        """The share of them."""
        return self.diverged / len(self.runs)


def load_cells(directory: Path) -> tuple[Cell, ...]:
    """The cells that lie in a study's folder, none if there is no map. Cells of which no run is
    done are left out. Raises StudyError, which names the file, for a damaged one."""
    root = directory / "stability"
    if not (root / "grid.json").exists():
        return ()
    found = []
    for plan in _read(root / "grid.json", StabilityPlan).cells:
        paths = [root / "trials" / f"{key}.json" for key in plan.keys]
        runs = tuple(_read(path, Trial) for path in paths if path.exists())
        if runs:
            found.append(Cell(plan.activation, plan.learning_rate, plan.forget_bias, runs))
    return tuple(found)


def _read(path: Path, kind: type[T]) -> T:
    try:
        return read(path, kind)
    except StudyError as error:
        raise StudyError(
            f"{path} is damaged: {error}; run the same `anygate compare --stability` again, which "
            "replaces it, or delete the folder stability"
        ) from error


def stable_rate(cells: Sequence[Cell]) -> float | None:
    """The largest learning rate at which, and below which, no run of these cells diverged, with
    whatever forget bias; None if some did at the smallest."""
    stable = None
    for rate in sorted({c.learning_rate for c in cells}):
        if any(c.diverged for c in cells if c.learning_rate == rate):
            break
        stable = rate
    return stable
