"""summary.json: the report for machines. Strict JSON; what is not finite is null."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from ..findings.comparison import RivalComparison, comparisons
from ..findings.cost import costs, disturbed_clocks
from ..findings.solving import TimeComparison, solving, time_comparisons
from ..findings.verdict import verdict
from ..statistics import LEVEL, MIN_SEEDS_FOR_CLAIM, iqm, mean_interval
from ..study.store.results import StudyResults

SCHEMA = 1


def summary(results: StudyResults) -> dict[str, Any]:
    """The table, the statistics and the verdict as plain data, before non-finite is replaced."""
    found = {
        "schema": SCHEMA,
        "command": results.config.command,
        "task": asdict(results.task),
        "slot": results.config.slot,
        "first": results.first,
        "trials": {"present": results.present, "expected": results.expected},
        "rules": {
            "level": LEVEL,
            "min_seeds_for_claim": MIN_SEEDS_FOR_CLAIM,
            "test": "exact sign-flip test of the mean paired difference, two-sided",
            "interval": "the same test inverted (subset means); range if confidence < 0.95",
            "bootstrap": "BCa, nominal 95%; covers less with few seeds, no claim rests on it",
            "equivalence": "two one-sided sign-flip tests (TOST) against the declared margin",
            "time_to_solve": "sign-flip test of ranks, unsolved runs tied last",
            "correction": "Holm, over the rivals, for each question on its own",
        },
        "activations": [_activation(results, label) for label in results.labels],
        "solving": [asdict(s) for s in solving(results)],
        "comparisons": [_comparison(c) for c in comparisons(results)],
        "time_to_solve": [_times(c) for c in time_comparisons(results)],
        "cost": [{**asdict(c), "within_noise": c.within_noise} for c in costs(results)],
        "cost_not_told": disturbed_clocks(results),
        "verdict": verdict(results),
        "settings": dict(results.config.settings),
        "machine": dict(results.config.machine),
    }
    if results.config.learning_rates is not None:
        found["learning_rates"] = results.config.learning_rates.describe()
    if results.own is not None:
        found["at_own_rates"] = {
            part: value for part, value in summary(results.own).items() if part in _COMPARED
        }
    return found


_COMPARED = (
    "trials",
    "activations",
    "solving",
    "comparisons",
    "time_to_solve",
    "cost",
    "cost_not_told",
    "verdict",
)


def summary_text(results: StudyResults) -> str:
    """The summary as strict JSON text."""
    return as_text(summary(results))


def as_text(content: dict[str, Any]) -> str:
    """Plain data as strict JSON text; what is not finite is null."""
    return json.dumps(finite(content), indent=2, allow_nan=False, ensure_ascii=False)


def finite(value: Any) -> Any:
    """``value`` with every non-finite number replaced by None, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, list | tuple) else value


def _activation(results: StudyResults, label: str) -> dict[str, Any]:
    info = results.config.activations[results.labels.index(label)]
    values = results.final(label)
    return {
        "label": label,
        "formula": info.formula,
        "runs": len(values),
        "mean": float(values.mean()) if values.size else None,
        "interval": asdict(mean_interval(values)) if values.size else None,
        "iqm": iqm(values) if values.size else None,
        "diverged": len(results.diverged(label)),
        "solved": None if results.task.solved is None else results.solved(label),
        "final_metrics": {str(t.seed): t.final_metric for t in results.runs(label)},
    }


def _comparison(c: RivalComparison) -> dict[str, Any]:
    return {
        "rival": c.rival,
        "first": c.first,
        "seeds": list(c.seeds),
        "mean_difference": c.difference.mean,
        "interval": asdict(c.difference.interval),
        "gain": c.gain,
        "better_in": c.better_in,
        "bootstrap": asdict(c.bootstrap),
        "probability_of_improvement": c.improvement.value,
        "probability_interval": asdict(c.improvement.interval),
        "p": c.difference.p_value,
        "p_holm": c.corrected_p,
        "evidence": c.evidence.value,
        "equivalence": None
        if c.equivalence is None
        else {
            **asdict(c.equivalence),
            "p": c.equivalence.p_value,
            "p_holm": c.equivalence_p,
            "equivalent": c.equivalent,
        },
    }


def _times(c: TimeComparison) -> dict[str, Any]:
    return {
        "rival": c.rival,
        "first": c.first,
        "seeds": list(c.seeds),
        "horizon_epochs": c.times.horizon,
        "sooner_in": c.times.a_first,
        "later_in": c.times.b_first,
        "probability_sooner": asdict(c.times.sooner),
        "restricted_mean_difference": c.times.restricted.mean,
        "interval": asdict(c.times.restricted.interval),
        "p": c.times.p_value,
        "p_holm": c.corrected_p,
        "evidence": c.evidence.value,
    }
