"""The page of each activation of the catalogue: formula, derivative, picture, sheet, what was
measured, and a link into the explorer. Made when the site is built; not kept in git."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from anygate.formulas import ACTIVATIONS, Activation
from anygate.formulas.describe import KEY, rows
from anygate.formulas.display import picture
from anygate.lab.answer import measured
from anygate.lab.report.formulas import to_mathml

__all__ = ["write_pages"]

_SPECIAL = re.compile(r"[|*_<`]")


def write_pages(folder: Path) -> None:
    """One Markdown file an activation, and an index; written where the text has changed."""
    names = sorted(ACTIVATIONS)
    for name in names:
        _write(folder / f"{name}.md", "\n".join(_page(ACTIVATIONS[name])))
    rows = [f"| [{n}]({n}.md) | `{ACTIVATIONS[n].formula}` |" for n in names]
    table = ["| name | formula |", "|---|---|", *rows]
    tree = ["```{toctree}", ":hidden:", "", *names, "```"]
    intro = [
        "# Activations",
        "",
        "Every name can be given wherever an activation is asked for, and so can any formula of x. "
        "[The explorer](../explorer.md) shows each of them inside a running LSTM.",
        "",
    ]
    _write(folder / "index.md", "\n".join([*intro, *table, "", *tree, ""]))


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _sheet(activation: Activation) -> Iterator[str]:
    """The property sheet as two tables: the function, and what it means in each slot."""
    _, head, properties, (_, *slots) = rows(activation)
    for titles, part in (
        ("property | |", head[2:] + properties),
        ("slot | what it means there |", slots),
    ):
        yield f"| {titles}"
        yield "|---|---|"
        yield from (f"| {name} | {_plain(text)} |" for name, text in part)
        yield ""
    yield KEY + "."


def _plain(text: str) -> str:
    """Text that Markdown must not read as its own signs."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def _page(activation: Activation) -> Iterator[str]:
    yield f"# {activation.name}"
    yield ""
    yield "```{raw} html"
    yield f"<p>f(x) = {to_mathml(activation.closed)}</p>"
    yield f"<p>f′(x) = {to_mathml(activation.derivative().closed)}</p>"
    yield f'<p style="background:#fff;display:inline-block;padding:4px">{picture(activation)}</p>'
    yield "```"
    yield ""
    state = quote(json.dumps({"slots": {"candidate": activation.name}, "slot": "candidate"}))
    link = f"../explore.html#{state}"
    yield "```{raw} html"
    yield f'<p><a href="{link}">See it inside an LSTM, in the explorer</a></p>'
    yield "```"
    yield ""
    yield "```python"
    yield f'anygate.LSTM(64, 128, candidate="{activation.name}")'
    yield "```"
    yield ""
    yield "## Properties"
    yield ""
    yield from _sheet(activation)
    yield ""
    yield from _measured(activation.name)


def _measured(name: str) -> Iterator[str]:
    """What is claimed of it, what speaks against it, when to use it; and every measurement."""
    found = measured(name)
    parts = () if found is None else (found.claimed, found.against, found.use)
    titles = ("Advantages, as claimed, with verdicts", "Disadvantages", "When to use it, and where")
    for title, part in zip(titles, parts, strict=False):
        if part:
            yield f"## {title}"
            yield ""
            yield from (f"- {_plain(sentence)}" for sentence in part)
            yield ""
    yield "## Measured in an LSTM"
    yield ""
    if found is None:
        yield f"Nothing yet. To measure it: `anygate compare tanh {name}`."
    else:
        for sentence in (*found.sentences, *(f"Withdrawn: {w}." for w in found.withdrawn)):
            yield f"- {_plain(sentence)}"
        yield ""
        yield f"({found.run}) [The answer](../answer.md) has the evidence."
    yield ""
