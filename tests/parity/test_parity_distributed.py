"""Two processes on gloo, each with half of the batch: DDP and FSDP2 give the gradients and the
weights of one process with the joined batch.

All cases run in one pair of processes, because starting one takes as long as all of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from distributed_worker import FORMS, KINDS, STEPS, WORLD, alone, cases, work
from processes import run_processes
from truth import size

EACH = pytest.mark.parametrize("case", cases(), ids="-".join)
LIMIT = 300.0  # seconds for the pair, of which it needs about ten

if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("this torch has no gloo", allow_module_level=True)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    """The results of each process, which is ended by force at the limit."""
    folder = tmp_path_factory.mktemp("gloo")
    run_processes(work, folder, WORLD, LIMIT)
    return [torch.load(Path(folder) / f"rank{r}.pt", weights_only=False) for r in range(WORLD)]


def result(processes: list[dict[Any, Any]], case: tuple[str, str, str]) -> list[dict[str, Any]]:
    found = [each[case] for each in processes]
    assert all(isinstance(f, dict) for f in found), found
    return found


@EACH
def test_as_one_process(processes: Any, case: tuple[str, str, str]) -> None:
    """Gradients of the first step, and the weights after 25 steps, to rounding.

    A gradient is good to 64*eps (sums of T*B products, as in tests/test_lstm.py). A weight is
    rounded once a step by half an eps in either run: 25 eps (measured with nn.LSTM over 50: 3).
    """
    found, truth = result(processes, case), alone(KINDS[case[1]], case[2])
    eps = torch.finfo(FORMS[case[2]][0]).eps
    for name, grad in truth["grads"].items():
        room = 64 * eps * max(1.0, size(grad))
        for each in found:
            assert size(each["grads"][name] - grad) <= room, name
    for name, weight in truth["weights"].items():
        room = STEPS * eps * max(1.0, size(weight))
        for each in found:
            assert size(each["weights"][name] - weight) <= room, name
    joined = [sum(pair) / WORLD for pair in zip(*(f["losses"] for f in found), strict=True)]
    assert joined == pytest.approx(truth["losses"], abs=STEPS * eps)
    assert truth["losses"][-1] < 0.9 * truth["losses"][0]


@EACH
def test_processes_agree(processes: Any, case: tuple[str, str, str]) -> None:
    first, second = result(processes, case)
    for name, weight in first["weights"].items():
        assert torch.equal(weight, second["weights"][name]), name
    assert first["losses"] != second["losses"]  # each has rows of its own
