"""CUDA: kernels of any formula and any cell of one product a step, compiled by NVRTC.

    table     Programs as C             kernels/  the template that they are the hole of
    source    a whole kernel's text     plan, cost  how it is laid out, and which way is fastest
    driver    NVRTC and the driver      compiler  compiled once, kept on disk
    launch    all time steps at once    stepwise  a product and a kernel for each time step
    layer, plain, engine                tensors, autograd, the engine's class
    sums      what `record` reports

None of this has run on a GPU yet, only on an emulator (tests/cuda): "auto" passes over it.
"""

from .engine import CUDA

__all__ = ["CUDA"]
