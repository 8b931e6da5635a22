"""A table from a CSV or Parquet file as a pandas frame: its size known before it is read, and what
is wrong with it said in one sentence that names the place."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import TaskError
from .reading import contents, shown, text, too_many

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["NO_NUMBER", "NO_VALUE", "NUMBER", "Table", "from_frame", "read_table"]

LARGEST, MOST_ROWS, MOST_COLUMNS, MOST_CELLS = 64 * 2**20, 1_000_000, 10_000, 20_000_000
"""Bytes, rows, columns and cells that are read."""
LARGEST_UNPACKED = 256 * 2**20
"""Bytes of a Parquet file's columns in memory."""
LONGEST_LINE = 1_000_000
"""Characters."""
_SEPARATORS = ",;\t|"
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
NO_VALUE = {"", "na", "n/a", "nan", "null", "?", "#n/a"}
"""Texts that stand for a missing value anywhere, in small letters."""
NO_NUMBER = NO_VALUE | {"none", "nil", "missing", "-", "--", "."}
"""Texts that stand for a missing number or date; a column of texts may have one as a value."""
_AS_WRITTEN = sorted({case(word) for word in NO_VALUE for case in (str, str.upper, str.title)})
_SAMPLE, _SAMPLE_CHARACTERS = 20, 100_000  # rows by which the separator is chosen
_TOO_LONG = re.compile(rf"[^\n]{{{LONGEST_LINE + 1}}}")


@dataclass(frozen=True)
class Table:
    """A frame with the names of its columns, which may repeat, as they were written.

    cell: row and column, from 0 -> its place ("my.csv, line 12") and its text as it was written.
    nested: names of columns of lists and the like, which the frame does not hold.
    """

    title: str
    names: tuple[str, ...]
    frame: DataFrame
    cell: Callable[[int, int], tuple[str, str]]
    nested: tuple[str, ...] = ()


def read_table(path: Path) -> Table:
    """The table of a file: Parquet by its ending, anything else is CSV. Raises TaskError."""
    if find_spec("pandas") is None:
        raise TaskError(
            f"{path} is read by pandas, which is not installed; pip install 'anygate[lab]' brings "
            "it"
        )
    if path.suffix.lower() in (".parquet", ".pq"):
        return _parquet(path)
    content = text(path, LARGEST)
    separator = _separator(content)
    header, count = _shape(path, content, separator)
    return Table(
        str(path),
        tuple(header),
        _csv(content, separator, header, count),
        partial(_csv_cell, path, content, separator),
    )


def from_frame(frame: Any, title: str) -> Table:
    """The table of a DataFrame of pandas, or of another library that has to_pandas()."""
    from pandas import DataFrame, DatetimeIndex

    if not isinstance(frame, DataFrame):
        if not hasattr(frame, "to_pandas"):
            raise TaskError(
                f"{title} must be a DataFrame of pandas or Polars, not {type(frame).__name__}"
            )
        frame = frame.to_pandas()
    if isinstance(frame.index, DatetimeIndex):
        frame = frame.reset_index(names=frame.index.name or "index")
    return Table(title, tuple(map(str, frame.columns)), frame, partial(_frame_cell, title, frame))


def _frame_cell(title: str, frame: DataFrame, row: int, column: int) -> tuple[str, str]:
    return f"{title}, row {row}", str(frame.iloc[row, column])


# ---- CSV ------------------------------------------------------------------------------------


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


def _shape(path: Path, content: str, separator: str) -> tuple[list[str], int]:
    """The names of the columns and the number of rows. Raises TaskError where a row has another
    number of cells, which pandas would fill up or cut off, and for what is too large."""
    if _TOO_LONG.search(content):
        raise TaskError(
            too_many(path, f"a line of more than {LONGEST_LINE:,} characters", "that many")
        )
    rows = _rows(path, content, separator)
    _, first = next(rows, (1, []))
    header = [name.strip() for name in first]
    if len(header) > MOST_COLUMNS:
        raise TaskError(too_many(path, f"{len(header):,} columns", f"{MOST_COLUMNS:,}"))
    if not any(header):
        raise TaskError(f"{path} has no first line with the names of its columns")
    if all(NUMBER.fullmatch(name) for name in header):
        names = ", ".join(map(repr, header[:30]))
        raise TaskError(
            f"{path}: the first line must hold the names of the columns, and holds numbers "
            f"({names}); write names above them"
        )
    count = 0
    for line, row in rows:
        if len(row) != len(header):
            raise TaskError(_ragged(path, line, row, header))
        count += 1
        if count > MOST_ROWS:
            raise TaskError(too_many(path, f"more than {MOST_ROWS:,} rows", "that many"))
        if count * len(header) > MOST_CELLS:
            raise TaskError(too_many(path, f"more than {MOST_CELLS:,} cells", "that many"))
    return header, count


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


def _ragged(path: Path, line: int, row: list[str], header: list[str]) -> str:
    cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
    sentence = f"{path}, line {line} has {cells}, the first line has {len(header)}"
    if len(row) > len(header) and any(re.fullmatch(r"\s*[0-9]+\s*", cell) for cell in row):
        sentence += "; if a comma stands for the decimal point, write a point"
    return sentence


def _csv(content: str, separator: str, header: list[str], count: int) -> DataFrame:
    """The frame of so many rows, whose columns have numbers for names."""
    import pandas

    exact: dict[str, Any] = {}
    if tuple(map(int, pandas.__version__.split(".")[:2])) < (3, 1):  # later ones always are
        exact["float_precision"] = "round_trip"
    frame: DataFrame = pandas.read_csv(
        io.StringIO(content, newline=""),
        sep=separator,
        names=range(len(header)),
        header=0,
        index_col=False,
        nrows=count,
        na_values=_AS_WRITTEN,
        keep_default_na=False,
        skip_blank_lines=False,
        low_memory=False,
        **exact,
    )
    return frame


def _csv_cell(path: Path, content: str, separator: str, row: int, column: int) -> tuple[str, str]:
    for place, (line, cells) in enumerate(_rows(path, content, separator), -1):
        if place == row:
            return f"{path}, line {line}", cells[column].strip()
    raise IndexError(row)


# ---- Parquet --------------------------------------------------------------------------------


def _parquet(path: Path) -> Table:
    """The flat columns of a Parquet file."""
    if find_spec("pyarrow") is None:
        raise TaskError(
            f"{path} is read by pyarrow, which is not installed; pip install 'anygate[parquet]' "
            "brings it, or export the table as CSV"
        )
    import pyarrow
    from pyarrow import parquet

    raw = contents(path, LARGEST)
    try:
        schema = parquet.read_schema(pyarrow.BufferReader(raw))
        texts = [f.name for f in schema if pyarrow.types.is_string(f.type)]
        # A text that repeats stays one text and a number for each row.
        with parquet.ParquetFile(pyarrow.BufferReader(raw), read_dictionary=texts) as file:
            _check_size(path, file.metadata)
            table = _unpacked(path, file, schema)
        frame = table.to_pandas()
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError, OverflowError, KeyError) as error:
        raise TaskError(f"{path} is no sound Parquet file ({shown(str(error))})") from None
    names = tuple(str(name) for name in frame.columns)
    nested = tuple(f.name for f in schema if pyarrow.types.is_nested(f.type))
    return Table(str(path), names, frame, partial(_frame_cell, str(path), frame), nested)


def _check_size(path: Path, metadata: Any) -> None:
    rows, columns = metadata.num_rows, metadata.num_columns
    for found, most, what in (
        (columns, MOST_COLUMNS, "columns"),
        (rows, MOST_ROWS, "rows"),
        (rows * columns, MOST_CELLS, "cells"),
    ):
        if found > most:
            raise TaskError(too_many(path, f"{found:,} {what}", f"{most:,}"))
    size = sum(metadata.row_group(k).total_byte_size for k in range(metadata.num_row_groups))
    if size > LARGEST_UNPACKED:
        limit = f"{LARGEST_UNPACKED >> 20} MiB"
        raise TaskError(too_many(path, f"{size >> 20:,} MiB unpacked", limit))


def _unpacked(path: Path, file: Any, schema: Any) -> Any:
    """All rows, a part at a time, so that what unpacks to more than fits is seen on the way."""
    import pyarrow

    flat = [f.name for f in schema if not pyarrow.types.is_nested(f.type)]
    parts, size = [], 0
    for part in file.iter_batches(batch_size=10_000, columns=flat):
        size += part.nbytes
        if size > LARGEST_UNPACKED:
            most = f"{LARGEST_UNPACKED >> 20} MiB"
            raise TaskError(too_many(path, f"more than {most} unpacked", "that many"))
        parts.append(part)
    if not parts:
        raise TaskError(f"{path} has no rows")
    return pyarrow.Table.from_batches(parts)
