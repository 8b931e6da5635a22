"""States of a module of layers: their shapes, checks and order of rows."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn

from .checks import check_dim, check_shapes, read_states
from .widths import State, check_uneven, each

__all__ = ["LayerStates", "permuted"]


class LayerStates(nn.RNNBase):
    """Layers of the cell in `_design`, as far as their states go."""

    _design: Any

    @property
    def hidden_sizes(self) -> tuple[int, ...]:
        """The number of units of each layer; `hidden_size` is that of the last."""
        return self.__dict__.get("_widths") or (self.hidden_size,) * self.num_layers

    def _own(self, name: str) -> Tensor:
        """A parameter; parametrized ones are attributes of the class."""
        found = self._parameters.get(name)
        return cast(Tensor, getattr(self, name)) if found is None else found

    def _shapes(self, batch: int) -> tuple[Any, ...]:
        """Of the states: [num_layers * directions, B, H], the first with proj_size in H's place;
        where widths differ, for each a tuple of [directions, B, H] of the layers."""
        ways, names = 2 if self.bidirectional else 1, self._design.base.states
        if "_widths" in self.__dict__:
            return (tuple((ways, batch, width) for width in self.hidden_sizes),) * len(names)
        count = self.num_layers * ways
        first = (count, batch, self.proj_size or self.hidden_size)
        return first, *[(count, batch, self.hidden_size)] * (len(names) - 1)

    def _states(self, x: Tensor, batch: int, hx: Any, batched: bool) -> tuple[State, ...]:
        """The states before the first step, in the shapes of `_shapes`."""
        shapes = self._shapes(batch)
        uneven = "_widths" in self.__dict__
        if hx is None:
            if uneven:
                return tuple(tuple(x.new_zeros(shape) for shape in state) for state in shapes)
            first = x.new_zeros(shapes[0])
            return tuple(first if shape == shapes[0] else x.new_zeros(shape) for shape in shapes)
        names, weight = self._design.base.states, self._own("weight_ih_l0")
        if uneven:
            return check_uneven(hx, names, shapes, batched, weight)
        states = read_states(hx, names)
        check_dim(states, names, batched)
        if not batched:
            states = tuple(state.unsqueeze(1) for state in states)
        check_shapes(states, names, shapes, weight)
        return states

    def get_expected_cell_size(self, input: Tensor, batch_sizes: Tensor | None) -> Any:
        """Shape of the last state for an input, or for a pack's data with its batch_sizes."""
        return self._shapes(self._rows(input, batch_sizes))[-1]

    def _rows(self, input: Tensor, batch_sizes: Tensor | None) -> int:
        if batch_sizes is not None:
            return int(batch_sizes[0])
        return input.size(0 if self.batch_first else 1)

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Tensor | None) -> None:
        """Raises RuntimeError for an input or a state of the wrong shape."""
        self.check_input(input, batch_sizes)
        if "_widths" in self.__dict__:
            shapes = self._shapes(self._rows(input, batch_sizes))
            names, weight = self._design.base.states, self._own("weight_ih_l0")
            check_uneven(hidden, names, shapes, True, weight)
            return
        states = hidden if isinstance(hidden, (tuple, list)) else (hidden,)
        expected = (
            self.get_expected_hidden_size(input, batch_sizes),
            *[self.get_expected_cell_size(input, batch_sizes)] * (len(states) - 1),
        )
        for place, (state, shape) in enumerate(zip(states, expected, strict=True)):
            where = f"[{place}]" if len(states) > 1 else ""
            self.check_hidden_size(state, shape, f"Expected hidden{where} size {{}}, got {{}}")

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """The state with the rows in another order."""
        if permutation is None:
            return hx
        if isinstance(hx, Tensor):
            return permuted(hx, permutation)
        return tuple(self.permute_hidden(state, permutation) for state in hx)


def permuted(state: State, order: Tensor | None) -> State:
    """The state with the rows of the batch in another order."""
    return state if order is None else each(state, lambda t: t.index_select(1, order))
