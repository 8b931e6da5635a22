"""The processes of a study: they end with it, leave its caller as it was, and are alone in a
folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from processes import end_of_session, of_session

from anygate.cli import main
from anygate.formulas import resolve
from anygate.lab.study.executors import end_with, run_one
from anygate.lab.study.outlook import trial_seconds
from anygate.lab.study.plan import Study
from anygate.lab.study.store.folder import FolderInUse, locked, refuse_if_running
from anygate.lab.tasks import Settings, find_task

SETTINGS = Settings(hidden_size=4, epochs=2, batch_size=64)


def study(settings: Settings = SETTINGS) -> Study:
    activations = (resolve("tanh"), resolve("relu"))
    return Study(find_task("digits-rows"), activations, "activation", (0, 1, 2), settings)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_workers import study

if __name__ == "__main__":
    study().run(Path(sys.argv[1]), jobs=2)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The results of the study that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    study().run(folder, jobs=1)
    return results_in(folder)


def results_in(folder: Path) -> dict[str, bytes]:
    """All that lies among the trials, so that a file left over is seen too."""
    return {p.name: p.read_bytes() for p in sorted((folder / "trials").iterdir())}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A study with two jobs in tmp_path / "study", which has its first result."""
    folder, script = tmp_path / "study", tmp_path / "run.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder), str(Path(__file__).parent)],
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not list(folder.glob("trials/*.json")):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        assert len(of_session(process.pid)) >= 3  # it and two workers
        yield process
    finally:
        for pid in of_session(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="sessions are read from /proc")
@pytest.mark.parametrize(
    ("by", "whom"),
    [(signal.SIGTERM, "parent"), (signal.SIGKILL, "parent"), (signal.SIGINT, "all")],
)  # Ctrl-C reaches all processes of a terminal
def test_workers_end_with_their_study_and_it_goes_on(
    by: signal.Signals,
    whom: str,
    running: subprocess.Popen[bytes],
    whole: dict[str, bytes],
    tmp_path: Path,
) -> None:
    """However a study is ended, nothing of it is left after ten seconds, what was done is kept, and
    the same study, resumed, makes the same files."""
    folder = tmp_path / "study"
    if whom == "all":
        os.killpg(running.pid, by)
    else:
        running.send_signal(by)
    running.wait(60)
    end_of_session(running.pid, limit=10)
    kept = {p: p.stat().st_mtime_ns for p in folder.glob("trials/*.json")}
    assert kept
    study().run(folder, jobs=1)
    assert {p: p.stat().st_mtime_ns for p in kept} == kept  # not run again
    assert results_in(folder) == whole


def test_a_new_worker_watches_its_parent_before_it_imports_anything_heavy() -> None:
    """Until then it does not see its parent die, and torch takes a busy machine a minute."""
    code = (
        f"import {end_with.__module__}, sys; "
        'print({"torch", "numpy", "sympy", "msgspec"} & set(sys.modules))'
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


# ---- two at once ----------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="sessions are read from /proc")
def test_a_second_run_into_the_folder_is_refused_and_names_the_first(
    running: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "study"
    before = (folder / "study.json").read_bytes()
    for fresh in (False, True):
        with pytest.raises(FolderInUse, match=rf"process {running.pid} is writing results into"):
            study().run(folder, fresh=fresh)
    assert (folder / "study.json").read_bytes() == before
    assert list(folder.glob("trials/*.json"))  # a fresh start deleted nothing
    running.kill()
    running.wait()
    study().run(folder, jobs=1)  # the lock of the dead holds nobody up
    assert study().missing(folder) == ()
    assert not list(folder.rglob(".lock"))


def test_the_command_refuses_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, entered, leave = tmp_path / "out", threading.Event(), threading.Event()

    def hold() -> None:
        with locked(folder):
            entered.set()
            leave.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert entered.wait(60)
    try:
        code = main(["compare", "tanh", "--task", "digits-rows", "--out", str(folder)])
    finally:
        leave.set()
        holder.join()
    assert code == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("anygate: another thread of this process is writing results into")
    assert "\n" not in said and "choose another --out" in said


def test_a_lock_is_had_again_by_its_thread_and_leaves_nothing(tmp_path: Path) -> None:
    with locked(tmp_path):
        with locked(tmp_path):
            refuse_if_running(tmp_path)
        assert (tmp_path / "trials" / ".lock").read_text().split()[0] == str(os.getpid())
    assert list((tmp_path / "trials").iterdir()) == []


def test_a_lock_is_no_way_out_of_the_folder(tmp_path: Path) -> None:
    """A link in its place is not followed."""
    stranger = tmp_path / "precious"
    stranger.write_text("text")
    (tmp_path / "study" / "trials").mkdir(parents=True)
    (tmp_path / "study" / "trials" / ".lock").symlink_to(stranger)
    with pytest.raises(ValueError, match="cannot be written"):
        study().run(tmp_path / "study")
    assert stranger.read_text() == "text"


# ---- the caller -----------------------------------------------------------------------------


def test_trials_in_this_process_leave_its_threads_and_random_numbers(tmp_path: Path) -> None:
    """One job runs here; so does the estimate of how long trials take."""
    short = Settings(hidden_size=4, epochs=1, batch_size=512)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        torch.manual_seed(5)
        wanted = torch.rand(4)
        torch.manual_seed(5)
        study(short).run(tmp_path, jobs=1)
        spec = study(short).trials[0]
        run_one(spec)
        trial_seconds(spec)
        assert torch.get_num_threads() == 3
        assert torch.equal(torch.rand(4), wanted)
    finally:
        torch.set_num_threads(threads)
