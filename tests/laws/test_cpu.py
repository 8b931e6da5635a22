"""The CPU engine: its primitives against mpmath, its layers against the reference."""

from __future__ import annotations

import copy
import ctypes
import io
import math
import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
import torch
from drawn_layers import ENGINE, check, draw, with_leaves
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from llvmlite import ir
from mpmath import mp
from plain_cells import TORCH, Known, loop
from torch import nn

from anygate import LSTM
from anygate.cells import LSTM as LSTM_TYPE
from anygate.cells import Cell, cell_key, lstm_type, make
from anygate.engines import again, cache
from anygate.engines.cpu import compiler, layer, plain
from anygate.engines.cpu import gradients as cpu_gradients
from anygate.engines.cpu.emit import I64, Emitter, Target, counted, function
from anygate.engines.cpu.kernels import emit_kernels
from anygate.engines.cpu.ops import operations
from anygate.engines.cpu.shared import emit_shared
from anygate.engines.eager import apply as activate
from anygate.engines.protocol import EngineError, Layer
from anygate.formulas import ACTIVATIONS, resolve, sheet
from anygate.formulas.precise import PRECISE
from anygate.formulas.primitives import PRIMITIVES

SLOTS = tuple(make(LSTM_TYPE).slots)


def lstm(slots: dict[str, str], clip: float | None = None) -> Known:
    """The LSTM with these activations, and its step by hand."""
    cell = make(LSTM_TYPE, {s: resolve(name) for s, name in slots.items()}, clip)

    def step(m: Any, x: Any, h: Any, states: Any, v: Any, masks: Any) -> Any:
        def at(slot: str, z: Any) -> Any:
            return activate(cell.slots[slot], z if clip is None else z.clamp(-clip, clip))

        i, f, g, o = (p + q for p, q in zip(x, h, strict=True))
        i, f = at("input_gate", i), at("forget_gate", f)
        c = f * states[1] + i * at("candidate", g)
        return at("output_gate", o) * at("cell_output", c), c

    return Known(cell, step)


def lstm_cell(**slots: str) -> Cell:
    return lstm(slots).cell


# ---- primitives ----------------------------------------------------------------------------

FORMATS = {"float32": (np.float32, 3e38, 1e-40), "float64": (np.float64, 1e300, 1e-310)}
UNARY = sorted({c.__name__ for c in PRIMITIVES.values() if c.arity() == 1} | {"sqrt"})
_CODE: dict[str, Any] = {}


def elementwise(dtype: str) -> Any:
    """Machine code that applies each unary primitive to an array."""
    if dtype not in _CODE:
        target = compiler.target_for(dtype)
        module = ir.Module("elementwise")
        for name in UNARY:
            code = function(module, f"apply_{name}", 2, 1)
            builder = ir.IRBuilder(code.append_basic_block())
            e = Emitter(builder, target)
            x, y, count = code.args
            with counted(builder, ir.Constant(I64, 0), count, target.lanes) as i:
                e.store(operations(e)[name](e.load(e.at(x, i))), e.at(y, i))
            builder.ret_void()
        _CODE[dtype] = compiler.link(compiler.compile_module(module))
    return _CODE[dtype]


def apply(name: str, x: Any) -> Any:
    dtype = str(x.dtype)
    padded = np.zeros(-(-len(x) // 16) * 16, x.dtype)
    padded[: len(x)] = x
    result = np.empty_like(padded)
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    address = elementwise(dtype).get_function_address(f"apply_{name}")
    signature(address)(padded.ctypes.data, result.ctypes.data, len(padded))
    return result[: len(x)]


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", FORMATS)
def test_primitives_are_within_four_ulp_and_finite(dtype: str, name: str) -> None:
    kind, largest, subnormal = FORMATS[dtype]
    draw = np.random.default_rng(0)
    fixed = [
        0,
        1e-30,
        subnormal,
        0.5,
        1,
        3,
        10,
        14,
        20,
        40.1,
        49.9,
        50.1,
        87.5,
        88.7,
        89.2,
        100,
        103,
        700,
        709.5,
        710,
        745,
        1e4,
        1e15,
        largest,
    ]
    x = np.concatenate([fixed, draw.uniform(0, 10, 400), 10 ** draw.uniform(-7, 3, 300)])
    x = np.concatenate([x, -x]).astype(kind)
    with mp.workdps(40):
        for value, found in zip(x, apply(name, x), strict=True):
            true = PRECISE[name](mp.mpf(float(value)))
            if mp.isnan(true):
                assert np.isnan(found), value
            elif abs(true) > float(np.finfo(kind).max):
                assert np.isinf(found), value
            else:
                ulp = float(np.spacing(kind(abs(float(true)))))
                assert abs(mp.mpf(float(found)) - true) <= 4 * ulp, (value, found, float(true))


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", FORMATS)
def test_primitives_at_infinity_and_nan(dtype: str, name: str) -> None:
    kind = FORMATS[dtype][0]
    nan, above, below = apply(name, np.array([np.nan, np.inf, -np.inf], kind))
    assert np.isnan(nan)
    if name not in ("softsign", "sin", "cos"):  # inf/inf; no limit
        for found, end in ((above, mp.inf), (below, -mp.inf)):
            true = float(PRECISE[name](end))
            assert (math.isnan(true) and math.isnan(found)) or found == pytest.approx(true, 1e-6)


# ---- layers --------------------------------------------------------------------------------


SMOOTH = tuple(n for n, a in ACTIVATIONS.items() if not sheet(a).kinks.value)


@examples(25)
@given(
    st.tuples(st.sampled_from(SLOTS), st.sampled_from(SMOOTH)),
    st.tuples(st.sampled_from(SLOTS), st.sampled_from(SMOOTH)),
    st.tuples(st.integers(1, 7), st.integers(0, 4), st.integers(1, 4), st.integers(1, 5)),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_any_two_activations_in_any_two_slots(
    one: Any, other: Any, shape: Any, reverse: bool, seed: int
) -> None:
    """On formulas without a kink, at which rounding would decide."""
    check(draw(lstm(dict((one, other))), *shape, reverse=reverse, seed=seed), keep=False)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation(name: str) -> None:
    """In two slots each, which move on from one activation to the next; both dtypes by turns. The
    drawn numbers are not near any kink."""
    place = list(ACTIVATIONS).index(name)
    slots = {SLOTS[place % 5], SLOTS[(place + 2) % 5]} - {"forget_gate"} or {"candidate"}
    dtype = (torch.float32, torch.float64)[place % 2]
    known = lstm(dict.fromkeys(slots, name))
    check(draw(known, 3, 3, 2, 9, seed=place, dtype=dtype), keep=False)


@pytest.mark.parametrize("hidden", [1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 130])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_remainder_of_the_vectors_and_tiles(hidden: int, dtype: torch.dtype) -> None:
    for batch, inputs, reverse in ((1, 3, False), (2, 1, True), (5, 17, True), (13, 2, False)):
        check(draw("lstm", 3, batch, inputs, hidden, dtype=dtype, reverse=reverse), keep=False)


@pytest.mark.parametrize("reverse", [False, True])
def test_long_and_wide(reverse: bool) -> None:
    check(draw("lstm", 3_000, 1, 1, 4, reverse=reverse), keep=False)
    check(draw("lstm", 2, 1_000, 2, 5, reverse=reverse), keep=False)


def test_empty_batch() -> None:
    lstm = LSTM(3, 4, engine="cpu")
    output, (h, c) = lstm(torch.zeros(5, 0, 3))
    assert output.shape == (5, 0, 4) and h.shape == c.shape == (1, 0, 4)
    output.sum().backward()
    assert all(not p.grad.any() for p in lstm.parameters())


@pytest.mark.parametrize("name", ["lstm", "gru", "mixed"])
def test_extreme_numbers_and_nan(name: str) -> None:
    """The results are those of torch's own operations, and no row reaches another."""
    case = draw(name, 9, 4, 3, 17, dtype=torch.float32)
    layer_ = with_leaves(case.layer, torch.Tensor.float)
    masks = None if layer_.masks is None else layer_.masks.float()
    x = layer_.x.clone()
    x[2, 1], x[5, 0], x[7, 2] = float("nan"), 1e30, float("-inf")
    layer_ = layer_._replace(x=x, masks=masks)
    expected, states, _ = loop(TORCH, case.known, layer_)
    found = ENGINE.run(cell_key(case.known.cell), layer_)
    torch.testing.assert_close(found.output, expected, equal_nan=True)
    for p, q in zip(found.states, states, strict=True):
        torch.testing.assert_close(p, q, equal_nan=True)
    assert found.output[2:, 1].isnan().all() and not found.output[:, 3].isnan().any()


def twin(lstm: LSTM, engine: str) -> LSTM:
    """The same LSTM on another engine."""
    slots: Any = lstm.cell.slots
    other = LSTM(
        lstm.input_size,
        lstm.hidden_size,
        lstm.num_layers,
        batch_first=lstm.batch_first,
        bidirectional=lstm.bidirectional,
        dtype=lstm.weight_ih_l0.dtype,
        engine=engine,
        **slots,
    )
    other.load_state_dict(lstm.state_dict())
    return other


def test_inputs_that_are_not_contiguous_or_aligned() -> None:
    torch.manual_seed(0)
    lstm = LSTM(6, 20, num_layers=2, bidirectional=True, activation="relu", engine="cpu")
    whole = torch.randn(7, 12, 5)
    x = whole.permute(2, 0, 1)[..., ::2]
    shifted = torch.randn(5 * 7 * 6 + 1)[1:].view(5, 7, 6)
    for one in (x, shifted):
        torch.testing.assert_close(lstm(one)[0], twin(lstm, "eager")(one)[0])


def test_only_some_outputs_are_used_and_x_needs_no_gradient() -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 9, engine="cpu", candidate="softsign").double()
    other = twin(lstm, "reference")
    x = torch.randn(4, 5, 3, dtype=torch.float64)
    for pick in (lambda r: r[0], lambda r: r[1][0], lambda r: r[1][1]):
        for module in (lstm, other):
            module.zero_grad()
            pick(module(x)).square().sum().backward()
        for p, q in zip(lstm.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad)


# ---- threads and processes -----------------------------------------------------------------


@pytest.mark.parametrize("by_units", [False, True])
def test_threads_agree_and_their_number_is_respected(
    by_units: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    teams = {
        False: lambda width, steps, batch, products, hidden: (torch.get_num_threads(), False),
        True: lambda width, steps, batch, products, hidden: (torch.get_num_threads(), True),
    }
    monkeypatch.setattr(layer, "_team", teams[by_units])
    torch.manual_seed(0)
    lstm = LSTM(5, 150, activation="leaky_relu", trainable="unit", engine="cpu")
    x = torch.randn(6, 11, 5)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        lstm.zero_grad()
        output, _ = lstm(x)
        output.sum().backward()
        results.append([output.detach(), *(p.grad.clone() for p in lstm.parameters())])
    torch.set_num_threads(1)
    for other in results[1:]:
        for p, q in zip(results[0], other, strict=True):
            torch.testing.assert_close(p, q)


def test_how_work_is_shared() -> None:
    def team(width: int, steps: int, batch: int, inputs: int, hidden: int) -> tuple[int, bool]:
        return layer._team(width, steps, batch, 4 * hidden * (inputs + hidden), hidden)

    torch.set_num_threads(3)
    assert team(16, 100, 64, 8, 128) == (3, False)
    assert team(16, 100, 2, 0, 256) == (3, True)  # too few rows: hidden units
    assert team(64, 100, 1, 0, 128) == (2, True)  # two panels of units
    assert team(16, 100, 2, 0, 32) == (2, False)  # too little in a step to wait for it
    assert team(16, 1, 1, 8, 8) == (1, False)
    torch.set_num_threads(1)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["lstm", "gru", "mixed"])
def test_gradients_in_stretches(
    name: str, packed: bool, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many stretches of time the backward pass takes, the gradients are the same."""
    for rows in (1, 5, 7, 12, 1000):
        monkeypatch.setattr(cpu_gradients, "_ROWS", rows)
        check(draw(name, 6, 5, 3, 7, packed=packed, reverse=reverse), keep=True)


def test_subnormal_states_are_zero_and_the_mode_is_put_back() -> None:
    """Forget gates of a half for 200 steps: without flushing, the state ends at 1e-41."""
    key = cell_key(lstm_cell(forget_gate="0.5", input_gate="0"))
    states = torch.zeros(1, 1), torch.ones(1, 1)
    weights = torch.zeros(4, 1), torch.zeros(4, 1)
    last, kept = (
        ENGINE.run(key, Layer(torch.zeros(t, 1, 1), states, *weights)).states[1] for t in (135, 120)
    )
    assert last.item() == 0
    assert kept.item() == 0.5**120
    assert torch.tensor(1e-41).mul(0.5).item() > 0  # outside, subnormal numbers live


def test_many_python_threads_at_once() -> None:
    torch.manual_seed(0)
    lstm = LSTM(4, 16, engine="cpu", activation="x*sigmoid(x)")
    xs = [torch.randn(5, 3, 4) for _ in range(8)]
    expected = [lstm(x)[0].detach() for x in xs]
    found: dict[int, Any] = {}

    def work(k: int) -> None:
        for _ in range(20):
            found[k] = lstm(xs[k])[0].detach()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(torch.equal(found[k], expected[k]) for k in range(8))


def _in_child(connection: Any, lstm: LSTM, x: torch.Tensor) -> None:
    torch.set_num_threads(1)
    with torch.no_grad():
        connection.send(lstm(x)[0].numpy())


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*")
def test_in_a_child_process(method: str) -> None:
    torch.manual_seed(0)
    lstm = LSTM(2, 5, engine="cpu")
    x = torch.randn(3, 2, 2)
    expected = lstm(x)[0].detach().numpy()
    context = multiprocessing.get_context(method)
    here, there = context.Pipe()
    child = context.Process(target=_in_child, args=(there, lstm, x))
    child.start()
    assert here.poll(300)
    np.testing.assert_array_equal(here.recv(), expected)
    child.join(60)
    assert child.exitcode == 0


# ---- packed weights are never stale --------------------------------------------------------


def _changes() -> dict[str, Any]:
    def step(m: LSTM) -> None:
        optimizer = torch.optim.SGD(m.parameters(), lr=1.0)
        m(torch.ones(2, 2, 3))[0].sum().backward()
        optimizer.step()

    def in_place(m: LSTM) -> None:
        with torch.no_grad():
            m.weight_hh_l0.mul_(-1)

    def assign(m: LSTM) -> None:
        m.weight_hh_l0.data = -m.weight_hh_l0.data.clone()

    def replace(m: LSTM) -> None:
        m.weight_ih_l0 = nn.Parameter(-m.weight_ih_l0.detach())

    return {
        "optimizer step": step,
        "load_state_dict": lambda m: m.load_state_dict(LSTM(3, 6).state_dict()),
        "in place": in_place,
        ".data assigned": assign,
        "new parameter": replace,
        "reset_parameters": lambda m: m.reset_parameters(),
    }


@pytest.mark.parametrize("change", _changes())
def test_a_changed_weight_is_packed_again(change: str) -> None:
    torch.manual_seed(0)
    lstm = LSTM(3, 6, engine="cpu")
    x = torch.randn(4, 5, 3)
    with torch.no_grad():
        before = lstm(x)[0]
        assert torch.equal(lstm(x)[0], before)
    _changes()[change](lstm)
    with torch.no_grad():
        after = lstm(x)[0]
    torch.testing.assert_close(after, twin(lstm, "eager")(x)[0])
    assert not torch.allclose(after, before)


def test_weights_of_inference_mode_are_not_kept() -> None:
    with torch.inference_mode():
        lstm = LSTM(3, 6, engine="cpu")
        x = torch.randn(4, 5, 3)
        lstm(x)
        lstm.weight_hh_l0.mul_(-1)
        found = lstm(x)[0]
        torch.testing.assert_close(found, twin(lstm, "eager")(x)[0])


# ---- the cache of machine code -------------------------------------------------------------


def forget() -> None:
    """All machine code of this process."""
    compiler.kernels.cache_clear()
    compiler.sweep.cache_clear()
    compiler._shared.cache_clear()
    plain.code.cache_clear()


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("ANYGATE_CACHE", str(place))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    forget()
    yield place
    forget()


ALONE = 3
"""Files of an LSTM's inference: the cell's code, one product, fingerprints and packing."""


def test_processes_that_write_one_entry_at_once(own_cache: Path) -> None:
    """Each finds nothing, compiles, writes; whole files remain and all computed the same."""
    script = (
        "import torch, anygate; torch.manual_seed(0); "
        "print(anygate.LSTM(2, 3, activation='gelu')(torch.ones(2, 1, 2))[0].sum().item())"
    )
    command = [sys.executable, "-c", script]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate(timeout=300)[0] for process in started}
    assert len(said) == 1 and float(said.pop())
    entries = list(own_cache.iterdir())
    assert len(entries) == ALONE and all(cache.read(entry.stem) for entry in entries)


def test_code_is_kept_and_used(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler.kernels(lstm_cell(), "float32", False)
    entries = list(own_cache.iterdir())
    assert len(entries) == ALONE and not any(e.stat().st_mode & 0o077 for e in entries)
    forget()
    monkeypatch.setattr(compiler, "compile_module", None)  # calling it would be an error
    compiler.kernels(lstm_cell(), "float32", False)


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "empty", "writable by others"])
def test_a_bad_entry_is_compiled_anew(own_cache: Path, damage: str) -> None:
    compiler.kernels(lstm_cell(), "float32", False)
    good = {path: path.read_bytes() for path in own_cache.iterdir()}
    assert len(good) == ALONE
    for path, code in good.items():
        if damage == "cut":
            path.write_bytes(code[: len(code) // 2])
        elif damage == "flipped":
            path.write_bytes(code[:-9] + bytes([code[-9] ^ 1]) + code[-8:])
        elif damage == "foreign":
            path.write_bytes(b"\x7fELF" + code)
        elif damage == "empty":
            path.write_bytes(b"")
        else:
            path.chmod(0o666)
        assert cache.read(path.stem) is None
    forget()
    lstm = LSTM(2, 3, engine="cpu")
    torch.testing.assert_close(
        lstm(torch.ones(2, 2, 2))[0], twin(lstm, "eager")(torch.ones(2, 2, 2))[0]
    )
    compiler.kernels(lstm_cell(), "float32", False)
    assert all(path.read_bytes() == code for path, code in good.items())


def test_no_cache_and_a_folder_that_cannot_be_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for value in ("", str(tmp_path / "file" / "below"), "/proc/nowhere"):
        monkeypatch.setenv("ANYGATE_CACHE", value)
        forget()
        assert compiler.kernels(lstm_cell(), "float32", False).forward is not None
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    forget()


def test_the_key_knows_formula_numbers_dtype_and_source(monkeypatch: pytest.MonkeyPatch) -> None:
    def key(
        name: str = "relu", dtype: str = "float32", training: bool = False, **variant: Any
    ) -> str:
        kind = lstm_type(variant.pop("peephole", False), variant.pop("coupled", False))
        cell = make(kind, {"candidate": resolve(name)}, **variant)
        return compiler._key(cell, compiler.target_for(dtype), training)

    keys = {
        key(),
        key("tanh"),
        key("leaky_relu"),
        key("leaky_relu(k=0.2)"),
        key(dtype="float64"),
        key(training=True),
        key("leaky_relu", per_unit=("candidate.k",)),
        key(peephole=True),
        key(coupled=True),
        key(clip=1.0),
        key(clip=2.0),
    }
    assert len(keys) == 11 and key() == key("max(x, 0)")
    monkeypatch.setattr(compiler, "_source_digest", lambda: "edited")
    assert key() not in keys


# ---- other processors ----------------------------------------------------------------------


def test_code_for_a_plain_x86_64_is_right(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not llvm.get_default_triple().startswith("x86_64"):
        pytest.skip("this machine is no x86-64")

    def baseline() -> Any:  # one each: an engine disposes of its own
        return llvm.Target.from_default_triple().create_target_machine(
            cpu="x86-64", features="", opt=3, reloc="pic", codemodel="jitdefault", jit=True
        )

    monkeypatch.setattr(compiler, "_features", dict)
    monkeypatch.setattr(compiler, "_machine", baseline)
    assert compiler.target_for("float32").vector_bytes == 16
    for slots in ({}, {"candidate": "gelu", "forget_gate": "hard_sigmoid"}):
        for dtype in (torch.float32, torch.float64):
            check(draw(lstm(slots), 3, 4, 3, 7, dtype=dtype), keep=False)
    check(draw("mixed", 3, 4, 3, 7), keep=False)
    # New code was made, not what ran before: five cells; of two dtypes the way back, three products
    # (one of them also forward), fingerprints and packing; the mixed cell's two products.
    assert len(list(own_cache.iterdir())) == 5 + 2 * (1 + 3 + 1) + 2


def test_code_for_arm_has_vectors() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple("aarch64-linux-gnu").create_target_machine(opt=3)
    target, assembly = Target("float32", 16, 6, mode="fpcr"), ""
    for emitted in (emit_kernels(target, lstm_cell(), True), emit_shared("product", target, 4, 4)):
        module = llvm.parse_assembly(str(emitted))
        module.triple = "aarch64-linux-gnu"
        tuning = llvm.create_pipeline_tuning_options(speed_level=2)
        builder = llvm.create_pass_builder(machine, tuning)
        builder.getModulePassManager().run(module, builder)
        assembly += machine.emit_assembly(module)
    assert assembly.count("fmla\tv") > 24
    assert assembly.count("FPCR") >= 6  # read, set and put back, forward and backward


# ---- as a torch operator -------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_compile_in_one_graph_with_changing_shapes() -> None:
    torch._dynamo.reset()
    lstm = LSTM(4, 5, num_layers=2, bidirectional=True, activation="relu", engine="cpu")
    model = nn.Sequential(lstm)
    model.forward = lambda x: lstm(x)[0].square()  # type: ignore[method-assign]
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for steps, batch in ((3, 2), (6, 4)):
        x = torch.randn(steps, batch, 4)
        grads = []
        for run in (model, compiled):
            lstm.zero_grad()
            run(x).sum().backward()
            grads.append([p.grad.clone() for p in lstm.parameters()])
        for p, q in zip(*grads, strict=True):
            torch.testing.assert_close(p, q)


def test_double_backward_goes_through_eager_and_says_so_once() -> None:
    again.warn_once.cache_clear()
    lstm = LSTM(2, 3, candidate="softsign", engine="cpu").double()
    x = torch.randn(3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: lstm(x)[0], x)
    with pytest.warns(UserWarning, match="runs on the eager engine"):
        assert torch.autograd.gradgradcheck(lambda x: lstm(x)[0], x)
    assert torch.autograd.gradgradcheck(lambda x: lstm(x)[0], x)  # a second warning would raise


@pytest.mark.filterwarnings("ignore:a gradient of a gradient")
@pytest.mark.parametrize(
    "variant",
    [
        {"peephole": True, "clip": 0.4},
        {"coupled": True},
        {"activation": "leaky_relu", "trainable": "unit"},
    ],
)
def test_gradients_with_a_graph_are_the_same(variant: dict[str, Any]) -> None:
    """create_graph takes another way (gradgradcheck cannot see whether it is the same function)."""
    torch.manual_seed(0)
    lstm = LSTM(3, 4, **variant, dtype=torch.float64)
    x = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    leaves = [x, *lstm.parameters()]
    once = torch.autograd.grad(lstm(x)[0].sin().sum(), leaves)
    again = torch.autograd.grad(lstm(x)[0].sin().sum(), leaves, create_graph=True)
    for p, q in zip(once, again, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-13)


def test_explain_names_the_engine_and_the_reason() -> None:
    lstm = LSTM(2, 3)
    assert lstm.explain(torch.zeros(1, 1, 2)).name == "cpu"
    on_meta = torch.zeros(1, 1, 2, device="meta")
    assert str(LSTM(2, 3).to("meta").explain(on_meta)) == "engine: eager"
    with pytest.raises(EngineError, match="it runs on the CPU, not on meta"):
        LSTM(2, 3, engine="cpu").to("meta").explain(on_meta)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_types_are_computed_in_single_precision(dtype: torch.dtype) -> None:
    """Results and gradients are those of float32, rounded once."""
    torch.manual_seed(0)
    half = LSTM(3, 5, activation="gelu").to(dtype)
    single = copy.deepcopy(half).float()
    x = torch.randn(6, 2, 3).to(dtype)
    assert half.explain(x).name == "cpu"
    outputs = half(x)[0], single(x.float())[0]
    assert torch.equal(outputs[0], outputs[1].to(dtype))
    for output in outputs:
        output.sum().backward()
    for p, q in zip(half.parameters(), single.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad.to(dtype))


def test_a_module_with_machine_code_copies_and_pickles() -> None:
    lstm = LSTM(2, 3, activation="gelu", engine="cpu")
    x = torch.randn(2, 2, 2)
    expected = lstm(x)[0]
    buffer = io.BytesIO()
    torch.save(lstm, buffer)
    buffer.seek(0)
    for other in (copy.deepcopy(lstm), torch.load(buffer, weights_only=False)):
        assert torch.equal(other(x)[0], expected)
