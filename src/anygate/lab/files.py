"""Writing results: a file whole or not at all, and one error that says which file and why."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["WriteError", "write_bytes", "write_json", "write_text", "writing"]


class WriteError(ValueError):
    """A file or folder cannot be written; the message names it and the reason."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses inside into a WriteError about ``path``."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror or error}") from error


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file whole or not at all: a draft beside it, flushed to disk, then renamed.

    A link in the file's place is replaced, never followed, and inside the folder of a study a
    folder that is a link is refused: such a folder may be a stranger's.
    """
    draft = path.with_name(f".{path.name[:80]}.{secrets.token_hex(8)}.part")
    with writing(path):
        _refuse_links(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
            with open(os.open(draft, new | getattr(os, "O_BINARY", 0), 0o666), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    return path


_MARKS = ("study.json", "grid.json", "claims.json")
"""Each marks the folder that it lies in as one of results."""


def _refuse_links(path: Path) -> None:
    """Raise WriteError if a folder between that of the results and the file is a link."""
    ours = False
    for folder in reversed(Path(os.path.abspath(path)).parents):
        if ours and folder.is_symlink():
            raise WriteError(
                f"{path} cannot be written: {folder} is a link out of the folder of the results; "
                "delete the link"
            )
        ours = ours or any((folder / mark).is_file() for mark in _MARKS)


def write_text(path: Path, text: str) -> Path:
    """Write a text as :func:`write_bytes` does."""
    return write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write strict JSON, whole or not at all; a list of numbers takes one line."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(
        path, _FLAT_LIST.sub(lambda found: f"[{' '.join(found[0][1:-1].split())}]", text) + "\n"
    )


# A line break inside: no string of JSON has one, so this is a list and not a text with brackets.
_FLAT_LIST = re.compile(r'\[\n[^\[\]{}"]*\]')
