"""The pages of the evidence: one a claim, one of the grid, one of all runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from .answer import label, slug
from .effects import Comparison, Effect, Outcome, Over, judged_family
from .experiments import STAGES
from .grid import PLACES, UNITS, Cell
from .history import CALIBRATION, STUDIES, runs_of
from .judge import JudgedClaim, JudgedPart
from .literature import PUBLISHED
from .results import COMMITTED
from .rules import AMENDMENTS
from .setups import SETUPS
from .story import Story, setup_names

__all__ = ["claim_page", "grid_page", "published_page", "runs_page", "table"]


def table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row holds the titles."""
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# ---- a claim ------------------------------------------------------------------------------------


def claim_page(judged: JudgedClaim, picture: str | None) -> str:
    """Picture, quotation, verdicts, then every number."""
    claim = judged.claim
    blocks = [f"# {claim.title}"]
    if picture:
        blocks += [
            f"![The effects of each part, by task]({picture})",
            "Orange: worse was shown; blue: better; green: the same within the margin; grey: not "
            "judged, or not resolved. Intervals hold 95 % each, not corrected; verdicts are.",
        ]
    if claim.quotation:
        blocks.append(f"> {claim.quotation}")
        blocks.append(f"Said by {claim.said_by}. Said of {claim.of}.")
    else:
        blocks.append(f"{claim.said_by[0].upper()}{claim.said_by[1:]}, of {claim.of}.")
    if claim.note:
        blocks.append(claim.note)
    rows = [("part", "whose", "verdict")]
    rows += [(p.part.text, "said" if p.part.said else "our reading", p.words) for p in judged.parts]
    blocks += [f"Measure: {claim.measure}.", table(rows)]
    blocks += [f"*{p.part.text}*: {p.check.says}" for p in judged.parts if p.check is not None]
    for part in judged.parts:
        blocks += _part(part)
    blocks.append("[The answer](../answer.md) · [all runs](runs.md)")
    return "\n\n".join(blocks) + "\n"


def _part(part: JudgedPart) -> Iterator[str]:
    effects = [e for e in part.effects if e is not None]
    if effects:
        yield f"## {label(part.part.key)}"
        yield effects_table(effects)
        if part.over is not None:
            yield _over(part.over)


def effects_table(effects: Iterable[Effect]) -> str:
    """Every number of some effects, what diverged among them."""
    rows = [
        (
            "task",
            "epochs, ratio",
            "n",
            "p",
            "p, same",
            "outcome",
            "reached",
            "diverged",
            "at the end",
        )
    ]
    rows += [
        (
            e.comparison.task,
            f"{e.ratio:.2f} ({e.low:.2f} to {e.high:.2f})",
            str(e.n),
            _p(e.p),
            _p(e.p_same),
            "not judged yet" if e.outcome is Outcome.WAITING else str(e.outcome),
            f"{e.reached.count} of {e.reached.n}, usual {e.reference_reached.count}"
            f" of {e.reference_reached.n}",
            f"{e.diverged}, usual {e.reference_diverged}",
            f"{e.finals[0]:.3g}, usual {e.finals[1]:.3g}",
        )
        for e in effects
    ]
    return table(rows)


def _p(p: float | None) -> str:
    return "–" if p is None else f"{p:.2g}"


def _over(over: Over) -> str:
    return (
        f"Over these {over.tasks} tasks {over.ratio:.2f} ({over.low:.2f} to {over.high:.2f}, "
        f"Hartung and Knapp), tau {over.tau:.2f} in log2; a new task is expected between "
        f"{over.new_low:.2f} and {over.new_high:.2f}."
    )


# ---- the grid -----------------------------------------------------------------------------------


def grid_page(story: Story) -> str:
    """The numbers behind every cell of the grid."""
    blocks = [
        "# The grid: slot and activation",
        f"Every cell is compared with the usual LSTM on {setup_names()}. A word needs what its "
        "claim's correction leaves: *worse* and *better* stand where one task at least shows it "
        "and none the opposite. *Unstable*: over all settings that were run, more runs diverged "
        "than of the usual function (exact 95 % intervals that do not meet).",
    ]
    for place, where in PLACES.items():
        blocks.append(f"## {where[0].upper()}{where[1:]}")
        for unit in UNITS:
            blocks += _cell(story.grid[place, unit])
    blocks.append("[The answer](../answer.md)")
    return "\n\n".join(blocks) + "\n"


def _cell(cell: Cell) -> Iterator[str]:
    yield f'<a id="{cell.anchor}"></a>'
    yield f"### {UNITS[cell.unit]} {PLACES[cell.place]}"
    yield f"{cell.text[0].upper()}{cell.text[1:]}."
    if cell.effects:
        yield effects_table(cell.effects)
    if cell.diverged is not None and cell.reference is not None:
        yield (
            f"Diverged at any setting: {cell.diverged}; the usual function at the same settings: "
            f"{cell.reference}."
        )


# ---- published figures --------------------------------------------------------------------------


def published_page(story: Story) -> str:
    """Figures that others found, and the arms here that come nearest."""
    read = {
        "source": "read in the source",
        "quoted": "read in works that quote it",
        "abstract": "read in its abstract",
    }
    blocks = [
        "# Published figures, and ours beside them",
        "A difference in setting is named with each: none of these is a replication.",
    ]
    for each in PUBLISHED:
        blocks += [
            f"## {each.source}",
            f"Found there ({read[each.read]}): {each.found}.",
            f"Differs: {each.differs}.",
        ]
        rows = [("ours", "against", "epochs, ratio", "n", "diverged", "other diverged")]
        for arm, reference in each.ours:
            comparison = Comparison(arm.setup, arm.name, (arm,), (reference,))
            (effect,) = judged_family(story.results, [comparison])
            if effect is not None and arm != reference:
                rows.append(
                    (
                        f"`{arm.name}`",
                        f"`{reference.name}`",
                        f"{effect.ratio:.2f} ({effect.low:.2f} to {effect.high:.2f})",
                        str(effect.n),
                        str(effect.diverged),
                        str(effect.reference_diverged),
                    )
                )
        blocks.append(table(rows) if len(rows) > 1 else "Ours: not run yet.")
    blocks.append("[The answer](../answer.md)")
    return "\n\n".join(blocks) + "\n"


# ---- all runs -----------------------------------------------------------------------------------


def runs_page(story: Story) -> str:
    """The state of the confirming run, the way it is made, and every run before it."""
    results = story.results
    stages = [("stage", "what", "arms", "seeds complete", "runs", "diverged")]
    for stage in STAGES:
        bad, runs = results.diverged(stage.arms)
        seeds = len(results.common(*stage.arms))
        title, arms = stage.title, str(len(stage.arms))
        stages.append((stage.name, title, arms, str(seeds), str(runs), str(bad)))
    stretches = [("stretch", "date", "machine", "rules", "runs", "median time of one")]
    for stretch in results.stretches:
        number = stretch["number"]
        made = [
            run
            for found in results.held.runs.values()
            for run in found.values()
            if run.stretch == number
        ]
        seconds = f"{median(run.seconds for run in made):.1f} s" if made else "–"
        machine = stretch["machine"]
        stretches.append(
            (
                str(number),
                stretch["date"],
                f"{machine['cores']} cores of {machine['cpu']}, torch {machine['torch']}, "
                f"anygate {machine['anygate']}, {stretch['device']}",
                f"`{stretch['rules'][:7]}`",
                str(len(made)),
                seconds,
            )
        )
    tasks = [("task", "units", "epochs", "rate", "level", "calibration")]
    for setup in SETUPS.values():
        chosen = setup.settings
        tasks.append(
            (
                setup.title,
                str(chosen.hidden_size),
                str(chosen.epochs),
                f"{chosen.learning_rate:g}",
                f"{setup.level:.3g}",
                setup.why,
            )
        )
    blocks = [
        "# All runs",
        story.run_line(),
        "## The confirming run",
        table(stages),
        table(stretches) if len(stretches) > 1 else "It has not begun.",
        "The rules (tasks, arms, claims, judges) are frozen by the commit: `python -m studies "
        "run` refuses to go on under others, but for the amendments below. The runs: "
        "`studies/results/confirming.jsonl`.",
        table(
            (
                ("amendment of the rules", "what was known then"),
                *((each.reason, each.known) for each in AMENDMENTS),
            )
        ),
        "## Tasks",
        table(tasks),
        CALIBRATION[0].upper() + CALIBRATION[1:],
        "## How often the intervals hold the truth",
        "Simulated (`python -m studies.coverage`), nominal 95 %, when some runs fail. The measure "
        "here, epochs with failures counted as all of them, keeps it; a final error would not.",
        _coverage(),
        "## Superseded runs",
        "None of these counts for a verdict. Every arm of them lies in "
        "`studies/results/earlier.jsonl`.",
    ]
    for study in STUDIES:
        blocks.append(f"### {study.title}")
        blocks.append(f"{study.where}. Diverged: {runs_of(study.key)} runs.")
        if study.verdicts:
            words = [("claim", "its verdict then"), *study.verdicts.items()]
            blocks.append(table(words))
        if study.after:
            blocks.append("Changed with its results known:")
            blocks.append("\n".join(f"- {change};" for change in study.after))
    blocks.append("[The answer](../answer.md)")
    return "\n\n".join(blocks) + "\n"


def _coverage() -> str:
    held = json.loads((COMMITTED / "coverage.json").read_text(encoding="utf-8"))
    rows = [("measure", "runs that fail", "seeds", "covered")]
    rows += [
        (row["measure"], f"{row['failing']:.0%}", str(row["seeds"]), f"{row['coverage']:.3f}")
        for row in held["rows"]
    ]
    return table(rows)


def page_name(judged: JudgedClaim) -> str:
    """The file of a claim's page."""
    return f"{slug(judged.claim)}.md"
