"""Fuzz `anygate report DIR` with study folders of a stranger: every field, file and link.

    python benchmarks/fuzz_folders.py --count 10000 --seed 0

Each case is a sound folder (a study, a tuned study or a grid) with one to three changes, reported
in a forked child. It must end with 0 or 2, with one sentence and no traceback, without a control
character on the terminal, within 10 s of processor time and 1 GB, and write nothing outside.

To be fast enough for thousands, the child inherits what its parent has imported, and not every case
has all of a report: all read the folder, judge, print the table and write the summary; every 4th
computes the figures too, every 40th makes the charts' specifications and the page (each text is
held against what the picture library can take), and every 400th draws the pictures. --whole makes
all of it in every case. POSIX only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

SECONDS, BYTES = 10.0, 10**9
SLOTS = ("input_gate", "forget_gate", "candidate", "output_gate", "cell_output")
RAW = (
    "1e400",
    "-1e400",
    "9" * 400,
    "1" + "0" * 5000,
    "NaN",
    "Infinity",
    "1e-400",
    "-0.0",
    "[" * 5000 + "]" * 5000,
    '"\\ud800"',
    '"\\ufffe"',
    '"a\\u0000b"',
    "01",
    "tru",
)
"""JSON, sound or not, that no Python value is written as."""
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    7,
    10**12,
    2**63,
    0.5,
    -0.5,
    1e100,
    1e300,
    5e-324,
    "",
    "x",
    "tanh",
    "a\nb",
    "a\tb",
    "a\fb",
    "a\x1b[31mb",
    "\x1b]0;t\x07",
    "a\x85b",
    "a\u2028b",
    "a\ufffeb",
    "\\",
    "a\\",
    "\\u0041",
    "'",
    '"',
    "'\"",
    "${1}",
    "{{7*7}}",
    "<script>alert(1)</script>",
    "</svg>",
    "&amp;",
    "]]>",
    "\u202eabc",
    "\U0001f600",
    "datum.x",
    "[a.b]",
    "..",
    ".",
    "/",
    "/etc/passwd",
    "../../x",
    "a" * 300,
    "a" * 3000,
    "a" * 10**6,
    "x" + "+x" * 300,
    "exp(" * 50 + "x" + ")" * 50,
    "gelu_jax(gelu_jax(gelu_jax(1)))",
    "x**x**x",
    "where(x > 0, x, 0)",
    "max(x, min(x, abs(x)))",
    [],
    {},
    [[]],
    [None],
    {"": ""},
    ["tanh"] * 5000,
    list(range(5000)),
    [0.5] * 5000,
    {str(k): k for k in range(3000)},
)


def snapshot(rng: random.Random) -> dict[str, Any]:
    """The recording of a trial's inside, in four bins."""
    row = [round(rng.random(), 3) for _ in range(4)]
    statistics = ("mean", "spread", "saturated_low", "saturated_high")
    slots = {slot: dict.fromkeys(statistics, row) for slot in SLOTS}
    states = ("max_abs_cell", "grad_h", "grad_c", "grad_h_direct", "grad_c_direct")
    return {"edges": [0, 10, 20, 40, 64], "slots": slots, **dict.fromkeys(states, row)}


def trial(rng: random.Random, key: str, label: str, seed: int) -> dict[str, Any]:
    """A run of three epochs; one in eight diverged."""
    shares = {slot: {"saturated": 0.1, "dead": 0.0} for slot in SLOTS}
    epochs = [
        {
            "epoch": e,
            "train_loss": 1 / e,
            "metric": rng.random(),
            "gradient_norm": 1.0,
            "gradient_norm_max": None,
            "max_abs_cell": 2.0,
            "slots": shares,
        }
        for e in (1, 2, 3)
    ]
    bad = {
        "epoch": 3,
        "step": 9,
        "what": "the loss is not finite",
        "slot": "candidate",
        "value": "inf",
        "time_step": 4,
        "max_abs_cell_before": 3.0,
    }
    return {
        "schema": 1,
        "key": key,
        "task": "adding",
        "activation": label,
        "slot": "candidate",
        "seed": seed,
        "diverged": bad if rng.random() < 0.125 else None,
        "epochs": epochs,
        "inside": {"start": snapshot(rng), "end": snapshot(rng)},
        "final_metric": rng.random(),
    }


def study(rng: random.Random, **more: Any) -> dict[str, Any]:
    """study.json for two activations and three seeds."""
    task = {
        "name": "adding",
        "title": "the adding problem",
        "description": "Add two numbers.",
        "metric": "mse",
        "unit": "m",
        "higher_is_better": False,
        "baseline": 0.9,
        "solved": 0.2,
        "steps": 64,
        "baseline_name": "guessing",
        "same_data": False,
    }
    formulas = {"tanh": "tanh(x)", "relu": "where(x > 0, x, 0)"}
    activations = [
        {"label": name, "formula": formula, "latex": "", "source": "a book"}
        for name, formula in formulas.items()
    ]
    return {
        "schema": 1,
        "command": "anygate compare tanh relu",
        "task": task,
        "slot": "candidate",
        "slots": ["candidate"],
        "activations": activations,
        "seeds": [0, 1, 2],
        "settings": {
            "hidden_size": 8,
            "epochs": 3,
            "batch_size": 4,
            "learning_rate": 0.01,
            "clip": 1.0,
            "forget_bias": 1.0,
            "optimizer": "Adam",
            "margin": 0.05,
        },
        "machine": {"cpu": "a processor", "cores": 2, "torch": "2.11", "engine": "cpu"},
        **more,
    }


def write(path: Path, content: Any) -> None:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def sound(rng: random.Random, root: Path) -> None:
    """A sound folder: a study with a stability map, a tuned study, or a grid."""
    kind = rng.choice(("study", "study", "tuned", "grid"))
    folder = root / "adding-candidate" if kind == "grid" else root
    if kind == "grid":
        names = [folder.name, "other"]
        write(root / "grid.json", {"schema": 1, "command": "anygate compare", "studies": names})
    homes = {folder: ("tanh", "relu")}
    if kind == "tuned":
        tried = [{"rate": r, "values": [0.1, 0.2], "diverged": 0} for r in (0.01, 0.1)]
        tuned = {
            "tanh": {"rate": 0.01, "edge": "lowest", "tried": tried},
            "relu": {"rate": 0.1, "edge": "highest", "tried": tried},
        }
        rates = {
            "rates": [0.01, 0.1],
            "seeds": [1000000, 1000001],
            "given": False,
            "shared": 0.01,
            "tuned": tuned,
        }
        write(folder / "study.json", study(rng, learning_rates=rates))
        homes = {folder / "rates" / "0.01": ("tanh", "relu"), folder / "rates" / "0.1": ("relu",)}
    else:
        write(folder / "study.json", study(rng))
        cells = [
            {"activation": a, "learning_rate": r, "forget_bias": b, "keys": [f"{a}-{r}-{b}"]}
            for a in ("tanh", "relu")
            for r in (0.01, 0.1)
            for b in (0.0, 1.0)
        ]
        write(folder / "stability" / "grid.json", {"schema": 1, "steps": 40, "cells": cells})
        for cell in cells:
            (key,) = cell["keys"]
            found = trial(rng, key, cell["activation"], 0) | {"epochs": [], "inside": {}}
            write(folder / "stability" / "trials" / f"{key}.json", found)
    for home, labels in homes.items():
        for label in labels:
            for seed in (0, 1, 2):
                key = f"{label}-{seed}"
                write(home / "trials" / f"{key}.json", trial(rng, key, label, seed))
                timing = {"schema": 1, "key": key, "seconds_per_step": 0.01, "seconds_total": 1.0}
                write(home / "timing" / f"{key}.json", timing)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    keys = (
        value.keys()
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else ()
    )
    for key in list(keys):
        yield value, key
        yield from places(value[key])


def similar(rng: random.Random, value: float | str) -> float | str:
    """A value of the same kind, which may fit."""
    if isinstance(value, str):
        letters = "abcXYZ09 _-.:,;()*+/%&<>'\"$éß漢🙂"
        return "".join(rng.choice(letters) for _ in range(rng.randrange(1, 60)))
    if isinstance(value, int):
        return rng.choice((value + 1, value * 2, rng.randrange(100), not value))
    factors = (-1.0, 0.0, 1e-300, 10 ** rng.uniform(-40, 40), 10 ** rng.uniform(-3, 3))
    return value * rng.choice(factors)


def change_field(rng: random.Random, path: Path) -> str:
    """Put something else in place of one field, delete it, or repeat it many times."""
    value = json.loads(path.read_text(encoding="utf-8"))
    container, key = rng.choice(list(places(value)))
    what = rng.randrange(14)
    raw = rng.choice(RAW)
    if what == 0:
        del container[key]
    elif what == 1:
        container[key] = [container[key]] * rng.choice((2, 5000))
    elif what == 2 and isinstance(container, dict):
        container[str(rng.choice(VALUES))[:10000]] = container.pop(key)
    elif what > 8 and isinstance(container[key], float | int | str):
        container[key] = similar(rng, container[key])
    else:
        container[key] = "@RAW@" if what < 5 else rng.choice(VALUES)
    path.write_text(json.dumps(value).replace('"@RAW@"', raw), encoding="utf-8")
    return f"{path.name}: {key!r} ({what})"


def change_file(rng: random.Random, path: Path, outside: Path) -> str:
    """Damage a file's bytes, or put a pipe, a folder or a link in its place."""
    what = rng.randrange(6)
    content = path.read_bytes()
    path.unlink()
    if what == 0:
        path.write_bytes(content[: rng.randrange(len(content) + 1)])
    elif what == 1:
        spoilt = bytearray(content)
        for _ in range(rng.randrange(1, 9)):
            spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
        path.write_bytes(spoilt)
    elif what == 2:
        os.mkfifo(path)
    elif what == 3:
        path.mkdir()
    elif what == 4:
        path.symlink_to(outside / rng.choice(("precious.txt", "none")))
    return f"{path.name}: file ({what})"


def plant_link(rng: random.Random, root: Path, outside: Path) -> str:
    """A link where the report is to be written."""
    homes = [path.parent for path in root.rglob("study.json")] or [root]
    name = rng.choice(
        (
            "figures",
            "own",
            "own/figures",
            "report.html",
            "summary.json",
            "index.html",
            "figures/learning_curves.svg",
            "figures/final_metric.png",
        )
    )
    path = rng.choice([*homes, root]) / name
    if path.parent.is_symlink():  # planted before, and it may lead nowhere
        return "link in a link"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(path):
        path.symlink_to(outside / rng.choice(("", "precious.txt", "none")))
    return f"link {name}"


def mutate(rng: random.Random, root: Path, outside: Path) -> list[str]:
    """One to three changes; returns them in words."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        files = sorted(p for p in root.rglob("*.json") if p.is_file() and not p.is_symlink())
        if not files:
            break
        heads = [p for p in files if p.name in ("study.json", "grid.json")]
        path = rng.choice(heads if heads and rng.random() < 0.5 else files)
        what = rng.random()
        try:
            if what < 0.8:
                done.append(change_field(rng, path))
            elif what < 0.9:
                done.append(change_file(rng, path, outside))
            else:
                done.append(plant_link(rng, root, outside))
        except (ValueError, IndexError, RecursionError):  # an earlier change left nothing to change
            continue
    return done


def _leave_out(seed: int) -> None:
    """Replace what this case does not do; the drawing by a check that it could be done."""
    from anygate.lab.report import export, page
    from anygate.lab.report import page as figures

    def check(spec: Any, **options: Any) -> str:
        for container, key in places([spec]):
            for text in (key, container[key]):
                if isinstance(text, str):
                    bad = [
                        c
                        for c in text
                        if ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 or ord(c) in (0xFFFE, 0xFFFF)
                    ]
                    if bad:
                        raise AssertionError(f"{text[:80]!r} for the picture library")
        return "<svg></svg>"

    if seed % 400:
        export.vl_convert.vegalite_to_svg = check
        export.vl_convert.svg_to_png = lambda svg, scale: b""
        page.javascript = lambda: ""
    if seed % 40:
        page.render = lambda *parts: ""
        export.file_spec = lambda figure: {"title": figure.title, "text": figure.sentence}
    if seed % 4:
        figures.figures = lambda results, shapes: []


def _state(folder: Path) -> dict[str, Any]:
    return {
        str(p.relative_to(folder)): (p.lstat().st_mtime_ns, p.is_file() and p.read_bytes())
        for p in sorted(folder.rglob("*"))
    }


def case(seed: int, whole: bool) -> tuple[str, list[str], float, int]:
    """Run one: (what went wrong or '', the changes, seconds of processor time, exit code)."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as scratch:
        root, outside = Path(scratch) / "in" / "study", Path(scratch) / "outside"
        outside.mkdir()
        (outside / "precious.txt").write_text("precious")
        root.mkdir(parents=True)
        sound(rng, root)
        changes = mutate(rng, root, outside)
        before = _state(outside)
        said = Path(scratch) / "said"
        child = os.fork()
        if child == 0:
            code = 99
            try:
                _limit()
                out = os.open(said, os.O_WRONLY | os.O_CREAT)
                os.dup2(out, 1)
                os.dup2(out, 2)
                if not whole:
                    _leave_out(seed)
                from anygate.cli import main

                code = main(["report", str(root)])
                sys.stdout.flush()
            except BaseException:  # noqa: BLE001 - this is what is looked for
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        _, status, used = os.wait4(child, 0)
        code = os.waitstatus_to_exitcode(status)
        text = said.read_bytes().decode(errors="replace") if said.exists() else ""
        seconds = used.ru_utime + used.ru_stime
        wrong = ""
        if code not in (0, 2) or "Traceback" in text:
            wrong = f"exit {code}"
        elif seconds > SECONDS:
            wrong = f"{seconds:.1f} s"
        elif used.ru_maxrss * 1024 > BYTES:
            wrong = f"{used.ru_maxrss >> 10} MiB"
        elif any(not (c.isprintable() or c == "\n") for c in text):
            wrong = "unprintable text"
        elif code == 2 and not any(line.startswith("anygate: ") for line in text.split("\n")):
            wrong = "no sentence"
        elif _state(outside) != before or set(os.listdir(root.parent)) != {"study"}:
            wrong = "written outside"
        return (f"{wrong}\n{text[-1500:]}" if wrong else ""), changes, seconds, code


def _limit() -> None:
    """Twice the processor time ends the child."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(2 * SECONDS), int(3 * SECONDS)))


def _warm() -> None:
    """Import what a report needs and fill its caches, once for all children."""
    with tempfile.TemporaryDirectory() as scratch:
        sound(random.Random(0), Path(scratch))
        from anygate.lab.report import export, page, write
        from anygate.lab.study.store import results

        kept = (export.vl_convert.vegalite_to_svg, export.vl_convert.svg_to_png, page.javascript)
        export.vl_convert.vegalite_to_svg = lambda spec, **options: "<svg></svg>"
        export.vl_convert.svg_to_png = lambda svg, scale: b""
        page.javascript = lambda: ""  # no thread of the picture library before a fork
        folder = next(Path(scratch).rglob("study.json")).parent
        write(results.load(folder), folder)
        export.vl_convert.vegalite_to_svg, export.vl_convert.svg_to_png, page.javascript = kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases; returns 1 if any failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first case; they count on")
    parser.add_argument("--whole", action="store_true", help="a whole report in every case")
    options = parser.parse_args(arguments)
    _warm()
    started, codes, slowest, failed = time.monotonic(), Counter[int](), 0.0, 0
    for seed in range(options.seed, options.seed + options.count):
        wrong, changes, seconds, code = case(seed, options.whole)
        codes[code] += 1
        slowest = max(slowest, seconds)
        if wrong:
            failed += 1
            print(f"seed {seed} ({'; '.join(changes)}): {wrong}", flush=True)
        if (seed + 1) % 200 == 0:
            print(
                f"{seed + 1}: exit codes {dict(codes)}, {failed} failed, slowest {slowest:.1f} s "
                f"of processor time, {time.monotonic() - started:.0f} s",
                flush=True,
            )
    print(
        f"{options.count} folders in {time.monotonic() - started:.0f} s: exit codes "
        f"{dict(codes)}, slowest {slowest:.1f} s of processor time, {failed} failed"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
