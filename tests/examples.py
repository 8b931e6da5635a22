"""The number of examples that Hypothesis draws: few by default, all in the profile "thorough"."""

from __future__ import annotations

from hypothesis import settings

__all__ = ["examples"]


def examples(count: int) -> settings:
    """`count` examples in the profile "thorough" (`make test-all`), else a quarter, but not fewer
    than 8 where there are as many."""
    share = count * settings.default.max_examples // 100  # type: ignore[union-attr]
    return settings(max_examples=max(min(count, 8), share))
