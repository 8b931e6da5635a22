"""Outputs, states and every gradient, over all ways to build the module and to call it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from truth import ANYGATE, FORMULA, RELU, TORCH, B, H, I, Kind, T, check, mix, normal, size, states

import anygate

# Triggered when torch itself has no oneDNN kernel for a projection.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

BUILDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no bias": {"bias": False},
    "bidirectional": {"bidirectional": True},
    "projected": {"proj_size": 2},
    "2 layers": {"num_layers": 2},
    "3 layers, bidirectional": {"num_layers": 3, "bidirectional": True},
    "2 layers, batch first, no bias": {"num_layers": 2, "batch_first": True, "bias": False},
    "batch first, bidirectional": {"batch_first": True, "bidirectional": True},
    "2 layers, bidirectional, projected": {
        "num_layers": 2, "bidirectional": True, "proj_size": 3, "batch_first": True,
    },
    "projected, no bias": {"proj_size": 2, "bias": False},
}  # fmt: skip
SHAPES = {"one of all": (1, 1, 1, 2), "one row": (7, 1, 3, 17), "rows": (3, 9, 2, 33)}
DTYPES = (torch.float32, torch.float64)


def input_for(module: Any, steps: int = T, batch: int = B, seed: int = 3) -> Tensor:
    shape = (batch, steps) if module.batch_first else (steps, batch)
    dtype = next(module.parameters()).dtype
    return normal(*shape, module.input_size, seed=seed, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("build", BUILDS)
def test_everything(any_lstm: Kind, build: str, dtype: torch.dtype) -> None:
    """With a state and without, batched and not."""
    module = any_lstm(I, H, dtype=dtype, **BUILDS[build])
    hx = states(module, B)
    for state in (None, hx):
        check(any_lstm, module, input_for(module), state)
    flat = normal(T, I, seed=4, dtype=dtype)
    for state in (None, (hx[0][:, 0], hx[1][:, 0])):
        check(any_lstm, module, flat, state)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_other_sizes(any_lstm: Kind, shape: str, dtype: torch.dtype) -> None:
    steps, batch, inputs, hidden = SHAPES[shape]
    module = any_lstm(inputs, hidden, 2, bidirectional=True, dtype=dtype)
    check(any_lstm, module, input_for(module, steps, batch), states(module, batch))


@pytest.mark.parametrize("kind", [RELU, FORMULA], ids=lambda k: k.name)
@pytest.mark.parametrize("build", ["3 layers, bidirectional", "projected", "no bias"])
def test_the_reference_engine_is_the_truth_too(kind: Kind, build: str) -> None:
    """The loop of this folder and the package's specification are two texts of one thing."""
    module = kind(I, H, engine="reference", dtype=torch.float64, **BUILDS[build])
    check(kind, module, input_for(module), states(module, B))
    fast = kind(I, H, dtype=torch.float64, **BUILDS[build])
    for a, b in zip(fast.parameters(), module.parameters(), strict=True):
        assert torch.equal(a, b)
    x, hx = input_for(module), states(module, B)
    bound = 64 * torch.finfo(torch.float64).eps
    assert size(fast(x, hx)[0] - module(x, hx)[0]) <= bound


def test_the_truth_can_say_no(any_lstm: Kind) -> None:
    """Other activations, a weight changed by a millionth, a gate exchanged: each is seen."""
    module = any_lstm(I, H, 2, dtype=torch.float64)
    x, hx = input_for(module), states(module, B)
    other = RELU if any_lstm is not RELU else TORCH
    with pytest.raises(AssertionError, match="is off by"):
        check(other, module, x, hx)
    spoilt = any_lstm(I, H, 2, dtype=torch.float64)

    class Spoilt(nn.Module):
        num_layers, bidirectional, batch_first, proj_size = 2, False, False, 0
        input_size, hidden_size = I, H

        def __init__(self) -> None:
            super().__init__()
            for name, p in module.named_parameters():
                self.register_parameter(name, p)

        def forward(self, *arguments: Any) -> Any:
            return spoilt(*arguments)

    with torch.no_grad():
        spoilt.weight_hh_l1[0, 0] *= 1 + 1e-6
    with pytest.raises(AssertionError, match="is off by"):
        check(any_lstm, Spoilt(), x, hx)


# ---- shapes and the order of states ---------------------------------------------------------


def test_order_of_the_states(lstm: Kind) -> None:
    """h is [layer 0 forward, layer 0 backward, layer 1 forward ...]; the last layer's are where
    its output ends: the forward direction at the last step, the backward one at the first."""
    module = lstm(I, H, 2, bidirectional=True)
    output, (h, _) = module(input_for(module))
    assert torch.equal(h[2], output[-1, :, :H])
    assert torch.equal(h[3], output[0, :, H:])
    first, (h_first, _) = module(input_for(module)[:, :1])  # rows do not mix
    torch.testing.assert_close(first, output[:, :1], rtol=0, atol=1e-6)
    torch.testing.assert_close(h_first, h[:, :1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("proj_size", [0, 2])
def test_shapes(lstm: Kind, batch_first: bool, bidirectional: bool, proj_size: int) -> None:
    module = lstm(
        I, H, 2, batch_first=batch_first, bidirectional=bidirectional, proj_size=proj_size
    )
    ways, wide = 1 + bidirectional, proj_size or H
    output, (h, c) = module(input_for(module))
    assert output.shape == ((B, T) if batch_first else (T, B)) + (ways * wide,)
    assert h.shape == (2 * ways, B, wide) and c.shape == (2 * ways, B, H)
    output, (h, c) = module(normal(T, I, seed=0, dtype=torch.float32))
    assert output.shape == (T, ways * wide)
    assert h.shape == (2 * ways, wide) and c.shape == (2 * ways, H)


def test_results_can_be_viewed(lstm: Kind) -> None:
    """`output.view(-1, H)` and `h.view(layers, 2, B, H)`, as the documentation and old code do."""
    module = lstm(I, H, 2, bidirectional=True)
    output, (h, c) = module(input_for(module))
    assert output.view(T * B, 2 * H).shape == (T * B, 2 * H)
    assert h.view(2, 2, B, H).shape == c.view(2, 2, B, H).shape
    assert output.view(T, B, 2, H).shape == (T, B, 2, H)
    assert isinstance(module(input_for(module)), tuple)


def test_no_result_is_another_ones_memory(lstm: Kind) -> None:
    """Writing into one result, or calling again, changes no other; nor does it change hx."""
    module = lstm(I, H, 2)
    with torch.no_grad():
        for steps in (1, T):
            x, hx = input_for(module, steps), states(module, B)
            before = [t.clone() for t in (x, *hx)]
            first, (h, c) = module(x, hx)
            kept = [t.clone() for t in (first, h, c)]
            second, (h2, c2) = module(x * 2, (h, c))
            assert all(torch.equal(a, b) for a, b in zip((first, h, c), kept, strict=True))
            second.zero_(), h2.zero_()
            assert c2.abs().sum() > 0
            first.zero_()
            assert torch.equal(h, kept[1]) and torch.equal(c, kept[2])
            assert all(torch.equal(a, b) for a, b in zip((x, *hx), before, strict=True))


@pytest.mark.parametrize("build", ["plain", "3 layers, bidirectional", "projected"])
def test_empty_batch(lstm: Kind, build: str) -> None:
    module = lstm(I, H, **BUILDS[build])
    x = input_for(module, T, 0).requires_grad_()
    output, (h, c) = module(x)
    wide = module.proj_size or H
    assert output.shape == (T, 0, wide * (1 + module.bidirectional))
    assert h.shape[1] == c.shape[1] == 0
    (output.sum() + h.sum() + c.sum()).backward()
    assert x.grad is not None and x.grad.shape == x.shape
    assert all(p.grad is not None and (p.grad == 0).all() for p in module.parameters())


# ---- which results and weights take part ----------------------------------------------------


@pytest.mark.parametrize("pick", [("output",), ("h",), ("c",), ("h", "c")])
@pytest.mark.parametrize("build", ["2 layers", "bidirectional", "projected"])
def test_only_some_results_are_used(any_lstm: Kind, pick: tuple[str, ...], build: str) -> None:
    module = any_lstm(I, H, dtype=torch.float64, **BUILDS[build])
    check(any_lstm, module, input_for(module), states(module, B), pick=pick)


def test_a_loss_on_parts_of_results(lstm: Kind) -> None:
    """One step, one unit, one layer's state: what the loss does not reach has no gradient."""
    module, x = lstm(I, H, 2), input_for(lstm(I, H, 2)).requires_grad_()
    module(x)[0][2].sum().backward()
    assert (x.grad[3:] == 0).all() and (x.grad[:3] != 0).any()
    module.zero_grad()
    _, (h, c) = module(x)
    (h[0].sum() + c[0].sum()).backward()
    assert all(
        p.grad is None or (p.grad == 0).all() for n, p in module.named_parameters() if "l1" in n
    )
    assert all((p.grad != 0).any() for n, p in module.named_parameters() if "l0" in n)


@pytest.mark.parametrize("frozen", ["weight_ih_l0", "weight_hh_l1", "bias", "l0", ""])
def test_frozen_weights(any_lstm: Kind, frozen: str) -> None:
    """requires_grad_(False) for some: no gradient there, the right ones elsewhere."""
    module = any_lstm(I, H, 2, dtype=torch.float64)
    x = input_for(module)
    full = check(any_lstm, module, x)
    module.zero_grad()
    chosen = [p for n, p in module.named_parameters() if frozen in n]
    for p in chosen:
        p.requires_grad_(False)
    output, (h, c) = module(x)
    if len(chosen) == 8:
        assert not any(t.requires_grad for t in (output, h, c))
        return
    mix({"output": output, "h": h, "c": c}).backward()
    for name, p in module.named_parameters():
        if frozen in name:
            assert p.grad is None
        else:
            torch.testing.assert_close(p.grad, full[f"grad {name}"], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("leaf", ["x", "h0", "c0", "weight_ih_l0", "weight_hh_l0", "bias_hh_l0"])
def test_only_one_leaf_needs_a_gradient(any_lstm: Kind, leaf: str, dtype: torch.dtype) -> None:
    module = any_lstm(I, H, dtype=dtype)
    x, hx = input_for(module), states(module, B)
    full = check(any_lstm, module, x, hx)
    module.requires_grad_(False).zero_grad()
    named = {"x": x, "h0": hx[0], "c0": hx[1]} | dict(module.named_parameters())
    named[leaf].requires_grad_()
    output, (h, c) = module(x, hx)
    mix({"output": output, "h": h, "c": c}).backward()
    room = 64 * torch.finfo(dtype).eps * max(1.0, size(full[f"grad {leaf}"]))
    assert size(named[leaf].grad - full[f"grad {leaf}"]) <= room  # type: ignore[operator]
    assert all(t.grad is None for n, t in named.items() if n != leaf)


def test_modes_without_gradients(any_lstm: Kind) -> None:
    module = any_lstm(I, H, 2, bidirectional=True)
    x, hx = input_for(module), states(module, B)
    truth = module(x, hx)[0].detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            output, (h, c) = module(x, hx)
        assert not any(t.requires_grad for t in (output, h, c))
        assert output.is_inference() == (mode is torch.inference_mode)
        torch.testing.assert_close(output.clone(), truth, rtol=0, atol=1e-6)
    module.requires_grad_(False)
    x.requires_grad_()
    module(x, hx)[0].sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_backward_in_eval(any_lstm: Kind) -> None:
    module = any_lstm(I, H, 2, dropout=0.5, dtype=torch.float64).eval()
    check(any_lstm, module, input_for(module), states(module, B))


# ---- how tensors lie in memory --------------------------------------------------------------


def _strided(t: Tensor) -> Tensor:
    """The same numbers, every second of a larger tensor, dimensions in another order."""
    large = t.new_full([2 * n for n in reversed(t.shape)], float("nan"))
    part = large[tuple(slice(None, None, 2) for _ in t.shape)]
    part.copy_(t.permute(*reversed(range(t.dim()))))
    return part.permute(*reversed(range(t.dim())))


def _misaligned(t: Tensor) -> Tensor:
    """The same numbers, one element off any boundary that vector code may count on."""
    room = t.new_full((t.numel() + 1,), float("nan"))
    return room[1:].view(t.shape).copy_(t)


LAYOUTS = {"strided": _strided, "misaligned": _misaligned}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_of_inputs_and_weights(any_lstm: Kind, layout: str, dtype: torch.dtype) -> None:
    module = any_lstm(I, H, 2, bidirectional=True, dtype=dtype)
    lay = LAYOUTS[layout]
    x, hx = lay(input_for(module)), states(module, B)
    check(any_lstm, module, x, (lay(hx[0]), lay(hx[1])))
    for name, p in module.named_parameters():
        owner = nn.Parameter(lay(p.detach()))
        setattr(module, name, owner)
    check(any_lstm, module, x, hx)


def test_one_row_for_the_whole_batch(any_lstm: Kind) -> None:
    """Expanded tensors, whose rows are one memory."""
    module = any_lstm(I, H, dtype=torch.float64)
    x = normal(T, 1, I, seed=2).expand(T, B, I)
    h, c = (s[:, :1].expand(1, B, H) for s in states(module, B))
    check(any_lstm, module, x, (h, c))


@pytest.mark.parametrize("layout", ["strided", "misaligned", "expanded"])
def test_layout_of_the_gradient_that_arrives(any_lstm: Kind, layout: str) -> None:
    """A sum hands back an expanded gradient, a transpose a strided one."""
    module = any_lstm(I, H, 2, dtype=torch.float64)
    x, grad = input_for(module), normal(T, B, H, seed=9)
    grad = grad[:, :, :1].expand(T, B, H) if layout == "expanded" else grad
    given = grad if layout == "expanded" else LAYOUTS[layout](grad)
    seen = []
    for arriving in (grad.contiguous(), given):
        module.zero_grad()
        module(x)[0].backward(arriving)
        seen.append([p.grad.clone() for p in module.parameters()])
    assert seen[0][0].abs().sum() > 0
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)


def test_the_classes_are_those() -> None:
    """What this folder calls torch is torch's, and what it calls anygate ours."""
    assert type(TORCH(I, H)) is nn.LSTM and type(ANYGATE(I, H)) is anygate.LSTM
