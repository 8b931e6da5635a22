"""CUDA: persistent kernels of any formula and any cell of one product a step, compiled by NVRTC."""
