"""Shared by the commands."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

__all__ = [
    "Exit",
    "UsageError",
    "add_command",
    "columns",
    "need_lab",
    "print_json",
    "say",
]


class Exit(IntEnum):
    """The exit code of the process. Anything else that goes wrong is a bug: a traceback and 1."""

    DONE = 0
    BUG = 1
    USAGE = 2
    INTERRUPTED = 130


class UsageError(ValueError):
    """The command cannot be run as it was given; the message says what to do."""


_LAB = ("altair", "jinja2", "joblib", "msgspec", "pandas", "rich", "scipy", "sklearn", "vl_convert")


def need_lab() -> None:
    """Before a study starts, not after its training: all that it will need is installed."""
    from importlib.util import find_spec

    if missing := [name for name in _LAB if find_spec(name) is None]:
        raise UsageError(
            f"this command needs {', '.join(missing)}; install with pip install 'anygate[lab]'"
        )


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int], help: str
) -> argparse.ArgumentParser:
    """A command that calls run(options)."""
    parser: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(run=run)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def say(text: str, *, to_stderr: bool = False) -> None:
    """Print text that may hold what files or strangers wrote: no escape sequence reaches the
    terminal. Every command prints by this, or as JSON."""
    from ..formulas.errors import printable

    print(printable(text), file=sys.stderr if to_stderr else sys.stdout)


def print_json(content: Any) -> None:
    """One strict JSON document on stdout."""
    print(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Lines of a table with two spaces between the columns; the last column is not padded."""
    longest = 48  # a longer cell breaks its own line only
    widths = [
        max(len(row[k]) for row in rows if len(row[k]) <= longest) for k in range(len(rows[0]) - 1)
    ]
    padded = ([cell.ljust(width) for cell, width in zip(row, widths, strict=False)] for row in rows)
    return ["  ".join([*cells, row[-1]]).rstrip() for cells, row in zip(padded, rows, strict=True)]
