"""How the answer to the question is made: sentences that follow from verdicts.

A sentence names the claim (and part) that it stands on and has a wording for each verdict; or it
names a source. Nothing is worded before it is judged. The sentences are in wording.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .claims import CLAIMS
from .findings import Findings
from .model import Judgement, Verdict

__all__ = ["Question", "Said", "answer"]

Judgements = Mapping[str, Judgement]


@dataclass(frozen=True)
class Said:
    """One sentence. claim: what it stands on, part: of that claim ("" for the whole). held,
    refuted, undecided: its wordings, in which {because} is the judge's reason and others come from
    `values` of the judgement. source: for a sentence that stands on a source alone, held being its
    only wording."""

    held: str
    refuted: str = ""
    undecided: str = ""
    claim: str = ""
    part: str = ""
    source: str = ""
    values: Callable[[Judgement], dict[str, object]] = lambda judgement: {}

    def text(self, judged: Judgements) -> str:
        """The wording for the verdict, with its reference; nothing if the claim was not judged."""
        if self.source:
            return f"{self.held} [{self.source}]"
        if self.claim not in judged:
            return ""
        whole = judged[self.claim]
        part = whole.part(self.part) if self.part else None
        verdict = part.verdict if part else whole.verdict
        row = CLAIMS[self.claim].row
        link = f"([{row}](#claim-{row}))"
        because = part.because.rstrip(".") if part else ""
        if verdict in (None, Verdict.UNDECIDED, Verdict.WITHDRAWN):
            return f"{self.undecided.format(because=_inside_a_sentence(because))} {link}"
        wording = self.held if verdict is Verdict.HELD else self.refuted
        if not wording.startswith("{because}"):
            because = _inside_a_sentence(because)
        return f"{wording.format(because=because, **self.values(whole))} {link}"


def _inside_a_sentence(reason: str) -> str:
    """Without its capital, unless that is a name's (ReLU)."""
    first = reason.split(" ", 1)[0]
    return reason if first[1:] != first[1:].lower() else reason[:1].lower() + reason[1:]


@dataclass(frozen=True)
class Question:
    """A question with its sentences; `numbers` make more from the findings; command: to try it."""

    title: str
    said: tuple[Said, ...]
    numbers: tuple[Callable[[Findings], str], ...] = ()
    command: str = ""


def answer(
    questions: Sequence[Question], judged: Judgements, findings: Findings
) -> list[tuple[str, str, str]]:
    """Each question with its paragraph and its command."""
    made = []
    for question in questions:
        sentences = [said.text(judged) for said in question.said]
        sentences += [number(findings) for number in question.numbers]
        made.append((question.title, " ".join(s for s in sentences if s), question.command))
    return made
