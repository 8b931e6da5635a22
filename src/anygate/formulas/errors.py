"""The one error that a formula can raise, whatever is wrong with it."""

from __future__ import annotations

__all__ = ["FormulaError", "printable", "short"]


class FormulaError(ValueError):
    """A formula, an activation's name or a parameter that cannot be used. The message says
    which part is wrong and what to write instead."""


def short(text: str) -> str:
    """A text for a message: at most 80 characters of it."""
    return text if len(text) <= 80 else text[:77] + "..."


def printable(text: str) -> str:
    """Text from files and from strangers for the terminal: whatever is not printable, such as the
    beginning of an escape sequence, stands as its code. Line breaks remain."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape", "surrogatepass").decode()
        for c in text
    )
