"""NVIDIA's own compiler takes what the engine writes; no GPU is needed, only NVRTC.

python tests/cuda/test_compile.py [formulas | kernels] ...    all formulas on all cards, and the
                                                            hot kernels' registers
"""

from __future__ import annotations

import re
import sys
import time
from typing import Any

import pytest

from anygate.cells import GRU, LSTM, make
from anygate.engines.cuda.cost import choose
from anygate.engines.cuda.driver import compiler
from anygate.engines.cuda.plan import Card, Plan
from anygate.engines.cuda.source import cell_functions, measure_source, source, template
from anygate.engines.cuda.stepwise import Steps
from anygate.engines.layout import layout_of
from anygate.engines.protocol import EngineError
from anygate.formulas import ACTIVATIONS

needs_nvrtc = pytest.mark.skipif(compiler() is None, reason="NVRTC is not installed")
CARDS = {
    "A100": Card((8, 0), 108, 166912),
    "H100": Card((9, 0), 132, 232448),
    "B200": Card((10, 0), 148, 232448),
    "RTX 5090": Card((12, 0), 170, 101376),
}
_KERNEL = """
struct Pointers { const float* in; float* out; };
extern "C" __global__ void cell(const __grid_constant__ Pointers a) {
  const int i = threadIdx.x;
  float z[P], before[S], mask[some(M)], vectors[some(V)], now[S], saved[some(K)];
  float grad[S], by_z[P], by_before[S], by_vector[some(V)];
  FOR(k, P) z[k] = a.in[k * 64 + i];
  FOR(k, S) { before[k] = a.in[(k + P) * 64 + i]; grad[k] = a.in[(k + P + S) * 64 + i]; }
  cell_forward(z, before, mask, vectors, now, saved);
  cell_backward(saved, before, now, grad, mask, vectors, by_z, by_before, by_vector);
  FOR(k, P) a.out[k * 64 + i] = by_z[k];
  FOR(k, S) { a.out[(k + P) * 64 + i] = by_before[k]; a.out[(k + P + S) * 64 + i] = now[k]; }
}
"""
HOT: list[tuple[Any, int, int, int, bool, str]] = [
    (LSTM, 64, 32, 1, True, "H100"),
    (LSTM, 256, 32, 1, False, "H100"),
    (LSTM, 256, 32, 2, False, "H100"),
    (LSTM, 256, 32, 3, False, "H100"),
    (LSTM, 512, 32, 1, False, "H100"),
    (LSTM, 1024, 32, 1, False, "H100"),
    (GRU, 256, 32, 2, False, "H100"),
    (LSTM, 256, 32, 2, False, "A100"),
    (LSTM, 512, 32, 1, False, "RTX 5090"),
]
"""Cell, H, B, parts, float16, card: compiled without spills."""


def report(log: str) -> tuple[int, int]:
    """Registers of a thread, and bytes of spills, from the compiler's log."""
    (registers,) = re.findall(r"Used (\d+) registers", log)
    spills = re.findall(r"(\d+) bytes spill", log)
    return int(registers), sum(map(int, spills))


def formula(name: str, card: Card) -> tuple[int, int]:
    """Both Programs of an LSTM whose candidate and cell output have this activation."""
    found = compiler()
    assert found is not None
    activation = ACTIVATIONS[name]
    cell = make(LSTM, {"candidate": activation, "cell_output": activation})
    head = "#define HALF 1\n#define EXCHANGE LOCAL\n#define PARTS 3\n"
    parts = (head, template("functions"), template("machine"), cell_functions(cell), _KERNEL)
    _, log = found.compile("\n".join(parts), card.architecture, ["--ptxas-options=-v"])
    return report(log)


def hot(case: tuple[Any, int, int, int, bool, str], way: Any) -> tuple[Plan, int, int]:
    """The plan, registers and spills of a kernel."""
    kind, hidden, batch, parts, half, name = case
    found, cell, card = compiler(), make(kind), CARDS[name]
    assert found is not None
    plan = choose(layout_of(cell), hidden, batch, 1, parts, half, card)
    assert isinstance(plan, Plan)
    text = source(cell, plan, way)
    _, log = found.compile(text, card.architecture, ["--ptxas-options=-v"])
    return plan, *report(log)


@needs_nvrtc
@pytest.mark.parametrize("card", CARDS)
def test_formulas_compile_for_every_card(card: str) -> None:
    names = {"A100": ("tanh", "gelu"), "H100": ("silu", "mish"), "B200": ("snake",)}
    for name in names.get(card, ("softsign",)):
        registers, spills = formula(name, CARDS[card])
        assert registers <= 64 and not spills


@needs_nvrtc
@pytest.mark.parametrize("way", ["forward", "backward"])
def test_a_hot_kernel_has_no_spills(way: str) -> None:
    _, registers, spills = hot(HOT[0], way)
    assert registers <= 255 and not spills


@needs_nvrtc
@pytest.mark.parametrize(("parts", "half"), [(0, False), (1, False), (1, True), (3, False)])
def test_the_kernels_of_a_step_and_of_record_compile(parts: int, half: bool) -> None:
    """For cards without the instructions of the persistent kernels, too: a T4 has sm_75."""
    found, cell = compiler(), make(LSTM)
    assert found is not None
    steps = Steps(layout_of(cell), 1536, parts, half)
    texts = [source(cell, steps, way, True, True) for way in ("forward", "backward")]
    for text in (*texts, measure_source(cell, steps)):
        _, log = found.compile(text, "sm_75", ["--ptxas-options=-v"])
        assert all(int(n) <= 128 for n in re.findall(r"Used (\d+) registers", log))
        assert not any(map(int, re.findall(r"(\d+) bytes spill", log)))


@needs_nvrtc
def test_a_source_that_is_refused_is_an_error_with_its_log() -> None:
    found = compiler()
    assert found is not None
    with pytest.raises(EngineError, match="nothing"):
        found.compile("int x = nothing;", "sm_80")


def main(chosen: list[str]) -> None:
    """All of it, printed."""
    if not chosen or "kernels" in chosen:
        for case in HOT:
            for way in ("forward", "backward"):
                begun = time.perf_counter()
                plan, registers, spills = hot(case, way)
                took = time.perf_counter() - begun
                kind, *rest = case
                print(
                    kind.name,
                    rest,
                    way,
                    f"{registers} registers, {spills} bytes spilled,",
                    f"{took:.1f} s; {plan}, held {plan.held}, {plan.units} units, {plan.splits} "
                    f"splits, {plan.shared} bytes shared",
                    flush=True,
                )
    if not chosen or "formulas" in chosen:
        for name in ACTIVATIONS:
            found = {card: formula(name, CARDS[card]) for card in CARDS}
            print(name, found, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
