"""The one error that a formula can raise, whatever is wrong with it."""

from __future__ import annotations

__all__ = ["FormulaError"]


class FormulaError(ValueError):
    """A formula, an activation's name or a parameter that cannot be used. The message says
    which part is wrong and what to write instead."""
