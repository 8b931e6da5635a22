"""The check of what engines without kernels of their own can measure for `record`."""

from __future__ import annotations

from ..cells import Cell
from .protocol import EngineError

__all__ = ["check_measurable"]


def check_measurable(cell: Cell) -> None:
    """Raises EngineError for a cell that cannot be measured."""
    if cell.type.kind not in ("one product", "no recurrence"):
        raise EngineError(
            f"anygate.record measures cells whose steps need one product; {cell.type.name} has "
            f"the kind '{cell.type.kind}'. Take its states of all steps instead "
            "(return_states=True), or record a cell without it"
        )
