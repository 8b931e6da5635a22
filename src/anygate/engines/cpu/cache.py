"""Machine code on disk, so that a formula is compiled once for each machine and not for each run.

A file is trusted only if it and its folder belong to this user, nobody else may write them, and its
digest is right; anything else is compiled anew. No failure to read or write is an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

__all__ = ["folder", "read", "write"]

_MAGIC = b"anygate machine code 1\n"


def folder() -> Path | None:
    """$ANYGATE_CACHE, or anygate in $XDG_CACHE_HOME or ~/.cache; None if ANYGATE_CACHE is empty,
    which turns the cache off."""
    chosen = os.environ.get("ANYGATE_CACHE")
    if chosen is not None:
        return Path(chosen) if chosen else None
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "anygate"


def read(key: str) -> bytes | None:
    """What was written under this key, if it is there, ours and whole."""
    place = folder()
    if place is None:
        return None
    path = place / f"{key}.o"
    try:
        with path.open("rb") as file:
            if not (_only_ours(os.fstat(file.fileno())) and _only_ours(place.stat())):
                return None
            content = file.read()
    except OSError:
        return None
    start = len(_MAGIC) + 32
    code = content[start:]
    if content[:start] != _MAGIC + hashlib.sha256(code).digest():
        return None
    return code


def write(key: str, code: bytes) -> None:
    """Keep it under this key: whole or not at all, whoever else writes at the same time."""
    place = folder()
    if place is None:
        return
    with contextlib.suppress(OSError):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place, suffix=".part", delete=False) as file:
            file.write(_MAGIC + hashlib.sha256(code).digest() + code)
        os.replace(file.name, place / f"{key}.o")


def _only_ours(status: os.stat_result) -> bool:
    return status.st_uid == os.getuid() and not status.st_mode & 0o022
