"""Studies killed at random moments (SIGKILL), again and again, from both doors: nothing is lost,
nothing goes on running, and what comes out in the end is what an undisturbed run gives.

    python benchmarks/kills.py --door cli --kills 20      # anygate compare
    python benchmarks/kills.py --door python --kills 20   # anygate.compare around a training

After every kill each trial that was there is there, whole and unchanged, and no process of the
session lives on for more than a minute. Exit status 1 if one of this does not hold.
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


def killed(words: list[str], after: float) -> bool:
    """Run, and kill after so many seconds; False if it was done before. Raises where a process of
    it goes on."""
    running = subprocess.Popen(
        words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        status = running.wait(after)
    except subprocess.TimeoutExpired:
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
        end = time.monotonic() + 60
        while left := alive(running.pid):
            if time.monotonic() > end:
                raise RuntimeError(f"{len(left)} processes go on: {left}") from None
            time.sleep(0.2)
        return True
    if status:
        raise RuntimeError(f"exit status {status}")
    return False


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
        folder, kills, ends, bad = work / "killed", 0, 0, 0
        words = command(chosen.door, folder, work)
        while kills < chosen.kills or trials(folder) != expected:
            before = trials(folder)
            after = draw.uniform(0.1, 0.9) * seconds if kills < chosen.kills else 600
            begun = time.monotonic()
            happened = killed(words, after)
            if not happened:  # a machine that was busy at first
                seconds = min(seconds, time.monotonic() - begun)
            kills += happened
            now = trials(folder)
            kept = before.items() <= now.items() <= expected.items()
            ends += not happened
            bad += not kept or not (happened or now == expected)
            what = f"killed after {after:.1f} s" if happened else "done"
            print(f"{what}: {len(now)} trials{'' if kept else ', NOT AS BEFORE'}", flush=True)
            if not happened and kills < chosen.kills:
                shutil.rmtree(folder)
    print(f"{kills} kills, {ends} runs to the end, {bad} wrong")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
