"""The answer to the question, in 120 words, in ten lines, by claim and by activation. All of it is
made of results (story.py) and of what follows from formulas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .arms import BOTH
from .claims import Claim
from .grid import PLACES
from .judge import JudgedClaim, JudgedPart, Verdict
from .story import Story, forgetting, name

__all__ = [
    "CARD_WORDS",
    "QUESTION",
    "TOP_WORDS",
    "Unit",
    "card",
    "changes",
    "lines",
    "practice",
    "top",
    "unit",
]

QUESTION = (
    "Why sigmoid in an LSTM's gates, and tanh at its input and output? Is it just a nonlinearity? "
    "Can I change both, to ReLU, hard tanh, leaky ReLU? What are the advantages and disadvantages "
    "before I change?"
)
TOP_WORDS = 120
CARD_WORDS = 80
TABLE = ("relu", "leaky_relu", "hard_tanh", "sigmoid")


def top(story: Story) -> str:
    """The answer in at most 120 words."""
    return "\n".join(
        (
            "- **Gates.** A gate multiplies: 0 stops, 1 passes; sigmoid has that range. Others, "
            f"by tasks: tanh {story.brief('gate_activation', 'tanh')}, ReLU "
            f"{story.brief('gate_activation', 'relu')}.",
            "- **Input and output.** tanh writes both signs and bounds what the memory shows. Left "
            f"out, times the epochs: {story.factors('candidate')}{story.so_far}.",
            "- **Just a nonlinearity?** No: five places, five jobs; along the memory a gradient "
            "meets forget gates only.",
            f"- **Change both?** Yes. ReLU: {story.brief(BOTH, 'relu')}; hard tanh: "
            f"{story.brief(BOTH, 'hard_tanh')}; leaky ReLU: {story.brief(BOTH, 'leaky_relu')}.",
            f"- **The risk.** Diverged: {story.risk()}. Only elsewhere a fused kernel is lost.",
        )
    )


def lines(story: Story) -> list[str]:
    """The answer in ten lines."""
    bias, more = forgetting(1), forgetting(5)
    return [
        "A gate multiplies: at 0 nothing passes, at 1 everything. Sigmoid gives that range, and so "
        f"does hard sigmoid ({story.outcome('gate_activation', 'hard_sigmoid')}). Of others in all "
        f"gates tanh was {story.outcome('gate_activation', 'tanh')}, ReLU "
        f"{story.outcome('gate_activation', 'relu')}. {story.scope()}",
        "It is not just a nonlinearity: five functions stand in five places and do different jobs.",
        "Along the memory a gradient is multiplied by the forget gate's value, and by no "
        f"activation's slope: after 100 steps {bias} of it is left at a forget bias of 1, {more} "
        "at 5.",
        "tanh is a sigmoid that is centred, steeper and wider. Left out at the input, times the "
        f"epochs: {story.factors('candidate')}{story.so_far}.",
        f"Both can be changed. ReLU in both places: {story.outcome(BOTH, 'relu')}. It never "
        "saturates above zero, has no slope below, and nothing bounds what it writes.",
        f"So runs with ReLU can diverge; over a map of rates, biases and clipping: "
        f"{story.unstable()}.",
        f"Hard tanh, tanh with corners: {story.outcome(BOTH, 'hard_tanh')}; "
        f"{story.diverged('hard_tanh')}. Its slope is exactly zero beyond -1 and 1.",
        f"Leaky ReLU lets an error through below zero: {story.outcome(BOTH, 'leaky_relu')}; "
        f"{story.diverged('leaky_relu')}.",
        "With the activation try other learning rates: a claim on activations is a claim on rates. "
        f"Diverged with ReLU: {story.clipping('relu')}.",
        "Elsewhere leaving tanh costs the fused kernel; here every formula has one. "
        f"A training step with ReLU over one with tanh: {story.cost('relu')}.",
    ]


# ---- what to change with it ---------------------------------------------------------------------

_ALWAYS = {
    "relu": "no identity matrix with a forget bias above 1.1: the state would grow by itself",
    "leaky_relu": "as for ReLU above zero",
    "hard_tanh": "small weights: no unit should start beyond 1, where no slope is",
    "sigmoid": "a bias, or the next layer, must take the mean of 1/2 away",
}


def changes(story: Story) -> Iterator[tuple[str, ...]]:
    """A row for each activation in both places: rate, clipping, forget bias, initial weights."""
    yield (
        "in both places",
        "best rate, by tasks",
        "diverged, by clipping",
        "diverged, by forget bias",
        "start",
    )
    for unit in TABLE:
        yield (
            f"[{name(unit)}](activations/{unit}.md)",
            story.best_rates(unit),
            story.clipping(unit),
            story.biases(unit),
            _ALWAYS[unit],
        )


def practice() -> Iterator[str]:
    """The reasons that no experiment shows."""
    yield (
        "**Fused kernels.** cuDNN and oneDNN know an LSTM with sigmoid and tanh alone, and Keras "
        "takes its fast path for these two only. Whoever leaves them falls back to a loop. "
        "anygate compiles any formula into the same kernel, so here this reason is gone."
    )
    yield (
        "**History.** The LSTM of 1997 had gates within 0 and 1, an input within -2 and 2, an "
        "output within -1 and 1, and no forget gate. Two of its experiments ran with the identity "
        "as output: the choice was never a law."
    )
    yield (
        "**Small numbers.** Ranges of 0 to 1 and -1 to 1 fit fixed-point hardware. ReLU's range "
        "must be found on data, and a memory that grows leaves it."
    )


# ---- cards --------------------------------------------------------------------------------------

_ORDER = (
    Verdict.DERIVED,
    Verdict.DERIVED_NOT,
    Verdict.SUPPORTED,
    Verdict.COUNTEREXAMPLE,
    Verdict.OPEN,
    Verdict.NOTHING,
    Verdict.WAITING,
)


def card(judged: JudgedClaim) -> str:
    """A claim in at most 80 words: what was said, and the verdict of each part, by its text or,
    where that is too long, by its short name."""
    full = _card(judged, full=True)
    return full if len(full.split()) <= CARD_WORDS else _card(judged, full=False)


def _card(judged: JudgedClaim, *, full: bool) -> str:
    claim = judged.claim
    words = [f"**[{claim.title}](evidence/{slug(claim)}.md)**"]
    if claim.quotation:
        words.append(f"“{_cut(claim.quotation, 22)}”")
    for verdict in _ORDER:
        parts = [p for p in judged.parts if p.verdict is verdict]
        if parts:
            words.append(f"*{verdict}*: {_parts(parts, full)}.")
    return " ".join(words)


def slug(claim: Claim) -> str:
    """The name of its page."""
    return claim.key.replace(" ", "-")


def _parts(parts: list[JudgedPart], full: bool) -> str:
    shown = [
        (p.part.text if full else label(p.part.key)) + _counts(p)
        for p in (parts if full else parts[:6])
    ]
    more = len(parts) - len(shown)
    return ("; " if full else ", ").join(shown) + (f" and {more} more" if more else "")


_LABELS = {
    "NFG": "no forget gate",
    "NIG": "no input gate",
    "NOG": "no output gate",
    "NIAF": "no input activation",
    "NOAF": "no output activation",
    "CIFG": "coupled gates",
}


def label(key: str) -> str:
    """The key of a part as a reader takes it."""
    return _LABELS.get(key, key.replace("cell_output", "output").replace(BOTH, "both"))


def _counts(part: JudgedPart) -> str:
    if part.verdict is Verdict.SUPPORTED and part.effects:
        return f" ({len(part.supporting)} of {_telling(part)})"
    if part.verdict is Verdict.COUNTEREXAMPLE and part.effects:
        return f" ({len(part.contrary)} against, {len(part.supporting)} for)"
    return ""


def _telling(part: JudgedPart) -> int:
    return sum(e is not None and e.outcome.value != "says nothing" for e in part.effects)


def _cut(text: str, words: int) -> str:
    found = text.split()
    return " ".join(found[:words]) + (" …" if len(found) > words else "")


# ---- an activation ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """The text on the page of an activation: the advantages that are claimed, with verdicts;
    what speaks against it; when to use it, and where."""

    claimed: tuple[str, ...]
    against: tuple[str, ...]
    use: tuple[str, ...]


_SAID = {  # activation -> (what is said, claim, part)
    "sigmoid": (
        ("all the fundamental properties of a good activation function", None, None),
        ("it can either let no flow or complete flow of information", "gates", "range"),
        ("sigmoid'(z) = -exp(-z) / 1 + exp(-z)^2", "sigmoid derivative", "printed"),
    ),
    "tanh": (
        ("Often found to converge faster in practice", "tanh converges", f"sigmoid {BOTH}"),
        ("Gradient computation is less expensive", "tanh gradient", "alone"),
        ("a function whose second derivative can sustain", "second derivative", "dies first"),
    ),
    "hard_tanh": (
        ("Computationally cheaper than Tanh", "hard tanh", "alone"),
        ("Saturate for magnitudes of z greater than 1", "hard tanh", "saturates"),
    ),
    "relu": (
        ("Does not saturate even for large values of z", "relu saturates", "slope"),
        ("Found much success in computer vision applications", "relu vision", f"rows {BOTH}"),
        ("you can use ReLU in place of the tanh function", "relu for tanh", f"relu {BOTH}"),
    ),
    "leaky_relu": (("Allows propagation of error for non-positive z", "leaky relu", "slope"),),
}
_AGAINST = {
    "sigmoid": "Off-centre: as candidate it can only add to the memory, which then shrinks by "
    "forgetting alone. Its slope is at most 1/4: exp(-z) / (1 + exp(-z))^2, not as printed above.",
    "tanh": "It saturates on both sides, and what it writes in one step is at most 1: counting far "
    "needs many steps.",
    "hard_tanh": "Beyond -1 and 1 its slope is exactly zero: a unit there learns nothing from that "
    "step.",
    "relu": "Nothing bounds what it writes, so the memory can grow until training diverges. Below "
    "zero value and slope are zero, and as candidate it only adds.",
    "leaky_relu": "It is as unbounded as ReLU.",
}
_USE = {
    "sigmoid": "Its places are the three gates.",
    "tanh": "Its places are candidate and cell output; keep it unless you have a reason and a "
    "comparison.",
    "hard_tanh": "Try it where tanh's range is wanted and every operation counts.",
    "relu": "Try it on short sequences and with several learning rates, and watch the largest |c| "
    "(anygate.record).",
    "leaky_relu": "Try it where ReLU's units die, with the same care.",
}
QUESTIONED = tuple(_SAID)


def unit(story: Story, activation: str) -> Unit:
    """One of the five of the question."""
    claimed = []
    for quotation, claim, part in _SAID[activation]:
        verdict = "" if claim is None or part is None else f": {story.part(claim, part).words}"
        claimed.append(f"“{quotation}”{verdict}.")
    against = [_AGAINST[activation]]
    mapped = story.mapped(activation, "tanh")
    if mapped is not None:
        tanh = story.mapped("tanh", activation)
        beside = "" if activation == "tanh" or tanh is None else f"; of tanh {tanh}"
        against.append(f"On the divergence map {mapped} of its runs diverged{beside}.")
    use = [_USE[activation]]
    for place, where in PLACES.items():
        cell = story.grid[place, activation]
        if cell.effects:
            use.append(f"{where[0].upper()}{where[1:]}: {story.compared(place, activation)}.")
        elif not cell.usual:
            use.append(f"{where[0].upper()}{where[1:]}: not measured.")
    return Unit(tuple(claimed), tuple(against), tuple(use))
