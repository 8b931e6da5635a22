"""Draw benchmarks/results/cpu.json: anygate's time over each peer's, shape by shape.

python benchmarks/chart.py        writes docs/images/speed.png
"""

from __future__ import annotations

import json
from pathlib import Path

import altair as alt

HERE = Path(__file__).parent
NAMES = {"flax": "Flax", "keras": "Keras on JAX"}


def main() -> None:
    results = json.loads((HERE / "results" / "cpu.json").read_text(encoding="utf-8"))
    points = [
        {
            "shape": " ".join(map(str, row["shape"])),
            "peer": NAMES.get(peer, peer),
            "mode": "training step" if row["mode"] == "training" else "inference",
            "ratio": ratio,
        }
        for row in results["rows"]
        if row["activation"] == "relu"
        for peer, ratio in row["ratio"].items()
    ]
    order = list(dict.fromkeys(p["shape"] for p in points))
    x = alt.X(
        "ratio:Q",
        scale=alt.Scale(type="log", domain=[0.06, 4]),
        title="time of anygate over the peer's",
    )
    dots = (
        alt.Chart()
        .mark_point(filled=True, size=70)
        .encode(
            x=x,
            y=alt.Y("shape:N", sort=order, title="[T B I H]"),
            color=alt.Color("peer:N", title=None),
            shape=alt.Shape("peer:N", title=None),
        )
    )
    even = alt.Chart().mark_rule(strokeDash=[4, 3]).encode(x=alt.datum(1))
    chart = alt.layer(dots, even, data=alt.Data(values=points)).properties(width=300, height=230)
    whole = chart.facet(column=alt.Column("mode:N", title=None)).properties(
        title="ReLU in anygate beside its peers (nn.LSTM with its own tanh); left of 1 is faster"
    )
    path = HERE.parent / "docs" / "images" / "speed.png"
    whole.save(path, scale_factor=2)
    print(path)


if __name__ == "__main__":
    main()
