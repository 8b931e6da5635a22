"""Pieces of sentences, and text that may come from strangers on its way to the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from ..formulas.errors import printable


def join(items: Sequence[str]) -> str:
    """``a, b and c``."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def plural(n: int, word: str) -> str:
    """``1 seed``, ``2 seeds``."""
    return f"{n} {word}{'' if n == 1 else 's'}"


def noun_of(setting: str) -> str:
    """One value of a setting that is tuned: a rate of the learning rate, else a value."""
    return "rate" if setting == "learning_rate" else "value"


def at_own(setting: str) -> str:
    """``at own rates``, ``at own values of the gradient clip``: the place of what is compared with
    each activation at its own best."""
    if setting == "learning_rate":
        return "at own rates"
    return f"at own values of the {setting.replace('_', ' ')}"


def at_shared(setting: str) -> str:
    """``at the shared rate``, ``at the shared gradient clip``."""
    word = "rate" if setting == "learning_rate" else setting.replace("_", " ")
    return f"at the shared {word}"


def show_p(p: float) -> str:
    """A p value for people: ``p = 0.031``, ``p < 0.001``."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def show_corrected(p: float, family: int) -> str:
    """``p = 0.031 after Holm's correction for 4 comparisons``, plain if there is only one."""
    return show_p(p) + (f" after Holm's correction for {family} comparisons" if family > 1 else "")


Notice = Callable[[str], None]
"""Called with a sentence that the user should read."""


def to_stderr(text: str) -> None:
    """The usual notice."""
    print(printable(text), file=sys.stderr)
