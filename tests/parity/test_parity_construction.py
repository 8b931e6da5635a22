"""The constructor's arguments, the module that comes of them, and its first weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from truth import ANYGATE, ARGUMENTS, TORCH, B, H, I, Kind, T, normal

BUILDS: tuple[dict[str, Any], ...] = (
    {},
    {"bias": False},
    {"num_layers": 3, "bidirectional": True},
    {"num_layers": 2, "proj_size": 3, "bidirectional": True},
    {"proj_size": 2, "bias": False, "batch_first": True},
)


def test_positional_order_is_torchs(lstm: Kind) -> None:
    module = lstm(4, 6, 2, False, True, 0.25, True, 3, "cpu", torch.float64)
    said = {name: getattr(module, name) for name in (*ARGUMENTS, "training")}
    assert said == {
        "mode": "LSTM",
        "input_size": 4,
        "hidden_size": 6,
        "num_layers": 2,
        "bias": False,
        "batch_first": True,
        "dropout": 0.25,
        "bidirectional": True,
        "proj_size": 3,
        "training": True,
    }
    assert isinstance(module, nn.RNNBase)
    assert {(p.dtype, p.device.type) for p in module.parameters()} == {(torch.float64, "cpu")}


def test_keywords_and_defaults(lstm: Kind) -> None:
    module = lstm(input_size=4, hidden_size=6)
    assert {name: getattr(module, name) for name in (*ARGUMENTS, "training")} == {
        "mode": "LSTM",
        "input_size": 4,
        "hidden_size": 6,
        "num_layers": 1,
        "bias": True,
        "batch_first": False,
        "dropout": 0.0,
        "bidirectional": False,
        "proj_size": 0,
        "training": True,
    }


def test_call_by_keyword(lstm: Kind) -> None:
    module, x = lstm(I, H), normal(T, B, I, seed=0).float()
    first = module(input=x, hx=None)[0]
    assert torch.equal(first, module(x)[0])
    zeros = torch.zeros(1, B, H)
    assert torch.equal(first, module(x, hx=(zeros, zeros))[0])
    assert torch.equal(first, module(x, [zeros, zeros])[0])


@pytest.mark.parametrize("build", BUILDS)
def test_names_and_shapes_of_parameters(lstm: Kind, build: dict[str, Any]) -> None:
    module = lstm(I, H, **build)
    wide, ways = build.get("proj_size", 0) or H, 2 if build.get("bidirectional") else 1
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(build.get("num_layers", 1)):
        for end in ("", "_reverse")[:ways]:
            shapes[f"weight_ih_l{layer}{end}"] = (4 * H, wide * ways if layer else I)
            shapes[f"weight_hh_l{layer}{end}"] = (4 * H, wide)
            if build.get("bias", True):
                shapes |= {f"bias_{p}_l{layer}{end}": (4 * H,) for p in ("ih", "hh")}
            if "proj_size" in build:
                shapes[f"weight_hr_l{layer}{end}"] = (wide, H)
    found = {n: tuple(p.shape) for n, p in module.named_parameters()}
    assert (
        found == shapes
        and list(found) == list(shapes)
        and list(module.state_dict()) == list(shapes)
    )
    listed = module.all_weights
    assert [[id(p) for p in row] for row in listed] == [
        [id(p) for n, p in module.named_parameters() if n.endswith(f"_l{k}{end}")]
        for k in range(module.num_layers)
        for end in ("", "_reverse")[:ways]
    ]


@pytest.mark.parametrize("build", BUILDS)
def test_same_seed_same_weights_as_torch(our_lstm: Kind, build: dict[str, Any]) -> None:
    """At construction and at reset_parameters, and the generator stands where it stood."""
    modules = [kind(I, H, seed=5, **build) for kind in (TORCH, our_lstm)]
    for again in (False, True):
        after = []
        for module in modules:
            torch.manual_seed(11 + again)
            if again:
                module.reset_parameters()
            after.append(torch.rand(()))
        assert after[0] == after[1]
        theirs, ours = (list(m.parameters()) for m in modules)
        assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))


@pytest.mark.parametrize("build", BUILDS)
def test_reset_parameters(any_lstm: Kind, build: dict[str, Any]) -> None:
    """Uniform in +-1/sqrt(H), for projections too; the parameters stay the same objects."""
    module = any_lstm(I, H, **build)
    before = [(p, p.detach().clone()) for p in module.parameters()]
    module.reset_parameters()
    for (p, old), now in zip(before, module.parameters(), strict=True):
        assert p is now and not torch.equal(old, now)
        assert p.abs().max() <= 1 / math.sqrt(H)
    assert torch.cat([p.flatten() for p in module.parameters()]).abs().max() > 0.9 / math.sqrt(H)


def test_weights_follow_the_default_dtype(lstm: Kind) -> None:
    torch.set_default_dtype(torch.float64)
    module = lstm(I, H)
    assert module.weight_hh_l0.dtype == torch.float64
    assert module(torch.randn(T, B, I))[0].dtype == torch.float64


# ---- repr -----------------------------------------------------------------------------------

REPRS = (
    ((4, 6), {}, "LSTM(4, 6)"),
    ((4, 6, 2), {}, "LSTM(4, 6, num_layers=2)"),
    ((4, 6), {"bias": False, "batch_first": True}, "LSTM(4, 6, bias=False, batch_first=True)"),
    (
        (4, 6, 2, True, False, 0.5, True, 3),
        {},
        "LSTM(4, 6, proj_size=3, num_layers=2, dropout=0.5, bidirectional=True)",
    ),
)


@pytest.mark.parametrize(("arguments", "options", "text"), REPRS)
def test_repr(lstm: Kind, arguments: Any, options: Any, text: str) -> None:
    module = lstm(*arguments, **options)
    assert repr(module) == text
    assert module.extra_repr() == text[5:-1]
    assert repr(nn.Sequential(module)) == f"Sequential(\n  (0): {text}\n)"


@pytest.mark.parametrize(("arguments", "options", "text"), REPRS)
def test_repr_with_slots_begins_as_torchs(
    our_lstm: Kind, arguments: Any, options: Any, text: str
) -> None:
    said = repr(our_lstm(*arguments, **options))
    if our_lstm is ANYGATE:
        assert said == text
    else:
        assert said == f"{text[:-1]}, activation={our_lstm.name})"


# ---- the parts of nn.LSTM that other code calls or overrides --------------------------------


def test_subclass_and_attributes(lstm: Kind) -> None:
    class Sealed(lstm.layer):  # type: ignore[misc, name-defined]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, input: Tensor, hx: Any = None) -> Any:
            output, state = super().forward(input, hx)
            return self.scale * output, state

    torch.manual_seed(0)
    module, x = Sealed(I, H), normal(T, B, I, seed=0).float()
    output, _ = module(x)
    torch.testing.assert_close(output, 2 * lstm(I, H)(x)[0])
    output.sum().backward()
    assert module.scale.grad is not None and module.weight_hh_l0.grad is not None
    assert [n for n, _ in module.named_parameters()][-1] == "scale"


@pytest.mark.parametrize("proj_size", [0, 2])
def test_helpers_for_shapes(lstm: Kind, proj_size: int) -> None:
    """get_expected_hidden_size and its kin, which code that wraps nn.LSTM calls."""
    module = lstm(I, H, 2, bidirectional=True, batch_first=True, proj_size=proj_size)
    x = torch.zeros(B, T, I)
    assert module.get_expected_hidden_size(x, None) == (4, B, proj_size or H)
    assert module.get_expected_cell_size(x, None) == (4, B, H)
    packed = torch.tensor([2, 1])
    assert module.get_expected_cell_size(torch.zeros(3, I), packed) == (4, 2, H)
    hx = torch.randn(4, B, proj_size or H), torch.randn(4, B, H)
    module.check_forward_args(x, hx, None)
    with pytest.raises(RuntimeError, match=r"Expected hidden\[1\] size \(4, 3, 6\), got"):
        module.check_forward_args(x, (hx[0], hx[1][:1]), None)
    order = torch.tensor([2, 0, 1])
    h, c = module.permute_hidden(hx, order)
    assert torch.equal(h, hx[0][:, order]) and torch.equal(c, hx[1][:, order])
    assert module.permute_hidden(hx, None) is hx


def test_flatten_parameters(lstm: Kind) -> None:
    """Nothing to do on the CPU; models call it before each forward."""
    module, x = lstm(I, H, 2), normal(T, B, I, seed=0).float()
    before = module(x)[0]
    assert module.flatten_parameters() is None
    assert torch.equal(module(x)[0], before)


# ---- errors of the constructor --------------------------------------------------------------

REFUSED: tuple[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str], ...] = (
    ((0, 5), {}, ValueError, "input_size must be greater than zero"),
    ((-1, 5), {}, ValueError, "input_size must be greater than zero"),
    ((4, 0), {}, ValueError, "hidden_size must be greater than zero"),
    ((4.0, 5), {}, TypeError, "input_size should be of type int, got: float"),
    ((4, "5"), {}, TypeError, "hidden_size should be of type int, got: str"),
    ((4, 5, 0), {}, ValueError, "num_layers must be greater than zero"),
    ((4, 5, -1), {}, ValueError, "num_layers must be greater than zero"),
    ((4, 5, 2.0), {}, TypeError, "float"),
    ((4, 5, 1, 1), {}, TypeError, "bias should be of type bool, got: int"),
    ((4, 5, 1, None), {}, TypeError, "bias should be of type bool, got: NoneType"),
    ((4, 5), {"batch_first": 1}, TypeError, "batch_first should be of type bool, got: int"),
    ((4, 5, 2), {"dropout": -0.1}, ValueError, r"dropout should be a number in range \[0, 1\]"),
    ((4, 5, 2), {"dropout": 1.1}, ValueError, r"dropout should be a number in range \[0, 1\]"),
    ((4, 5, 2), {"dropout": True}, ValueError, r"dropout should be a number in range \[0, 1\]"),
    ((4, 5, 2), {"dropout": "0.5"}, ValueError, r"dropout should be a number in range \[0, 1\]"),
    ((4, 5, 2), {"dropout": None}, TypeError, "float"),
    ((4, 5), {"proj_size": -1}, ValueError, "proj_size should be a positive integer or zero"),
    ((4, 5), {"proj_size": 5}, ValueError, "proj_size has to be smaller than hidden_size"),
    ((4, 5), {"proj_size": 6}, ValueError, "proj_size has to be smaller than hidden_size"),
    ((4, 5), {"nonlinearity": "relu"}, TypeError, "unexpected keyword argument 'nonlinearity'"),
    ((4, 5), {"input_size": 3}, TypeError, "multiple values for argument 'input_size'"),
    ((4,), {}, TypeError, "missing 1 required positional argument: 'hidden_size'"),
    ((4, 5, 1, True, False, 0.0, False, 0, None, None, 3), {}, TypeError, "positional arguments"),
    ((4, 5), {"dtype": torch.int64}, RuntimeError, "floating point"),
    ((4, 5), {"device": "nope"}, RuntimeError, "nope"),
)


@pytest.mark.parametrize(("arguments", "options", "error", "words"), REFUSED)
def test_refused(lstm: Kind, arguments: Any, options: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words) as raised:
        lstm(*arguments, **options)
    assert raised.type is error


CELL_REFUSED: tuple[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str], ...] = (
    ((4, -1), {}, RuntimeError, "negative dimension"),
    ((4.0, 5), {}, TypeError, "float"),
    ((4,), {}, TypeError, "missing 1 required positional argument: 'hidden_size'"),
    ((4, 5), {"num_layers": 2}, TypeError, "unexpected keyword argument 'num_layers'"),
    ((4, 5, True, None, None, 3), {}, TypeError, "positional arguments"),
    ((4, 5), {"dtype": torch.int64}, RuntimeError, "floating point"),
)


@pytest.mark.parametrize(("arguments", "options", "error", "words"), CELL_REFUSED)
def test_cell_refused(lstm: Kind, arguments: Any, options: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        lstm.cell(*arguments, **options)
