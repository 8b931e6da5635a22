"""lengths=, mask= and reset=: against a loop over rows and steps, in every engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import anygate
from anygate.engines import protocol

WIDE = torch.float64
KINDS = {"LSTM": anygate.LSTM, "GRU": anygate.GRU, "RNN": anygate.RNN}


def as_tuple(state: Any) -> tuple[Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


def one_direction(
    module: Any, x: Tensor, states: tuple[Tensor, ...], valid: Tensor, reset: Tensor, reverse: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Row by row and step by step through a module of one layer and one direction."""
    steps, batch = valid.shape
    output = x.new_zeros(steps, batch, module.hidden_size)
    rows = []
    for b in range(batch):
        now = tuple(s[:, b : b + 1] for s in states)
        for t in reversed(range(steps)) if reverse else range(steps):
            if not reverse and reset[t, b]:
                now = tuple(torch.zeros_like(s) for s in now)
            if valid[t, b]:
                hx = now if len(now) > 1 else now[0]
                y, after = module(x[t : t + 1, b : b + 1], hx)
                output = output.index_put((torch.tensor(t), torch.tensor(b)), y[0, 0])
                now = as_tuple(after)
            if reverse and reset[t, b] and t:
                now = tuple(torch.zeros_like(s) for s in now)
        rows.append(now)
    return output, tuple(torch.cat(parts, 1) for parts in zip(*rows, strict=True))


def by_loop(
    module: Any, x: Tensor, states: tuple[Tensor, ...], valid: Tensor, reset: Tensor
) -> list[Tensor]:
    """Output and final states of a module of one layer."""
    outputs, ends = [], []
    for k, suffix in enumerate(("", "_reverse")[: 2 if module.bidirectional else 1]):
        single = type(module)(
            module.input_size, module.hidden_size, dtype=x.dtype, engine=module._design.engine
        )
        own = {
            n.removesuffix(suffix): p
            for n, p in module.named_parameters()
            if n.endswith(f"l0{suffix}")
        }
        wrapped = Functional(single, own)
        y, end = one_direction(
            wrapped, x, tuple(s[k : k + 1] for s in states), valid, reset, bool(suffix)
        )
        outputs.append(y)
        ends.append(end)
    finals = (torch.cat(parts) for parts in zip(*ends, strict=True))
    return [torch.cat(outputs, -1), *finals]


class Functional:
    """A module called with other parameters, so that gradients reach them."""

    def __init__(self, module: Any, parameters: dict[str, Tensor]) -> None:
        self.module, self.parameters = module, parameters
        self.hidden_size = module.hidden_size

    def __call__(self, *arguments: Any) -> Any:
        return torch.func.functional_call(self.module, self.parameters, arguments)


@examples(25)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    engine=st.sampled_from([name for name in protocol.names() if name != "cuda"]),
    steps=st.integers(1, 6),
    batch=st.integers(1, 4),
    bidirectional=st.booleans(),
    batch_first=st.booleans(),
    how=st.sampled_from(["lengths", "mask", "reset", "mask and reset", "lengths and reset"]),
    seed=st.integers(0, 2**16),
)
def test_as_a_loop_over_rows(
    kind: str,
    engine: str,
    steps: int,
    batch: int,
    bidirectional: bool,
    batch_first: bool,
    how: str,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    module = KINDS[kind](
        3, 4, dtype=WIDE, bidirectional=bidirectional, batch_first=batch_first, engine=engine
    )
    ways = 2 if bidirectional else 1
    x = torch.randn(steps, batch, 3, dtype=WIDE, requires_grad=True)
    count = 2 if kind == "LSTM" else 1
    states = tuple(
        torch.randn(ways, batch, 4, dtype=WIDE, requires_grad=True) for _ in range(count)
    )
    valid = torch.ones(steps, batch, dtype=torch.bool)
    cuts = torch.zeros_like(valid)
    given_: dict[str, Tensor] = {}
    if "lengths" in how:
        given_["lengths"] = torch.randint(0, steps + 1, (batch,))
        valid = torch.arange(steps)[:, None] < given_["lengths"]
    if "mask" in how:
        given_["mask"] = valid = torch.rand(steps, batch) < 0.7
    if "reset" in how:
        given_["reset"] = cuts = torch.rand(steps, batch) < 0.3
    wanted = by_loop(module, x, states, valid, cuts)
    if batch_first:
        given_ = {k: v if k == "lengths" else v.T for k, v in given_.items()}
    hx = states if count > 1 else states[0]
    output, ends = module(x.transpose(0, 1) if batch_first else x, hx, **given_)
    found = [output.transpose(0, 1) if batch_first else output, *as_tuple(ends)]
    inputs = [x, *states, *module.parameters()]
    weights = [torch.randn_like(w) for w in wanted]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)
    grads = [
        torch.autograd.grad(
            sum((w * r).sum() for w, r in zip(weights, results, strict=True)),
            inputs,
            allow_unused=True,
            materialize_grads=True,
        )
        for results in (found, wanted)
    ]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


def test_lengths_are_as_a_packed_sequence() -> None:
    torch.manual_seed(0)
    module = anygate.LSTM(3, 4, 2, bidirectional=True, batch_first=True, dtype=WIDE)
    x, lengths = torch.randn(4, 6, 3, dtype=WIDE), torch.tensor([6, 1, 4, 2])
    rnn = torch.nn.utils.rnn
    packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    wanted, (h, c) = module(packed)
    wanted, _ = rnn.pad_packed_sequence(wanted, batch_first=True, total_length=6)
    found, (h2, c2) = module(x, lengths=lengths)
    for a, b in ((found, wanted), (h2, h), (c2, c)):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_a_batch_without_a_step_keeps_its_states() -> None:
    module = anygate.LSTM(3, 4, dtype=WIDE)
    hx = tuple(torch.randn(1, 2, 4, dtype=WIDE) for _ in range(2))
    output, (h, c), (hs, cs) = module(
        torch.randn(5, 2, 3, dtype=WIDE), hx, lengths=[0, 0], return_states=True
    )
    assert not output.any() and not hs.any() and hs.shape == cs.shape == (1, 5, 2, 4)
    assert torch.equal(h, hx[0]) and torch.equal(c, hx[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
def test_masks_are_booleans_or_ones_and_zeros(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module, x = anygate.GRU(3, 4), torch.randn(5, 2, 3)
    mask = torch.rand(5, 2) < 0.5
    assert torch.equal(module(x, mask=mask.to(dtype))[0], module(x, mask=mask)[0])
    assert torch.equal(module(x, mask=mask.tolist())[0], module(x, mask=mask)[0])


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({"lengths": [1]}, "one whole number for each of the 2 rows"),
        ({"lengths": [1.0, 2.0]}, "one whole number"),
        ({"lengths": [1, 6]}, "between 0 and the 5 steps"),
        ({"lengths": [-1, 2]}, "between 0 and the 5 steps"),
        ({"mask": torch.ones(2, 5)}, r"mask must be \[5, 2\]"),
        ({"reset": torch.full((5, 2), 0.5)}, "True and False"),
    ],
)
def test_what_does_not_fit_is_said(given_: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        anygate.LSTM(3, 4)(torch.randn(5, 2, 3), **given_)


def test_a_pack_and_one_row_take_none() -> None:
    module = anygate.LSTM(3, 4)
    packed = torch.nn.utils.rnn.pack_sequence([torch.randn(2, 3)])
    with pytest.raises(ValueError, match="holds its lengths"):
        module(packed, lengths=[2])
    with pytest.raises(ValueError, match="for a batch"):
        module(torch.randn(5, 3), reset=torch.zeros(5))
