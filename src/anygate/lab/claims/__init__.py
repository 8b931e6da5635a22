"""What is said about activations in LSTMs, as claims that experiments can refute.

    planned = plan(CLAIMS.values(), QUICK)
    found = run(planned, directory, command="...")
    write_page(found, directory)

A claim is data (`Claim`): a sentence, who says it, the experiments it needs, the rule that holds or
refutes it, and a judge that applies the rule to `Findings`.
"""

from .claims import CLAIMS
from .experiments import EXPERIMENTS
from .findings import Findings, load
from .grid import FULL, QUICK, SCALES, Arm, Scale
from .model import Claim, Effect, Judgement, Part, Verdict
from .page import judge_all, page, summary, verdict_table, write_page
from .runner import Plan, plan, run
from .sources import SOURCES

__all__ = [
    "CLAIMS",
    "EXPERIMENTS",
    "FULL",
    "QUICK",
    "SCALES",
    "SOURCES",
    "Arm",
    "Claim",
    "Effect",
    "Findings",
    "Judgement",
    "Part",
    "Plan",
    "Scale",
    "Verdict",
    "judge_all",
    "load",
    "page",
    "plan",
    "run",
    "summary",
    "verdict_table",
    "write_page",
]
