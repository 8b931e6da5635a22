"""Every layer as an ONNX file: the catalogue and twenty drawn formulas, in LSTM, GRU and RNN, with
every option; run by ONNX Runtime at two lengths and batches, read again and run by anygate.

    python benchmarks/onnx_grid.py --out benchmarks/results/onnx_grid.json   # 15 minutes of a core
    python benchmarks/onnx_grid.py --part 0/40                               # a part of it

Three kinds of files, each in float32 and float64: each activation as `activation=` in each family;
each once more with activations of its own in all slots, so that each stands in every slot, with the
options and what is given in turn; and every option by itself, with and without states, lengths,
masks and resets. Arguments are clipped in the second kind: products of a cubic and an exponential
would measure how errors grow, and not the file.

Exit status 1 if one is off by more than 1e-6 (float32) or 1e-12 (float64) of the largest value.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import onnx
import onnxruntime
import torch

from anygate import GRU, LSTM, RNN
from anygate.formulas import ACTIVATIONS
from anygate.interop.onnx import load
from tests.onnx_files import layer_file, off, run
from tests.test_interop_onnx import TOLERANCE, drawn, drawn_run, outcome

GIVEN = (
    (),
    ("states", "lengths"),
    ("states", "valid", "cuts"),
)
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"bias": False},
    {"clip": 0.5},
    {"zoneout": 0.3},
    {"layer_norm": True},
    {"peephole": True},
    {"coupled": True},
    {"peephole": True, "coupled": True},
    {"reset_after": False},
    {"activation": "prelu", "trainable": "unit"},
    {"activation": "leaky_relu", "trainable": True},
    {"gate_activation": "hard_sigmoid"},
    {"input_gate": "1"},
    {"bidirectional": True},
)


TURNS = tuple(o for o in OPTIONS if not {"activation", "gate_activation", "input_gate"} & o.keys())
"""Options that leave the activations open."""


def in_all_slots(kind: Any, place: int, every: list[Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The arguments of a layer whose slots hold the activations from `place` on, seven apart, and
    what it is given."""
    slots = [slot for slot, _ in kind._torch_type.slots]
    chosen = {slot: every[(place + 7 * k) % len(every)] for k, slot in enumerate(slots)}
    for turn in range(place, place + len(TURNS)):
        options = {"clip": 1.0, **TURNS[turn % len(TURNS)]}
        if options.get("coupled"):
            chosen.pop("forget_gate", None)
        try:
            kind(3, 4, **chosen, **options)
        except (TypeError, ValueError):  # an option of another family
            continue
        return {**chosen, **options}, GIVEN[place % len(GIVEN)]
    raise ValueError(f"no option fits {kind.__name__}")


def layers() -> Iterator[tuple[str, Any, tuple[str, ...], str]]:
    """A label, how a layer is made in a dtype, what is given beside x, and the direction."""
    every = {a.name: a for a in ACTIVATIONS.values()}
    every |= {a.formula: a for a in drawn(20)}
    for (name, activation), kind in itertools.product(every.items(), (LSTM, GRU, RNN)):
        label = f"{kind.__name__} {name}"
        yield label, lambda k=kind, a=activation, **o: k(3, 4, activation=a, **o), (), ""
    activations = list(every.values())
    for place, kind in itertools.product(range(len(activations)), (LSTM, GRU, RNN)):
        merged, given = in_all_slots(kind, place, activations)
        way = "_reverse" if merged.get("bidirectional") else ""
        shown = {k: getattr(v, "label", v) for k, v in merged.items()}
        label = f"{kind.__name__} {shown} {given}"
        yield label, lambda k=kind, m=merged, **o: k(3, 4, **m, **o), given, way
    for options, kind, extra, given in itertools.product(
        OPTIONS, (LSTM, GRU, RNN), ({}, {"activation": "silu"}), GIVEN
    ):
        merged = {**extra, **options}
        try:
            kind(3, 4, **merged)
        except (TypeError, ValueError):  # an option of another family
            continue
        way = "_reverse" if options.get("bidirectional") else ""
        label = f"{kind.__name__} {merged} {given}"
        yield label, lambda k=kind, m=merged, **o: k(3, 4, **m, **o), given, way


@torch.no_grad()
def check(make: Any, given: tuple[str, ...], way: str, dtype: torch.dtype, folder: Path) -> Any:
    """The operators that it became, and the largest errors of file and of the layer read back."""
    layer = make(dtype=dtype, engine="eager").eval()
    model, report = layer_file(layer, given, way=way)
    onnx.save(model, folder / "layer.onnx")
    (again,) = load(folder / "layer.onnx").values()
    errors, back = [], []
    names = layer._design.base.states
    for steps, rows in ((7, 3), (1, 1)):
        keywords, inputs = drawn_run(layer, given, steps, rows)
        own = dict(keywords)
        if way and "hx" in own:
            hx = own["hx"] if isinstance(own["hx"], tuple) else (own["hx"],)
            both = tuple(torch.cat([state, state]) for state in hx)
            own["hx"] = both if len(both) > 1 else both[0]
        output, *states = outcome(layer, own)
        if way:
            output, states = output[..., 4:], [state[1:] for state in states]
        found = run(model, **inputs)
        errors.append(off(found["y"], output))
        errors += [off(found[f"{n}_n"], s[0]) for n, s in zip(names, states, strict=True)]
        if not (way and "cuts" in given):  # Directions takes no reset=
            pairs = zip(outcome(again, keywords), [output, *states], strict=True)
            back += [off(a.numpy(), b) for a, b in pairs]
    return report.became, max(errors), max(back, default=0.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", default="0/1", help="k/n: every n-th layer from the k-th")
    parser.add_argument("--out", type=Path, help="a JSON file for the result")
    chosen = parser.parse_args()
    part, _, count = chosen.part.partition("/")
    torch.manual_seed(0)
    kinds: Counter[str] = Counter()
    worst: dict[str, float] = {}
    bad = 0
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        for label, make, given, way in itertools.islice(layers(), int(part), None, int(count)):
            for dtype, limit in TOLERANCE.items():
                became, error, back = check(make, given, way, dtype, Path(folder))
                kinds[became] += 1
                key = f"{became} {str(dtype).removeprefix('torch.')}"
                worst[key] = max(worst.get(key, 0.0), error)
                worst[f"read again {key}"] = max(worst.get(f"read again {key}", 0.0), back)
                if not max(error, back) <= limit:
                    bad += 1
                    print(f"off: {label} {dtype}: {became} {error:.2g}, read again {back:.2g}")
    seconds = time.process_time() - begun
    print(f"{sum(kinds.values())} files: {dict(kinds)}; {seconds:.0f} s")
    for key, error in worst.items():
        print(f"  {key}: at most {error:.2g}")
    print(f"{bad} off")
    if chosen.out:
        result = {
            "command": f"benchmarks/onnx_grid.py --part {chosen.part} --out {chosen.out}",
            "versions": {m.__name__: m.__version__ for m in (onnx, onnxruntime, torch)},
            "processor seconds": round(seconds),
            "files": dict(kinds),
            "largest error, relative to the largest value": worst,
            "limits": {str(dtype): limit for dtype, limit in TOLERANCE.items()},
            "off": bad,
        }
        chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
