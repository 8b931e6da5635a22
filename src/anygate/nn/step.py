"""StepCell: one time step of any cell, as torch.nn.RNNCellBase has it."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..cells import Cell, CellType
from ..engines.protocol import Choice, Layer
from .capture import Place
from .checkpoint import check_cell, save_cell
from .checks import check_tensor, read_states
from .design import Design, summary
from .notices import Notices, leaf
from .parameters import (
    cell_vectors,
    register_parameters,
    reset_cell_parameters,
    with_two_dimensions,
)
from .recorder import recorded_call
from .run import Autocast, explain, run_autocast, run_layer
from .shortcuts import Shortcut, layer_shortcut, shortcut

__all__ = ["StepCell"]

States = tuple[Tensor, ...]


class StepCell(Notices, nn.RNNCellBase):
    """One time step of one cell: what LSTMCell, GRUCell, RNNCell and RecurrentCell share."""

    _torch_type: CellType
    """The cell whose activations torch's module of this name has."""
    _autocast: ClassVar[Autocast] = "padded"

    def __init__(
        self,
        design: Design,
        options: dict[str, Any],
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if design.recurrent_dropout:
            raise ValueError(
                "recurrent_dropout keeps one mask for a whole sequence, which a single step does "
                "not see; multiply the state by a mask of your own between the steps"
            )
        products = design.base.products
        inputs, recurrent = (
            sum(getattr(p, kind) for p in products) for kind in ("input", "recurrent")
        )
        super().__init__(input_size, hidden_size, bias, inputs, device=device, dtype=dtype)
        if recurrent != inputs:
            shape = (recurrent * hidden_size, hidden_size)
            self.weight_hh = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            if bias:
                self.bias_hh = nn.Parameter(torch.empty(shape[0], device=device, dtype=dtype))
            super().reset_parameters()
        self._design = design
        self._designs = {"": design}
        self._options = options
        register_parameters(self, self._designs, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """As torch's module; activations' parameters to the numbers of their formula."""
        super().reset_parameters()
        if "_designs" in self.__dict__:  # not while the base class is made
            reset_cell_parameters(self, self._designs)

    @property
    def cell(self) -> Cell:
        """The equations and the activations in the slots."""
        return self._design.cell

    def explain(self, input: Tensor) -> Choice:
        """The engine that `forward(input)` will use, and why."""
        return explain(self._design, self.training, input, self.weight_ih)

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """The state after one step; zeros are the state before it if none is given."""
        if not torch.compiler.is_compiling():
            found = shortcut(self, input, hx, type(self)._shortcut)
            if found is not None:
                return found
        name = type(self).__name__
        if not isinstance(input, Tensor):
            call = leaf(self, (input,) if hx is None else (input, hx), {})
            if call is not None:
                return call
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        if input.size(-1) != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {input.size(-1)} "
                f"expected {self.input_size}"
            )
        if input.dtype != self.weight_ih.dtype or input.device != self.weight_ih.device:
            check_tensor("input", input, self.weight_ih)
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        layer = Layer(
            x.unsqueeze(0),
            self._states(x, hx, batched),
            self.weight_ih,
            self.weight_hh,
            self.bias_ih,
            self.bias_hh,
            cell_vectors(self, self._design, ""),
        )
        place = Place(self, "", single=True)
        run = partial(run_layer, self._design, training=self.training, place=place)
        call = recorded_call(self)
        if call is not None:
            cell = self._design.training_cell if self.training else self.cell
            run = partial(run, measures=call.measures(cell, "", layer.states[-1], None))
        states = run_autocast(run, layer, self._autocast, True, False).states
        if not batched:
            states = tuple(state.squeeze(0) for state in states)
        return states if len(states) > 1 else states[0]

    def _shortcut(self, input: Tensor) -> Shortcut | None:
        """A shortcut for inputs of this shape."""
        design = self._design
        if input.dim() not in (1, 2) or input.shape[-1] != self.input_size:
            return None
        if design.cell.per_unit or (design.noisy and self.training):
            return None
        x = input.detach().contiguous().view(1, -1, self.input_size)
        state = x.new_zeros(x.shape[1], self.hidden_size)
        weights = self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        layer = Layer(x, (state,) * len(design.base.states), *weights)
        names = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ()))
        shape = (*input.shape[:-1], self.hidden_size)
        return layer_shortcut(self, design, layer, names, (None, shape))

    def _states(self, x: Tensor, hx: Any, batched: bool) -> States:
        names = self._design.base.states
        shape = (x.size(0), self.hidden_size)
        if hx is None:
            zeros = x.new_zeros(shape)
            return (zeros,) * len(names)
        states = read_states(hx, names)
        kind = type(self).__name__
        for place, (name, state) in enumerate(zip(names, states, strict=True)):
            if state.dim() not in (1, 2):
                where = f"[{place}]" if len(names) > 1 else ""
                raise ValueError(
                    f"{kind}: Expected hx{where} to be 1D or 2D, got {state.dim()}D instead"
                )
            wanted = shape if batched else shape[1:]
            if state.shape != wanted:
                raise RuntimeError(
                    f"{kind}: expected {name} of {tuple(wanted)}, got {tuple(state.shape)}"
                )
            check_tensor(name, state, self.weight_ih)
        return states if batched else tuple(state.unsqueeze(0) for state in states)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        save_cell(self, destination, prefix)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        with_two_dimensions(self, self._designs, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)
        check_cell(self, state_dict, prefix, "version" in rest[0], *rest[3:])

    def extra_repr(self) -> str:
        """torch's, and what differs from torch's module."""
        sizes = f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")
        found = summary([self._design], self._torch_type, self._options)
        return sizes + (f", {found}" if found else "")
