"""Small files that claim, or unpack to, more than fits are refused before anything is allocated."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = r"""
import gzip, resource, struct, sys, zipfile
from pathlib import Path
import numpy as np
from anygate.lab.tasks import TaskError, file_task, find_task

here = Path(sys.argv[1])


def npz(name, x, y, how=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(here / name, "w", how) as archive:
        archive.writestr("x.npy", x)
        archive.writestr("y.npy", y)
    return here / name


def head(descr, shape):
    content = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(content)) + content


y = head("|u1", "(64,)") + bytes([0, 1] * 32)
small = head("<f4", "(64, 5)") + np.arange(320, dtype="<f4").tobytes()
(here / "wide.csv").write_text("a," * 3_000_000 + "\n")
(here / "columns.csv").write_text(",".join("a" * 3 for _ in range(20_000)) + "\n")
(here / "long.csv").write_text("v\n" + "\n".join(map(str, range(300_000))) + "\n")
(here / "long.ts").write_text("@data\n" + "1," * 20_000_000 + "1:a\n")
idx = here / "idx"
idx.mkdir()
for part in ("train", "t10k"):
    with gzip.open(idx / f"{part}-images-idx3-ubyte.gz", "wb") as file:
        file.write(bytes([0, 0, 8, 3]) + struct.pack(">III", 60_000, 1000, 1000) + bytes(2**26))
    (idx / f"{part}-labels-idx1-ubyte").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 0, 1]))
damaged = bytearray(npz("lzma.npz", small, y, zipfile.ZIP_LZMA).read_bytes())
damaged[60:90] = bytes(30)
(here / "lzma.npz").write_bytes(damaged)
with zipfile.ZipFile(here / "many.npz", "w") as archive:
    for k in range(5000):
        archive.writestr(f"{k}.npy", b"")
npz("bomb.npz", head("|u1", "(64, 3000000)") + bytes(192_000_000), y)
npz("claims.npz", head("<f4", "(64, 999999999)"), y)
npz("header.npz", b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + bytes(10**8), y)
npz("uneven.npz", head("<f4", "(2000064,)") + bytes(8_000_256), y)
with zipfile.ZipFile(here / "uneven.npz", "a") as archive:
    lengths = np.ones(64, "<i8")
    lengths[0] = 2_000_001
    archive.writestr("lengths.npy", head("<i8", "(64,)") + lengths.tobytes())
short = "1:a\n2:b\n" * 5_000
(here / "uneven.ts").write_text("@data\n" + "1," * 20_000 + "1:a\n" + short)
cases = {
    name: lambda name=name: file_task(str(here / name))
    for name in ("bomb.npz", "claims.npz", "header.npz", "lzma.npz", "many.npz",
                 "uneven.npz", "uneven.ts")
} | {
    "wide.csv": lambda: file_task(str(here / "wide.csv"), "a"),
    "columns.csv": lambda: file_task(str(here / "columns.csv"), "a"),
    "long.csv": lambda: file_task(str(here / "long.csv"), window=100_000),
    "long.ts": lambda: file_task(str(here / "long.ts")),
    "idx": lambda: find_task(f"mnist:{idx}"),
}
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 500 * 2**20,) * 2)
for name, make in cases.items():
    try:
        make()
    except TaskError as error:
        print(name, "|", str(error).replace("\n", " / "))
    else:
        sys.exit(f"{name} was accepted")
"""

SAID = {
    "bomb.npz": "x holds 732 MiB, as float32; at most 256 are read: leave out sequences",
    "claims.npz": "its size and its shape [64, 999999999] do not agree",
    "header.npz": "x is no plain array",
    "lzma.npz": "x is packed in a way that NumPy does not write",
    "many.npz": "holds more than 1,000 arrays",
    "uneven.npz": "64 sequences, padded to the longest of 2,000,001 steps, hold 488 MiB; at most",
    "uneven.ts": "sequences, padded to the longest of 20,001 steps, hold 256 MiB; at most 256",
    "wide.csv": "holds a line of more than 1,000,000 characters",
    "columns.csv": "holds 20,000 columns; at most 10,000 are read",
    "long.csv": "windows of 100,000 values hold 152,588 MiB; at most 256 are made: set --window",
    "long.ts": "holds more than 1,000,000 numbers; thin out the steps",
    "idx": "unpacks to more than 64 MiB",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the memory is limited by RLIMIT_AS")
def test_sizes_are_checked_before_anything_is_allocated(tmp_path: Path) -> None:
    """Under 500 MiB more than the imports take; each is refused in one sentence with the limit."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.split(" | ", 1) for line in done.stdout.splitlines())
    assert set(said) == set(SAID)
    for name, part in SAID.items():
        assert part in said[name] and " / " not in said[name]


PARQUET = r"""
import resource, sys
from pathlib import Path
import numpy as np, pandas, pyarrow, pyarrow.compute
from pyarrow import parquet
from anygate.lab.tasks import TaskError, file_task

here = Path(sys.argv[1])
text = pyarrow.array(["x" * 1_000_000])
rows = pyarrow.array(np.zeros(300, "int32"))
plain = pyarrow.table({"v": np.arange(300.0), "t": pyarrow.compute.take(text, rows)})
parquet.write_table(plain, here / "plain.parquet", compression="zstd", use_dictionary=False)
many = pyarrow.DictionaryArray.from_arrays(pyarrow.array(np.zeros(500_000, "int32")), text)
parquet.write_table(pyarrow.table({"v": np.arange(500_000) % 7, "t": many}),
                    here / "same.parquet", compression="zstd")
long = pyarrow.table({"v": pyarrow.nulls(1_000_001, pyarrow.float64())})
parquet.write_table(long, here / "long.parquet")
del plain, many, long, text, rows
pyarrow.default_memory_pool().release_unused()
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 700 * 2**20,) * 2)
for name in ("plain", "long"):
    try:
        file_task(str(here / f"{name}.parquet"), "v")
    except TaskError as error:
        print(name, "|", error)
task = file_task(str(here / "same.parquet"), "v", window=2)
print("same", "|", task.notes)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory is limited by RLIMIT_AS")
def test_small_parquet_files_cannot_fill_the_memory(tmp_path: Path) -> None:
    """One text of a megabyte, 300 times plainly and half a million times by a number."""
    pytest.importorskip("pyarrow")
    done = subprocess.run(
        [sys.executable, "-c", PARQUET, str(tmp_path)], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    said = dict(line.split(" | ", 1) for line in done.stdout.splitlines())
    assert "holds 286 MiB unpacked; at most 256 MiB are read" in said["plain"]
    assert "holds 1,000,001 rows; at most 1,000,000 are read" in said["long"]
    assert len(said["same"]) < 500


@pytest.mark.parametrize(
    "content",
    [
        "a = " + "[" * 1000 + "]" * 1000,
        "seeds = " + "9" * 5000,
        "seeds = " + "9" * 400,
        "x" * 2_000_000,
    ],
)
def test_toml_that_does_not_fit_is_one_sentence(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from anygate.cli import Exit, main

    path = tmp_path / "study.toml"
    path.write_text(content)
    assert main(["compare", "tanh", "--config", str(path)]) == Exit.USAGE
    error = capsys.readouterr().err
    assert error.startswith(f"anygate: {path}") and error.count("\n") == 1 and len(error) < 600
