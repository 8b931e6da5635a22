"""Property sheets of a study's formulas, which may be a stranger's, within a few seconds."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from ...formulas import resolve, sheet
from ...formulas.properties import Sheet
from ..wording import to_stderr

SECONDS, ALTOGETHER, LEAST = 6.0, 120.0, 0.5
"""Seconds of processor time for a formula, and for all of them; when these are used up, the least
that each has still."""
_UNFIT = (ValueError, TypeError, ArithmeticError, RecursionError, MemoryError)
"""The errors that a formula which cannot be read may raise; FormulaError is a ValueError."""


class TooSlow(BaseException):
    """The seconds are over. No Exception: SymPy catches those."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TooSlow inside after so many seconds of the process's time, so that a busy machine is
    not taken for a slow formula. There is no limit outside the main thread and on Windows."""
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, 0.2)  # again, where somebody caught the first
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def allowance() -> float:
    """The seconds that the next formula has."""
    return max(LEAST, min(SECONDS, ALTOGETHER - sum(_used)))


_used: list[float] = []
"""Seconds of the formulas so far."""


@lru_cache(maxsize=512)
def sheet_of(formula: str, label: str) -> Sheet | None:
    """The sheet by the formula, else by the label; None, with a sentence on stderr if it takes too
    long, where neither gives one."""
    seconds = allowance()
    for text in dict.fromkeys((formula, label)):
        started = time.process_time()
        try:
            with within(seconds):
                return sheet(resolve(text))
        except _UNFIT:
            continue
        except TooSlow:
            to_stderr(
                f"study.json: activations: the formula of {label!r} takes more than "
                f"{seconds:.1g} s and is left out of the pictures"
            )
            return None
        finally:
            _used.append(time.process_time() - started)
    return None
