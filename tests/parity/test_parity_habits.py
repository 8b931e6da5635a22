"""Habits of common code with the modules of a model: initialise them in loops, convert them, load
older files, ask for their class."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

import anygate

I, H = 3, 4  # noqa: E741
LEARNT: dict[str, Any] = {"activation": "leaky_relu", "peephole": True}
WIDTHS = ["shared", "unit"]

# ---- parameters in loops, and in older files -----------------------------------------------------


@pytest.mark.parametrize("cls", [anygate.LSTM, anygate.LSTMCell])
@pytest.mark.parametrize("trainable", WIDTHS)
@pytest.mark.parametrize(
    "initialise",
    [
        nn.init.xavier_uniform_,
        nn.init.xavier_normal_,
        nn.init.kaiming_normal_,
        nn.init.orthogonal_,
        nn.init.uniform_,
        nn.init.zeros_,
    ],
)
def test_loops_over_parameters(initialise: Any, trainable: str, cls: Any) -> None:
    module = cls(I, H, trainable=trainable, **LEARNT)
    for name, p in module.named_parameters():
        nn.init.constant_(p, 0.0) if "bias" in name else initialise(p)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(2, 3, I) if cls is anygate.LSTM else torch.randn(3, I))[0].sum().backward()
    optimizer.step()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in module.parameters())
    assert all(p.dim() == 2 for n, p in module.named_parameters() if "bias" not in n)


@pytest.mark.parametrize("cls", [anygate.LSTM, anygate.LSTMCell])
@pytest.mark.parametrize("trainable", WIDTHS)
@pytest.mark.parametrize("assign", [False, True])
def test_older_files_load(assign: bool, trainable: str, cls: Any) -> None:
    """Peepholes were saved as [H], activations' parameters as [H] or without a dimension."""
    model = nn.Sequential(cls(I, H, trainable=trainable, **LEARNT))
    state = {}
    for name, value in model.state_dict().items():
        if name.endswith("_extra_state"):  # older files name no cell
            continue
        value = value + torch.randn(())
        if name.rsplit(".")[-1].startswith(("weight", "bias")):
            state[name] = value
        else:
            state[name] = value[0, 0] if trainable == "shared" and "_k" in name else value[0]
    given = dict(state)
    model.load_state_dict(state, assign=assign)
    assert all(state[n] is given[n] for n in given), "the caller's dict was changed"
    for name, value in model.named_parameters():
        assert value.dim() == 2 or "bias" in name
        assert torch.equal(value.flatten(), state[name].flatten())
    wrong = {
        n: v if n.rsplit(".")[-1].startswith(("weight", "bias")) else torch.zeros(H + 1)
        for n, v in state.items()
    }
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict(wrong)


# ---- conversions after a forward -----------------------------------------------------------------


@pytest.fixture
def _swapping() -> Any:
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.mark.usefixtures("_swapping")
@pytest.mark.parametrize("cls", [anygate.LSTM, anygate.LSTMCell])
@pytest.mark.parametrize("training", [False, True])
def test_parameters_that_are_swapped(cls: Any, training: bool) -> None:
    """`set_swap_module_params_on_conversion` refuses a parameter that is referred to weakly. (With
    it torch.nn.LSTM itself cannot load a state_dict: RNNBase refers to its weights weakly.)"""
    torch.manual_seed(0)
    module = cls(I, H)
    x = torch.randn(3, I) if cls is anygate.LSTMCell else torch.randn(2, 3, I)

    def run() -> Tensor:
        with torch.set_grad_enabled(training):
            result = module(
                x.to(
                    module.weight_ih_l0.dtype
                    if cls is not anygate.LSTMCell
                    else module.weight_ih.dtype
                )
            )[0]
        if training:
            result.sum().backward()
            module.zero_grad()
        return result.detach()  # type: ignore[no-any-return]

    first = run()
    state = copy.deepcopy(module.state_dict())
    module.double()
    assert torch.allclose(run().float(), first, atol=1e-6)
    module.float()
    module.load_state_dict(state)
    assert torch.equal(run(), first)
    module.to_empty(device="cpu")
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
    assert not run().any()
    module.load_state_dict(state)
    assert torch.equal(run(), first)


def test_a_swapped_parameter_is_the_other_one() -> None:
    """Packed weights belong to the weights' bytes and not to their name."""
    one, two = anygate.LSTMCell(I, H), anygate.LSTMCell(I, H)
    x = torch.randn(3, I)
    with torch.no_grad():
        before, other = one(x)[0], two(x)[0]
        for name, p in one.named_parameters():
            torch.utils.swap_tensors(p, getattr(two, name))
        assert torch.equal(one(x)[0], other) and torch.equal(two(x)[0], before)


def test_a_transposed_weight_at_the_same_address() -> None:
    """Same address, same shape, other order: the packed weights must be other ones."""
    module = anygate.LSTM(4 * H, H, bias=False)
    x = torch.randn(1, 1, 4 * H)
    with torch.no_grad():
        module(x)
        weight = module.weight_ih_l0
        copied = anygate.LSTM(4 * H, H, bias=False)
        copied.weight_ih_l0.copy_(weight.t())
        copied.weight_hh_l0.copy_(module.weight_hh_l0)
        weight.data = weight.data.t()
        torch.testing.assert_close(module(x)[0], copied(x)[0])


# ---- autocast ------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["cpu", "eager"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("states", [None, torch.float32, torch.bfloat16])
def test_a_half_module_under_autocast_takes_float32(
    engine: str, packed: bool, states: torch.dtype | None
) -> None:
    """As torch.nn.LSTM does where it has the kernel; to the last place of bfloat16."""
    torch.manual_seed(0)
    module = anygate.LSTM(I, H, engine=engine)
    rows = [torch.randn(3, I), torch.randn(2, I)]
    x = pack_sequence(rows) if packed else torch.stack([rows[0]] * 2, 1)
    hx = None if states is None else (torch.zeros(1, 2, H, dtype=states),) * 2
    wanted = module(x)[0]
    module.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = module(x, hx)[0]
    a, b = (r.data if packed else r for r in (wanted, found))
    assert torch.allclose(a, b.float(), atol=2.0**-6)
    b.sum().backward()
    assert module.weight_hh_l0.grad.dtype == torch.bfloat16


# ---- code that asks for the class ----------------------------------------------------------------


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LSTM):
        nn.init.zeros_(module.bias_ih_l0)


def _init_both(module: nn.Module) -> int:
    return int(isinstance(module, (nn.LSTM, anygate.LSTM))) + isinstance(module, nn.GRU)


def test_isinstance_that_passes_over_says_so_once() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            nn.Sequential(anygate.LSTM(I, H), anygate.LSTMCell(I, H), nn.LSTM(I, H)).apply(
                _init_weights
            )
    (warning,) = seen
    assert "isinstance(module, torch.nn.LSTM) is False for an anygate.LSTM" in str(warning.message)
    assert warning.filename == __file__


def test_nothing_else_is_told() -> None:
    """Warnings are errors here: other questions, copies, files and compiled modules are silent."""
    for module in (anygate.LSTM(I, H), anygate.LSTMCell(I, H)):
        assert _init_both(module) == int(type(module) is anygate.LSTM)
        assert not isinstance(module, nn.Linear)
        assert module.__class__ is type(module)
        for made in (
            copy.deepcopy(module),
            pickle.loads(pickle.dumps(module)),
        ):
            assert type(made) is type(module) and made.__class__ is type(module)
        file = io.BytesIO()
        torch.save(module, file)
        x = torch.randn(2, 3, I) if isinstance(module, anygate.LSTM) else torch.randn(3, I)
        compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
        assert torch.allclose(compiled(x)[0], module(x)[0])
        with pytest.raises(AttributeError):
            _ = module.qconfig


def test_an_init_function_may_ask_inside_of_a_subclass() -> None:
    """A subclass of a user's, and a parametrized module, have their own classes still."""

    class Own(anygate.LSTM):
        pass

    module = Own(I, H)
    assert module.__class__ is Own and isinstance(module, Own)
    nn.utils.parametrizations.orthogonal(module, "weight_hh_l0")
    assert isinstance(module, Own) and module.__class__ is type(module) is not Own
    assert module(torch.randn(2, 3, I))[0].shape == (2, 3, H)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantize_dynamic_leaves_it_and_says_so() -> None:
    model = nn.Sequential(anygate.LSTM(I, H))
    x = torch.randn(2, 3, I)
    with pytest.warns(UserWarning, match="torch.ao.quantization knows no anygate.LSTM"):
        made = torch.ao.quantization.quantize_dynamic(model, {nn.LSTM, nn.Linear})
    assert type(made[0]) is anygate.LSTM
    assert torch.equal(made(x)[0], model(x)[0])
