"""A cell as the kernels hold it: panels of products, states by number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from ..cells import Cell

__all__ = ["Layout", "layout_of"]


@dataclass(frozen=True)
class Layout:
    """The order of a cell's products and states in memory.

    panels: P, the products. Those of x alone come first and those of a state alone last, so that
    the products that see x are the first len(from_x) panels and those that see a state the last
    len(from_h). from_x, from_h: for each of these its place among the blocks of H rows of
    weight_ih and of weight_hh, which stand in the order of the cell type's products.
    states: S; state 0 is what R multiplies. output: the number of the output state.
    carried: a line uses state 0 before the step, so that its gradient has a part besides
    R^T grad_z. saved, masks: how many vectors of units a row has in these arrays. vectors: how many
    parameters have a value for each unit.
    """

    panels: int
    from_x: tuple[int, ...]
    from_h: tuple[int, ...]
    states: int
    output: int
    carried: bool
    saved: int
    masks: int
    vectors: int

    @cached_property
    def weights(self) -> str:
        """The part of the layout that packed weights depend on, for a key."""
        return f"{self.panels} {self.from_x} {self.from_h}"

    @property
    def first_from_h(self) -> int:
        """The first panel that sees a state."""
        return self.panels - len(self.from_h)

    @property
    def is_square(self) -> bool:
        """Four products that all see x and a state, as the LSTM's: what AMX tiles are laid out
        for. Other cells are computed by vectors on every processor."""
        return self.panels == len(self.from_x) == len(self.from_h) == 4


@lru_cache(maxsize=256)
def layout_of(cell: Cell) -> Layout:
    """The layout of a cell of the kind "one product"."""
    kind, laid = cell.type, cell.products
    seeing_x = [product.name for product in kind.products if product.input]
    seeing_h = [product.name for product in kind.products if product.recurrent]
    return Layout(
        panels=len(laid),
        from_x=tuple(seeing_x.index(p.name) for p in laid if p.input),
        from_h=tuple(seeing_h.index(p.name) for p in laid if p.recurrent),
        states=len(kind.states),
        output=kind.states.index(kind.output),
        carried=kind.states[0] in cell.carried,
        saved=len(cell.saved),
        masks=len(kind.masks),
        vectors=len(cell.per_unit),
    )
