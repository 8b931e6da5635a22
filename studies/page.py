"""docs/answer.md, the pages of its evidence and their pictures, the ten lines of the README, and
what `anygate show` quotes: all written at once from the committed results."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from . import answer, pictures
from .costs import Costs, load_costs
from .evidence import claim_page, grid_page, page_name, published_page, runs_page, table
from .grid import PLACES, UNITS
from .publish import PUBLISHED, document
from .results import Results, load
from .story import Story

__all__ = ["BEFORE_EVIDENCE", "ROOT", "answer_page", "files", "write"]

ROOT = Path(__file__).parent.parent
BEFORE_EVIDENCE = 1500
"""Words of the answer's page before its evidence."""
_BEGIN, _END = "<!-- answer: begin -->", "<!-- answer: end -->"


def files(
    results: Results,
    costs: Costs | None,
    readme: str,
    draw: Callable[[Any], str] = pictures.svg,
) -> Iterator[tuple[str, str]]:
    """Every generated file: its path in the checkout and its text. `readme` is the README as it
    is, whose ten lines are exchanged; `draw` makes the text of a picture of its chart."""
    story = Story(results, costs)
    charts = {picture.file: picture.chart(story) for picture in pictures.PICTURES}
    drawn = {name: draw(chart) for name, chart in charts.items() if chart is not None}
    yield from ((f"docs/images/{name}", text) for name, text in drawn.items())
    yield "docs/answer.md", answer_page(story, set(drawn))
    yield "docs/evidence/grid.md", grid_page(story)
    yield "docs/evidence/runs.md", runs_page(story)
    yield "docs/evidence/published.md", published_page(story)
    for judged in story.claims:
        chart = pictures.claim_picture(judged)
        image = None if chart is None else f"evidence_{answer.slug(judged.claim)}.svg"
        if image is not None:
            yield f"docs/images/{image}", draw(chart)
        text = claim_page(judged, image and f"../images/{image}")
        yield f"docs/evidence/{page_name(judged)}", text
    yield "README.md", readme_with(readme, story)
    quoted = json.dumps(document(story), indent=1, ensure_ascii=False)
    yield PUBLISHED.relative_to(ROOT).as_posix(), quoted + "\n"


def write(root: Path = ROOT) -> list[str]:
    """Write every file that has changed, and remove pages that are no longer made; returns the
    paths."""
    found = dict(files(load(), load_costs(), (root / "README.md").read_text(encoding="utf-8")))
    changed = []
    for name, text in found.items():
        path = root / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(name)
    for name in stale(root, set(found)):
        (root / name).unlink()
        changed.append(f"{name} (removed)")
    return changed


def stale(root: Path, made: set[str]) -> list[str]:
    """Generated files that are there and would not be made."""
    there = [
        *(root / "docs" / "evidence").glob("*.md"),
        *(root / "docs" / "images").glob("answer_*.svg"),
        *(root / "docs" / "images").glob("evidence_*.svg"),
    ]
    names = sorted(path.relative_to(root).as_posix() for path in there)
    return [name for name in names if name not in made]


def answer_page(story: Story, drawn: set[str]) -> str:
    """The answer, the grid, the pictures, what to change; then the evidence, claim by claim."""
    blocks = [
        "# The answer",
        f"*{answer.QUESTION}*",
        answer.top(story),
        story.run_line() + " [All runs, superseded ones too](evidence/runs.md).",
        "## Slot and activation",
        _grid(story),
        "Each cell leads to its data. *Worse*: more epochs than the usual LSTM until the task's "
        "level, beyond chance; *same*: within a quarter of its epochs; *unstable*: it diverges "
        "more often. What is not resolved is no evidence of equality.",
    ]
    for picture in pictures.PICTURES:
        if picture.file in drawn:
            blocks += [
                f"## {picture.title}",
                picture.sentence,
                f"![{picture.title}](images/{picture.file})",
            ]
    blocks += [
        "## What to change with it",
        table(list(answer.changes(story))),
        "Rates: which of a third, one and three times the task's needed the fewest epochs, on how "
        "many tasks. Divergences are counted over the map above.",
        "## Reasons that no experiment shows",
        *answer.practice(),
        "## The evidence, claim by claim",
        "What is said, word for word, and the verdict of each part: *derived* follows from a "
        "formula; *supported in n of m tasks*; *counterexample found*; *not resolved*. No part "
        "decides on the whole sentence. [Published figures beside ours](evidence/published.md).",
        *(answer.card(judged) for judged in story.claims),
        "```{toctree}\n:hidden:\n:glob:\n\nevidence/*\n```",
    ]
    return "\n\n".join(blocks) + "\n"


def _grid(story: Story) -> str:
    rows: list[tuple[str, ...]] = [("", *UNITS.values())]
    for place, where in PLACES.items():
        cells = [story.grid[place, unit] for unit in UNITS]
        rows.append((where, *(f"[{c.text}](evidence/grid.md#{c.anchor})" for c in cells)))
    return table(rows)


def readme_with(readme: str, story: Story) -> str:
    """The README with the ten lines of these results."""
    lines = "\n".join(f"{k}. {line}" for k, line in enumerate(answer.lines(story), 1))
    found, count = re.subn(
        f"{_BEGIN}.*?{_END}", lambda _: f"{_BEGIN}\n{lines}\n{_END}", readme, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f"README.md must hold {_BEGIN} and {_END} once")
    return found
