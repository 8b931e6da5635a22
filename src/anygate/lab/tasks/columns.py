"""One column of numbers from a CSV file, or a sentence that says what is wrong with it, and where.

Numbers are 1, -1.5, .5 or 1e-3. Nothing is guessed: no missing value is filled, no row is dropped,
no decimal comma is read.
"""

from __future__ import annotations

import csv
import difflib
import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .base import TaskError
from .reading import text, too_many

LARGEST, MOST_ROWS, MOST_COLUMNS, MOST_CELLS = 64 * 2**20, 1_000_000, 10_000, 20_000_000
"""Bytes, rows, columns and cells that are read."""
LONGEST_LINE = 1_000_000
"""Characters."""
_SEPARATORS = ",;\t|"
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_COMMA = re.compile(r"[+-]?[0-9]+(,[0-9]+)+(\.[0-9]+)?|[+-]?[0-9]{1,3}(\.[0-9]{3})*,[0-9]+")
_MISSING = {"", "na", "n/a", "nan", "null", "none", "nil", "-", "--", "?", ".", "#n/a", "missing"}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.]+)?")
_SAMPLE, _SAMPLE_CHARACTERS = 20, 100_000  # rows by which the separator is chosen


_TOO_LONG = re.compile(rf"[^\n]{{{LONGEST_LINE + 1}}}")


@dataclass
class _Dates:
    """The ISO dates of a column: how many, the last, and the first two that fall, if any."""

    count: int = 0
    last: str = ""
    fall: tuple[str, ...] = ()

    def add(self, cell: str) -> None:
        """Count the cell if it is one."""
        if _DATE.fullmatch(cell):
            if cell < self.last and not self.fall:
                self.fall = (self.last, cell)
            self.count, self.last = self.count + 1, cell


def column(path: Path, target: str | None) -> tuple[str, NDArray[np.float64]]:
    """The column's name and its numbers, in the order of the file. `target` may be None if there
    is one column only. Raises TaskError."""
    content = text(path, LARGEST)
    if _TOO_LONG.search(content):
        raise TaskError(
            too_many(path, f"a line of more than {LONGEST_LINE:,} characters", "that many")
        )
    rows = _rows(path, content, _separator(content))
    line, first = next(rows, (1, []))
    header = [name.strip() for name in first]
    if len(header) > MOST_COLUMNS:
        raise TaskError(too_many(path, f"{len(header):,} columns", f"{MOST_COLUMNS:,}"))
    k = _choose(path, header, target)
    values: list[float] = []
    dates = [_Dates() for _ in header]
    bad, first_bad = 0, ""
    for line, row in rows:
        if len(row) != len(header):
            raise TaskError(_ragged(path, line, row, header))
        if len(values) == MOST_ROWS:
            raise TaskError(too_many(path, f"more than {MOST_ROWS:,} rows", "that many"))
        if len(values) * len(header) > MOST_CELLS:
            raise TaskError(too_many(path, f"more than {MOST_CELLS:,} cells", "that many"))
        value, complaint = _value(row[k].strip())
        values.append(value)
        if complaint:
            bad += 1
            first_bad = first_bad or f"{path}, line {line}, column {header[k]!r}: {complaint}"
        for seen, cell in zip(dates, row, strict=True):
            seen.add(cell.strip())
    if bad:
        raise TaskError(first_bad + (f" (and {bad - 1} more bad cells)" if bad > 1 else ""))
    _check_order(path, header, dates, len(values))
    return header[k], np.array(values, dtype=np.float64)


def _separator(content: str) -> str:
    """The one that splits the first line, and the lines after it alike."""
    lines = content[:_SAMPLE_CHARACTERS].splitlines()[: _SAMPLE + 1]

    def quality(separator: str) -> tuple[int, int]:
        try:
            counts = [len(row) for row in csv.reader(lines, delimiter=separator) if row]
        except csv.Error:
            return (0, 0)
        if not counts or counts[0] < 2:
            return (0, 0)
        return (sum(c == counts[0] for c in counts), counts[0])

    return max(_SEPARATORS, key=quality)


def _rows(path: Path, content: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Line numbers and cells. Blank lines are allowed at the end only."""
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=separator, strict=True)
    blank = 0
    try:
        for row in reader:
            if not row or row == [""]:
                blank = blank or reader.line_num
                continue
            if blank:
                raise TaskError(f"{path}, line {blank} is blank; remove it")
            yield reader.line_num, row
    except csv.Error as error:
        raise TaskError(f"{path}, line {reader.line_num} cannot be read as CSV: {error}") from None


def _choose(path: Path, header: list[str], target: str | None) -> int:
    """The index of the target column."""
    names = ", ".join(repr(name) for name in header[:30]) + (", ..." if len(header) > 30 else "")
    if not any(header):
        raise TaskError(f"{path} has no first line with the names of its columns")
    if all(_NUMBER.fullmatch(name) for name in header):
        raise TaskError(
            f"{path}: the first line must hold the names of the columns, and holds numbers "
            f"({names}); write names above them"
        )
    if target is None:
        if len(header) == 1:
            return 0
        raise TaskError(f"say which column of {path} to forecast: --target NAME. It has {names}")
    if target.strip() not in header:
        near = difflib.get_close_matches(target.lower(), [n.lower() for n in header], 1, 0.6)
        meant = next((n for n in header if near and n.lower() == near[0]), None)
        hint = f" (did you mean {meant!r}?)" if meant else ""
        raise TaskError(f"{path} has no column '{target}'{hint}; it has {names}")
    if header.count(target.strip()) > 1:
        raise TaskError(f"{path} has {header.count(target.strip())} columns '{target}'; rename one")
    return header.index(target.strip())


def _ragged(path: Path, line: int, row: list[str], header: list[str]) -> str:
    sentence = f"{path}, line {line} has {_cells(len(row))}, the first line has {len(header)}"
    if len(row) > len(header) and any(re.fullmatch(r"\s*[0-9]+\s*", cell) for cell in row):
        sentence += "; if a comma stands for the decimal point, write a point"
    return sentence


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _value(cell: str) -> tuple[float, str]:
    """The number of a cell and "", or 0 and what is wrong with it."""
    told = repr(cell if len(cell) <= 40 else cell[:37] + "...")
    if _NUMBER.fullmatch(cell):
        value = float(cell)
        return (value, "") if math.isfinite(value) else (0.0, f"{told} is too large for a number")
    if cell.lower() in _MISSING:
        return 0.0, f"the value is missing ({told}); fill it in or remove the row"
    if cell.lower().lstrip("+-") in ("inf", "infinity"):
        return 0.0, f"{told} is not finite; fill in a number or remove the row"
    if _COMMA.fullmatch(cell):
        return 0.0, f"{told} has a comma; write a decimal point, and nothing between thousands"
    return 0.0, f"{told} is not a number"


def _check_order(path: Path, header: list[str], dates: list[_Dates], count: int) -> None:
    """Refuse rows that are not in the order of any of their columns of ISO dates, if there are
    some; the order of such text is that of time."""
    whole = [(name, seen) for name, seen in zip(header, dates, strict=True) if seen.count == count]
    if whole and all(seen.fall for _, seen in whole):
        name, seen = whole[0]
        raise TaskError(
            f"{path}: the rows are not in the order of time ('{seen.fall[0]}' comes before "
            f"'{seen.fall[1]}' in column {name!r}); sort them, oldest first"
        )
