"""The OpenMP library that torch has loaded: its team of threads runs the kernels too."""

from __future__ import annotations

import functools

__all__ = ["openmp_path"]


@functools.lru_cache(maxsize=1)
def openmp_path() -> str | None:
    """The file of the libgomp in this process; None where torch uses another OpenMP."""
    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            found = [line.split()[-1] for line in maps if "libgomp" in line]
    except OSError:
        return None
    return found[0] if found else None
