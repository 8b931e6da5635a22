"""`python -m studies`: run, judge, list, measure, publish."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from anygate.formulas.errors import printable

from .claims import CLAIMS
from .costs import add_rounds, load_costs
from .effects import LOOKS
from .experiments import SCHEDULE, STAGES, trials
from .judge import JudgedClaim, judged
from .lab import cores, progress_bar
from .publish import PUBLISHED, publish
from .results import COMMITTED, CONFIRMING, QUICK_SEEDS, SEEDS, Results, load
from .rules import RulesChanged
from .runner import missing, run
from .store import Store, StoreError

__all__ = ["main"]

QUICK = Path("runs") / "answer" / "quick.jsonl"
QUICK_MINUTES = 14.0
QUICK_SCHEDULE = (("core", 4), ("map", 4), ("core", 8), ("map", 8), *SCHEDULE)
"""Breadth first: a quarter of an hour sees few seeds of everything that matters most."""


def parser() -> argparse.ArgumentParser:
    """All commands."""
    made = argparse.ArgumentParser(
        prog="python -m studies",
        description="Test what is said about activations in LSTMs.",
    )
    commands = made.add_subparsers(dest="command", required=True)

    def command(name: str, function: Callable[[argparse.Namespace], int], help: str) -> Any:
        found = commands.add_parser(name, help=help, description=help)
        found.set_defaults(function=function)
        return found

    run_ = command("run", _run, "make the next runs; stopped at any moment, what is done is kept")
    run_.add_argument("--minutes", type=float, metavar="N", help="how long (default 60)")
    run_.add_argument("--jobs", type=int, metavar="N", help="processes (default: one a core)")
    run_.add_argument("--device", default="cpu", help="where runs train: cpu or cuda")
    run_.add_argument("--stage", metavar="NAME", help="this stage only (see status)")
    run_.add_argument(
        "--quick",
        action="store_true",
        help=f"a quarter of an hour into {QUICK}, and judge it; not part of the confirming run",
    )
    for each in (
        command("status", _status, "how far the confirming run is, stage by stage"),
        command("judge", _judge, "the verdicts on the committed results"),
    ):
        each.add_argument("--file", type=Path, metavar="FILE", help="another file of runs")
        each.add_argument("--json", action="store_true", help="print one JSON document")
    command("list", _list, "the claims, part by part")
    costs = command("costs", _costs, "time activations, each in processes of its own")
    costs.add_argument("--rounds", type=int, default=5, metavar="N", help="to add (default 5)")
    command("page", _page, "write the answer, its evidence and pictures, and what they quote")
    published = command("publish", _publish, "write what `anygate show` quotes into the package")
    published.add_argument("--file", type=Path, metavar="FILE", help="another file of runs")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the options ask; returns the process's code."""
    options = parser().parse_args(arguments)
    function: Callable[[argparse.Namespace], int] = options.function
    try:
        return function(options)
    except (RulesChanged, StoreError, ValueError) as error:
        print(printable(f"studies: {error}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; what is done is kept, the same command goes on", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    path = QUICK if options.quick else CONFIRMING
    minutes = options.minutes or (QUICK_MINUTES if options.quick else 60.0)
    schedule = QUICK_SCHEDULE if options.quick else SCHEDULE
    if options.stage is not None:
        schedule = tuple(each for each in schedule if each[0] == options.stage)
        if not schedule:
            raise ValueError(f"no stage {options.stage!r}; there are: {_stages()}")
    seeds = QUICK_SEEDS if options.quick else SEEDS
    plan = list(trials(schedule, seeds))
    store = Store(path)
    held = store.load()
    before = len(plan) - sum(1 for _ in missing(held, plan))
    with progress_bar("runs") as bar:
        done = run(
            store,
            plan,
            minutes=minutes,
            jobs=options.jobs or cores(),
            confirming=not options.quick,
            device=options.device,
            progress=lambda count: bar(before + count, len(plan), ""),
        )
    print(f"{done} runs in {path}, {held.count} before", file=sys.stderr)
    return _print_verdicts(load(path, seeds)) if options.quick else 0


def _stages() -> str:
    return ", ".join(stage.name for stage in STAGES)


def _results(options: argparse.Namespace) -> Results:
    return load() if options.file is None else load(options.file, _seeds(options.file))


def _seeds(path: Path) -> tuple[int, ...]:
    """A file of a quick run has the seeds of quick runs."""
    held = Store(path).load().runs.values()
    quick = any(seed in QUICK_SEEDS for runs in held for seed in runs)
    return QUICK_SEEDS if quick else SEEDS


def _status(options: argparse.Namespace) -> int:
    found = status(_results(options))
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"{found['runs']} of {found['planned']} runs, in {found['stretches']} stretches")
    print(f"rules: commit {', '.join(found['rules']) or 'none yet'}")
    for stage in found["stages"]:
        print(
            f"{stage['name']:9} {stage['arms']:3} arms, {stage['seeds']:2} of {LOOKS[-1]} seeds "
            f"complete, {stage['runs']:4} runs, {stage['diverged']} diverged: {stage['title']}"
        )
    return 0


def status(results: Results) -> dict[str, Any]:
    """The state of the run. seeds: with how many all arms of the stage ran."""
    stages = []
    for stage in STAGES:
        bad, runs = results.diverged(stage.arms)
        stages.append(
            {
                "name": stage.name,
                "title": stage.title,
                "arms": len(stage.arms),
                "seeds": len(results.common(*stage.arms)),
                "runs": runs,
                "diverged": bad,
            }
        )
    return {
        "runs": results.held.count,
        "planned": sum(1 for _ in trials()),
        "stretches": len(results.stretches),
        "rules": sorted({stretch["rules"] for stretch in results.stretches}),
        "stages": stages,
    }


def _judge(options: argparse.Namespace) -> int:
    results = _results(options)
    if not options.json:
        return _print_verdicts(results)
    print(json.dumps([_plain(c) for c in judged(results, load_costs())], indent=1))
    return 0


def _print_verdicts(results: Results) -> int:
    for line in verdict_lines(judged(results, load_costs())):
        print(printable(line))
    return 0


def verdict_lines(claims: Sequence[JudgedClaim]) -> Iterator[str]:
    """The verdicts, with every effect and what diverged."""
    for each in claims:
        yield f"\n{each.claim.title}"
        if each.claim.quotation:
            yield f'  "{each.claim.quotation}"'
        for part in each.parts:
            whose = "said" if part.part.said else "our reading"
            yield f"  [{part.part.key}] {part.part.text} ({whose}): {part.words}"
            if part.check is not None:
                yield f"      {part.check.says}"
            for e in part.effects:
                if e is not None:
                    p = "" if e.p is None else f", p = {e.p:.2g}, same {e.p_same:.2g}"
                    yield (
                        f"      {e.comparison.task:9} x{e.ratio:.2f} ({e.low:.2f} to {e.high:.2f})"
                        f", n = {e.n}{p}: {e.outcome}; reached {e.reached.count} of {e.reached.n}"
                        f", other {e.reference_reached.count}; diverged {e.diverged}, other "
                        f"{e.reference_diverged.count} of {e.reference_diverged.n}"
                    )
            if part.over is not None:
                o = part.over
                yield (
                    f"      over {o.tasks} tasks x{o.ratio:.2f} ({o.low:.2f} to {o.high:.2f}), tau "
                    f"{o.tau:.2f}, a new task {o.new_low:.2f} to {o.new_high:.2f}"
                )


def _plain(claim: JudgedClaim) -> dict[str, Any]:
    return {
        "claim": claim.claim.key,
        "quotation": claim.claim.quotation,
        "said_by": claim.claim.said_by,
        "of": claim.claim.of,
        "parts": [
            {"part": p.part.key, "text": p.part.text, "said": p.part.said, "verdict": p.words}
            for p in claim.parts
        ],
    }


def _list(options: argparse.Namespace) -> int:
    for claim in CLAIMS:
        print(f"\n{claim.title}")
        if claim.quotation:
            print(printable(f'  "{claim.quotation}" ({claim.said_by}; of {claim.of})'))
        for part in claim.parts:
            whose = "said" if part.said else "our reading"
            print(printable(f"  [{part.key}] {part.text} ({whose})"))
    return 0


def _costs(options: argparse.Namespace) -> int:
    found = add_rounds(options.rounds)
    print(f"{len(found.rounds)} rounds in {COMMITTED / 'costs.json'}")
    return 0


def _page(options: argparse.Namespace) -> int:
    from .page import write

    for name in write() or ["nothing has changed"]:
        print(name)
    return 0


def _publish(options: argparse.Namespace) -> int:
    publish(_results(options), load_costs())
    print(f"written: {PUBLISHED}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
