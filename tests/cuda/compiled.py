"""C++ of this machine: sources compiled by g++ and loaded."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from anygate.engines.cuda import table

HERE = Path(__file__).parent
KERNELS = Path(table.__file__).parent / "kernels"
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on this machine")
_FLAGS = ["-O1", "-std=c++20", "-shared", "-fPIC", "-w", "-ffp-contract=off", "-U_FORTIFY_SOURCE"]
_loaded: dict[str, ctypes.CDLL] = {}


def native(source: str) -> ctypes.CDLL:
    """The library of a C++ source, which may include emulate.h; compiled once a process."""
    key = hashlib.sha256(source.encode()).hexdigest()
    if key not in _loaded:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "source.cpp"
            path.write_text(source)
            library = path.with_suffix(".so")
            call = ["g++", *_FLAGS, f"-I{HERE}", str(path), "-o", str(library)]
            done = subprocess.run(call, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[:3000]
            _loaded[key] = ctypes.CDLL(str(library))
    return _loaded[key]
