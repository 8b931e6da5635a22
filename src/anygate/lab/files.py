"""Writing results: a file whole or not at all, and one error that says which file and why."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["WriteError", "write_json", "write_text", "writing"]


class WriteError(ValueError):
    """A file or folder cannot be written; the message names it and the reason."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses inside into a WriteError about ``path``."""
    try:
        yield
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror or error}") from error


def write_text(path: Path, text: str) -> Path:
    """Write a file whole or not at all: a draft beside it, flushed to disk, then renamed."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    return path


def write_json(path: Path, content: Any) -> None:
    """Write strict JSON, whole or not at all; a list of numbers takes one line."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(
        path, _FLAT_LIST.sub(lambda found: f"[{' '.join(found[0][1:-1].split())}]", text) + "\n"
    )


# A line break inside: no string of JSON has one, so this is a list and not a text with brackets.
_FLAT_LIST = re.compile(r'\[\n[^\[\]{}"]*\]')
