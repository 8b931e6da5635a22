"""Sound rows, broken bytes and what must come of them, for the tests of data files."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from anygate.lab.tasks import Task, TaskError, file_task

WAVE = [round(10 + math.sin(k) + k / 50, 3) for k in range(60)]


ROWS = [f"2024-01-{1 + k // 2:02d} 00:00,{v}" for k, v in enumerate(WAVE)]


def refused(path: Path | str, said: str, target: str | None = "price", **options: Any) -> None:
    """The file is refused, with this in one sentence that names the file."""
    with pytest.raises(TaskError, match=said) as caught:
        file_task(str(path), target, **options)
    assert "\n" not in str(caught.value) and Path(path).stem in str(caught.value)


def a_task_or_a_sentence(build: Callable[[], Task]) -> None:
    """Either a task whose data are sound, or a TaskError of one line. Anything else fails."""
    try:
        build().load(0)
    except TaskError as error:
        said = str(error)
    else:
        return
    assert said.isprintable() and len(said) > 10


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    """Sound bytes with up to three places cut out, overwritten or added to."""
    content = sound
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(content)))
        stop = min(len(content), start + draw(st.integers(0, 12)))
        content = content[:start] + draw(st.binary(max_size=8)) + content[stop:]
    return content


TEXTS = st.text(alphabet="0123456789.,;:-+eE\"'\n\r\t |@#?naipricdtuf\ufeff\u2028é", max_size=200)
