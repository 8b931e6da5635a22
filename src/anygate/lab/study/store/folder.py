"""The folder of a study: claimed by one study, written by one process at a time.

A process that writes trials holds a lock of the operating system on the file trials/.lock, which
its end releases, however that comes: one that was killed holds nobody up. In the file stands whose
it is, for the message."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...wording import Notice, to_stderr
from .files import StudyError, checked, read, write_json, writing
from .schema import StudyConfig, Trial


class StudyConflict(ValueError):
    """The folder holds another study."""


def claim(
    directory: Path,
    config: dict[str, Any],
    keys: Mapping[tuple[str, int], str],
    *,
    fresh: bool = False,
    notice: Notice = to_stderr,
) -> None:
    """Write `config` as study.json, or find that the folder holds the same study.

    keys: (activation, seed) -> the key of its trial in this folder. fresh: forget earlier results
    first. Raises StudyConflict for a folder with another study or with other things, FolderInUse
    for one that another process writes into, WriteError for one that cannot be written, and
    StudyError for a study of which no report could be made.
    """
    try:
        checked(config, StudyConfig)
    except StudyError as error:
        raise StudyError(f"the study cannot be run: {error}") from error
    with writing(directory):
        _check_folder(directory)
        refuse_if_running(directory)
        if fresh:
            _forget(directory)
        held = _held(directory, notice)
        if held is None:
            _refuse_strangers(directory, keys)
        else:
            _refuse_another(directory, held, config)
        write_json(directory / "study.json", config)


def _refuse_strangers(directory: Path, keys: Mapping[tuple[str, int], str]) -> None:
    """Raise StudyConflict for trials of other settings, which no study.json vouches for."""
    for path in sorted((directory / "trials").glob("*.json")):
        try:
            trial = read(path, Trial)
        except StudyError:
            continue
        if keys.get((trial.activation, trial.seed), trial.key) != trial.key:
            raise StudyConflict(
                f"{directory} has lost its study.json and holds results of other settings, "
                f"such as {path.name}; choose another --out, or --fresh to delete them"
            )


def _difference(held: Any, wanted: Any) -> str:
    if isinstance(held, dict) and isinstance(wanted, dict):
        parts = [k for k in {**wanted, **held} if held.get(k) != wanted.get(k)]
        parts.sort(key=lambda k: k == "description")  # long, and it follows from the others
        return ", ".join(f"{k} {held.get(k)} there, {wanted.get(k)} here" for k in parts[:3])
    return f"{held} there, {wanted} here"


_PARTS = {"task": "another task", "slot": "another slot", "settings": "other settings"}
"""The parts that every trial of a folder must share."""
_RESULTS = (
    "trials",
    "timing",
    "cost",
    "stability",
    "figures",
    "tuning",
    "rates",
    "own",
    "work",
    "weights",
    "tensorboard",
)
_OURS = {"study.json", "report.html", "summary.json", *_RESULTS}


def _refuse_another(directory: Path, held: dict[str, Any], config: dict[str, Any]) -> None:
    """Raise StudyConflict unless both studies share the parts that all trials depend on."""
    for part, name in _PARTS.items():
        if held.get(part) != config[part]:
            raise StudyConflict(
                f"{directory} holds a study with {name} "
                f"({_difference(held.get(part), config[part])}); choose another --out, or "
                "--fresh to delete its results"
            )


def _check_folder(directory: Path) -> None:
    """Refuse what is no folder, and a folder with other things and no study in it."""
    if directory.exists() and not directory.is_dir():
        raise StudyConflict(f"{directory} is a file, not a folder; choose another --out")
    if directory.is_dir() and not (directory / "study.json").exists() and not _is_ours(directory):
        raise StudyConflict(f"{directory} is not empty and holds no study; choose another --out")


def _is_ours(directory: Path) -> bool:
    return {p.name for p in directory.iterdir() if p.suffix != ".part"} <= _OURS


def _forget(directory: Path) -> None:
    """Delete the results of a folder that holds a study."""
    for part in _RESULTS:
        if (directory / part).is_symlink():
            (directory / part).unlink()
        shutil.rmtree(directory / part, ignore_errors=True)
    (directory / "study.json").unlink(missing_ok=True)


def _held(directory: Path, notice: Notice) -> dict[str, Any] | None:
    """The study.json of the folder; None if there is none, or none that can be read."""
    path = directory / "study.json"
    if not path.exists():
        return None
    try:
        read(path, StudyConfig)
    except StudyError as error:
        if str(error).startswith("schema "):
            raise StudyConflict(
                f"{path}: {error} by this anygate; choose another --out, or --fresh to delete its "
                "results"
            ) from error
        if not _is_ours(directory):
            raise StudyConflict(
                f"{path} is damaged ({error}) and lies among other files; choose another --out"
            ) from error
        notice(f"{path} was damaged ({error}); it is written anew, the trials are kept")
        return None
    return json.loads(path.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


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
