"""Reading a file by its schema, with msgspec, and writing it whole or not at all.

A dataclass whose fields carry these types is the schema of a file: ``read(path, Trial)`` gives its
value or raises :class:`StudyError`, which names the field. ``checked(raw, StudyConfig)`` holds what
is about to be written against the same schema, so that nothing is trained of which no report could
be made. Unknown keys are passed over.
"""

from __future__ import annotations

import ast
import json
import math
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

SCHEMA = 1
LARGEST_FILE = 32 * 2**20
"""Bytes of one file; a trial of 1,000 epochs has about one million."""
LARGEST_NUMBER = 1e100
"""Of what is measured: its square and a sum of a million squares still are finite."""
T = TypeVar("T")

# What XML, and with it a picture, cannot hold (a control character ends the process inside the
# picture library), what breaks a line, and what turns the direction of text.
_UNFIT = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"

_PATTERNS = {
    (_LINE := rf"\A[^{_UNFIT}]*\Z"): "one line of printable text",
    (_NAME := rf"\A[^{_UNFIT}\\]*\Z"): "one line of printable text without backslashes",
    (_WORD := r"\A[a-z_][a-z0-9_]*\Z"): "small letters, digits and underscores",
    (_FILE := r"\A(?!\.+\Z)[\w.+-]+\Z"): "the name of a file or folder, without a path",
}

Line = Annotated[str, Meta(max_length=50_000, pattern=_LINE)]
"""A text without line breaks and control characters."""
Name = Annotated[str, Meta(max_length=2_500, pattern=_NAME)]
"""A text for pictures: Vega would read a backslash as the beginning of an escape."""
Word = Annotated[str, Meta(max_length=60, pattern=_WORD)]
"""The name of a slot or a statistic."""
FileName = Annotated[str, Meta(max_length=200, pattern=_FILE)]
"""The name of a file or folder: neither a path nor ``.`` nor ``..``."""
Whole = Annotated[int, Meta(ge=0, le=10**9)]
Count = Annotated[int, Meta(ge=1, le=10**9)]
Seed = Annotated[int, Meta(ge=0, lt=2**53)]
Number = Annotated[float, Meta(ge=-LARGEST_NUMBER, le=LARGEST_NUMBER)]
Positive = Annotated[float, Meta(gt=0, le=LARGEST_NUMBER)]

if TYPE_CHECKING:
    Measured = float
else:

    class Measured(float):
        """A measured number: null in the file, where it was not finite, is NaN here."""


class StudyError(ValueError):
    """A study directory that cannot be read; the message names the file and the remedy."""


def read(path: Path, kind: type[T]) -> T:
    """The JSON file as a value of this kind. Raises StudyError, which says what is wrong."""
    try:
        raw = content(path)
        if (version := msgspec.json.decode(raw, type=_Version).schema) != SCHEMA:
            raise StudyError(f"schema {version!r} was found, {SCHEMA} was expected")
        return msgspec.json.decode(raw, type=kind, dec_hook=_measured)
    except OSError as error:
        raise StudyError(f"it cannot be read ({error.strerror or error})") from error
    except RecursionError:
        raise StudyError("it is nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise StudyError(explain(error)) from error


def checked(raw: Any, kind: type[T]) -> T:
    """Plain data as a value of this kind. Raises StudyError, which names the field."""
    try:
        return msgspec.convert(raw, kind, dec_hook=_measured)
    except msgspec.ValidationError as error:
        raise StudyError(explain(error)) from error


def explain(error: Exception) -> str:
    """The complaint of msgspec as ``FIELD: what was expected``."""
    said, _, place = str(error).partition(" - at `")
    said, regex, pattern = said.partition("`str` matching regex ")
    if regex:
        said += _PATTERNS.get(ast.literal_eval(pattern), "another text")
    place = place.replace("key` in `$", "a key of $").rstrip("`").replace("$.", "").strip("$")
    said = said[:1].lower() + said[1:]
    return f"{place}: {said}" if place else said


class _Version(msgspec.Struct):
    schema: Annotated[int, Meta(ge=0, le=10**6)]


def _measured(kind: type, value: Any) -> Any:
    """Called by msgspec for a Measured."""
    if kind is not Measured:
        raise NotImplementedError(kind)
    if value is None:
        return Measured(math.nan)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a number was expected, not {str(value)[:40]!r}")
    if not abs(value) <= LARGEST_NUMBER:
        raise ValueError(f"a number within {LARGEST_NUMBER:g} was expected")
    return Measured(value)


def content(path: Path, largest: int = LARGEST_FILE) -> bytes:
    """The bytes of a regular file of at most so many; a pipe in its place is not waited for.
    Raises OSError, and StudyError for another kind of file or a larger one."""
    with open(path, "rb", opener=_open_without_waiting) as file:
        state = os.fstat(file.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise StudyError("it is no regular file")
        if state.st_size > largest:
            raise StudyError(
                f"it holds {state.st_size / 2**20:.1f} MiB; at most {largest >> 20} are read"
            )
        return file.read(largest)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


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
