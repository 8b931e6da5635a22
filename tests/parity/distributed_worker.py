"""The work of each of two processes for test_parity_distributed.py, and of one process to
compare with. In a module of its own, because spawned processes import it by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from truth import ANYGATE, FORMULA, TORCH, Kind, normal

WORLD, STEPS = 2, 25
TIMEOUT = timedelta(seconds=60)
T, B, I, H = 5, 4, 3, 6  # noqa: E741
LENGTHS = [2, 5, 5, 1, 4, 3, 1, 5]  # of all rows; each process takes its half
KINDS = {kind.name: kind for kind in (TORCH, ANYGATE, FORMULA)}
FORMS = {  # the dtype, and whether the input is packed
    "padded": (torch.float64, False),
    "single": (torch.float32, False),
    "packed": (torch.float32, True),
}


class Model(nn.Module):
    """Two layers both ways and a head; packs its input if asked."""

    def __init__(self, kind: Kind, form: str) -> None:
        super().__init__()
        dtype, self.packed = FORMS[form]
        self.lstm = kind(I, H, 2, bidirectional=True, dtype=dtype)
        self.head = nn.Linear(2 * H, 2, dtype=dtype)

    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        if not self.packed:
            return self.head(self.lstm(x)[0])  # type: ignore[no-any-return]
        output, _ = self.lstm(pack_padded_sequence(x, lengths, enforce_sorted=False))
        return self.head(pad_packed_sequence(output, total_length=T)[0])  # type: ignore[no-any-return]


def rows(rank: int | None) -> slice:
    """The rows of the joined batch that a process has; None: all."""
    return slice(None) if rank is None else slice(rank * B, (rank + 1) * B)


def train(model: Any, rank: int | None, full: Callable[[Any], Tensor]) -> dict[str, Any]:
    """Gradients of the first step, all losses, and the weights after STEPS steps."""
    own = rows(rank)
    dtype = next(model.parameters()).dtype
    x, target = (normal(T, WORLD * B, n, seed=n, dtype=dtype) for n in (I, 2))
    lengths = LENGTHS[own]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    losses, first = [], {}
    for step in range(STEPS):
        # A mean over rows, so that the mean over processes is the mean over the joined batch.
        loss = (model(x[:, own], lengths) - target[:, own]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            first = {n: full(p.grad).clone() for n, p in model.named_parameters()}
        optimizer.step()
        losses.append(loss.item())
    weights = {n: full(p).detach().clone() for n, p in model.named_parameters()}
    return {"grads": first, "losses": losses, "weights": weights}


def fresh(kind: Kind, form: str) -> Model:
    torch.manual_seed(0)
    return Model(kind, form)


def alone(kind: Kind, form: str) -> dict[str, Any]:
    """One process with the joined batch."""
    return train(fresh(kind, form), None, lambda t: t)


def by_ddp(kind: Kind, form: str, rank: int) -> dict[str, Any]:
    model = nn.parallel.DistributedDataParallel(fresh(kind, form))
    found = train(model, rank, lambda t: t)
    for part in ("grads", "weights"):
        found[part] = {n.removeprefix("module."): t for n, t in found[part].items()}
    return found


def by_fsdp(kind: Kind, form: str, rank: int) -> dict[str, Any]:
    from torch.distributed.fsdp import fully_shard

    model = fresh(kind, form)
    fully_shard(model.lstm)
    fully_shard(model)
    return train(model, rank, lambda t: t.full_tensor())  # type: ignore[attr-defined]


WAYS = {"DDP": by_ddp, "FSDP2": by_fsdp}


def cases() -> list[tuple[str, str, str]]:
    """Way, class and form: every class both ways, and the other forms once each."""
    more = [("DDP", name, "packed") for name in KINDS] + [("FSDP2", "anygate", "packed")]
    more += [(way, "anygate", "padded") for way in WAYS]
    return [(way, name, "single") for way in WAYS for name in KINDS] + more


def work(rank: int, folder: str) -> None:
    """One of the processes: runs every case and writes what it found, or the error, to a file."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    init = f"file://{folder}/meeting"
    dist.init_process_group("gloo", init, TIMEOUT, world_size=WORLD, rank=rank)
    dist.init_device_mesh("cpu", (WORLD,))
    found: dict[Any, Any] = {}
    for way, name, form in cases():
        try:  # the processes fail alike, on the same line, or one would wait for the other
            found[way, name, form] = WAYS[way](KINDS[name], form, rank)
        except Exception as error:  # noqa: BLE001 - told in the test of this case
            found[way, name, form] = f"{type(error).__name__}: {error}"
    torch.save(found, Path(folder) / f"rank{rank}.pt")
    dist.barrier()
    # No teardown: with torch alone too, one run in ten ends in "terminate called without an
    # active exception" from gloo's threads after destroy_process_group.
    os._exit(0)
