"""Packed sequences: each is computed as if it were alone, in whatever order it was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import (
    PackedSequence,
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    pad_sequence,
)
from truth import STATES, H, I, Kind, as_tuple, change, check, normal, states

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

LENGTHS: dict[str, list[int]] = {
    "sorted": [6, 4, 3, 1],
    "unsorted": [3, 6, 1, 4],
    "ties": [2, 5, 5, 2, 5],
    "all equal": [4, 4, 4],
    "one sequence": [5],
    "one step": [1],
    "one step each": [1, 1, 1],
    "longest last": [1, 1, 7],
    "many rows": [3, 9, 9, 1, 2, 9, 5, 4, 4, 8, 1],
}
BUILDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bidirectional": {"bidirectional": True},
    "deep": {"num_layers": 2, "bidirectional": True},
    "no bias": {"bias": False, "num_layers": 2},
    "projected": {"proj_size": 2},
    "deep projected": {"proj_size": 3, "num_layers": 2, "bidirectional": True},
}


def packer(lengths: list[int], batch_first: bool = False) -> Callable[[Tensor], PackedSequence]:
    def pack(padded: Tensor) -> PackedSequence:
        given = padded.transpose(0, 1) if batch_first else padded
        return pack_padded_sequence(given, lengths, batch_first, enforce_sorted=False)

    return pack


def padded(lengths: list[int], dtype: torch.dtype = torch.float64, inputs: int = I) -> Tensor:
    """[max length, B, I]; what lies beyond a sequence's end must not matter, so it is large."""
    x = normal(max(lengths), len(lengths), inputs, seed=3, dtype=dtype)
    beyond = torch.arange(len(x)).unsqueeze(1) >= torch.tensor(lengths)
    return torch.where(beyond.unsqueeze(-1), 1e3, x)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("build", BUILDS)
def test_everything(any_layer: Kind, build: str, lengths: str) -> None:
    """Outputs and gradients for x, h0, c0 and all weights; the state in the order of the batch."""
    module = any_layer(I, H, dtype=torch.float64, **BUILDS[build])
    x, sizes = padded(LENGTHS[lengths]), LENGTHS[lengths]
    for hx in (None, states(module, len(sizes))):
        check(any_layer, module, (x, packer(sizes)), hx, lengths=sizes)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("hidden", [6, 17])
def test_single_precision(any_layer: Kind, batch_first: bool, hidden: int) -> None:
    """batch_first says how a pack was made; the module's own batch_first does not concern it."""
    lengths = LENGTHS["many rows"]
    module = any_layer(I, hidden, 2, bidirectional=True, batch_first=batch_first)
    x, pack = padded(lengths, torch.float32), packer(lengths, batch_first)
    check(any_layer, module, (x, pack), states(module, len(lengths)), lengths=lengths)


@pytest.mark.parametrize("pick", [("output",), ("h",), ("c",)])
def test_only_some_results_are_used(any_layer: Kind, pick: tuple[str, ...]) -> None:
    lengths = LENGTHS["unsorted"]
    module = any_layer(I, H, 2, bidirectional=True, dtype=torch.float64)
    x, pack = padded(lengths), packer(lengths)
    pick = tuple(n for n in pick if n in ("output", *STATES[any_layer.family])) or ("output", "h")
    check(any_layer, module, (x, pack), states(module, 4), lengths=lengths, pick=pick)


def test_sorted_by_the_user(any_layer: Kind) -> None:
    """enforce_sorted=True: there is no order to undo."""
    lengths = LENGTHS["sorted"]
    module = any_layer(I, H, bidirectional=True, dtype=torch.float64)
    pack = lambda t: pack_padded_sequence(t, lengths)  # noqa: E731
    check(any_layer, module, (padded(lengths), pack), states(module, 4), lengths=lengths)
    output, _ = module(pack(padded(lengths)))
    assert output.sorted_indices is None and output.unsorted_indices is None


def test_pack_of_separate_sequences(any_layer: Kind) -> None:
    lengths = [2, 5, 1]
    module = any_layer(I, H, 2, dtype=torch.float64)

    def pack(x: Tensor) -> PackedSequence:
        return pack_sequence([x[:n, b] for b, n in enumerate(lengths)], enforce_sorted=False)

    check(any_layer, module, (padded(lengths), pack), states(module, 3), lengths=lengths)


def test_pack_made_by_hand(any_layer: Kind) -> None:
    """From data and batch_sizes alone."""
    module = any_layer(I, H, dtype=torch.float64)
    lengths = [3, 2, 2]

    def pack(x: Tensor) -> PackedSequence:
        rows = torch.cat([x[0, :3], x[1, :3], x[2, :1]])
        return PackedSequence(rows, torch.tensor([3, 3, 1]))

    check(any_layer, module, (padded(lengths), pack), states(module, 3), lengths=lengths)


@pytest.mark.parametrize("lengths", [[4, 4, 4], [2, 4, 1]], ids=str)
def test_data_in_another_layout(any_layer: Kind, lengths: list[int]) -> None:
    """Data that went through a slice or a transpose on its way into the pack."""
    module = any_layer(I, H, bidirectional=True, dtype=torch.float64)

    def pack(x: Tensor) -> PackedSequence:
        data, *rest = packer(lengths)(torch.cat([x, 2 * x], -1))
        strided = data.t().contiguous().t()[:, :I]
        assert not strided.is_contiguous()
        return PackedSequence(strided, *rest)

    check(any_layer, module, (padded(lengths), pack), states(module, 3), lengths=lengths)


# ---- what comes out -------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", LENGTHS)
def test_fields(lstm: Kind, lengths: str) -> None:
    module = lstm(I, H, 2, bidirectional=True, dtype=torch.float64)
    x, sizes = padded(LENGTHS[lengths]), LENGTHS[lengths]
    packed = packer(sizes)(x)
    output, (h, c) = module(packed)
    assert type(output) is PackedSequence
    assert output.data.shape == (sum(sizes), 2 * H)
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(output, name), getattr(packed, name)), name
    assert h.shape == c.shape == (4, len(sizes), H)
    back, told = pad_packed_sequence(output)
    assert told.tolist() == sizes
    for b, n in enumerate(sizes):
        assert torch.equal(h[2, b], back[n - 1, b, :H]) and torch.equal(h[3, b], back[0, b, H:])
        assert (back[n:, b] == 0).all()
    data, *rest = output  # it is a tuple, and can be used so
    assert PackedSequence(data, *rest).is_cuda is False


def test_each_sequence_as_if_alone(any_layer: Kind) -> None:
    lengths = LENGTHS["many rows"]
    module = any_layer(I, H, 2, bidirectional=True, dtype=torch.float64)
    x, hx = padded(lengths), states(module, len(lengths))
    output, ends = module(packer(lengths)(x), hx)
    back, _ = pad_packed_sequence(output)
    for b, n in enumerate(lengths):
        own = change(hx, lambda s, b=b: s[:, b].contiguous())
        alone, after = module(x[:n, b], own)
        pairs = [(s1, s[:, b]) for s1, s in zip(as_tuple(after), as_tuple(ends), strict=True)]
        for one, both in ((alone, back[:n, b]), *pairs):
            torch.testing.assert_close(one, both, rtol=1e-13, atol=1e-14)


def test_equal_lengths_are_the_padded_run(any_layer: Kind) -> None:
    module, x = any_layer(I, H, 2, bidirectional=True), padded([4] * 3, torch.float32)
    output, ends = module(pack_padded_sequence(x, [4] * 3))
    expected, wanted = module(x)
    pairs = zip(as_tuple(ends), as_tuple(wanted), strict=True)
    for a, b in ((output.data.view_as(expected), expected), *pairs):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_through_two_modules(layer: Kind) -> None:
    """A pack goes from one layer to the next as it is."""
    first, second = layer(I, H, dtype=torch.float64), layer(H, H, seed=1, dtype=torch.float64)
    both = layer(I, H, 2, dtype=torch.float64)
    both.load_state_dict(
        first.state_dict() | {n.replace("l0", "l1"): w for n, w in second.state_dict().items()}
    )
    packed = packer([3, 5, 1])(padded([3, 5, 1]))
    between, _ = first(packed)
    torch.testing.assert_close(second(between)[0].data, both(packed)[0].data, rtol=0, atol=1e-14)


# ---- gradients and modes --------------------------------------------------------------------


def test_gradient_by_the_data_itself(layer: Kind) -> None:
    module, lengths = layer(I, H, dtype=torch.float64), [2, 4]
    x = padded(lengths).requires_grad_()
    packed = packer(lengths)(x.detach())
    data = packed.data.clone().requires_grad_()
    module(PackedSequence(data, *packed[1:]))[0].data.square().sum().backward()
    pad_packed_sequence(module(packer(lengths)(x))[0])[0].square().sum().backward()
    again = packer(lengths)(x.grad)  # type: ignore[arg-type]
    torch.testing.assert_close(data.grad, again.data, rtol=1e-13, atol=1e-14)
    assert (x.grad[2:, 0] == 0).all()  # type: ignore[index]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_second_derivatives(any_layer: Kind) -> None:
    module, lengths = any_layer(2, 3, bidirectional=True, dtype=torch.float64), [2, 3, 1]
    hx = as_tuple(change(states(module, 3), Tensor.requires_grad_))

    def run(x: Tensor, *hx: Tensor) -> Any:
        output, ends = module(packer(lengths)(x), hx if len(hx) > 1 else hx[0])
        return output.data, *as_tuple(ends)

    x = padded(lengths, inputs=2).clamp(-3, 3).requires_grad_()
    assert torch.autograd.gradcheck(run, (x, *hx), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, *hx), fast_mode=True)


def test_without_gradients(any_layer: Kind) -> None:
    module, lengths = any_layer(I, H, 2, bidirectional=True), LENGTHS["unsorted"]
    packed = packer(lengths)(padded(lengths, torch.float32))
    truth = module(packed)[0].data.detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            output, ends = module(packed)
        assert not any(t.requires_grad for t in (output.data, *as_tuple(ends)))
        torch.testing.assert_close(output.data.clone(), truth, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types(any_layer: Kind, dtype: torch.dtype) -> None:
    lengths = LENGTHS["unsorted"]
    module = any_layer(I, H, bidirectional=True, dtype=dtype)
    x = padded(lengths, dtype).clamp(-3, 3)
    results = check(any_layer, module, (x, packer(lengths)), lengths=lengths)
    assert results["output"].dtype == results["grad x"].dtype == dtype


def test_training_on_packs(any_lstm: Kind) -> None:
    """The loss falls, with another pack at each step."""
    module = any_lstm(I, H, 2)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    losses = []
    for turn in range(40):
        lengths = torch.randint(1, 7, (5,), generator=torch.Generator().manual_seed(turn)).tolist()
        rows = [normal(n, I, seed=turn * 5 + b).float() for b, n in enumerate(lengths)]
        output, _ = module(pack_sequence(rows, enforce_sorted=False))
        back, _ = pad_packed_sequence(output)
        target = pad_sequence(rows).clamp(-0.5, 0.5)
        loss = (back[..., :I] - target).square().sum() / sum(lengths)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])
