"""Builds the page from its parts and from the library's tables."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from importlib.resources import files
from typing import Any

import sympy

from .. import __version__
from ..formulas import ACTIVATIONS
from ..formulas.parse import NOT_ELEMENTWISE
from ..formulas.primitives import PRIMITIVES, Primitive
from ..formulas.text import write

__all__ = ["data", "page", "script"]

_ARGUMENTS = ("x", "y", "w")


def page(answer: str | None = None) -> str:
    """The whole page as one HTML text: no library, no request; opened from a file it works too.
    answer: the address of the page with the evidence; without one the command is named that quotes
    it."""
    code = script(with_page=True)
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    evidence = "<code>anygate show relu</code> quotes what was measured"
    if answer is not None:
        evidence = f'<a href="{escape(answer)}">the answer</a> tells what was measured'
    parts = {
        "evidence": evidence,
        "style": _smaller(_read("page.css")),
        "script_hash": f"sha256-{digest}",
        "version": __version__,
        "script": code,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _read("page.html"))


def script(with_page: bool = False) -> str:
    """The JavaScript: tables, formulas and networks; `with_page` adds what needs a document."""
    names = ["formula.js", "network.js", *(["page.js"] if with_page else [])]
    tables = json.dumps(data(), ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    return "\n".join([f"const DATA = {tables};", *(_smaller(_read(name)) for name in names)])


def data() -> dict[str, Any]:
    """The tables that the page has of the library: the chain rule of each primitive as formula text
    in its arguments x, y, w and their derivatives dx, dy, dw; the catalogue; names that are
    refused."""
    return {
        "rules": {name: _rule(primitive) for name, primitive in PRIMITIVES.items()},
        "activations": [
            [a.name, a.formula, dict(a.parameters), list(a.aliases)] for a in ACTIVATIONS.values()
        ],
        "not_elementwise": sorted(NOT_ELEMENTWISE),
    }


def _rule(primitive: type[Primitive]) -> tuple[int, str]:
    """The number of its arguments, and its chain rule."""
    names = _ARGUMENTS[: primitive.arity()]
    if primitive.__name__ == "where":  # its first argument is a condition
        return 3, "where(x, dy, dw)"
    arguments = [sympy.Symbol(name, real=True) for name in names]
    inner = tuple(sympy.Symbol(f"d{name}", real=True) for name in names)
    return len(names), write(primitive(*arguments).chain(inner))


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _smaller(text: str) -> str:
    """Without indentation, empty lines and lines that hold only a comment."""
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("//"))
