"""The check of what engines without kernels of their own can measure for `record`."""

from __future__ import annotations

from ..cells import Cell
from .protocol import EngineError, Layer

__all__ = ["check_measurable"]


def check_measurable(cell: Cell, layer: Layer, engine: str) -> None:
    """Raises EngineError for a layer that an engine running whole batches cannot measure."""
    if cell.type.kind not in ("one product", "no recurrence"):
        raise EngineError(
            f"anygate.record measures cells whose steps need one product; {cell.type.name} has "
            f"the kind '{cell.type.kind}'. Take its states of all steps instead "
            "(return_states=True), or record a cell without it"
        )
    if layer.batch_sizes is not None:
        raise EngineError(
            f"anygate.record measures packed sequences on the cpu engine alone, not on {engine}; "
            "pad them, or record them on the CPU"
        )
