"""The engine's host side, autograd and torch modules on it, on an emulated card."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from compiled import needs_compiler
from drawn_layers import cast, draw
from emulated import A100, H100, Emulated, EmulatedDriver
from torch import nn
from torch.nn.utils.rnn import pack_sequence

import anygate
from anygate.cells import GRU_RESET_BEFORE, LSTM, cell_key, make
from anygate.engines import protocol
from anygate.engines.cuda.driver import Function, compiler
from anygate.engines.cuda.engine import CUDA
from anygate.engines.cuda.plan import Card
from anygate.engines.protocol import EngineError, Request, choose
from anygate.nn.run import run_layer, run_sides

H, INPUTS = 10, 3
FLOAT = {"rtol": 2e-5, "atol": 2e-6}


@pytest.fixture
def card() -> Iterator[EmulatedDriver]:
    """The engine "cuda" runs on the CPU's tensors, on an emulated card."""
    before = protocol.LOADED.get("cuda")
    driver = EmulatedDriver()
    protocol.register(Emulated(driver, exchange="one block", units=2, splits=1, tiles=1))
    yield driver
    protocol._HOMES["cuda"] = ".cuda:CUDA"
    protocol.LOADED.pop("cuda")
    if before is not None:
        protocol.LOADED["cuda"] = before
    for forget in protocol._changed:
        forget()


def results(module: nn.Module, *inputs: Any) -> list[torch.Tensor]:
    """Output, last states, and all gradients."""
    output, states = module(*inputs)
    data = output.data if hasattr(output, "batch_sizes") else output
    loss = data.sin().sum() + sum((s * s).sum() for s in states)
    return [data, *states, *torch.autograd.grad(loss, list(module.parameters()))]


def pair(**options: Any) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    peer = nn.LSTM(INPUTS, H, **options)
    ours = anygate.LSTM(INPUTS, H, engine="cuda", **options)
    ours.load_state_dict(peer.state_dict())
    return ours, peer


@needs_compiler
def test_two_layers_both_ways_in_one_launch_each(card: EmulatedDriver) -> None:
    ours, peer = pair(num_layers=2, bidirectional=True)
    x = torch.randn(4, 9, INPUTS)
    for found, wanted in zip(results(ours, x), results(peer, x), strict=True):
        torch.testing.assert_close(found, wanted, **FLOAT)
    groups = 2 * 2  # two tiles of batch rows, two directions
    assert card.launches == [("forward", groups)] * 2 + [("backward", groups)] * 2


@needs_compiler
def test_both_ways_under_autocast(card: EmulatedDriver) -> None:
    """In the dtype of autocast, and one launch."""
    ours, _ = pair(bidirectional=True)
    x, h = torch.randn(4, 3, INPUTS), torch.zeros(3, H)
    names = ("_l0", "_l0_reverse")
    layers = [ours._layer(name, (h, h), x, None) for name in names]  # type: ignore[operator]
    design: Any = ours._design
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        both = run_sides(design, layers, False)
        each = [run_layer(design, layer) for layer in layers]
    assert [grid for _, grid in card.launches] == [2, 1, 1]
    for one, other in zip(both, each, strict=True):
        assert one.output.dtype == torch.bfloat16 and torch.equal(one.output, other.output)


@needs_compiler
def test_packs_states_and_inference(card: EmulatedDriver) -> None:
    ours, peer = pair(bidirectional=True)
    pack = pack_sequence([torch.randn(n, INPUTS) for n in (2, 5, 1, 4)], enforce_sorted=False)
    start = tuple(torch.randn(2, 4, H) for _ in range(2))
    for found, wanted in zip(results(ours, pack, start), results(peer, pack, start), strict=True):
        torch.testing.assert_close(found, wanted, **FLOAT)
    trained = ours(pack)[0].data
    with torch.no_grad():
        assert torch.equal(ours(pack)[0].data, trained)
        one = torch.randn(1, 1, INPUTS)
        torch.testing.assert_close(ours(one)[0], peer(one)[0], **FLOAT)


def test_nothing_to_do(card: EmulatedDriver) -> None:
    engine = protocol.load("cuda")
    for t, b in ((0, 2), (3, 0)):
        case = draw("lstm", t, b, INPUTS, H, dtype=torch.float32)
        layer = cast(case.layer, torch.float32)
        layer = layer._replace(states=tuple(s.requires_grad_() for s in layer.states))
        result = engine.run(cell_key(case.known.cell), layer)
        assert result.output.shape == (t, b, H)
        assert all(map(torch.equal, result.states, layer.states))
        grads = torch.autograd.grad(
            result.states[0].sum() + 2 * result.states[1].sum(), layer.states
        )
        assert [g.unique().tolist() for g in grads] == ([[1.0], [2.0]] if b else [[], []])
    assert not card.launches


@needs_compiler
def test_the_output_may_be_changed_in_place(card: EmulatedDriver) -> None:
    ours, _ = pair()
    x = torch.randn(3, 2, INPUTS)
    grads = []
    for double in (lambda t: t.mul_(2), lambda t: t * 2):
        output = double(ours(x)[0])
        grads.append(torch.autograd.grad(output.square().sum(), list(ours.parameters())))
    for found, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(found, wanted, **FLOAT)


@needs_compiler
def test_gradients_of_gradients_go_through_eager(card: EmulatedDriver) -> None:
    ours, _ = pair()
    twin = copy.deepcopy(ours)
    twin._design = anygate.LSTM(INPUTS, H, engine="eager")._design
    x = torch.randn(3, 2, INPUTS, requires_grad=True)
    found = []
    for module in (ours, twin):
        (g,) = torch.autograd.grad(module(x)[0].sin().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(g.square().sum(), list(module.parameters())))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **FLOAT)


@needs_compiler
def test_gradients_that_come_in_batches(card: EmulatedDriver) -> None:
    ours, _ = pair()
    x = torch.randn(3, 2, INPUTS, requires_grad=True)
    output = ours(x)[0].sum((1, 2))
    rows = [torch.autograd.grad(output, x, row, retain_graph=True)[0] for row in torch.eye(3)]
    (found,) = torch.autograd.grad(output, x, torch.eye(3), is_grads_batched=True)
    torch.testing.assert_close(found, torch.stack(rows), **FLOAT)


@needs_compiler
def test_a_compiler_sees_one_operator(card: EmulatedDriver) -> None:
    ours, _ = pair()
    x = torch.randn(3, 2, INPUTS)
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    results = []
    for module in (ours, compiled):
        ours.zero_grad()
        output = module(x)[0]
        output.sum().backward()
        results.append((output, *[p.grad.clone() for p in ours.parameters()]))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


@needs_compiler
def test_recording_says_what_it_says_on_the_cpu(card: EmulatedDriver) -> None:
    ours, _ = pair(num_layers=2, bidirectional=True)
    twin = anygate.LSTM(INPUTS, H, 2, bidirectional=True, engine="cpu")
    twin.load_state_dict(ours.state_dict())
    sequences = [torch.randn(n, INPUTS) for n in (5, 2, 2)]
    for x in (torch.randn(3, 2, INPUTS), pack_sequence(sequences)):
        found = []
        for module in (ours, twin):
            with anygate.record(module, units=[0, 3]) as recording:
                output = module(x)[0]
                (output.data if hasattr(output, "batch_sizes") else output).sin().sum().backward()
            found.append(recording.arrays())
        assert found[0].keys() == found[1].keys()
        for name, values in found[1].items():
            np.testing.assert_allclose(found[0][name], values, rtol=1e-4, atol=1e-6, err_msg=name)
    names = [name for name, _ in card.launches]
    assert names.count("measure_forward") == names.count("measure_backward") == 2 * 4
    assert names.count("forward") == names.count("backward") == 2 * 2  # both directions at once


def test_tensors_that_do_not_fit_are_refused(card: EmulatedDriver) -> None:
    case = draw("lstm", 2, 2, INPUTS, H, dtype=torch.float32)
    layer = cast(case.layer, torch.float32)
    engine, key = protocol.load("cuda"), cell_key(case.known.cell)
    with pytest.raises(ValueError, match="weight_hh"):
        engine.run(key, layer._replace(weight_hh=layer.weight_hh[:-1]))
    with pytest.raises(ValueError, match="one dtype"):
        engine.run(key, layer._replace(x=layer.x.double()))


def test_a_card_that_is_full_is_an_error_and_no_hang() -> None:
    driver = EmulatedDriver(fit=2)
    engine = Emulated(driver, exchange="cache", units=1, splits=1, tiles=1)
    case = draw("lstm", 2, 2, INPUTS, 24, dtype=torch.float32)
    driver.load = lambda *arguments: Function(None, 32, 1)  # type: ignore[method-assign]
    with pytest.raises(EngineError, match=r'cannot hold .* engine="eager"'):
        engine.run(cell_key(case.known.cell), cast(case.layer, torch.float32))
    assert not driver.launches


# ---- what is refused, and why ------------------------------------------------------------------


def request(device: str = "cuda", dtype: str = "float32", cell: Any = LSTM) -> Request:
    return Request(make(cell), device, dtype, False)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request("cpu"), "NVIDIA GPUs, not on cpu"),
        (request(dtype="complex64"), "not complex64"),
        (request(cell=GRU_RESET_BEFORE), "two products"),
    ],
)
def test_refusals(asked: Request, reason: str) -> None:
    assert reason in str(CUDA(EmulatedDriver()).refuses(asked))


def test_old_cards_are_refused() -> None:
    old = Card((6, 1), 20, 49152, "GTX 1080")
    assert "7.0" in str(CUDA(EmulatedDriver(old)).refuses(request()))
    turing = Card((7, 5), 40, 65536, "T4")
    assert CUDA(EmulatedDriver(turing)).refuses(request()) is None


@pytest.mark.skipif(compiler() is None, reason="NVRTC is not installed")
def test_a_card_that_the_compiler_does_not_know_is_refused() -> None:
    new = Card((99, 9), 300, 300000, "of later years")
    assert "does not know sm_999" in str(CUDA(EmulatedDriver(new)).refuses(request()))


def test_auto_passes_over_it_until_it_was_seen_on_a_card(monkeypatch: Any) -> None:
    engine = CUDA(EmulatedDriver(A100))
    monkeypatch.delenv("ANYGATE_CUDA", raising=False)
    monkeypatch.setitem(protocol.LOADED, "cuda", engine)
    assert engine.refuses(request()) is None
    choice = choose(request())
    assert choice.name == "eager"
    assert "not yet verified on this card (emulated A100)" in dict(choice.refused)["cuda"]
    assert choose(request(), "cuda").name == "cuda"
    monkeypatch.setenv("ANYGATE_CUDA", "1")
    assert choose(request()).name == "cuda"


def test_without_a_gpu_it_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert CUDA().refuses(request()) == "torch sees no CUDA device"


def test_explain_names_the_way(card: EmulatedDriver) -> None:
    ours, _ = pair()
    text = str(ours.explain(torch.randn(4, 9, INPUTS)))
    assert text.startswith("engine: cuda\n  one block for 8 batch rows")


def test_code_is_kept_on_disk(monkeypatch: Any, tmp_path: Any) -> None:
    from anygate.engines.cuda.compiler import Kernels

    monkeypatch.setenv("ANYGATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    compiled: list[str] = []

    class Counting(EmulatedDriver):
        def version(self) -> str:
            return "1"

        def compile(self, source: str, card: Card) -> bytes:
            compiled.append(card.architecture)
            return b"code of " + card.architecture.encode()

        def load(self, code: bytes, *rest: Any) -> Any:
            assert code.startswith(b"code of ")
            return Function(None, 32, 1)

    for the_card in (H100, A100, H100):
        engine = Emulated(Counting(the_card), exchange="one block", tiles=1)
        plan = engine.plan(make(LSTM), 8, 1, 1, torch.float32, torch.device("cpu"))
        for _ in range(2):
            Kernels(engine.driver, make(LSTM), plan, torch.device("cpu")).get(
                "forward", False, False
            )
    assert compiled == ["sm_90", "sm_80"]
    assert os.listdir(tmp_path / "cache")
