"""A comparison as a value: the table, what may be said, rows for pandas, the report."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .study.store.results import StudyResults
from .study.store.rows import curve_rows, rows

if TYPE_CHECKING:
    import pandas


class Comparison:
    """The outcome of a comparison. Printed, it is a table with the sentences below it; in a
    notebook it shows itself.

    results: all of it, as files hold it. out: the folder of the results, None if none is kept.
    """

    def __init__(self, results: StudyResults, out: Path | None = None) -> None:
        self.results = results
        self.out = out

    @classmethod
    def load(cls, directory: str | Path) -> Comparison:
        """The comparison whose results lie in a folder, of this library's own tasks or of
        :func:`anygate.compare`. Raises StudyError where there is none."""
        from .study.store.results import load

        return cls(load(directory), Path(directory))

    @property
    def arms(self) -> list[str]:
        """Names of the arms, the one that all others are compared with first."""
        return self.results.labels

    @property
    def scores(self) -> dict[str, list[float]]:
        """Arm -> the score of each seed, NaN where the trial is missing; a failed one has what it
        counts as."""
        return {
            label: [float(v) for v in row]
            for label, row in zip(self.results.labels, self.results.matrix, strict=True)
        }

    @property
    def verdict(self) -> list[str]:
        """The findings in sentences: the answer, each arm against the first, failures, cost,
        and how far it reaches."""
        from .findings.verdict import verdict

        return verdict(self.results)

    def rows(self) -> list[dict[str, Any]]:
        """A row for each trial: arm, seed, the metric, whether and why it diverged, seconds, all
        settings, machine and versions."""
        return rows(self.results)

    def frame(self) -> pandas.DataFrame:
        """The rows as a pandas DataFrame."""
        return _pandas().DataFrame(self.rows())

    def curves(self) -> pandas.DataFrame:
        """The reports of each epoch as a pandas DataFrame: arm, seed, epoch, and a column
        for each name."""
        return _pandas().DataFrame(curve_rows(self.results))

    def report(self, path: str | Path | None = None) -> Path:
        """Write report.html, summary.json and the figures into the folder ``path`` (default: that
        of the results); returns the page."""
        from .report import write

        folder = self.out if path is None else Path(path)
        if folder is None:
            raise ValueError("name a folder: report('runs/mine')")
        return write(self.results, folder)

    def __str__(self) -> str:
        from .findings.verdict import judge
        from .report.terminal import table, wrapped

        found = judge(self.results)
        said = found.answer + found.comparisons + found.stability
        return "\n".join([table(self.results), "", *map(wrapped, said)])

    def __repr__(self) -> str:
        task = self.results.task
        means = [
            f"{label} {task.show(float(values.mean()))}"
            for label in self.results.labels
            if (values := self.results.final(label)).size
        ]
        counted = f"{self.results.present} of {self.results.expected} trials"
        return f"<Comparison of {task.metric}: {', '.join(means)}; {counted}>"

    def _repr_html_(self) -> str:
        """For notebooks."""
        from .findings.verdict import judge
        from .report.terminal import cells

        header, lines = cells(self.results)
        head = "".join(f"<th>{html.escape(name)}</th>" for name in header)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>"
            for line in lines
        )
        found = judge(self.results)
        said = "".join(
            f"<li>{html.escape(s)}</li>" for s in found.answer + found.comparisons + found.stability
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><ul>{said}</ul>"


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError(
            "frames need pandas: pip install pandas; rows() gives the same as dictionaries"
        ) from error
    return pandas


def paired(
    scores: Any,
    *,
    metric: str = "score",
    higher_is_better: bool | None = None,
    margin: float | None = None,
    unit: str = "",
    baseline: float | None = None,
) -> Comparison:
    """The comparison of scores that exist already, as :func:`anygate.compare` gives it.

        anygate.lab.statistics.paired({"tanh": [0.91, 0.92, 0.90], "relu": [0.93, 0.92, 0.94]})

    scores: name -> one score for each seed, the same seeds in the same order; or -> a mapping of
    seed to score; or a pandas DataFrame with a column for each name and a row for each seed. All
    are compared with the first. NaN and infinity are runs that failed: they count as `baseline`, or
    as the worst of all others. The other arguments are those of anygate.compare. Raises ValueError
    for scores that are no pairs.
    """
    from .compare import direction
    from .study.store.files import checked
    from .study.store.results import in_memory
    from .study.store.schema import StudyConfig

    table = _table(scores)
    seeds = list(dict.fromkeys(seed for column in table.values() for seed in column))
    declared = {} if margin is None else {"margin": margin}
    config = checked(
        {
            "task": {
                "name": "scores",
                "metric": metric,
                "unit": unit,
                "higher_is_better": (
                    direction(metric) if higher_is_better is None else higher_is_better
                ),
                "baseline": 0.0 if baseline is None else baseline,
                "baseline_name": "the worst run" if baseline is None else "the baseline",
                "own": True,
                "worst_counts": baseline is None,
            },
            "slot": "activation",
            "activations": [{"label": label, "formula": ""} for label in table],
            "seeds": seeds,
            "settings": declared,
        },
        StudyConfig,
    )
    return Comparison(in_memory(config, table))


def _table(scores: Any) -> dict[str, dict[int, float]]:
    if hasattr(scores, "columns") and hasattr(scores, "to_dict"):
        scores = {str(name): list(scores[name]) for name in scores.columns}
    if not isinstance(scores, Mapping) or not scores:
        raise ValueError("scores are a mapping of names to one score a seed, or a DataFrame")
    found: dict[str, dict[int, float]] = {}
    for name, column in scores.items():
        if isinstance(column, Mapping):
            found[str(name)] = {int(seed): float(value) for seed, value in column.items()}
            continue
        if isinstance(column, str) or not (
            isinstance(column, Sequence) or hasattr(column, "__array__")
        ):
            raise ValueError(f"{name}: a list of scores is needed, one for each seed")
        found[str(name)] = {k: float(value) for k, value in enumerate(column)}
    lengths = {len(column) for column in found.values()}
    if len(lengths) > 1 and not any(isinstance(c, Mapping) for c in scores.values()):
        raise ValueError(
            f"the lists have {', '.join(map(str, sorted(lengths)))} scores: pairs need one for "
            "each seed in each list; {seed: score} says which belong together"
        )
    return found
