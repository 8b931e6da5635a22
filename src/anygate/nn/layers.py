"""RecurrentLayers: layers and directions of any cell, as torch.nn.RNNBase has them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ..cells import Cell, CellType
from ..engines.protocol import Choice, Layer, Result
from ..engines.whole import writes_down
from .capture import ACTIVE, Marks, Place, read_marks
from .checkpoint import check_cell, save_cell
from .checks import autocasting, check_pack, check_tensor
from .design import Design, summary
from .notices import Notices, leaf
from .parameters import (
    cell_vectors,
    register_parameters,
    reset_cell_parameters,
    with_two_dimensions,
)
from .projection import run_projected
from .recorder import Call, recorded_call
from .run import Autocast, explain, run_autocast, run_layer, run_sides
from .sequences import Segments, read_steps
from .shortcuts import layers_shortcut, shortcut
from .states import LayerStates, permuted
from .widths import (
    HiddenSize,
    State,
    each,
    joined,
    part,
    read_widths,
    reset_uneven,
    size_weights,
    suffixes_of,
    width_of,
)

__all__ = ["RecurrentLayers"]

States = tuple[Tensor, ...]
"""The states of one layer and direction, [B, H]."""


class RecurrentLayers(Notices, LayerStates):
    """Layers of one cell, forward and backward in time: what LSTM, GRU, RNN and Recurrent share.

    A torch.nn.RNNBase, but no nn.LSTM, nn.GRU or nn.RNN: torch.compile refuses every instance of
    those that it does not know.
    """

    _torch_type: CellType
    """The cell whose activations torch's module of this name has."""
    _design: Design
    _autocast: ClassVar[Autocast] = "padded"

    def __init__(
        self,
        mode: str,
        designs: tuple[Design, ...],
        options: dict[str, Any],
        input_size: int,
        hidden_size: HiddenSize,
        num_layers: int,
        *others: Any,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        """others: torch.nn.RNNBase's arguments from bias to proj_size, in its order."""
        proj_size = others[4] if len(others) > 4 else 0
        widths = read_widths(hidden_size, num_layers, proj_size)
        width = widths[-1] if widths else cast(int, hidden_size)
        begin: Any = super().__init__
        begin(mode, input_size, width, num_layers, *others, device=device, dtype=dtype)
        suffixes = suffixes_of(self)
        every = designs if len(designs) > 1 else designs * len(suffixes)
        self._design = designs[0]
        """Of the first layer; `base` and the noise are those of all."""
        self._designs = dict(zip(suffixes, every, strict=True))
        self._options = options
        if len(set(widths)) > 1:
            self._widths = widths
        self._size_weights(device, dtype)
        register_parameters(self, self._designs, device=device, dtype=dtype)

    def _size_weights(self, device: Any, dtype: Any) -> None:
        """Give the weights the rows of all products that the cell has, and each layer's width,
        where torch's mode and its one width have other numbers."""
        changed = False
        for suffix, design in self._designs.items():
            for name, shape in size_weights(self, suffix, design.base.products).items():
                old = self._parameters.get(name)
                if old is not None and old.shape != shape:
                    empty = torch.empty(shape, device=device, dtype=dtype)
                    setattr(self, name, nn.Parameter(empty))
                    changed = True
        if changed:
            self._draw_weights()

    # ---- what it is ----------------------------------------------------------------------------

    @property
    def cell(self) -> Cell:
        """The equations and the activations in the slots (without noise: those of evaluation).
        Raises ValueError where layers or directions differ; see `cells`."""
        if any(design.key != self._design.key for design in self._designs.values()):
            raise ValueError(
                "the layers have different activations, so there is no one cell; .cells has that "
                "of each layer and direction"
            )
        return self._design.cell

    def __dir__(self) -> list[str]:
        """Without `cell` where there is no one cell: torch.jit asks for everything named here."""
        names: list[str] = super().__dir__()  # type: ignore[no-untyped-call]
        designs = getattr(self, "_designs", {})  # none while it is being made
        same = len({design.key for design in designs.values()}) <= 1
        return names if same else [name for name in names if name != "cell"]

    @property
    def cells(self) -> dict[str, Cell]:
        """The cell of each layer and direction, by what its parameters' names end with: "l0",
        "l0_reverse" ..."""
        return {suffix[1:]: design.cell for suffix, design in self._designs.items()}

    def explain(self, input: Tensor) -> Choice:
        """The engine that `forward(input)` will use and, for each faster one, why it does not."""
        batch = 1 if input.dim() == 2 else input.shape[0 if self.batch_first else 1]
        weight = self._own("weight_ih_l0")
        return explain(self._design, self.training, input, weight, (self.hidden_sizes[0], batch))

    def extra_repr(self) -> str:
        """torch's, and what differs from torch's module."""
        found = summary([*self._designs.values()], self._torch_type, self._options)
        text = super().extra_repr()
        if "_widths" in self.__dict__:
            text = text.replace(f", {self.hidden_size}", f", {[*self.hidden_sizes]}", 1)
        return text + (f", {found}" if found else "")

    def _repr_html_(self) -> str:
        """For notebooks: the module, and the activation in each slot as a formula."""
        rows = "".join(
            f"<tr><td>{slot}</td><td>{escape(a.label)}</td><td>{escape(a.formula)}</td></tr>"
            for slot, a in self.cell.slots.items()
        )
        head = "<tr><th>slot</th><th>activation</th><th>f(x)</th></tr>"
        named = f"<p><code>{escape(repr(self))}</code></p>"
        return f"{named}<table><thead>{head}</thead><tbody>{rows}</tbody></table>"

    def reset_parameters(self) -> None:
        """As torch's module; activations' parameters to the numbers of their formula."""
        self._draw_weights()
        if "_designs" in self.__dict__:  # not while the base class is made
            reset_cell_parameters(self, self._designs)

    def _draw_weights(self) -> None:
        if "_widths" in self.__dict__:
            reset_uneven(self, suffixes_of(self))
        else:
            nn.RNNBase.reset_parameters(self)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        save_cell(self, destination, prefix)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        with_two_dimensions(self, self._designs, state_dict, prefix)
        swapping = torch.__future__.get_swap_module_params_on_conversion()
        if swapping:  # torch swaps nothing that RNNBase refers to weakly
            self._flat_weight_refs: list[Any] = []
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if swapping:
            self._init_flat_weights()
        check_cell(self, state_dict, prefix, "version" in rest[0], *rest[3:])

    def flatten_parameters(self) -> None:
        """Nothing: cuDNN's one block of weights is not what the engines read."""

    # ---- forward -------------------------------------------------------------------------------

    def forward(
        self,
        input: Any,
        hx: Any = None,
        *,
        lengths: Any = None,
        mask: Any = None,
        reset: Any = None,
        return_states: bool = False,
    ) -> Any:
        """The output and the state after the last step; see the class for shapes.

        lengths [B]: row b has lengths[b] steps (0 is allowed); what comes after is not computed.
        mask [T, B] ([B, T] with batch_first): True where a step is valid; others are passed over,
        the state stays. reset, of the same shape: True where a new sequence begins, so that the
        state before the step is zero, as at the first step of an episode. Outputs of steps that are
        not valid are zeros.
        return_states: also return every state at every time step of every layer, as hx has it with
        a time axis: [num_layers * directions, T, B, H] ([..., B, T, H] with batch_first,
        [..., T, H] unbatched, [..., N, H] packed).
        """
        plain = lengths is None and mask is None and reset is None and not return_states
        if plain and not torch.compiler.is_compiling():
            found = shortcut(self, input, hx, layers_shortcut)
            if found is not None:
                return found
        if isinstance(input, PackedSequence):
            if not (lengths is None and mask is None and reset is None):
                raise ValueError(
                    "a PackedSequence holds its lengths; pad it (pad_packed_sequence) to give "
                    "lengths=, mask= or reset="
                )
            return self._forward_packed(input, hx, return_states)
        if not isinstance(input, Tensor):
            given = {"lengths": lengths, "mask": mask, "reset": reset}
            given = {name: value for name, value in given.items() if value is not None}
            given |= {"return_states": True} if return_states else {}
            call = leaf(self, (input,) if hx is None else (input, hx), given)
            if call is not None:
                return call
        self._check_input(input)
        batched = input.dim() == 3
        x = input if batched else input.unsqueeze(1)
        if batched and self.batch_first:
            x = x.transpose(0, 1)
        segments: Segments | Marks | None = None
        if not (lengths is None and mask is None and reset is None):
            if not batched:
                raise ValueError("lengths=, mask= and reset= are for a batch: input [T, B, I]")
            read = read_marks if ACTIVE else read_steps
            segments = read(x, lengths, mask, reset, self.batch_first)
        states = self._states(x, x.size(1), hx, batched)
        output, ends, kept = self._run(x, states, hx is not None, None, segments, return_states)
        if not batched:
            output, ends = output.squeeze(1), tuple(each(s, lambda t: t.squeeze(1)) for s in ends)
            kept = tuple(each(s, lambda t: t.squeeze(2)) for s in kept)
        elif self.batch_first:
            output = output.transpose(0, 1)
            kept = tuple(each(s, lambda t: t.transpose(1, 2)) for s in kept)
        return self._results(output, ends, kept, return_states)

    def _forward_packed(self, input: PackedSequence, hx: Any, return_states: bool) -> Any:
        if ACTIVE:
            raise RuntimeError(
                "a PackedSequence cannot be exported: its sizes would be fixed to those of the "
                f"example; give {self._name()} the padded batch with lengths="
            )
        data, batch_sizes, order, back = input
        check_pack(data, batch_sizes)
        self._check_features(data)
        rows = int(batch_sizes[0])
        states = self._states(data, rows, hx, True)
        if hx is not None:
            states = tuple(permuted(state, order) for state in states)
        if int(batch_sizes[-1]) == rows:  # all of one length
            x = data.view(len(batch_sizes), rows, -1)
            output, ends, kept = self._run(x, states, hx is not None, None, None, return_states)
            output = output.flatten(0, 1)
            kept = tuple(each(s, lambda t: t.flatten(1, 2)) for s in kept)
            if output.requires_grad:  # a view takes no detach_(), and torch gives none here
                output = output.clone()
        else:
            output, ends, kept = self._run(
                data, states, hx is not None, batch_sizes, None, return_states
            )
        packed = PackedSequence(output, batch_sizes, order, back)
        ends = tuple(permuted(state, back) for state in ends)
        return self._results(packed, ends, kept, return_states)

    def _results(
        self, output: Any, ends: tuple[State, ...], kept: tuple[State, ...], return_states: bool
    ) -> Any:
        def shown(states: tuple[State, ...]) -> Any:
            return states if len(states) > 1 else states[0]

        return (output, shown(ends), shown(kept)) if return_states else (output, shown(ends))

    def _check_input(self, input: Tensor) -> None:
        if input.dim() not in (2, 3):
            raise ValueError(
                f"{self._name()}: Expected input to be 2D or 3D, got {input.dim()}D instead"
            )
        self._check_features(input)
        steps = input.size(1 if self.batch_first and input.dim() == 3 else 0)
        if steps == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")

    def _name(self) -> str:
        return type(self).__name__

    def _check_features(self, input: Tensor) -> None:
        weight = self._own("weight_ih_l0")
        if input.dtype != weight.dtype or input.device != weight.device:
            check_tensor("input", input, weight)
        if input.size(-1) != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, "
                f"got {input.size(-1)}"
            )

    # ---- layers --------------------------------------------------------------------------------

    def _run(
        self,
        x: Tensor,
        states: tuple[State, ...],
        started: bool,
        batch_sizes: Tensor | None,
        segments: Segments | Marks | None,
        keep: bool,
    ) -> tuple[Tensor, tuple[State, ...], tuple[State, ...]]:
        """All layers and directions, time first: the output, the states after the last step, and
        each state at every time step if keep. started: the states were given."""
        call = recorded_call(self)
        noisy = self.training and self._design.noisy
        rare = self.proj_size or noisy or segments is not None or ACTIVE
        # On the CPU each family has a rule of its own under autocast.
        ruled = x.device.type == "cpu" and autocasting(x.device.type)
        followed = ruled or torch.compiler.is_compiling() or writes_down()
        both = self.bidirectional and not rare and not followed
        ends: list[States] = []
        kept: list[States] = []
        ways, every = 1 + self.bidirectional, suffixes_of(self)
        for number in range(self.num_layers):
            names = every[number * ways : (number + 1) * ways]
            own = [tuple(part(s, number, k, ways) for s in states) for k in range(ways)]
            designs = [self._designs[name] for name in names]
            if both and designs[0].key == designs[1].key:
                layers = [
                    self._layer(*pair, x, batch_sizes) for pair in zip(names, own, strict=True)
                ]
                pieces = None
                if call is not None:
                    cell = designs[0].cell
                    pieces = [
                        call.measures(cell, name, layer.states[-1], batch_sizes)
                        for name, layer in zip(names, layers, strict=True)
                    ]
                results = run_sides(designs[0], layers, keep, pieces)
            else:
                results = [
                    self._run_layer(name, x, start, started, batch_sizes, segments, keep, call)
                    for name, start in zip(names, own, strict=True)
                ]
            ends += [result.states for result in results]
            kept += [result.kept or () for result in results]
            outputs = [result.output for result in results]
            x = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
            if self.dropout and number < self.num_layers - 1:
                x = nn.functional.dropout(x, self.dropout, self.training)
        last = tuple(joined(parts, ways) for parts in zip(*ends, strict=True))
        return x, last, tuple(joined(parts, ways) for parts in zip(*kept, strict=True))

    def _run_layer(
        self,
        suffix: str,
        x: Tensor,
        states: States,
        started: bool,
        batch_sizes: Tensor | None,
        segments: Segments | Marks | None,
        keep: bool,
        call: Call | None,
    ) -> Result:
        design = self._designs[suffix]
        layer = whole = self._layer(suffix, states, x, batch_sizes)
        marks = segments if isinstance(segments, Marks) else None
        if isinstance(segments, Segments):
            layer = segments.pack(whole)
            if not len(layer.x):
                size = self.proj_size or width_of(self, suffix)
                return segments.nothing(whole, size, keep)
            started = True
        measures = None
        if call is not None:
            cell = design.training_cell if self.training else design.cell
            measures = call.measures(cell, suffix, layer.states[-1], layer.batch_sizes)
        run: Callable[[Layer], Result] = partial(
            run_layer,
            design,
            training=self.training,
            keep=keep,
            measures=measures,
            place=Place(self, suffix, marks, started),
        )
        if self.proj_size:
            weight_hr = self._own(f"weight_hr{suffix}")
            run = partial(run_projected, run, weight_hr=weight_hr, started=started, marks=marks)
        packed = layer.batch_sizes is not None
        result = run_autocast(run, layer, self._autocast, packed, bool(self.proj_size))
        return segments.unpack(whole, result) if isinstance(segments, Segments) else result

    def _layer(self, suffix: str, states: States, x: Tensor, batch_sizes: Tensor | None) -> Layer:
        vectors = cell_vectors(self, self._designs[suffix], suffix)
        reverse = suffix.endswith("_reverse")
        return Layer(x, states, *self._weights(suffix), vectors, None, batch_sizes, reverse)

    def _weights(self, suffix: str) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        own = self._own
        weights = own("weight_ih" + suffix), own("weight_hh" + suffix)
        if not self.bias:
            return (*weights, None, None)
        return (*weights, own("bias_ih" + suffix), own("bias_hh" + suffix))
