"""swap: what changes is the class and the activations; everything else of a model stays."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
import warnings
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import anygate
from anygate import Activation, FormulaError
from anygate.cells import LSTM as LSTM_TYPE
from anygate.cells import make
from anygate.engines import EngineError
from anygate.formulas import resolve
from anygate.nn import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from anygate.nn.swap import swap

I, H, T, B = 3, 4, 6, 2  # noqa: E741
SLOTS = ("input_gate", "forget_gate", "candidate", "output_gate", "cell_output")
LSTMS = (nn.LSTM, nn.LSTMCell)
OUR_LSTMS = (LSTM, LSTMCell)
PAIRS = {
    nn.LSTM: LSTM,
    nn.LSTMCell: LSTMCell,
    nn.GRU: GRU,
    nn.GRUCell: GRUCell,
    nn.RNN: RNN,
    nn.RNNCell: RNNCell,
}
TORCHS = tuple(PAIRS)
OURS = tuple(PAIRS.values())


class Siamese(nn.Module):
    """One encoder under two names, a decoder of cells, and a list that is no ModuleList."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.LSTM(I, H, num_layers=2, bidirectional=True)
        self.right = self.left
        self.cell = nn.LSTMCell(2 * H, H, bias=False)
        self.plain = [self.left]

    def forward(self, x: Tensor) -> Tensor:
        a, _ = self.left(x)
        b, (h, c) = self.right(x.flip(0))
        state = (h[0], c[1])
        for _ in range(3):
            state = self.cell((a + b)[-1], state)
        return torch.cat([*state, self.plain[0](x)[0][0]], -1)


class Nested(nn.Module):
    """LSTMs deep inside containers, a GRU and an RNN beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            nn.ModuleDict({"rnn": nn.LSTM(I, H, batch_first=True), "gru": nn.GRU(H, H)}),
            nn.ModuleDict({"stack": nn.ModuleList([nn.LSTM(H, H), nn.LSTM(H, H, bias=False)])}),
        )
        self.rnn = nn.RNN(H, H, 2, nonlinearity="relu")
        self.step = nn.GRUCell(H, H)
        self.head = nn.Linear(H, 2)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.blocks
        x, _ = first["rnn"](x)
        x, _ = first["gru"](x)
        for layer in second["stack"]:
            x = x + layer(x)[0]
        x, h = self.rnn(x)
        return self.head(x + self.step(x[-1], h[0]))


class Language(nn.Module):
    """Two layers with dropout between, embedding tied to the head, state carried (truncated
    backpropagation)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, H)
        self.rnn = nn.LSTM(H, H, num_layers=2, dropout=0.3)
        self.head = nn.Linear(H, 11)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten().mul(7).long().remainder(11).view(-1, B)
        state, outputs = None, []
        for part in tokens.chunk(2):
            output, (h, c) = self.rnn(self.embed(part), state)
            state = (h.detach(), c.detach())
            outputs.append(self.head(output))
        return torch.cat(outputs)


class Tagger(nn.Module):
    """Sequences of several lengths, packed, read in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(I, H, num_layers=2, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * H, 3)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.tensor([x.size(0) - 2, x.size(0)])
        packed = pack_padded_sequence(
            x.transpose(0, 1), lengths, batch_first=True, enforce_sorted=False
        )
        output, (h, c) = self.rnn(packed)
        padded, _ = pad_packed_sequence(output, batch_first=True)
        return self.head(padded) + (h * c).sum()


class Gated(nn.Module):
    """A bidirectional GRU on packed sequences, a GRUCell and an RNNCell."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(I, H, num_layers=2, bidirectional=True, dropout=0.2)
        self.step = nn.GRUCell(2 * H, H)
        self.last = nn.RNNCell(H, H, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, [x.size(0) - 2, x.size(0)], enforce_sorted=False)
        output, h = self.gru(packed)
        state = None
        for step in pad_packed_sequence(output)[0]:
            state = self.step(step, state)
        return self.last(state) + h.sum(0)


MODELS = (Siamese, Nested, Language, Tagger, Gated)
every_model = pytest.mark.parametrize("cls", MODELS)


def made(cls: Any) -> Any:
    torch.manual_seed(0)
    return cls().double()


def data(steps: int = T) -> Tensor:
    return torch.randn(steps, B, I, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def lstms(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, (*TORCHS, *OURS))]


def results(model: nn.Module, seed: int = 7) -> dict[str, Tensor]:
    """Output and all gradients of one step; the seed is dropout's."""
    torch.manual_seed(seed)
    model.zero_grad()
    x = data().requires_grad_()
    output = model(x)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    if x.grad is not None:
        grads["x"] = x.grad
    return {"output": output.detach(), **grads}


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """To rounding: sums of some hundred products of numbers of size 1, in another order."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        room = 256 * torch.finfo(value.dtype).eps * max(1.0, value.abs().max().item())
        torch.testing.assert_close(found[name], value, rtol=0, atol=room, msg=name)


def snapshot(model: nn.Module) -> list[Any]:
    """All that a module is, by identity: class, attributes, members."""
    return [
        (
            id(m),
            type(m),
            {k: id(v) for k, v in vars(m).items() if not k.startswith("_flat")},
            {
                k: id(v)
                for kind in ("_parameters", "_buffers", "_modules")
                for k, v in vars(m)[kind].items()
            },
        )
        for m in model.modules()
    ]


# ---- the same model ---------------------------------------------------------------------------


@every_model
@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_stay(cls: Any, training: bool) -> None:
    model = made(cls).train(training)
    expected = results(model)
    assert swap(model).replaced
    assert all(type(m) in OURS for m in lstms(model))
    assert all(m.training == training for m in model.modules())
    same(results(model), expected)


@every_model
def test_a_swapped_model_is_one_built_with_the_activation(cls: Any) -> None:
    """softsign after the fact and from the start, with the same weights: bit for bit."""
    model = made(cls)
    before = results(model)
    given = {"activation": "softsign", "gate_activation": "hard_sigmoid"}
    swap(model, **given)
    built = made(cls)
    for parent in list(built.modules()):
        for name, child in list(parent._modules.items()):
            if type(child) in TORCHS:
                ours = PAIRS[type(child)]
                known = inspect.signature(ours).parameters
                sizes = [k for k in known if hasattr(child, k) and k != "nonlinearity"]
                options = {k: getattr(child, k) for k in sizes} | {"dtype": torch.float64}
                other = ours(**options, **{k: v for k, v in given.items() if k in known})
                other.load_state_dict(dict(child.state_dict()))
                setattr(parent, name, other)
    if cls is Siamese:  # its second name and its list hold the old one
        built.right, built.plain = built.left, [built.left]
    found, expected = results(model), results(built)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert not torch.equal(found["output"], before["output"])


def without_cells(state: dict[str, Any]) -> dict[str, Any]:
    """A state_dict without the entries that name cells other than torch's."""
    return {name: value for name, value in state.items() if not name.endswith("_extra_state")}


@every_model
def test_what_stays_the_very_same(cls: Any) -> None:
    """Module objects, Parameter objects, names, order, random numbers."""
    model = made(cls)
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    frozen = next(iter(parameters))
    parameters[frozen].requires_grad_(False)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    random = torch.get_rng_state()
    swap(model, "softsign")
    assert torch.equal(torch.get_rng_state(), random)
    assert list(model.named_modules()) == list(modules.items())
    assert list(dict(model.named_parameters())) == list(parameters)
    for name, parameter in model.named_parameters():
        assert parameter is parameters[name]
        assert parameter.requires_grad == (name != frozen)
    after = without_cells(model.state_dict())
    assert list(after) == list(state)
    for name, value in after.items():
        assert torch.equal(value, state[name])


@every_model
def test_state_dict_both_ways(cls: Any) -> None:
    """Checkpoints of the swapped and of the old model are exchangeable, strictly."""
    swapped, old = made(cls), cls().double()
    swap(swapped)
    old.load_state_dict(swapped.state_dict(), strict=True)
    same(results(old), results(swapped))
    again = cls().double()
    swap(again)
    again.load_state_dict(old.state_dict(), strict=True)
    same(results(again), results(old))
    whole = pickle.loads(pickle.dumps(swapped))
    file = io.BytesIO()
    torch.save(swapped, file)
    file.seek(0)
    for other in (whole, torch.load(file, weights_only=False)):
        assert [type(m) for m in other.modules()] == [type(m) for m in swapped.modules()]
        for name, value in results(other).items():
            assert torch.equal(value, results(swapped)[name])


@every_model
def test_undo(cls: Any) -> None:
    """Back to torch's classes with nothing left behind: attributes, outputs bit for bit."""
    model = made(cls)
    expected, before = results(model), snapshot(model)
    swap(model, "softsign", gate_activation="hard_sigmoid")
    swap(model, activation="tanh", gate_activation="sigmoid")
    if cls is Nested:
        swap(model, "relu", match="rnn")
    if cls is Gated:
        swap(model, "relu", match="last")
    summary = swap(model, to=nn)
    assert len(summary.replaced) == len(lstms(model))
    assert snapshot(model) == before
    for name, value in results(model).items():
        assert torch.equal(value, expected[name])


@every_model
def test_the_optimizer_goes_on(cls: Any) -> None:
    """Adam's state stays with the Parameters: swapped in the middle of training, the weights are
    those of training without a swap. Adam divides by sqrt(v), which may enlarge rounding where a
    gradient is near zero, so a step of 1e-3 may differ by 1e-9 of it or so."""
    finals = []
    for swapping in (False, True):
        model = made(cls)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        start = [p.detach().clone() for p in model.parameters()]
        for step in range(6):
            if swapping and step == 3:
                swap(model)
            torch.manual_seed(step)
            loss = (model(data()) - 0.3).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        finals.append([p.detach().clone() for p in model.parameters()])
        assert {id(p) for p in model.parameters()} == {
            id(p) for group in optimizer.param_groups for p in group["params"]
        }
        assert any((a - b).abs().max() > 1e-3 for a, b in zip(start, finals[-1], strict=True))
    for a, b in zip(*finals, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11)


@every_model
def test_a_copy_leaves_the_model_alone(cls: Any) -> None:
    model = made(cls)
    before, expected = snapshot(model), results(model)
    other = copy.deepcopy(model)
    swap(other, "relu")
    assert snapshot(model) == before
    again = copy.deepcopy(other)
    for name, value in results(again).items():
        assert torch.equal(value, results(other)[name])
    for name, value in results(model).items():
        assert torch.equal(value, expected[name])


def test_shared_modules_stay_shared() -> None:
    model = made(Siamese)
    left = model.left
    summary = swap(model, "relu")
    assert model.left is model.right is model.plain[0] is left
    assert type(left) is LSTM
    assert [entry.names for entry in summary.replaced] == [("left", "right"), ("cell",)]
    # One name that fits is enough, as there is one module only.
    summary = swap(model, "tanh", match="right")
    assert [entry.names for entry in summary.replaced] == [("left", "right")]
    assert model.left.cell == make(LSTM_TYPE) != model.cell.cell


def test_hooks() -> None:
    """Every kind of hook is called as often as before, and its handle still removes it."""
    model = made(Siamese)
    calls: Counter[str] = Counter()

    def count(name: str) -> Any:
        return lambda *_, **__: calls.update([name])

    m = model.left
    handles = {
        "forward": m.register_forward_hook(count("forward")),
        "kwargs": m.register_forward_hook(count("kwargs"), with_kwargs=True),
        "always": m.register_forward_hook(count("always"), always_call=True),
        "pre": m.register_forward_pre_hook(count("pre")),
        "backward": m.register_full_backward_hook(count("backward")),
        "backward_pre": m.register_full_backward_pre_hook(count("backward_pre")),
        "state": m.register_state_dict_post_hook(count("state")),
        "state_pre": m.register_state_dict_pre_hook(count("state_pre")),
        "load_pre": m.register_load_state_dict_pre_hook(count("load_pre")),
        "load_post": m.register_load_state_dict_post_hook(count("load_post")),
        "gradient": m.weight_hh_l0.register_hook(count("gradient")),
    }

    def exercise() -> Counter[str]:
        calls.clear()
        results(model)
        model.load_state_dict(model.state_dict())
        return Counter(calls)

    expected = exercise()
    assert set(expected) == set(handles)
    swap(model)
    assert exercise() == expected
    for handle in handles.values():
        handle.remove()
    assert exercise() == Counter()


def test_the_model_itself() -> None:
    """An LSTM that is the model is changed where it stands."""
    for cls, ours, x in ((nn.LSTM, LSTM, data()), (nn.LSTMCell, LSTMCell, data()[0])):
        model = cls(I, H, dtype=torch.float64)
        holder = {"model": model}
        expected = model(x)[0]
        summary = swap(model)
        assert type(model) is type(holder["model"]) is ours
        assert summary.replaced[0].names == ("",)
        torch.testing.assert_close(model(x)[0], expected, rtol=0, atol=1e-14)
        assert "(the model itself): torch.nn." in str(summary)


def test_attributes_buffers_device_and_dtype() -> None:
    model = nn.LSTM(I, H, device="meta", dtype=torch.bfloat16)
    model.note = {"any": "thing"}
    model.register_buffer("scale", torch.ones(2), persistent=False)
    model.extra = nn.Parameter(torch.zeros(1))
    model.child = nn.Linear(1, 1)
    note, keys = model.note, list(model.state_dict())
    for _ in range(2):
        swap(model, "relu")
        assert model.note is note and model.scale.sum() == 2
        assert list(without_cells(model.state_dict())) == keys
        assert model.weight_ih_l0.is_meta and model.weight_ih_l0.dtype == torch.bfloat16
        swap(model, to=nn.LSTM, activation="tanh")
        assert type(model) is nn.LSTM


def test_dropout_of_one_layer_warns_once_only() -> None:
    """torch's constructor warned when the model was made; swapping is no second mistake."""
    with pytest.warns(UserWarning, match="dropout option adds dropout"):
        model = nn.LSTM(I, H, dropout=0.5)
    summary = swap(model)  # warnings are errors here
    assert model.dropout == 0.5
    assert "dropout=0.5) -> anygate.LSTM(3, 4, dropout=0.5)" in str(summary)


# ---- weights that are computed ----------------------------------------------------------------


@pytest.mark.parametrize("undo_first", [False, True])
def test_parametrizations(undo_first: bool) -> None:
    """torch's parametrizations put a class before the module's; it stays before the new one."""
    model = made(Siamese)
    parametrizations.weight_norm(model.left, "weight_hh_l0")
    parametrizations.weight_norm(model.left, "weight_ih_l1_reverse")
    parametrizations.orthogonal(model.cell, "weight_hh")
    keys, expected = list(model.state_dict()), results(model)
    parameters = dict(model.named_parameters())
    swap(model)
    assert isinstance(model.left, LSTM) and isinstance(model.cell, LSTMCell)
    assert nn.LSTM not in type(model.left).__mro__
    assert parametrize.is_parametrized(model.left, "weight_hh_l0")
    assert list(model.state_dict()) == keys
    assert all(p is parameters[n] for n, p in model.named_parameters())
    same(results(model), expected)
    assert "ParametrizedLSTM" in repr(model)
    if undo_first:
        swap(model, to=nn.LSTM)
        same(results(model), expected)
    for module, name in (
        (model.left, "weight_hh_l0"),
        (model.left, "weight_ih_l1_reverse"),
        (model.cell, "weight_hh"),
    ):
        parametrize.remove_parametrizations(module, name)
    assert type(model.left) is (nn.LSTM if undo_first else LSTM)
    assert type(model.cell) is (nn.LSTMCell if undo_first else LSTMCell)
    assert torch.equal(model.left(data())[0], copy.deepcopy(model).left(data())[0])
    same({"output": results(model)["output"]}, {"output": expected["output"]})


def test_parametrized_copies() -> None:
    """torch can copy a parametrized LSTM that has not run; so it can after the swap."""
    model = nn.LSTM(I, H, dtype=torch.float64)
    parametrizations.weight_norm(model, "weight_hh_l0")
    swap(model, "relu")
    other = copy.deepcopy(model)
    assert torch.equal(other(data())[0], model(data())[0])
    with torch.no_grad():
        other.parametrizations.weight_hh_l0.original0.zero_()
    assert not torch.equal(other(data())[0], model(data())[0])


def test_one_parametrized_class_for_each_module() -> None:
    """Two parametrized modules have two classes; changing one leaves the other's alone."""
    model = nn.ModuleList([nn.LSTM(I, H), nn.LSTM(I, H)])
    for module in model:
        parametrizations.weight_norm(module, "weight_hh_l0")
    swap(model, match="0")
    assert isinstance(model[0], LSTM) and isinstance(model[1], nn.LSTM)
    parametrize.remove_parametrizations(model[0], "weight_hh_l0")
    assert parametrize.is_parametrized(model[1], "weight_hh_l0")
    model[1](torch.randn(T, B, I))


def test_pruning() -> None:
    model = made(Siamese)
    prune.l1_unstructured(model.left, "weight_hh_l0", 0.5)
    prune.random_unstructured(model.cell, "weight_ih", 0.5)
    keys, expected = list(model.state_dict()), results(model)
    swap(model)
    assert list(model.state_dict()) == keys
    same(results(model), expected)
    prune.remove(model.left, "weight_hh_l0")
    assert (model.left.weight_hh_l0 == 0).float().mean() >= 0.5
    assert torch.allclose(results(model)["output"], expected["output"], rtol=0, atol=1e-13)


def test_old_weight_norm_and_spectral_norm() -> None:
    """The ones that are forward hooks."""
    model = made(Siamese)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(model.left, "weight_hh_l0")
        nn.utils.spectral_norm(model.cell, "weight_hh")
    model.eval()  # in training, spectral norm changes its buffers with every run
    expected = results(model)
    swap(model)
    same(results(model), expected)


# ---- which, and to what -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("match", "chosen"),
    [
        (
            None,
            {"blocks.0.rnn", "blocks.0.gru", "blocks.1.stack.0", "blocks.1.stack.1", "rnn", "step"},
        ),
        (["blocks.0.gru", "step"], {"blocks.0.gru", "step"}),
        ("blocks.0.rnn", {"blocks.0.rnn"}),
        ("blocks.1.*", {"blocks.1.stack.0", "blocks.1.stack.1"}),
        ("*.[0r]*", {"blocks.0.rnn", "blocks.0.gru", "blocks.1.stack.0"}),
        (["*rnn", "*.1"], {"blocks.0.rnn", "blocks.1.stack.1", "rnn"}),
        (lambda name, module: not module.bias, {"blocks.1.stack.1"}),
        (lambda name, module: name.endswith("rnn"), {"blocks.0.rnn", "rnn"}),
    ],
)
def test_match(match: Any, chosen: set[str]) -> None:
    model = Nested()
    summary = swap(model, "relu", match=match)
    assert {n for entry in summary.replaced for n in entry.names} == chosen
    for name, module in model.named_modules():
        if isinstance(module, (*TORCHS, *OURS)):
            assert (type(module) in OURS) == (name in chosen), name
            left = [s for s in summary.skipped if s.names == (name,)]
            assert [s.reason for s in left] == ([] if name in chosen else ["match= leaves it out"])


@pytest.mark.parametrize("match", ["lstm", "blocks", [], lambda name, module: False])
def test_match_that_fits_nothing(match: Any) -> None:
    model = Nested()
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"fit none of the modules, which are: blocks\.0\.rnn, b"):
        swap(model, match=match)
    assert snapshot(model) == before
    assert len(swap(model, match=match, strict=False).skipped) == 6
    assert snapshot(model) == before


def slots(module: Any) -> dict[str, str]:
    return {slot: activation.name for slot, activation in module.cell.slots.items()}


def test_slots_that_are_not_given_stay() -> None:
    """Each swap changes what it names; swap(model) changes no anygate module at all."""
    model = nn.LSTM(I, H)
    swap(model, "relu")
    swap(model, forget_gate="hard_sigmoid")
    swap(model, candidate="gelu")
    assert type(model) is LSTM
    expected = dict.fromkeys(SLOTS, "sigmoid") | {
        "forget_gate": "hard_sigmoid",
        "candidate": "gelu",
        "cell_output": "relu",
    }
    assert slots(model) == expected
    before = snapshot(model)
    (skipped,) = swap(model).skipped
    assert snapshot(model) == before and slots(model) == expected
    assert skipped.reason.startswith("is anygate.LSTM(3, 4, forget_gate=hard_sigmoid")
    swap(model, activation="softsign", cell_output="sine", gate_activation="elliott")
    assert slots(model) == dict.fromkeys(SLOTS, "elliott") | {
        "candidate": "softsign",
        "cell_output": "sine",
    }


def test_engine() -> None:
    """It is kept like the slots, and can be changed alone."""
    model = nn.LSTM(I, H)
    swap(model, engine="reference")
    swap(model, "relu")
    assert model.explain(torch.randn(T, B, I)).name == "reference"
    swap(model, engine="eager")
    assert model.explain(torch.randn(T, B, I)).name == "eager"
    assert slots(model)["candidate"] == "relu"


@pytest.mark.parametrize("cls", LSTMS)
@pytest.mark.parametrize(
    ("options", "usual"),
    [
        ({"peephole": True}, {"peephole": False}),
        ({"coupled": True}, {"coupled": False}),
        ({"clip": 0.5}, {"clip": None}),
        ({"layer_norm": True}, {"layer_norm": False}),
        ({"zoneout": 0.5}, {"zoneout": 0.0}),
        ({"zoneout": {"h": 0.25}}, {"zoneout": 0.0}),
        ({"activation": "prelu", "trainable": "unit"}, {"activation": "tanh"}),
        ({"activation": "prelu", "trainable": True}, {"activation": "tanh", "trainable": False}),
    ],
    ids=str,
)
def test_the_other_arguments(cls: Any, options: dict[str, Any], usual: dict[str, Any]) -> None:
    """Every variant: as if built so; kept by later swaps; undone where it is given up. Peepholes
    and learnt parameters come as the constructor makes them and go again."""
    torch.manual_seed(0)
    model, ours = cls(I, H, dtype=torch.float64).eval(), LSTM if cls is nn.LSTM else LSTMCell
    shape, x = ((1, B, H), data()) if cls is nn.LSTM else ((B, H), data()[0])
    state = (torch.ones(shape, dtype=torch.float64), torch.ones(shape, dtype=torch.float64))
    expected, old = model(x, state)[0], dict(model.named_parameters())
    torch.manual_seed(1)
    built = ours(I, H, dtype=torch.float64, **options).eval()
    torch.manual_seed(1)
    (entry,) = swap(model, **options).replaced
    new = [name for name in built.state_dict() if name not in (*old, "_extra_state")]
    assert list(entry.new_parameters) == new and not entry.dropped_parameters
    assert list(model.state_dict()) == list(built.state_dict())
    for name in new:
        value = model.get_parameter(name)
        assert value.requires_grad and value.dtype == torch.float64
        assert torch.equal(value, built.get_parameter(name))
    built.load_state_dict(model.state_dict())
    assert torch.equal(model(x, state)[0], built(x, state)[0])
    assert not torch.allclose(model(x, state)[0], expected)

    parameters, text = dict(model.named_parameters()), repr(model)
    assert len(swap(model).skipped) == 1 and repr(model) == text
    swap(model, output_gate="hard_sigmoid")
    swap(model, output_gate="sigmoid")
    assert repr(model) == text
    assert all(p is parameters[name] for name, p in model.named_parameters())

    before = snapshot(model)
    with pytest.raises(
        ValueError, match=r"torch\.nn\.LSTM(Cell)? computes sigmoid and tanh"
    ) as error:
        swap(model, to=nn.LSTM)
    assert snapshot(model) == before
    for name, value in usual.items():  # the message says what to write
        assert f"{name}={value!r}" in str(error.value)
    (entry,) = swap(model, to=nn.LSTM, **usual).replaced
    assert list(entry.dropped_parameters) == new
    assert type(model) is cls and dict(model.named_parameters()) == old
    assert torch.equal(model(x, state)[0], expected)


def test_every_argument_of_the_constructor_is_tested() -> None:
    """swap keeps what is not given, so it must know how each argument is read back."""
    tested = {"clip", "trainable", "engine", "layer_norm", "zoneout"}
    lstms = {*SLOTS, "activation", "gate_activation", "peephole", "coupled"}
    grus = {"reset_gate", "update_gate", "candidate", "activation", "gate_activation"}
    own = {LSTM: lstms, GRU: grus | {"reset_after"}, RNN: {"candidate", "activation"}}
    for layer, cell in ((LSTM, LSTMCell), (GRU, GRUCell), (RNN, RNNCell)):
        for cls in (layer, cell):
            found = {
                p.name
                for p in inspect.signature(cls).parameters.values()
                if p.kind is inspect.Parameter.KEYWORD_ONLY
            }
            more = {"recurrent_dropout"} if cls is layer else set()
            assert found == tested | own[layer] | more


@pytest.mark.parametrize("cls", OUR_LSTMS)
def test_learnt_parameters_go_with_their_slot(cls: Any) -> None:
    """Parameters of a slot that is given again are new; the others stay, and so do peepholes,
    whatever the activation's own parameters are called."""
    end = "_l0" if cls is LSTM else ""
    learnt = dict.fromkeys(("input_gate.p", "candidate.a", "cell_output.a"), "unit")
    slope = Activation("slope", "sigmoid(p*x)", p=1.0)
    model = cls(I, H, activation="prelu", input_gate=slope, trainable=learnt, peephole=True)
    old = dict(model.named_parameters())
    torch.nn.init.constant_(old[f"candidate_a{end}"], 7.0)
    new = (f"input_gate_p{end}", f"cell_output_a{end}")
    (entry,) = swap(
        model,
        cell_output="prelu(a=0.5)",
        gate_activation=slope(p=2.0),
        forget_gate="elliott",
        trainable=learnt,
    ).replaced
    assert set(entry.new_parameters) == set(entry.dropped_parameters) == set(new)
    for name, parameter in model.named_parameters():
        assert (parameter is old[name]) == (name not in new), name
    assert model.get_parameter(new[0]).tolist() == [[2.0] * H]
    assert model.get_parameter(new[1]).tolist() == [[0.5] * H]
    # One number for the layer is another parameter than one for each unit.
    (entry,) = swap(model, trainable={"candidate.a": "shared"}).replaced
    assert entry.new_parameters == (f"candidate_a{end}",)
    assert model.get_parameter(f"candidate_a{end}").numel() == 1
    (entry,) = swap(model, candidate="relu").replaced
    assert entry.dropped_parameters == (f"candidate_a{end}",) and not entry.new_parameters
    assert f"; dropped: candidate_a{end}" in str(entry)


def test_parameters_that_cannot_come_or_go() -> None:
    model = LSTM(I, H, peephole=True)
    prune.random_unstructured(model, "forget_gate_peephole_l0", 0.5)
    before = snapshot(model)
    with pytest.raises(ValueError, match="forget_gate_peephole_l0 is parametrized or pruned"):
        swap(model, peephole=False)
    assert snapshot(model) == before
    other = nn.LSTM(I, H)
    other.output_gate_peephole_l0 = "mine"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="an attribute 'output_gate_peephole_l0' that anygate's"):
        swap(other, peephole=True)
    assert type(other) is nn.LSTM and other.output_gate_peephole_l0 == "mine"


def test_what_the_constructor_refuses() -> None:
    model = made(Siamese)
    before = snapshot(model)
    for options, message in (
        ({"clip": -1.0}, r"left = right: clip must be a positive number, .*\n  cell: clip must"),
        ({"activation": "relu", "trainable": True}, r"left = right: .*no parameter to learn"),
    ):
        with pytest.raises(ValueError, match=message):
            swap(model, **options)
    assert snapshot(model) == before


def test_projections() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch: not supported with oneDNN
        model = nn.LSTM(I, H, num_layers=2, proj_size=2, bidirectional=True).double()
        expected, parameters = model(data())[0], dict(model.named_parameters())
    swap(model)
    torch.testing.assert_close(model(data())[0], expected, rtol=0, atol=1e-13)
    assert all(p is parameters[name] for name, p in model.named_parameters())
    swap(model, to=nn.LSTM)
    assert type(model) is nn.LSTM


def test_undo_needs_sigmoid_and_tanh() -> None:
    """All or nothing: one module that is not default, and no module is changed."""
    model = Nested()
    swap(model)
    swap(model, candidate="relu", match="*.stack.1")
    swap(model, "softsign", match="rnn")
    before = snapshot(model)
    message = (
        r"changed nothing.*\n  blocks.1.stack.1: torch.nn.LSTM computes sigmoid and tanh only, "
        r"and here is candidate=relu; to give that up, say activation='tanh', gate_activation='sig"
        r"moid' in the same call\n  rnn: torch.nn.RNN computes tanh or relu only, and here is "
        r"candidate=softsign; to give that up, say activation='tanh' in"
    )
    with pytest.raises(ValueError, match=message):
        swap(model, to=nn)
    assert snapshot(model) == before
    summary = swap(model, to=nn, strict=False)
    assert [s.names for s in summary.skipped] == [("blocks.1.stack.1",), ("rnn",)]
    swap(model, to=nn, activation="tanh")
    assert all(type(m) in TORCHS for m in lstms(model))


def test_undo_whatever_the_engine() -> None:
    """The engine changes nothing in what is computed."""
    model = LSTM(I, H, engine="reference")
    swap(model, to=nn.LSTM)
    assert type(model) is nn.LSTM


def test_undo_goes_by_the_formula() -> None:
    """tanh written out is tanh."""
    model = LSTM(I, H, candidate="tanh(x)", input_gate="sigmoid(z)")
    swap(model, to=nn.LSTM)
    assert type(model) is nn.LSTM
    close = LSTM(I, H, candidate="tanh(1.0001*x)")
    with pytest.raises(ValueError, match="here is candidate="):
        swap(close, to=nn.LSTM)


def test_to_anygate_is_the_default() -> None:
    for to in (None, LSTM, LSTMCell, anygate):
        model = nn.LSTM(I, H)
        swap(model, to=to)
        assert type(model) is LSTM


def test_to_a_class_means_its_family() -> None:
    """torch.nn.LSTM or anygate.GRU: the modules of that name, cells included, both ways."""
    model = made(Nested)
    summary = swap(model, "softsign", to=GRU)
    assert [e.names[0] for e in summary.replaced] == ["blocks.0.gru", "step"]
    assert {s.reason for s in summary.skipped} == {"to= means GRU alone"}
    swap(model, activation="tanh")
    assert all(type(m) in OURS for m in lstms(model))
    swap(model, to=nn.GRUCell)
    kinds = {name: type(m) for name, m in model.named_modules() if m in lstms(model)}
    assert kinds == {
        "blocks.0.rnn": LSTM,
        "blocks.0.gru": nn.GRU,
        "blocks.1.stack.0": LSTM,
        "blocks.1.stack.1": LSTM,
        "rnn": RNN,
        "step": nn.GRUCell,
    }


def test_slots_of_a_family_go_to_it_alone() -> None:
    """A slot that a module meant does not have is refused by its name; to= or match= says whom."""
    model = made(Nested)
    before = snapshot(model)
    words = (
        r"(?s)changed nothing.*blocks.0.gru: anygate.GRU has no argument forget_gate\n.*rnn: "
        r"anygate.RNN has no argument forget_gate\n.*match= leaves modules out"
    )
    with pytest.raises(ValueError, match=words):
        swap(model, forget_gate="hard_sigmoid")
    assert snapshot(model) == before
    swap(model, forget_gate="hard_sigmoid", to=LSTM)
    swap(model, update_gate="hard_sigmoid", reset_after=False, to=GRU)
    assert slots(model.blocks[1]["stack"][0])["forget_gate"] == "hard_sigmoid"
    gru = model.blocks[0]["gru"]
    assert slots(gru)["update_gate"] == "hard_sigmoid"
    assert repr(gru) == "GRU(4, 4, update_gate=hard_sigmoid, reset_after=False)"
    with pytest.raises(ValueError, match=r"reset_after=False; to give that up, say .*reset_after="):
        swap(model, to=nn.GRU)


def test_gate_activation_passes_over_an_rnn() -> None:
    """It has no gates, and stays what it is."""
    model = made(Nested)
    swap(model, "softsign", gate_activation="hard_sigmoid")
    assert slots(model.rnn) == {"candidate": "softsign"}
    assert slots(model.step) == {
        "reset_gate": "hard_sigmoid",
        "update_gate": "hard_sigmoid",
        "candidate": "softsign",
    }


def test_an_rnns_nonlinearity() -> None:
    """torch's relu comes as the candidate and goes back as nonlinearity."""
    for cls in (nn.RNN, nn.RNNCell):
        for name in ("relu", "tanh"):
            model = cls(I, H, nonlinearity=name, dtype=torch.float64)
            x = data() if cls is nn.RNN else data()[0]
            expected, before = model(x), vars(model).keys()
            swap(model)
            assert slots(model) == {"candidate": name} and model.nonlinearity == name
            torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-13)
            swap(model, "relu" if name == "tanh" else "tanh")
            swap(model, to=nn)
            assert type(model) is cls and model.nonlinearity != name
            assert not torch.allclose(as_tensor(model(x)), as_tensor(expected))
            again = pickle.loads(pickle.dumps(model))
            assert torch.equal(as_tensor(again(x)), as_tensor(model(x)))
            assert vars(model).keys() == before


def as_tensor(output: Any) -> Tensor:
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


def test_a_coupled_cell_has_no_forget_gate() -> None:
    """Coupling drops the one that was chosen; a new one together with it is refused."""
    model = nn.LSTM(I, H)
    swap(model, forget_gate="hard_sigmoid")
    swap(model, coupled=True)
    assert "forget_gate" not in slots(model)
    with pytest.raises(ValueError, match="coupled LSTM has no slot 'forget_gate'; it has: activ"):
        swap(model, forget_gate="hard_sigmoid")
    swap(model, coupled=False, forget_gate="hard_sigmoid")
    assert slots(model)["forget_gate"] == "hard_sigmoid"


@every_model
def test_summary_says_what_the_modules_are(cls: Any) -> None:
    """Before and after, each is the module's own repr."""
    model = made(cls)
    old = {name: repr(module) for name, module in model.named_modules()}
    for entry in swap(model, "relu", gate_activation="hard_sigmoid").replaced:
        assert entry.before == f"torch.nn.{old[entry.names[0]]}"
        module = model.get_submodule(entry.names[0])
        assert entry.after == f"anygate.{module!r}"
        assert entry.cell == module.cell


def test_summary() -> None:
    model = made(Siamese)
    summary = swap(model, "relu", match="cell")
    (entry,) = summary.replaced
    assert entry.before == "torch.nn.LSTMCell(8, 4, bias=False)"
    assert entry.after == "anygate.LSTMCell(8, 4, bias=False, activation=relu)"
    relu = resolve("relu")
    assert entry.cell == make(LSTM_TYPE, {"candidate": relu, "cell_output": relu})
    assert str(summary) == (
        "1 replaced\n"
        "  cell: torch.nn.LSTMCell(8, 4, bias=False) -> "
        "anygate.LSTMCell(8, 4, bias=False, activation=relu)\n"
        "1 skipped\n"
        "  left = right: match= leaves it out"
    )


class Mine(nn.GRU):
    """A subclass that torch's kernels are called in."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        start = torch.zeros(1, input.shape[1], H) if hx is None else hx
        return torch._VF.gru(input, start, self._flat_weights, True, 1, 0.0, False, False, False)


def test_the_summary_tells_of_other_recurrent_modules() -> None:
    """A module whose code would pass by stays as it is; the summary says so, with all names."""
    own = Mine(I, H)
    model = nn.ModuleDict(
        {
            "lstm": nn.LSTM(I, H),
            "own": own,
            "same": own,
            "any": nn.RNNBase("GRU", I, H),
            "step": nn.GRUCell(I, H),
            "linear": nn.Linear(I, H),
        }
    )
    state = copy.deepcopy(model.state_dict())
    summary = swap(model, "softsign", strict=False)
    assert [entry.names for entry in summary.replaced] == [("lstm",), ("step",)]
    told = {entry.names: entry.reason for entry in summary.skipped}
    assert set(told) == {("own", "same"), ("any",)}
    assert "own = same: Mine is a subclass of torch.nn.GRU with code of its own, and its" in (
        str(summary)
    )
    assert told[("any",)] == "is a RNNBase, which has no class of torch.nn to swap with"
    assert type(model["own"]) is Mine
    for name, value in without_cells(model.state_dict()).items():
        assert torch.equal(value, state[name])


# ---- what it refuses --------------------------------------------------------------------------


class Own(nn.LSTM):
    """A subclass with code of its own."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        return super().forward(2 * input, hx)


def scripted() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.LSTM(I, H))


def rewired() -> Any:
    module = nn.LSTM(I, H)
    inner = module.forward
    module.forward = lambda *a, **k: inner(*a, **k)  # type: ignore[method-assign]
    return module


def occupied() -> Any:
    module = nn.LSTM(I, H)
    module._design = "mine"
    return module


class Named(nn.LSTM):
    """A subclass that calls torch's forward by its class."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        return nn.LSTM.forward(self, input, hx)


class Silent(nn.LSTM):
    """A subclass that never arrives at torch's forward."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        return input, hx


class Taken(Own):
    """A subclass with a method that anygate's module has too."""

    def explain(self) -> str:
        return "an LSTM"


def parametrized_subclass() -> Any:
    module = Named(I, H)
    parametrizations.weight_norm(module, "weight_hh_l0")
    return module


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Mine(I, H),
            "odd: Mine is a subclass of torch.nn.GRU with code of its own, and "
            "its forward calls torch's kernels itself. Make it a subclass of any",
        ),
        (lambda: Named(I, H), "its forward calls LSTM.forward by that name"),
        (parametrized_subclass, "odd: Named is a subclass of torch.nn.LSTM with code of its own"),
        (lambda: Silent(I, H), r"its forward does not call super\(\).forward, so no activation"),
        (lambda: Taken(I, H), "it has an attribute 'explain' that anygate's module needs; rename"),
        (scripted, "odd: it is TorchScript, compiled for good; swap the model before scripting"),
        (rewired, "odd: its forward was replaced on the module itself"),
        (occupied, "odd: it has an attribute '_design' that anygate's module needs; rename it"),
    ],
    ids=["kernels", "named", "parametrized", "silent", "taken", "scripted", "rewired", "occupied"],
)
def test_what_cannot_be_changed(make: Any, message: str) -> None:
    """All or nothing; the error names the module; with strict=False the rest is changed."""
    model = nn.ModuleDict({"first": nn.LSTM(I, H), "odd": make(), "last": nn.LSTMCell(I, H)})
    before = snapshot(model)
    with pytest.raises(ValueError, match=message):
        swap(model, "relu")
    assert snapshot(model) == before
    odd = type(model["odd"])
    summary = swap(model, "relu", strict=False)
    assert type(model["first"]) is LSTM and type(model["last"]) is LSTMCell
    assert type(model["odd"]) is odd
    assert [s.names for s in summary.skipped] == [("odd",)]
    swap(model, "relu", match=lambda name, module: name != "odd")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"activation": "relo"}, FormulaError, "activation: no activation is called 'relo'"),
        ({"forget_gate": "softmax"}, FormulaError, "forget_gate: softmax is not elementwise"),
        ({"engine": "gpu"}, EngineError, "no engine is called 'gpu'; there are: auto"),
        (
            {"peephol": True},
            TypeError,
            "swap has no argument 'peephol'; of anygate's modules it ta",
        ),
        ({"hidden_size": 7}, TypeError, "swap has no argument 'hidden_size'"),
        ({"to": nn.GRU}, ValueError, "match= and to= fit none of the modules, which are: left = r"),
        ({"to": nn.Linear}, TypeError, "to= is torch.nn, or a class such as torch.nn.LSTM or any"),
        ({"to": "torch"}, TypeError, "to= is torch.nn, or a class such as torch.nn.LSTM or anyga"),
        ({"to": nn, "engine": "eager"}, TypeError, "torch's modules have no engine to choose"),
        ({"match": [3]}, TypeError, "match= is a name, a glob"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: Any, message: str) -> None:
    model = made(Siamese)
    before = snapshot(model)
    for strict in (True,) if error is ValueError else (True, False):
        with pytest.raises(error, match=message):
            swap(model, **arguments, strict=strict)
    assert snapshot(model) == before


def test_models_without_recurrence() -> None:
    model = nn.Sequential(nn.Linear(I, H), nn.Linear(H, H))
    with pytest.raises(ValueError, match="no LSTM, GRU or RNN in this Sequential"):
        swap(model)
    assert str(swap(model, strict=False)) == "0 replaced"
    with pytest.raises(TypeError, match=r"the model is a torch.nn.Module, not OrderedDict"):
        swap(model.state_dict())  # type: ignore[arg-type]


def test_a_module_inside_itself() -> None:
    """Cycles end, as in named_modules."""
    model = made(Siamese)
    model.cell.back = model  # type: ignore[assignment]
    assert len(swap(model).replaced) == 2


# ---- torch.compile ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["function", "method"])
def test_a_compiled_model_compiles_anew(how: str) -> None:
    """Dynamo's guards see the class: what was compiled for tanh does not run for relu."""
    model = nn.LSTM(I, H)
    x = torch.randn(T, B, I)
    if how == "function":
        run = torch.compile(model, backend="eager")
    else:
        model.compile(backend="eager")
        run = model
    before = run(x)[0]
    swap(model, "relu")
    after = run(x)[0]
    assert not torch.equal(after, before)
    torch.testing.assert_close(after, model.forward(x)[0])
