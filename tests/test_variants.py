"""Peepholes, coupled gates, clipping, ablations by slot and trainable activations, as modules."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from anygate import LSTM, LSTMCell

T, B, INPUTS, H = 5, 3, 4, 6
ENGINES = ("reference", "eager", "cpu")
PEEPHOLES = ("input_gate_peephole", "forget_gate_peephole", "output_gate_peephole")
VARIANTS: dict[str, dict[str, Any]] = {
    "peephole": {"peephole": True},
    "coupled": {"coupled": True},
    "clip": {"clip": 0.5},
    "all": {"peephole": True, "coupled": True, "clip": 0.5},
    "no input activation": {"candidate": "x"},
    "no output activation": {"cell_output": "x"},
    "no forget gate": {"forget_gate": "1"},
    "no input gate": {"input_gate": "1"},
    "slope shared": {"activation": "leaky_relu", "trainable": True},
    "slope per unit": {"activation": "leaky_relu", "trainable": "unit"},
    "some": {
        "candidate": "leaky_relu",
        "gate_activation": "hard_sigmoid_onnx",
        "trainable": {"candidate.k": "unit", "input_gate.alpha": "shared"},
    },
    "deep": {
        "num_layers": 2,
        "bidirectional": True,
        "proj_size": 2,
        "peephole": True,
        "activation": "leaky_relu",
        "trainable": "unit",
    },
}


def results(module: LSTM, x: torch.Tensor) -> list[torch.Tensor]:
    """Output, end state, and gradients by everything."""
    x = x.clone().requires_grad_()
    output, (h, c) = module(x)
    loss = output.sin().sum() + h.cos().sum() + c.square().sum()
    return [output, h, c, *torch.autograd.grad(loss, [x, *module.parameters()])]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_engine_agrees(name: str) -> None:
    torch.manual_seed(0)
    modules = [LSTM(INPUTS, H, engine=e, dtype=torch.float64, **VARIANTS[name]) for e in ENGINES]
    with torch.no_grad():  # peepholes and slopes that are no round numbers
        for p in modules[0].parameters():
            p.uniform_(-0.5, 0.5)
    x = torch.randn(T, B, INPUTS, dtype=torch.float64)
    wanted = results(modules[0], x)
    for module in modules[1:]:
        module.load_state_dict(modules[0].state_dict())
        for found, truth in zip(results(module, x), wanted, strict=True):
            torch.testing.assert_close(found, truth, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_saved_copied_and_described(name: str) -> None:
    module = LSTM(INPUTS, H, **VARIANTS[name])
    twin = LSTM(INPUTS, H, **VARIANTS[name])
    twin.load_state_dict(module.state_dict())
    x = torch.randn(T, B, INPUTS)
    for other in (twin, copy.deepcopy(module)):
        assert torch.equal(other(x)[0], module(x)[0])
    shown = repr(module)
    for option in VARIANTS[name]:
        assert option.removesuffix("_activation") in shown or option == "gate_activation"


def test_names_and_shapes_of_the_parameters() -> None:
    module = LSTM(
        INPUTS,
        H,
        2,
        peephole=True,
        candidate="leaky_relu",
        cell_output="elu",
        trainable={"candidate.k": "unit", "cell_output.a": "shared"},
    )
    own = {
        k: tuple(v.shape)
        for k, v in module.named_parameters()
        if "weight" not in k and "bias" not in k
    }
    assert own == {
        f"{name}_l{layer}": shape
        for layer in range(2)
        for name, shape in (
            *((p, (1, H)) for p in PEEPHOLES),
            ("candidate_k", (1, H)),
            ("cell_output_a", (1, 1)),
        )
    }
    assert module.candidate_k_l0.flatten().tolist() == pytest.approx([0.01] * H)
    assert module.cell_output_a_l1.item() == 1
    assert 0 < module.input_gate_peephole_l0.abs().max() <= H**-0.5


def test_defaults_have_torchs_parameters_and_random_numbers() -> None:
    torch.manual_seed(3)
    ours = LSTM(INPUTS, H, 2, bidirectional=True)
    torch.manual_seed(3)
    theirs = nn.LSTM(INPUTS, H, 2, bidirectional=True)
    for (name, p), (other, q) in zip(
        ours.named_parameters(), theirs.named_parameters(), strict=True
    ):
        assert name == other
        assert torch.equal(p, q)


@pytest.mark.parametrize("kind", [LSTM, LSTMCell])
def test_reset_brings_the_formulas_numbers_back(kind: Any) -> None:
    module = kind(INPUTS, H, activation="leaky_relu", trainable="unit", peephole=True)
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(7)
    module.reset_parameters()
    suffix = "_l0" if kind is LSTM else ""
    assert set(getattr(module, f"candidate_k{suffix}").flatten().tolist()) == {
        torch.tensor(0.01).item()
    }
    assert getattr(module, f"forget_gate_peephole{suffix}").abs().max() <= H**-0.5


def test_the_cell_is_one_step_of_the_layer() -> None:
    options = VARIANTS["all"] | {"activation": "leaky_relu", "trainable": "unit"}
    layer, cell = LSTM(INPUTS, H, **options), LSTMCell(INPUTS, H, **options)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    x, h, c = torch.randn(B, INPUTS), torch.randn(B, H), torch.randn(B, H)
    _, (h1, c1) = layer(x[None], (h[None], c[None]))
    for found, wanted in zip(cell(x, (h, c)), (h1[0], c1[0]), strict=True):
        torch.testing.assert_close(found, wanted)


def test_coupled_gates_leave_the_forget_gates_rows_alone() -> None:
    module = LSTM(INPUTS, H, coupled=True)
    module(torch.randn(T, B, INPUTS))[0].sum().backward()
    for p in module.parameters():
        assert p.grad is not None
        assert not p.grad[H : 2 * H].any()
        assert p.grad[:H].any()


def test_clip_limits_what_the_activations_see() -> None:
    """With a clip of 0.1 and identities, a gate is at most 0.1."""
    module = LSTM(INPUTS, H, gate_activation="x", activation="x", clip=0.1)
    output, (_, c) = module(100 * torch.randn(T, B, INPUTS))
    assert c.abs().max() <= 0.1 * 0.1 / (1 - 0.1) + 1e-6
    assert output.abs().max() <= 0.01 + 1e-6


def test_a_learnt_slope_learns() -> None:
    """The data come from a leaky ReLU of slope 0.6; the module starts at 0.01."""
    torch.manual_seed(0)
    truth = LSTM(INPUTS, H, activation="leaky_relu", trainable=True)
    nn.init.constant_(truth.candidate_k_l0, 0.6)
    learner = copy.deepcopy(truth)
    nn.init.constant_(learner.candidate_k_l0, 0.01)
    x = torch.randn(T, 64, INPUTS)
    target = truth(x)[0].detach()
    optimizer = torch.optim.Adam([learner.candidate_k_l0], lr=0.05)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.mse_loss(learner(x)[0], target).backward()
        optimizer.step()
    assert learner.candidate_k_l0.item() == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trainable": True}, "no parameter to learn"),
        ({"activation": "leaky_relu", "trainable": "each"}, "'shared' or 'unit'"),
        ({"activation": "leaky_relu", "trainable": {"candidate.a": "unit"}}, "candidate.k"),
        ({"activation": "leaky_relu", "trainable": {"candidate.k": "row"}}, "'shared' or 'unit'"),
        ({"clip": 0.0}, "clip must be a positive number"),
        ({"clip": float("nan")}, "clip must be a positive number"),
        ({"peephole": True, "trainable": {"input_gate_peephole": "unit"}}, "no parameter is"),
        ({"forget_gate": "leaky_relu", "coupled": True}, "coupled LSTM has no slot 'forget_gate'"),
        ({"coupled": True, "trainable": True}, "no parameter to learn"),
    ],
)
def test_errors(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LSTM(INPUTS, H, **options)
