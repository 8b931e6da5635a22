"""The machine-code cache against damaged, planted and odd files; and what its key holds."""

from __future__ import annotations

import ctypes
import gc
import os
import pwd
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from anygate.cells import ELMAN, make
from anygate.engines import cache
from anygate.engines.cpu import compiler
from anygate.engines.cpu.emit import Target
from anygate.engines.cpu.kernels import emit_kernels

KEY, OTHER = "a" * 64, "b" * 64
CODE = bytes(range(256)) * 40


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ANYGATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    cache.write(KEY, CODE)
    assert cache.read(KEY) == CODE
    return tmp_path / "cache"


@pytest.fixture
def clock() -> Any:
    """A hang is an error: no reading here takes 20 seconds."""

    def stop(*_: Any) -> None:
        raise AssertionError("the cache waits")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(draw.randint(1, 8)):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def _cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def _longer(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.randint(1, 99)))


def _noise(path: Path, draw: random.Random) -> None:
    path.write_bytes(draw.randbytes(draw.randrange(9999)))


def _fifo(path: Path, _: random.Random) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def _folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _link(path: Path, _: random.Random) -> None:
    target = path.with_suffix(".elsewhere")
    path.rename(target)
    path.symlink_to(target)


def _device(path: Path, _: random.Random) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _sparse(path: Path, _: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 40)


def _of_another_name(path: Path, _: random.Random) -> None:
    cache.write(OTHER, b"another formula" + CODE)
    os.replace(path.with_name(f"{OTHER}.o"), path)


def _readable_but_writable(path: Path, _: random.Random) -> None:
    path.chmod(0o666)


def _of_another_user(path: Path, _: random.Random) -> None:
    if os.getuid() == 0:
        os.chown(path, 12345, 12345)
    else:  # a user cannot give a file away: nothing there is as bad
        path.unlink()


DAMAGES = (
    _flip,
    _cut,
    _longer,
    _noise,
    _fifo,
    _folder,
    _link,
    _device,
    _sparse,
    _of_another_name,
    _readable_but_writable,
    _of_another_user,
)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_not_written_here_is_not_read(place: Path, damage: Any) -> None:
    """And it is replaced by the next writing, except a folder, which is left."""
    path = place / f"{KEY}.o"
    for seed in range(40):
        damage(path, random.Random(seed))
        assert cache.read(KEY) is None, seed
        cache.write(KEY, CODE)
        if path.is_dir():
            assert cache.read(KEY) is None
            path.rmdir()
            cache.write(KEY, CODE)
        assert cache.read(KEY) == CODE


def test_a_file_of_another_user_with_another_secret_is_not_read(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A downloaded folder holds files with right digests of somebody else's secret."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "mine"))
    assert cache.read(KEY) is None
    cache.write(KEY, CODE)
    assert cache.read(KEY) == CODE
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert cache.read(KEY) is None


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("damage", [_cut, _longer, _fifo, _device, _link, _readable_but_writable])
def test_a_damaged_secret_is_made_anew(place: Path, damage: Any) -> None:
    path = cache.secret_path()
    assert path is not None and path.stat().st_mode & 0o777 == 0o600
    damage(path, random.Random(0))
    assert cache.read(KEY) is None
    cache.write(KEY, CODE)
    assert cache.read(KEY) == CODE and path.stat().st_mode & 0o777 == 0o600
    assert not list(path.parent.glob("*.part"))


def test_without_a_place_for_the_secret_there_is_no_cache(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nobody(_: int) -> Any:
        raise KeyError("getpwuid(): uid not found")

    def nothing_is_kept() -> None:
        assert cache.read(KEY) is None
        cache.write(OTHER, CODE)
        assert [path.name for path in place.iterdir()] == [f"{KEY}.o"]

    (tmp_path / "file").write_text("")
    for state in (str(tmp_path / "file"), "/proc/nowhere"):
        monkeypatch.setenv("XDG_STATE_HOME", state)
        nothing_is_kept()
    monkeypatch.setenv("XDG_STATE_HOME", "")
    monkeypatch.setenv("HOME", "/proc/nowhere")
    nothing_is_kept()
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    nothing_is_kept()
    monkeypatch.delenv("ANYGATE_CACHE")
    assert cache.folder() is None and cache.secret_path() is None
    assert cache.read(KEY) is None
    cache.write(KEY, CODE)


def test_what_killed_processes_left_is_removed_and_nothing_else(place: Path) -> None:
    old, young, others = place / "tmpold.part", place / "tmpnew.part", place / "mine.part"
    for path in (old, young, others):
        path.write_bytes(b"half")
    for path in (old, others):
        os.utime(path, (time.time() - 7200,) * 2)
    cache.write(OTHER, CODE)
    assert {p.name for p in place.iterdir()} == {young.name, others.name, f"{KEY}.o", f"{OTHER}.o"}


def test_a_full_disk_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    cache.write(OTHER, CODE)
    assert [path.name for path in place.iterdir()] == [f"{KEY}.o"]


WRITER = """
import random
from anygate.cells import ELMAN, make
from anygate.engines import cache
for k in range(50):
    code = bytes([k]) * 5000
    cache.write("c" * 64, code)
    found = cache.read("c" * 64)
    assert found is not None and len(found) == 5000 and len(set(found)) == 1
"""


def test_processes_at_once_agree_on_one_secret(place: Path) -> None:
    path = cache.secret_path()
    assert path is not None
    path.unlink()
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER], stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for writer in writers:
        said = writer.communicate(timeout=300)[1]
        assert writer.returncode == 0, said
    assert cache.read("c" * 64) is not None
    assert len(list(place.iterdir())) == 2


IMPORTED = """
import sys
from anygate.engines.cpu import compiler
digested = {str(path) for path in compiler._source_files()}
mine = {m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "anygate"}
print(len(mine), sorted(mine - digested))
"""


def test_the_key_holds_every_source_that_the_compiler_can_reach() -> None:
    """Also those of measured numbers and of symbols, which lie outside of the engine."""
    ended = subprocess.run(
        [sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True, timeout=300
    )
    count, missing = ended.stdout.split(maxsplit=1)
    assert int(count) > 20 and missing.strip() == "[]"
    names = {path.name for path in compiler._source_files()}
    assert {"measures.py", "program.py", "cell.py"} <= names


class _Memory(ctypes.Structure):
    """The structure that the C library's mallinfo2 returns."""

    _fields_ = [  # ctypes wants a list
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def _allocated() -> int:
    """Bytes that the C library has handed out and not got back."""
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Memory
    gc.collect()
    found = mallinfo()
    return int(found.uordblks + found.hblkhd)


def test_compiling_keeps_no_memory() -> None:
    """LLVM's passes once stayed for ever: 280 kB a module, 723 MB after 1,100 formulas and more."""
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("this C library does not tell how much memory it handed out")
    source = emit_kernels(Target("float32", 16, 2), make(ELMAN), False, False)
    before = 0
    for k in range(6):
        if k == 2:
            before = _allocated()  # what is made once has been made
        compiler.compile_module(source)
    assert (_allocated() - before) / 4 < 40_000
