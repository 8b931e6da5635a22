"""The options of data files, as data: for the command line, a TOML file and Python alike.

Nothing but the standard library is imported here, so that `anygate --help` need not wait.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DATA_OPTIONS", "MISSING", "DataOption"]

MISSING = ("forward", "linear", "drop", "mask")
"""The ways to treat missing values."""


@dataclass(frozen=True)
class DataOption:
    """One option. kind: str, or int from least to most. many: it takes several values. tables: it
    is for tables (CSV, Parquet) only, not for files of sequences."""

    kind: type[str] | type[int]
    help: str
    metavar: str = "N"
    many: bool = False
    choices: tuple[str, ...] | None = None
    least: int = 1
    most: int = 1_000_000
    tables: bool = True


DATA_OPTIONS: dict[str, DataOption] = {
    "target": DataOption(
        str, "the columns of the table to forecast: numbers, or one of classes", "COLUMN", many=True
    ),
    "features": DataOption(
        str,
        "the columns that are seen besides the target (default: all that hold numbers, dates or "
        "categories)",
        "COLUMN",
        many=True,
    ),
    "group": DataOption(str, "the column that tells several series apart", "COLUMN"),
    "window": DataOption(int, "past rows for each forecast (default 24)"),
    "horizon": DataOption(int, "forecast the next N rows at once (default 1)", most=10_000),
    "season": DataOption(
        int,
        "rows of a season, for the baseline 'as one season ago' (default: by the dates, such as "
        "12 for months)",
        least=2,
    ),
    "test_from": DataOption(
        str,
        "rows from this date on are for testing (default: the last fifth)",
        "DATE",
    ),
    "missing": DataOption(
        str,
        "what stands for a missing value: forward (the last known one), linear (between its "
        "neighbours, of which none may be later than the window), drop (its row is left out), "
        "mask (forward, and a feature that marks it)",
        "HOW",
        choices=MISSING,
        tables=False,
    ),
    "metric": DataOption(
        str,
        "the measure of --data: accuracy, balanced_accuracy, cross_entropy, mse, mae, "
        "relative_error, or MODULE:NAME of a Metric",
        "NAME",
        tables=False,
    ),
}
"""Name -> option."""
