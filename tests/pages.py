"""The pages that people read, README and docs, and the code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
MADE = ("_build", "activations")  # by building the site; test_pages.py makes the latter itself
_FENCE = re.compile(
    r"^(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<kind>\S*)[^\n]*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, its text, the line it begins on, the file that it is."""

    kind: str
    code: str
    line: int
    file: str | None


def pages() -> list[Path]:
    """README.md and every page of docs that is kept in git."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    kept = [page for page in found if page.relative_to(ROOT / "docs").parts[0] not in MADE]
    return [ROOT / "README.md", *kept]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in its order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["kind"], m["code"], text[: m.start("code")].count("\n"), m["file"])
        for m in _FENCE.finditer(text)
    ]


def name(page: Path) -> str:
    """The path of a page below the checkout."""
    return page.relative_to(ROOT).as_posix()
