"""`python -m studies`: run, judge, write the page, publish."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Any

from .claims import CLAIMS
from .findings import Findings, load
from .grid import FULL, QUICK
from .lab import (
    ExecutorGone,
    FolderInUse,
    StudyConflict,
    StudyError,
    WriteError,
    printable,
    progress_bar,
    waiting,
)
from .model import Claim
from .page import summary, verdict_table, write_page
from .publish import PUBLISHED, publish
from .runner import Plan, plan, run

__all__ = ["Exit", "main", "parser"]

RESULTS = Path(__file__).parents[1] / "docs" / "claims.json"
"""The committed results."""


class Exit(IntEnum):
    """The codes that the process returns, as anygate's own."""

    DONE = 0
    USAGE = 2
    INTERRUPTED = 130


class UsageError(ValueError):
    """The command cannot be run as it was given; the message says what to do."""


MENDABLE = (ExecutorGone, FolderInUse, StudyConflict, StudyError, UsageError, WriteError)
"""Errors whose message says what to do."""


def parser() -> argparse.ArgumentParser:
    """All options."""
    made = argparse.ArgumentParser(
        prog="python -m studies",
        description="Test what is said about activations in LSTMs and write the page of evidence.",
    )
    add = made.add_argument
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--quick",
        action="store_true",
        help="small networks and short sequences: a quarter of an hour on two cores",
    )
    what.add_argument("--full", action="store_true", help="the whole study: a night")
    what.add_argument(
        "--list", action="store_true", help="list the claims and what would refute them"
    )
    what.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="run nothing: judge this results.json and write its page (into its folder, or --out)",
    )
    what.add_argument(
        "--publish",
        type=Path,
        nargs="?",
        const=RESULTS,
        metavar="FILE",
        help="run nothing: write what `anygate show` quotes from these results "
        "(default docs/claims.json) into the package",
    )
    add("--only", nargs="+", metavar="CLAIM", help="these claims, by name or number (--list)")
    add("--out", type=Path, metavar="DIR", help="folder (default runs/claims[-quick])")
    add("--fresh", action="store_true", help="forget results that the folder already holds")
    add("--jobs", type=_processes, metavar="N", help="processes (default: one for each core)")
    add("--json", action="store_true", help="print one JSON document")
    return made


def _processes(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number above 0 is needed, not {text[:40]!r}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the options ask; returns an `Exit` code."""
    options = parser().parse_args(arguments)
    try:
        return _dispatch(options)
    except MENDABLE as error:
        _say(f"studies: {error}", to_stderr=True)
        return Exit.USAGE


def _dispatch(options: argparse.Namespace) -> int:
    if options.list:
        return _list(options)
    if options.publish is not None:
        publish(load(options.publish), PUBLISHED)
        _say(f"written: {PUBLISHED}", to_stderr=options.json)
        return Exit.DONE
    if options.source is not None:
        return _finish(load(options.source), options.out or options.source.parent, options.json)
    scale = QUICK if options.quick else FULL
    planned = plan(_chosen(options.only), scale)
    directory = options.out or Path("runs") / ("claims-quick" if options.quick else "claims")
    found = _run(planned, directory, _command(options), options)
    return Exit.INTERRUPTED if found is None else _finish(found, directory, options.json)


def _chosen(only: list[str] | None) -> list[Claim]:
    """The claims asked for, by key or row; all without --only."""
    if only is None:
        return list(CLAIMS.values())
    names = {**CLAIMS, **{claim.row: claim for claim in CLAIMS.values()}}
    for name in only:
        if name not in names:
            raise UsageError(f"no claim is called '{name}'; there are: {', '.join(CLAIMS)}")
    return [claim for claim in CLAIMS.values() if claim in [names[name] for name in only]]


def _list(options: argparse.Namespace) -> int:
    found = _chosen(options.only)
    if options.json:
        _print_json({"schema": 1, "claims": [_described(claim) for claim in found]})
        return Exit.DONE
    for claim in found:
        _say(f"{claim.row:>2}  {claim.key}: {claim.sentence}")
        _say(f"      refuted if {claim.refuted_if}")
    return Exit.DONE


def _described(claim: Claim) -> dict[str, Any]:
    return {
        "row": claim.row,
        "claim": claim.key,
        "sentence": claim.sentence,
        "held_if": claim.held_if,
        "refuted_if": claim.refuted_if,
        "margin": claim.margin,
        "experiments": [experiment.name for experiment in claim.experiments],
        "said_by": list(claim.said_by),
    }


def _command(options: argparse.Namespace) -> str:
    """The command that repeats or resumes this one."""
    words = ["python", "-m", "studies", "--quick" if options.quick else "--full"]
    words += ["--only", *options.only] if options.only else []
    words += ["--out", str(options.out)] if options.out else []
    return shlex.join(words)


def _run(
    planned: Plan, directory: Path, command: str, options: argparse.Namespace
) -> Findings | None:
    """Run with a progress bar on stderr; None if interrupted."""
    try:
        with progress_bar("claims") as progress:
            return run(
                planned,
                directory,
                command=command,
                fresh=options.fresh,
                jobs=options.jobs,
                progress=progress,
            )
    except KeyboardInterrupt:
        _say(f"\ninterrupted; what is done is kept. Go on with:\n  {command}", to_stderr=True)
        return None


def _finish(found: Findings, directory: Path, as_json: bool) -> int:
    """Write the page and its pictures, then print the verdicts."""
    with waiting("writing the page"):
        page = write_page(found, directory)
    if as_json:
        _print_json(summary(found))
    else:
        for row, key, verdict in verdict_table(found):
            _say(f"{row:>2}  {key:<24}  {verdict}")
    _say(f"\npage: {page}", to_stderr=as_json)
    return Exit.DONE


def _say(text: str, *, to_stderr: bool = False) -> None:
    print(printable(text), file=sys.stderr if to_stderr else sys.stdout)


def _print_json(content: object) -> None:
    print(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False))


if __name__ == "__main__":
    sys.exit(main())
