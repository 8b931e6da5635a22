"""Memory for what a training forward keeps."""

from __future__ import annotations

import ctypes
from typing import Any

from torch import Tensor

__all__ = ["large"]

_LARGE = 1 << 22


def large(shape: Any, like: Tensor) -> Tensor:
    """An empty tensor; where it is large, on huge pages if the system gives them.

    A fresh page costs 0.7 us of 4 KiB and zeroing: a training forward at [784 32 1 128], which
    writes 64 MiB more than inference, took 25.7 ms against 13.7.
    """
    tensor = like.new_empty(shape)
    size = tensor.nbytes
    if size >= _LARGE and _madvise is not None:
        page = 1 << 21
        start = -(-tensor.data_ptr() // page) * page
        stop = (tensor.data_ptr() + size) // page * page
        if stop > start:
            _madvise(start, stop - start, 14)  # MADV_LARGEPAGE; a refusal changes nothing
    return tensor


def _find_madvise() -> Any:
    try:
        function = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function


_madvise = _find_madvise()
