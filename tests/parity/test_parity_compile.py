"""torch.compile in one graph and torch.export, with T and B that change.

nn.LSTM itself can neither: Dynamo refuses it ("Attempted to wrap RNN, GRU, or LSTM"), and export
fixes T. So these run on ours, against the same module uncompiled. backend="aot_eager" traces
forward and backward and checks the operators' shapes without calling a C++ compiler, which takes
16 s for one layer; that what operators promise is what they return, strides included, is tested
in test_parity_meta.py.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from plain_cells import JANET, MGU, S_LSTM, SUBTRACTIVE
from torch import Tensor, nn
from torch.export import Dim, export, load, save
from torch.nn.utils.rnn import pack_padded_sequence
from toy_engine import Toy
from truth import ANYGATE, FORMULA, H, I, Kind, as_tuple, mix, normal, states

import anygate
from anygate import CellType, Product
from anygate.cells import cell_key
from anygate.engines import protocol

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",  # torch's own, of its JIT
    "ignore::FutureWarning",
    "ignore:The tensor attributes self._flat_weights:UserWarning",
    "ignore:LSTM with projections is not supported",
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
)
SIZES = ((5, 3), (6, 9), (9, 7))  # no size is another's or the module's, so no symbol is shared


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Model(nn.Module):
    """An LSTM with something before and after it."""

    def __init__(self, lstm: Any) -> None:
        super().__init__()
        self.lstm = lstm

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        output, (h, c) = self.lstm(x * 2, hx)
        return output.square(), h + 1, c


def results(run: Any, model: Any, x: Tensor, hx: Any) -> list[Tensor]:
    """The results of a call, and all gradients."""
    model.zero_grad()
    leaf = x.clone().requires_grad_()
    output, h, c = run(leaf, hx)
    mix({"output": output, "h": h, "c": c}).backward()
    return [output, h, c, leaf.grad, *(p.grad for p in model.parameters())]  # type: ignore[list-item]


def compiled(model: Any, backend: str = "aot_eager") -> Any:
    return torch.compile(model, fullgraph=True, dynamic=True, backend=backend)


@pytest.mark.parametrize(
    ("kind", "with_state"), [(ANYGATE, False), (FORMULA, True)], ids=("stateless", "with a state")
)
def test_one_graph_for_all_sizes(kind: Kind, with_state: bool) -> None:
    """Training, both ways; after the first call nothing is compiled again."""
    model = Model(kind(I, H, bidirectional=True, dtype=torch.float64))
    run, stance = compiled(model), "default"
    for steps, batch in SIZES:
        x = normal(steps, batch, I, seed=3)
        hx = states(model.lstm, batch) if with_state else None
        wanted = results(model, model, x, hx)
        with torch.compiler.set_stance(stance):
            found = results(run, model, x, hx)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
        stance = "fail_on_recompile"


def test_inference_follows_new_weights() -> None:
    """Weights are inputs of the graph, not constants in it."""
    model = Model(ANYGATE(I, H)).eval()
    run = compiled(model)
    x = normal(5, 3, I, seed=3).float()
    with torch.no_grad():
        before = run(x)[0]
        assert torch.equal(before, model(x)[0])
        model.lstm.weight_hh_l0.mul_(2)
        after = run(x)[0]
        assert torch.equal(after, model(x)[0]) and not torch.equal(after, before)
        model.lstm.load_state_dict(ANYGATE(I, H, seed=4).state_dict())
        assert torch.equal(run(x)[0], model(x)[0])


@pytest.mark.parametrize(
    "options",
    [
        {"proj_size": 2},
        {"batch_first": True, "bias": False},
        {"num_layers": 2, "dropout": 1.0},  # the one p whose mask every backend draws alike
    ],
    ids=str,
)
def test_other_builds(options: dict[str, Any]) -> None:
    model = Model(ANYGATE(I, H, dtype=torch.float64, **options))
    x = normal(5, 3, I, seed=3)
    for a, b in zip(
        results(compiled(model, "eager"), model, x, None),
        results(model, model, x, None),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_unbatched() -> None:
    model = Model(ANYGATE(I, H, dtype=torch.float64))
    run = compiled(model, "eager")
    for steps in (5, 7):
        x = normal(steps, I, seed=3)
        torch.testing.assert_close(run(x)[0], model(x)[0], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("way", ["bfloat16", "autocast"])
def test_half_types(way: str) -> None:
    """The graph is one for all sizes also where the fused engine does not run."""
    dtype = torch.bfloat16 if way == "bfloat16" else torch.float32
    model = Model(ANYGATE(I, H, dtype=dtype))
    run, stance = compiled(model), "default"
    for steps, batch in SIZES[:2]:
        x = normal(steps, batch, I, seed=3, dtype=dtype)
        with torch.autocast("cpu", torch.bfloat16, enabled=way == "autocast"):
            wanted = model(x)
            with torch.compiler.set_stance(stance):
                found = run(x)
        assert found[0].dtype == torch.bfloat16
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=0.01, atol=0.01)
        found[0].float().sum().backward()
        stance = "fail_on_recompile"


def test_a_pack() -> None:
    """The lengths are data, on which no graph can branch: it may break, and must stay right."""
    lstm = ANYGATE(I, H, bidirectional=True, dtype=torch.float64)

    def run(packed: Any) -> Any:
        output, (h, c) = lstm(packed)
        return output.data * 2, h, c

    fast = torch.compile(run, backend="eager")
    for lengths in ([5, 3, 1], [4, 4, 2], [3, 3, 3]):
        packed = pack_padded_sequence(normal(max(lengths), 3, I, seed=3), lengths)
        for a, b in zip(fast(packed), run(packed), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_one_step(lstm: Kind) -> None:
    """nn.LSTMCell compiles, so this is on both."""
    cell = lstm.cell(I, H, dtype=torch.float64)
    run, stance = compiled(cell), "default"
    for batch in (5, 7):
        x, h, c = (normal(batch, n, seed=n) for n in (I, H, H))
        with torch.compiler.set_stance(stance):
            found = run(x, (h, c))
        for a, b in zip(found, cell(x, (h, c)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
        (found[0].sum() + found[1].sum()).backward()
        assert cell.weight_hh.grad is not None
        stance = "fail_on_recompile"


# ---- every cell -----------------------------------------------------------------------------

MEMORYLESS = CellType(
    "memoryless",
    products=(Product("z", recurrent=False),),
    states=("h",),
    slots={"candidate": "tanh"},
    lines="h = candidate(z) + 0.5*h_before",
)
CELLS: dict[str, Callable[..., Any]] = {
    "LSTM": anygate.LSTM,
    "peephole": partial(anygate.LSTM, peephole=True, coupled=True, clip=3.0, activation="relu"),
    "learnt": partial(anygate.LSTM, activation="swish", trainable="unit"),
    "GRU": anygate.GRU,
    "RNN": anygate.RNN,
    "GRU, reset before": partial(anygate.GRU, reset_after=False),
    "LSTM, layer norm": partial(anygate.LSTM, layer_norm=True),
    "RNN, layer norm": partial(anygate.RNN, layer_norm=True),
    "zoneout": partial(anygate.LSTM, zoneout=0.3),
    "zoneout, layer norm": partial(anygate.LSTM, zoneout={"c": 0.3}, layer_norm=True),
    "recurrent dropout": partial(anygate.GRU, recurrent_dropout=0.3),
    **{
        cell.name: partial(anygate.Recurrent, cell)
        for cell in (MGU, JANET, S_LSTM, SUBTRACTIVE, MEMORYLESS)
    },
    "eager": partial(anygate.LSTM, engine="eager"),
    "reference": partial(anygate.GRU, engine="reference"),
    "an engine of a user's": partial(anygate.RNN, engine="toy"),
}
"""Cells of every kind, on every engine that can run them here."""


@pytest.fixture
def toy() -> Iterator[None]:
    protocol.register(Toy())
    yield
    protocol.unregister("toy")


def gradients(run: Any, module: Any, steps: int, batch: int) -> list[Tensor]:
    """Results and all gradients, by x, the states and every parameter."""
    module.zero_grad()
    torch.manual_seed(1)
    x = normal(steps, batch, I, seed=3).requires_grad_()
    states = [
        normal(1, batch, H, seed=4 + k).requires_grad_()
        for k in range(len(module.cell.type.states))
    ]
    output, ends, kept = run(x, tuple(states) if len(states) > 1 else states[0], return_states=True)
    results = [output, *as_tuple(ends), *as_tuple(kept)]
    mix(dict(enumerate(results)), range(len(results))).backward()
    leaves = [x, *states, *module.parameters()]
    return [*results, *(torch.zeros_like(t) if t.grad is None else t.grad for t in leaves)]


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_is_one_graph(name: str, toy: None) -> None:
    """Forward and backward, of the output, the last states and those of all steps."""
    torch.manual_seed(0)
    module = CELLS[name](I, H, dtype=torch.float64)
    run = torch.compile(module, fullgraph=True, backend="aot_eager")
    wanted, found = (gradients(each, module, 5, 3) for each in (module, run))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["GRU", "GRU, reset before"])
def test_a_graph_of_another_cell_holds_for_all_sizes(name: str) -> None:
    """Followed step by step, the loop of an engine would be compiled again for each T."""
    module = CELLS[name](I, H, dtype=torch.float64)
    run, stance = compiled(module), "default"
    for steps, batch in SIZES[:2]:
        wanted = gradients(module, module, steps, batch)
        with torch.compiler.set_stance(stance):
            found = gradients(run, module, steps, batch)
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)
        stance = "fail_on_recompile"


def test_gradients_of_gradients_in_a_graph() -> None:
    module = anygate.GRU(I, H, reset_after=False, dtype=torch.float64)
    x = normal(3, 2, I, seed=3).requires_grad_()
    found = []
    for run in (module, torch.compile(module, fullgraph=True, backend="eager")):
        (slope,) = torch.autograd.grad(run(x)[0].square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), (x, *module.parameters())))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_what_the_operator_promises() -> None:
    """Its schema, its shapes and its gradient, of a cell whose gradients are needed in part."""
    module = anygate.GRU(I, H, reset_after=False, dtype=torch.float64)
    key, states = cell_key(module.cell), normal(1, 2, H, seed=4).requires_grad_()
    own = (*module._weights("_l0"), None, None, None)
    for keep in (False, True):
        call = (normal(3, 2, I, seed=3), states, *own, key, False, True, keep)
        torch.library.opcheck(torch.ops.anygate.recurrent, call, {"engine": "eager"})


# ---- export ---------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_program_runs_on_its_engine(toy: None) -> None:
    """Compiled, exported and traced; forward, and once more for its gradients."""
    runs = []

    class Counted(Toy):
        def run(self, *arguments: Any, **options: Any) -> Any:
            runs.append(arguments)
            return super().run(*arguments, **options)

    protocol.register(Counted())
    module, x = anygate.RNN(I, H, engine="toy"), normal(5, 3, I, seed=3).float()
    for program in (
        torch.compile(module, fullgraph=True, backend="aot_eager"),
        export(module, (x,)).module(),
        torch.jit.trace(module, x),
    ):
        runs.clear()
        output = program(x)[0]
        assert len(runs) == 1
        output.sum().backward()
        assert len(runs) == 2


STEPS, BATCH = Dim("steps", min=2, max=99), Dim("batch", min=2, max=99)


@pytest.mark.parametrize(
    "build",
    [{"num_layers": 2, "bidirectional": True}, {"proj_size": 2}, {"layer_norm": True}],
    ids=str,
)
def test_export(build: dict[str, Any]) -> None:
    """Saved, loaded, and run on other sizes and with a state."""
    model = ANYGATE(I, H, dtype=torch.float64, **build).eval()
    example = (normal(5, 3, I, seed=3), states(model, 3))
    shapes = {"input": {0: STEPS, 1: BATCH}, "hx": ({1: BATCH}, {1: BATCH})}
    program = export(model, example, dynamic_shapes=shapes)
    # The cell's own entry is no tensor that a program needs.
    assert set(program.state_dict) == set(model.state_dict()) - {"_extra_state"}
    file = io.BytesIO()
    save(program, file)
    file.seek(0)
    again = load(file).module()
    for steps, batch in SIZES:
        x, hx = normal(steps, batch, I, seed=4), states(model, batch, seed=20)
        output, (h, c) = again(x, hx)
        wanted, (h2, c2) = model(x, hx)
        for a, b in ((output, wanted), (h, h2), (c, c2)):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_export_of_a_fixed_size(layer: Kind) -> None:
    """As far as nn.LSTM goes too."""
    model = layer(I, H, 2).eval()
    x = normal(5, 3, I, seed=3).float()
    program = export(model, (x,))
    torch.testing.assert_close(program.module()(x)[0], model(x)[0])


def test_export_in_bfloat16() -> None:
    """On an engine that unrolls time, T would be fixed by the graph."""
    model = ANYGATE(I, H, dtype=torch.bfloat16).eval()
    x = normal(5, 3, I, seed=3, dtype=torch.bfloat16)
    program = export(model, (x,), dynamic_shapes={"input": {0: STEPS, 1: BATCH}})
    for steps, batch in SIZES:
        x = normal(steps, batch, I, seed=4, dtype=torch.bfloat16)
        torch.testing.assert_close(program.module()(x)[0], model(x)[0])
