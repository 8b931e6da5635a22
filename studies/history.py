"""The earlier run: its verdicts, and the rules that were changed after it was seen.

Whoever changes a setting or a rule after results writes it down here, and gives up the verdicts
that rest on the change until other seeds have been run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from .claims import CLAIMS
from .findings import Findings
from .model import Judgement

__all__ = ["EARLIER", "SEEN", "WITHDRAWN", "Earlier", "history", "withdraw"]

SEEN = {"quick": range(200, 208)}
"""Scale -> the seeds of the committed results, on which no rule may be tried again."""


@dataclass(frozen=True)
class Earlier:
    """A whole run that is no longer the one on the page. where: its results. verdicts: by claim, as
    its own rules gave them. diverged: in words, what diverged."""

    where: str
    settings: str
    verdicts: Mapping[str, str]
    diverged: str


EARLIER = Earlier(
    where="docs/claims.json as of commit 8126901",
    settings="`anygate claims --quick` with seeds 100 to 107, adding with T = 50",
    verdicts={
        "sigmoid-gates": "undecided",
        "tanh-converges": "undecided",
        "tanh-gradient": "undecided",
        "hard-tanh": "undecided",
        "relu-no-saturation": "refuted",
        "relu-vision": "refuted",
        "leaky-relu": "undecided",
        "good-unit": "refuted",
        "relu-for-tanh": "refuted",
        "second-derivative": "refuted",
        "second-derivative-dies": "held",
        "sigmoid-derivative": "held",
        "chrono-hard": "held",
        "relu-growth": "held",
        "forgetting": "held",
    },
    diverged="ReLU as candidate and output: 1 of 8 runs on Reber (this alone refuted claim 5 "
    "then), 3 of 8 on adding with T = 100, and without clipping 4 of 48 on adding (tanh: 0 of 48); "
    "leaky ReLU 2 of 8 and with a slope of 0.3 1 of 8 on adding; ReLU in all gates 1 of 8 on "
    "adding and 8 of 8 on Reber; exponential gates 8 of 8 on both",
)

CHANGED = (
    "adding went from T = 50 and a rate of 0.04 to T = 30 and 0.03, because tanh took so many of "
    "the epochs that little could be called worse",
    "own rates were chosen from the shared one times 1/3, 1 and 3 on 3 seeds, before from 0.005, "
    "0.02 and the shared one on 2; the digits' shared rate became 0.02",
    "claim 5 no longer counted runs on tasks without a tuned rate: the one diverged run that had "
    "refuted it was on such a task",
    "its grid without clipping went from the rates 0.005, 0.02 and 0.08 to 0.01, 0.03 and 0.1",
    "an effect within the margin refutes claim 8 only where tanh leaves room for worse; without "
    "that rule the earlier run had refuted that a unit must be differentiable",
    "times were taken in 41 rounds, before in 21; and seeds 200 to 207 replaced 100 to 107",
)
"""After the earlier run and before the one on the page (commit a698d16)."""

WITHDRAWN = {
    "relu-no-saturation": "This page said *held*, by a rule that had been changed after the "
    "earlier run, and against data of its own: of ReLU as candidate and output on adding with "
    "T = 100, which the rule left out, 5 of 8 runs diverged although the gradient was clipped; and "
    '"as stable as tanh" stood on no run of 48 diverging in trainings of five epochs, which shows '
    "no equality. The parts below count every run with clipping, and take no absence of "
    "divergences for stability. Since these rules were written with the data known, a verdict "
    "needs seeds that nobody has seen.",
}
"""Claim -> why no verdict stands on the committed results."""


def withdraw(key: str, judgement: Judgement, findings: Findings) -> Judgement:
    """The judgement, without its verdict where that was withdrawn for these results."""
    seen = SEEN.get(findings.scale.name, ())
    seeds = {run.seed for runs in findings.runs.values() for run in runs}
    if key in WITHDRAWN and seeds and seeds <= set(seen):
        return replace(judgement, withdrawn=WITHDRAWN[key])
    return judgement


def history(judged: Mapping[str, Judgement]) -> str:
    """The section of the page on the earlier run: its verdicts beside these, what was changed."""
    rows = [
        f"| {CLAIMS[key].row} | {EARLIER.verdicts[key]} | {judgement.verdict} |"
        for key, judgement in judged.items()
        if EARLIER.verdicts.get(key, judgement.verdict) != judgement.verdict
    ]
    others = [CLAIMS[key].row for key in judged if EARLIER.verdicts.get(key) == judged[key].verdict]
    table = "\n".join(["| claim | the earlier run | this one |", "| --- | --- | --- |", *rows])
    changed = "\n".join(f"- {text};" for text in CHANGED[:-1]) + f"\n- {CHANGED[-1]}."
    return f"""## Earlier runs, and rules that were changed after them

This is not the first complete run. {EARLIER.settings} ({EARLIER.where}), came to other verdicts:

{table}

The same in both: {", ".join(others) or "none"}. What diverged there: {EARLIER.diverged}.

With those results known, this was changed before the run on this page:

{changed}

So the rules of claims 1, 2, 5, 8 and 9 were not fixed before all data were seen, and that a verdict
changed between two runs that differ in this is a reason to doubt both. The margins, and
the family that each claim corrects over, were not changed."""
