"""The settings of a training, as one table: the command line, TOML files and Python read it.

A field of :class:`Settings` is a setting; its metadata hold what it takes and what it is. Needs the
standard library only, for `anygate --help` waits for no other.
"""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any


class TaskError(ValueError):
    """A task or setting that does not exist or cannot be; the message says what to do."""


@dataclass(frozen=True)
class Bounds:
    """The numbers that an option takes: int or float, and the ends, which belong to them. Called
    with the text of the command line, it gives the number or raises ArgumentTypeError."""

    kind: type[int] | type[float]
    least: float
    most: float

    def __call__(self, text: str) -> float:
        try:
            number = self.kind(text)
        except ValueError:
            number = math.nan
        if not self.least <= number <= self.most:
            raise argparse.ArgumentTypeError(f"{self} is needed, not {text[:40]!r}")
        return number

    def holds(self, value: object) -> bool:
        """True for a number of this kind within the ends; a whole one is a float too."""
        kinds = (int,) if self.kind is int else (int, float)
        number = isinstance(value, kinds) and not isinstance(value, bool)
        return number and self.least <= value <= self.most  # type: ignore[operator]

    def __str__(self) -> str:
        if self.kind is int:
            return f"a whole number from {self.least:,} to {self.most:,}"
        if self.most < 1e100:
            return f"a number from {self.least:g} to {self.most:g}"
        return "a number above 0" if self.least > 0 else "a number"


positive = Bounds(int, 1, 1_000_000)
finite = Bounds(float, -1e100, 1e100)
above_zero = Bounds(float, 1e-100, 1e100)
_share = Bounds(float, 0, 0.999)


@dataclass(frozen=True)
class Option:
    """An option of the command line, and a key of the file.

    kind: str, bool, or the bounds of a number. many: it takes several values.
    """

    kind: type[str] | type[bool] | Bounds
    help: str
    metavar: str = "N"
    many: bool = False
    choices: tuple[str, ...] | None = None


def _setting(
    default: Any,
    kind: type[str] | type[bool] | Bounds,
    help: str,
    metavar: str = "N",
    choices: tuple[str, ...] | None = None,
) -> Any:
    return field(default=default, metadata={"option": Option(kind, help, metavar, False, choices)})


INITS = ("torch", "identity", "orthogonal", "glorot", "chrono")
"""Initial weights by name, see :mod:`anygate.init`; torch: as they are."""
OPTIMIZERS = {
    "adam": "Adam",
    "adamw": "AdamW",
    "nadam": "NAdam",
    "rmsprop": "RMSprop",
    "sgd": "SGD",
    "adagrad": "Adagrad",
}
"""Name -> the class of torch.optim; SGD has a momentum of 0.9."""
SCHEDULES = ("constant", "cosine", "linear")
_DEVICE = re.compile(r"cpu|mps|cuda(:\d{1,3})?")


@dataclass(frozen=True)
class Settings:
    """The settings that a trial trains with. Raises TaskError for one that cannot be."""

    hidden_size: int = _setting(32, positive, "units of the cell")
    epochs: int = _setting(20, Bounds(int, 1, 10_000), "times through the training data")
    batch_size: int = _setting(64, positive, "sequences in a training step")
    learning_rate: float = _setting(
        0.01, finite, "of the optimizer; beside --learning-rates, the one that is shared", "X"
    )
    gradient_clip: float = _setting(
        1.0, finite, "the gradient's norm is scaled down to this; 0: off", "X"
    )
    forget_bias: float = _setting(
        1.0, finite, "initial bias of the forget gate (an LSTM's; init=chrono takes its place)", "X"
    )
    init: str = _setting(
        "torch", str, "initial weights (anygate.init); torch: as torch draws them", "NAME", INITS
    )
    cell: str = _setting(
        "LSTM", str, "LSTM, GRU, RNN, or MODULE:NAME, an anygate.CellType of your own", "CELL"
    )
    layers: int = _setting(1, Bounds(int, 1, 100), "layers of the cell")
    bidirectional: bool = _setting(False, bool, "read the sequence from both ends")
    dropout: float = _setting(0.0, _share, "between layers", "X")
    recurrent_dropout: float = _setting(0.0, _share, "of h, inside the step", "X")
    zoneout: float = _setting(0.0, _share, "chance that a unit keeps its state", "X")
    layer_norm: bool = _setting(False, bool, "normalise inside the step")
    peephole: bool = _setting(False, bool, "the LSTM's gates see the cell state")
    coupled: bool = _setting(False, bool, "the LSTM's forget gate is 1 - input gate")
    clip: float = _setting(
        0.0, Bounds(float, 0, 1e100), "the activations' arguments stay within +-X; 0: off", "X"
    )
    optimizer: str = _setting("adam", str, "of torch.optim", "NAME", tuple(OPTIMIZERS))
    weight_decay: float = _setting(0.0, Bounds(float, 0, 1e100), "of the optimizer", "X")
    schedule: str = _setting(
        "constant", str, "of the learning rate over all steps", "NAME", SCHEDULES
    )
    engine: str = _setting(
        "auto", str, "what computes the cell: auto or an engine's name, such as eager", "NAME"
    )
    device: str = _setting("cpu", str, "where a trial trains: cpu, cuda or cuda:1", "DEVICE")
    dtype: str = _setting("float32", str, "of weights and data", "NAME", ("float32", "float64"))

    def __post_init__(self) -> None:
        for name, option in SETTINGS.items():
            if isinstance(option.kind, Bounds) and not isinstance(getattr(self, name), int | float):
                check(name, getattr(self, name), option)
        for name in ("hidden_size", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise TaskError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise TaskError(f"learning_rate must be positive, not {self.learning_rate}")
        if not self.gradient_clip >= 0:
            raise TaskError(f"gradient_clip must be 0 (off) or positive, not {self.gradient_clip}")
        for name, option in SETTINGS.items():
            check(name, getattr(self, name), option)
        if not _DEVICE.fullmatch(self.device):
            raise TaskError(f"device: cpu, cuda or cuda:1 is needed, not {self.device[:40]!r}")

    def describe(self) -> dict[str, Any]:
        """As files hold them. What is rarely set is left out at its default."""
        usual = {f.name: f.default for f in fields(self)}
        return {
            name: value
            for name, value in asdict(self).items()
            if name in _ALWAYS or value != usual[name]
        }

    def all(self) -> dict[str, Any]:
        """Every setting by name."""
        return asdict(self)


SETTINGS: dict[str, Option] = {f.name: f.metadata["option"] for f in fields(Settings)}
"""Name -> what it takes and what it is."""
_ALWAYS = {
    "hidden_size",
    "epochs",
    "batch_size",
    "learning_rate",
    "gradient_clip",
    "forget_bias",
    "optimizer",
}


def check(name: str, value: object, option: Option) -> None:
    """Raise TaskError for a value that the option does not take."""
    kind = option.kind
    if isinstance(kind, Bounds):
        fine, needed = kind.holds(value), str(kind)
    elif option.choices:
        fine, needed = value in option.choices, f"one of {', '.join(option.choices)}"
    else:
        fine, needed = isinstance(value, kind), "true or false" if kind is bool else "a text"
    if not fine:
        raise TaskError(f"{name}: {needed} is needed, not {str(value)[:40]!r}")


def changed(base: Settings, given: Mapping[str, Any]) -> Settings:
    """The settings with some others. Raises TaskError for an unknown name or a wrong value."""
    for name in given:
        if name not in SETTINGS:
            raise TaskError(unknown(name, SETTINGS))
    return replace(base, **given)


def unknown(name: str, known: Mapping[str, object]) -> str:
    """A sentence on a name that is not known, with the nearest one."""
    near = difflib.get_close_matches(name, list(known), 1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{name} is no setting{hint}; there are: {', '.join(known)}"


def value_of(name: str, text: str) -> Any:
    """The value of a setting from text, as in ``init=chrono``. Raises TaskError for a wrong one;
    a name that is not in the table keeps the text."""
    option = SETTINGS.get(name)
    if option is None:
        return text
    if isinstance(option.kind, Bounds):
        try:
            return option.kind(text)
        except argparse.ArgumentTypeError as error:
            raise TaskError(f"{name}: {error}") from None
    if option.kind is bool:
        if re.fullmatch("true|yes|1", text, re.IGNORECASE):
            return True
        if re.fullmatch("false|no|0", text, re.IGNORECASE):
            return False
        raise TaskError(f"{name}: true or false is needed, not {text[:40]!r}")
    check(name, text, option)
    return text


# ---- of data files ----------------------------------------------------------------------------

MISSING = ("forward", "linear", "drop", "mask")
"""The ways to treat missing values."""
DATA_OPTIONS: dict[str, Option] = {
    "target": Option(
        str, "the columns of the table to forecast: numbers, or one of classes", "COLUMN", many=True
    ),
    "features": Option(
        str,
        "the columns that are seen besides the target (default: all that hold numbers, dates or "
        "categories)",
        "COLUMN",
        many=True,
    ),
    "group": Option(str, "the column that tells several series apart", "COLUMN"),
    "window": Option(positive, "past rows for each forecast (default 24)"),
    "horizon": Option(Bounds(int, 1, 10_000), "forecast the next N rows at once (default 1)"),
    "season": Option(
        Bounds(int, 2, 1_000_000),
        "rows of a season, for the baseline 'as one season ago' (default: by the dates, such as "
        "12 for months)",
    ),
    "test_from": Option(
        str,
        "rows from this date on are for testing (default: the last fifth)",
        "DATE",
    ),
    "missing": Option(
        str,
        "what stands for a missing value: forward (the last known one), linear (between its "
        "neighbours, of which none may be later than the window), drop (its row is left out), "
        "mask (forward, and a feature that marks it)",
        "HOW",
        choices=MISSING,
    ),
    "metric": Option(
        str,
        "the measure of --data: accuracy, balanced_accuracy, cross_entropy, mse, mae, "
        "relative_error, or MODULE:NAME of a Metric",
        "NAME",
    ),
}
"""Name -> option of `--data`."""
DATA_OPTIONS_OF_SEQUENCES = ("missing", "metric")
"""Options that files of sequences (.npz, .ts) take; the others are for tables (CSV, Parquet)."""
