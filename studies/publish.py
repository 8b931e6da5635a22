"""The few sentences on each activation that `anygate show` quotes, made from the findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .claims import CLAIMS
from .claims.cost import ratio
from .contrast import Contrast, contrast, task_name
from .experiments import plain
from .findings import Findings
from .grid import Arm
from .lab import MIN_SEEDS_FOR_CLAIM, join, write_json
from .model import Verdict
from .page import judge_all
from .runner import plan

__all__ = ["ACTIVATIONS", "PUBLISHED", "publish", "published"]

PUBLISHED = Path(__file__).parents[1] / "src" / "anygate" / "lab" / "answer.json"
"""The part of the results that travels in the wheel."""
ACTIVATIONS = ("tanh", "sigmoid", "relu", "leaky_relu", "hard_tanh", "hard_sigmoid")
"""Those of the question."""
_UNIT = {
    "activation": "As candidate and cell output",
    "candidate": "As candidate alone",
    "cell_output": "As cell output alone",
}
_GATE = {"gate_activation": "In all three gates"}
_PLACES = {"hard_sigmoid": _GATE}
"""The slots that an activation's sentences are about, where they are not those of tanh."""


def publish(findings: Findings, path: Path) -> None:
    """Write the sentences. Raises WriteError if that fails."""
    write_json(path, published(findings))


def published(findings: Findings) -> dict[str, Any]:
    """About the run, and for each activation its sentences and the verdicts on it that do not
    stand."""
    setups = [setup.make() for setup in findings.scale.setups.values()]
    about = findings.about
    return {
        "schema": 1,
        "run": {
            "command": about.get("command", ""),
            "repeat": f"python -m studies --{findings.scale.name}",
            "date": about.get("date", ""),
            "commit": about.get("commit", ""),
            "processor": about.get("machine", {}).get("cpu", ""),
            "longest": max(task.steps for task in setups),
            "hidden_sizes": sorted({task.settings.hidden_size for task in setups}),
        },
        "activations": {
            name: {"sentences": _sentences(findings, name), "withdrawn": _withdrawn(findings, name)}
            for name in ACTIVATIONS
        },
    }


def _sentences(findings: Findings, name: str) -> list[str]:
    said = (_outcome(findings, name), _divergences(findings, name), _cost(findings, name))
    return [sentence for sentence in said if sentence]


# ---- better or worse ---------------------------------------------------------------------------


def _outcome(findings: Findings, name: str) -> str:
    """The comparisons with the plain LSTM in all places; its own results for tanh."""
    if name == "tanh":
        arms = [plain(task) for task in findings.scale.setups]
        found = [_state(findings, arm) for arm in arms if findings.of(arm)]
        return f"The usual candidate and cell output: {'; '.join(found)}." if found else ""
    places = []
    for slot, place in _PLACES.get(name, _UNIT).items():
        arms = [Arm(task, slot, name) for task in findings.scale.setups]
        compared = [c for arm in arms if (c := _fair(findings, arm)) is not None]
        if compared:
            places.append(f"{place} {_compared(compared)}")
    if not places:
        return ""
    against = "sigmoid" if _PLACES.get(name) is _GATE else "tanh"
    return (
        f"{'. '.join(places)}. Each against {against} over {findings.scale.seeds} paired "
        "seeds, with 95 % intervals that are not corrected for their number."
    )


def _state(findings: Findings, arm: Arm) -> str:
    if findings.scale.setups[arm.task].measure == "metric":
        return f"{100 * findings.finals(arm).mean():.1f} % right on {task_name(arm)}"
    return f"{findings.solved(arm)} of {len(findings.of(arm))} runs solved {task_name(arm)}"


def _fair(findings: Findings, arm: Arm) -> Contrast | None:
    """Against the plain LSTM, both at own learning rates where they were tuned; None without the
    seeds that any claim needs."""
    reference = plain(arm.task)
    tuned = arm.task in findings.scale.tuned and findings.of(arm.own) and findings.of(reference.own)
    found = contrast(findings, *((arm.own, reference.own) if tuned else (arm, reference)))
    return found if found is not None and found.n >= MIN_SEEDS_FOR_CLAIM else None


def _compared(contrasts: Sequence[Contrast]) -> str:
    """``it solved adding sooner (by 20.1 % of the epochs, 5.0 to 36.2)``, and where no difference
    was shown."""
    clear = [_difference(c) for c in contrasts if not c.difference.interval.contains(0)]
    unclear = [_unclear(c) for c in contrasts if c.difference.interval.contains(0)]
    said = [f"it {join(clear)}"] if clear else []
    said += [f"no difference was shown on {join(unclear)}"] if unclear else []
    return "; ".join(said)


def _difference(c: Contrast) -> str:
    d = c.difference
    low, high = sorted(abs(100 * end) for end in (d.interval.low, d.interval.high))
    worse = d.mean > 0
    if c.measure == "time":
        said, unit = (
            f"solved {task_name(c.arm)} {'later' if worse else 'sooner'}",
            "% of the epochs",
        )
    else:
        said, unit = f"was {'less' if worse else 'more'} accurate on {task_name(c.arm)}", "points"
    lost = f"; {c.diverged[0]} of {c.n} diverged" if c.diverged[0] else ""
    return f"{said} (by {abs(100 * d.mean):.1f} {unit}, {low:.1f} to {high:.1f}{lost})"


def _unclear(c: Contrast) -> str:
    lost = f" ({c.diverged[0]} of {c.n} diverged)" if c.diverged[0] else ""
    return f"{task_name(c.arm)}{lost}"


# ---- diverged, cost, withdrawn -----------------------------------------------------------------


def _divergences(findings: Findings, name: str) -> str:
    """Every run with the activation in its places, clipped or not, and those of later seeds."""
    arms = [
        arm
        for arm in plan(CLAIMS.values(), findings.scale).arms
        if arm.activation == name
        and arm.slot in _PLACES.get(name, _UNIT)
        and findings.runs.get(arm.name)
    ]
    if not arms:
        return ""
    runs = sum(len(findings.of(arm)) for arm in arms)
    bad = [arm for arm in arms if findings.diverged(arm)]
    total = sum(findings.diverged(arm) for arm in bad)
    text = f"{total or 'None'} of {runs} such runs diverged"
    if bad:
        counts = [f"{findings.diverged_of(arm)} {_where(arm)}" for arm in bad]
        text += f" ({', '.join(counts)})"
    further = findings.experiment("further-seeds").get("arms", {})
    unclipped = [replace(arm, changes=(("clip", 0.0),)) for arm in arms]
    later = [
        f"{len(seen['diverged'])} of {len(seen['seeds'])} {_where(arm)}"
        for arm in dict.fromkeys((*arms, *unclipped))
        if (seen := further.get(arm.name))
    ]
    return f"{text}; on further seeds {join(later)}." if later else f"{text}."


def _where(arm: Arm) -> str:
    changes = dict(arm.changes)
    text = f"on {task_name(arm)}"
    if changes.pop("clip", None) == 0:
        text += " without clipping"
    if changes:
        given = [f"{key.replace('_', ' ')} {value:g}" for key, value in changes.items()]
        text += f" ({', '.join(given)})"
    return text


def _cost(findings: Findings, name: str) -> str:
    """The time of a training step over that with tanh, by hidden size."""
    if name == "tanh":
        return ""
    sizes: Mapping[str, Any] = findings.experiment("layers").get("rounds", {})
    found = {
        size: effect
        for size, rounds in sizes.items()
        if (effect := ratio("", rounds, [f"{name} training"], ["tanh training"])) is not None
    }
    if not found:
        return ""
    values = join([f"{e.value:.2f} ({e.low:.2f} to {e.high:.2f})" for e in found.values()])
    return (
        f"A training step of a whole LSTM with it as candidate and cell output took {values} of "
        f"the time with tanh, with {join(list(found))} hidden units."
    )


def _withdrawn(findings: Findings, name: str) -> list[str]:
    return [
        f'"{CLAIMS[key].sentence}" (claim {CLAIMS[key].row})'
        for key, judgement in judge_all(findings).items()
        if judgement.verdict is Verdict.WITHDRAWN and name in CLAIMS[key].speaks_of
    ]
