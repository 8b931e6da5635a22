"""Layers of different widths (hidden_size as a list): as a stack of single layers, and their states
as one tensor for each layer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import anygate

INPUT, WIDTHS, T, B = 3, [5, 2, 6], 7, 4
LEAKY = anygate.CellType(
    "leaky",
    products=("z",),
    states=("h",),
    slots={"candidate": "tanh"},
    lines="h = 0.9*h_before + 0.1*candidate(z)",
)


def make(kind: str, **options: Any) -> Any:
    options = {"num_layers": len(WIDTHS), "dtype": torch.float64, **options}
    if kind == "Recurrent":
        return anygate.Recurrent(LEAKY, INPUT, WIDTHS, **options)
    return getattr(anygate, kind)(INPUT, WIDTHS, **options)


def states_of(hx: Any) -> tuple[Any, ...]:
    """For each state of the cell, its tensors for the layers."""
    return hx if isinstance(hx[0], tuple) else (hx,)


def stacked(module: Any, x: Tensor, hx: Any) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """Output and final states by single layers one after the other."""
    ends = []
    for layer, width in enumerate(module.hidden_sizes):
        kind = type(module)
        sizes = (x.shape[-1], width)
        options = {"bidirectional": module.bidirectional, "dtype": torch.float64}
        own = (
            kind(LEAKY, *sizes, **options) if kind is anygate.Recurrent else kind(*sizes, **options)
        )
        state = {
            f"{name.replace('_l' + str(layer), '_l0')}": value
            for name, value in module.state_dict().items()
            if f"_l{layer}" in name
        }
        own.load_state_dict(state, strict=False)
        start = tuple(s[layer] for s in states_of(hx))
        x, end = own(x, start if len(start) > 1 else start[0])
        ends.append(end if isinstance(end, tuple) else (end,))
    return x, ends


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "Recurrent"])
def test_as_single_layers_one_after_the_other(kind: str, bidirectional: bool) -> None:
    module = make(kind, bidirectional=bidirectional)
    ways = 1 + bidirectional
    assert module.hidden_size == 6 and module.hidden_sizes == (5, 2, 6)
    assert module.weight_ih_l2.shape[1] == 2 * ways and module.weight_hh_l1.shape[1] == 2
    x = torch.randn(T, B, INPUT, dtype=torch.float64)
    count = len(module._design.base.states)
    each = tuple(tuple(torch.randn(ways, B, w).double() for w in WIDTHS) for _ in range(count))
    hx = each if count > 1 else each[0]
    output, end = module(x, hx)
    expected, ends = stacked(module, x, hx)
    torch.testing.assert_close(output, expected)
    for place, state in enumerate(states_of(end)):
        assert [tuple(s.shape) for s in state] == [(ways, B, w) for w in WIDTHS]
        for layer, own in enumerate(state):
            torch.testing.assert_close(own, ends[layer][place])


def test_every_form_of_input() -> None:
    """Packed, unbatched, batch first, with lengths and without a state are one computation."""
    module = make("LSTM", bidirectional=True)
    first = make("LSTM", bidirectional=True, batch_first=True)
    first.load_state_dict(module.state_dict())
    x, lengths = torch.randn(T, B, INPUT, dtype=torch.float64), torch.tensor([7, 2, 5, 1])
    output, (h, c) = module(x, lengths=lengths)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    other, (h_packed, c_packed) = module(packed)
    torch.testing.assert_close(nn.utils.rnn.pad_packed_sequence(other)[0], output)
    torch.testing.assert_close((h_packed, c_packed), (h, c))
    turned, (h_first, _), kept = first(x.transpose(0, 1), lengths=lengths, return_states=True)
    torch.testing.assert_close(turned.transpose(0, 1), output)
    torch.testing.assert_close(h_first, h)
    assert [tuple(s.shape) for s in kept[1]] == [(2, B, T, w) for w in WIDTHS]
    single, (h_single, _) = module(
        x[:2, 1], (tuple(s[:, 1] * 0 for s in h), tuple(s[:, 1] * 0 for s in c))
    )
    torch.testing.assert_close(single, output[:2, 1])
    torch.testing.assert_close(h_single, tuple(s[:, 1] for s in h))


def test_training_and_its_surroundings() -> None:
    """Gradients reach every parameter; it is copied, saved, described and initialised."""
    module = anygate.LSTM(
        INPUT,
        WIDTHS,
        3,
        dropout=0.2,
        peephole=True,
        trainable="unit",
        activation="leaky_relu(k=0.1)",
    )
    assert repr(module).startswith("LSTM(3, [5, 2, 6], num_layers=3, dropout=0.2, activation=leaky")
    assert module.candidate_k_l1.shape == (1, 2) and module.input_gate_peephole_l2.shape == (1, 6)
    for layer, width in enumerate(WIDTHS):
        assert getattr(module, f"weight_hh_l{layer}").abs().max() <= width**-0.5
    x = torch.randn(T, B, INPUT)
    module(x)[0].sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.any()) or "_k_" in name  # no unit may have been below 0
    module.eval()
    expected = module(x)[0]
    anygate.nn.init.chrono_(module, 20)
    assert not torch.equal(module(x)[0], expected)
    for again in (
        copy.deepcopy(module),
        anygate.build(anygate.config(module)["modules"][""]).eval(),
    ):
        again.load_state_dict(module.state_dict())
        torch.testing.assert_close(again(x)[0], module(x)[0])
    anygate.swap(module, "relu", trainable=False)
    assert module.hidden_sizes == (5, 2, 6) and "relu" in repr(module)


def test_what_it_refuses() -> None:
    with pytest.raises(
        ValueError, match="hidden_size has 2 widths, one for each layer, and num_la"
    ):
        anygate.LSTM(4, [5, 6])
    with pytest.raises(ValueError, match="proj_size makes all layers equally wide"):
        anygate.LSTM(4, [5, 6], 2, proj_size=2)
    with pytest.raises(ValueError, match="widths are whole numbers from 1, not 0"):
        anygate.GRU(4, [5, 0], 2)
    module = anygate.LSTM(4, [5, 6], 2)
    with pytest.raises(ValueError, match=r"torch.nn.LSTM has one width in all layers"):
        anygate.swap(module, to=nn)
    zeros = torch.zeros(2, 1, 6)
    with pytest.raises(TypeError, match="the state h and c is a tuple of 2 tensors, one for each"):
        module(torch.zeros(3, 1, 4), (zeros, zeros))
    both = (torch.zeros(1, 1, 5), torch.zeros(1, 1, 5))
    with pytest.raises(
        RuntimeError, match=r"Expected hidden\[0\] size \(1, 1, 6\), got \(1, 1, 5\)"
    ):
        module(torch.zeros(3, 1, 4), (both, both))


def test_a_list_of_equal_widths_is_one_number() -> None:
    module = anygate.LSTM(4, [5, 5], 2)
    assert module.hidden_size == 5 and module(torch.zeros(3, 2, 4))[1][0].shape == (2, 2, 5)
    nn.LSTM(4, 5, 2).load_state_dict(module.state_dict())
