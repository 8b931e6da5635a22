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
