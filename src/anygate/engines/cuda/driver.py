"""NVIDIA's compiler and driver as far as the engine needs them, by ctypes: no package of its own.

Both libraries are on every machine that runs torch on CUDA: NVRTC comes with torch's wheels, the
driver with the system. Nothing is loaded before it is needed.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch

from ..protocol import EngineError
from .plan import Card

__all__ = ["Compiler", "Driver", "Function", "Nvidia", "compiler"]

_SHARED_BYTES, _ANY_CLUSTER = 8, 14  # CUfunction_attribute
_CLUSTER, _COOPERATIVE = 4, 2  # CUlaunchAttributeID
_OPTIN_SHARED, _PROCESSORS, _COOPERATES = 97, 16, 95  # CUdevice_attribute


@dataclass(frozen=True)
class Function:
    """A kernel that can be launched. handle: the driver's; keep: what must live as long."""

    handle: Any
    threads: int
    shared: int
    cluster: int = 1
    keep: Any = None


class Driver(Protocol):
    """The calls that the engine makes to a GPU; tests have one that emulates it on the CPU."""

    def __hash__(self) -> int: ...

    def missing(self) -> str | None:
        """The reason why there is nothing to run on, with the remedy; None if there is."""

    def version(self) -> str:
        """Of the compiler, for the cache's key."""

    def card(self, device: torch.device) -> Card: ...

    def compile(self, source: str, card: Card) -> bytes:
        """Machine code for this card."""

    def load(
        self, code: bytes, name: str, threads: int, shared: int, cluster: int, device: torch.device
    ) -> Function: ...

    def resident(self, function: Function, card: Card, device: torch.device) -> int:
        """Blocks (of a cluster: clusters) of this kernel that the card runs at the same time."""

    def launch(
        self,
        function: Function,
        grid: int,
        together: bool,
        arguments: bytes,
        device: torch.device,
    ) -> None:
        """On the current stream. together: all blocks at once or an error."""

    def stream(self, device: torch.device) -> int:
        """The current stream."""

    def records(self, device: torch.device) -> bool:
        """True if work can be recorded as a graph now: not while the user records one."""

    def record(self, body: Callable[[], None], device: torch.device) -> Callable[[], None]:
        """A function that enqueues the work of body as one graph. Body is called twice."""

    def status(self, device: torch.device) -> int:
        """The address of a number in the host's memory where a kernel leaves why it gave up."""

    def reason(self, device: torch.device) -> int:
        """The word that a kernel left there; 0: nothing."""


# ---- NVRTC -----------------------------------------------------------------------------------


def _candidates() -> list[Path]:
    """The places where wheels put NVRTC, those of torch's CUDA version first."""
    found: list[Path] = []
    for place in sys.path:
        for pattern in ("nvidia/*/lib/libnvrtc.so.*", "nvidia/*/bin/nvrtc64_*.dll"):
            with_version = sorted(Path(place or ".").glob(pattern), reverse=True)
            found += [path for path in with_version if "alt" not in path.name]
    major = str(torch.version.cuda or "").partition(".")[0]
    return sorted(found, key=lambda path: f".so.{major}" not in path.name)


@lru_cache(maxsize=1)
def compiler() -> Compiler | None:
    """NVRTC; None where it is not installed."""
    for path in _candidates():
        for builtins in path.parent.glob("libnvrtc-builtins.so*"):
            ctypes.CDLL(str(builtins), ctypes.RTLD_GLOBAL)  # NVRTC opens it by name
        return Compiler(ctypes.CDLL(str(path)))
    major = str(torch.version.cuda or "").partition(".")[0]
    if not major:
        return None
    try:
        return Compiler(ctypes.CDLL(f"libnvrtc.so.{major}"))
    except OSError:
        return None


class Compiler:
    """NVRTC. Raises EngineError, with its messages, for a source that it refuses."""

    def __init__(self, library: Any) -> None:
        self._library = library

    @cached_property
    def version(self) -> str:
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        return f"{major.value}.{minor.value}"

    @cached_property
    def architectures(self) -> frozenset[int]:
        """Compute capabilities, such as 90, that it knows."""
        count = ctypes.c_int()
        self._check(self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        numbers = (ctypes.c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(numbers))
        return frozenset(numbers)

    def compile(
        self, source: str, architecture: str, options: Sequence[str] = ()
    ) -> tuple[bytes, str]:
        """(machine code, log). architecture: such as sm_90."""
        library, program = self._library, ctypes.c_void_p()
        text = source.encode()
        create = library.nvrtcCreateProgram
        self._check(create(ctypes.byref(program), text, b"anygate.cu", 0, None, None))
        flags = [f"--gpu-architecture={architecture}", "--std=c++17", "-default-device", *options]
        array = (ctypes.c_char_p * len(flags))(*[flag.encode() for flag in flags])
        try:
            result = library.nvrtcCompileProgram(program, len(flags), array)
            log = self._read(program, "ProgramLog").decode(errors="replace").strip("\0\n ")
            if result:
                raise EngineError(f"NVRTC {self.version} refused a kernel: {log[:2000]}")
            return self._read(program, "CUBIN"), log
        finally:
            library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, program: Any, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, buffer))
        return buffer.raw

    def _check(self, result: int) -> None:
        if result:
            raise EngineError(f"NVRTC failed with error {result}; is its installation whole?")


# ---- the driver ------------------------------------------------------------------------------


class _Attribute(ctypes.Structure):
    _fields_ = (
        ("id", ctypes.c_int),
        ("pad", ctypes.c_char * 4),
        ("value", ctypes.c_uint * 16),
    )


class _Launch(ctypes.Structure):
    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("count", ctypes.c_uint),
    )


class Nvidia:
    """The driver of the system. Contexts and streams are torch's."""

    def __init__(self) -> None:
        self._status: dict[torch.device, torch.Tensor] = {}
        self._process: int | None = None

    def _check_process(self) -> None:
        """Raises in a process forked from one that loaded kernels. One forked before may use them:
        the object is made wherever an engine is chosen, CPUs included."""
        process = os.getpid()
        if self._process is None:
            self._process = process
        if process != self._process:
            raise EngineError(
                "this process was forked after CUDA was used, and a forked process cannot use it; "
                'start workers with multiprocessing\'s "spawn" or "forkserver"'
            )

    @contextmanager
    def _on(self, device: torch.device) -> Iterator[None]:
        """With the device's context in this thread: the driver does not make one current by itself,
        as torch's own calls do, and a thread of autograd's may not have made any."""
        with torch.cuda.device(device):
            context = ctypes.c_void_p()
            self._check(self._cuda.cuCtxGetCurrent(ctypes.byref(context)), "the context")
            if not context.value:
                number = ctypes.c_int()
                index = torch.cuda.current_device()
                self._check(self._cuda.cuDeviceGet(ctypes.byref(number), index), "the device")
                retain = self._cuda.cuDevicePrimaryCtxRetain
                self._check(retain(ctypes.byref(context), number), "the device's context")
                self._check(self._cuda.cuCtxSetCurrent(context), "the device's context")
            yield

    @cached_property
    def _cuda(self) -> Any:
        return ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")

    def missing(self) -> str | None:
        if not torch.cuda.is_available():
            return "torch sees no CUDA device"
        if torch.version.hip:
            return "it is written for NVIDIA GPUs, and this torch is built for AMD's"
        if compiler() is None:
            major = str(torch.version.cuda).partition(".")[0]
            return f"NVRTC was not found; pip install nvidia-cuda-nvrtc-cu{major}"
        return None

    def version(self) -> str:
        found = compiler()
        assert found is not None
        return found.version

    @lru_cache(maxsize=64)  # noqa: B019  # one object for the process
    def card(self, device: torch.device) -> Card:
        known = torch.cuda.get_device_properties(device)
        index = device.index if device.index is not None else torch.cuda.current_device()
        number = ctypes.c_int()
        self._check(self._cuda.cuDeviceGet(ctypes.byref(number), index), "the device")

        def attribute(which: int) -> int:
            value = ctypes.c_int()
            call = self._cuda.cuDeviceGetAttribute
            self._check(call(ctypes.byref(value), which, number), "a device's attribute")
            return value.value

        return Card(
            (known.major, known.minor), attribute(_PROCESSORS), attribute(_OPTIN_SHARED), known.name
        )

    def compile(self, source: str, card: Card) -> bytes:
        found = compiler()
        assert found is not None
        return found.compile(source, card.architecture)[0]

    def load(
        self, code: bytes, name: str, threads: int, shared: int, cluster: int, device: torch.device
    ) -> Function:
        self._check_process()
        with self._on(device):
            module, handle = ctypes.c_void_p(), ctypes.c_void_p()
            self._check(self._cuda.cuModuleLoadData(ctypes.byref(module), code), "loading")
            get = self._cuda.cuModuleGetFunction
            self._check(get(ctypes.byref(handle), module, name.encode()), "a kernel's name")
            attribute = self._cuda.cuFuncSetAttribute
            self._check(attribute(handle, _SHARED_BYTES, shared), f"{shared} bytes shared")
            if cluster > 8:
                self._check(attribute(handle, _ANY_CLUSTER, 1), f"a cluster of {cluster}")
        return Function(handle, threads, shared, cluster, module)

    def resident(self, function: Function, card: Card, device: torch.device) -> int:
        with self._on(device):
            return self._resident(function, card)

    def _resident(self, function: Function, card: Card) -> int:
        count = ctypes.c_int()
        if function.cluster > 1:
            config = self._config(function, function.cluster, False, 0)
            call = self._cuda.cuOccupancyMaxActiveClusters
            done = call(ctypes.byref(count), function.handle, ctypes.byref(config))
            self._check(done, "asking for the occupancy of clusters")
            return count.value
        call = self._cuda.cuOccupancyMaxActiveBlocksPerMultiprocessor
        shared = ctypes.c_size_t(function.shared)
        done = call(ctypes.byref(count), function.handle, function.threads, shared)
        self._check(done, "asking for the occupancy")
        return count.value * card.processors

    def launch(
        self,
        function: Function,
        grid: int,
        together: bool,
        arguments: bytes,
        device: torch.device,
    ) -> None:
        self._check_process()
        if why := self.reason(device):
            raise EngineError(GAVE_UP[why])
        with self._on(device):
            stream = torch.cuda.current_stream(device).cuda_stream
            config = self._config(function, grid, together, stream)
            buffer = ctypes.create_string_buffer(arguments, len(arguments))
            values = (ctypes.c_void_p * 1)(ctypes.addressof(buffer))
            call = self._cuda.cuLaunchKernelEx
            done = call(ctypes.byref(config), function.handle, values, None)
            self._check(done, f"launching {grid} blocks of {function.threads} threads")

    def stream(self, device: torch.device) -> int:
        return torch.cuda.current_stream(device).cuda_stream

    def records(self, device: torch.device) -> bool:
        with torch.cuda.device(device):
            return not torch.cuda.is_current_stream_capturing()

    def record(self, body: Callable[[], None], device: torch.device) -> Callable[[], None]:
        graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.device(device):
            current = torch.cuda.current_stream()
            side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(current)
            with torch.cuda.stream(side):
                body()  # torch's library for products makes its handle, which no graph may
            current.wait_stream(side)
            # That stream: torch's own for graphs is one for all devices, and memory that the
            # library takes for a new stream would belong to the graph.
            with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                body()
        replay: Callable[[], None] = graph.replay
        return replay

    def status(self, device: torch.device) -> int:
        if device not in self._status:
            self._status[device] = torch.zeros(1, dtype=torch.int32, pin_memory=True)
        return self._status[device].data_ptr()

    def reason(self, device: torch.device) -> int:
        found = self._status.get(device)
        return 0 if found is None else int(found[0])

    def _config(self, function: Function, grid: int, together: bool, stream: int) -> _Launch:
        attributes = (_Attribute * 1)()
        count = 0
        if function.cluster > 1:
            attributes[0].id, count = _CLUSTER, 1
            for k, size in enumerate((function.cluster, 1, 1)):
                attributes[0].value[k] = size
        elif together:
            attributes[0].id, count = _COOPERATIVE, 1
            attributes[0].value[0] = 1
        three = ctypes.c_uint * 3
        pointer = ctypes.cast(attributes, ctypes.POINTER(_Attribute))
        threads = three(function.threads, 1, 1)
        return _Launch(three(grid, 1, 1), threads, function.shared, stream, pointer, count)

    def _check(self, result: int, what: str) -> None:
        if result:
            text = ctypes.c_char_p()
            self._cuda.cuGetErrorString(result, ctypes.byref(text))
            said = (text.value or b"unknown").decode()
            raise EngineError(f"CUDA failed at {what}: {said} (error {result})")


GAVE_UP = {
    1: (
        "a kernel of the engine cuda waited for another block for seconds and gave up; every later "
        "call on this device fails. If a debugger, a profiler or another process holds the card, "
        'take it away; else please report it. engine="eager" runs without such waits'
    ),
    2: (
        "a kernel of the engine cuda waited for a block of its cluster for seconds and gave up; "
        'every later call on this device fails. Please report it; engine="eager" runs without such '
        "waits"
    ),
}
"""By what a kernel writes to its status: the error of the next call."""
