"""The cell in a state_dict: weights never meet other equations in silence."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.optim.swa_utils import AveragedModel

import anygate

KEY = "_extra_state"
LEAKY = anygate.CellType(
    "leaky", products=("z",), states=("h",), slots={"candidate": "tanh"}, lines="h = candidate(z)/2"
)
TORCHS = {
    "LSTM": lambda home, **own: home.LSTM(3, 4, 2, bidirectional=True, proj_size=2, **own),
    "GRU": lambda home, **own: home.GRU(3, 4, bias=False, **own),
    "RNN": lambda home, **own: home.RNN(3, 4, nonlinearity="relu", **own),
    "LSTMCell": lambda home, **own: home.LSTMCell(3, 4, **own),
    "GRUCell": lambda home, **own: home.GRUCell(3, 4, **own),
    "RNNCell": lambda home, **own: home.RNNCell(3, 4, **own),
}
OTHERS = {
    "activation": lambda: anygate.LSTM(3, 4, activation="relu"),
    "gates": lambda: anygate.GRU(3, 4, gate_activation="hard_sigmoid"),
    "formula": lambda: anygate.RNN(3, 4, activation="x/(1 + x*x)"),
    "number": lambda: anygate.LSTM(3, 4, candidate="leaky_relu(k=0.2)"),
    "clip": lambda: anygate.LSTM(3, 4, clip=1.0),
    "peephole": lambda: anygate.LSTM(3, 4, peephole=True),
    "coupled": lambda: anygate.LSTM(3, 4, coupled=True),
    "zoneout": lambda: anygate.LSTM(3, 4, zoneout=0.2),
    "norm": lambda: anygate.LSTM(3, 4, layer_norm=True),
    "reset before": lambda: anygate.GRU(3, 4, reset_after=False),
    "learnt": lambda: anygate.LSTMCell(3, 4, candidate="leaky_relu", trainable=True),
    "own cell": lambda: anygate.Recurrent(LEAKY, 3, 4),
    "by direction": lambda: anygate.LSTM(3, 4, bidirectional=True, activation=["relu", "tanh"]),
}


@pytest.mark.parametrize("name", TORCHS)
def test_what_torch_computes_loads_both_ways(name: str) -> None:
    torchs, ours = TORCHS[name](nn), TORCHS[name](anygate)
    assert list(torchs.state_dict()) == list(ours.state_dict())
    ours.load_state_dict(torchs.state_dict())
    torchs.load_state_dict(ours.state_dict())


@pytest.mark.parametrize("name", OTHERS)
def test_another_cell_is_in_the_state_dict_and_comes_back(name: str) -> None:
    module = OTHERS[name]()
    state = module.state_dict()
    assert KEY in state and state[KEY].dtype == torch.float32
    OTHERS[name]().load_state_dict(state)
    plain: Any = getattr(nn, type(module).__name__, None)
    if plain is not None:
        with pytest.raises(RuntimeError, match=KEY):
            plain(
                3, 4, **{"bidirectional": True} if name == "by direction" else {}
            ).load_state_dict(state)


@pytest.mark.parametrize("source", OTHERS)
@pytest.mark.parametrize("target", OTHERS)
def test_cells_that_differ_never_load_in_silence(source: str, target: str) -> None:
    """The cell refuses weights whose names and shapes would fit."""
    one, other = OTHERS[source](), OTHERS[target]()
    shapes = [{n: p.shape for n, p in m.named_parameters()} for m in (one, other)]
    if source == target or shapes[0] != shapes[1]:
        return
    with pytest.raises(RuntimeError, match=r"belong to .* and the module has"):
        other.load_state_dict(one.state_dict())
    with pytest.raises(RuntimeError, match=r"belong to .* and the module has"):
        other.load_state_dict(one.state_dict(), strict=False)


def test_another_cell_into_what_torch_computes() -> None:
    relu = anygate.LSTM(3, 4, activation="relu")
    model = nn.ModuleDict({"enc": anygate.LSTM(3, 4)})
    state = nn.ModuleDict({"enc": relu}).state_dict()
    with pytest.raises(
        RuntimeError, match=r"anygate.LSTM 'enc' belong to LSTM with candidate=relu"
    ):
        model.load_state_dict(state)
    del state["enc." + KEY]  # the remedy that is named
    model.load_state_dict(state)


def test_a_checkpoint_without_a_cell_is_warned_of() -> None:
    relu = anygate.LSTM(3, 4, activation="relu")
    with pytest.warns(UserWarning, match="does not say which cell") as caught:
        relu.load_state_dict(nn.LSTM(3, 4).state_dict())
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="candidate=relu, cell_output=relu"):
        nn.ModuleDict({"a": relu}).load_state_dict(nn.ModuleDict({"a": nn.LSTM(3, 4)}).state_dict())


def test_names_are_no_difference_and_numbers_are() -> None:
    written = anygate.LSTM(3, 4, activation=anygate.Activation("mine", "max(x, 0)"))
    anygate.LSTM(3, 4, activation="relu").load_state_dict(written.state_dict())
    learnt = [
        anygate.RNN(3, 4, activation=f"leaky_relu(k={k})", trainable=True) for k in (0.1, 0.3)
    ]
    learnt[0].load_state_dict(learnt[1].state_dict())  # k is a weight
    fixed = [anygate.RNN(3, 4, activation=f"leaky_relu(k={k})") for k in (0.1, 0.3)]
    with pytest.raises(RuntimeError, match="belong to"):
        fixed[0].load_state_dict(fixed[1].state_dict())
    dropped = anygate.LSTM(3, 4, recurrent_dropout=0.5)  # evaluation is torch's
    nn.LSTM(3, 4).load_state_dict(dropped.state_dict())


def roundtrip(model: nn.Module) -> dict[str, Any]:
    """Through a file, with weights_only=True."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state


def test_the_ways_that_state_dicts_go() -> None:
    """Files, copies, pickles, averages, other dtypes, assign=True, tied modules, prefixes."""
    own = anygate.LSTM(3, 4, candidate="x*sigmoid(2*x)")
    model = nn.ModuleDict({"a": own, "tied": own, "b": anygate.GRUCell(3, 4, activation="relu")})
    target = copy.deepcopy(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        target.load_state_dict(roundtrip(model))
        target.load_state_dict(pickle.loads(pickle.dumps(model.state_dict())))
        target.load_state_dict({k: v.clone() for k, v in model.state_dict().items()}, assign=True)
        target.load_state_dict({k: v.bfloat16() for k, v in model.state_dict().items()})
        target.load_state_dict({k: v.half() for k, v in model.state_dict().items()})
        states = [model.state_dict(), target.state_dict(), model.state_dict()]
        target.load_state_dict({k: sum(s[k] for s in states) / 3 for k in states[0]})
        ema = {k: v.clone() for k, v in model.state_dict().items()}
        for _ in range(100):
            for k, v in target.state_dict().items():
                ema[k].mul_(0.99).add_(v, alpha=0.01)
        target.load_state_dict(ema)
        averaged = AveragedModel(model)
        averaged.update_parameters(model)
        AveragedModel(target).load_state_dict(averaged.state_dict())
        target.load_state_dict(averaged.module.state_dict())
        half = copy.deepcopy(model).double()
        half.load_state_dict(model.state_dict())
        set_model_state_dict(target, get_model_state_dict(model))
    x = torch.randn(5, 2, 3)
    assert torch.equal(target["a"](x)[0], model["a"](x)[0])


def test_the_mean_of_different_cells_is_refused() -> None:
    one, other = (anygate.LSTM(3, 4, candidate=name) for name in ("relu", "silu"))
    first, second = one.state_dict(), other.state_dict()
    mean = {k: (first[k] + second[k]) / 2 for k in first}
    with pytest.raises(RuntimeError, match="holds no cell that this anygate reads"):
        one.load_state_dict(mean)


@pytest.mark.parametrize(
    "text",
    ['{"anygate": 9}', "no json", "[" * 5000, '{"anygate":1,"cell":"LSTM"}', "\x00", "{}", "7"],
)
def test_a_strange_entry_is_refused(text: str) -> None:
    module = anygate.LSTM(3, 4, activation="relu")
    state = module.state_dict()
    state[KEY] = torch.tensor(list(text.encode()), dtype=torch.uint8)
    with pytest.raises(
        RuntimeError, match=r"holds no cell that this anygate reads .* delete the key"
    ):
        module.load_state_dict(state)
    state[KEY] = torch.zeros(2, 2)
    with pytest.raises(RuntimeError, match="holds no cell"):
        module.load_state_dict(state)


def test_safetensors() -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    module = anygate.LSTM(3, 4, activation="softsign", peephole=True)
    state = safetensors.load(safetensors.save(module.state_dict()))
    anygate.LSTM(3, 4, activation="softsign", peephole=True).load_state_dict(state)
    with pytest.raises(RuntimeError, match="belong to"):
        anygate.LSTM(3, 4, activation="relu", peephole=True).load_state_dict(state)


def test_a_whole_module_in_a_file() -> None:
    module = anygate.LSTM(3, 4, 2, bidirectional=True, activation=["relu", "x*sigmoid(x)"])
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    x = torch.randn(5, 2, 3)
    assert torch.equal(loaded(x)[0], module(x)[0])
    file.seek(0)
    with pytest.raises(pickle.UnpicklingError, match=r"anygate\.nn\.lstm\.LSTM"):
        torch.load(file, weights_only=True)


class Counted(anygate.LSTM):
    """A user's class with an extra state of its own, which keeps the key."""

    calls = 0

    def get_extra_state(self) -> Any:
        return self.calls

    def set_extra_state(self, state: Any) -> None:
        self.calls = state


def test_a_subclass_keeps_its_own_extra_state() -> None:
    module, other = Counted(3, 4, activation="relu"), Counted(3, 4, activation="relu")
    module.calls = 3
    other.load_state_dict(module.state_dict())
    assert other.calls == 3


def test_a_model_on_the_meta_device() -> None:
    with torch.device("meta"):
        module = anygate.LSTM(3, 4, activation="relu")
    state = anygate.LSTM(3, 4, activation="relu").state_dict()
    assert module.state_dict().keys() == state.keys()
    module.load_state_dict(state, assign=True)
    assert not module.weight_ih_l0.is_meta
