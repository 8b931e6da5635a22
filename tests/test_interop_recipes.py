"""The pages on other runtimes: their Python blocks run, one page in one process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import anygate

FOLDER = Path(__file__).parents[1] / "docs" / "recipes"
NEEDS = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "quantisation": ("onnx", "onnxscript", "onnxruntime"),
    "keras": ("h5py",),
    "flax": ("jax", "flax", "equinox"),
}


@pytest.mark.parametrize("page", NEEDS)
def test_a_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    for package in NEEDS[page] + (("keras",) if page == "keras" else ()):
        pytest.importorskip(package)
    text = (FOLDER / f"{page}.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    assert code
    path = str(Path(anygate.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
