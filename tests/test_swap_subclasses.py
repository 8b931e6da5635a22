"""swap of subclasses of torch's modules: their own code goes on working over anygate's."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import anygate

INPUT, H = 3, 4


class Flexible(nn.LSTM):
    """Takes lengths with zeros, as the one of pytorch-forecasting."""

    def __init__(self, *sizes: int, **options: Any) -> None:
        super().__init__(*sizes, **options)
        self.calls = 0

    def forward(self, x: Tensor, hx: Any = None, lengths: Any = None) -> Any:
        self.calls += 1
        if lengths is None:
            return super().forward(x, hx)
        if int(lengths.max()) == 0:
            return torch.zeros(*x.shape[:2], self.hidden_size), hx
        packed = nn.utils.rnn.pack_padded_sequence(
            x, lengths.clamp(min=1), batch_first=self.batch_first, enforce_sorted=False
        )
        output, (h, c) = super().forward(packed, hx)
        keep = (lengths > 0)[None, :, None]
        padded = nn.utils.rnn.pad_packed_sequence(output, batch_first=self.batch_first)[0]
        return padded, (h * keep, c * keep)

    def halves(self) -> int:
        return self.hidden_size // 2


class Deeper(Flexible):
    """A subclass of a subclass, which changes what comes out."""

    def forward(self, x: Tensor, hx: Any = None, lengths: Any = None) -> Any:
        output, state = super().forward(x, hx, lengths)
        return 2 * output, state


class Doubled(nn.GRUCell):
    def forward(self, input: Tensor, hx: Any = None) -> Tensor:
        return 2 * super().forward(input, hx)


class Leaky(nn.RNN):
    def forward(self, input: Tensor, hx: Any = None) -> Any:
        return super().forward(0.5 * input, hx)


class Renamed(nn.LSTM):
    """No code of its own but a name."""


class OwnAnygate(anygate.LSTM):
    def forward(self, input: Any, hx: Any = None, **rest: Any) -> Any:
        return super().forward(3 * input, hx, **rest)


@pytest.mark.parametrize("kind", [Flexible, Deeper])
def test_the_own_forward_runs_over_anygates(kind: type) -> None:
    """Lengths of its own, an attribute of its own, and back to the same outputs and class."""
    module: Any = kind(INPUT, H, batch_first=True)
    model = nn.ModuleDict({"rnn": module})
    x, lengths = torch.randn(3, 5, INPUT), torch.tensor([5, 0, 2])
    before = module(x, lengths=lengths)[0]
    parameters = [*module.parameters()]
    summary = anygate.swap(model)
    assert f"{kind.__name__} over torch.nn.LSTM(3, 4, batch_first=True) -> " in str(summary)
    assert type(module).__name__ == kind.__name__ and isinstance(module, (kind, anygate.LSTM))
    assert all(a is b for a, b in zip(parameters, module.parameters(), strict=True))
    torch.testing.assert_close(module(x, lengths=lengths)[0], before)
    assert module.calls == 2 and module.halves() == 2
    anygate.swap(model, "relu")
    plain = anygate.LSTM(INPUT, H, batch_first=True, activation="relu")
    plain.load_state_dict(module.state_dict())
    factor = 2 if kind is Deeper else 1
    torch.testing.assert_close(module(x)[0], factor * plain(x)[0])
    assert module.cell.slots["candidate"].label == "relu"
    anygate.swap(model, "tanh", to=nn)
    assert type(module) is kind and "_design" not in vars(module)
    torch.testing.assert_close(module(x, lengths=lengths)[0], before)


def test_the_other_families() -> None:
    cell, layer = Doubled(INPUT, H), Leaky(INPUT, H, nonlinearity="relu")
    model = nn.ModuleDict({"cell": cell, "layer": layer, "named": Renamed(INPUT, H)})
    x = torch.randn(6, 2, INPUT)
    before = cell(x[0]), layer(x)[0]
    anygate.swap(model)
    torch.testing.assert_close(cell(x[0]), before[0])
    torch.testing.assert_close(layer(x)[0], before[1])
    assert isinstance(model["named"], Renamed) and isinstance(model["named"], anygate.LSTM)
    anygate.swap(model, "softsign")
    assert not torch.allclose(layer(x)[0], before[1])


def test_a_subclass_of_anygates_keeps_its_class() -> None:
    module = OwnAnygate(INPUT, H)
    anygate.swap(module, "relu")
    assert type(module) is OwnAnygate and module.cell.slots["candidate"].label == "relu"
    with pytest.raises(ValueError, match=r"OwnAnygate is a subclass of anygate.LSTM, whose own"):
        anygate.swap(module, "tanh", to=nn)


def test_it_is_copied_saved_and_configured() -> None:
    """A class that lies in no module is made again by what it was made of."""
    module = Flexible(INPUT, H)
    anygate.swap(module, "relu", peephole=True)
    x = torch.randn(5, 2, INPUT)
    expected = module(x)[0]
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), again):
        assert type(other) is type(module)
        assert torch.equal(other(x)[0], expected)
    fresh = Flexible(INPUT, H)
    anygate.apply(fresh, anygate.config(module))
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(fresh(x)[0], expected) and isinstance(fresh, Flexible)


def test_with_a_parametrization() -> None:
    module = Flexible(INPUT, H)
    parametrizations.weight_norm(module, "weight_hh_l0")
    x, lengths = torch.randn(5, 3, INPUT), torch.tensor([5, 1, 2])
    before = module(x, lengths=lengths)[0]
    anygate.swap(module)
    torch.testing.assert_close(module(x, lengths=lengths)[0], before)
    assert isinstance(module, anygate.LSTM)
    anygate.swap(module, to=nn)
    torch.testing.assert_close(module(x, lengths=lengths)[0], before)
    assert not isinstance(module, anygate.LSTM)
