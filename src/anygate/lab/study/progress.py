"""Progress on stderr: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ...formulas.errors import printable

_EVERY = 20.0  # seconds between lines where there is no terminal


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int, str], None]]:
    """A function to call with (done, total, name of the last one done)."""
    title = printable(title)
    if not sys.stderr.isatty():
        yield _Lines(title)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total, name: bar.update(task, completed=done, total=total)


@contextmanager
def waiting(title: str) -> Iterator[None]:
    """A turning sign on a terminal while something of unknown length runs."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    with console.status(title):
        yield


class _Lines:
    def __init__(self, title: str) -> None:
        self.title = title
        self.started = self.said = time.monotonic()
        self.begun: int | None = None

    def __call__(self, done: int, total: int, name: str) -> None:
        now = time.monotonic()
        if self.begun is None:
            self.begun = done
        if now - self.said < _EVERY and done not in (self.begun, total):
            return
        self.said = now
        left = ""
        if done > self.begun and done < total:
            seconds = (now - self.started) / (done - self.begun) * (total - done)
            left = f", about {seconds:.0f} s left"
        print(f"{self.title}: {done} of {total} trials{left}", file=sys.stderr, flush=True)
