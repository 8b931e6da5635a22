"""The calls to NVIDIA's driver, made to a library of the same names that writes them down."""

from __future__ import annotations

import contextlib
import ctypes
import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from compiled import HERE, native, needs_compiler

from anygate.engines.cuda import driver
from anygate.engines.cuda.driver import Nvidia
from anygate.engines.protocol import EngineError

pytestmark = needs_compiler
_FAKE = (HERE / "fake_driver.cpp").read_text()
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
