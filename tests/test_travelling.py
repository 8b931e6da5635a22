"""A model saved in one process and loaded in another that imports anygate alone; and what tools
that write programs down make of a layer."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import anygate
from anygate.cells import cell_key
from anygate.engines.protocol import Layer, load
from anygate.interop.aten import decompositions

pytestmark = [  # torch's own, of its exporter and its tracer
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]
SOURCE = Path(anygate.__file__).parents[1]
OWN = anygate.CellType(
    "leaky",
    products=("z_r", anygate.Product("z", operand="r*h_before")),
    states=("h",),
    slots={"gate": "sigmoid", "candidate": "tanh"},
    gates=("gate",),
    lines="""r = gate(z_r)
             h = h_before/2 + candidate(z)/2""",
)
LAYERS: dict[str, Callable[[], Any]] = {
    "lstm": lambda: anygate.LSTM(3, 4, activation="relu", batch_first=True),
    "deep": lambda: anygate.LSTM(
        3, 4, 2, bidirectional=True, batch_first=True, peephole=True, activation=["silu", "tanh"]
    ),
    "reset before": lambda: anygate.GRU(3, 4, batch_first=True, reset_after=False),
    "norm": lambda: anygate.LSTM(3, 4, batch_first=True, layer_norm=True),
    "own": lambda: anygate.Recurrent(OWN, 3, 4, batch_first=True, candidate="gelu"),
    "eager": lambda: anygate.RNN(3, 4, batch_first=True, activation="softsign", engine="eager"),
    "reference": lambda: anygate.GRU(
        3, 4, bidirectional=True, batch_first=True, engine="reference"
    ),
}


class Model(nn.Module):
    """A layer and a head over its last output."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.rnn = LAYERS[name]()
        self.head = nn.Linear(8 if self.rnn.bidirectional else 4, 2)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.rnn(x)[0][:, -1])


def exported(model: nn.Module) -> Any:
    """With free batch and time."""
    free = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("time")},)
    with torch.no_grad():
        return torch.export.export(model, (torch.randn(2, 5, 3),), dynamic_shapes=free)


X = torch.linspace(-2, 2, 3 * 9 * 3).view(3, 9, 3)

IN_THE_OTHER_PROCESS = """
import sys, json, pathlib
import anygate  # nothing else of the package, and before torch
assert "torch" not in sys.modules
import torch
folder = pathlib.Path(sys.argv[1])
x, found = torch.load(folder / "x.pt"), {}
with torch.no_grad():
    found["torch.export"] = torch.export.load(folder / "program.pt2").module()(x)
    found["trace"] = torch.jit.load(folder / "traced.pt")(x)
    layer = torch.load(folder / "layer.pt", weights_only=False)
    found["torch.save"] = layer(x)[0]
    data = json.loads((folder / "config.json").read_text())
    model = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(3, 4, batch_first=True)})
    anygate.apply(model, data)
    model.load_state_dict(torch.load(folder / "weights.pt"))
    found["config"] = model["rnn"](x)[0]
    if (folder / "model.safetensors").exists():
        from safetensors import safe_open
        with safe_open(folder / "model.safetensors", "pt") as file:
            model = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(3, 4, batch_first=True)})
            anygate.apply(model, file.metadata()["anygate"])
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})
        found["safetensors"] = model["rnn"](x)[0]
    if (folder / "compiled.pt2").exists():
        found["AOTInductor"] = torch._inductor.aoti_load_package(str(folder / "compiled.pt2"))(x)
torch.save(found, folder / "found.pt")
"""


def in_another_process(folder: Path) -> dict[str, Tensor]:
    path = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = subprocess.run(
        [sys.executable, "-c", IN_THE_OTHER_PROCESS, str(folder)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Tensor] = torch.load(folder / "found.pt")
    return found


def test_saved_here_and_loaded_there(tmp_path: Path) -> None:
    model = Model("lstm").eval()
    parts = nn.ModuleDict({"rnn": model.rnn})
    torch.save(X, tmp_path / "x.pt")
    program = exported(model)
    torch.export.save(program, tmp_path / "program.pt2")
    torch.jit.trace(model, torch.randn(2, 5, 3)).save(tmp_path / "traced.pt")
    torch.save(model.rnn, tmp_path / "layer.pt")
    text = json.dumps(anygate.config(parts))
    (tmp_path / "config.json").write_text(text)
    torch.save(parts.state_dict(), tmp_path / "weights.pt")
    try:
        from safetensors.torch import save_file
    except ImportError:
        pass
    else:
        save_file(parts.state_dict(), tmp_path / "model.safetensors", {"anygate": text})
    found = in_another_process(tmp_path)
    assert {"torch.export", "trace", "torch.save", "config"} <= found.keys()
    for name, value in found.items():
        expected = model(X) if name in ("torch.export", "trace") else model.rnn(X)[0]
        torch.testing.assert_close(value, expected.detach(), rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.skipif(
    os.environ.get("ANYGATE_AOTI") != "1",
    reason="g++ takes half a minute; ANYGATE_AOTI=1 runs it",
)
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++")
def test_compiled_by_aotinductor(tmp_path: Path) -> None:
    model = Model("lstm").eval()
    path = str(tmp_path / "compiled.pt2")
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(exported(model), package_path=path)
    script = "import sys, anygate, torch; x = torch.load(sys.argv[2])\n"
    script += "torch.save(torch._inductor.aoti_load_package(sys.argv[1])(x), sys.argv[3])"
    torch.save(X, tmp_path / "x.pt")
    files = [path, str(tmp_path / "x.pt"), str(tmp_path / "y.pt")]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    subprocess.run([sys.executable, "-c", script, *files], env=environment, check=True, timeout=300)
    torch.testing.assert_close(torch.load(files[2]), model(X).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("engine", ["cpu", "eager", "reference"])
def test_the_operator_of_earlier_programs(engine: str, keep: bool) -> None:
    """`anygate::layer` gives what the engine of that name gives, and its gradients."""
    module = anygate.LSTM(3, 4, dtype=torch.float64)
    key, weights = cell_key(module.cell), list(module.parameters())
    x, states = torch.randn(5, 2, 3).double(), torch.randn(2, 2, 4).double().requires_grad_()
    call = (x, states, *weights, None, None, None, engine, key, True, keep)
    output, ends, kept = torch.ops.anygate.layer(*call)
    layer = Layer(x, states.unbind(0), *weights, reverse=True)
    expected = load(engine).run(key, layer, keep)
    torch.testing.assert_close(output, expected.output)
    torch.testing.assert_close(ends, torch.stack(expected.states))
    if expected.kept is not None:
        torch.testing.assert_close(kept, torch.stack(expected.kept))
    found = (ends, kept) if keep else (ends, output)
    wanted = expected.states, expected.kept or (expected.output,)
    losses = [sum(y.square().sum() for y in ys) for ys in (found, (*wanted[0], *wanted[1]))]
    grads = [torch.autograd.grad(loss, (states, *weights)) for loss in losses]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("name", LAYERS)
def test_a_program_of_plain_operators(name: str) -> None:
    """At other lengths and batches than exported; no operator of ours is left."""
    model = Model(name).eval()
    program = exported(model).run_decompositions(decompositions())
    assert "anygate" not in str(program.graph)
    for shape in ((3, 9, 3), (1, 2, 3)):
        x = torch.randn(shape)
        torch.testing.assert_close(program.module()(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("gradients", [True, False])
def test_a_trace_is_right_at_other_lengths(name: str, gradients: bool) -> None:
    """With its gradients, whatever the mode it was traced in."""
    model = Model(name)
    with torch.set_grad_enabled(gradients):
        traced = torch.jit.trace(model, torch.randn(2, 5, 3))
    torch.testing.assert_close(traced(X), model(X), rtol=1e-5, atol=1e-6)
    weights = list(model.parameters())
    found = torch.autograd.grad(traced(X).square().sum(), weights)
    expected = torch.autograd.grad(model(X).square().sum(), weights)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_layer_is_a_leaf_of_torch_fx() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = anygate.LSTM(3, 4, activation="relu")
            self.step = anygate.GRUCell(4, 4)

        def forward(self, x: Tensor, h: Tensor, lengths: Tensor) -> Any:
            y, (_, c) = self.rnn(x, (h, h), lengths=lengths)
            return self.step(y[-1], c[0])

    model = Both()
    graph = torch.fx.symbolic_trace(model)
    targets = [node.target for node in graph.graph.nodes if node.op == "call_module"]
    assert targets == ["rnn", "step"]
    arguments = torch.randn(5, 2, 3), torch.randn(1, 2, 4), torch.tensor([5, 3])
    assert torch.equal(graph(*arguments), model(*arguments))


@pytest.mark.parametrize("leaf", [False, True])
def test_flops_are_those_of_the_products(leaf: bool) -> None:
    """The operator counts what the eager engine's own products count, forward and backward."""
    counts = []
    for engine in ("cpu", "eager"):
        module = anygate.LSTM(3, 4, 2, peephole=True, activation="relu", engine=engine)
        x = torch.randn(5, 2, 3, requires_grad=leaf)
        with FlopCounterMode(display=False) as counter:
            module(x)[0].sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


def test_torchscript_is_refused_with_the_way_out() -> None:
    with pytest.raises(RuntimeError, match=r"torch.jit.script cannot compile anygate.LSTM.*trace"):
        torch.jit.script(Model("lstm"))


def test_help_does_not_wait_for_torch() -> None:
    script = "import sys, anygate; sys.exit('torch' in sys.modules or 'sympy' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=100)
