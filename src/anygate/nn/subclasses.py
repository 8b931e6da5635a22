"""Subclasses of torch's recurrent modules with code of their own, over anygate's.

    class Flexible(nn.LSTM):
        def forward(self, x, hx=None, lengths=None): ... super().forward(...) ...

After `swap` such a module has a class of the same name that puts anygate's module between the
subclass and torch's: Flexible, anygate.LSTM, nn.LSTM. So each `super()` of the subclass arrives at
anygate's code, and all of the subclass's own goes on working.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from types import CodeType, FunctionType
from typing import Any

__all__ = ["obstacle", "over", "own_class"]

_KERNELS = {
    f"{kind}{cell}" for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu") for cell in ("", "_cell")
}
_DIRECT = {"_VF", "_VariableFunctions"}


class _Over:
    """The base of the classes that `over` makes. They are found in no module, so their objects are
    pickled and copied by the two classes that each was made of."""

    _made_of: tuple[type, type, type]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _empty, type(self)._made_of, self.__getstate__()


def over(own: type, ours: type, torchs: type) -> type:
    """The class of a module of `own`, a subclass of `torchs`, whose super() is anygate's `ours`."""
    return _made((own, ours, torchs))


@cache
def _made(of: tuple[type, type, type]) -> type:
    own, ours, torchs = of
    between = type(ours.__name__, (_Over, ours, torchs), {"__module__": ours.__module__})
    names = ("__module__", "__qualname__", "__doc__")
    body = {name: getattr(own, name) for name in names}
    return type(own.__name__, (own, between), {**body, "_made_of": of})


def _empty(own: type, ours: type, torchs: type) -> Any:
    cls: Any = over(own, ours, torchs)
    return cls.__new__(cls)


def own_class(base: type) -> type:
    """The class as its author wrote it."""
    return base._made_of[0] if issubclass(base, _Over) else base


def obstacle(own: type, torchs: type, ours: type) -> str:
    """The reason why `own`, a subclass of torch's class, cannot have `ours` in torch's place; "" if
    it can: where its methods come to torch's computation through super() alone."""
    layers = own.__mro__[: own.__mro__.index(torchs)]
    methods = [
        (name, value)
        for cls in layers
        if cls not in torchs.__mro__
        for name, value in vars(cls).items()
    ]
    added = set(dir(ours)) - set(dir(torchs))
    if taken := sorted(added & {name for name, _ in methods}):
        return f"it has an attribute '{taken[0]}' that anygate's module needs; rename it"
    codes = [(name, code, f) for name, f in methods for code in _codes(f)]
    for name, code, function in codes:
        names = set(code.co_names)
        if names & _DIRECT or ("torch" in names and names & _KERNELS):
            return f"its {name} calls torch's kernels itself"
        if "forward" in names and _names_class(code, function, torchs):
            return f"its {name} calls {torchs.__name__}.forward by that name, not by super()"
    through = any({"super", "forward"} <= set(code.co_names) for _, code, _ in codes)
    if not through and any(name == "forward" for name, _ in methods):
        return "its forward does not call super().forward, so no activation would reach it"
    return ""


def _codes(function: Any) -> Iterator[CodeType]:
    """The code of a method, of what decorators put around it, and of all functions inside it."""
    function = getattr(function, "__func__", function)
    while isinstance(function, FunctionType):
        waiting = [function.__code__]
        while waiting:
            code = waiting.pop()
            yield code
            waiting += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
        function = getattr(function, "__wrapped__", None)


def _names_class(code: CodeType, function: Any, torchs: type) -> bool:
    known = getattr(inspect.unwrap(function), "__globals__", {}) if callable(function) else {}
    return any(name == torchs.__name__ or known.get(name) is torchs for name in code.co_names)
