"""LSTM and LSTMCell: torch.nn's modules to rounding at their defaults, and the slots."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
from typing import Any

import pytest
import sympy
import torch
from autocasting import torch_autocasts
from torch import Tensor, nn

import anygate
from anygate import LSTM, Activation, FormulaError, LSTMCell
from anygate.cells import LSTM as LSTM_TYPE
from anygate.cells import make
from anygate.engines import EngineError, names

T, B, I, H = 6, 3, 4, 5  # noqa: E741
SLOTS = ("input_gate", "forget_gate", "candidate", "output_gate", "cell_output")


def twins(cls: Any = nn.LSTM, **options: Any) -> tuple[Any, Any]:
    """torch's module and ours with the same weights."""
    torch.manual_seed(0)
    theirs = cls(I, H, **options)
    ours = (LSTM if cls is nn.LSTM else LSTMCell)(I, H, **options)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, ours


def everything(module: Any, x: Tensor, hx: Any = None) -> dict[str, Tensor]:
    """Output, state and the gradients by input, state and every parameter."""
    module.zero_grad()
    x = x.clone().requires_grad_()
    hx = tuple(s.clone().requires_grad_() for s in hx) if hx else None
    output, (h, c) = module(x, hx) if hx else module(x)
    weights = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    ((output * weights).sum() + h.sin().sum() + (c * c).sum()).backward()
    found = {"output": output, "h": h, "c": c, "grad x": x.grad}
    found |= {f"grad {n}": p.grad for n, p in module.named_parameters()}
    if hx:
        found |= {"grad h0": hx[0].grad, "grad c0": hx[1].grad}
    return {name: value.detach() for name, value in found.items() if value is not None}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor], dtype: torch.dtype) -> None:
    """To rounding: sums of T*B products of numbers of size 1, whose order differs."""
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        assert ours[name].shape == value.shape, name
        assert ours[name].dtype == value.dtype
        room = 64 * torch.finfo(dtype).eps * max(1.0, value.abs().max().item())
        off = (ours[name] - value).abs().max() if value.numel() else 0.0
        assert off <= room, f"{name} is off by {off:.3g}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("layers", "bidirectional", "bias"),
    list(itertools.product((1, 2, 3), (False, True), (False, True))),
)
def test_equals_nn_lstm(layers: int, bidirectional: bool, bias: bool, dtype: torch.dtype) -> None:
    """Outputs and all gradients, with and without a state, in all three layouts of the input."""
    count = layers * (2 if bidirectional else 1)
    for batch_first in (False, True):
        theirs, ours = twins(
            num_layers=layers,
            bidirectional=bidirectional,
            bias=bias,
            batch_first=batch_first,
            dtype=dtype,
        )
        x = torch.randn(*((B, T) if batch_first else (T, B)), I, dtype=dtype)
        hx = tuple(torch.randn(count, B, H, dtype=dtype) for _ in range(2))
        for state in (None, hx):
            same(everything(ours, x, state), everything(theirs, x, state), dtype)
        flat = torch.randn(T, I, dtype=dtype)
        single = tuple(torch.randn(count, H, dtype=dtype) for _ in range(2))
        for state in (None, single):
            same(everything(ours, flat, state), everything(theirs, flat, state), dtype)


@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}])
def test_state_dict_both_ways(options: dict[str, Any]) -> None:
    theirs, ours = nn.LSTM(I, H, **options), LSTM(I, H, activation="tanh", **options)
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    theirs.load_state_dict(ours.state_dict(), strict=True)
    fresh = LSTM(I, H, **options)
    fresh.load_state_dict(theirs.state_dict(), strict=True)
    assert list(fresh.state_dict()) == list(nn.LSTM(I, H, **options).state_dict())
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, before[name])
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]


def test_same_seed_same_weights_as_torch() -> None:
    torch.manual_seed(3)
    theirs = nn.LSTM(I, H, num_layers=2)
    torch.manual_seed(3)
    ours = LSTM(I, H, num_layers=2, activation="softsign")
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [False, True])
def test_cell_equals_nn_lstm_cell(bias: bool, dtype: torch.dtype) -> None:
    theirs, ours = twins(nn.LSTMCell, bias=bias, dtype=dtype)
    state = torch.randn(2, B, H, dtype=dtype)
    for shape in ((B,), ()):
        results = []
        for module in (ours, theirs):
            module.zero_grad()
            x = torch.linspace(-1, 1, I * (B if shape else 1), dtype=dtype).view(*shape, I)
            x.requires_grad_()
            hx = tuple(s if shape else s[0] for s in state)
            h, c = module(x, hx)
            h2, c2 = module(x)
            ((h * c).sum() + (h2 - c2).sum()).backward()
            grads = [p.grad.clone() for p in module.parameters()]
            results.append([h, c, h2, c2, x.grad, *grads])
        for mine, torchs in zip(*results, strict=True):
            assert mine.shape == torchs.shape
            room = 64 * torch.finfo(dtype).eps * max(1.0, torchs.abs().max().item())
            torch.testing.assert_close(mine, torchs, rtol=0, atol=room)


def test_cell_is_one_step_of_the_layer() -> None:
    torch.manual_seed(0)
    options = {"activation": "gelu", "forget_gate": "hard_sigmoid", "dtype": torch.float64}
    layer, cell = LSTM(I, H, **options), LSTMCell(I, H, **options)
    cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
    x = torch.randn(T, B, I, dtype=torch.float64)
    h, c = torch.zeros(2, B, H, dtype=torch.float64)
    outputs = []
    for step in x:
        h, c = cell(step, (h, c))
        outputs.append(h)
    torch.testing.assert_close(torch.stack(outputs), layer(x)[0], rtol=1e-14, atol=1e-14)


@pytest.mark.filterwarnings("ignore:isinstance.*is False")
def test_what_it_is() -> None:
    """nn.RNNBase, so that `model.apply(initialise)` finds it; not nn.LSTM, which Dynamo refuses."""
    lstm = LSTM(I, H)
    assert isinstance(lstm, nn.RNNBase)
    assert not isinstance(lstm, nn.LSTM)
    assert isinstance(LSTMCell(I, H), nn.RNNCellBase)
    assert anygate.LSTM is LSTM
    assert lstm.mode == "LSTM"
    assert lstm.all_weights[0][0] is lstm.weight_ih_l0
    assert lstm.flatten_parameters() is None


# ---- slots ----------------------------------------------------------------------------------


def test_slots_and_shortcuts() -> None:
    """activation sets two slots, gate_activation three; a slot by itself wins."""
    lstm = LSTM(I, H, activation="relu", gate_activation="hard_sigmoid", candidate="softsign")
    assert {k: a.name for k, a in lstm.cell.slots.items()} == {
        "input_gate": "hard_sigmoid",
        "forget_gate": "hard_sigmoid",
        "candidate": "softsign",
        "output_gate": "hard_sigmoid",
        "cell_output": "relu",
    }
    other = LSTM(I, H, cell_output="relu", input_gate="relu", gate_activation="elliott")
    chosen = [a.name for a in other.cell.slots.values()]
    assert chosen == ["relu", "elliott", "tanh", "elliott", "relu"]
    assert LSTM(I, H).cell == make(LSTM_TYPE)
    assert LSTM(I, H, activation="tanh", gate_activation="sigmoid").cell == make(LSTM_TYPE)


@pytest.mark.parametrize("slot", SLOTS)
def test_each_slot_does_what_its_equation_says(slot: str) -> None:
    """Against the equations of the docstring, by hand, with sin in one slot."""
    torch.manual_seed(0)
    lstm = LSTM(I, H, **{slot: "sine"}, dtype=torch.float64)
    x = torch.randn(1, B, I, dtype=torch.float64)
    h0, c0 = torch.randn(2, 1, B, H, dtype=torch.float64)
    f = dict.fromkeys(("input_gate", "forget_gate", "output_gate"), torch.sigmoid)
    f |= dict.fromkeys(("candidate", "cell_output"), torch.tanh) | {slot: torch.sin}
    z = x[0] @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + h0[0] @ lstm.weight_hh_l0.T + lstm.bias_hh_l0
    zi, zf, zg, zo = z.split(H, -1)
    c = f["forget_gate"](zf) * c0[0] + f["input_gate"](zi) * f["candidate"](zg)
    h = f["output_gate"](zo) * f["cell_output"](c)
    output, (h1, c1) = lstm(x, (h0, c0))
    for found, expected in ((output[0], h), (h1[0], h), (c1[0], c)):
        torch.testing.assert_close(found, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    "spec",
    [
        "relu",
        "ReLU",
        "x*sigmoid(x)",
        "leaky_relu(k=0.2)",
        sympy.Max(sympy.Symbol("x"), 0),
        Activation("mine", "k*tanh(x)", k=2.0),
    ],
    ids=str,
)
def test_what_a_slot_accepts(spec: Any) -> None:
    output, _ = LSTM(I, H, activation=spec)(torch.randn(T, B, I))
    assert output.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"forget_gate": "sigmod"},
            "forget_gate: no activation is called 'sigmod'. Did you mean sigmoid",
        ),
        ({"activation": "softmax"}, "activation: softmax is not elementwise"),
        ({"candidate": "k*x"}, "candidate: the formula 'k.x' has the free symbol 'k'"),
        ({"cell_output": lambda x: x}, "cell_output: .*formula"),
        (
            {"gate_activation": "leaky_relu(a=1)"},
            "gate_activation: leaky_relu has no parameter 'a'",
        ),
        ({"output_gate": "__import__('os')"}, "output_gate: unknown function '__import__'"),
    ],
)
@pytest.mark.parametrize("module", [LSTM, LSTMCell])
def test_errors_name_the_slot(module: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        module(I, H, **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "LSTM(4, 5)"),
        ({"num_layers": 2, "dropout": 0.1}, "LSTM(4, 5, num_layers=2, dropout=0.1)"),
        ({"activation": "relu"}, "LSTM(4, 5, activation=relu)"),
        ({"candidate": "relu"}, "LSTM(4, 5, candidate=relu)"),
        (
            {"gate_activation": "hard_sigmoid", "forget_gate": "elliott"},
            "LSTM(4, 5, input_gate=hard_sigmoid, forget_gate=elliott, output_gate=hard_sigmoid)",
        ),
        (
            {"activation": "leaky_relu(k=0.2)", "bidirectional": True},
            "LSTM(4, 5, bidirectional=True, activation=leaky_relu(k=0.2))",
        ),
    ],
)
def test_repr(options: dict[str, Any], said: str) -> None:
    assert repr(LSTM(I, H, **options)) == said


def test_repr_of_the_cell() -> None:
    assert repr(LSTMCell(I, H, activation="relu")) == "LSTMCell(4, 5, activation=relu)"


def test_copies_and_files() -> None:
    lstm = LSTM(I, H, 2, activation="x*sigmoid(2*x)", forget_gate="hard_sigmoid(alpha=0.25)")
    x = torch.randn(T, B, I)
    file = io.BytesIO()
    torch.save(lstm, file)
    file.seek(0)
    again = [
        copy.deepcopy(lstm),
        pickle.loads(pickle.dumps(lstm)),
        torch.load(file, weights_only=False),
    ]
    for other in again:
        assert other.cell == lstm.cell
        assert repr(other) == repr(lstm)
        assert torch.equal(other(x)[0], lstm(x)[0])
    again[0].weight_ih_l0.data.zero_()
    assert lstm.weight_ih_l0.abs().sum() > 0


# ---- engines --------------------------------------------------------------------------------


def test_the_reference_engine_gives_the_same() -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {
        "num_layers": 2,
        "bidirectional": True,
        "candidate": "leaky_relu",
        "dtype": torch.float64,
    }
    fast, slow = LSTM(I, H, **options), LSTM(I, H, engine="reference", **options)
    slow.load_state_dict(fast.state_dict())
    x, hx = torch.randn(T, B, I).double(), tuple(torch.randn(2, 4, B, H).double())
    same(everything(slow, x, hx), everything(fast, x, hx), torch.float64)
    single = LSTM(I, H, engine="reference")
    output, _ = single(torch.randn(T, B, I))
    assert output.dtype == torch.float32


def test_explain() -> None:
    lstm = LSTM(I, H)
    choice = lstm.explain(torch.randn(T, B, I))
    assert choice.name in names()
    assert str(choice).startswith(f"engine: {choice.name}")
    assert LSTM(I, H, engine="reference").explain(torch.randn(T, B, I)).name == "reference"
    assert LSTMCell(I, H).explain(torch.randn(B, I)).name in names()
    for module in (LSTM, LSTMCell):
        with pytest.raises(EngineError, match="no engine is called 'gpu'; there are: auto, "):
            module(I, H, engine="gpu")


@pytest.mark.filterwarnings("ignore:a gradient of a gradient")
def test_double_backward() -> None:
    """A gradient penalty: the gradient's own gradient, against torch's loop of LSTMCells."""
    theirs, ours = twins(dtype=torch.float64)
    grads = []
    for module in (theirs, ours):
        x = torch.linspace(-1, 1, T * B * I, dtype=torch.float64).view(T, B, I).requires_grad_()
        output = module(x)[0]
        (slope,) = torch.autograd.grad(output.pow(2).sum(), x, create_graph=True)
        slope.pow(2).sum().backward()
        grads.append([x.grad, *(p.grad for p in module.parameters())])
    for mine, torchs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, torchs, rtol=1e-10, atol=1e-10)


# ---- dropout --------------------------------------------------------------------------------


def test_dropout() -> None:
    """Between layers only, in training only; the share that is dropped is p, the rest grows."""
    torch.manual_seed(0)
    lstm = LSTM(1, 256, num_layers=2, dropout=0.25, cell_output="identity")
    x = torch.randn(8, 4, 1)
    seen: list[Tensor] = []
    real = nn.functional.dropout

    def spy(input: Tensor, p: float, training: bool) -> Tensor:
        result = real(input, p, training)
        seen.extend((input.detach(), result.detach()))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.functional, "dropout", spy)
        first, second = lstm(x)[0], lstm(x)[0]
    assert not torch.equal(first, second)
    before, after = seen[:2]
    assert len(seen) == 4
    dropped = (after == 0).float().mean().item()
    assert abs(dropped - 0.25) < 4 * (0.25 * 0.75 / after.numel()) ** 0.5
    torch.testing.assert_close(after[after != 0], before[after != 0] / 0.75)
    assert (first != 0).all()  # nothing is dropped after the last layer

    lstm.eval()
    theirs = nn.LSTM(1, 256, num_layers=2)
    default = LSTM(1, 256, num_layers=2, dropout=0.25).eval()
    theirs.load_state_dict(default.state_dict())
    assert torch.equal(lstm(x)[0], lstm(x)[0])
    torch.testing.assert_close(default(x)[0], theirs(x)[0])


def test_dropout_with_one_layer_warns_as_torch() -> None:
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last"):
        LSTM(I, H, dropout=0.5)


# ---- types, shapes, errors ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types(dtype: torch.dtype) -> None:
    """bfloat16 and float16 stay near the reference; the dtype stays what it is."""
    lstm = LSTM(I, H, activation="mish").to(dtype)
    x = torch.randn(T, B, I).to(dtype).requires_grad_()
    output, (h, c) = lstm(x)
    output.sum().backward()
    assert output.dtype == h.dtype == c.dtype == x.grad.dtype == dtype  # type: ignore[union-attr]
    wide = LSTM(I, H, activation="mish", dtype=torch.float64, engine="reference")
    wide.load_state_dict(lstm.state_dict())
    room = 16 * torch.finfo(dtype).eps
    torch.testing.assert_close(output.double(), wide(x.double())[0], rtol=0, atol=room)


def test_no_grad_and_frozen_weights() -> None:
    lstm = LSTM(I, H)
    x = torch.randn(T, B, I)
    with torch.no_grad():
        output = lstm(x)[0]
    assert not output.requires_grad
    torch.testing.assert_close(lstm(x)[0].detach(), output, rtol=0, atol=0)
    lstm.requires_grad_(False)
    x.requires_grad_()
    lstm(x)[0].sum().backward()
    assert x.grad is not None
    lstm.weight_hh_l0.requires_grad_()
    lstm(x.detach())[0].sum().backward()
    assert lstm.weight_hh_l0.grad is not None
    assert lstm.weight_ih_l0.grad is None


def test_only_the_cell_state_is_used() -> None:
    """A loss on c alone, or on one step, has the gradients of nn.LSTM."""
    theirs, ours = twins(dtype=torch.float64)
    x = torch.randn(T, B, I, dtype=torch.float64)
    for pick in (lambda r: r[1][1].sum(), lambda r: r[0][2].sum(), lambda r: r[1][0].sum()):
        for module in (theirs, ours):
            module.zero_grad()
            pick(module(x)).backward()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_empty_batch(bidirectional: bool) -> None:
    """B = 0 works as in nn.LSTM, its gradients are zeros; T = 0 is refused as in nn.LSTM."""
    theirs, ours = twins(bidirectional=bidirectional)
    for module in (theirs, ours):
        output, (h, c) = module(torch.randn(T, 0, I))
        assert output.shape == (T, 0, H * (1 + bidirectional))
        assert h.shape == c.shape == (1 + bidirectional, 0, H)
        with pytest.raises(RuntimeError, match="Expected sequence length to be larger than 0"):
            module(torch.randn(0, B, I))
    output.sum().backward()
    assert all((p.grad == 0).all() for p in ours.parameters())


@pytest.mark.parametrize(
    ("input", "hx"),
    [
        ((T, B, I + 1), None),
        ((T,), None),
        ((1, T, B, I), None),
        ((T, B, I), ((1, B + 1, H), (1, B, H))),
        ((T, B, I), ((1, B, H), (1, B, H + 1))),
        ((T, B, I), ((2, B, H), (1, B, H))),
        ((T, B, I), ((B, H), (B, H))),
        ((T, I), ((1, B, H), (1, B, H))),
        ((T, I), ((2, H), (1, H))),
    ],
)
def test_shape_errors_as_in_torch(input: tuple[int, ...], hx: Any) -> None:
    """Refused as by nn.LSTM, with the same type, and the message says the shapes."""
    theirs, ours = twins()
    for module in (theirs, ours):
        state = None if hx is None else tuple(torch.zeros(s) for s in hx)
        with pytest.raises((RuntimeError, ValueError)) as error:
            module(torch.randn(input), state)
        if module is theirs:
            kind = error.type
        assert error.type is kind
    assert any(word in str(error.value) for word in ("xpected", "must be equal", "should also be"))


def test_dtype_error_says_what_to_do() -> None:
    message = r"input is torch.float64 but the weights are torch.float32. Convert"
    with pytest.raises(ValueError, match=message):
        LSTM(I, H)(torch.randn(T, B, I).double())


@pytest.mark.parametrize(
    ("input", "hx", "message"),
    [
        ((1, B, I), None, "Expected input to be 1D or 2D, got 3D"),
        ((B, I + 1), None, "input has inconsistent input_size: got 5 expected 4"),
        ((B, I), ((B, H + 1), (B, H)), "LSTMCell: expected h of "),
        ((B, I), ((B, H), (B + 1, H)), "LSTMCell: expected c of "),
    ],
)
def test_cell_shape_errors(input: tuple[int, ...], hx: Any, message: str) -> None:
    state = None if hx is None else tuple(torch.zeros(s) for s in hx)
    with pytest.raises((RuntimeError, ValueError), match=message):
        LSTMCell(I, H)(torch.randn(input), state)


def test_it_learns() -> None:
    """A few steps of Adam lower a loss, with activations that torch's kernel does not have."""
    torch.manual_seed(0)
    lstm, head = LSTM(1, 8, activation="penalized_tanh", forget_gate="elliott"), nn.Linear(8, 1)
    x = torch.randn(10, 16, 1)
    target = x.sum(0)
    optimiser = torch.optim.Adam([*lstm.parameters(), *head.parameters()], 0.02)
    losses = []
    for _ in range(60):
        loss = nn.functional.mse_loss(head(lstm(x)[0][-1]), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("activation", [None, "gelu"])
def test_autocast_gives_the_dtype_that_torch_gives(activation: str | None) -> None:
    torch.manual_seed(0)
    ours, theirs = anygate.LSTM(5, 7, num_layers=2, activation=activation), nn.LSTM(5, 7, 2)
    theirs.load_state_dict(ours.state_dict(), strict=activation is None)
    x = torch.randn(4, 2, 5)
    with torch.autocast("cpu", torch.bfloat16):
        for given in (x, x.bfloat16()):
            output, (h, c) = ours(given)
            assert output.dtype == h.dtype == c.dtype == torch.bfloat16
            if torch_autocasts():
                expected, _ = theirs(given)
                assert expected.dtype == torch.bfloat16
                if activation is None:
                    torch.testing.assert_close(output, expected, rtol=0.02, atol=0.004)
            ours.zero_grad()
            output.float().sum().backward()
            assert all(p.grad.dtype == torch.float32 for p in ours.parameters())
    assert ours(x)[0].dtype == torch.float32
