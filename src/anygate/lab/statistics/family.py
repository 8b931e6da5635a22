"""Several paired comparisons at once: p values that hold for the whole family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from .values import Array, finite

_ROWS = 4096  # sign vectors of one matrix product: 2 MB of signs for 64 seeds


def max_t(
    differences: Sequence[Sequence[float]] | Array,
    *,
    sides: int = 2,
    resamples: int = 99_999,
    seed: int = 0,
) -> list[float]:
    """The adjusted p values of a family of paired comparisons, ``differences[comparison][seed]``.

    Sign-flip step-down maxT (Westfall and Young 1993, algorithm 4.1). Every comparison has the
    statistic ``T = sum(d) / sqrt(sum(d**2))``, or its size for two sides. The sign of a whole seed
    is flipped in all comparisons at once, which keeps what binds them together (they share the
    baseline's runs, the data and the initial weights). With the statistics in falling order, the
    p value of the k-th is the share of sign vectors whose largest statistic among the k-th and all
    smaller ones reaches ``T_k``, and never below the p value of the one before. A rejection at
    5% then has a family-wise error of 5% in the strong sense, and no correlation is given away, as
    Bonferroni's and Holm's bounds do. One comparison alone has the p value of
    :func:`sign_flip_p`.

    T rises with Student's t, by the same curve for every comparison: sign flips leave
    ``sum(d**2)`` alone, and ``t = T * sqrt((n - 1)/(n - T**2))``. So the order, and every p value,
    is that of t. Unlike t, T is finite for differences that are all equal, ``sqrt(n)``, the
    largest that there is. Differences that are all zero have p = 1 and take no part in the maximum.

    ``sides``: 2, or 1 for a mean above zero. All ``2**n`` sign vectors are visited where they are
    no more than ``resamples + 1`` (16 seeds by default), so that the p values are exact; else
    ``resamples`` random ones and the observed one, so that no p value is below
    ``1/(resamples + 1)``. Raises ``ValueError`` for values that are none, not finite or not the
    same number of seeds in every comparison, and other ``sides``.
    """
    if sides not in (1, 2):
        raise ValueError(f"max_t: sides is 1 or 2, not {sides!r}")
    table = _scaled(differences)
    total = np.ones((1, table.shape[1])) @ table.T
    observed = _statistics(total, table, sides)[0]
    order = np.argsort(-observed, kind="stable")
    ranked, reached = table[order], observed[order] - 1e-12  # but for the rounding of the sums
    hits, count = np.zeros(len(table)), 0
    for signs in _sign_vectors(table.shape[1], resamples, seed):
        found = _statistics(signs @ ranked.T, ranked, sides)
        largest = np.maximum.accumulate(found[:, ::-1], axis=1)[:, ::-1]
        hits += np.count_nonzero(largest >= reached, axis=0)
        count += len(signs)
    adjusted = np.empty(len(table))
    adjusted[order] = np.maximum.accumulate(hits / count)
    return [float(p) for p in adjusted]


def _scaled(differences: Sequence[Sequence[float]] | Array) -> Array:
    """The differences of each comparison over the root of their sum of squares."""
    rows = [finite(row, "max_t") for row in differences]
    if not rows:
        raise ValueError("max_t: at least one comparison is needed")
    if len({row.size for row in rows}) > 1:
        raise ValueError("max_t: every comparison needs the same number of seeds")
    table = np.stack(rows)
    table = table / np.maximum(np.abs(table).max(axis=1, keepdims=True), np.finfo(float).tiny)
    squares = (table**2).sum(axis=1, keepdims=True)
    return np.asarray(table / np.sqrt(np.where(squares > 0, squares, 1.0)))


def _statistics(sums: Array, table: Array, sides: int) -> Array:
    """T of each comparison for rows of sums; of all zeros it is minus infinity."""
    return np.where(table.any(axis=1), np.abs(sums) if sides == 2 else sums, -np.inf)


def _sign_vectors(n: int, resamples: int, seed: int) -> Iterator[Array]:
    """Blocks of rows of -1 and 1: all ``2**n``, or random ones after the observed one (all 1)."""
    if n < 60 and 2**n <= resamples + 1:
        for start in range(0, 2**n, _ROWS):
            codes = np.arange(start, min(start + _ROWS, 2**n))[:, None]
            yield np.asarray(1 - 2 * ((codes >> np.arange(n)) & 1), dtype=np.float64)
        return
    yield np.ones((1, n))
    random = np.random.default_rng(seed)
    for start in range(0, resamples, _ROWS):
        rows = min(_ROWS, resamples - start)
        yield np.asarray(1 - 2 * random.integers(0, 2, size=(rows, n)), dtype=np.float64)
