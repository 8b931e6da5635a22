"""Initial weights by name."""

from __future__ import annotations

from torch import nn

from ...nn import init
from ..settings import INITS


def begin(module: nn.Module, name: str, steps: int | None) -> None:
    """Give a recurrent module the initial weights of this name. Raises ValueError for an unknown
    one, and for chrono without the number of steps."""
    if name not in INITS:
        raise ValueError(f"init is one of {', '.join(INITS)}, not {name!r}")
    if name == "chrono":
        if steps is None:
            raise ValueError(
                "init='chrono' needs the sequences' length: call swap(model, steps=100)"
            )
        init.chrono_(module, steps)
    elif name == "identity":
        init.identity_(module)
    elif name == "orthogonal":
        init.orthogonal_(module)
    elif name == "glorot":
        init.glorot_(module)
