"""LSTMCell: one step, with everything that torch.nn.LSTMCell does. Its refusals stand in
test_parity_errors.py, its dtypes under autocast in test_parity_dtypes.py."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, prune
from truth import ANYGATE, RELU, TORCH, B, H, I, Kind, _moved, mix, near, normal, rounding, step

Pair = tuple[Tensor, Tensor]


def results_of(
    run: Any, weights: dict[str, Tensor], x: Tensor, hx: Pair | None
) -> dict[str, Tensor]:
    """h, c and the gradients by x, h, c and the weights."""
    leaves = [t.detach().requires_grad_() for t in (x, *(hx or ()))]
    h, c = run(leaves[0], (leaves[1], leaves[2]) if hx else None)
    named = {"x": leaves[0]} | (dict(zip(("h0", "c0"), leaves[1:], strict=True)) if hx else {})
    named |= weights
    grads = torch.autograd.grad(mix({"h": h, "c": c}), list(named.values()))
    found = {f"grad {n}": g for n, g in zip(named, grads, strict=True)}
    return {"h": h.detach(), "c": c.detach()} | found


def truth_of(kind: Kind, cell: Any, x: Tensor, hx: Pair | None, change: Any) -> dict[str, Tensor]:
    own = {n: change(p.detach().double()).requires_grad_() for n, p in cell.named_parameters()}

    def run(x: Tensor, state: Pair | None) -> Pair:
        zeros = x.new_zeros(*x.shape[:-1], H)
        h, c = state or (zeros, zeros)
        after = step(
            own, torch.atleast_2d(x), torch.atleast_2d(h), torch.atleast_2d(c), kind.function
        )
        return tuple(s.view(h.shape) for s in after)  # type: ignore[return-value]

    given = None if hx is None else tuple(change(s.double()) for s in hx)
    return results_of(run, own, change(x.double()), given)  # type: ignore[arg-type]


def check(kind: Kind, cell: Any, x: Tensor, hx: Pair | None = None) -> dict[str, Tensor]:
    found = results_of(cell, dict(cell.named_parameters()), x, hx)
    truth, moved = (truth_of(kind, cell, x, hx, f) for f in (lambda t: t, _moved))
    near(found, truth, rounding(cell, 1, truth, moved))
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(B,), (1,), (17,), ()], ids=str)
def test_everything(any_lstm: Kind, batch: tuple[int, ...], bias: bool, dtype: torch.dtype) -> None:
    cell = any_lstm.cell(I, H, bias=bias, dtype=dtype)
    x, h, c = (normal(*batch, n, seed=s, dtype=dtype) for s, n in ((1, I), (2, H), (3, H)))
    for hx in (None, (h, c)):
        found = check(any_lstm, cell, x, hx)
        assert found["h"].shape == found["c"].shape == (*batch, H)
        assert {t.dtype for t in found.values()} == {dtype}


def test_a_loop_of_steps_is_the_layer(any_lstm: Kind) -> None:
    layer = any_lstm(I, H, dtype=torch.float64)
    cell = any_lstm.cell(I, H, dtype=torch.float64)
    cell.load_state_dict({n.removesuffix("_l0"): w for n, w in layer.state_dict().items()})
    x, hx, outputs = normal(7, B, I, seed=3), None, []
    for x_t in x:
        hx = cell(x_t, hx)
        outputs.append(hx[0])
    output, (h, c) = layer(x)
    for a, b in ((torch.stack(outputs), output), (hx[0], h[0]), (hx[1], c[0])):  # type: ignore[index]
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)
    torch.stack(outputs).square().sum().backward()
    output.square().sum().backward()
    for a, b in zip(cell.parameters(), layer.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-13)


def test_construction(lstm: Kind) -> None:
    cell = lstm.cell(4, 6, False, "cpu", torch.float64)
    assert isinstance(cell, nn.RNNCellBase)
    assert (cell.input_size, cell.hidden_size, cell.bias) == (4, 6, False)
    assert cell.bias_ih is None and cell.bias_hh is None
    assert {n: tuple(p.shape) for n, p in cell.named_parameters()} == {
        "weight_ih": (24, 4),
        "weight_hh": (24, 6),
    }
    assert list(lstm.cell(4, 6).state_dict()) == ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    assert repr(cell) == "LSTMCell(4, 6, bias=False)" and repr(lstm.cell(4, 6)) == "LSTMCell(4, 6)"


def test_weights(our_lstm: Kind) -> None:
    """The same seed gives torch's weights, and they load both ways: strictly where the cell is
    torch's, else without the entry that names the cell."""
    theirs, ours = TORCH.cell(I, H), our_lstm.cell(I, H)
    assert all(
        torch.equal(a, b) for a, b in zip(theirs.parameters(), ours.parameters(), strict=True)
    )
    for cell in (theirs, ours):
        torch.manual_seed(4)
        cell.reset_parameters()
        assert all(p.abs().max() <= 1 / math.sqrt(H) for p in cell.parameters())
    assert all(
        torch.equal(a, b) for a, b in zip(theirs.parameters(), ours.parameters(), strict=True)
    )
    other = TORCH.cell(I, H, seed=9)
    own = {k: v for k, v in ours.state_dict().items() if k != "_extra_state"}
    other.load_state_dict(own, strict=True)
    ours.load_state_dict(dict(other.state_dict()), strict=True)
    assert torch.equal(other.weight_hh, theirs.weight_hh)


def test_copies(any_lstm: Kind) -> None:
    cell, x = any_lstm.cell(I, H), normal(B, I, seed=1).float()
    h, c = cell(x)
    for other in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
        assert torch.equal(other(x)[0], h) and torch.equal(other(x)[1], c)
        with torch.no_grad():
            other.weight_ih.zero_()
        assert torch.equal(cell(x)[0], h) and not torch.equal(other(x)[0], h)


def test_empty_batch(lstm: Kind) -> None:
    cell = lstm.cell(I, H)
    h, c = cell(torch.zeros(0, I))
    assert h.shape == c.shape == (0, H)
    (h.sum() + c.sum()).backward()
    assert all((p.grad == 0).all() for p in cell.parameters())


@pytest.mark.parametrize("way", ["data", "no_grad", "optimizer"])
def test_changed_weights_are_seen(any_lstm: Kind, way: str) -> None:
    cell, x = any_lstm.cell(I, H, dtype=torch.float64), normal(B, I, seed=1)
    hx = (normal(B, H, seed=2), normal(B, H, seed=3))
    for _ in range(3):
        check(any_lstm, cell, x, hx)
        if way == "data":
            for p in cell.parameters():
                p.data.mul_(1.5)
        elif way == "no_grad":
            with torch.no_grad():
                for p in cell.parameters():
                    p.mul_(1.5)
        else:
            cell(x, hx)[0].sum().backward()
            torch.optim.SGD(cell.parameters(), lr=1.0).step()
            cell.zero_grad()
    check(any_lstm, cell, x, hx)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_derivatives(any_lstm: Kind) -> None:
    cell = any_lstm.cell(3, 6, dtype=torch.float64)
    names = [n for n, _ in cell.named_parameters()]

    def run(x: Tensor, h: Tensor, c: Tensor, *weights: Tensor) -> Any:
        return functional_call(cell, dict(zip(names, weights, strict=True)), (x, (h, c)))

    leaves = (normal(1, 3, seed=1), normal(1, 6, seed=2), normal(1, 6, seed=3))
    own = (p.detach().clone() for p in cell.parameters())
    given = tuple(t.requires_grad_() for t in (*leaves, *own))
    assert torch.autograd.gradcheck(run, given)  # element by element, by writes into .data
    assert torch.autograd.gradgradcheck(run, given, fast_mode=True)


def test_wrapped_weights(any_lstm: Kind) -> None:
    cell, x = any_lstm.cell(I, H, dtype=torch.float64), normal(B, I, seed=1)
    hx = (normal(B, H, seed=2), normal(B, H, seed=3))
    parametrizations.weight_norm(cell, "weight_hh")
    prune.l1_unstructured(cell, "weight_ih", 0.5)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    own = {n: getattr(cell, n) for n in names}
    for a, b in zip(cell(x, hx), step(own, x, *hx, any_lstm.function), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)
    cell(x, hx)[0].sum().backward()
    assert (cell.weight_ih_orig.grad[cell.weight_ih_mask == 0] == 0).all()
    assert cell.parametrizations.weight_hh.original0.grad is not None


def test_results_are_ones_own(lstm: Kind) -> None:
    cell, x = lstm.cell(I, H), normal(B, I, seed=1).float()
    with torch.no_grad():
        h, c = cell(x)
        kept = h.clone(), c.clone()
        again = cell(x, (h, c))
        again[0].zero_(), again[1].zero_()
    assert torch.equal(h, kept[0]) and torch.equal(c, kept[1])


def test_inference_and_frozen(any_lstm: Kind) -> None:
    cell, x = any_lstm.cell(I, H), normal(B, I, seed=1).float()
    truth = cell(x)[0].detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            h, _ = cell(x)
        assert not h.requires_grad
        torch.testing.assert_close(h.clone(), truth, rtol=0, atol=1e-6)
    cell.requires_grad_(False)
    x.requires_grad_()
    cell(x)[0].sum().backward()
    assert x.grad is not None and cell.weight_hh.grad is None


def test_the_truth_can_say_no() -> None:
    cell, x = ANYGATE.cell(I, H, dtype=torch.float64), normal(B, I, seed=1)
    with pytest.raises(AssertionError, match="is off by"):
        check(RELU, cell, x)
