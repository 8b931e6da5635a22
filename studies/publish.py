"""The words of `anygate show` on an activation: sentences made of the committed results, in a file
of the package."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .answer import QUESTIONED, unit
from .arms import BOTH, arm
from .claims import against_usual
from .costs import SIZES, Costs
from .effects import Effect, Outcome, Share, judged_family, over_tasks
from .experiments import MAP_CLIPS, MAP_SETUPS, grid, trials
from .lab import PUBLISHED
from .results import Results
from .setups import CORE, SETUPS
from .story import Story

__all__ = ["PUBLISHED", "document", "publish", "sentences"]

UNITS = ("sigmoid", "relu", "leaky_relu", "hard_tanh", "softsign", "identity")
GATES = ("hard_sigmoid",)
_PLACES = {
    BOTH: "As candidate and cell output",
    "candidate": "As candidate alone",
    "cell_output": "As cell output alone",
    "gate_activation": "In all three gates",
}


def publish(results: Results, costs: Costs | None, path: Path = PUBLISHED) -> None:
    """Write the sentences of all activations."""
    text = json.dumps(document(Story(results, costs)), indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def document(story: Story) -> dict[str, Any]:
    """All that is written. Raises ValueError without a run."""
    results = story.results
    if not results.held.count:
        raise ValueError("there are no runs to publish")
    last = results.stretches[-1]
    settings = list(results.held.arms.values())
    activations = {
        name: {"sentences": list(sentences(name, results, story.costs)), "withdrawn": []}
        for name in ("tanh", *UNITS, *GATES)
    }
    for name in QUESTIONED:
        activations[name] |= asdict(unit(story, name))
    return {
        "schema": 1,
        "run": {
            "command": "python -m studies run",
            "repeat": "python -m studies run --quick",
            "date": last["date"],
            "commit": last["rules"][:7],
            "processor": last["machine"]["cpu"],
            "longest": max(SETUPS[name].task.steps for name in SETUPS),
            "hidden_sizes": sorted({row["hidden_size"] for row in settings}),
        },
        "activations": {n: found for n, found in activations.items() if any(found.values())},
    }


def sentences(name: str, results: Results, costs: Costs | None) -> Iterator[str]:
    """Outcomes by place, divergences, cost."""
    if name == "tanh":
        runs = [results.of(arm(setup)) for setup in CORE]
        reached = [
            f"{sum(r.reached is not None for r in found)} of {len(found)} on {SETUPS[setup].title}"
            for setup, found in zip(CORE, runs, strict=True)
            if found
        ]
        if reached:
            yield f"The usual candidate and cell output; runs that learned: {'; '.join(reached)}."
    places = ("gate_activation",) if name in GATES else (BOTH, "candidate", "cell_output")
    for place in places if name != "tanh" else ():
        family = against_usual(grid(setup, place, name) for setup in CORE)
        effects = [e for e in judged_family(results, family) if e is not None]
        if effects:
            yield f"{_PLACES[place]} {_told(effects)}."
    yield from _diverged(name, results)
    if costs is not None and name != "tanh":
        yield from _cost(name, costs)


def _told(effects: list[Effect]) -> str:
    """``it needed 1.6 times the epochs of tanh on adding (1.3 to 2.0), ...``."""
    said = [
        f"{e.ratio:.2f} ({e.low:.2f} to {e.high:.2f}) on {SETUPS[e.comparison.task].title}"
        for e in effects
        if e.outcome is not Outcome.NOTHING
    ]
    seeds = sorted({e.n for e in effects})
    over = over_tasks(effects)
    mean = (
        ""
        if over is None
        else f"; over these tasks {over.ratio:.2f} ({over.low:.2f} to {over.high:.2f}), in a new "
        f"task {over.new_low:.2f} to {over.new_high:.2f}"
    )
    return (
        "it needed these times the epochs of the usual function, with 95 % intervals over "
        f"{' or '.join(map(str, seeds))} paired seeds: {', '.join(said)}{mean}"
    )


def _diverged(name: str, results: Results) -> Iterator[str]:
    """Every run with it in any slot, and those of the divergence map."""
    slots = {
        (each.name, each)
        for each, _ in trials()
        if any(text == name for _, text in each.slots) or (name == "tanh" and not each.slots)
    }
    arms = [each for _, each in sorted(slots, key=lambda pair: pair[0])]
    bad, runs = results.diverged(arms)
    if not runs:
        return
    clipped = [a for a in arms if a.settings.gradient_clip]
    parts = []
    for setup in MAP_SETUPS:
        for clip in MAP_CLIPS:
            cells = [a for a in arms if a.setup == setup and (a in clipped) == bool(clip)]
            some, of = results.diverged(cells)
            if some:
                word = "with" if clip else "without"
                parts.append(f"{Share(some, of)} on {SETUPS[setup].title} {word} clipping")
    text = f"{bad or 'None'} of all {runs} such runs diverged"
    yield f"{text} ({'; '.join(parts)})." if parts else f"{text}."


def _cost(name: str, costs: Costs) -> Iterator[str]:
    try:
        ratios = costs.ratios(f"step {name}", "step tanh")
    except KeyError:  # it was not timed
        return
    if ratios:
        said = " and ".join(f"{r:.2f} ({low:.2f} to {high:.2f})" for r, low, high in ratios)
        sizes = " and ".join(map(str, SIZES))
        yield (
            f"A training step of a whole LSTM with it as candidate and cell output took {said} of "
            f"the time with tanh, with {sizes} hidden units."
        )
