"""Checkpoints of models in two processes (gloo): the cell travels with the weights, and those of
another cell are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import run_processes

from tests.checkpoint_worker import WAYS, WORLD, work

LIMIT = 300.0  # seconds for the pair, of which it needs about ten

if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("this torch has no gloo", allow_module_level=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The findings of the first process. Ended by force at the limit."""
    folder = tmp_path_factory.mktemp("gloo")
    run_processes(work, folder, WORLD, LIMIT)
    content: dict[str, Any] = json.loads((Path(folder) / "found.json").read_text())
    return content


@pytest.mark.parametrize("way", WAYS)
def test_the_cell_travels(found: dict[str, Any], way: str) -> None:
    told = found[way]
    assert isinstance(told, dict), told
    assert told["entry"] and told["same"], told
    assert "belong to" in told["other"], told
