"""ONNX files: models out, layers in. Needs onnx; writing needs onnxscript too, as torch's exporter
does (pip install anygate[onnx]).

    report = onnx.export(model, args, "model.onnx", dynamic_shapes=...)
    layers = onnx.load("model.onnx")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .lowering import LayerReport, Report, lower
    from .reading import load
    from .table import custom_translation_table
    from .writing import export

_HOME = {
    "custom_translation_table": "table",
    "load": "reading",
    "export": "writing",
    "lower": "lowering",
    "Report": "lowering",
    "LayerReport": "lowering",
}

__all__ = ["LayerReport", "Report", "custom_translation_table", "export", "load", "lower"]


def __getattr__(name: str) -> Any:
    """Import on first use: reading needs no onnxscript."""
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
