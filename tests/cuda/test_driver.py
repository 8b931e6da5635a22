"""The calls to NVIDIA's driver, made to a library of the same names that writes down what arrives."""

from __future__ import annotations

import contextlib
import ctypes
import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from compiled import native, needs_compiler

from anygate.engines.cuda import driver
from anygate.engines.cuda.driver import Nvidia
from anygate.engines.protocol import EngineError

pytestmark = needs_compiler
_FAKE = r"""
#include <cstdio>
#include <cstring>
#include <string>
// As cuda.h has them
struct Attribute { int id; char pad[4]; union { char pad[64]; unsigned cluster[3]; int cooperative; } value; };
struct Config { unsigned grid[3], block[3], shared; void* stream; Attribute* attributes; unsigned count; };
static std::string said;
static void* current = nullptr;
static int failure = 0;
template <class... T> static int say(const char* format, T... values) {
  char line[256];
  snprintf(line, sizeof line, format, values...);
  said += line; said += "\n";
  return failure;
}
extern "C" {
const char* fake_said() { static std::string last; last = said; said.clear(); return last.c_str(); }
void fake_fail(int with) { failure = with; }
int cuGetErrorString(int error, const char** text) { *text = "out of order"; return 0; }
int cuDeviceGet(int* device, int ordinal) { *device = ordinal + 100; return 0; }
int cuDeviceGetAttribute(int* value, int which, int device) { *value = which == 16 ? 132 : which == 97 ? 232448 : -1; return device == 100 ? 0 : 1; }
int cuCtxGetCurrent(void** context) { *context = current; return 0; }
int cuDevicePrimaryCtxRetain(void** context, int device) { *context = (void*)(long)(device + 1000); return say("retain %d", device); }
int cuCtxSetCurrent(void* context) { current = context; return say("context %ld", (long)context); }
int cuModuleLoadData(void** module, const void* code) { *module = (void*)11; return say("module %s", (const char*)code); }
int cuModuleGetFunction(void** function, void* module, const char* name) { *function = (void*)22; return say("function %s of %ld", name, (long)module); }
int cuFuncSetAttribute(void* function, int which, int value) { return say("attribute %d of %ld is %d", which, (long)function, value); }
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int* count, void* function, int threads, size_t shared) {
  *count = 2; return say("blocks of %d threads, %zu bytes", threads, shared);
}
int cuOccupancyMaxActiveClusters(int* count, void* function, const Config* c) {
  *count = 7; return say("clusters of %u, grid %u", c->attributes[0].value.cluster[0], c->grid[0]);
}
int cuLaunchKernelEx(const Config* c, void* function, void** values, void** extra) {
  long long numbers[2];
  memcpy(numbers, values[0], sizeof numbers);
  say("launch %ld grid %u %u %u block %u %u %u shared %u stream %ld numbers %lld %lld", (long)function, c->grid[0], c->grid[1], c->grid[2],
      c->block[0], c->block[1], c->block[2], c->shared, (long)c->stream, numbers[0], numbers[1]);
  for (unsigned i = 0; i < c->count; i++)
    say("attribute %d: %u %u %u", c->attributes[i].id, c->attributes[i].value.cluster[0], c->attributes[i].value.cluster[1], c->attributes[i].value.cluster[2]);
  return failure;
}
}
"""
DEVICE = torch.device("cuda", 0)
NUMBERS = (5).to_bytes(8, "little") + (6).to_bytes(8, "little")


@pytest.fixture
def fake(monkeypatch: Any) -> Any:
    library: Any = native(_FAKE)
    library.fake_said.restype = ctypes.c_char_p
    cuda = driver.torch.cuda
    properties = SimpleNamespace(major=9, minor=0, name="fake H100")
    monkeypatch.setattr(cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(cuda, "current_device", lambda: 0)
    monkeypatch.setattr(cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=77))
    monkeypatch.setattr(cuda, "get_device_properties", lambda device: properties)
    library.cuCtxSetCurrent(None)
    library.fake_said()
    yield library
    library.fake_fail(0)


def nvidia(fake: Any) -> Nvidia:
    made = Nvidia()
    vars(made)["_cuda"] = fake
    made._status[DEVICE] = torch.zeros(1, dtype=torch.int32)
    return made


def said(fake: Any) -> list[str]:
    text: bytes = fake.fake_said()
    return text.decode().splitlines()


def test_a_kernel_is_loaded_and_launched(fake: Any) -> None:
    of = nvidia(fake)
    card = of.card(DEVICE)
    assert (card.capability, card.processors, card.shared) == ((9, 0), 132, 232448)
    function = of.load(b"machine code", "forward", 96, 50000, 1, DEVICE)
    assert said(fake) == [
        "retain 100",
        "context 1100",
        "module machine code",
        "function forward of 11",
        "attribute 8 of 22 is 50000",
    ]
    assert of.resident(function, card, DEVICE) == 2 * 132
    of.launch(function, 40, True, NUMBERS, DEVICE)
    of.launch(function, 41, False, NUMBERS, DEVICE)
    assert said(fake) == [
        "blocks of 96 threads, 50000 bytes",
        "launch 22 grid 40 1 1 block 96 1 1 shared 50000 stream 77 numbers 5 6",
        "attribute 2: 1 0 0",
        "launch 22 grid 41 1 1 block 96 1 1 shared 50000 stream 77 numbers 5 6",
    ]


def test_clusters(fake: Any) -> None:
    of = nvidia(fake)
    function = of.load(b"code", "backward", 128, 1000, 16, DEVICE)
    assert "attribute 14 of 22 is 1" in said(fake)
    assert of.resident(function, of.card(DEVICE), DEVICE) == 7
    of.launch(function, 32, False, NUMBERS, DEVICE)
    assert said(fake) == [
        "clusters of 16, grid 16",
        "launch 22 grid 32 1 1 block 128 1 1 shared 1000 stream 77 numbers 5 6",
        "attribute 4: 16 1 1",
    ]


def test_failures_are_told(fake: Any) -> None:
    of = nvidia(fake)
    function = of.load(b"code", "forward", 32, 0, 1, DEVICE)
    fake.fake_fail(720)
    with pytest.raises(EngineError, match=r"launching 9 blocks.*out of order.*720"):
        of.launch(function, 9, True, NUMBERS, DEVICE)
    fake.fake_fail(0)
    for why, text in ((1, "another block"), (2, "its cluster")):
        of._status[DEVICE][0] = why
        with pytest.raises(EngineError, match=text):
            of.launch(function, 9, True, NUMBERS, DEVICE)


def test_a_forked_process(fake: Any, monkeypatch: Any) -> None:
    """One forked before the first kernel was loaded may use the card, one forked after may not."""
    before, after = nvidia(fake), nvidia(fake)
    function = after.load(b"code", "forward", 32, 0, 1, DEVICE)
    child = os.getpid() + 1
    monkeypatch.setattr(driver.os, "getpid", lambda: child)
    before.launch(before.load(b"code", "forward", 32, 0, 1, DEVICE), 1, False, NUMBERS, DEVICE)
    for use in (
        lambda: after.launch(function, 1, False, NUMBERS, DEVICE),
        lambda: after.load(b"code", "forward", 32, 0, 1, DEVICE),
    ):
        with pytest.raises(EngineError, match="forked"):
            use()
