"""Outputs, states and every gradient, over all ways to build the module and to call it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from truth import (
    FORMULA,
    GRU_FORMULA,
    PAIRS,
    RELU,
    RNN_RELU,
    STATES,
    B,
    H,
    I,
    Kind,
    T,
    as_tuple,
    change,
    check,
    mix,
    normal,
    run,
    size,
    states,
)

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
        "num_layers": 2,
        "bidirectional": True,
        "proj_size": 3,
        "batch_first": True,
    },
    "projected, no bias": {"proj_size": 2, "bias": False},
}
SHAPES = {"one of all": (1, 1, 1, 2), "one row": (7, 1, 3, 17), "rows": (3, 9, 2, 33)}
DTYPES = (torch.float32, torch.float64)


def input_for(module: Any, steps: int = T, batch: int = B, seed: int = 3) -> Tensor:
    shape = (batch, steps) if module.batch_first else (steps, batch)
    dtype = next(module.parameters()).dtype
    return normal(*shape, module.input_size, seed=seed, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("build", BUILDS)
def test_everything(any_layer: Kind, build: str, dtype: torch.dtype) -> None:
    """With a state and without, batched and not."""
    module = any_layer(I, H, dtype=dtype, **BUILDS[build])
    hx = states(module, B)
    for state in (None, hx):
        check(any_layer, module, input_for(module), state)
    flat = normal(T, I, seed=4, dtype=dtype)
    for state in (None, change(hx, lambda s: s[:, 0])):
        check(any_layer, module, flat, state)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_other_sizes(any_layer: Kind, shape: str, dtype: torch.dtype) -> None:
    steps, batch, inputs, hidden = SHAPES[shape]
    module = any_layer(inputs, hidden, 2, bidirectional=True, dtype=dtype)
    check(any_layer, module, input_for(module, steps, batch), states(module, batch))


@pytest.mark.parametrize("kind", [RELU, FORMULA, GRU_FORMULA, RNN_RELU], ids=lambda k: k.name)
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


def test_the_truth_can_say_no(any_layer: Kind) -> None:
    """Other activations, a weight changed by a millionth, a gate exchanged: each is seen."""
    module = any_layer(I, H, 2, dtype=torch.float64)
    x, hx = input_for(module), states(module, B)
    other = replace(any_layer, function=torch.sin)
    with pytest.raises(AssertionError, match="is off by"):
        check(other, module, x, hx)
    spoilt = any_layer(I, H, 2, dtype=torch.float64)

    class Spoilt(nn.Module):
        num_layers, bidirectional, batch_first, proj_size = 2, False, False, 0
        mode = module.mode
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
        check(any_layer, Spoilt(), x, hx)


# ---- shapes and the order of states ---------------------------------------------------------


def test_order_of_the_states(layer: Kind) -> None:
    """h is [layer 0 forward, layer 0 backward, layer 1 forward ...]; the last layer's are where
    its output ends: the forward direction at the last step, the backward one at the first."""
    module = layer(I, H, 2, bidirectional=True)
    output, ends = module(input_for(module))
    h = as_tuple(ends)[0]
    assert torch.equal(h[2], output[-1, :, :H])
    assert torch.equal(h[3], output[0, :, H:])
    first, ends = module(input_for(module)[:, :1])  # rows do not mix
    h_first = as_tuple(ends)[0]
    torch.testing.assert_close(first, output[:, :1], rtol=0, atol=1e-6)
    torch.testing.assert_close(h_first, h[:, :1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("proj_size", [0, 2])
def test_shapes(layer: Kind, batch_first: bool, bidirectional: bool, proj_size: int) -> None:
    module = layer(
        I, H, 2, batch_first=batch_first, bidirectional=bidirectional, proj_size=proj_size
    )
    ways, wide = 1 + bidirectional, module.proj_size or H
    output, ends = module(input_for(module))
    assert output.shape == ((B, T) if batch_first else (T, B)) + (ways * wide,)
    sizes = (wide, H)[: len(as_tuple(ends))]
    assert [s.shape for s in as_tuple(ends)] == [(2 * ways, B, n) for n in sizes]
    output, ends = module(normal(T, I, seed=0, dtype=torch.float32))
    assert output.shape == (T, ways * wide)
    assert [s.shape for s in as_tuple(ends)] == [(2 * ways, n) for n in sizes]


def test_results_can_be_viewed(layer: Kind) -> None:
    """`output.view(-1, H)` and `h.view(layers, 2, B, H)`, as the documentation and old code do."""
    module = layer(I, H, 2, bidirectional=True)
    output, ends = module(input_for(module))
    assert output.view(T * B, 2 * H).shape == (T * B, 2 * H)
    assert all(s.view(2, 2, B, H).shape == (2, 2, B, H) for s in as_tuple(ends))
    assert output.view(T, B, 2, H).shape == (T, B, 2, H)
    assert isinstance(module(input_for(module)), tuple)


def test_no_result_is_another_ones_memory(layer: Kind) -> None:
    """Writing into one result, or calling again, changes no other; nor does it change hx."""
    module = layer(I, H, 2)
    with torch.no_grad():
        for steps in (1, T):
            x, hx = input_for(module, steps), states(module, B)
            before = [t.clone() for t in (x, *as_tuple(hx))]
            first, ends = module(x, hx)
            kept = [t.clone() for t in (first, *as_tuple(ends))]
            second, after = module(x * 2, ends)
            now = (first, *as_tuple(ends))
            assert all(torch.equal(a, b) for a, b in zip(now, kept, strict=True))
            second.zero_()
            assert all(s.abs().sum() > 0 for s in as_tuple(after))
            as_tuple(after)[0].zero_()
            assert all(s.abs().sum() > 0 for s in as_tuple(after)[1:])
            first.zero_()
            assert all(torch.equal(a, b) for a, b in zip(as_tuple(ends), kept[1:], strict=True))
            given = (x, *as_tuple(hx))
            assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


@pytest.mark.parametrize("build", ["plain", "3 layers, bidirectional", "projected"])
def test_empty_batch(layer: Kind, build: str) -> None:
    module = layer(I, H, **BUILDS[build])
    x = input_for(module, T, 0).requires_grad_()
    results = run(module, x)
    wide = module.proj_size or H
    assert results["output"].shape == (T, 0, wide * (1 + module.bidirectional))
    assert all(s.shape[1] == 0 for s in results.values())
    mix(results).backward()
    assert x.grad is not None and x.grad.shape == x.shape
    assert all(p.grad is not None and (p.grad == 0).all() for p in module.parameters())


# ---- which results and weights take part ----------------------------------------------------


@pytest.mark.parametrize("pick", [("output",), ("h",), ("c",), ("h", "c")])
@pytest.mark.parametrize("build", ["2 layers", "bidirectional", "projected"])
def test_only_some_results_are_used(any_layer: Kind, pick: tuple[str, ...], build: str) -> None:
    module = any_layer(I, H, dtype=torch.float64, **BUILDS[build])
    pick = tuple(n for n in pick if n in ("output", *STATES[any_layer.family])) or ("h",)
    check(any_layer, module, input_for(module), states(module, B), pick=pick)


def test_a_loss_on_parts_of_results(layer: Kind) -> None:
    """One step, one unit, one layer's state: what the loss does not reach has no gradient."""
    module, x = layer(I, H, 2), input_for(layer(I, H, 2)).requires_grad_()
    module(x)[0][2].sum().backward()
    assert (x.grad[3:] == 0).all() and (x.grad[:3] != 0).any()
    module.zero_grad()
    _, ends = module(x)
    sum(s[0].sum() for s in as_tuple(ends)).backward()
    assert all(
        p.grad is None or (p.grad == 0).all() for n, p in module.named_parameters() if "l1" in n
    )
    assert all((p.grad != 0).any() for n, p in module.named_parameters() if "l0" in n)


@pytest.mark.parametrize("frozen", ["weight_ih_l0", "weight_hh_l1", "bias", "l0", ""])
def test_frozen_weights(any_layer: Kind, frozen: str) -> None:
    """requires_grad_(False) for some: no gradient there, the right ones elsewhere."""
    module = any_layer(I, H, 2, dtype=torch.float64)
    x = input_for(module)
    full = check(any_layer, module, x)
    module.zero_grad()
    chosen = [p for n, p in module.named_parameters() if frozen in n]
    for p in chosen:
        p.requires_grad_(False)
    results = run(module, x)
    if len(chosen) == 8:
        assert not any(t.requires_grad for t in results.values())
        return
    mix(results).backward()
    for name, p in module.named_parameters():
        if frozen in name:
            assert p.grad is None
        else:
            torch.testing.assert_close(p.grad, full[f"grad {name}"], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("leaf", ["x", "h0", "c0", "weight_ih_l0", "weight_hh_l0", "bias_hh_l0"])
def test_only_one_leaf_needs_a_gradient(any_layer: Kind, leaf: str, dtype: torch.dtype) -> None:
    module = any_layer(I, H, dtype=dtype)
    x, hx = input_for(module), states(module, B)
    full = check(any_layer, module, x, hx)
    module.requires_grad_(False).zero_grad()
    named = {"x": x} | dict(module.named_parameters())
    named |= dict(zip(("h0", "c0"), as_tuple(hx), strict=False))
    named[leaf].requires_grad_()
    mix(run(module, x, hx)).backward()
    room = 64 * torch.finfo(dtype).eps * max(1.0, size(full[f"grad {leaf}"]))
    assert size(named[leaf].grad - full[f"grad {leaf}"]) <= room  # type: ignore[operator]
    assert all(t.grad is None for n, t in named.items() if n != leaf)


def test_modes_without_gradients(any_layer: Kind) -> None:
    module = any_layer(I, H, 2, bidirectional=True)
    x, hx = input_for(module), states(module, B)
    truth = module(x, hx)[0].detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            results = run(module, x, hx)
        output = results["output"]
        assert not any(t.requires_grad for t in results.values())
        assert output.is_inference() == (mode is torch.inference_mode)
        torch.testing.assert_close(output.clone(), truth, rtol=0, atol=1e-6)
    module.requires_grad_(False)
    x.requires_grad_()
    module(x, hx)[0].sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_backward_in_eval(any_layer: Kind) -> None:
    module = any_layer(I, H, 2, dropout=0.5, dtype=torch.float64).eval()
    check(any_layer, module, input_for(module), states(module, B))


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
def test_layout_of_inputs_and_weights(any_layer: Kind, layout: str, dtype: torch.dtype) -> None:
    module = any_layer(I, H, 2, bidirectional=True, dtype=dtype)
    lay = LAYOUTS[layout]
    x, hx = lay(input_for(module)), states(module, B)
    check(any_layer, module, x, change(hx, lay))
    for name, p in module.named_parameters():
        owner = nn.Parameter(lay(p.detach()))
        setattr(module, name, owner)
    check(any_layer, module, x, hx)


def test_one_row_for_the_whole_batch(any_layer: Kind) -> None:
    """Expanded tensors, whose rows are one memory."""
    module = any_layer(I, H, dtype=torch.float64)
    x = normal(T, 1, I, seed=2).expand(T, B, I)
    hx = change(states(module, B), lambda s: s[:, :1].expand(1, B, H))
    check(any_layer, module, x, hx)


@pytest.mark.parametrize("layout", ["strided", "misaligned", "expanded"])
def test_layout_of_the_gradient_that_arrives(any_layer: Kind, layout: str) -> None:
    """A sum hands back an expanded gradient, a transpose a strided one."""
    module = any_layer(I, H, 2, dtype=torch.float64)
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
    """The classes of this folder's TORCH come from torch, and those of ANYGATE from anygate."""
    for theirs, ours in PAIRS:
        assert type(theirs(I, H)) is getattr(nn, theirs.family)
        assert type(ours(I, H)) is getattr(anygate, theirs.family)
