"""Exported programs of plain ATen operators, for runtimes that know no operator of ours."""

from __future__ import annotations

from typing import Any

import torch

from ..engines.eager.scan import recurrent_by_scan

__all__ = ["decompositions"]


def decompositions() -> Any:
    """For `ExportedProgram.run_decompositions`: torch's own table, and a layer of anygate as
    `torch.ops.higher_order.scan` over the operators of one time step.

        program = torch.export.export(model, (x,), dynamic_shapes=...)
        plain = program.run_decompositions(anygate.interop.aten.decompositions())

    The numbers of time steps and of batch rows stay free. Such a program computes what the model
    computes, for inference; a packed batch (lengths, masks) is refused with NotImplementedError.
    """
    table = torch.export.default_decompositions()
    table[torch.ops.anygate.recurrent.default] = recurrent_by_scan
    return table
