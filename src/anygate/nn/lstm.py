"""LSTM and LSTMCell: torch.nn's, with an activation in each slot."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..cells.builtin import LSTM as LSTM_TYPE
from ..cells.builtin import lstm_type
from .design import ActivationLike, ActivationLikes, Trainable, Zoneout, make_design, make_designs
from .layers import RecurrentLayers
from .step import StepCell
from .widths import HiddenSize

__all__ = ["LSTM", "LSTMCell"]


class LSTM(RecurrentLayers):
    r"""torch.nn.LSTM with any activation in each of its five slots.

        i = input_gate(W_ii x + b_ii + W_hi h + b_hi)
        f = forget_gate(W_if x + b_if + W_hf h + b_hf)
        g = candidate(W_ig x + b_ig + W_hg h + b_hg)
        o = output_gate(W_io x + b_io + W_ho h + b_ho)
        c' = f * c + i * g
        h' = o * cell_output(c')

    Arguments input_size to bidirectional, proj_size, device and dtype are torch.nn.LSTM's.

    activation: candidate and cell_output together (default tanh).
    gate_activation: the three gates together (default sigmoid).
    input_gate, forget_gate, candidate, output_gate, cell_output: one slot; wins over the two.
    Each is a name ("relu"), a formula ("x*sigmoid(x)"), a SymPy expression, an Activation, or a
    known function or module of torch, Keras or JAX (nn.LeakyReLU(0.2), F.silu). A list has one for
    each layer, or for each layer and direction in the order in which torch stacks the states; a
    dict is {"forward": ..., "backward": ...}.
    peephole: the gates see the cell state (Gers & Schmidhuber 2000), by parameters
    input_gate_peephole_l0 and so on, [1, H].
    coupled: forget gate = 1 - input gate (Greff et al. 2017: CIFG); the forget gate's rows of the
    weights stay and are not used.
    clip: every activation's argument within [-clip, clip], as ONNX defines it.
    trainable: False; "shared" or "unit": the activations' own parameters (k of leaky_relu) are
    learnt, one number each for a layer and direction, or one for each hidden unit; or a dict such
    as {"candidate.k": "unit"}. They are parameters candidate_k_l0 and so on, [1, 1] or [1, H]: code
    that initialises every parameter in a loop runs, and initialises them too.
    layer_norm: each gate's product is normalised over the hidden units (Ba et al. 2016), and c
    before cell_output; gains and shifts are parameters.
    zoneout: the probability with which a unit keeps its old state in training (Krueger et al.
    2017): of h and c, or by state as {"h": 0.05, "c": 0.5}; in evaluation its mean.
    recurrent_dropout: the probability with which a unit of h is hidden from the products in
    training, by one mask for a whole sequence (Gal & Ghahramani 2016).
    engine: "auto", or an engine's name; `explain` says which one runs and why.

    Input [T, B, input_size] ([B, T, input_size] with batch_first, [T, input_size] unbatched, or a
    PackedSequence) and optionally (h0, c0), each [num_layers * directions, B, hidden_size] (h0:
    proj_size if that is given). Returns the output [T, B, directions * hidden_size] and (h, c), as
    torch.nn.LSTM does. hidden_size may be a list with a width for each layer: h and c, also those
    given, are then tuples with one [directions, B, width] for each layer.
    Parameters have torch.nn.LSTM's names and shapes, gates in the order i f g o, so weights load
    both ways. Where it computes something else, the state_dict says so in one more entry, and its
    weights load nowhere else without a word.

    Raises FormulaError for an activation that cannot be used, naming the slot; ValueError and
    RuntimeError for wrong shapes, as torch.nn.LSTM does.

    isinstance(module, torch.nn.LSTM) is False, so code that initialises layers by that question
    passes over this one (it is said once, where a line asks so): ask for (torch.nn.LSTM,
    anygate.LSTM). torch.ao.quantization.quantize_dynamic, which goes by classes, leaves it in its
    dtype.
    """

    _torch_type = LSTM_TYPE
    _stands_for = nn.LSTM

    def __init__(
        self,
        input_size: int,
        hidden_size: HiddenSize,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        activation: ActivationLikes | None = None,
        gate_activation: ActivationLikes | None = None,
        input_gate: ActivationLikes | None = None,
        forget_gate: ActivationLikes | None = None,
        candidate: ActivationLikes | None = None,
        output_gate: ActivationLikes | None = None,
        cell_output: ActivationLikes | None = None,
        peephole: bool = False,
        coupled: bool = False,
        clip: float | None = None,
        trainable: Trainable = False,
        layer_norm: bool = False,
        zoneout: Zoneout = 0.0,
        recurrent_dropout: float = 0.0,
        engine: str = "auto",
    ) -> None:
        choices = {
            "activation": activation,
            "gate_activation": gate_activation,
            "input_gate": input_gate,
            "forget_gate": forget_gate,
            "candidate": candidate,
            "output_gate": output_gate,
            "cell_output": cell_output,
        }
        options: dict[str, Any] = {
            "clip": clip,
            "trainable": trainable,
            "layer_norm": layer_norm,
            "zoneout": zoneout,
            "recurrent_dropout": recurrent_dropout,
            "engine": engine,
        }
        designs = make_designs(
            lstm_type(peephole, coupled), choices, num_layers, bidirectional, **options
        )
        if proj_size and not designs[0].projectable:
            raise ValueError(
                "proj_size cannot be had with zoneout of h or recurrent_dropout, which need h "
                "before the projection"
            )
        options = {"peephole": peephole, "coupled": coupled, **options}
        sizes = input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        super().__init__("LSTM", designs, options, *sizes, proj_size, device=device, dtype=dtype)


class LSTMCell(StepCell):
    """torch.nn.LSTMCell with any activation in each of its five slots.

    One time step: input [B, input_size] or [input_size], state (h, c) each [B, hidden_size] or
    [hidden_size]; returns (h, c). Equations and activation arguments as in `LSTM`; parameters
    have torch.nn.LSTMCell's names and shapes.
    """

    _torch_type = LSTM_TYPE
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
        layer_norm: bool = False,
        zoneout: Zoneout = 0.0,
        engine: str = "auto",
    ) -> None:
        choices = {
            "activation": activation,
            "gate_activation": gate_activation,
            "input_gate": input_gate,
            "forget_gate": forget_gate,
            "candidate": candidate,
            "output_gate": output_gate,
            "cell_output": cell_output,
        }
        options: dict[str, Any] = {
            "clip": clip,
            "trainable": trainable,
            "layer_norm": layer_norm,
            "zoneout": zoneout,
            "engine": engine,
        }
        design = make_design(lstm_type(peephole, coupled), choices, **options)
        options = {"peephole": peephole, "coupled": coupled, **options}
        super().__init__(design, options, input_size, hidden_size, bias, device, dtype)
