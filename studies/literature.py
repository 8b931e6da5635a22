"""Published figures beside the arms of ours that come nearest, with the difference in setting.

A figure that was read in the source itself says so; the others were read in a work that quotes it.
Where a figure could not be had, its finding stands in words.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .arms import BOTH, Arm, arm
from .experiments import ABLATIONS, PLACES, RATES, ablation, crossings, grid, rated
from .setups import CORE

__all__ = ["PUBLISHED", "Published"]


@dataclass(frozen=True)
class Published:
    """source: with the experiment or table. found: the figure or finding. read: "source", "quoted"
    (in another work) or "abstract". ours: the arms, each beside the arm it is compared with.
    differs: the differences in setting that matter."""

    source: str
    found: str
    read: str
    ours: tuple[tuple[Arm, Arm], ...]
    differs: str


def _with_usual(arms: Iterable[Arm]) -> tuple[tuple[Arm, Arm], ...]:
    return tuple((each, each.usual) for each in arms)


PUBLISHED = (
    Published(
        "Greff et al. 2017, arXiv:1503.04069",
        "no forget gate (NFG) and no output activation (NOAF) were significantly worse on TIMIT, "
        "IAM and JSB; no input gate, output gate or input activation (NIG, NOG, NIAF) on TIMIT and "
        "IAM, not on JSB; coupled gates (CIFG) and no peepholes (NP) cost nothing significant",
        "quoted",
        tuple((ablation(s, name), arm(s)) for s in CORE for name in ABLATIONS),
        "speech, handwriting and music, 20 to 200 hidden units with peepholes, 200 random searches "
        "over rate, size and noise for each variant; here one small LSTM at one rate. Their JSB "
        "chorales are not in the lab and were not tried",
    ),
    Published(
        "cybertronai/schmidhuber-problems, a NumPy replication, adding with T = 50, 12 units",
        "median test error of 3 seeds: whole .0033, NFG .0036, NIG .0115, NOG .0069, NIAF .0021, "
        "NOAF .0050, CIFG .0010, without peepholes .0034: too few seeds for an order",
        "source",
        tuple((ablation("adding", name), arm("adding")) for name in ABLATIONS),
        "T = 50 there, 10 here; they count the final error, we the epochs until a level",
    ),
    Published(
        "Hochreiter & Schmidhuber 1997, experiment 4 (adding)",
        "with g in [-2, 2] and h in [-1, 1], both scaled logistic functions: T = 100 solved after "
        "74,000 sequences on average",
        "source",
        tuple(
            (arm(s, "candidate=lstm97_input", "cell_output=lstm97_output"), arm(s)) for s in CORE
        ),
        "no forget gate, two blocks of two cells and biases of -3 and -6 at the input gates there; "
        "here only its two functions stand in today's LSTM",
    ),
    Published(
        "Hochreiter & Schmidhuber 1997, experiment 2a (long time lags)",
        "with the identity at the output and g in [0, 1], without an output gate, lag 100 was "
        "solved in all of 18 trials after 5,040 sequences on average",
        "source",
        _with_usual(grid(s, "cell_output", "identity") for s in CORE),
        "another task, rate 1.0 and no forget gate there; so the paper itself changed both "
        "functions where the task allowed it",
    ),
    Published(
        "Akandeh & Salem 2017, arXiv:1707.04619",
        "an LSTM with ReLU loses accuracy on MNIST after some epochs, and the more the higher its "
        "rate",
        "abstract",
        tuple((rated(s, "relu", r), rated(s, "tanh", r)) for s in CORE for r in RATES),
        "MNIST by rows with 50 to 100 units there; digits of 8 x 8 and other small tasks here",
    ),
    Published(
        "Tallec & Ollivier 2018, arXiv:1804.11188",
        "chrono initialisation solved adding with T = 750 seven times as fast as a forget bias of "
        "1 (128 units, RMSprop 1e-3, no clipping); on permuted MNIST 96.3 against 95.4 %",
        "source",
        tuple(
            (crossings(a, {"init": "chrono"}), crossings(a, {}))
            for a in ("tanh", "relu", "sigmoid")
        ),
        "T = 10 here, where a bias of 1 forgets little, so that little is to be gained; with ReLU "
        "and sigmoid beside tanh, which they did not try",
    ),
    Published(
        "Weiss, Goldberg & Yahav 2018, ACL",
        "LSTMs and ReLU networks can count, squashing RNNs and GRUs cannot: it takes a state that "
        "is not bounded",
        "abstract",
        _with_usual(grid("anbn", place, a) for place in PLACES for a in ("relu", "sigmoid")),
        "an LSTM counts in its cell state whatever its candidate is; here the candidate and the "
        "output change, not the state",
    ),
    Published(
        "Hu et al. 2018 against Cooijmans et al. 2017, arXiv:1603.09025",
        "the same LSTM with 100 units on pixel-by-pixel MNIST: 24.1 % at a rate of 1e-6 that all "
        "networks shared, 98.9 % at 1e-3; plain ReLU networks (IRNN) had 83.6 % in the first",
        "source",
        tuple(
            (rated(s, a, r), rated(s, "tanh", r)) for s in CORE for a in ("relu",) for r in RATES
        ),
        "a factor of 1,000 in the rate there, of 9 here. A claim on an activation at one shared "
        "rate is a claim on that rate",
    ),
    Published(
        "Ravanelli et al. 2018, Li-GRU, arXiv:1710.00641, and the note in their pytorch-kaldi",
        "a GRU with a ReLU candidate and batch normalisation beats the GRU; without normalisation "
        "of the recurrent term it cannot be trained on larger speech corpora",
        "source",
        tuple((crossings(a, {"layer_norm": True}), crossings(a, {})) for a in ("relu", "tanh")),
        "a GRU without reset gate and speech there; here layer normalisation in an LSTM on adding",
    ),
    Published(
        "Keras issues 2194 and 13221",
        "LSTMs with ReLU became NaN, from the start or at a rate of 5e-5 where tanh was stable",
        "source",
        tuple((grid(s, BOTH, "relu"), arm(s)) for s in ("adding", "long")),
        "field reports without a common setting",
    ),
)
