"""Studies killed at random moments (SIGKILL), again and again, from both doors: nothing is lost,
nothing goes on running, and what comes out in the end is what an undisturbed run gives.

    python benchmarks/kills.py --door cli --kills 20      # anygate compare
    python benchmarks/kills.py --door python --kills 20   # anygate.compare around a training

After every kill each trial that was there is there, whole and unchanged, and no process of the
session lives on for more than half a minute; how long they did is printed. Exit status 1 if one of
this does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ARMS = ("tanh", "relu", "softsign")
SEEDS = 4
LIMIT = 30.0
"""Seconds within which all processes of a killed study must end. A worker asks twice a second
whether its parent lives, but one that is just starting must first be a Python that can ask: that
is a second of a free core, and ten where ten processes want the two cores that there are."""
PYTHON = """
import sys
import anygate, torch

def train(swap, seed, trial):
    model = swap(torch.nn.LSTM(2, 6))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(20, 8, 2, generator=draw)
    for epoch in trial.epochs(15, model, optimizer):
        loss = (model(x)[0].sum(-1) - x.sum(-1).cumsum(0)).square().mean()
        optimizer.zero_grad(), loss.backward(), optimizer.step()
        trial.report(loss=loss)

if __name__ == "__main__":
    anygate.compare(train, {arms!r}, seeds={seeds}, metric="loss", out=sys.argv[1], jobs=2)
"""


def command(door: str, folder: Path, work: Path) -> list[str]:
    """One run into `folder`."""
    if door == "cli":
        small = ["--task", "adding:20", "--seeds", str(SEEDS), "--epochs", "3"]
        words = [*ARMS, *small, "--hidden-size", "6", "--jobs", "2", "--out", str(folder)]
        return [sys.executable, "-m", "anygate", "compare", *words]
    script = work / "study.py"
    script.write_text(PYTHON.format(arms=list(ARMS), seeds=SEEDS), encoding="utf-8")
    return [sys.executable, str(script), str(folder)]


def trials(folder: Path) -> dict[str, str]:
    """The finished trials that the folder holds; raises for one that is not whole."""
    found = {}
    for path in sorted((folder / "trials").glob("*.json")) if folder.exists() else []:
        found[path.name] = path.read_text(encoding="utf-8")
        json.loads(found[path.name])
    return found


def alive(session: int) -> list[int]:
    """Processes of a session."""
    listed = subprocess.run(
        ["ps", "-eo", "pid,sid,stat"], capture_output=True, text=True, check=True
    )
    rows = [line.split() for line in listed.stdout.splitlines()[1:]]
    return [int(pid) for pid, sid, state in rows if int(sid) == session and state[0] != "Z"]


def killed(words: list[str], after: float) -> float | None:
    """Run, kill after so many seconds, and return the seconds until nothing of it was left; None if
    it was done before. Raises where a process of it goes on."""
    running = subprocess.Popen(
        words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        status = running.wait(after)
    except subprocess.TimeoutExpired:
        os.kill(running.pid, signal.SIGKILL)
        begun = time.monotonic()
        running.wait()
        while left := alive(running.pid):
            if time.monotonic() > begun + LIMIT:
                raise RuntimeError(f"{len(left)} processes go on: {left}") from None
            time.sleep(0.05)
        return time.monotonic() - begun
    if status:
        raise RuntimeError(f"exit status {status}")
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--door", choices=("cli", "python"), default="cli")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    draw = random.Random(chosen.seed)
    with tempfile.TemporaryDirectory() as held:
        work = Path(held)
        begun = time.monotonic()
        subprocess.run(command(chosen.door, work / "whole", work), check=True, capture_output=True)
        seconds = time.monotonic() - begun
        expected = trials(work / "whole")
        assert len(expected) == len(ARMS) * SEEDS
        folder, ends, bad = work / "killed", 0, 0
        left: list[float] = []  # for each kill, the seconds that workers lived on
        words = command(chosen.door, folder, work)
        while len(left) < chosen.kills or trials(folder) != expected:
            before = trials(folder)
            more = len(left) < chosen.kills
            after = draw.uniform(0.1, 0.9) * seconds if more else 600
            begun = time.monotonic()
            lived_on = killed(words, after)
            now = trials(folder)
            kept = before.items() <= now.items() <= expected.items()
            if lived_on is None:  # sooner than expected: the machine was busy at first
                if not before:
                    seconds = min(seconds, time.monotonic() - begun)
                ends += 1
                bad += not kept or now != expected
                what = "done"
            else:
                left.append(lived_on)
                bad += not kept
                what = f"killed after {after:.1f} s, nothing ran {lived_on:.1f} s later"
            print(f"{what}: {len(now)} trials{'' if kept else ', NOT AS BEFORE'}", flush=True)
            if lived_on is None and more:
                shutil.rmtree(folder)
    print(
        f"{len(left)} kills, workers ended within {max(left):.1f} s, {ends} runs to the end, "
        f"{bad} wrong"
    )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
