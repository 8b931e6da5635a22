"""The CPU engine among other threads, forked children and other OpenMP libraries."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anygate import LSTM
from anygate.cells import LSTM as LSTM_TYPE
from anygate.cells import make
from anygate.engines.cpu import compiler, packing, plain


def run_script(script: str, **environment: str) -> str:
    """The text that a script prints in a process of its own, which must end within five minutes."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def quick_switches() -> Any:
    """Python changes threads after every few instructions."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def at_once(count: int, work: Any) -> list[Any]:
    """The results of work(k) in threads that begin together; an exception in one is raised here."""
    gate = threading.Barrier(count)
    found: list[Any] = [None] * count

    def one(k: int) -> None:
        gate.wait()
        try:
            found[k] = work(k)
        except BaseException as error:  # noqa: BLE001 (it is raised below)
            found[k] = error

    threads = [threading.Thread(target=one, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return found


@pytest.mark.usefixtures("quick_switches")
def test_first_calls_of_one_module_in_six_threads() -> None:
    """Nobody finds a half-written entry of packed weights."""
    torch.manual_seed(0)
    x = torch.randn(3, 2, 4)
    with torch.no_grad():
        LSTM(4, 16, engine="cpu")(x)
        for _ in range(60):
            lstm = LSTM(4, 16, engine="cpu")
            for result in at_once(6, lambda _, m=lstm: _no_grad(m, x)):
                assert torch.equal(result, lstm(x)[0])


def _no_grad(lstm: LSTM, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return lstm(x)[0]


@pytest.mark.usefixtures("quick_switches")
def test_a_formula_nobody_has_compiled_in_six_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANYGATE_CACHE", str(tmp_path / "cache"))
    compiler.kernels.cache_clear()
    compiler._shared.cache_clear()
    plain.code.cache_clear()
    torch.manual_seed(0)
    lstm = LSTM(4, 16, engine="cpu", candidate="tanh(x) + 0.0625*x")
    x = torch.randn(3, 2, 4)
    results = at_once(6, lambda _: _no_grad(lstm, x))
    assert all(torch.equal(result, results[0]) for result in results)
    # The cell's code, one product, fingerprints and packing: each once, whole.
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".o"] * 3


def test_entries_are_whole_when_others_see_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """While an entry is being made, nothing of it can be found."""
    seen: list[int] = []
    kept: Any = packing._Kept(lambda code, *tensors: seen.append(len(kept.found)))
    code = compiler.kernels(make(LSTM_TYPE), "float32", False)
    weight = torch.ones(4)
    kept.of((weight,), code, True)
    weight.mul_(2)
    kept.of((weight,), code, True)
    assert seen == [0, 1] and len(kept.found) == 1
    del weight
    assert not kept.found


def test_a_call_leaves_no_weak_reference_to_a_parameter() -> None:
    """torch.utils.swap_tensors refuses a tensor that has one; double() and others may swap."""
    lstm = LSTM(2, 3, engine="cpu")
    before = [weakref.getweakrefcount(p) for p in lstm.parameters()]
    lstm(torch.ones(2, 1, 2))[0].sum().backward()
    assert [weakref.getweakrefcount(p) for p in lstm.parameters()] == before
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        lstm.double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    assert lstm(torch.ones(2, 1, 2, dtype=torch.float64))[0].dtype == torch.float64


FORK = """
import os, sys, numpy, torch, anygate, warnings
torch.set_num_threads(2)
torch.manual_seed(0)
lstm = anygate.LSTM(16, 128, engine="cpu")
wide, long = torch.randn(20, 16, 16), torch.randn(50, 2, 16)
def compute():
    outputs = [lstm(x)[0] for x in (wide, long)]
    sum(output.sum() for output in outputs).backward()
    return [output.detach().numpy() for output in outputs]
expected = compute()
sys.stdout.flush()
{before}
child = os.fork()
if not child:
    threads = torch.get_num_threads()
    if {lost}:
        import warnings
        torch.set_num_threads(2)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = compute()
        assert threads == 1 and len(said) == 1 and "spawn" in str(said[0].message)
    else:
        found = compute()
        assert threads == 2 == torch.get_num_threads()
        torch.mm(torch.ones(500, 500), torch.ones(500, 500))
        torch.ones(1000, 1000).exp()
    same = all(numpy.allclose(a, b, atol=1e-5) for a, b in zip(expected, found))
    os._exit(0 if same else 3)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
compute()
assert torch.get_num_threads() == 2
sys.exit(code)
"""

WITHOUT = """
from anygate.engines import openmp
openmp._pause = lambda: None
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("lost", [False, True])
def test_a_child_forked_after_a_call_computes(lost: bool) -> None:
    """With the threads that the fork has taken away, it would wait for ever. lost: as where the
    OpenMP library cannot let its team go."""
    run_script(FORK.format(before=WITHOUT if lost else "", lost=lost), PYTHONWARNINGS="")


FORK_OF_TORCH = """
import os, torch, anygate
torch.set_num_threads(2)
torch.ones(1000, 1000).exp()
lstm = anygate.LSTM(16, 128, engine="cpu")
child = os.fork()
if not child:
    total = torch.ones(1000, 1000).exp().sum() + lstm(torch.randn(20, 16, 16))[0].sum()
    os._exit(0 if total.isfinite() else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_computes_where_torch_alone_had_a_team() -> None:
    """Both it and torch's own operations waited for ever."""
    from anygate.engines import openmp

    if openmp._pause() is None:
        pytest.skip("torch's OpenMP library has no omp_pause_resource of libgomp")
    run_script(FORK_OF_TORCH, PYTHONWARNINGS="", OMP_WAIT_POLICY="PASSIVE")


OTHERS = """
import importlib, os, sys
for name in {first}: importlib.import_module(name)
import torch, anygate
torch.set_num_threads(2)
torch.mm(torch.ones(700, 700), torch.ones(700, 700))
torch.ones(1000, 1000).exp()
before = len(os.listdir("/proc/self/task"))
lstm = anygate.LSTM(16, 128, engine="cpu")
with torch.no_grad(): lstm(torch.randn(20, 16, 16))
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
@pytest.mark.parametrize("first", [[], ["sklearn.cluster"]])
def test_threads_are_torchs_whatever_was_imported_first(first: list[str]) -> None:
    """scikit-learn brings an OpenMP library of its own, whose team would be more threads."""
    if first and importlib.util.find_spec("sklearn") is None:
        pytest.skip("scikit-learn is not installed")
    assert run_script(OTHERS.format(first=first)).strip() == "0"


def test_a_write_through_numpy_is_seen_by_the_next_sequence() -> None:
    """And by the next single step, where the weights are small."""
    for hidden, steps in ((16, 1), (16, 5), (256, 5)):
        lstm = LSTM(4, hidden, engine="cpu")
        x = torch.ones(steps, 1, 4)
        with torch.no_grad():
            before = lstm(x, _state(hidden))[0]
            lstm.weight_hh_l0.data.numpy()[3, 4] += 100
            after = lstm(x, _state(hidden))[0]
        assert not np.array_equal(before.numpy(), after.numpy()), (hidden, steps)


def test_the_one_write_that_a_single_step_does_not_see() -> None:
    """As documented: one element of large weights, through NumPy, before a single step without
    gradients. The next sequence sees it, and from then on every step, whose packed copy once
    stayed the old one."""
    lstm = LSTM(4, 256, engine="cpu")
    x = torch.ones(1, 1, 4)
    with torch.no_grad():
        results = [lstm(x, _state(256))[0] for _ in range(3)]
        lstm.weight_hh_l0.data.numpy()[3, 4] += 100
        results.append(lstm(x, _state(256))[0])
        lstm(torch.ones(2, 1, 4))
        results.append(lstm(x, _state(256))[0])
        truth = twin(lstm)(x, _state(256))[0]
    first, *others, last = results
    assert all(torch.equal(first, other) for other in others)
    torch.testing.assert_close(last, truth)
    assert not torch.equal(last, first)


def twin(lstm: LSTM) -> LSTM:
    other = LSTM(lstm.input_size, lstm.hidden_size, engine="eager")
    other.load_state_dict(lstm.state_dict())
    return other


def _state(hidden: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.ones(1, 1, hidden), torch.ones(1, 1, hidden)
