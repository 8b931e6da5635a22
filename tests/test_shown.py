"""Short texts and notebook forms of what users hold in their hands."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
import torch
from torch import nn

import anygate
from anygate.lab.comparison import paired

EVIL = "where(x<2, x, 1)"


def things() -> list[object]:
    layer = anygate.LSTM(2, 3, activation=EVIL, engine="eager")
    model = nn.ModuleDict({"<b>": nn.LSTM(2, 3)})
    with anygate.record(layer) as recording:
        layer(torch.zeros(2, 1, 2))
    return [
        anygate.sheet("relu"),
        layer,
        anygate.GRU(2, 3),
        anygate.swap(model, EVIL, engine="eager"),
        recording,
        paired({"tanh": [1.0, 2.0], "<i>": [2.0, 3.0]}),
    ]


class Balanced(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)
        self.seen.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("k", range(6))
def test_each_is_short_as_text_and_whole_in_a_notebook(k: int) -> None:
    thing = things()[k]
    assert len(repr(thing)) < 300 and "\n" not in repr(thing)
    shown = Balanced(thing._repr_html_())  # type: ignore[attr-defined]
    assert shown.open == [] and shown.seen & {"table", "pre"}
    assert not shown.seen & {"b", "i", "script"}  # what came from a stranger is text
    assert len(str(thing)) >= len(repr(thing)) - 40
