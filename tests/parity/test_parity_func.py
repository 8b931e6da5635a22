"""torch.func: functional_call, grad and its kin, vmap over inputs and over ensembles of weights.

nn.LSTM has no batching rule ("Batching rule not implemented for aten::lstm.input"), so plain vmap
is tested on ours alone, against one call for each; grad, jacrev and vmap of grad on both.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import (
    functional_call,
    grad,
    grad_and_value,
    jacrev,
    jvp,
    stack_module_state,
    vjp,
    vmap,
)
from torch.nn.utils.rnn import pack_padded_sequence
from truth import (
    ANYGATE,
    FORMULA,
    GATES,
    GRU,
    RELU,
    RNN,
    STATES,
    TORCH,
    B,
    H,
    I,
    Kind,
    T,
    as_tuple,
    expected,
    mix,
    normal,
    run,
    states,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:There is a performance drop:UserWarning",  # torch's own, of its missing rules
    "ignore:.*torch.jit.script.*:DeprecationWarning",
)
N = 3
Weights = dict[str, Tensor]


def weights_of(module: Any) -> Weights:
    return {n: p.detach() for n, p in module.named_parameters()}


def loss_of(module: Any, weights: Weights, x: Tensor, hx: Any = None) -> Tensor:
    return mix(run(lambda *given: functional_call(module, weights, given), x, hx))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_functional_call(any_layer: Kind) -> None:
    """Other weights for one call; the module's own stay, and are used by the next call."""
    module, other = (any_layer(I, H, 2, seed=s, dtype=torch.float64) for s in (1, 2))
    x, hx = normal(T, B, I, seed=3), states(module, B)
    before = module(x, hx)[0]
    given = {n: w.clone().requires_grad_() for n, w in weights_of(other).items()}
    output, _ = functional_call(module, given, (x, hx))
    close(output, other(x, hx)[0])
    output.sum().backward()
    assert all(w.grad is not None for w in given.values())
    assert all(p.grad is None for p in module.parameters())
    assert torch.equal(module(x, hx)[0], before)
    partly = functional_call(module, {"weight_hh_l1": given["weight_hh_l1"]}, (x, hx))[0]
    mixed = any_layer(I, H, 2, seed=1, dtype=torch.float64)
    mixed.load_state_dict(module.state_dict() | {"weight_hh_l1": other.weight_hh_l1.detach()})
    close(partly, mixed(x, hx)[0])


def test_functional_call_on_a_pack(any_layer: Kind) -> None:
    module, other = (any_layer(I, H, seed=s, dtype=torch.float64) for s in (1, 2))
    packed = pack_padded_sequence(normal(T, B, I, seed=3), [2, 5, 1], enforce_sorted=False)
    output, _ = functional_call(module, weights_of(other), (packed,))
    close(output.data, other(packed)[0].data)


def test_functional_call_in_a_loop(any_layer: Kind) -> None:
    """Gradient steps on weights that are never the module's, whose memory is used again."""
    module = any_layer(I, H, dtype=torch.float64)
    x, weights = normal(T, B, I, seed=3), weights_of(module)
    for turn in range(5):
        slopes = grad(lambda w: loss_of(module, w, x))(weights)
        truth = any_layer(I, H, seed=9, dtype=torch.float64)
        truth.load_state_dict(weights)
        loss_of(truth, dict(truth.named_parameters()), x).backward()
        for name, p in truth.named_parameters():
            close(slopes[name], p.grad)
        weights = {n: w - 0.1 * slopes[n] for n, w in weights.items()}
        assert turn >= 0 and not torch.equal(weights["weight_hh_l0"], module.weight_hh_l0)


# ---- grad, vjp, jacrev ----------------------------------------------------------------------


def test_grad(any_layer: Kind) -> None:
    """By the weights, by x and by the state, each as in the truth."""
    module = any_layer(I, H, 2, bidirectional=True, dtype=torch.float64)
    x, hx = normal(T, B, I, seed=3), states(module, B)
    truth = expected(any_layer, module, x, hx)

    def loss(weights: Weights, x: Tensor, hx: Any) -> Tensor:
        return loss_of(module, weights, x, hx)

    slopes, value = grad_and_value(loss, argnums=(0, 1, 2))(weights_of(module), x, hx)
    close(value, loss(weights_of(module), x, hx))
    by_weights, by_x, by_hx = slopes
    for name, slope in by_weights.items():
        close(slope, truth[f"grad {name}"])
    close(by_x, truth["grad x"])
    for name, slope in zip(STATES[any_layer.family], as_tuple(by_hx), strict=True):
        close(slope, truth[f"grad {name}0"])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_grad_of_grad(any_layer: Kind) -> None:
    module = any_layer(I, H, dtype=torch.float64)
    x, weights = normal(T, B, I, seed=3), weights_of(module)

    def penalty(x: Tensor) -> Tensor:
        return grad(lambda t: loss_of(module, weights, t))(x).square().sum()

    leaf = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss_of(module, weights, leaf), leaf, create_graph=True)
    (wanted,) = torch.autograd.grad(slope.square().sum(), leaf)
    close(grad(penalty)(x), wanted)


def test_vjp(any_layer: Kind) -> None:
    module = any_layer(I, H, dtype=torch.float64)
    x, arriving = normal(T, B, I, seed=3), normal(T, B, H, seed=4)
    output, back = vjp(lambda t: module(t)[0], x)
    leaf = x.clone().requires_grad_()
    wanted = module(leaf)[0]
    close(output, wanted)
    close(back(arriving)[0], torch.autograd.grad(wanted, leaf, arriving)[0])


def test_jacrev(any_layer: Kind) -> None:
    """The whole Jacobian, which runs backward under vmap."""
    module = any_layer(2, 3, dtype=torch.float64)
    x = normal(3, 2, 2, seed=3)
    jacobian = jacrev(lambda t: module(t)[0])(x)
    wanted = torch.autograd.functional.jacobian(lambda t: module(t)[0], x)
    close(jacobian, wanted)
    assert (jacobian[0, :, :, 1:] == 0).all()  # the first step knows nothing of later ones


def test_jvp_is_right_or_refused(any_layer: Kind) -> None:
    """No silent zero: what has no forward derivative says so."""
    module = any_layer(2, 3, dtype=torch.float64)
    x, direction = normal(3, 2, 2, seed=3), normal(3, 2, 2, seed=4)
    try:
        _, tangent = jvp(lambda t: module(t)[0], (x,), (direction,))
    except (NotImplementedError, RuntimeError) as error:
        if "forward" not in str(error).lower():
            raise
        return
    jacobian = torch.autograd.functional.jacobian(lambda t: module(t)[0], x)
    torch.testing.assert_close(tangent, torch.einsum("...abc,abc->...", jacobian, direction))


# ---- vmap -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize("place", [0, 1, -1])
def test_vmap_over_inputs(our_layer: Kind, place: int, batched: bool) -> None:
    module = our_layer(I, H, 2, bidirectional=True, dtype=torch.float64)
    each = [normal(*((T, B, I) if batched else (T, I)), seed=s) for s in range(N)]
    output, ends = vmap(module, in_dims=place)(torch.stack(each, place))
    for n, x in enumerate(each):
        one, wanted = module(x)
        close(output[n], one)
        for a, b in zip(as_tuple(ends), as_tuple(wanted), strict=True):
            close(a[n], b)


def test_vmap_over_states_alone(our_layer: Kind) -> None:
    module = our_layer(I, H, dtype=torch.float64)
    x, each = normal(T, B, I, seed=3), [states(module, B, seed=s) for s in (10, 20, 30)]
    stacked = tuple(torch.stack(s) for s in zip(*map(as_tuple, each), strict=True))
    output = vmap(lambda *hx: module(x, hx if len(hx) > 1 else hx[0])[0])(*stacked)
    for n, hx in enumerate(each):
        close(output[n], module(x, hx)[0])


@pytest.mark.parametrize("shared_input", [True, False])
def test_ensemble(our_layer: Kind, shared_input: bool) -> None:
    """stack_module_state and a module without memory of its own: N models in one call."""
    models = [our_layer(I, H, 2, bidirectional=True, seed=s, dtype=torch.float64) for s in range(N)]
    weights, buffers = stack_module_state(models)
    assert not buffers and weights["weight_hh_l0"].shape == (N, GATES[our_layer.family] * H, H)
    base = our_layer(I, H, 2, bidirectional=True, device="meta", dtype=torch.float64)
    x = normal(T, B, I, seed=3) if shared_input else normal(N, T, B, I, seed=3)

    def call(weights: Weights, x: Tensor) -> Tensor:
        return functional_call(base, weights, (x,))[0]

    output = vmap(call, in_dims=(0, None if shared_input else 0))(weights, x)
    for n, model in enumerate(models):
        close(output[n], model(x if shared_input else x[n])[0])


def test_ensemble_trains_as_its_members(our_layer: Kind) -> None:
    """Backward through vmap: the gradients of N models at once, by autograd and by func.grad."""
    models = [our_layer(I, H, seed=s, dtype=torch.float64) for s in range(N)]
    weights, _ = stack_module_state(models)
    x = normal(N, T, B, I, seed=3)

    def loss(weights: Weights, x: Tensor) -> Tensor:
        return loss_of(models[0], weights, x)

    vmap(loss)(weights, x).sum().backward()
    slopes = vmap(grad(loss))({n: w.detach() for n, w in weights.items()}, x)
    for n, model in enumerate(models):
        loss_of(model, dict(model.named_parameters()), x[n]).backward()
        for name, p in model.named_parameters():
            close(weights[name].grad[n], p.grad)  # type: ignore[index]
            close(slopes[name][n], p.grad)


@pytest.mark.parametrize("kind", [TORCH, ANYGATE, RELU, FORMULA, GRU, RNN], ids=lambda k: k.name)
def test_gradients_for_each_sample(kind: Kind) -> None:
    """vmap(grad) with shared weights, as differential privacy needs it; nn.LSTM can this too, in
    float32, where its kernel is one operator. nn.GRU cannot ("output with shape [1, 6] doesn't
    match the broadcast shape")."""
    module = kind(I, H)
    x, weights = normal(N, T, I, seed=3).float(), weights_of(module)
    slopes = vmap(grad(lambda w, t: loss_of(module, w, t)), in_dims=(None, 0))(weights, x)
    for n in range(N):
        wanted = grad(lambda w, n=n: loss_of(module, w, x[n]))(weights)
        for name, slope in slopes.items():
            torch.testing.assert_close(slope[n], wanted[name], rtol=1e-5, atol=1e-5)


def test_vmap_in_single_precision(our_layer: Kind) -> None:
    module = our_layer(I, H, 2)
    x = normal(N, T, B, I, seed=3).float()
    output = vmap(lambda t: module(t)[0])(x)
    for n in range(N):
        torch.testing.assert_close(output[n], module(x[n])[0], rtol=1e-5, atol=1e-6)


def test_vmap_in_vmap(our_layer: Kind) -> None:
    """Over inputs within over weights: every model on every input."""
    models = [our_layer(I, H, seed=s, dtype=torch.float64) for s in range(2)]
    weights, _ = stack_module_state(models)
    x = normal(N, T, I, seed=3)

    def call(weights: Weights, x: Tensor) -> Tensor:
        return functional_call(models[0], weights, (x,))[0]

    output = vmap(vmap(call, in_dims=(None, 0)), in_dims=(0, None))(weights, x)
    for m, model in enumerate(models):
        for n in range(N):
            close(output[m, n], model(x[n])[0])


def test_vmap_over_one_step(our_lstm: Kind) -> None:
    cell = our_lstm.cell(I, H, dtype=torch.float64)
    x, h, c = normal(N, B, I, seed=1), normal(N, B, H, seed=2), normal(N, B, H, seed=3)
    after_h, after_c = vmap(lambda x, h, c: cell(x, (h, c)))(x, h, c)
    for n in range(N):
        one = cell(x[n], (h[n], c[n]))
        close(after_h[n], one[0])
        close(after_c[n], one[1])
