"""`anygate claims`: test what is said about activations in LSTMs."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .base import Exit, UsageError, add_command, columns, need_lab, positive, print_json

if TYPE_CHECKING:
    from ..lab.claims import Claim, Findings, Plan

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    text = "Test what is said about activations in LSTMs; writes a page with the evidence."
    parser = add_command(commands, "claims", _claims, text)
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help="small networks and short sequences: a quarter of an "
        "hour on two cores instead of a night",
    )
    add("--only", nargs="+", metavar="CLAIM", help="these claims, by name or number (--list)")
    add("--list", action="store_true", help="list the claims and what would refute them")
    add("--out", type=Path, metavar="DIR", help="folder (default runs/claims or runs/claims-quick)")
    add(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="run nothing: judge this results.json and write its page (into its folder, or --out)",
    )
    add("--fresh", action="store_true", help="forget results that the folder already holds")
    add("--jobs", type=positive, metavar="N", help="processes (default: one for each core)")


def _claims(options: argparse.Namespace) -> int:
    need_lab()
    if options.list:
        return _list(options)
    if options.source is not None:
        from ..lab.claims import load

        return _finish(load(options.source), options.out or options.source.parent, options.json)
    from ..lab.claims import FULL, QUICK, plan

    scale = QUICK if options.quick else FULL
    planned = plan(_chosen(options.only), scale)
    directory = options.out or Path("runs") / ("claims-quick" if options.quick else "claims")
    found = _run(planned, directory, _command(options, directory), options)
    return Exit.INTERRUPTED if found is None else _finish(found, directory, options.json)


def _chosen(only: list[str] | None) -> list[Claim]:
    """The claims asked for, by key or row; all without --only."""
    from ..lab.claims import CLAIMS

    if only is None:
        return list(CLAIMS.values())
    names = {**CLAIMS, **{claim.row: claim for claim in CLAIMS.values()}}
    for name in only:
        if name not in names:
            raise UsageError(f"no claim is called '{name}'; there are: {', '.join(CLAIMS)}")
    return [claim for claim in CLAIMS.values() if claim in [names[name] for name in only]]


def _list(options: argparse.Namespace) -> int:
    from ..lab.claims import SOURCES

    found = [
        {
            "row": c.row,
            "claim": c.key,
            "sentence": c.sentence,
            "held_if": c.held_if,
            "refuted_if": c.refuted_if,
            "margin": c.margin,
            "experiments": list(c.experiments),
            "said_by": [SOURCES[key] for key in c.said_by],
        }
        for c in _chosen(options.only)
    ]
    if options.json:
        print_json({"schema": 1, "claims": found})
        return Exit.DONE
    for claim in found:
        print(f"{claim['row']:>2}  {claim['claim']}: {claim['sentence']}")
        print(f"      refuted if {claim['refuted_if']}")
    return Exit.DONE


def _command(options: argparse.Namespace, directory: Path) -> str:
    """The command that repeats or resumes this one."""
    words = ["anygate", "claims"]
    words += ["--quick"] if options.quick else []
    words += ["--only", *options.only] if options.only else []
    words += ["--out", str(directory)] if options.out else []
    return shlex.join(words)


def _run(
    planned: Plan, directory: Path, command: str, options: argparse.Namespace
) -> Findings | None:
    """Run with a progress bar on stderr; None if interrupted."""
    from ..lab.claims import run
    from ..lab.study.progress import progress_bar

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
        print(f"\ninterrupted; what is done is kept. Go on with:\n  {command}", file=sys.stderr)
        return None


def _finish(found: Findings, directory: Path, as_json: bool) -> int:
    """Write the page and its pictures, then print the verdicts."""
    from ..lab.claims import summary, verdict_table, write_page
    from ..lab.study.progress import waiting

    with waiting("writing the page"):
        page = write_page(found, directory)
    if as_json:
        print_json(summary(found))
    else:
        print("\n".join(columns([("", "claim", "verdict"), *verdict_table(found)])))
    print(f"\npage: {page}", file=sys.stderr if as_json else sys.stdout)
    return Exit.DONE
