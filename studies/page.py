"""docs/claims.md from findings: verdicts, evidence, published figures, the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from .answer import answer
from .claims import CLAIMS
from .findings import Findings
from .history import history, withdraw
from .lab import smallest_reachable_p, write_text
from .model import Claim, Effect, Judgement, Part, Verdict
from .pictures import PICTURES, draw
from .published import Table, tables
from .sources import ALSO_CITED, SOURCES

__all__ = ["judge_all", "page", "summary", "verdict_table", "write_page"]

_SIGNS = {
    Verdict.HELD: "held",
    Verdict.REFUTED: "**refuted**",
    Verdict.UNDECIDED: "undecided",
    Verdict.WITHDRAWN: "**withdrawn**",
}


def judge_all(findings: Findings) -> dict[str, Judgement]:
    """The judgement of every claim whose experiments were asked for."""
    asked = findings.about.get("claims", list(CLAIMS))
    return {
        key: withdraw(key, CLAIMS[key].judge(findings), findings) for key in CLAIMS if key in asked
    }


def summary(findings: Findings) -> dict[str, Any]:
    """Verdicts and effects, for --json."""
    judged = judge_all(findings)
    return {
        "schema": 1,
        "scale": findings.scale.name,
        "claims": [
            {
                "claim": key,
                "row": CLAIMS[key].row,
                "sentence": CLAIMS[key].sentence,
                "verdict": judgement.verdict,
                "withdrawn": judgement.withdrawn,
                "parts": [_part_dict(part) for part in judgement.parts],
            }
            for key, judgement in judged.items()
        ],
    }


def _part_dict(part: Part) -> dict[str, Any]:
    effects = [
        {f.name: _plain(getattr(e, f.name)) for f in fields(e) if f.name != "format"}
        for e in part.effects
    ]
    return {"name": part.name, "verdict": part.verdict, "because": part.because, "effects": effects}


def _plain(value: Any) -> Any:
    """JSON has no infinity."""
    return (
        str(value) if isinstance(value, float) and value in (float("inf"), -float("inf")) else value
    )


def verdict_table(findings: Findings) -> list[tuple[str, str, str]]:
    """Row, claim key and verdict, for the terminal."""
    return [(CLAIMS[k].row, k, str(j.verdict)) for k, j in judge_all(findings).items()]


def write_page(findings: Findings, directory: Path) -> Path:
    """Write claims.md and its pictures. Raises WriteError if they cannot be written."""
    draw(findings, directory / "images")
    return write_text(directory / "claims.md", page(findings))


# ---- the page --------------------------------------------------------------------------------


def page(findings: Findings, images: str = "images") -> str:
    """The whole page as Markdown. images: the folder of the pictures, as links name it."""
    judged = judge_all(findings)
    blocks = [
        _head(findings),
        _cell(),
        history(judged),
        _verdicts(judged),
        *(_claim(CLAIMS[key], judgement) for key, judgement in judged.items()),
        _diverged(findings),
        _pictures(findings, images),
        *(_published(table) for table in tables(findings)),
        _methods(findings, len(judged)),
        _answer(judged, findings),
        _sources(judged),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _head(findings: Findings) -> str:
    about = findings.about
    machine = about.get("machine", {})
    seconds = about.get("seconds")
    took = f"in {seconds / 60:.1f} minutes" if seconds else "in several goes"
    quick = (
        "This is the quick run: small networks and short sequences. It can refute a sentence that "
        "is meant to hold always; what it leaves undecided, and what needs long sequences, is for "
        "`python -m studies --full`, which takes a night."
        if findings.scale.name == "quick"
        else "This is the full run."
    )
    when = f"on {about['date']} with commit {about['commit']}, " if about.get("commit") else ""
    return f"""# What is said about activations in LSTMs, tested

Sentences that are repeated everywhere, each turned into an experiment that could refute it. A claim
is *held* or *refuted* by a rule, and *undecided* if neither side of the rule was met: that is no
evidence for the opposite. A verdict that was given and does not stand is *withdrawn*. Not all rules
were written before all data: read first
[what was changed after an earlier run](#earlier-runs-and-rules-that-were-changed-after-them).
[The answer](#the-answer) to the question that the sentences come from stands at the end.

`{about.get("command", "python -m studies")}` made the numbers, {when}on
{machine.get("cores", "?")} cores of {machine.get("cpu", "an unknown processor")}
(torch {machine.get("torch", "?")}, anygate {machine.get("anygate", "?")}), {took};
`python -m studies --from` made this page of the results beside it. {quick}"""


def _cell() -> str:
    return """## The cell in five lines

```text
i = input_gate(W_i x + R_i h + b_i)       what of the candidate is written
f = forget_gate(W_f x + R_f h + b_f)      what of the memory is kept
g = candidate(W_g x + R_g h + b_g)        what could be written
o = output_gate(W_o x + R_o h + b_o)      what of the memory is shown
c' = f*c + i*g                            h' = o*cell_output(c')
```

The question's sigmoid stands in i, f and o, its tanh in g ("input") and in cell_output ("output").
Both can be changed one at a time: `anygate compare tanh relu --slot candidate --task adding` does,
and `anygate show tanh` says what is known of a function before anything runs."""


def _verdicts(judged: Mapping[str, Judgement]) -> str:
    rows = [("", "claim", "verdict", "its parts")]
    for key, judgement in judged.items():
        claim = CLAIMS[key]
        parts = "; ".join(f"{p.name}: {p.verdict}" for p in judgement.parts if p.verdict)
        rows.append(
            (f"[{claim.row}](#claim-{claim.row})", claim.sentence, _SIGNS[judgement.verdict], parts)
        )
    text = (
        "1 to 10 are claims of the question; a to e were derived on paper for this project. A "
        "claim is refuted if one of its parts is, and held if all of them are."
    )
    return f"## Verdicts\n\n{text}\n\n{_table(rows)}"


def _claim(claim: Claim, judgement: Judgement) -> str:
    said = "; ".join(claim.said_by)
    what = "; ".join(experiment.title for experiment in claim.experiments)
    rules = [
        ("who says it", said),
        ("experiments", what),
        ("measure", claim.measure),
        ("held if", claim.held_if),
        ("refuted if", claim.refuted_if),
        ("margin", claim.margin),
        ("tests corrected together", claim.family),
    ]
    lines = [f"- {name}: {text}" for name, text in rules if text]
    parts = "\n\n".join(_part(part) for part in judgement.parts)
    title = f'<a id="claim-{claim.row}"></a>\n\n### {claim.row}. {claim.sentence}'
    verdict = f"Verdict: {_SIGNS[judgement.verdict]}. {judgement.withdrawn}".strip()
    return "\n\n".join([title, verdict, "\n".join(lines), parts])


def _part(part: Part) -> str:
    sign = f": {_SIGNS[part.verdict]}" if part.verdict else " (not judged)"
    text = f"*{part.name}*{sign}. {part.because}"
    if not part.effects:
        return text
    rows = [("", "value", "interval", "n", "diverged", "")]
    rows += [
        (e.name, _value(e), _interval(e), "" if e.n is None else str(e.n), e.diverged, e.note)
        for e in part.effects
    ]
    used = [k for k in range(6) if k < 2 or any(row[k] for row in rows[1:])]
    return f"{text}\n\n{_table([tuple(row[k] for k in used) for row in rows])}"


def _value(e: Effect) -> str:
    return f"{format(e.value, e.format)} {e.unit}".strip()


def _interval(e: Effect) -> str:
    if e.low is None or e.high is None:
        return ""
    ends = f"{format(e.low, e.format)} to {format(e.high, e.format)}"
    return f"{ends} ({e.confidence:.0%})" if e.confidence is not None else ends


def _diverged(findings: Findings) -> str:
    """Every arm of which a run left the finite numbers."""
    runs = sum(len(found) for found in findings.runs.values())
    if not runs:
        return ""
    found = findings.all_diverged()
    bad = sum(count for count, _ in found.values())
    rows = [("task/slot=activation", "diverged")]
    rows += [(f"`{name}`", f"{count} of {of}") for name, (count, of) in found.items()]
    text = (
        f"Of {runs} runs {bad} diverged. They count as runs that never solve the task, or that "
        "guess; every setting of which one diverged:"
    )
    if not found:
        return f"## Runs that diverged\n\nNone of {runs}."
    return f"## Runs that diverged\n\n{text}\n\n{_table(rows)}"


def _pictures(findings: Findings, images: str) -> str:
    shown = [p for p in PICTURES if p.rows(findings)]
    if not shown:
        return ""
    blocks = [f"![{p.title}]({images}/{p.file})\n\n{p.title}. {p.sentence}" for p in shown]
    return "## Pictures\n\n" + "\n\n".join(blocks)


def _published(table: Table) -> str:
    return f"## {table.title}\n\n{table.before}\n\n{_table(table.rows)}\n\n{table.after}"


def _methods(findings: Findings, claims: int) -> str:
    scale = findings.scale
    rows = [
        (
            "task",
            "hidden units",
            "epochs",
            "batch",
            "shared rate",
            "measure",
            "margin",
            "counts as solved",
        )
    ]
    for setup in scale.setups.values():
        task = setup.make()
        s = task.settings
        measure = "epochs until solved" if setup.measure == "time" else "final error"
        rows.append(
            (
                task.title,
                str(s.hidden_size),
                str(s.epochs),
                str(s.batch_size),
                f"{s.learning_rate:g}",
                measure,
                f"{setup.margin:g}",
                f"{task.metric.name} {task.solved:.3g}",
            )
        )
    tuned = ", ".join(scale.setups[t].make().title for t in scale.tuned)
    edges = findings.about.get("edges", [])
    edge = (
        f" For {len(edges)} of them the best was an end of the grid, so a better one may lie "
        f"beyond: {', '.join(f'`{e}`' for e in edges)}."
        if edges
        else ""
    )
    least = smallest_reachable_p(scale.seeds, 1)
    return f"""## How it was measured

{_table(rows)}

Adam, gradients clipped to a norm of 1 where nothing else is said, torch's initial weights with a
forget bias of 1. {scale.seeds} seeds for every comparison, {scale.survey} for a function that only
the survey of claim 8 uses; tasks, sizes and rates were calibrated on other seeds. A seed decides
initial weights, data and their order, so that two arms with the same seed are a pair. A run that
diverges counts as one that never solves the task, or that guesses; none is dropped. Own learning
rates were chosen from the shared one times {", ".join(f"{f:.2g}" for f in scale.factors)}, by the
final metric on {scale.tuning} seeds of their own, on: {tuned}. Elsewhere an arm's own rate is the
shared one.{edge}

Intervals and p values of paired differences are exact sign-flip tests, as everywhere in
`anygate compare`; with {scale.seeds} seeds the smallest two-sided p value is {least:.3f}. Holm's
correction is made within the family that a claim names. The error rate of 5 % is that of each
family: among {claims} claims one wrong verdict would be no surprise. "Not worse" and
"equivalent" are one-sided tests against the margin, which was the same in the earlier run.
They take differences to be spread evenly around their mean; and they count only where the
reference leaves room, so that an arm that never solves the task would fail them.

Not covered: layer normalisation (this library has none), several layers, language, speech,
sequences of thousands of steps."""


def _answer(judged: Mapping[str, Judgement], findings: Findings) -> str:
    blocks = [
        f"### {title}\n\n{text}\n\nTry it: `{command}`"
        for title, text, command in answer(judged, findings)
    ]
    setups = findings.scale.setups
    longest = max(setup.make().steps for setup in setups.values())
    sizes = sorted({setup.make().settings.hidden_size for setup in setups.values()})
    limits = (
        f"All of this was measured on sequences of at most {longest} steps with "
        f"{' or '.join(map(str, sizes))} hidden units. A number in brackets is the claim "
        "that a sentence stands on; a name is its source."
    )
    return "## The answer\n\n" + limits + "\n\n" + "\n\n".join(blocks)


def _sources(judged: Mapping[str, Judgement]) -> str:
    said = dict.fromkeys(source for name in judged for source in CLAIMS[name].said_by)
    known = [source for source in SOURCES if source in said or source in ALSO_CITED]
    others = [source for source in said if source not in SOURCES]
    return "## Sources\n\n" + "\n".join(f"- {source}" for source in [*known, *others])


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head, *body = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]
    return "\n".join(lines)
