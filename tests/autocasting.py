"""The classes of torch's that run under bfloat16 autocast on this processor."""

from __future__ import annotations

from functools import cache

import torch
from torch import nn


@cache
def torch_autocasts(family: str = "LSTM", backward: bool = False) -> bool:
    """torch's class runs. nn.LSTM calls an oneDNN kernel there, which not every processor has; then
    it raises, in forward or, in other builds, in backward alone."""
    module = getattr(nn, family)(5, 7)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            output = module(torch.zeros(2, 3, 5))[0]
        if backward:
            output.float().sum().backward()
    except RuntimeError as error:
        if "could not create a primitive" not in str(error):
            raise
        return False
    return True


REASON = "torch has no bfloat16 kernel of nn.LSTM for this processor"
