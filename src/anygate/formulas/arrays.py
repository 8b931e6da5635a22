"""Whose arrays an activation can be called on.

Formulas know no framework. A module of each framework says how it applies an activation; it is
named here and imported when the first such array comes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["APPLIERS", "applier"]

APPLIERS = {"torch": "engines.eager", "numpy": "engines.reference"}
"""The framework, by the first word of an array's module, to the module of this package that has
`apply(activation, array, parameters)`."""

Apply = Callable[[Any, Any, Mapping[str, Any]], Any]


def applier(value: Any) -> Apply | None:
    """The function that applies an activation to such a value, None if there is none."""
    package = __name__.partition(".")[0]
    for base in type(value).__mro__:
        home = APPLIERS.get(base.__module__.partition(".")[0])
        if home is not None:
            apply: Apply = importlib.import_module(f"{package}.{home}").apply
            return apply
    return None
