"""`anygate list` and `anygate show`."""

from __future__ import annotations

import argparse
import shlex
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .base import Exit, UsageError, add_command, columns, print_json

if TYPE_CHECKING:
    from ..lab.answer import Measured

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add both commands."""
    text = "List the built-in activations, or the tasks."
    parser = add_command(commands, "list", _list, text)
    parser.add_argument("--tasks", action="store_true", help="the tasks of compare instead")
    text = "Show all that is known of an activation."
    parser = add_command(commands, "show", _show, text)
    parser.add_argument(
        "activation",
        help="a name, NAME(parameter=number), or a formula of x; one "
        "that begins with a minus in parentheses, as '(-x)'",
    )
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)  # for a better message


def _list(options: argparse.Namespace) -> int:
    if options.tasks:
        from ..lab.tasks import OTHERS, TASKS

        tasks = [t.describe() | {"source": t.source} for t in TASKS.values()]
        if options.json:
            print_json({"schema": 1, "tasks": tasks, "others": OTHERS})
        else:
            _print_columns(
                [("task", "steps", "")]
                + [(t["name"], str(t["steps"]), t["description"]) for t in tasks]
            )
            print()
            _print_columns([("also", ""), *OTHERS.items()])
        return Exit.DONE
    from ..formulas import ACTIVATIONS

    if options.json:
        entries = [
            {
                "name": a.name,
                "formula": a.formula,
                "parameters": dict(a.parameters),
                "aliases": list(a.aliases),
                "source": a.source,
                "note": a.note,
            }
            for a in ACTIVATIONS.values()
        ]
        print_json({"schema": 1, "activations": entries})
        return Exit.DONE
    _print_columns(
        [("activation", "formula", "also called")]
        + [(_signature(a), a.formula, ", ".join(a.aliases)) for a in ACTIVATIONS.values()]
    )
    print("\nanygate show NAME tells more. A formula of your own works wherever a name does.")
    return Exit.DONE


def _print_columns(rows: Sequence[tuple[str, ...]]) -> None:
    print("\n".join(columns(rows)))


def _signature(activation: Any) -> str:
    inner = ", ".join(f"{k}={v:.4g}" for k, v in activation.parameters.items())
    return f"{activation.name}({inner})" if inner else str(activation.name)


def _show(options: argparse.Namespace) -> int:
    if options.rest:
        formula = " ".join([options.activation, *options.rest])
        raise UsageError(
            "show takes one activation. If this is one formula, quote it: "
            f"anygate show {shlex.quote(formula)}"
        )
    from ..formulas import ACTIVATIONS, describe, resolve, sheet
    from ..lab.answer import measured

    activation = resolve(options.activation)
    as_listed = ACTIVATIONS.get(activation.name) == activation
    found, quoted = sheet(activation), measured(activation.name) if as_listed else None
    if options.json:
        print_json({"schema": 1, **found.to_dict(), "measured": asdict(quoted) if quoted else None})
    else:
        print(describe(found))
        print("\nMeasured in an LSTM:", *_quoted(activation.label, quoted), sep="\n")
    return Exit.DONE


def _quoted(label: str, found: Measured | None) -> Iterator[str]:
    """The measurements in lines; the command that makes some where there are none."""
    if found is None:
        yield f"  nothing yet; to measure it: anygate compare tanh {shlex.quote(label)}"
        return
    paragraphs = [
        *(f"Claimed: {text}" for text in found.claimed),
        *(f"Against it: {text}" for text in found.against),
        *(f"Use: {text}" for text in found.use),
        *found.sentences,
        *(f"Withdrawn: the verdict on {w}." for w in found.withdrawn),
    ]
    for text in (*paragraphs, f"({found.run})"):
        yield textwrap.fill(text, 100, initial_indent="  ", subsequent_indent="    ")
