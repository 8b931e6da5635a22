"""Published figures beside our own: ablations by slot, ReLU on the adding problem, chrono."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import median

from .contrast import contrast
from .experiments import ABLATIONS, TASKS, on, plain
from .findings import Findings
from .grid import Arm

__all__ = ["Table", "tables"]


class Table:
    """title, a text before, rows of cells with a header, a text after."""

    def __init__(self, title: str, before: str, rows: list[tuple[str, ...]], after: str) -> None:
        self.title, self.before, self.rows, self.after = title, before, rows, after


def tables(findings: Findings) -> list[Table]:
    """The tables whose trials are there."""
    made: list[Callable[[Findings], Table | None]] = [_ablations, _adding, _chrono]
    return [table for make in made if (table := make(findings)) is not None]


# ---- Greff's ablations -----------------------------------------------------------------------

_PUBLISHED = {
    "no input gate (NIG)": ("worse on TIMIT and IAM, not on JSB", "0.0115"),
    "no forget gate (NFG)": ("worse on all three", "0.0036"),
    "no output gate (NOG)": ("worse on TIMIT and IAM, not on JSB", "0.0069"),
    "no input activation (NIAF)": ("worse on TIMIT and IAM, not on JSB", "0.0021"),
    "no output activation (NOAF)": ("worse on all three", "0.0050"),
    "coupled gates (CIFG)": ("no significant loss", "0.0010"),
    "peepholes": ("no significant loss without them", "0.0033 (without: 0.0034)"),
}


def _ablations(findings: Findings) -> Table | None:
    if not findings.of(plain("reber")):
        return None
    setups = findings.scale.setups
    titles = [setups[task].make().title for task in TASKS]
    header = ("left out", *titles, "Greff et al.: significant?", "NumPy replication: adding, MSE")
    rows = [header, ("nothing", *(_state(findings, plain(task)) for task in TASKS), "–", "–")]
    for name, arm in ABLATIONS.items():
        cells = [_against(findings, on(task, arm), plain(task)) for task in TASKS]
        rows.append((name, *cells, *_PUBLISHED[name]))
    return Table(
        "One part of the LSTM left out",
        "Greff et al. 2017 left out one part at a time and found the forget gate and the output "
        "activation to be the most critical. A number in brackets is the difference from the whole "
        "LSTM with its 95 % interval, in % of the epochs until solved or in points of error: "
        "positive is worse. Nothing here is corrected for the number of comparisons: these rows "
        "are a description, and no verdict rests on them.",
        rows,
        "Differences in setting: Greff et al. ran 200 random searches for each variant and data "
        "set, with peepholes in the whole LSTM, on speech, handwriting and music; "
        "here one small LSTM without peepholes, one learning rate, Adam, and the initial "
        "weights of torch with a forget bias of 1. Their figures for each variant were not at "
        "hand, so their findings stand in words. The NumPy replication "
        "(github.com/cybertronai/schmidhuber-problems) is adding with T = 50 and 12 hidden units, "
        "median test MSE of 3 seeds, whole LSTM with peepholes 0.0033: too few seeds for an order.",
    )


def _state(findings: Findings, arm: Arm) -> str:
    """``solved 7 of 8, median epoch 15`` or a mean accuracy."""
    runs = findings.of(arm)
    if not runs:
        return "not run"
    setup = findings.scale.setups[arm.task]
    failed = f", {findings.diverged(arm)} diverged"
    if setup.measure == "metric":
        return f"accuracy {100 * findings.finals(arm).mean():.1f} %{failed}"
    return f"solved {findings.solved(arm)} of {len(runs)}{failed}"


def _against(findings: Findings, arm: Arm, reference: Arm) -> str:
    c = contrast(findings, arm, reference)
    if c is None:
        return "not run"
    d = c.difference
    span = f"{100 * d.mean:+.1f}, {100 * d.interval.low:+.1f} to {100 * d.interval.high:+.1f}"
    return f"{_state(findings, arm)} ({span})"


# ---- adding ----------------------------------------------------------------------------------


def _adding(findings: Findings) -> Table | None:
    arms = {task: (plain(task), Arm(task, "activation", "relu")) for task in ("adding", "long")}
    if not any(findings.of(arm) for pair in arms.values() for arm in pair):
        return None
    rows: list[tuple[str, ...]] = [
        ("task", "unit", "solved", "diverged", "median epoch", "mean squared error, median")
    ]
    for task, pair in arms.items():
        title = findings.scale.setups[task].make().title
        rows += [
            (title, arm.activation, *_numbers(findings, arm)) for arm in pair if findings.of(arm)
        ]
    return Table(
        "The adding problem: ReLU against tanh",
        "Guessing the mean reaches a mean squared error of 1/6 = 0.167, and a run that diverged "
        "counts with that.",
        rows,
        "Published: Hu et al. 2018 (100 units, Adam, learning rates 1e-4, 1e-5 and 1e-6 for T = "
        "200, 300 and 400, gradients clipped at 100) found the tanh LSTM the worst of their "
        "networks, failing at T = 400, and that plain ReLU networks with the identity (IRNN) can "
        "fail at 1e-3. There ReLU stands in a network without gates, and one learning rate is "
        "given to all; here it stands in the LSTM's candidate and cell output, for shorter "
        "sequences. A NumPy replication (github.com/cybertronai/schmidhuber-problems) has 0.0007 "
        "for the LSTM and 0.071 for a plain network at T = 100 with inputs from -1 to 1 "
        "(guessing: 0.667).",
    )


def _numbers(findings: Findings, arm: Arm) -> tuple[str, str, str, str]:
    runs = findings.of(arm)
    times = sorted(math.inf if r.solved_at is None else r.solved_at for r in runs)
    middle = times[(len(times) - 1) // 2]
    return (
        f"{findings.solved(arm)} of {len(runs)}",
        findings.diverged_of(arm),
        "not by half" if math.isinf(middle) else f"{middle:g} of {findings.epochs(arm)}",
        f"{median(r.final for r in runs):.2g}",
    )


# ---- chrono ----------------------------------------------------------------------------------


def _chrono(findings: Findings) -> Table | None:
    chrono = plain("long", initial="chrono")
    if not findings.of(chrono):
        return None
    rows: list[tuple[str, ...]] = [
        ("initial biases", "solved", "diverged", "median epoch", "mean squared error, median")
    ]
    rows += [
        (name, *_numbers(findings, arm))
        for name, arm in (("forget bias 1", plain("long")), ("chrono", chrono))
    ]
    c = contrast(findings, chrono, plain("long"))
    assert c is not None
    d = c.difference
    ours = (
        f"Difference, chrono minus forget bias 1: {100 * d.mean:+.1f} % of the epochs "
        f"({100 * d.interval.low:+.1f} to {100 * d.interval.high:+.1f}), p = {d.p_value:.3f} "
        f"over {d.n} seeds. "
    )
    title = findings.scale.setups["long"].make().title
    return Table(
        "The effect of chrono initialisation",
        f"On the {title}.",
        rows,
        f"{ours}Published: Tallec & Ollivier 2018 report adding with T = 750 solved 7 times as "
        "fast as with a forget bias of 1 (128 units, RMSprop 1e-3, no clipping). Here T, the "
        "network and the optimiser (Adam, clipped at 1) are smaller or others: at a small T a bias "
        "of 1 forgets less, so less is to be gained.",
    )
