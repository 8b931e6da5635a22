"""LSTMCell: torch.nn.LSTMCell with an activation in each slot."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..backends.base import Choice
from ..symbolic.cell import Cell
from .checks import check_tensor, two_states
from .dispatch import Wiring, without_autocast
from .notices import Notices
from .parameters import (
    cell_parameters,
    register_parameters,
    reset_cell_parameters,
    with_two_dimensions,
)
from .recorder import recorded_call
from .slots import ActivationLike, Trainable, make_cell, slot_summary, widths

__all__ = ["LSTMCell"]

State = tuple[Tensor, Tensor]


class LSTMCell(Notices, nn.RNNCellBase):
    """torch.nn.LSTMCell with any activation in each of its five slots.

    One time step: input [B, input_size] or [input_size], state (h, c) each [B, hidden_size] or
    [hidden_size]; returns (h, c). Equations and activation arguments as in `LSTM`; parameters
    have torch.nn.LSTMCell's names and shapes.
    """

    _stands_for = nn.LSTMCell

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        activation: ActivationLike | None = None,
        gate_activation: ActivationLike | None = None,
        input_gate: ActivationLike | None = None,
        forget_gate: ActivationLike | None = None,
        candidate: ActivationLike | None = None,
        output_gate: ActivationLike | None = None,
        cell_output: ActivationLike | None = None,
        peephole: bool = False,
        coupled: bool = False,
        clip: float | None = None,
        trainable: Trainable = False,
        engine: str = "auto",
    ) -> None:
        cell = make_cell(
            activation=activation,
            gate_activation=gate_activation,
            input_gate=input_gate,
            forget_gate=forget_gate,
            candidate=candidate,
            output_gate=output_gate,
            cell_output=cell_output,
            peephole=peephole,
            coupled=coupled,
            clip=clip,
            trainable=trainable,
        )
        super().__init__(input_size, hidden_size, bias, num_chunks=4, device=device, dtype=dtype)
        self._wiring = Wiring.of(cell, engine)
        learnt = widths(cell, trainable)
        register_parameters(self, cell, learnt, [""], device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """As torch.nn.LSTMCell; activations' parameters to the numbers of their formula."""
        super().reset_parameters()
        if "_wiring" in self.__dict__:  # not while the base class is made
            reset_cell_parameters(self, self.cell, [""])

    @property
    def cell(self) -> Cell:
        """The activations in the five slots."""
        return self._wiring.cell

    def explain(self, input: Tensor) -> Choice:
        """Which engine `forward(input)` will use and why."""
        return self._wiring.explain(input, self.weight_ih)

    def forward(self, input: Tensor, hx: State | None = None) -> State:
        """One step; zeros are the state if none is given."""
        if input.dim() not in (1, 2):
            raise ValueError(f"LSTMCell: Expected input to be 1D or 2D, got {input.dim()}D instead")
        if input.size(-1) != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {input.size(-1)} "
                f"expected {self.input_size}"
            )
        if input.dtype != self.weight_ih.dtype or input.device != self.weight_ih.device:
            check_tensor("input", input, self.weight_ih)
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        h0, c0 = self._state(x, hx, batched)
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        parameters = cell_parameters(self, self.cell, "")

        call = recorded_call(self)

        def step(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            told = None if call is None else call.measures(self.cell, "", c, None)
            return self._wiring.run(x, h, c, *weights, parameters, measures=told)

        _, h, c = without_autocast(step, x.unsqueeze(0), h0, c0, self.weight_ih.dtype)
        return (h, c) if batched else (h.squeeze(0), c.squeeze(0))

    def _state(self, x: Tensor, hx: State | None, batched: bool) -> State:
        shape = (x.size(0), self.hidden_size)
        if hx is None:
            zeros = x.new_zeros(shape)
            return zeros, zeros
        states = two_states(hx)
        for place, (name, state) in enumerate(zip("hc", states, strict=True)):
            if state.dim() not in (1, 2):
                raise ValueError(
                    f"LSTMCell: Expected hx[{place}] to be 1D or 2D, got {state.dim()}D instead"
                )
            wanted = shape if batched else shape[1:]
            if state.shape != wanted:
                raise RuntimeError(
                    f"LSTMCell: expected {name} of {tuple(wanted)}, got {tuple(state.shape)}"
                )
            check_tensor(name, state, self.weight_ih)
        h0, c0 = states
        return (h0, c0) if batched else (h0.unsqueeze(0), c0.unsqueeze(0))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        with_two_dimensions(self, self.cell, [""], state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def extra_repr(self) -> str:
        """torch.nn.LSTMCell's, and the activations that differ from it."""
        slots = slot_summary(self.cell)
        return super().extra_repr() + (f", {slots}" if slots else "")
