"""Other libraries: one module each, which imports that library when it is needed.

onnx: models out, layers in. keras, flax, equinox: layers in and out. lightning: recording in a
Trainer. opacus: per-sample gradients. directions: layers that read backward alone, or with another
cell each way.
"""

from importlib import import_module
from types import ModuleType

_MODULES = ("directions", "equinox", "flax", "keras", "lightning", "onnx", "opacus")


def __getattr__(name: str) -> ModuleType:
    """Import on first use: `anygate.interop.onnx` without a line of its own."""
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
