"""Reading a user's file with care: what it is, how large, whether it is text."""

from __future__ import annotations

import hashlib
import re
import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import TaskError

__all__ = ["contents", "digest", "label", "listed", "shown", "text", "too_many"]

_PACKED = {b"PK": "a zip archive or spreadsheet", b"\x1f\x8b": "packed with gzip"}


def contents(path: Path, largest: int) -> bytes:
    """All bytes of a regular file of at most `largest` bytes. Raises TaskError."""
    try:
        state = path.stat()
        if stat.S_ISDIR(state.st_mode):
            raise TaskError(f"{path} is a folder, not a file")
        if not stat.S_ISREG(state.st_mode):
            raise TaskError(f"{path} is not a regular file")
        if state.st_size > largest:
            raise TaskError(
                too_many(path, f"{state.st_size / 2**20:.0f} MiB", f"{largest / 2**20:.0f} MiB")
            )
        with path.open("rb") as file:
            raw = file.read(largest + 1)
    except FileNotFoundError:
        raise TaskError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        if isinstance(error, TaskError):
            raise
        raise TaskError(f"{path} cannot be read: {getattr(error, 'strerror', error)}") from None
    if not raw:
        raise TaskError(f"{path} is empty")
    if len(raw) > largest:  # it grew meanwhile
        raise TaskError(too_many(path, "more", f"{largest / 2**20:.0f} MiB"))
    return raw


def too_many(path: Path, found: str, most: str) -> str:
    """The sentence for a file that is too large."""
    return f"{path} holds {found}; at most {most} are read: cut out the part that matters"


def text(path: Path, largest: int) -> str:
    """The text of a UTF-8 file, without a byte order mark. Raises TaskError."""
    raw = contents(path, largest)
    for start, what in _PACKED.items():
        if raw.startswith(start):
            raise TaskError(f"{path} is {what}, not text; unpack it or export it as text")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TaskError(f"{path} is UTF-16 text; save it as UTF-8")
    try:
        decoded = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TaskError(
            f"{path}, line {line}: byte 0x{raw[error.start]:02x} is not UTF-8 text; save the file "
            "as UTF-8"
        ) from None
    if "\0" in decoded:
        raise TaskError(f"{path} holds zero bytes: it is not a text file")
    return decoded


def digest(*parts: str | NDArray[Any]) -> str:
    """ "sha256:" and the first 16 hexadecimal digits of that of all texts, shapes and numbers."""
    content = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            content.update(f"{len(part)} {part}".encode())
        else:
            content.update(f"{part.dtype.str} {part.shape} ".encode())
            content.update(np.ascontiguousarray(part).data)
    return "sha256:" + content.hexdigest()[:16]


def shown(text: str) -> str:
    """Text from a file as one short line without control characters, for titles and messages."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:80]


def label(*words: str) -> str:
    """A task name from a file's name and column: letters, digits and dots, joined by hyphens."""
    return "-".join(re.sub(r"[^\w.]+", "-", w).strip("-.") or "data" for w in words)[:80]


def listed(words: list[str], most: int = 12) -> str:
    """The words with commas; of more than so many, the number of the others."""
    more = len(words) - most
    return ", ".join(words[:most]) + (f" and {more:,} more" if more > 0 else "")
