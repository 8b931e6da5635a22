"""The work of each of two processes for test_checkpoint_distributed.py; in a module of its own,
because spawned processes import it by name."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import nn

import anygate

WORLD = 2


class Model(nn.Module):
    def __init__(self, activation: str = "relu") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = anygate.LSTM(3, 6, 2, activation=activation)
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> Any:
        return self.head(self.rnn(x)[0])


X = torch.linspace(-1, 1, 24).view(4, 2, 3)


def sharded(model: Any) -> Any:
    from torch.distributed.fsdp import fully_shard

    fully_shard(model.rnn)
    return fully_shard(model)


def emptied(model: Any) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


def refused(load: Callable[[], Any]) -> str:
    try:
        load()
    except RuntimeError as error:
        return str(error)
    return "loaded"


def by_ddp(folder: str) -> dict[str, Any]:
    wrap = nn.parallel.DistributedDataParallel
    state = wrap(Model()).state_dict()
    again = wrap(emptied(Model()))
    again.load_state_dict(state)
    other = wrap(Model("silu"))
    return {
        "entry": "module.rnn._extra_state" in state,
        "same": torch.equal(again(X), Model()(X)),
        "other": refused(lambda: other.load_state_dict(state)),
    }


def by_fsdp(folder: str) -> dict[str, Any]:
    state = sharded(Model()).state_dict()
    again = sharded(emptied(Model()))
    again.load_state_dict(state)
    other = sharded(Model("silu"))
    return {
        "entry": "rnn._extra_state" in state,
        "same": torch.allclose(again(X), Model()(X)),
        "other": refused(lambda: other.load_state_dict(state)),
    }


def by_full_state(folder: str) -> dict[str, Any]:
    """The whole state of a sharded model, as it is saved to load in one process."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    options = StateDictOptions(full_state_dict=True)
    state = get_model_state_dict(sharded(Model()), options=options)
    alone = emptied(Model())
    alone.load_state_dict(state)
    return {
        "entry": "rnn._extra_state" in state,
        "same": torch.equal(alone(X), Model()(X)),
        "other": refused(lambda: Model("silu").load_state_dict(state)),
    }


def by_dcp(folder: str) -> dict[str, Any]:
    """torch.distributed.checkpoint: each process writes its part and reads its part."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

    place = f"{folder}/dcp"
    dcp.save({"model": get_model_state_dict(sharded(Model()))}, checkpoint_id=place)

    def read(model: Any) -> Any:
        held = {"model": get_model_state_dict(model)}
        dcp.load(held, checkpoint_id=place)
        set_model_state_dict(model, held["model"])
        return model

    again = read(sharded(emptied(Model())))
    return {
        "entry": "rnn._extra_state" in get_model_state_dict(again),
        "same": torch.allclose(again(X), Model()(X)),
        "other": refused(lambda: read(sharded(Model("silu")))),
    }


WAYS = {
    "DDP": by_ddp,
    "FSDP2": by_fsdp,
    "FSDP2, whole": by_full_state,
    "distributed checkpoint": by_dcp,
}


def work(rank: int, folder: str) -> None:
    """One of the processes: every way in turn; process 0 writes what it found, or the errors."""
    import torch.distributed as dist

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    place = f"file://{folder}/meeting"
    dist.init_process_group("gloo", place, timedelta(seconds=120), world_size=WORLD, rank=rank)
    dist.init_device_mesh("cpu", (WORLD,))
    found: dict[str, Any] = {}
    for name, way in WAYS.items():
        try:  # the processes fail alike, or one would wait for the other
            found[name] = way(folder)
        except Exception as error:  # noqa: BLE001 - told in the test of this way
            found[name] = f"{type(error).__name__}: {error}"
    if rank == 0:
        (Path(folder) / "found.json").write_text(json.dumps(found), encoding="utf-8")
    dist.barrier()
    os._exit(0)  # see parity/distributed_worker.py
