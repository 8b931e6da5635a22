"""The wheel: installed away from the checkout it has all that it needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_installed_wheel_compares_and_reports_without_the_checkout(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)], check=True
    )
    (wheel,) = tmp_path.glob("anygate-*-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "anygate/py.typed" in names
    assert "anygate/lab/answer.json" in names  # what `anygate show` quotes
    others = [n for n in names if not n.startswith(("anygate/", "anygate-"))]
    assert others == []  # no studies, tests, docs, benchmarks
    assert not [n for n in names if "studies" in n or "/claims/" in n]
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(site), str(wheel)], check=True)

    environment = {**os.environ, "PYTHONPATH": str(site)}
    where = subprocess.run(
        [sys.executable, "-c", "import anygate; print(anygate.__file__)"],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(site)
    shown = subprocess.run(
        [sys.executable, "-m", "anygate", "show", "relu"],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "Measured in an LSTM:\n" in shown.stdout and "As candidate" in shown.stdout
    words = "compare tanh relu --task digits-rows --seeds 1 --epochs 1 --hidden-size 4 --out out"
    subprocess.run(
        [sys.executable, "-m", "anygate", *words.split()],
        cwd=tmp_path,
        env=environment,
        check=True,
        capture_output=True,
    )
    out = tmp_path / "out"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page or "vega" in page
    figures = sorted(p.stem for p in (out / "figures").glob("*.svg"))
    assert figures == sorted(p.stem for p in (out / "figures").glob("*.png"))
    assert {"formulas", "learning_curves", "final_metric", "saturation", "cost"} <= set(figures)
    assert json.loads((out / "summary.json").read_text(encoding="utf-8"))["schema"] == 1


def test_the_source_distribution_brings_the_studies() -> None:
    """As hatch is told; the wheel is told of src/anygate alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    targets = project["tool"]["hatch"]["build"]["targets"]
    assert {"src", "studies", "tests"} <= set(targets["sdist"]["include"])
    assert targets["wheel"]["packages"] == ["src/anygate"]
