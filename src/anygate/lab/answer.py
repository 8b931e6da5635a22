"""The results of the project's own studies on an activation, as `anygate show` quotes them.

The sentences lie beside this file, generated from the committed results by
``python -m studies publish``; the evidence for them is docs/answer.md of the repository.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

__all__ = ["Measured", "measured"]


@dataclass(frozen=True)
class Measured:
    """The measurements of one activation in an LSTM. sentences: plain ones with figures. withdrawn:
    statements on it whose verdict was withdrawn. claimed, against, use: its advantages as they are
    claimed, with verdicts; what speaks against it; when to use it and in which slot (of the five
    that the question names). run: the command, date and commit of the run, how
    large it was, and the command that repeats it in a checkout."""

    sentences: tuple[str, ...]
    withdrawn: tuple[str, ...]
    run: str
    claimed: tuple[str, ...] = ()
    against: tuple[str, ...] = ()
    use: tuple[str, ...] = ()


def measured(name: str) -> Measured | None:
    """The measurements of the activation with this catalogue name and its own parameters; None
    where there are none."""
    return _read_results().get(name)


@cache
def _read_results() -> dict[str, Measured]:
    document = json.loads(files(__package__).joinpath("answer.json").read_text(encoding="utf-8"))
    run = document["run"]
    sizes = " or ".join(map(str, run["hidden_sizes"]))
    about = (
        f"{run['command']}, {run['date']}, commit {run['commit']}: sequences of at most "
        f"{run['longest']} steps, {sizes} hidden units, on {run['processor']}; "
        f"to repeat it in a checkout: {run['repeat']}"
    )
    return {
        name: Measured(
            tuple(found["sentences"]),
            tuple(found["withdrawn"]),
            about,
            *(tuple(found.get(key, ())) for key in ("claimed", "against", "use")),
        )
        for name, found in document["activations"].items()
    }
