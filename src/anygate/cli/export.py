"""`anygate export`: the results of a study as a table for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .base import Exit, UsageError, add_command, need_lab, print_json, say

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    text = "Write the trials of a study, or of every study of a grid, as CSV or Parquet."
    parser = add_command(commands, "export", _export, text)
    parser.add_argument("directory", type=Path, metavar="DIR")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument(
        "--csv", metavar="FILE", nargs="?", const="", help="(default: DIR/trials.csv)"
    )
    kind.add_argument("--parquet", metavar="FILE", nargs="?", const="", help="needs pyarrow")
    parser.add_argument(
        "--curves", action="store_true", help="a row for each epoch instead of each trial"
    )


def _export(options: argparse.Namespace) -> int:
    need_lab()
    from ..lab.study.grid import grid_folders
    from ..lab.study.store.results import load
    from ..lab.study.store.rows import as_csv, as_parquet, curve_rows, rows

    folders = grid_folders(options.directory) or [options.directory]
    found = [
        ({"study": folder.name} if len(folders) > 1 else {}) | row
        for folder in folders
        for row in (curve_rows if options.curves else rows)(load(folder))
    ]
    if options.json:
        from ..lab.report.summary import finite

        print_json({"schema": 1, "rows": finite(found)})
        return Exit.DONE
    if not found:
        raise UsageError(f"{options.directory} holds no result yet")
    ending = "csv" if options.parquet is None else "parquet"
    name = "curves" if options.curves else "trials"
    path = Path((options.parquet or options.csv) or options.directory / f"{name}.{ending}")
    (as_csv if ending == "csv" else as_parquet)(found, path)
    say(f"{len(found)} rows: {path}")
    return Exit.DONE
