"""The devices that trials train on: whether this machine has one, how many processes share the
cards, and which card a process takes."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing import current_process

import torch

from ..settings import TaskError
from .machine import cores

CARD_PROCESSES = 8
"""Processes on one card where nobody says --jobs. Each keeps some hundred megabytes of the card for
itself before it trains, so that one for each of many cores could fill it."""


def check_devices(devices: Iterable[str]) -> None:
    """Raise TaskError, with what to do, for a device that this machine does not have."""
    for device in dict.fromkeys(devices):
        if fault := device_fault(device):
            raise TaskError(fault)


def device_fault(device: str) -> str:
    """A sentence on why nothing can train there on this machine, with what to do; empty if it
    can."""
    kind, _, number = device.partition(":")
    remedy = "leave device out to train on the CPU"
    if kind == "mps":
        here = torch.backends.mps.is_available()
        return "" if here else f"device {device}: torch finds no Apple GPU here; {remedy}"
    if kind != "cuda":
        return ""
    cards = torch.cuda.device_count()
    if not cards:
        built = torch.version.cuda or torch.version.hip
        lacks = "finds no GPU here (see nvidia-smi and CUDA_VISIBLE_DEVICES)"
        why = lacks if built else "is built without CUDA"
        more = "" if built else ", or install a torch with CUDA"
        return f"device {device}: torch {torch.__version__} {why}; {remedy}{more}"
    if number and int(number) >= cards:
        names = "only cuda:0" if cards == 1 else f"cuda:0 to cuda:{cards - 1}"
        return f"device {device}: torch finds {names} here; take one of these, or {remedy}"
    return ""


def usual_jobs(devices: Collection[str]) -> int:
    """The processes for trials on these devices where nobody says how many."""
    return most_processes(devices, cores(), torch.cuda.device_count())


def most_processes(devices: Collection[str], cores: int, cards: int) -> int:
    """One for each core, but no more than CARD_PROCESSES for each card that is used."""
    used = {device for device in devices if device.startswith("cuda")}
    if not used:
        return cores
    count = cards if "cuda" in used else len(used)
    return max(1, min(cores, CARD_PROCESSES * count))


def card_of(process: str, cards: int) -> int | None:
    """The card of the process with this name, for trials that name none: worker processes, which
    are numbered, take them in turn; any other process keeps its current one."""
    number = re.fullmatch(r"LokyProcess-(\d+)", process)
    return int(number[1]) % cards if number and cards else None


@contextmanager
def on_card(device: str) -> Iterator[None]:
    """Inside, the device "cuda" is the card of this process."""
    cards = torch.cuda.device_count() if device == "cuda" else 0
    card = card_of(current_process().name, cards)
    with nullcontext() if card is None else torch.cuda.device(card):
        yield
