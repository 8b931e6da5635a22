"""Cases from public bug reports, as scripts that exit with 0 where they are met. They lie beside
the checkout and not in it, with their log; each runs in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import anygate

FOLDER = Path(__file__).parents[2] / "shared" / "reports"
SOURCE = Path(anygate.__file__).parents[1]
SKIPPED = 77
"""The exit code of a script that needs a package which is not here."""

OTHERWISE = {
    "07": "torch's own functions are understood by what they are, in place of being refused",
    "26": "no module meets it, nn.Linear neither: it differentiates twice under Opacus' hooks, "
    "which makes grad_sample a list; test_interop_opacus.py shows what works, after `prepare`",
}
"""Cases whose demand a later decision replaced, or that nothing can meet."""
NEEDS = {"41": "onnxruntime", "43": "tensorboard"}
"""Packages that a case needs and does not ask for itself."""
TIMED = ("77",)
"""Cases that hold one run's times against each other: benchmarks do that, alternating; no test."""


def _case(path: Path) -> object:
    number = path.stem.removeprefix("case_")
    marks = []
    if number in TIMED:
        marks.append(pytest.mark.skip(reason="it compares times"))
    if number in OTHERWISE:
        marks.append(pytest.mark.xfail(reason=OTHERWISE[number], strict=True))
    if number in NEEDS and find_spec(NEEDS[number]) is None:
        marks.append(pytest.mark.skip(reason=f"{NEEDS[number]} is not installed"))
    return pytest.param(path, id=number, marks=marks)


@pytest.mark.skipif(not FOLDER.is_dir(), reason=f"there is no {FOLDER}")
@pytest.mark.parametrize("script", [_case(p) for p in sorted(FOLDER.glob("case_*.py"))])
def test_a_report(script: Path, tmp_path: Path) -> None:
    """The package under test is the one that the script imports; what it writes goes elsewhere."""
    path = os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "2", "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = (done.stdout + done.stderr)[-3000:]
    if done.returncode == SKIPPED:
        pytest.skip(said.strip() or "the script skips itself")
    assert done.returncode == 0, said
