"""Autograd: derivatives of both orders, hooks, checkpointing, what may be changed in between."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint
from truth import (
    B,
    H,
    I,
    Kind,
    T,
    as_tuple,
    change,
    check,
    expected,
    found,
    loop,
    mix,
    near,
    normal,
    states,
)
from truth import run as results_of

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

BUILDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "deep": {"num_layers": 2, "bidirectional": True},
    "no bias": {"bias": False},
    "projected": {"proj_size": 2, "num_layers": 2},
}


def as_function(module: Any, steps: int, batch: int) -> tuple[Any, tuple[Tensor, ...]]:
    """The module as a function of x, h0, c0 and all weights."""
    names = [n for n, _ in module.named_parameters()]

    hx = states(module, batch)
    count = len(as_tuple(hx))

    def run(x: Tensor, *rest: Tensor) -> Any:
        given = dict(zip(names, rest[count:], strict=True))
        start = rest[:count] if count > 1 else rest[0]
        output, ends = functional_call(module, given, (x, start))
        return output, *as_tuple(ends)

    leaves = (normal(steps, batch, module.input_size, seed=3), *as_tuple(hx))
    weights = [p.detach().clone() for p in module.parameters()]
    return run, tuple(t.clone().requires_grad_() for t in (*leaves, *weights))


@pytest.mark.filterwarnings("ignore::UserWarning")  # ours may say that a second order is slow
@pytest.mark.parametrize("build", BUILDS)
def test_both_orders_against_differences(our_layer: Kind, build: str) -> None:
    """By x, h0, c0 and every weight; no kink of relu is within the differences' reach."""
    module = our_layer(2, 3, dtype=torch.float64, **BUILDS[build])
    run, leaves = as_function(module, 2, 2)
    assert torch.autograd.gradcheck(run, leaves, fast_mode=True)
    if build != "deep":  # of several layers, test_gradient_penalty has the second order
        assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("build", ["plain", "deep"])
def test_gradient_penalty(any_layer: Kind, build: str) -> None:
    """The gradient of |dL/dx|^2, as in WGAN-GP, equals that of the loop."""
    module = any_layer(I, H, dtype=torch.float64, **BUILDS[build])
    hx = states(module, B)

    def penalty(run: Any, x: Tensor) -> Tensor:
        results = results_of(run, x, hx)
        powers = {"output": torch.square, "h": torch.sin, "c": torch.square}
        loss = mix({name: powers[name](value) for name, value in results.items()})
        (slope,) = torch.autograd.grad(loss, x, create_graph=True)
        return slope.square().sum()

    x = normal(T, B, I, seed=3).requires_grad_()
    penalty(module, x).backward()
    own = {n: p.detach().clone().requires_grad_() for n, p in module.named_parameters()}
    y = normal(T, B, I, seed=3).requires_grad_()
    penalty(lambda t, hx: loop(any_layer, own, t, hx), y).backward()
    for a, b in ((x, y), *((p, own[n]) for n, p in module.named_parameters())):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-11, atol=1e-11)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_second_order_through_accumulated_gradients(layer: Kind) -> None:
    """backward(create_graph=True), then the gradient of a gradient of a weight."""
    module = layer(I, H, dtype=torch.float64)
    x = normal(T, B, I, seed=3)
    loss = module(x)[0].square().sum()
    (slope,) = torch.autograd.grad(loss, module.weight_hh_l0, create_graph=True)
    (second,) = torch.autograd.grad(slope.square().sum(), module.weight_hh_l0)
    own = {n: p.detach().clone().requires_grad_() for n, p in module.named_parameters()}
    zeros = change(states(module, B), torch.zeros_like)
    truth = loop(layer, own, x, zeros)[0].square().sum()
    (slope,) = torch.autograd.grad(truth, own["weight_hh_l0"], create_graph=True)
    (wanted,) = torch.autograd.grad(slope.square().sum(), own["weight_hh_l0"])
    torch.testing.assert_close(second, wanted, rtol=1e-11, atol=1e-12)


def test_one_tensor_in_several_places(any_layer: Kind) -> None:
    """h0 given as c0 too, where there is one, and a module called twice on its own output."""
    module = any_layer(H, H, dtype=torch.float64)
    state, x = normal(1, B, H, seed=2).requires_grad_(), normal(T, B, H, seed=3)

    def run(state: Tensor) -> Tensor:
        first, end = module(x, (state, state) if any_layer.family == "LSTM" else state)
        return mix({"output": module(first, end)[0]})

    assert torch.autograd.gradcheck(run, state, fast_mode=True)


# ---- backward again, backward late ----------------------------------------------------------


def test_backward_twice(layer: Kind) -> None:
    module, x = layer(I, H, 2), normal(T, B, I, seed=3).float()
    loss = module(x)[0].sum()
    loss.backward(retain_graph=True)
    once = [p.grad.clone() for p in module.parameters()]
    loss.backward()
    for p, g in zip(module.parameters(), once, strict=True):
        assert torch.equal(p.grad, 2 * g)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_gradients_add_up(layer: Kind) -> None:
    """Two halves of a batch, one backward each, are the whole batch."""
    module, x = layer(I, H, 2, dtype=torch.float64), normal(T, 4, I, seed=3)
    for part in x.split(2, 1):
        module(part)[0].square().sum().backward()
    halves = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    module(x)[0].square().sum().backward()
    for p, g in zip(module.parameters(), halves, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=1e-12, atol=1e-13)


def test_many_forwards_before_their_backwards(any_layer: Kind) -> None:
    """Buffers of one call are not those of the next; backward in any order."""
    module = any_layer(I, H, 2, dtype=torch.float64)
    inputs = [normal(T, B, I, seed=s) for s in range(3)]
    leaves = [x.clone().requires_grad_() for x in inputs]
    losses = [mix({"output": module(x)[0]}) for x in leaves]
    for place in (1, 2, 0):
        losses[place].backward()
    for x, leaf in zip(inputs, leaves, strict=True):
        truth = expected(any_layer, module, x, None, pick=("output",))
        torch.testing.assert_close(leaf.grad, truth["grad x"], rtol=1e-12, atol=1e-13)


def test_truncated_backpropagation(any_layer: Kind) -> None:
    """The state handed on, detached or not: chunks are the whole, and detaching cuts."""
    module, x = any_layer(I, H, 2, dtype=torch.float64), normal(6, B, I, seed=3)
    whole, ends = module(x)
    leaf, state, pieces = x.clone().requires_grad_(), None, []
    for part in leaf.split(2):
        output, state = module(part, state)
        pieces.append(output)
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=1e-13, atol=1e-14)
    for a, b in zip(as_tuple(state), as_tuple(ends), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-14)
    pieces[-1].square().sum().backward()
    assert (leaf.grad != 0).any(-1).all()  # type: ignore[union-attr]
    leaf.grad, state = None, None
    for part in leaf.split(2):
        output, state = module(part, state)
        state = change(state, Tensor.detach)
    output.sum().backward()
    assert (leaf.grad[:4] == 0).all() and (leaf.grad[4:] != 0).any()  # type: ignore[index]


MAY_CHANGE = {
    "torch": set[str](),
    "torch GRU": {"weight_ih_l0", "output"},
    "torch RNN": {"weight_ih_l0", "output"},
    "anygate": {"output"},
    "GRU": {"output"},
    "RNN": {"output"},
}
"""All that backward does without where x has no gradient: W in torch's GRU and RNN, and the output
but in torch's LSTM (ours is the caller's own)."""


@pytest.mark.parametrize("what", ["x", "h0", "weight_ih_l0", "weight_hh_l0", "output"])
def test_what_backward_needs_must_not_change(layer: Kind, what: str) -> None:
    """A change is refused; what may change does no harm."""
    module, x = layer(I, H), normal(T, B, I, seed=3).float()
    hx = states(module, B)
    module(x, hx)[0].sum().backward()
    wanted = [p.grad.clone() for p in module.parameters()]
    module.zero_grad()
    output, _ = module(x, hx)
    named = {"x": x, "h0": as_tuple(hx)[0], "output": output} | dict(module.named_parameters())
    with torch.no_grad():
        named[what].mul_(2)
    if what not in MAY_CHANGE[layer.name]:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            output.sum().backward()
        return
    output.sum().backward()
    for p, grad in zip(module.parameters(), wanted, strict=True):
        torch.testing.assert_close(p.grad, grad)


def test_batch_of_gradients(layer: Kind) -> None:
    """is_grads_batched runs backward under vmap."""
    module, x = layer(I, H, dtype=torch.float64), normal(T, B, I, seed=3).requires_grad_()
    output, _ = module(x)
    arriving = normal(3, *output.shape, seed=4)
    inputs = (x, module.weight_hh_l0)
    together = torch.autograd.grad(
        output, inputs, arriving, retain_graph=True, is_grads_batched=True
    )
    for place, each in enumerate(arriving):
        alone = torch.autograd.grad(output, inputs, each, retain_graph=True)
        for a, b in zip(together, alone, strict=True):
            torch.testing.assert_close(a[place], b, rtol=1e-12, atol=1e-13)


# ---- hooks ----------------------------------------------------------------------------------


def test_hooks_on_tensors(layer: Kind) -> None:
    """On an input, a weight and a result: they see the gradient and may change it."""
    module, x = layer(I, H, dtype=torch.float64), normal(T, B, I, seed=3).requires_grad_()
    plain = found(module, x, None, ("output",))
    module.zero_grad()
    seen: list[Any] = []
    x.register_hook(lambda g: seen.append(("x", g.clone())))
    module.weight_hh_l0.register_hook(lambda g: 3 * g)
    module.weight_ih_l0.register_post_accumulate_grad_hook(
        lambda p: seen.append(("weight_ih", p.grad.clone()))
    )
    output, ends = module(x)
    output.register_hook(lambda g: 2 * g)
    as_tuple(ends)[0].register_hook(lambda g: seen.append(("h", g)))
    mix({"output": output}).backward()
    told = dict(seen)
    assert set(told) == {"x", "weight_ih"}  # nothing arrives at h
    for a, b in (
        (told["x"], 2 * plain["grad x"]),
        (told["weight_ih"], 2 * plain["grad weight_ih_l0"]),
        (module.weight_hh_l0.grad, 6 * plain["grad weight_hh_l0"]),
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_hooks_on_the_module(layer: Kind) -> None:
    module, calls = layer(I, H), []
    x = normal(T, B, I, seed=3).float().requires_grad_()
    module.register_forward_pre_hook(lambda m, a: calls.append("before"))
    module.register_forward_pre_hook(lambda m, a, k: (a, k | {"hx": None}), with_kwargs=True)
    module.register_forward_hook(lambda m, a, r: (2 * r[0], r[1]))
    module.register_full_backward_pre_hook(lambda m, g: calls.append(("arrives", len(g))))
    module.register_full_backward_hook(
        lambda m, gi, go: calls.append(("leaves", [tuple(g.shape) for g in gi], go[0].shape))
    )
    output, _ = module(x)
    torch.testing.assert_close(output, 2 * layer(I, H)(x)[0])
    output.sum().backward()
    assert calls[0] == "before" and calls[1][0] == "arrives"
    assert calls[2] == ("leaves", [(T, B, I)], (T, B, H))


def test_hooks_on_saved_tensors(any_layer: Kind) -> None:
    """Saved tensors go through the hooks, as save_on_cpu and offloading use them."""
    module, x = any_layer(I, H, 2, dtype=torch.float64), normal(T, B, I, seed=3)
    truth = found(module, x, None, ("output",))
    count = []

    def pack(t: Tensor) -> Tensor:
        count.append(t.shape)
        return t.clone()

    module.zero_grad()
    leaf = x.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t.clone()):
        output, _ = module(leaf)
    mix({"output": output}).backward()
    assert len(count) >= 4
    torch.testing.assert_close(leaf.grad, truth["grad x"], rtol=1e-12, atol=1e-13)
    with torch.autograd.graph.save_on_cpu():
        check(any_layer, module, x)


def test_anomaly_mode(any_layer: Kind) -> None:
    module, x = any_layer(I, H, 2, dtype=torch.float64), normal(T, B, I, seed=3)
    with torch.autograd.set_detect_anomaly(True, check_nan=True):
        check(any_layer, module, x, states(module, B))


# ---- activation checkpointing ---------------------------------------------------------------


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("build", ["plain", "deep", "projected"])
def test_checkpoint(any_layer: Kind, build: str, reentrant: bool) -> None:
    """Outputs and gradients as without; the state is an argument of its own."""
    module = any_layer(I, H, dtype=torch.float64, **BUILDS[build])
    x, hx = normal(T, B, I, seed=3), states(module, B)

    class Checkpointed(nn.Module):
        def forward(self, x: Tensor, hx: Any) -> Any:
            def run(x: Tensor, *hx: Tensor) -> Any:
                output, ends = module(x, hx if len(hx) > 1 else hx[0])
                return output, *as_tuple(ends)

            output, *ends = checkpoint(run, x, *as_tuple(hx), use_reentrant=reentrant)
            return output, tuple(ends)

    wrapped = Checkpointed()
    wrapped.module = module
    truth = found(module, x, hx)
    results = {n.replace("module.", ""): r for n, r in found(wrapped, x, hx).items()}
    near(results, truth, {n: 1e-14 * max(1, t.abs().max()) for n, t in truth.items()})


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint_keeps_the_dropout_mask(layer: Kind, reentrant: bool) -> None:
    module = layer(I, H, 2, dropout=0.5, dtype=torch.float64)
    grads = []
    for use in (
        lambda x: module(x)[0],
        lambda x: checkpoint(lambda y: module(y)[0], x, use_reentrant=reentrant),
    ):
        x = normal(T, B, I, seed=3).requires_grad_()
        torch.manual_seed(4)
        use(x).square().sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads, rtol=1e-13, atol=1e-14)


# ---- threads, forward mode ------------------------------------------------------------------


def test_one_module_in_two_threads(any_layer: Kind) -> None:
    """As servers and nn.DataParallel call it: nothing of one call is seen by another."""
    module = any_layer(I, H, 2, bidirectional=True, dtype=torch.float64)
    inputs = [normal(T + n, B + n, I, seed=n) for n in range(4)]
    truths = [expected(any_layer, module, x, None, pick=("output",)) for x in inputs]
    wrong: list[Any] = []

    def work(place: int) -> None:
        try:
            for _ in range(10):
                x = inputs[place].clone().requires_grad_()
                output, _ = module(x)
                (grad,) = torch.autograd.grad(mix({"output": output}), x)
                torch.testing.assert_close(output, truths[place]["output"], rtol=0, atol=1e-12)
                torch.testing.assert_close(grad, truths[place]["grad x"], rtol=0, atol=1e-11)
        except BaseException as error:  # noqa: BLE001 - a thread's failure is this test's
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong and not any(t.is_alive() for t in threads)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward_mode_is_right_or_refused(any_layer: Kind, dtype: torch.dtype) -> None:
    """torch has no forward derivative of its oneDNN kernel and says so; a wrong number is no
    answer. Against the truth's own, differentiated twice (a vjp's derivative is the jvp)."""
    module = any_layer(I, H, dtype=dtype).requires_grad_(False)
    x, direction = (normal(T, B, I, seed=s, dtype=dtype) for s in (3, 4))
    try:
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, direction)
            tangent = torch.autograd.forward_ad.unpack_dual(module(dual)[0]).tangent
    except (NotImplementedError, RuntimeError) as error:
        words = str(error).lower()
        refused = "forward" in words and ("ad" in words.split() or "jvp" in words)
        if not refused:
            raise
        return
    assert tangent is not None, "no tangent, and no error"
    leaf = x.double().requires_grad_()
    weights = {n: p.double() for n, p in module.named_parameters()}
    zeros = change(states(module, B), lambda s: torch.zeros_like(s, dtype=torch.float64))
    output, _ = loop(any_layer, weights, leaf, zeros)
    dummy = torch.zeros_like(output, requires_grad=True)
    (back,) = torch.autograd.grad(output, leaf, dummy, create_graph=True)
    (truth,) = torch.autograd.grad(back, dummy, direction.double())
    off = (tangent.double() - truth).abs().max()
    assert off <= 64 * torch.finfo(dtype).eps * truth.abs().max()


def test_a_second_order_gives_at_most_one_notice(our_layer: Kind) -> None:
    """It may be slow and say so, but once, and the numbers stay the same."""
    module = our_layer(I, H, dtype=torch.float64)
    values = []
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            x = normal(T, B, I, seed=3).requires_grad_()
            loss = module(x)[0].square().sum()
            (slope,) = torch.autograd.grad(loss, x, create_graph=True)
            values.append(torch.autograd.grad(slope.square().sum(), x)[0])
    assert len(seen) <= 1, [str(w.message) for w in seen]
    assert all(torch.equal(values[0], v) for v in values)
