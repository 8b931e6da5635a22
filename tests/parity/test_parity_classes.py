"""GRU, GRUCell, RNN and RNNCell beside torch's: construction, one step, errors, torch.compile and
torch.export. What the other files of this folder test of all families is not repeated here."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export, load, save
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.rnn import pack_padded_sequence
from truth import (
    ARGUMENTS,
    GRU,
    PAIRS,
    RNN,
    RNN_RELU,
    TORCH_GRU,
    TORCH_RNN,
    TORCH_RNN_RELU,
    B,
    H,
    I,
    Kind,
    T,
    mix,
    normal,
)

import anygate

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",  # torch's own, of its JIT
    "ignore::FutureWarning",
    "ignore:The tensor attributes self._flat_weights:UserWarning",
)
Pair = tuple[Kind, Kind]
PAIRED = pytest.mark.parametrize("pair", PAIRS[1:], ids=lambda p: p[1].name)
EACH = pytest.mark.parametrize(
    "kind", [TORCH_GRU, GRU, TORCH_RNN, RNN, TORCH_RNN_RELU, RNN_RELU], ids=lambda k: k.name
)
OURS = pytest.mark.parametrize("kind", [GRU, RNN], ids=lambda k: k.name)
CLASSES = {nn.GRU: anygate.GRU, nn.GRUCell: anygate.GRUCell, nn.RNNCell: anygate.RNNCell}


# ---- construction -----------------------------------------------------------------------------


@PAIRED
@pytest.mark.parametrize("step", [False, True])
def test_same_seed_same_weights(pair: Pair, step: bool) -> None:
    """The same names, shapes and random numbers; loaded both ways, strictly."""
    theirs, ours = (kind.cell(I, H, seed=3) if step else kind(I, H, 2, seed=3) for kind in pair)
    assert [n for n, _ in theirs.named_parameters()] == [n for n, _ in ours.named_parameters()]
    for module in (theirs, ours):
        torch.manual_seed(4)
        module.reset_parameters()
    for a, b in zip(theirs.parameters(), ours.parameters(), strict=True):
        assert torch.equal(a, b)
    assert theirs.state_dict()._metadata == ours.state_dict()._metadata
    fresh = [kind.cell(I, H, seed=9) if step else kind(I, H, 2, seed=9) for kind in pair]
    fresh[0].load_state_dict(ours.state_dict(), strict=True)
    fresh[1].load_state_dict(theirs.state_dict(), strict=True)
    for a, b in zip(fresh[0].parameters(), fresh[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_positional_arguments() -> None:
    """In torch's order."""
    given = (I, H, 2, False, True, 0.25, True)
    where: dict[str, Any] = {"device": "cpu", "dtype": torch.float64}
    theirs, ours = nn.GRU(*given, **where), anygate.GRU(*given, **where)
    rnn = (I, H, 2, "relu", False, True, 0.25, True)
    for a, b in ((theirs, ours), (nn.RNN(*rnn, **where), anygate.RNN(*rnn, **where))):
        for name in ARGUMENTS:
            assert getattr(a, name) == getattr(b, name), name
        assert [(n, p.shape, p.dtype) for n, p in a.named_parameters()] == [
            (n, p.shape, p.dtype) for n, p in b.named_parameters()
        ]
        assert isinstance(b, nn.RNNBase) and type(a) not in type(b).__mro__
    assert anygate.RNN(*rnn).nonlinearity == "relu"
    for cls, cell in CLASSES.items():
        if issubclass(cls, nn.RNNCellBase):
            names = list(inspect.signature(cls).parameters)
            assert list(inspect.signature(cell).parameters)[: len(names)] == names
            assert isinstance(cell(I, H), nn.RNNCellBase)


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (lambda: anygate.GRU(4, 6), "GRU(4, 6)"),
        (
            lambda: anygate.GRU(4, 6, 2, dropout=0.5, bidirectional=True),
            "GRU(4, 6, num_layers=2, dropout=0.5, bidirectional=True)",
        ),
        (lambda: anygate.GRU(4, 6, candidate="relu"), "GRU(4, 6, activation=relu)"),
        (lambda: anygate.GRU(4, 6, reset_gate="elliott"), "GRU(4, 6, reset_gate=elliott)"),
        (lambda: anygate.GRU(4, 6, reset_after=False), "GRU(4, 6, reset_after=False)"),
        (lambda: anygate.RNN(4, 6), "RNN(4, 6)"),
        (lambda: anygate.RNN(4, 6, nonlinearity="relu"), "RNN(4, 6, activation=relu)"),
        (lambda: anygate.RNN(4, 6, activation="x*tanh(x)"), "RNN(4, 6, activation=x*tanh(x))"),
        (lambda: anygate.GRUCell(4, 6, bias=False), "GRUCell(4, 6, bias=False)"),
        (lambda: anygate.RNNCell(4, 6, activation="elu"), "RNNCell(4, 6, activation=elu)"),
    ],
)
def test_repr(module: Any, said: str) -> None:
    assert repr(module()) == said


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: anygate.RNN(I, H, nonlinearity="elu"), "write activation='elu'"),
        (lambda: anygate.RNN(I, H, nonlinearity="relu", activation="elu"), "give nonlinearity= or"),
        (lambda: anygate.RNN(I, H, activation="relu", trainable=True), "no parameter to learn"),
        (lambda: anygate.GRU(I, H, forget_gate="relu"), "keyword argument 'forget_gate'"),
        (lambda: anygate.GRU(I, H, proj_size=2), "unexpected keyword argument 'proj_size'"),
        (lambda: anygate.GRU(I, H, update_gate="relo"), "update_gate: no activation is called"),
        (lambda: anygate.GRU(I, H, reset_after=False, layer_norm=True), "of one product a step"),
        (lambda: anygate.GRU(0, H), "input_size must be greater than zero"),
        (lambda: anygate.RNN(I, H, 0), "num_layers must be greater than zero"),
        (lambda: anygate.GRU(I, 2.5), "hidden_size should be of type int, got: float"),
    ],
)
def test_refused(make: Any, words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        make()


# ---- one step ---------------------------------------------------------------------------------


@PAIRED
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(B,), (17,), ()], ids=str)
def test_one_step(pair: Pair, batch: tuple[int, ...], bias: bool, dtype: torch.dtype) -> None:
    """h and every gradient as torch's, with a state and without."""
    found = []
    for kind in pair:
        cell = kind.cell(I, H, bias=bias, dtype=dtype)
        x, h = (normal(*batch, n, seed=n, dtype=dtype).requires_grad_() for n in (I, H))
        results = [cell(x), cell(x, h)]
        assert all(r.shape == (*batch, H) and r.dtype == dtype for r in results)
        loss = mix(dict(enumerate(results)), range(len(results)))
        grads = torch.autograd.grad(loss, [x, h, *cell.parameters()])
        found.append([*results, *grads])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=64 * torch.finfo(dtype).eps)


@EACH
def test_a_loop_of_steps_is_the_layer(kind: Kind) -> None:
    layer, cell = kind(I, H, dtype=torch.float64), kind.cell(I, H, dtype=torch.float64)
    cell.load_state_dict({n.removesuffix("_l0"): w for n, w in layer.state_dict().items()})
    x, h, outputs = normal(T, B, I, seed=3), None, []
    for step in x:
        h = cell(step, h)
        outputs.append(h)
    output, end = layer(x)
    torch.testing.assert_close(torch.stack(outputs), output, rtol=1e-13, atol=1e-14)
    assert torch.equal(end[0], output[-1])
    for other in (copy.deepcopy(cell), pickle.loads(pickle.dumps(cell))):
        assert torch.equal(other(x[0]), cell(x[0]))


@EACH
def test_a_step_with_computed_weights(kind: Kind) -> None:
    cell, x = kind.cell(I, H, dtype=torch.float64), normal(B, I, seed=1)
    parametrizations.weight_norm(cell, "weight_hh")
    prune.l1_unstructured(cell, "weight_ih", 0.5)
    cell(x, normal(B, H, seed=2)).sum().backward()
    assert (cell.weight_ih_orig.grad[cell.weight_ih_mask == 0] == 0).all()
    assert cell.parametrizations.weight_hh.original0.grad is not None
    plain = kind.cell(I, H, dtype=torch.float64)
    plain.load_state_dict(
        {n: getattr(cell, n).detach() for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    )
    torch.testing.assert_close(cell(x), plain(x), rtol=1e-13, atol=1e-14)


# ---- errors in torch's words ------------------------------------------------------------------

ZEROS = torch.zeros
CALLS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "1-D input": (ZEROS(I), None, {}),
    "4-D input": (ZEROS(1, T, B, I), None, {}),
    "features": (ZEROS(T, B, 7), None, {}),
    "no step": (ZEROS(0, B, I), None, {}),
    "state's batch": (ZEROS(T, B, I), ZEROS(1, B + 1, H), {}),
    "state's size": (ZEROS(T, B, I), ZEROS(1, B, H + 1), {}),
    "state's layers": (ZEROS(T, B, I), ZEROS(1, B, H), {"num_layers": 2}),
    "2-D state": (ZEROS(T, B, I), ZEROS(B, H), {}),
    "3-D state unbatched": (ZEROS(T, I), ZEROS(1, 1, H), {}),
    "batch first": (ZEROS(B, T, I), ZEROS(1, T, H), {"batch_first": True}),
    "dtype": (ZEROS(T, B, I).double(), None, {}),
    "pack's features": (pack_padded_sequence(ZEROS(T, B, 7), [T, 2, 1]), None, {}),
    "pack's state": (pack_padded_sequence(ZEROS(T, B, I), [T, 2, 1]), ZEROS(1, B + 1, H), {}),
}
STATED = (
    "4-D input",
    "features",
    "no step",
    "state's batch",
    "state's size",
    "state's layers",
    "2-D state",
    "3-D state unbatched",
    "batch first",
    "pack's state",
)


def refusal(run: Any) -> tuple[type[BaseException], str]:
    with pytest.raises((RuntimeError, ValueError)) as raised:
        run()
    return raised.type, str(raised.value)


@PAIRED
@pytest.mark.parametrize("case", CALLS)
def test_a_wrong_call(pair: Pair, case: str) -> None:
    """The same type, and the same numbers in the same words where torch has words for it."""
    x, hx, options = CALLS[case]
    theirs, ours = (refusal(lambda k=kind: k(I, H, **options)(x, hx)) for kind in pair)
    assert ours[0] is theirs[0]
    if case in STATED:
        plain = [text.replace("[", "(").replace("]", ")") for _, text in (theirs, ours)]
        plain[0] = plain[0].replace("4D tensor instead", "4D instead")  # nn.RNN's own, not GRU's
        assert plain[0].rstrip(".") == plain[1].rstrip(".")


@PAIRED
@pytest.mark.parametrize(
    ("x", "hx"),
    [
        ((1, B, I), None),
        ((B, 7), None),
        ((B, I), (B, H + 1)),
        ((B, I), (B + 1, H)),
        ((B, I), (1, B, H)),
        ((I,), (1, H)),
    ],
    ids=str,
)
def test_a_wrong_step(pair: Pair, x: Any, hx: Any) -> None:
    state = None if hx is None else ZEROS(hx)
    theirs, ours = (refusal(lambda k=kind: k.cell(I, H)(ZEROS(x), state)) for kind in pair)
    assert issubclass(ours[0], theirs[0])
    assert any(word in ours[1] for word in ("xpected", "inconsistent"))


def test_a_state_of_the_wrong_kind() -> None:
    """A tuple, as an LSTM has it."""
    for kind in (GRU, RNN):
        with pytest.raises(TypeError, match="h must be a tensor, not tuple"):
            kind(I, H)(ZEROS(T, B, I), (ZEROS(1, B, H), ZEROS(1, B, H)))


# ---- torch.compile and torch.export -----------------------------------------------------------


@pytest.fixture
def _fresh_dynamo() -> Any:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@OURS
@pytest.mark.usefixtures("_fresh_dynamo")
def test_one_step_compiled(kind: Kind) -> None:
    cell = kind.cell(I, H, dtype=torch.float64)
    run = torch.compile(cell, fullgraph=True, dynamic=True, backend="aot_eager")
    x, h = normal(5, I, seed=1), normal(5, H, seed=2)
    torch.testing.assert_close(run(x, h), cell(x, h), rtol=1e-12, atol=1e-13)


@OURS
def test_export(kind: Kind) -> None:
    """Saved, loaded, and run on other sizes with a state."""
    module = kind(I, H, 2, dtype=torch.float64).eval()
    steps, batch = Dim("steps", min=2, max=99), Dim("batch", min=2, max=99)
    example = (normal(5, 3, I, seed=3), normal(2, 3, H, seed=4))
    shapes = {"input": {0: steps, 1: batch}, "hx": {1: batch}}
    file = io.BytesIO()
    save(export(module, example, dynamic_shapes=shapes), file)
    file.seek(0)
    again = load(file).module()
    for t, b in ((5, 3), (7, 6)):
        x, h = normal(t, b, I, seed=5), normal(2, b, H, seed=6)
        for found, wanted in zip(again(x, h), module(x, h), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-13)


# ---- the equations in the docstrings ----------------------------------------------------------


@pytest.mark.parametrize("slot", ["reset_gate", "update_gate", "candidate"])
@pytest.mark.parametrize("engine", ["cpu", "eager", "reference"])
@pytest.mark.parametrize("reset_after", [True, False])
def test_each_slot_of_a_gru(slot: str, engine: str, reset_after: bool) -> None:
    """By hand, with sin in one slot; with the reset before the product too."""
    if engine == "cpu" and not reset_after:
        engine = "auto"  # cpu refuses: tests/test_user_cell.py
    torch.manual_seed(0)
    gru = anygate.GRU(
        I, H, dtype=torch.float64, engine=engine, reset_after=reset_after, **{slot: "sine"}
    )
    x, h0 = normal(1, B, I, seed=1), normal(1, B, H, seed=2)
    f = dict.fromkeys(("reset_gate", "update_gate"), torch.sigmoid) | {"candidate": torch.tanh}
    f[slot] = torch.sin
    h = h0[0]

    def parts(kind: str, t: Tensor) -> Any:
        weight, bias = (getattr(gru, f"{name}_{kind}_l0") for name in ("weight", "bias"))
        return (t @ weight.T + bias).chunk(3, -1)

    (x_r, x_z, x_n), (h_r, h_z, h_n) = parts("ih", x[0]), parts("hh", h)
    r, u = f["reset_gate"](x_r + h_r), f["update_gate"](x_z + h_z)
    inner = r * h_n if reset_after else parts("hh", r * h)[2]
    wanted = (1 - u) * f["candidate"](x_n + inner) + u * h
    output, end = gru(x, h0)
    for found in (output[0], end[0]):
        torch.testing.assert_close(found, wanted, rtol=1e-13, atol=1e-14)
