"""The CPU engine: any cell of one product a step, fused into the recurrence, as machine code made
by LLVM.

`ops` spells each primitive in vectors, `tile` is the matrix kernel, `forward` and `backward` are
the time loops with the cell's Program in them, `loops` and `strips` what both share, `shared` the
code that every cell's calls, `layout` how a cell lies in memory, `compiler` makes machine code of
it, `layer` calls it, `operator` is what torch sees. `amx` and `overlap` are the other matrix
kernel, of processors with AMX.
"""

from .engine import CPU

__all__ = ["CPU"]
