"""One process at a time writes the trials of a folder.

It holds a lock of the operating system on the file trials/.lock, which its end releases, however
that comes: one that was killed holds nobody up. In the file stands whose it is, for the message.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .files import writing

__all__ = ["FolderInUse", "locked", "refuse_if_running"]

_NAME = ".lock"
_NO_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK}
"""The answers of file systems, of some networks, that have no locks."""
_OWNERS: dict[tuple[int, int], int] = {}
"""Device and inode of the files that this process has locked -> the thread that did it."""


class FolderInUse(ValueError):
    """Another process, or another thread, is writing results into the folder."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Nobody else writes trials into the folder inside; the same thread may lock it again.

    Raises FolderInUse, naming the other process, if one is at work there, and WriteError if the
    folder cannot be written. Warns on a file system without locks.
    """
    path = directory / "trials" / _NAME
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _take(path)
    try:
        yield
    finally:
        if descriptor is not None:
            _release(path, descriptor)


def refuse_if_running(directory: Path) -> None:
    """Raise FolderInUse if somebody else writes trials into the folder or one inside of it."""
    for folder, _, files in os.walk(directory):
        path = Path(folder) / _NAME
        if path.parent.name == "trials" and _NAME in files:
            descriptor = _take(path)
            if descriptor is not None:
                _release(path, descriptor)


def _take(path: Path) -> int | None:
    """An open file with the lock on it; None if this thread has it already."""
    with writing(path):
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            kept = False
            try:
                place = _place(os.fstat(descriptor))
                if _OWNERS.get(place) == threading.get_ident():
                    return None
                _lock(path, descriptor)
                if _is_at(path, place):  # else the last owner deleted it before we had it
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
                    _OWNERS[place] = threading.get_ident()
                    kept = True
                    return descriptor
            finally:
                if not kept:
                    os.close(descriptor)


def _lock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise FolderInUse(_message(path.parent.parent, descriptor)) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        warnings.warn(
            f"the file system of {path.parent} has no locks: see to it yourself that no other run "
            "writes there",
            stacklevel=2,
        )


def _message(directory: Path, descriptor: int) -> str:
    pid, _, host = os.pread(descriptor, 200, 0).decode(errors="replace").strip().partition(" ")
    if not pid.isdecimal():  # it has the lock and has not signed yet
        pid, host = "of another run", ""
    where = "" if host in ("", socket.gethostname()) else f" on {host}"
    who = "another thread of this process" if pid == str(os.getpid()) else f"process {pid}{where}"
    return (
        f"{who} is writing results into {directory}; wait until it is done or end it (what it has "
        "done is kept), or choose another --out"
    )


def _release(path: Path, descriptor: int) -> None:
    """Delete the file while it is locked, so that nobody else holds it, and let go."""
    _OWNERS.pop(_place(os.fstat(descriptor)), None)
    path.unlink(missing_ok=True)
    os.close(descriptor)


def _is_at(path: Path, place: tuple[int, int]) -> bool:
    try:
        return _place(os.lstat(path)) == place
    except FileNotFoundError:
        return False


def _place(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
