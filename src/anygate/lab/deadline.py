"""Formulas of a study that may be a stranger's: what is known of them, within a few seconds."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from ..symbolic import resolve, sheet
from ..symbolic.properties import Sheet
from .folder import to_stderr

__all__ = ["TooSlow", "sheet_of", "within"]

SECONDS = 6.0
"""For all that is computed of one formula."""
_UNFIT = (ValueError, TypeError, ArithmeticError, RecursionError, MemoryError)
"""What a formula that cannot be read may raise; FormulaError is a ValueError."""


class TooSlow(BaseException):
    """The seconds are over. No Exception: SymPy catches those."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TooSlow inside after so many seconds. There is no limit outside the main thread, on
    Windows, and where the program uses its alarm clock itself."""
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
        or signal.getitimer(signal.ITIMER_REAL)[0]
    ):
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.2)  # again, where somebody caught the first
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@lru_cache(maxsize=512)
def sheet_of(formula: str, label: str) -> Sheet | None:
    """The sheet by the formula, else by the label; None, with a sentence on stderr if it takes too
    long, where neither gives one."""
    for text in dict.fromkeys((formula, label)):
        try:
            with within(SECONDS):
                return sheet(resolve(text))
        except _UNFIT:
            continue
        except TooSlow:
            to_stderr(f"study.json: activations: the formula of {label!r} takes more than "
                      f"{SECONDS:.0f} s and is left out of the pictures")  # fmt: skip
            return None
    return None
