"""Every layer as an ONNX file: the catalogue and twenty drawn formulas, in LSTM, GRU and RNN, with
every option; run by ONNX Runtime at two lengths and batches, read again and run by anygate.

    python benchmarks/onnx_grid.py --out benchmarks/results/onnx_grid.json   # 20 minutes of a core
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
import copy
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

import numpy as np
import onnx
import onnx.reference
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
def check(
    make: Any, given: tuple[str, ...], way: str, dtype: torch.dtype, seed: int, folder: Path
) -> tuple[str, dict[str, float]]:
    """The operators that it became, and the largest differences from the layer: of the file, of the
    layer read back; and, for the reason where one is off, of the file run by onnx's own evaluator,
    and of all of them from the layer in float64."""
    torch.manual_seed(seed)
    layer = make(dtype=dtype, engine="eager").eval()
    exact = copy.deepcopy(layer).double()
    model, report = layer_file(layer, given, way=way)
    onnx.save(model, folder / "layer.onnx")
    (again,) = load(folder / "layer.onnx").values()
    found: dict[str, float] = {}

    def add(what: str, values: Any, others: Any) -> None:
        errors = [off(np.asarray(v), o) for v, o in zip(values, others, strict=True)]
        most = max([found.get(what, 0.0), *errors])
        found[what] = float(f"{min(most, 1e300):.3g}")  # JSON has no infinity

    for steps, rows in ((7, 3), (1, 1)):
        keywords, inputs = drawn_run(layer, given, steps, rows)
        own = directed(layer, keywords, way)
        names = ("y", *(f"{name}_n" for name in layer._design.base.states))
        by_runtime = run(model, **inputs)
        of_file = [by_runtime[name] for name in names]
        add("file", of_file, [own[0], *(state[0] for state in own[1:])])
        of_back = own
        if not (way and "cuts" in given):  # Directions takes no reset=
            of_back = outcome(again, keywords)
            add("read again", of_back, own)
        limit = TOLERANCE[dtype]
        if max(found["file"], found.get("read again", 0.0)) <= limit:
            continue
        true = directed(exact, {k: doubled(v) for k, v in keywords.items()}, way)
        add("layer from float64", own, true)
        add("file from float64", of_file, [true[0], *(state[0] for state in true[1:])])
        add("read again from float64", of_back, true)
        if report.became != "Scan":  # onnx's operators take other activations than the node names
            continue
        arrays = {k: np.asarray(v) for k, v in inputs.items()}
        try:
            evaluator = onnx.reference.ReferenceEvaluator(model)
            with np.errstate(all="ignore"):
                results = evaluator.run(None, arrays)
        except (RuntimeError, NotImplementedError, ValueError, TypeError):  # what it has not
            continue
        by_onnx = dict(zip(evaluator.output_names, results, strict=True))
        add("file by onnx", [by_onnx[n] for n in names], [own[0], *(s[0] for s in own[1:])])
    return report.became, found


def doubled(value: Any) -> Any:
    """Tensors of numbers in float64."""
    if isinstance(value, tuple):
        return tuple(map(doubled, value))
    return value.double() if value.is_floating_point() else value


def directed(layer: Any, keywords: dict[str, Any], way: str) -> list[Any]:
    """Output and last states; with `way` those of the second direction alone, which begins with
    what is given for one."""
    if not way:
        return outcome(layer, keywords)
    own = dict(keywords)
    if "hx" in own:
        hx = own["hx"] if isinstance(own["hx"], tuple) else (own["hx"],)
        both = tuple(torch.cat([state, state]) for state in hx)
        own["hx"] = both if len(both) > 1 else both[0]
    output, *states = outcome(layer, own)
    return [output[..., 4:], *(state[1:] for state in states)]


def reason(found: dict[str, float], limit: float) -> str:
    """The reason why a cell is off, as far as the differences tell."""
    own = [found.get(f"{name} from float64", 0.0) for name in ("layer", "read again")]
    single = limit > 1e-9  # in float64 there is nothing more exact to compare with
    if single and max(*own, found.get("file from float64", 0.0)) <= limit:
        return "rounding: layer, file and layer read again are each within the limit of float64"
    if single and max(own) > limit:
        return "rounding: in float32 anygate's own engines are further from float64 than the limit"
    if found.get("read again", 0.0) <= limit and found.get("file by onnx", 1.0) <= limit:
        return "ONNX Runtime's: the same file, run by onnx's reference evaluator, is within it"
    return "not known"


def written(path: Path, found: dict[str, Any]) -> None:
    """Put the result in place of the one before, whole or not at all."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    new.replace(path)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", default="0/1", help="k/n: every n-th layer from the k-th")
    parser.add_argument(
        "--out", type=Path, help="a JSON file; one that is not whole is gone on with"
    )
    chosen = parser.parse_args()
    part, _, count = chosen.part.partition("/")
    torch.manual_seed(0)  # the layers that are tried for their options are drawn too
    every = list(itertools.islice(enumerate(layers()), int(part), None, int(count)))
    result: dict[str, Any] = {
        "command": f"benchmarks/onnx_grid.py --part {chosen.part} --out {chosen.out}",
        "versions": {m.__name__: m.__version__ for m in (onnx, onnxruntime, torch)},
        "limits": {str(dtype): limit for dtype, limit in TOLERANCE.items()},
        "1e+300": "one is finite where the other is not",
        "layers": len(every),
        "layers done": 0,
        "processor seconds": 0,
        "files": {},
        "largest error, relative to the largest value": {},
        "off": [],
    }
    if chosen.out and chosen.out.exists():
        before = json.loads(chosen.out.read_text(encoding="utf-8"))
        if all(before.get(k) == result[k] for k in ("command", "versions", "limits", "layers")):
            result = before
            for cell in result["off"]:
                cell["reason"] = reason(cell["differences"], result["limits"][cell["dtype"]])
    kinds = Counter(result["files"])
    worst = result["largest error, relative to the largest value"]
    begun = time.process_time() - result["processor seconds"]
    with tempfile.TemporaryDirectory() as folder:
        for place, (label, make, given, way) in every[result["layers done"] :]:
            for dtype, limit in TOLERANCE.items():
                became, found = check(make, given, way, dtype, place, Path(folder))
                error, back = found["file"], found.get("read again", 0.0)
                kinds[became] += 1
                key = f"{became} {str(dtype).removeprefix('torch.')}"
                for entry, size in ((key, error), (f"read again {key}", back)):
                    worst[entry] = max(worst.get(entry, 0.0), size)
                if not max(error, back) <= limit:
                    cell = {"layer": label, "dtype": str(dtype), "became": became}
                    cell |= {"differences": found, "reason": reason(found, limit)}
                    result["off"].append(cell)
                    print(f"off: {cell}", flush=True)
            result["layers done"] += 1
            result["processor seconds"] = round(time.process_time() - begun)
            result["files"] = dict(kinds)
            if chosen.out and (result["layers done"] % 20 == 0 or place == every[-1][0]):
                written(chosen.out, result)
    print(
        f"{sum(kinds.values())} files of {result['layers done']} layers: {dict(kinds)}; "
        f"{result['processor seconds']} s"
    )
    for key, error in worst.items():
        print(f"  {key}: at most {error:.2g}")
    print(f"{len(result['off'])} off")
    return int(bool(result["off"]))


if __name__ == "__main__":
    sys.exit(main())
