"""Engines: each runs a Cell with one framework's operations. None imports another."""

from .base import AUTO, ENGINES, Choice, EngineError, Request, choose, load

__all__ = ["AUTO", "ENGINES", "Choice", "EngineError", "Request", "choose", "load"]
