"""LSTM and LSTMCell: torch.nn's modules with an activation in each slot."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..backends.base import Choice
from ..symbolic.cell import Cell
from .dispatch import Wiring
from .slots import ActivationLike, make_cell, slot_summary

__all__ = ["LSTM", "LSTMCell"]

State = tuple[Tensor, Tensor]


class LSTM(nn.RNNBase):
    r"""torch.nn.LSTM with any activation in each of its five slots.

        i = input_gate(W_ii x + b_ii + W_hi h + b_hi)
        f = forget_gate(W_if x + b_if + W_hf h + b_hf)
        g = candidate(W_ig x + b_ig + W_hg h + b_hg)
        o = output_gate(W_io x + b_io + W_ho h + b_ho)
        c' = f * c + i * g
        h' = o * cell_output(c')

    Arguments input_size to bidirectional, device and dtype are torch.nn.LSTM's.

    activation: candidate and cell_output together (default tanh).
    gate_activation: the three gates together (default sigmoid).
    input_gate, forget_gate, candidate, output_gate, cell_output: one slot; wins over the two.
    Each is a name ("relu"), a formula ("x*sigmoid(x)"), a SymPy expression or an Activation.
    engine: "auto", or an engine's name; `explain` says which one runs and why.

    Input [T, B, input_size] ([B, T, input_size] with batch_first, [T, input_size] unbatched) and
    optionally (h0, c0), each [num_layers * directions, B, hidden_size]. Returns the output
    [T, B, directions * hidden_size] and (h, c), as torch.nn.LSTM does. Parameters and state_dict
    have torch.nn.LSTM's names and shapes, gates in the order i f g o, so weights load both ways.

    Raises FormulaError for an activation that cannot be used, naming the slot; ValueError and
    RuntimeError for wrong shapes, as torch.nn.LSTM does.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
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
        engine: str = "auto",
    ) -> None:
        if proj_size:
            raise NotImplementedError(
                "anygate.LSTM has no projections yet; use proj_size=0 and a Linear after it"
            )
        cell = make_cell(
            activation=activation,
            gate_activation=gate_activation,
            input_gate=input_gate,
            forget_gate=forget_gate,
            candidate=candidate,
            output_gate=output_gate,
            cell_output=cell_output,
        )
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            0,
            device,
            dtype,
        )
        self._wiring = Wiring.of(cell, engine)

    @property
    def cell(self) -> Cell:
        """The activations in the five slots."""
        return self._wiring.cell

    def explain(self, input: Tensor) -> Choice:
        """Which engine `forward(input)` will use and, for each faster one, why it does not."""
        return self._wiring.explain(input, self.layer_weights(0)[0])

    def forward(self, input: Tensor, hx: State | None = None) -> tuple[Tensor, State]:
        """The output and the state after the last step; see the class for shapes."""
        self._check_input(input)
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            x = x.transpose(0, 1)
        state = self._state(x, hx, batched)
        output, (h, c) = self._run(x, state)
        if not batched:
            return output.squeeze(1), (h.squeeze(1), c.squeeze(1))
        return (output.transpose(0, 1) if self.batch_first else output), (h, c)

    def _check_input(self, input: Tensor) -> None:
        if isinstance(input, PackedSequence):
            raise NotImplementedError(
                "anygate.LSTM takes no packed sequences yet; pad them with "
                "torch.nn.utils.rnn.pad_packed_sequence"
            )
        if input.dim() not in (2, 3):
            raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {input.dim()}D instead")
        weight = self.weight_ih_l0
        casting = torch.is_autocast_enabled(input.device.type)
        if input.dtype != weight.dtype and not casting:
            raise ValueError(
                f"LSTM: input is {input.dtype} but the weights are {weight.dtype}. Convert "
                f"input.to({weight.dtype}), or the model: model.to({input.dtype})"
            )
        if input.size(-1) != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, "
                f"got {input.size(-1)}"
            )
        steps = input.size(1 if self.batch_first and input.dim() == 3 else 0)
        if steps == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")

    def _state(self, x: Tensor, hx: State | None, batched: bool) -> State:
        """h0 and c0, each [num_layers * directions, B, H]."""
        count = self.num_layers * (2 if self.bidirectional else 1)
        shape = (count, x.size(1), self.hidden_size)
        if hx is None:
            zeros = x.new_zeros(shape)
            return zeros, zeros
        if not batched:
            if any(s.dim() != 2 for s in hx):
                raise RuntimeError(
                    "For unbatched 2-D input, hx and cx should also be 2-D but got "
                    f"({hx[0].dim()}-D, {hx[1].dim()}-D) tensors"
                )
            hx = (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
        elif any(s.dim() != 3 for s in hx):
            raise RuntimeError(
                "For batched 3-D input, hx and cx should also be 3-D but got "
                f"({hx[0].dim()}-D, {hx[1].dim()}-D) tensors"
            )
        for place, state in enumerate(hx):
            if tuple(state.shape) != shape:
                raise RuntimeError(
                    f"Expected hidden[{place}] size {shape}, got {tuple(state.shape)}"
                )
        return hx

    def _run(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """All layers and directions, time first."""
        ends: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for suffix in ("", "_reverse")[: 2 if self.bidirectional else 1]:
                h0, c0 = (s[len(ends)] for s in state)
                output, h, c = self._wiring.run(
                    x, h0, c0, *self.layer_weights(layer, suffix), bool(suffix)
                )
                outputs.append(output)
                ends.append((h, c))
            x = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
            if self.dropout and layer < self.num_layers - 1:
                x = nn.functional.dropout(x, self.dropout, self.training)
        h_n, c_n = (torch.stack(s) for s in zip(*ends, strict=True))
        return x, (h_n, c_n)

    def layer_weights(self, layer: int, suffix: str = "") -> tuple[Tensor, Tensor, Tensor | None]:
        """weight_ih [4H, I], weight_hh [4H, H] and the sum of both biases [4H] (None without) of
        one layer; suffix "_reverse" for the backward direction."""

        def get(name: str) -> Tensor:
            return cast(Tensor, getattr(self, f"{name}_l{layer}{suffix}"))

        bias = get("bias_ih") + get("bias_hh") if self.bias else None
        return get("weight_ih"), get("weight_hh"), bias

    def extra_repr(self) -> str:
        """torch.nn.LSTM's, and the activations that differ from it."""
        slots = slot_summary(self.cell)
        return super().extra_repr() + (f", {slots}" if slots else "")


class LSTMCell(nn.RNNCellBase):
    """torch.nn.LSTMCell with any activation in each of its five slots.

    One time step: input [B, input_size] or [input_size], state (h, c) each [B, hidden_size] or
    [hidden_size]; returns (h, c). Equations and activation arguments as in `LSTM`; parameters
    have torch.nn.LSTMCell's names and shapes.
    """

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
        )
        super().__init__(input_size, hidden_size, bias, num_chunks=4, device=device, dtype=dtype)
        self._wiring = Wiring.of(cell, engine)

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
        batched = input.dim() == 2
        x = input if batched else input.unsqueeze(0)
        h0, c0 = self._state(x, hx, batched)
        bias = self.bias_ih + self.bias_hh if self.bias else None
        weights = (self.weight_ih, self.weight_hh, bias)
        _, h, c = self._wiring.run(x.unsqueeze(0), h0, c0, *weights)
        return (h, c) if batched else (h.squeeze(0), c.squeeze(0))

    def _state(self, x: Tensor, hx: State | None, batched: bool) -> State:
        shape = (x.size(0), self.hidden_size)
        if hx is None:
            zeros = x.new_zeros(shape)
            return zeros, zeros
        h0, c0 = hx if batched else (s.unsqueeze(0) for s in hx)
        for name, state in (("h", h0), ("c", c0)):
            if tuple(state.shape) != shape:
                raise RuntimeError(f"LSTMCell: expected {name} of {shape}, got {state.shape}")
        return h0, c0

    def extra_repr(self) -> str:
        """torch.nn.LSTMCell's, and the activations that differ from it."""
        slots = slot_summary(self.cell)
        return super().extra_repr() + (f", {slots}" if slots else "")
