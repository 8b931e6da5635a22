"""What the commands share."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Any

__all__ = ["Exit", "UsageError", "above_zero", "add_command", "columns", "finite", "need_lab",
           "positive", "print_json"]  # fmt: skip


class Exit(IntEnum):
    """What the process returns. Anything else that goes wrong is a bug: a traceback and 1."""

    DONE = 0
    BUG = 1
    USAGE = 2
    INTERRUPTED = 130


class UsageError(ValueError):
    """The command cannot be run as it was given; the message says what to do."""


_LAB = ("altair", "jinja2", "joblib", "rich", "scipy", "sklearn", "vl_convert")


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


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"a whole number of 1 or more is needed, not {text!r}")
    return number


def finite(text: str) -> float:
    """A number that is neither infinite nor NaN."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"a number is needed, not {text!r}")
    return number


def above_zero(text: str) -> float:
    """A number above 0."""
    number = finite(text)
    if number <= 0:
        raise argparse.ArgumentTypeError(f"a number above 0 is needed, not {text!r}")
    return number


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
