"""The claims: sentences about activations in LSTMs, as they were written, and what would be seen if
each part of them were true.

A part is said by the source, or it is our reading, which nobody else has to answer for. A part is
derived (it follows from a formula and is checked, see exact.py) or measured: by comparisons of
arms, one for each task, by divergences, or by times (costs.py). No part decides on the whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from .arms import BOTH, Arm, arm
from .effects import Comparison, Outcome
from .experiments import (
    ABLATIONS,
    FACTORIAL,
    FACTORS,
    GATES,
    HIGH_RATES,
    MAP_BIASES,
    MAP_CLIPS,
    MAP_SETUPS,
    PLACES,
    TUNED,
    ablation,
    factorial,
    grid,
    map_arm,
)
from .setups import CORE, FACTORED

__all__ = ["CLAIMS", "Claim", "Derived", "Diverging", "Expected", "Measured", "Part", "Timed"]

QUESTION = (
    "an answer to the question for the intuition of tanh in LSTMs (Stack Overflow; copies: "
    "e-learn.cn/tag/activation-function?page=3, tarikbilla.com)"
)
LECUN = "LeCun, Bottou, Orr & Müller 1998, Efficient BackProp"
GREFF = "Greff et al. 2017, LSTM: a search space odyssey, arXiv:1503.04069, abstract"
HERE = "derived for this project"


class Expected(StrEnum):
    """The outcome that a part says its arms have against their reference."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "the same"
    NOT_WORSE = "not worse"

    @property
    def supported_by(self) -> frozenset[Outcome]:
        """Outcomes that support the part."""
        return _SUPPORT[self]

    @property
    def contradicted_by(self) -> frozenset[Outcome]:
        """Outcomes that are a counterexample."""
        told = {Outcome.WORSE, Outcome.BETTER, Outcome.SAME}
        return frozenset(told - self.supported_by)


_SUPPORT = {
    Expected.WORSE: frozenset({Outcome.WORSE}),
    Expected.BETTER: frozenset({Outcome.BETTER}),
    Expected.SAME: frozenset({Outcome.SAME}),
    Expected.NOT_WORSE: frozenset({Outcome.SAME, Outcome.BETTER}),
}


@dataclass(frozen=True)
class Derived:
    """Follows from a formula. check: the name of the check in exact.py."""

    check: str


@dataclass(frozen=True)
class Measured:
    """Comparisons, one a task, that all should have the expected outcome."""

    expects: Expected
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class Diverging:
    """More of these arms' runs should diverge than of the others' (the exact intervals at 95 % do
    not meet)."""

    arms: tuple[Arm, ...]
    references: tuple[Arm, ...]


@dataclass(frozen=True)
class Timed:
    """The time of one job of costs.json over another's should be below 0.98."""

    job: str
    reference: str


@dataclass(frozen=True)
class Part:
    """One assertion. text: in words. said: True for the source's, False for our reading of it."""

    key: str
    text: str
    said: bool
    test: Derived | Measured | Diverging | Timed


@dataclass(frozen=True)
class Claim:
    """A sentence.

    quotation: exactly as it stands there; "" where nothing is quoted. said_by: who. of: what it is
    said of, with the comparator where one is named. note: what must be known to read it fairly.
    The measured parts are one family, over which the tests are corrected.
    """

    key: str
    title: str
    quotation: str
    said_by: str
    of: str
    parts: tuple[Part, ...]
    note: str = ""
    measure: str = field(
        default="epochs until the setup's level, as a ratio, paired by seed", kw_only=True
    )

    @property
    def family(self) -> tuple[Comparison, ...]:
        """The comparisons of all parts."""
        tests = [part.test for part in self.parts]
        return tuple(
            dict.fromkeys(c for t in tests if isinstance(t, Measured) for c in t.comparisons)
        )


# ---- comparisons --------------------------------------------------------------------------------


def against_usual(arms: Iterable[Arm], own_rate: bool = False) -> tuple[Comparison, ...]:
    """Each against tanh and sigmoid in the same training."""
    return tuple(
        Comparison(each.setup, each.name, (each,), (arm(each.setup),), own_rate) for each in arms
    )


def _in(place: str, activation: str) -> tuple[Comparison, ...]:
    return against_usual(grid(setup, place, activation) for setup in CORE)


def main_effect(setup: str, place: str, factor: int) -> Comparison:
    """The factor left out against the factor there, over all levels of the others."""
    low, high = (
        tuple(factorial(setup, place, levels) for levels in FACTORIAL if levels[factor] is there)
        for there in (False, True)
    )
    return Comparison(setup, f"{setup} {place} without {FACTORS[factor]}", low, high)


def _step(
    place: str, to: tuple[bool, bool, bool], of: tuple[bool, bool, bool], word: str
) -> tuple[Comparison, ...]:
    return tuple(
        Comparison(
            setup,
            f"{setup} {place} {word}",
            (factorial(setup, place, to),),
            (factorial(setup, place, of),),
        )
        for setup in FACTORED
    )


def _factored(place: str) -> tuple[Comparison, ...]:
    return against_usual(factorial(setup, place, _SIGMOID) for setup in FACTORED)


def _measured(
    key: str, text: str, expects: Expected, comparisons: tuple[Comparison, ...], said: bool = False
) -> Part:
    return Part(key, text, said, Measured(expects, comparisons))


_TANH, _SIGMOID = (True, True, True), (False, False, False)
_CENTRED = (True, False, False)
_PLACE = {
    "candidate": "as candidate",
    "cell_output": "as cell output",
    BOTH: "as candidate and cell output",
}

HARMLESS = ("CIFG", "peepholes")
"""Of Greff's variants those that cost nothing significant."""

# ---- the claims ---------------------------------------------------------------------------------

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "gates",
        "Why sigmoid in the gates?",
        "Sigmoid specifically, is used as the gating function for the three gates (in, out, and "
        "forget) in LSTM, since it outputs a value between 0 and 1, and it can either let no flow "
        "or complete flow of information throughout the gates.",
        QUESTION,
        "the three gates of an LSTM; no other function is named",
        (
            Part("range", "its values lie between 0 and 1", True, Derived("sigmoid range")),
            Part(
                "ends",
                "it reaches neither: no flow and complete flow are its limits",
                False,
                Derived("sigmoid ends"),
            ),
            *(
                _measured(
                    f"gates {gate}",
                    f"{gate} in all three gates is worse than the sigmoid",
                    Expected.WORSE,
                    _in("gate_activation", gate),
                )
                for gate in GATES
                if gate != "hard_sigmoid"
            ),
            _measured(
                "gates hard_sigmoid",
                "hard sigmoid, which also keeps to the range, is not worse",
                Expected.NOT_WORSE,
                _in("gate_activation", "hard_sigmoid"),
            ),
        ),
        "That the range is necessary is our reading and not his; we test it because it is what one "
        "must know before changing it.",
    ),
    Claim(
        "second derivative",
        "Does the second derivative of tanh keep gradients alive?",
        "to overcome the vanishing gradient problem, we need a function whose second derivative "
        "can sustain for a long range before going to zero. Tanh is a good function with the above "
        "property.",
        QUESTION,
        "tanh in an LSTM; no other function is named",
        (
            Part(
                "dies first",
                "tanh has the property: against sigmoid and softsign its second derivative dies "
                "first",
                True,
                Derived("second derivative"),
            ),
            Part(
                "direct path",
                "through the cell state a gradient is multiplied by the forget gate's value alone; "
                "no derivative of candidate or cell output enters",
                False,
                Derived("forgetting"),
            ),
            _measured(
                "flat",
                "hard tanh, whose second derivative is zero wherever it exists, is worse "
                "(candidate and cell output)",
                Expected.WORSE,
                _in(BOTH, "hard_tanh"),
            ),
            *(
                _measured(
                    f"flat {place}",
                    f"the identity, without any second derivative, is worse {_PLACE[place]}",
                    Expected.WORSE,
                    _in(place, "identity"),
                )
                for place in ("candidate", "cell_output")
            ),
        ),
    ),
    Claim(
        "good unit",
        "Must a unit be bounded, differentiable, monotonic?",
        "A good neuron unit should be bounded, easily differentiable, monotonic (good for convex "
        "optimization) and easy to handle.",
        QUESTION,
        "neurons in general; a recommendation (should), and nothing is said of its price",
        (
            _measured(
                "bounded candidate",
                "a candidate that is not bounded (ReLU) is worse",
                Expected.WORSE,
                _in("candidate", "relu"),
            ),
            _measured(
                "bounded output",
                "a cell output that is not bounded (identity) is worse",
                Expected.WORSE,
                _in("cell_output", "identity"),
            ),
            _measured(
                "differentiable",
                "a unit with kinks (hard tanh as candidate and cell output) is worse",
                Expected.WORSE,
                _in(BOTH, "hard_tanh"),
            ),
            _measured(
                "monotonic",
                "a unit that is not monotonic (sine as candidate) is worse",
                Expected.WORSE,
                _in("candidate", "sine"),
            ),
        ),
    ),
    Claim(
        "relu for tanh",
        "Can ReLU stand in for tanh?",
        "If you consider these qualities, then I believe you can use ReLU in place of the tanh "
        "function since they are very good alternatives of each other.",
        QUESTION,
        "an LSTM; the qualities are bounded, easily differentiable, monotonic, easy to handle",
        (
            Part(
                "qualities",
                "ReLU has the qualities: it is monotonic, but neither bounded nor everywhere "
                "differentiable",
                True,
                Derived("relu qualities"),
            ),
            *(
                _measured(
                    f"relu {place}",
                    f"ReLU {_PLACE[place]} is not worse than tanh at the same rate",
                    Expected.NOT_WORSE,
                    _in(place, "relu"),
                    said=True,
                )
                for place in PLACES
            ),
        ),
    ),
    Claim(
        "tanh converges",
        "Does tanh converge faster?",
        "Often found to converge faster in practice",
        QUESTION,
        "tanh, as the first of its advantages; no comparator is named, and it says often",
        (
            *(
                _measured(
                    f"sigmoid {place}",
                    f"the logistic sigmoid {_PLACE[place]} is slower than tanh",
                    Expected.WORSE,
                    _factored(place) if place != BOTH else _in(BOTH, "sigmoid"),
                )
                for place in PLACES
            ),
            *(
                _measured(
                    f"others {other}",
                    f"{other} as candidate and cell output is slower than tanh",
                    Expected.WORSE,
                    _in(BOTH, other),
                )
                for other in ("relu", "leaky_relu", "hard_tanh")
            ),
        ),
    ),
    Claim(
        "symmetric",
        "Is it the centring? The factorial of centring, slope and amplitude",
        "often converge faster than the standard logistic",
        LECUN,
        "symmetric sigmoids in feed-forward networks, against the logistic function; he says often",
        (
            *(
                _measured(
                    f"{factor} {place}",
                    f"leaving out the {factor} of tanh costs time, {_PLACE[place]}",
                    Expected.WORSE,
                    tuple(main_effect(setup, place, k) for setup in FACTORED),
                )
                for place in ("candidate", "cell_output")
                for k, factor in enumerate(FACTORS)
            ),
            *(
                part
                for place in ("candidate", "cell_output")
                for part in (
                    _measured(
                        f"gain {place}",
                        f"centring alone makes the sigmoid faster, {_PLACE[place]}",
                        Expected.BETTER,
                        _step(place, _CENTRED, _SIGMOID, "sigmoid(x) - 1/2 against sigmoid(x)"),
                    ),
                    _measured(
                        f"enough {place}",
                        f"with centring alone the sigmoid is not worse than tanh, {_PLACE[place]}",
                        Expected.NOT_WORSE,
                        _step(place, _CENTRED, _TANH, "sigmoid(x) - 1/2 against tanh"),
                    ),
                )
            ),
        ),
        "He speaks of networks without recurrence; that it holds for the candidate and the output "
        "of an LSTM is what we test.",
    ),
    Claim(
        "tanh gradient",
        "Is the gradient of tanh cheaper?",
        "Gradient computation is less expensive",
        QUESTION,
        "tanh; no comparator is named, and we take the sigmoid, which stands before it",
        (
            Part(
                "alone",
                "the derivative alone, an element",
                True,
                Timed("tanh gradient", "sigmoid gradient"),
            ),
            Part(
                "step",
                "a training step of a whole LSTM",
                False,
                Timed("step tanh", "step sigmoid"),
            ),
        ),
        measure="time, alternated between processes",
    ),
    Claim(
        "hard tanh",
        "Hard tanh: cheaper, and saturating",
        "Computationally cheaper than Tanh",
        QUESTION,
        "hard tanh against tanh",
        (
            Part(
                "alone",
                "value and derivative, an element",
                True,
                Timed("hard_tanh element", "tanh element"),
            ),
            Part(
                "step",
                "a training step of a whole LSTM",
                False,
                Timed("step hard_tanh", "step tanh"),
            ),
            Part(
                "saturates",
                '"Saturate for magnitudes of z greater than 1": its slope there is exactly zero',
                True,
                Derived("hard tanh saturates"),
            ),
            *(
                _measured(
                    f"hard_tanh {place}",
                    f"hard tanh {_PLACE[place]} is not worse than tanh",
                    Expected.NOT_WORSE,
                    _in(place, "hard_tanh"),
                )
                for place in PLACES
            ),
        ),
        "He counts the saturation among the advantages.",
    ),
    Claim(
        "relu saturates",
        "ReLU does not saturate: what does that bring and cost?",
        "Does not saturate even for large values of z",
        QUESTION,
        "ReLU, as the first of its advantages; of large values of z, not of negative ones",
        (
            Part("slope", "for z > 0 its slope stays 1", True, Derived("relu slope")),
            Part(
                "half",
                "for z < 0 it is saturated everywhere: slope and value are zero",
                False,
                Derived("relu dead half"),
            ),
            Part(
                "growth",
                "with gates frozen at their start, the identity as recurrent matrix and ReLU in "
                "both places, the state grows by sigmoid(b) + 1/4 a step: stable only for a forget "
                "bias below ln 3 = 1.10",
                False,
                Derived("growth"),
            ),
            *(
                Part(
                    f"diverges {'clipped' if clip else 'unclipped'}",
                    f"over the map of steps, rates and forget biases, "
                    f"{'with' if clip else 'without'} clipping, runs with ReLU in both places "
                    "diverge more often than runs with tanh",
                    False,
                    Diverging(
                        tuple(
                            map_arm(s, "relu", r, b, clip)
                            for s in MAP_SETUPS
                            for r in HIGH_RATES
                            for b in MAP_BIASES
                        ),
                        tuple(
                            map_arm(s, "tanh", r, b, clip)
                            for s in MAP_SETUPS
                            for r in HIGH_RATES
                            for b in MAP_BIASES
                        ),
                    ),
                )
                for clip in MAP_CLIPS
            ),
        ),
        measure="runs in which a loss or gradient was not finite",
    ),
    Claim(
        "relu vision",
        "ReLU in computer vision, and on images read as sequences",
        "Found much success in computer vision applications",
        QUESTION,
        "ReLU, of computer vision and not of recurrent networks",
        tuple(
            _measured(
                f"rows {place}",
                f"on digits read by rows ReLU {_PLACE[place]} is not worse than tanh",
                Expected.NOT_WORSE,
                against_usual((grid("rows", place, "relu"),)),
            )
            for place in PLACES
        ),
        "It is a true sentence on vision, which we do not test; what we test is whether it carries "
        "over.",
    ),
    Claim(
        "leaky relu",
        "Leaky ReLU passes errors on for z <= 0",
        "Allows propagation of error for non-positive z which ReLU doesn't",
        QUESTION,
        "leaky ReLU against ReLU",
        (
            Part("slope", "its slope for z < 0 is k, ReLU's is zero", True, Derived("leaky slope")),
            _measured(
                "faster",
                "so it is faster than ReLU, as candidate and cell output",
                Expected.BETTER,
                tuple(
                    Comparison(
                        s,
                        f"{s} leaky_relu against relu",
                        (grid(s, BOTH, "leaky_relu"),),
                        (grid(s, BOTH, "relu"),),
                    )
                    for s in CORE
                ),
            ),
            _measured(
                "not worse than tanh",
                "leaky ReLU as candidate and cell output is not worse than tanh",
                Expected.NOT_WORSE,
                _in(BOTH, "leaky_relu"),
            ),
        ),
    ),
    Claim(
        "critical parts",
        "Which parts of the LSTM matter most?",
        "the forget gate and the output activation function to be its most critical components",
        GREFF,
        "LSTMs with peepholes on speech, handwriting and music, 200 random searches a variant",
        tuple(
            _measured(
                name,
                f"{name} is {'not ' * (name in HARMLESS)}worse than the whole LSTM",
                Expected.NOT_WORSE if name in HARMLESS else Expected.WORSE,
                against_usual(ablation(setup, name) for setup in CORE),
                said=name in ("NFG", "NOAF"),
            )
            for name in ABLATIONS
        ),
        "One small LSTM at one learning rate stands here against 5,400 tuned ones there.",
    ),
    Claim(
        "own rates",
        "Do these differences remain when each has its own learning rate?",
        "",
        HERE,
        "the activations of the question as candidate and cell output, each at the best of three "
        "rates, which other seeds chose",
        tuple(
            _measured(
                f"own rate {activation}",
                f"at its own rate {activation} is not worse than tanh at its own",
                Expected.NOT_WORSE,
                against_usual((grid(s, BOTH, activation) for s in CORE), own_rate=True),
            )
            for activation in TUNED
            if activation != "tanh"
        ),
        "The same LSTM was published with 24 % and with 98.9 % on pixel-by-pixel MNIST (literature"
        ".py): claims on activations are claims on rates.",
    ),
    Claim(
        "sigmoid derivative",
        "The derivative of the sigmoid",
        "sigmoid'(z) = -exp(-z) / 1 + exp(-z)^2",
        QUESTION,
        "the logistic sigmoid",
        (
            Part(
                "printed",
                "as printed; it is exp(-z) / (1 + exp(-z))^2, with another sign and other brackets",
                True,
                Derived("sigmoid derivative"),
            ),
        ),
    ),
    Claim(
        "chrono",
        "Chrono initialisation with a hard sigmoid",
        "",
        HERE,
        "gates of an LSTM at the start of training",
        (
            Part(
                "no gradient",
                "most forget gates start without any gradient, and as many input gates exactly "
                "closed",
                False,
                Derived("chrono"),
            ),
        ),
    ),
)
