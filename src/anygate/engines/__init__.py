"""Engines: what computes a layer. `protocol` says what one is; each has a folder or a file here."""

from . import openmp as openmp  # what it does before a fork, from the start
from .protocol import Choice, EngineError, Request, choose, load, names, register

__all__ = ["Choice", "EngineError", "Request", "choose", "load", "names", "register"]
