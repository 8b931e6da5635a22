"""Divergences on further seeds, added to the results of the claims page.

    python -m studies.further_seeds docs/claims.json

These settings and seeds were chosen after the page's results were known, so that they are shown
beside claim 5 and no verdict rests on them. About 15 minutes on an idle core.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from .findings import load
from .grid import QUICK, Arm, spec_of
from .lab import run_one, write_json

UNCLIPPED = (("clip", 0.0),)
SHORT = (("clip", 0.0), ("epochs", 5), ("forget_bias", 1.0), ("learning_rate", 0.1))
ARMS = {
    Arm("long", "activation", "relu"): range(208, 232),
    Arm("long", "activation", "tanh"): range(208, 213),
    Arm("long", "activation", "relu", UNCLIPPED): range(200, 232),
    Arm("long", "activation", "tanh", UNCLIPPED): range(200, 204),
    Arm("adding", "activation", "relu", SHORT): range(208, 240),
    Arm("adding", "activation", "tanh", SHORT): range(208, 240),
}
"""Few seeds of tanh on long sequences, whose runs take their whole time."""


def diverged(arm: Arm, seed: int) -> bool:
    """One run of the quick scale."""
    spec = replace(spec_of(arm, seed, QUICK), snapshots=False, health_every=0)
    result, _ = run_one(spec)
    return result["diverged"] is not None


def main(path: Path) -> None:
    """Run all of them and write the results back."""
    found = load(path)
    arms = {}
    for arm, seeds in ARMS.items():
        bad = [seed for seed in seeds if diverged(arm, seed)]
        arms[arm.name] = {"seeds": list(seeds), "diverged": bad}
        print(f"{arm.name}: {len(bad)} of {len(seeds)}", file=sys.stderr, flush=True)
    experiments = {**found.experiments, "further-seeds": {"arms": arms}}
    write_json(path, replace(found, experiments=experiments).to_dict())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
