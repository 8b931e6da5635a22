"""The file of the runs: lines of JSON, to which every finished run is appended at once.

A line is a stretch (date, machine, commit and digest of the rules), an arm with its settings (once)
or a run, a list of the fields of `Run`. It is appended by one write under a lock, so that a process
that is killed loses the runs in flight and nothing else, and two processes may write at the same
time. A line that was cut off is passed over, and ended by the next writer. Of a run that was made
twice the first counts: the same seed gives the same run.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Run", "Runs", "Store", "StoreError"]


class StoreError(ValueError):
    """The file holds what it cannot hold; the message names the line."""


@dataclass(frozen=True)
class Run:
    """The outcome of one run.

    reached: the first epoch whose test metric is at the setup's level, None if none is. diverged:
    the epoch in which a loss or gradient was not finite, None if all were. final: the test metric
    at the end (of a diverged run the baseline, which says nothing). curve: the test metric at up to
    six epochs, evenly spread, the last one among them. stretch: the number of the stretch that
    made it.
    """

    arm: str
    seed: int
    reached: int | None
    diverged: int | None
    final: float
    curve: tuple[float | None, ...]
    seconds: float
    stretch: int

    def line(self) -> list[Any]:
        """As the file holds it."""
        return [*vars(self).values()]


@dataclass
class Runs:
    """Everything in the file: runs by arm and seed, the settings of each arm, the stretches, and
    how many lines were cut off."""

    runs: dict[str, dict[int, Run]] = field(default_factory=dict)
    arms: dict[str, dict[str, Any]] = field(default_factory=dict)
    stretches: list[dict[str, Any]] = field(default_factory=list)
    damaged: int = 0

    def add(self, found: Any) -> None:
        """Take in one line. Raises KeyError, TypeError or ValueError for one that is none of the
        three."""
        if isinstance(found, list):
            name, seed, reached, diverged, final, curve, seconds, stretch = found
            run = Run(name, seed, reached, diverged, final, tuple(curve), seconds, stretch)
            self.runs.setdefault(name, {}).setdefault(seed, run)
        elif "arm" in found:
            self.arms.setdefault(found["arm"], found["settings"])
        else:
            self.stretches.append(dict(found["started"]))

    @property
    def count(self) -> int:
        """The number of runs."""
        return sum(map(len, self.runs.values()))


class Store:
    """The file at a path, which need not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Runs:
        """All of it. Raises StoreError for a whole line that is none of the three kinds."""
        found = Runs()
        if not self.path.exists():
            return found
        for number, line in enumerate(self.path.read_bytes().split(b"\n"), 1):
            if not line:
                continue
            try:
                content = json.loads(line)
            except ValueError:  # cut off
                found.damaged += 1
                continue
            try:
                found.add(content)
            except (KeyError, TypeError, ValueError) as error:
                raise StoreError(f"{self.path}, line {number}: {error!r}") from error
        return found

    def append(self, lines: Iterable[Mapping[str, Any] | Sequence[Any]]) -> None:
        """Add lines, all of them or none."""
        text = "".join(
            json.dumps(line, separators=(",", ":"), allow_nan=False) + "\n" for line in lines
        )
        with self._locked() as file:
            if _cut_off(file):
                text = "\n" + text
            os.write(file, text.encode())

    def begin(self, stretch: Mapping[str, Any]) -> int:
        """Note that a stretch starts; returns its number."""
        with self._locked() as file:
            number = len(self.load().stretches)
            text = json.dumps({"started": {**stretch, "number": number}}, separators=(",", ":"))
            os.write(file, (("\n" if _cut_off(file) else "") + text + "\n").encode())
        return number

    @contextmanager
    def _locked(self) -> Iterator[int]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file
        finally:
            os.close(file)


def _cut_off(file: int) -> bool:
    size = os.fstat(file).st_size
    return size > 0 and os.pread(file, 1, size - 1) != b"\n"
