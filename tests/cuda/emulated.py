"""The engine cuda on a card that is emulated: its kernels' own source, compiled by g++, on tensors
of the CPU. The engine, its host code and autograd are the real ones; the driver is not."""

from __future__ import annotations

import ctypes
import re
import threading
from collections.abc import Callable
from typing import Any

import torch
from compiled import native
from forced import Forced

from anygate.engines.cuda.driver import Function
from anygate.engines.cuda.engine import CUDA
from anygate.engines.cuda.plan import Card

H100 = Card((9, 0), 132, 232448, "emulated H100")
A100 = Card((8, 0), 108, 166912, "emulated A100")
_REASONS = {
    1: "deadlock: every thread waits",
    2: "a message was sent that nobody waited for",
    3: "a wait gave up, or an address was not aligned",
}
_running = threading.Lock()
"""The emulator runs one launch at a time."""
_ENTRY = """
template <class F> struct Of;
template <class A> struct Of<void(A)> { typedef A type; };
static Of<decltype(%s)>::type emulated_args;
static void emulated() { %s(emulated_args); }
extern "C" unsigned launch(const void* args, unsigned grid, unsigned together, unsigned threads,
                           long shared, unsigned seed) {
  memcpy((void*)&emulated_args, args, sizeof emulated_args);
  return emulate::launch(grid, together, threads, shared, seed, emulated);
}
extern "C" long shared_bytes() { return %s_SHARED; }
extern "C" long args_bytes() { return sizeof emulated_args; }
"""


def for_host(source: str, name: str) -> str:
    """A kernel's source for g++."""
    macros, rest = re.split(r"^(?=//)", source, maxsplit=1, flags=re.MULTILINE)
    exchanges = "#define LOCAL 0\n#define CLUSTER 1\n#define L2 2\n"
    entry = _ENTRY % (name, name, name.upper())
    return exchanges + macros + '#include "emulate.h"\n' + rest + entry


class EmulatedDriver:
    """The calls of `driver.Driver`. seed: of the order of threads and messages; changes: texts of
    the source that are replaced, to see that tests notice; fit: blocks that run at once."""

    def __init__(self, card: Card = H100, seed: int = 0, fit: int = 0) -> None:
        self.the_card, self.seed, self.fit = card, seed, fit
        self.changes: dict[str, str] = {}
        self.sources: dict[bytes, str] = {}
        self.launches: list[tuple[str, int]] = []
        self.recorded = 0

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return f"emulated {id(self)}"

    def card(self, device: torch.device) -> Card:
        return self.the_card

    def compile(self, source: str, card: Card) -> bytes:
        for old, new in self.changes.items():
            if source.count(old):
                source = source.replace(old, new)
        return source.encode()

    def load(
        self, code: bytes, name: str, threads: int, shared: int, cluster: int, device: torch.device
    ) -> Function:
        library: Any = native(for_host(code.decode(), name))
        assert library.shared_bytes() <= shared, "the plan promises too little shared memory"
        assert library.shared_bytes() == shared, "plan.py and the kernel differ"
        return Function((name, library), threads, shared, cluster)

    def resident(self, function: Function, card: Card, device: torch.device) -> int:
        return self.fit or card.processors // function.cluster

    def launch(
        self,
        function: Function,
        grid: int,
        together: bool,
        arguments: bytes,
        device: torch.device,
    ) -> None:
        name, library = function.handle
        assert len(arguments) == library.args_bytes(), "the kernel's struct and the host's differ"
        self.launches.append((name, grid))
        count = grid if together else function.cluster
        shared = ctypes.c_long(function.shared)
        with _running:
            failed = library.launch(arguments, grid, count, function.threads, shared, self.seed)
        assert not failed, _REASONS[failed]

    def stream(self, device: torch.device) -> int:
        return 0

    def records(self, device: torch.device) -> bool:
        return True

    def record(self, body: Callable[[], None], device: torch.device) -> Callable[[], None]:
        body()
        self.recorded += 1
        return body

    def status(self, device: torch.device) -> int:
        return 0

    def reason(self, device: torch.device) -> int:
        return 0


class Chosen(CUDA):
    """The engine on tensors of the CPU, by the plans that it chooses."""

    device = "cpu"
    devices = ("cpu",)


class Emulated(Forced):
    """The same by a plan that a test asks for."""

    device = "cpu"
    devices = ("cpu",)
