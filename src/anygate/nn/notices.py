"""What would pass over an anygate module in silence says so."""

from __future__ import annotations

import linecache
import re
import sys
import warnings
from functools import lru_cache
from types import FrameType
from typing import Any, ClassVar

from torch import nn

__all__ = ["Notices"]

_NAMES = re.compile(r"[A-Za-z_][\w.]*")
_CLASS: Any = vars(object)["__class__"]


class Notices:
    """For a module that stands for one of torch's and is not of its class.

    isinstance(module, torch.nn.LSTM) is False: torch.compile refuses what is an nn.LSTM, and code
    that replaces LSTMs by its own would turn the activations back into tanh. Code that initialises
    weights then passes over the module; where a line asks so, that is said once. So is it where
    `torch.ao.quantization` goes through a model, which takes modules by their class.
    """

    _stands_for: ClassVar[type[nn.Module]]

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # type: ignore[override]
        """The module's class. Python looks here where isinstance has found no base class."""
        caller = sys._getframe(1)
        line = (caller.f_code.co_filename, caller.f_lineno)
        if caller.f_globals.get("__name__", "").partition(".")[0] not in ("torch", __package__.partition(".")[0]):
            stands_for = type(self)._stands_for
            if _asks(line, caller, stands_for.__name__, stands_for):
                _say(line, stands_for.__name__)
        return type(self)

    @__class__.setter
    def __class__(self, cls: type) -> None:
        _CLASS.__set__(self, cls)

    @property
    def qconfig(self) -> Any:
        """Set by torch.ao.quantization on every module of a model."""
        try:
            return vars(self)["qconfig"]
        except KeyError:
            raise AttributeError("qconfig") from None

    @qconfig.setter
    def qconfig(self, value: Any) -> None:
        vars(self)["qconfig"] = value
        _say_quantized(type(self).__name__)

    @qconfig.deleter
    def qconfig(self) -> None:
        vars(self).pop("qconfig", None)


_text_asks: dict[tuple[str, int], tuple[str, ...]] = {}


def _asks(line: tuple[str, int], caller: FrameType, name: str, wanted: type) -> bool:
    """True where the line reads isinstance(..., NAME) with a NAME that is `wanted` there."""
    names = _text_asks.get(line)
    if names is None:
        text = linecache.getline(*line, caller.f_globals)
        found = _NAMES.findall(text.partition("isinstance")[2])
        names = tuple(n for n in found if n.rpartition(".")[2] == name)
        _text_asks[line] = names
    return any(_value(n, caller) is wanted for n in names)


def _value(dotted: str, caller: FrameType) -> Any:
    first, *rest = dotted.split(".")
    found = caller.f_locals.get(first, caller.f_globals.get(first))
    for name in rest:
        found = getattr(found, name, None)
    return found


@lru_cache(maxsize=256)
def _say(line: tuple[str, int], name: str) -> None:
    warnings.warn(
        f"isinstance(module, torch.nn.{name}) is False for an anygate.{name}, so this code passes over "
        f"it; ask for (torch.nn.{name}, anygate.{name})",
        stacklevel=3,
    )


@lru_cache(maxsize=4)
def _say_quantized(name: str) -> None:
    warnings.warn(
        f"torch.ao.quantization knows no anygate.{name}: it stays as it is, in its own dtype",
        stacklevel=3,
    )
