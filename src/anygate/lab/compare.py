"""Activations compared in a model and training of the user's own; see :func:`compare`."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from .arms import Arm, Arms, read_arms
from .comparison import Comparison
from .study.context import random_kept
from .study.executors import Executor, on_this_machine
from .study.own import OnError, OwnStudy, code_digest
from .study.store.files import StudyError, WriteError, read
from .study.store.folder import StudyConflict
from .study.store.results import load
from .study.store.schema import StudyConfig
from .wording import plural, to_stderr

__all__ = ["Arm", "Comparison", "compare"]


def compare(
    train: Callable[..., object],
    activations: Arms,
    seeds: int | Sequence[int] = 8,
    *,
    metric: str = "score",
    higher_is_better: bool | None = None,
    slot: str = "activation",
    margin: float | None = None,
    baseline: float | None = None,
    solved: float | None = None,
    unit: str = "",
    title: str | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    same_train: bool = False,
    jobs: int = 1,
    executor: Executor = on_this_machine,
    on_error: OnError = "record",
    log: str | None = None,
    progress: bool = True,
) -> Comparison:
    """Compare activations in a model and a training of your own, paired by seed.

        def train(swap, seed):
            model = swap(MyModel())             # its LSTMs, GRUs and RNNs get the arm
            ...                                 # your own loop
            return accuracy

        found = anygate.compare(train, ["tanh", "relu", "x*sigmoid(x)"], seeds=8,
                                metric="accuracy", out="runs/mine")
        print(found)                            # the table, and what may be said
        found.frame()                           # one row a trial, for pandas
        found.report("runs/mine")               # the HTML page

    train: ``train(swap, seed)`` or ``train(swap, seed, trial)``, called once for each arm and seed.
        ``swap(model)`` puts the arm into the model and returns it; call it before the optimizer is
        made. Before each call all random numbers (Python's, NumPy's, torch's) are seeded with
        ``seed``, so that a model that is made first thing has the same initial weights in every
        arm. It returns the score; or a dict of numbers and of curves (lists, one number an epoch),
        of which ``metric`` is compared by its last value; or nothing, if it reported the metric.
        ``trial`` keeps more (:class:`anygate.lab.study.context.RunningTrial`):
        ``trial.epochs(30, model, optimizer)`` counts epochs with a checkpoint after each,
        ``trial.report(rmse=..., loss=...)`` adds an epoch to the curves, ``trial.record(model)``
        measures inside, ``trial.settings`` and ``trial.folder`` are the arm's own.
    activations: names, formulas or Activations for ``slot``; or named arms, each an activation or a
        mapping of settings: ``{"mine": {"activation": "relu", "gate_activation": "hard_sigmoid",
        "init": "identity", "forget_bias": 2.0, "learning_rate": 0.003}}``. Slots, options of
        anygate.LSTM (``peephole``, ``clip`` ...), ``init`` (identity, orthogonal, chrono, glorot)
        and ``forget_bias`` are put in by swap; all others are for ``train`` to read in
        ``trial.settings``. All are compared with the first; if the standard one (tanh; sigmoid for
        gates) is not among them, it comes first.
    seeds: how many, from 0, or which. Fewer than 6 can show no difference.
    metric: the name of the score. higher_is_better: None reads it from the name ("accuracy",
        "score": higher; "loss", "rmse", "error": lower) and raises where it does not say.
    margin: differences within it count as equivalent; declared before the first run.
    baseline: the value that a failed run counts as; without it, the worst of the others. solved:
        the level that counts as solved. unit: shown after values.
    settings: what all arms share, for the record and for ``trial.settings``; results of other
        settings in ``out`` are refused.
    out: a folder for results. Each finished trial stays there whatever happens, and the same call
        goes on where it was; so does ``trial.epochs`` within a trial. None: nothing is kept.
        Results of a ``train`` with other code are refused unless ``same_train=True`` vouches for
        them (functions that it calls are not looked at); ``fresh=True`` deletes them.
    jobs: processes at once. 1 trains in this process, as your code would; more give each process
        one thread. executor: that of a cluster, from anygate.lab.study.executors.open_executor.
    on_error: a score that is not finite and an ArithmeticError, ValueError, RuntimeError or
        AssertionError are outcomes and stand in the table as diverged; "raise" raises the latter,
        as does any in the first trial, and all others (also of memory) always.
    log: "tensorboard" writes the reports of running trials into ``out``/tensorboard.
    progress: tell it on stderr.

    Returns a :class:`Comparison`. Ctrl-C ends early and returns what is done. Raises ValueError for
    arms, names or settings that cannot be, StudyConflict and FolderInUse (both ValueErrors) for a
    folder that holds something else or is written to, and TrainError for what `train` returns.
    """
    arms = read_arms(activations, slot)
    numbers = _seeds(seeds)
    for name, value in (("baseline", baseline), ("solved", solved)):
        if value is not None and not abs(value) <= 1e100:
            raise ValueError(f"{name} must be a finite number, not {value}")
    if log not in (None, "tensorboard") or (log and out is None):
        raise ValueError(f"log is 'tensorboard', with a folder out= for it, not {log!r}")
    digest = code_digest(train)
    name = getattr(train, "__name__", type(train).__name__)
    task: dict[str, Any] = {
        "name": name,
        "title": title or name.replace("_", " "),
        "description": (train.__doc__ or "").strip().partition("\n")[0],
        "metric": metric,
        "unit": unit,
        "higher_is_better": direction(metric) if higher_is_better is None else higher_is_better,
        "baseline": 0.0 if baseline is None else float(baseline),
        "baseline_name": "the worst run" if baseline is None else "the baseline",
        "solved": solved,
        "own": True,
        "worst_counts": baseline is None,
    }
    place = tempfile.TemporaryDirectory() if out is None else nullcontext(str(out))
    with random_kept(), place as folder:
        directory = Path(folder)
        if digest:
            held = None if fresh else _held_digest(directory)
            if held not in (None, digest) and not same_train:
                raise StudyConflict(
                    f"{directory} holds results of a `{name}` with other code; same_train=True "
                    "counts them all the same, fresh=True deletes them, another out= keeps both"
                )
            task["data"] = held or digest
        study = OwnStudy(
            train=train,
            arms=arms,
            seeds=numbers,
            task=task,
            slot=slot,
            settings=settings or {},
            margin=margin,
            on_error=on_error,
            log=directory.absolute() / "tensorboard" if log else None,
            command=_command(name, activations, seeds, metric, out),
        )
        stopped = _run(study, directory, fresh, jobs, executor, progress)
        results = load(directory)
    found = Comparison(results, out=None if out is None else Path(out))
    if stopped:
        if not results.present:
            raise KeyboardInterrupt
        more = f"; the same call goes on in {out}" if out is not None else ""
        said = f"{results.present} of {results.expected} trials are done"
        to_stderr(f"interrupted: {said}{more}\n{found}")
    return found


def _run(
    study: OwnStudy, directory: Path, fresh: bool, jobs: int, executor: Executor, progress: bool
) -> bool:
    """True if it was interrupted."""
    from .study.progress import progress_bar

    title = f"{study.task['title']}: {plural(len(study.arms), 'arm')}"
    shown = progress_bar(title) if progress else nullcontext(lambda done, total, key: None)
    try:
        with shown as tell:
            study.run(directory, fresh=fresh, jobs=jobs, executor=executor, progress=tell)
    except KeyboardInterrupt:
        return True
    except WriteError:  # a full disk: what is done is told all the same
        with suppress(StudyError):
            to_stderr(str(Comparison(load(directory))))
        raise
    return False


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    found = tuple(range(seeds)) if isinstance(seeds, int) else tuple(int(s) for s in seeds)
    if not found or len(set(found)) < len(found) or not all(0 <= s < 2**53 for s in found):
        raise ValueError(f"seeds: a number from 1, or different whole numbers from 0, not {seeds}")
    return found


_LOWER = re.compile(
    r"loss|error|err|mse|rmse|mae|s?mape|mase|perplexity|ppl|nll|crps|bits|bpc|entropy|[wc]er|"
    r"distance|regret|deviance"
)
_HIGHER = re.compile(
    r"score|accuracy|acc|auc|auroc|f1|r2|precision|recall|reward|return|bleu|correlation|ndcg|iou|"
    r"likelihood"
)


def direction(metric: str) -> bool:
    """True if the metric of this name is better when higher. Raises ValueError if the name does
    not say."""
    words = re.findall(r"[a-z]+\d*", metric.lower())
    lower, higher = (any(map(known.fullmatch, words)) for known in (_LOWER, _HIGHER))
    if lower == higher:
        raise ValueError(
            f"is a higher {metric} better? Say higher_is_better=True or higher_is_better=False"
        )
    return higher


def _held_digest(directory: Path) -> str | None:
    """The digest of the training whose results the folder holds; None if it holds none."""
    path = directory / "study.json"
    if not path.is_file():
        return None
    try:
        read(path, StudyConfig)
    except StudyError:
        return None  # claim tells
    import json

    held = json.loads(path.read_text(encoding="utf-8"))["task"].get("data")
    return held if isinstance(held, str) else None


def _command(
    name: str, activations: Arms, seeds: int | Sequence[int], metric: str, out: str | Path | None
) -> str:
    """The call as Python, in one line."""
    parts = [name, _as_python(activations), f"seeds={seeds!r}", f"metric={metric!r}"]
    parts += [f"out={str(out)!r}"] if out is not None else []
    text = f"anygate.compare({', '.join(parts)})"
    return " ".join(text.split())[:10_000]


def _as_python(activations: object) -> str:
    if isinstance(activations, Mapping):
        inner = ", ".join(f"{k!r}: {_as_python(v)}" for k, v in activations.items())
        return f"{{{inner}}}"
    if isinstance(activations, list | tuple):
        return f"[{', '.join(map(_as_python, activations))}]"
    return repr(getattr(activations, "label", activations))
