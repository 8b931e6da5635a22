"""LSTM: torch.nn.LSTM with an activation in each slot."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..backends.base import Choice
from ..symbolic.cell import Cell
from .checks import check_pack, check_states, check_tensor, two_states
from .dispatch import Wiring, without_autocast
from .notices import Notices
from .parameters import (
    cell_parameters,
    register_parameters,
    reset_cell_parameters,
    summed,
    with_two_dimensions,
)
from .projection import run_projected
from .recorder import Call, recorded_call
from .slots import ActivationLike, Trainable, make_cell, slot_summary, widths

__all__ = ["LSTM"]

State = tuple[Tensor, Tensor]


class LSTM(Notices, nn.RNNBase):
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
    peephole, coupled, clip: the variants of `Cell`. Peepholes are parameters
    input_gate_peephole_l0 and so on, [1, H].
    trainable: False; "shared" or "unit": the activations' own parameters (k of leaky_relu) are
    learnt, one number each for a layer and direction, or one for each hidden unit; or a dict such
    as {"candidate.k": "unit"}. They are parameters candidate_k_l0 and so on, [1, 1] or [1, H]: code
    that initialises every parameter in a loop runs, and initialises them too.
    engine: "auto", or an engine's name; `explain` says which one runs and why.

    Input [T, B, input_size] ([B, T, input_size] with batch_first, [T, input_size] unbatched, or a
    PackedSequence) and optionally (h0, c0), each [num_layers * directions, B, hidden_size] (h0:
    proj_size if that is given). Returns the output [T, B, directions * hidden_size] and (h, c), as
    torch.nn.LSTM does. Parameters and state_dict have torch.nn.LSTM's names and shapes, gates in
    the order i f g o, so weights load both ways; with coupled=True the forget gate's rows stay and
    are not used.

    Raises FormulaError for an activation that cannot be used, naming the slot; ValueError and
    RuntimeError for wrong shapes, as torch.nn.LSTM does.

    isinstance(module, torch.nn.LSTM) is False, so code that initialises layers by that question
    passes over this one (it is said once, where a line asks so): ask for (torch.nn.LSTM,
    anygate.LSTM). torch.ao.quantization.quantize_dynamic, which goes by classes, leaves it in its
    dtype.
    """

    _stands_for = nn.LSTM

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
        super().__init__(
            "LSTM",
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
        )
        self._wiring = Wiring.of(cell, engine)
        learnt = widths(cell, trainable)
        register_parameters(self, cell, learnt, self._suffixes, device=device, dtype=dtype)

    @property
    def cell(self) -> Cell:
        """The activations in the five slots."""
        return self._wiring.cell

    def explain(self, input: Tensor) -> Choice:
        """Which engine `forward(input)` will use and, for each faster one, why it does not."""
        return self._wiring.explain(input, self.layer_weights(0)[0])

    def forward(self, input: Any, hx: State | None = None) -> tuple[Any, State]:
        """The output and the state after the last step; see the class for shapes."""
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        self._check_input(input)
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            x = x.transpose(0, 1)
        state = self._state(x, x.size(1), hx, batched)
        output, (h, c) = self._run(x, state, hx is not None)
        if not batched:
            return output.squeeze(1), (h.squeeze(1), c.squeeze(1))
        return (output.transpose(0, 1) if self.batch_first else output), (h, c)

    def _forward_packed(
        self, input: PackedSequence, hx: State | None
    ) -> tuple[PackedSequence, State]:
        data, batch_sizes, order, back = input
        check_pack(data, batch_sizes)
        self._check_features(data)
        rows = int(batch_sizes[0])
        state = self._state(data, rows, hx, True)
        if hx is not None:
            state = self.permute_hidden(state, order)
        if int(batch_sizes[-1]) == rows:  # all of one length
            x = data.view(len(batch_sizes), rows, -1)
            output, (h, c) = self._run(x, state, hx is not None)
            output = output.flatten(0, 1)
            if output.requires_grad:  # a view takes no detach_(), and torch gives none here
                output = output.clone()
        else:
            output, (h, c) = self._run(data, state, hx is not None, batch_sizes)
        return PackedSequence(output, batch_sizes, order, back), self.permute_hidden((h, c), back)

    def _check_input(self, input: Tensor) -> None:
        if input.dim() not in (2, 3):
            raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {input.dim()}D instead")
        self._check_features(input)
        steps = input.size(1 if self.batch_first and input.dim() == 3 else 0)
        if steps == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")

    def _check_features(self, input: Tensor) -> None:
        weight = self._own("weight_ih_l0")
        if input.dtype != weight.dtype or input.device != weight.device:
            check_tensor("input", input, weight)
        if input.size(-1) != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, "
                f"got {input.size(-1)}"
            )

    def _shapes(self, batch: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Of h and c."""
        count = self.num_layers * (2 if self.bidirectional else 1)
        hidden = self.hidden_size
        return (count, batch, self.proj_size or hidden), (count, batch, hidden)

    def _state(self, x: Tensor, batch: int, hx: State | None, batched: bool) -> State:
        """h0 [num_layers * directions, B, proj_size or H] and c0 [..., H]."""
        shapes = self._shapes(batch)
        if hx is None:
            zeros = x.new_zeros(shapes[0])
            return zeros, x.new_zeros(shapes[1]) if self.proj_size else zeros
        h, c = two_states(hx)
        if not batched:
            if h.dim() != 2 or c.dim() != 2:
                raise RuntimeError(
                    "For unbatched 2-D input, hx and cx should also be 2-D but got "
                    f"({h.dim()}-D, {c.dim()}-D) tensors"
                )
            h, c = h.unsqueeze(1), c.unsqueeze(1)
        elif h.dim() != 3 or c.dim() != 3:
            raise RuntimeError(
                "For batched 3-D input, hx and cx should also be 3-D but got "
                f"({h.dim()}-D, {c.dim()}-D) tensors"
            )
        weight = self._own("weight_ih_l0")
        if not (h.shape == shapes[0] and c.shape == shapes[1] and h.dtype == c.dtype == weight.dtype
                and h.device == c.device == weight.device):  # fmt: skip
            check_states((h, c), shapes, weight)
        return h, c

    def get_expected_cell_size(
        self, input: Tensor, batch_sizes: Tensor | None
    ) -> tuple[int, int, int]:
        """Shape of c for an input, or for a pack's data with its batch_sizes."""
        if batch_sizes is not None:
            return self._shapes(int(batch_sizes[0]))[1]
        return self._shapes(input.size(0 if self.batch_first else 1))[1]

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Tensor | None) -> None:
        """Raises RuntimeError for an input or (h, c) of the wrong shape."""
        self.check_input(input, batch_sizes)
        h, c = hidden
        expected = (
            self.get_expected_hidden_size(input, batch_sizes),
            self.get_expected_cell_size(input, batch_sizes),
        )
        for place, (state, shape) in enumerate(zip((h, c), expected, strict=True)):
            self.check_hidden_size(state, shape, f"Expected hidden[{place}] size {{}}, got {{}}")

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """(h, c) with the rows in another order."""
        if permutation is None:
            return hx
        return hx[0].index_select(1, permutation), hx[1].index_select(1, permutation)

    def _run(
        self, x: Tensor, state: State, started: bool, batch_sizes: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """All layers and directions, time first; started: the state was given."""
        call = recorded_call(self)
        if call is None and self.num_layers == 1 and not (self.bidirectional or self.proj_size):
            found = self._wiring.infer(x, *state, self._weights("_l0"), batch_sizes)
            if found is not None:
                output, h, c = found
                return output, (h, c)
        ends: list[State] = []
        for layer in range(self.num_layers):
            outputs = []
            for suffix in ("", "_reverse")[: 2 if self.bidirectional else 1]:
                h0, c0 = state[0].select(0, len(ends)), state[1].select(0, len(ends))
                name = f"_l{layer}{suffix}"
                output, h, c = self._run_layer(name, x, h0, c0, started, batch_sizes, call)
                outputs.append(output)
                ends.append((h, c))
            x = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
            if self.dropout and layer < self.num_layers - 1:
                x = nn.functional.dropout(x, self.dropout, self.training)
        h_n, c_n = (torch.stack(s) for s in zip(*ends, strict=True))
        return x, (h_n, c_n)

    def _run_layer(
        self,
        suffix: str,
        x: Tensor,
        h0: Tensor,
        c0: Tensor,
        started: bool,
        batch_sizes: Tensor | None,
        call: Call | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        weights, reverse = self._weights(suffix), suffix.endswith("_reverse")
        parameters = cell_parameters(self, self.cell, suffix)
        run: Callable[..., tuple[Tensor, Tensor, Tensor]] = self._wiring.run
        if call is not None:
            run = partial(run, measures=call.measures(self.cell, suffix, c0, batch_sizes))
        if not self.proj_size and batch_sizes is None:
            return run(x, h0, c0, *weights, parameters, None, reverse)

        def whole(x: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            if not self.proj_size:
                return run(x, h0, c0, *weights, parameters, batch_sizes, reverse)
            return run_projected(
                run, x, h0, c0, weights, self._own(f"weight_hr{suffix}"),
                parameters, batch_sizes, reverse, started,
            )  # fmt: skip

        return without_autocast(whole, x, h0, c0, weights[0].dtype, bool(self.proj_size))

    def layer_weights(self, layer: int, suffix: str = "") -> tuple[Tensor, Tensor, Tensor | None]:
        """weight_ih [4H, I], weight_hh [4H, H] and the sum of both biases [4H] (None without) of
        one layer; suffix "_reverse" for the backward direction."""

        weight_ih, weight_hh, bias_ih, bias_hh = self._weights(f"_l{layer}{suffix}")
        return weight_ih, weight_hh, summed(bias_ih, bias_hh)

    def _weights(self, suffix: str) -> tuple[Any, ...]:
        own = self._own
        weights = own("weight_ih" + suffix), own("weight_hh" + suffix)
        if not self.bias:
            return (*weights, None, None)
        return (*weights, own("bias_ih" + suffix), own("bias_hh" + suffix))

    def _own(self, name: str) -> Tensor:
        """A parameter; parametrized ones are attributes of the class."""
        found = self._parameters.get(name)
        return getattr(self, name) if found is None else found

    @property
    def _suffixes(self) -> list[str]:
        ways = ("", "_reverse")[: 2 if self.bidirectional else 1]
        return [f"_l{layer}{way}" for layer in range(self.num_layers) for way in ways]

    def reset_parameters(self) -> None:
        """As torch.nn.LSTM; activations' parameters to the numbers of their formula."""
        super().reset_parameters()
        if "_wiring" in self.__dict__:  # not while the base class is made
            reset_cell_parameters(self, self.cell, self._suffixes)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        with_two_dimensions(self, self.cell, self._suffixes, state_dict, prefix)
        swapping = torch.__future__.get_swap_module_params_on_conversion()
        if swapping:  # torch swaps nothing that RNNBase refers to weakly
            self._flat_weight_refs = []
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if swapping:
            self._init_flat_weights()

    def extra_repr(self) -> str:
        """torch.nn.LSTM's, and the activations that differ from it."""
        slots = slot_summary(self.cell)
        return super().extra_repr() + (f", {slots}" if slots else "")
