"""Warnings where other code would pass over an anygate module in silence."""

from __future__ import annotations

import linecache
import re
import sys
import warnings
from functools import lru_cache
from types import FrameType
from typing import Any, ClassVar

from torch import fx, nn

__all__ = ["UNPREPARED", "Notices", "leaf"]

_NAMES = re.compile(r"[A-Za-z_][\w.]*")
_KINDS = tuple(f"{kind}{cell}" for kind in ("LSTM", "GRU", "RNN") for cell in ("", "Cell"))
UNPREPARED = (
    "Opacus computes per-sample gradients of modules with one result, and {} has several; call "
    "anygate.interop.opacus.prepare(model) before GradSampleModule or PrivacyEngine"
)
_SILENT = ("torch", "anygate")
_CLASS: Any = vars(object)["__class__"]


class Notices:
    """For a module that stands for one of torch's and is not of its class.

    isinstance(module, torch.nn.LSTM) is False: torch.compile refuses what is an nn.LSTM, and code
    that replaces LSTMs by its own would turn the activations back into tanh. Code that initialises
    weights then passes over the module; where a line asks so, that is said once. So is it where
    `torch.ao.quantization` goes through a model, which takes modules by their class.
    """

    _stands_for: ClassVar[type[nn.Module]] = nn.Module

    @property
    def __class__(self) -> type:
        """The module's class. Python looks here where isinstance has found no base class."""
        caller = sys._getframe(1)
        if str(caller.f_globals.get("__name__")).partition(".")[0] not in _SILENT:
            line = (caller.f_code.co_filename, caller.f_lineno)
            asked = [_look_up(name, caller) for name in _dotted_names(line)]
            torchs = self._stands_for
            if torchs in asked and not any(c in type(self).__mro__ for c in asked):
                _warn(line, torchs.__name__)
        return type(self)

    @__class__.setter
    def __class__(self, cls: type) -> None:
        _CLASS.__set__(self, cls)

    def __prepare_scriptable__(self) -> nn.Module:
        """Called by torch.jit.script on every module of a model. Raises RuntimeError."""
        name = type(self).__name__
        raise RuntimeError(
            f"torch.jit.script cannot compile anygate.{name}: TorchScript knows no class but "
            f"torch's own. torch.jit.trace(model, example) takes it, at any length and batch; "
            "torch.export.export is what torch advises in TorchScript's place; "
            "anygate.swap(model, to=torch.nn) gives torch's module where it computes the same"
        )

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

    @property
    def ft_compute_sample_grad(self) -> Any:
        """Set by Opacus on a module that it has no rule for."""
        try:
            return vars(self)["ft_compute_sample_grad"]
        except KeyError:
            raise AttributeError("ft_compute_sample_grad") from None

    @ft_compute_sample_grad.setter
    def ft_compute_sample_grad(self, value: Any) -> None:
        name = type(self).__name__
        if isinstance(self, nn.RNNBase) or name.startswith("LSTM"):
            raise RuntimeError(UNPREPARED.format(name))
        vars(self)["ft_compute_sample_grad"] = value


def leaf(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """A call of the module in a graph of torch.fx, which is traced through and shows no inside, as
    torch's own modules are. None unless an argument is one of that trace."""
    proxies = [a for a in (*arguments, *keywords.values()) if isinstance(a, fx.Proxy)]
    if not proxies:
        return None
    tracer = proxies[0].tracer
    name = tracer.path_of_module(module)  # type: ignore[attr-defined]
    return tracer.create_proxy("call_module", name, arguments, keywords)


@lru_cache(maxsize=1024)
def _dotted_names(line: tuple[str, int]) -> tuple[str, ...]:
    """The names with dots that follow an isinstance in a line of a file; none if there is none, or
    the file cannot be read."""
    found: list[str] = _NAMES.findall(linecache.getline(*line).partition("isinstance")[2])
    return tuple(found) if any(name.endswith(_KINDS) for name in found) else ()


def _look_up(dotted: str, caller: FrameType) -> Any:
    """The object that a dotted name stands for in the caller's frame; None if there is none."""
    first, *rest = dotted.split(".")
    found = caller.f_locals.get(first, caller.f_globals.get(first))
    for name in rest:
        found = getattr(found, name, None)
    return found


@lru_cache(maxsize=256)
def _warn(line: tuple[str, int], name: str) -> None:
    warnings.warn(
        f"isinstance(module, torch.nn.{name}) is False for an anygate.{name}, so this code passes "
        f"over it; ask for (torch.nn.{name}, anygate.{name})",
        stacklevel=3,
    )


@lru_cache(maxsize=4)
def _say_quantized(name: str) -> None:
    warnings.warn(
        f"torch.ao.quantization knows no anygate.{name}: it stays as it is, in its own dtype. For "
        "int8, export to ONNX and quantise the file by ONNX Runtime (the recipe 'int8'); or, where "
        "torch's module computes the same, anygate.swap(model, to=torch.nn) first",
        stacklevel=3,
    )
