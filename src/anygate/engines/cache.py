"""Machine code on disk, so that a formula is compiled once for each machine and not for each run.

The folder may lie in a project that somebody else made. So a file is trusted only if its keyed
digest, of its name and its content, is right, and the secret of that digest lies in the user's own
place (`secret_path`); besides, file and folder must belong to this user and be writable by nobody
else. Anything else is compiled anew. No failure to read or write is an error.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["folder", "read", "secret_path", "write"]

_MAGIC = b"anygate machine code 2\n"
_DIGEST = "sha256"
_DIGEST_BYTES = 32
_SECRET_BYTES = 32
_LARGEST = 1 << 25
"""Bytes of the largest file that is read; a training kernel has some 30,000."""
_ABANDONED = 3600.0
"""Seconds after which an unfinished file is taken for one of a process that was killed: writing
takes milliseconds."""
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
"""A link is not followed, and opening a named pipe does not wait for its other end."""


def folder() -> Path | None:
    """$ANYGATE_CACHE, or anygate in $XDG_CACHE_HOME or ~/.cache. None if ANYGATE_CACHE is empty,
    which turns the cache off, or if this user has no home."""
    chosen = os.environ.get("ANYGATE_CACHE")
    if chosen is not None:
        return Path(chosen) if chosen else None
    return _user_folder("XDG_CACHE_HOME", ".cache")


def secret_path() -> Path | None:
    """The secret with which digests are made: anygate/cache-secret in $XDG_STATE_HOME or
    ~/.local/state; None if this user has no home."""
    place = _user_folder("XDG_STATE_HOME", ".local/state")
    return None if place is None else place / "cache-secret"


def read(key: str) -> bytes | None:
    """The code that this user wrote under this key; None where there is none."""
    place = folder()
    if place is None:
        return None
    try:
        if not _is_private(place.stat()):
            return None
        content = _contents(place / f"{key}.o", _LARGEST)
        secret = _secret()
    except (OSError, ValueError):  # ValueError: a path with a null character
        return None
    start = len(_MAGIC) + _DIGEST_BYTES
    if content is None or secret is None or not content.startswith(_MAGIC):
        return None
    code = content[start:]
    right = _digest(secret, key, code)
    return code if hmac.compare_digest(content[len(_MAGIC) : start], right) else None


def write(key: str, code: bytes) -> None:
    """Keep it under this key: whole or not at all, whoever else writes at the same time."""
    place = folder()
    if place is None:
        return
    with contextlib.suppress(OSError, ValueError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret = _secret()
        if secret is None or not _is_private(place.stat()):
            return
        _remove_abandoned(place)
        content = _MAGIC + _digest(secret, key, code) + code
        _publish_private(place, content, lambda part: os.replace(part, place / f"{key}.o"))


def _user_folder(variable: str, below_home: str) -> Path | None:
    """anygate in the folder that an XDG variable names, by its rules an absolute path, or in the
    user's home."""
    chosen = os.environ.get(variable, "")
    if os.path.isabs(chosen):
        return Path(chosen) / "anygate"
    try:
        home = Path.home()
    except RuntimeError:  # neither $HOME nor an entry in the system's list of users
        return None
    return home / below_home / "anygate"


def _digest(secret: bytes, key: str, code: bytes) -> bytes:
    """HMAC-SHA256 of key and code; the key, which has no null byte, ends at one."""
    return hmac.digest(secret, key.encode() + b"\0" + code, _DIGEST)


def _secret() -> bytes | None:
    """The user's secret, made at first use; None where it cannot be kept to the user alone."""
    path = secret_path()
    if path is None:
        return None
    found = _read_secret(path)
    if found is not None:
        return found
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = secrets.token_bytes(_SECRET_BYTES)
    with contextlib.suppress(FileExistsError):  # another process was first: its secret holds
        _publish_private(path.parent, fresh, lambda part: os.link(part, path))
    found = _read_secret(path)
    if found is not None or not _is_private(path.parent.stat()):
        return found
    _publish_private(
        path.parent, fresh, lambda part: os.replace(part, path)
    )  # what lay there was no secret
    return _read_secret(path)


def _read_secret(path: Path) -> bytes | None:
    try:
        if not _is_private(path.parent.stat()):
            return None
        content = _contents(path, _SECRET_BYTES, hidden=True)
    except OSError:
        return None
    return content if content is not None and len(content) == _SECRET_BYTES else None


def _contents(path: Path, most: int, hidden: bool = False) -> bytes | None:
    """The bytes of a regular file of ours of at most so many bytes, else None. hidden: nobody else
    may read it. Raises OSError if it cannot be read."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _SAFELY)) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or not _is_private(status) or status.st_size > most:
            return None
        if hidden and status.st_mode & 0o077:
            return None
        content = file.read(most + 1)
    return content if len(content) <= most else None


def _publish_private(place: Path, content: bytes, publish: Callable[[str], None]) -> None:
    """Write a file that only this user can read and give its name to `publish`, which links or
    moves it to where it is to lie. It leaves nothing else behind, also on a full disk."""
    descriptor, part = tempfile.mkstemp(dir=place, suffix=".part")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
        publish(part)
    finally:
        with contextlib.suppress(OSError):  # it was moved
            os.unlink(part)


def _remove_abandoned(place: Path) -> None:
    """Remove unfinished files of processes that were killed."""
    with os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith("tmp") and entry.name.endswith(".part"):
                with contextlib.suppress(OSError):  # another process was faster
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode) and status.st_mtime < time.time() - _ABANDONED:
                        os.unlink(entry.path)


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.getuid() and not status.st_mode & 0o022
