"""`anygate explore`."""

from __future__ import annotations

import argparse
import tempfile
import webbrowser
from pathlib import Path
from typing import Any

from .base import Exit, UsageError, add_command, print_json, say

__all__ = ["add"]


def add(commands: Any) -> None:
    """Add the command."""
    text = "Open the explorer: change an activation inside an LSTM and watch, offline."
    parser = add_command(commands, "explore", _explore, text)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the page to this file")
    parser.add_argument("--no-browser", action="store_true", help="write it, open nothing")


def _explore(options: argparse.Namespace) -> int:
    from ..explorer import page

    path = options.out or Path(tempfile.mkdtemp(prefix="anygate-")) / "explorer.html"
    try:
        path.write_text(page(), encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written ({error.strerror}); name another --out"
        ) from None
    opened = not options.no_browser and webbrowser.open(path.absolute().as_uri())
    if options.json:
        print_json({"schema": 1, "page": str(path), "opened": opened})
    else:
        say(f"the explorer is {path}" + ("" if opened else "; open it in any browser"))
    return Exit.DONE
