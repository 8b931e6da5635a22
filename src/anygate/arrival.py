"""The operators are declared as soon as torch is there, whichever is imported first.

`import anygate` must not import torch (`anygate --help` takes 0.1 s), and a program that was saved
by torch.export must load after it. So what waits here is told when somebody imports torch.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from typing import Any

__all__ = ["declare_operators"]


def declare_operators() -> None:
    """Now, or when torch has been imported."""
    if "torch" in sys.modules:
        import_module(".operators", __package__)
    else:
        sys.meta_path.insert(0, _WhenTorchArrives())


class _WhenTorchArrives:
    """A finder of no module of its own: it lets the others find torch and adds to its import."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The others' spec of torch; None for every other module."""
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = self._spec_from_the_others(name, path, target)
        loader: Any = spec.loader if spec else None
        if loader is None or not hasattr(loader, "exec_module"):
            sys.meta_path.insert(0, self)
            return spec
        execute = loader.exec_module

        def execute_and_declare(module: Any) -> None:
            try:
                execute(module)
            except BaseException:
                sys.meta_path.insert(0, self)
                raise
            import_module(".operators", __package__)

        loader.exec_module = execute_and_declare
        return spec

    @staticmethod
    def _spec_from_the_others(name: str, path: Any, target: Any) -> ModuleSpec | None:
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return spec
        return None
