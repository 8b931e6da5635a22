"""The OpenMP library that torch calls: its team of threads runs the kernels too.

A process may hold several (scikit-learn and others bring their own copy). torch's is the one to
which the dynamic linker has bound torch's symbols, and is asked for by the linker's rule: first
what is global in the process, then what torch's own libraries depend on.

A forked child has lost the threads of its team, and a call for them would wait for ever, whether
torch made the team or a layer did. So before a fork the team is let go by OpenMP's own function for
that, omp_pause_resource (libgomp since GCC 9), and parent and child each make a new one when they
next need it. Where that cannot be had, the child of a thread that has computed a layer here
computes on one thread, torch's operations included, as the workers of torch's DataLoader do.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
import warnings
from collections.abc import Callable

import torch

__all__ = ["SYMBOLS", "openmp_symbols", "team_size"]

SYMBOLS = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
"""The function that the machine code calls."""


@functools.lru_cache(maxsize=1)
def openmp_symbols() -> dict[str, int] | None:
    """The address of each of SYMBOLS as torch sees it; None where torch does not depend on an
    OpenMP library that has them all."""
    try:
        of_torch = ctypes.CDLL(torch._C.__file__)
        everywhere = ctypes.CDLL(None)
    except (OSError, TypeError):  # TypeError: Windows has no CDLL(None)
        return None
    found = {name: _address(everywhere, name) or _address(of_torch, name) for name in SYMBOLS}
    if None in found.values() or any(_address(of_torch, name) is None for name in SYMBOLS):
        return None
    return {name: address for name, address in found.items() if address is not None}


def _address(library: ctypes.CDLL, name: str) -> int | None:
    symbol = getattr(library, name, None)
    return None if symbol is None else ctypes.cast(symbol, ctypes.c_void_p).value


_HARD = 2  # omp_pause_hard: whatever the library holds is given up


@functools.lru_cache(maxsize=1)
def _pause() -> Callable[[], int] | None:
    """omp_pause_resource of libgomp for this host: ends the threads of the calling thread's team
    and gives 0. None without it; LLVM's and Intel's library would end those of all threads."""
    if openmp_symbols() is None:
        return None
    libraries = ctypes.CDLL(None), ctypes.CDLL(torch._C.__file__)
    if any(_address(library, "__kmpc_fork_call") for library in libraries):
        return None
    for library in libraries:
        host, pause = (
            _address(library, f"omp_{n}") for n in ("get_initial_device", "pause_resource")
        )
        if host and pause:
            device = ctypes.CFUNCTYPE(ctypes.c_int)(host)()
            call = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int)(pause)
            return functools.partial(call, _HARD, device)
    return None


_thread = threading.local()
_team_is_lost = False


def team_size() -> int:
    """The number of threads a kernel may have that this thread calls now: torch's number, or 1 in a
    forked child whose team is lost."""
    _thread.has_computed = True
    threads = torch.get_num_threads()
    if _team_is_lost and threads > 1:
        warnings.warn(
            "this process was forked from one that had computed, and has lost its threads: "
            f"{threads} would wait for ever, so torch is set to 1; for more, start processes with "
            "multiprocessing's method 'spawn' or 'forkserver'",
            stacklevel=2,
        )
        torch.set_num_threads(1)
        return 1
    return threads


def _has_team() -> bool:
    """True if this thread has computed a layer and the process has threads that are not Python's:
    OpenMP keeps a team for each thread that has called it."""
    if not getattr(_thread, "has_computed", False):
        return False
    try:
        return len(os.listdir("/proc/self/task")) > threading.active_count()
    except OSError:
        return True


def _before_fork() -> None:
    pause = _pause()
    _thread.team_at_fork = (pause is None or pause() != 0) and _has_team()


def _after_fork_in_child() -> None:
    global _team_is_lost
    if _thread.team_at_fork:
        _team_is_lost = True
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
