"""Results and gradients may be changed in place wherever torch.nn.LSTM's may."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils._python_dispatch import TorchDispatchMode

import anygate

T, B, I, H = 4, 3, 2, 3  # noqa: E741
ENGINES = ("cpu", "eager")


def _dropout(t: Tensor) -> None:
    torch.manual_seed(3)
    nn.functional.dropout(t, 0.5, True, inplace=True)


def _at_index(t: Tensor) -> None:
    t[(0,) * t.dim()] = 0.5


def _row(t: Tensor) -> None:
    t[0] = 0.25


OPERATIONS: dict[str, Callable[[Tensor], Any]] = {
    "clamp_": lambda t: t.clamp_(-0.1, 0.1),
    "mul_": lambda t: t.mul_(2),
    "add_": lambda t: t.add_(1),
    "relu_": lambda t: t.relu_(),
    "zero_": lambda t: t.zero_(),
    "detach_": lambda t: t.detach_(),
    "dropout": _dropout,
    "index": _at_index,
    "row": _row,
    "masked_fill_": lambda t: t.masked_fill_(t < 0, 0.0),
    "transpose_": lambda t: t.transpose_(0, 1),
    "squeeze_": lambda t: t.squeeze_(),
    "twice": lambda t: t.view(-1).mul_(3).add_(1),
}
FEW = ("mul_", "zero_", "detach_", "transpose_")
"""Of each kind one, for a second dtype: torch's own depends on the kernel it finds."""
KINDS: dict[str, dict[str, Any]] = {
    "one layer": {},
    "two layers": {"num_layers": 2},
    "bidirectional": {"bidirectional": True},
    "batch_first": {"batch_first": True},
    "projected": {"proj_size": 2},
    "one time step": {},
    "unbatched": {},
    "cell": {},
    "packed": {},
    "packed, two layers": {"num_layers": 2},
    "packed, bidirectional": {"bidirectional": True},
    "packed, one length": {},
}


def _results(kind: str, module: Any, x: Tensor) -> dict[str, Tensor]:
    if kind == "cell":
        return dict(zip(("h", "c"), module(x[0]), strict=True))
    if kind.startswith("packed"):
        lengths = [T] * B if kind.endswith("one length") else [T, 2, 1]
        output, (h, c) = module(pack_padded_sequence(x, lengths))
        return {"output": output.data, "h": h, "c": c}
    x = x[:1] if kind == "one time step" else x[:, 0] if kind == "unbatched" else x
    output, (h, c) = module(x)
    return {"output": output, "h": h, "c": c}


@lru_cache(maxsize=64)
def _gradients(
    make: Any, kind: str, dtype: torch.dtype, change: tuple[str, str] | None
) -> list[Any] | None:
    """Gradients after one result was changed; None where that is not allowed."""
    torch.manual_seed(0)
    module = make[kind == "cell"](I, H, dtype=dtype, **KINDS[kind])
    x = torch.randn(T, B, I, dtype=dtype, requires_grad=True)
    results = _results(kind, module, x)
    try:
        if change is not None:
            OPERATIONS[change[1]](results[change[0]])
        weights = (
            (torch.arange(r.numel(), dtype=dtype).cos().view(r.shape)) for r in results.values()
        )
        loss = sum((r * w).sum() for r, w in zip(results.values(), weights, strict=True))
        loss.backward()  # type: ignore[union-attr]
    except RuntimeError as error:
        if "view" not in str(error) and "inplace" not in str(error):
            raise
        return None
    return [x.grad, *(p.grad for p in module.parameters())]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_what_torchs_results_accept_ours_accept(kind: str, dtype: torch.dtype) -> None:
    """With the same gradients, to rounding: 64 eps of the largest numbers, which are below 8."""
    torchs = (nn.LSTM, nn.LSTMCell)
    room = 512 * torch.finfo(dtype).eps
    operations = OPERATIONS if dtype == torch.float32 else FEW
    tried = 0
    for engine in ENGINES:

        def layer(*args: Any, engine: str = engine, **options: Any) -> Any:
            return anygate.LSTM(*args, engine=engine, **options)

        def cell(*args: Any, engine: str = engine, **options: Any) -> Any:
            return anygate.LSTMCell(*args, engine=engine, **options)

        names = ("h", "c") if kind == "cell" else ("output", "h", "c")
        for change in itertools.product(names, operations):
            wanted = _gradients(torchs, kind, dtype, change)
            if wanted is None:
                continue
            found = _gradients((layer, cell), kind, dtype, change)
            assert found is not None, (engine, change)
            for a, b in zip(wanted, found, strict=True):
                assert (a is None) == (b is None), (engine, change)
                if a is not None:
                    torch.testing.assert_close(b, a, rtol=room, atol=room)
            tried += 1
    assert tried >= 2 * len(ENGINES) * (len(operations) - 1)  # h and c, nearly everywhere


@pytest.mark.parametrize("engine", ENGINES)
def test_an_output_may_be_changed_whatever_its_type(engine: str) -> None:
    """torch's own depends on the kernel it finds (oneDNN's keeps the output). Ours accepts it
    always; a second backward and a change between two of them are right too."""
    torch.manual_seed(0)
    module = anygate.LSTM(I, H, engine=engine)
    x = torch.randn(T, B, I)
    parameters = list(module.parameters())
    output, _ = module(x)
    right = torch.autograd.grad(output.sum(), parameters, retain_graph=True)
    total = output.sum()
    with torch.no_grad():
        output.mul_(3)
    for _ in range(2):
        again = torch.autograd.grad(total, parameters, retain_graph=True)
        for a, b in zip(right, again, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("engine", ENGINES)
def test_inputs_and_weights_must_stay(engine: str) -> None:
    """A change of what the gradient is made of is an error and no wrong number."""
    module = anygate.LSTM(I, H, engine=engine)
    output, _ = module(torch.randn(T, B, I))
    with torch.no_grad():
        module.weight_hh_l0.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


# ---- gradients ---------------------------------------------------------------------------------


def _bytes(tensor: Tensor) -> range:
    first = tensor.data_ptr()
    return range(first, first + tensor.numel() * tensor.element_size())


def _apart(gradients: dict[str, Tensor]) -> None:
    for (a, first), (b, second) in itertools.combinations(gradients.items(), 2):
        one, two = _bytes(first), _bytes(second)
        assert one.stop <= two.start or two.stop <= one.start, f"{a} and {b} share memory"


WAYS: dict[str, Any] = {
    "plain": lambda module, x: module(x)[0],
    "packed": lambda module, x: module(pack_padded_sequence(x, [T, 2, 1]))[0].data,
    "compiled": lambda module, x: torch.compile(module, backend="aot_eager", fullgraph=True)(x)[0],
    "measured": None,
}
ALL = {"activation": "leaky_relu", "peephole": True, "trainable": "unit"}


PLACES = [
    *(("cpu", way) for way in WAYS),
    *((engine, "plain") for engine in ("eager", "reference")),
    ("eager", "compiled"),  # packs are measured in tests/laws/test_record.py
]


@pytest.mark.parametrize(("engine", "way"), PLACES)
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bidirectional": True, "proj_size": 2}, ALL]
)
def test_no_two_gradients_share_memory(options: dict[str, Any], engine: str, way: str) -> None:
    """So that g.mul_(0.5) over all halves each once. By backward and by torch.autograd.grad."""
    module = anygate.LSTM(I, H, engine=engine, **options)
    x = torch.randn(T, B, I)

    def loss() -> Tensor:
        if way != "measured":
            return WAYS[way](module, x).sum()  # type: ignore[no-any-return]
        with anygate.record(module):
            return module(x)[0].sum()  # type: ignore[no-any-return]

    names = [n for n, _ in module.named_parameters()]
    found = torch.autograd.grad(loss(), list(module.parameters()))
    _apart(dict(zip(names, found, strict=True)))
    loss().backward()
    _apart({n: p.grad for n, p in module.named_parameters() if p.grad is not None})
    for ours, (name, p) in zip(found, module.named_parameters(), strict=True):
        assert p.grad is not None, name
        torch.testing.assert_close(p.grad, ours)


@pytest.mark.parametrize("engine", ["cpu", "eager", "reference"])
def test_no_two_gradients_of_a_cell_share_memory(engine: str) -> None:
    module = anygate.LSTMCell(I, H, engine=engine)
    found = torch.autograd.grad(module(torch.randn(B, I))[0].sum(), list(module.parameters()))
    _apart(dict(zip([n for n, _ in module.named_parameters()], found, strict=True)))


@pytest.mark.filterwarnings("ignore:a gradient of a gradient")
@pytest.mark.parametrize("engine", ENGINES)
def test_no_two_gradients_with_a_graph_share_memory(engine: str) -> None:
    module = anygate.LSTM(I, H, engine=engine)
    output = module(torch.randn(T, B, I))[0]
    found = torch.autograd.grad(output.sum(), list(module.parameters()), create_graph=True)
    _apart(dict(zip([n for n, _ in module.named_parameters()], found, strict=True)))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("frozen", ["bias_ih_l0", "bias_hh_l0"])
def test_one_bias_alone(engine: str, frozen: str) -> None:
    module = anygate.LSTM(I, H, engine=engine)
    x = torch.randn(T, B, I)
    module(x)[0].sum().backward()
    other = "bias_hh_l0" if frozen == "bias_ih_l0" else "bias_ih_l0"
    wanted = getattr(module, other).grad.clone()
    module.zero_grad()
    getattr(module, frozen).requires_grad_(False)
    module(x)[0].sum().backward()
    assert getattr(module, frozen).grad is None
    assert torch.equal(getattr(module, other).grad, wanted)


class _Watching(TorchDispatchMode):
    """Sees every operation, so that layers run as operators, as under a profiler of torch's."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("place", range(5), ids=("output", "h", "c", "all h", "all c"))
def test_results_of_the_operator_may_be_changed(place: int) -> None:
    torch.manual_seed(0)
    module, x = anygate.LSTM(I, H), torch.randn(T, B, I)
    gradients = []
    for mode in (contextlib.nullcontext(), _Watching()):
        with mode:
            module.zero_grad()
            output, ends, kept = module(x, return_states=True)
            results = [output, *ends, *kept]
            results[place].mul_(3)
            sum(t.square().sum() for t in results).backward()  # type: ignore[union-attr]
        gradients.append([p.grad.clone() for p in module.parameters()])  # type: ignore[union-attr]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
