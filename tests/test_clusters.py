"""The same study on a cluster: Ray with two nodes of which one dies half way, and Dask.

CI installs neither (240 MB): pip install '.[cluster]', then pytest tests/test_clusters.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from anygate import __version__
from anygate.formulas import resolve
from anygate.lab.study.executors import ExecutorGone, open_executor
from anygate.lab.study.plan import Study
from anygate.lab.tasks import Settings, find_task

REASON = "it is large and not installed by '.[lab,dev]'; pip install '.[cluster]' brings it"
SETTINGS = Settings(hidden_size=4, epochs=6, batch_size=64)


def study(seeds: int = 3) -> Study:
    activations = (resolve("tanh"), resolve("relu"))
    return Study(find_task("digits-rows"), activations, "activation", tuple(range(seeds)), SETTINGS)


def results_in(directory: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((directory / "trials").iterdir())}


@pytest.fixture(autouse=True)
def _workers_find_this_anygate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))


# ---- Ray ------------------------------------------------------------------------------------


@pytest.fixture
def two_nodes() -> Iterator[tuple[object, object]]:
    """A Ray cluster of two nodes with a core each, on loopback, and its second node."""
    pytest.importorskip("ray", reason=REASON)
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 1, "object_store_memory": 10**8}
    quick = {
        "health_check_period_ms": 300,
        "health_check_timeout_ms": 300,
        "health_check_failure_threshold": 2,
        "health_check_initial_delay_ms": 0,
    }
    cluster = Cluster(
        initialize_head=True,
        head_node_args={**size, "include_dashboard": False, "_system_config": quick},
    )
    try:
        yield cluster, cluster.add_node(**size)
    finally:
        cluster.shutdown()


@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_node_of_ray_dies_half_way_and_nothing_is_lost(
    two_nodes: tuple[object, object], tmp_path: Path
) -> None:
    cluster, second = two_nodes
    seen: list[int] = []
    kept: dict[str, int] = {}

    def kill(done: int, total: int, key: str) -> None:
        seen.append(done)
        if done == 3:
            cluster.remove_node(second, allow_graceful=False)  # type: ignore[attr-defined]
            done_before = (tmp_path / "r" / "trials").glob("*.json")
            kept.update({p.name: p.stat().st_mtime_ns for p in done_before})

    with open_executor("ray", cluster.address) as executor:  # type: ignore[attr-defined]
        study().run(tmp_path / "r", executor=executor, progress=kill)
    assert seen == list(range(7))
    trials = tmp_path / "r" / "trials"
    assert {name: (trials / name).stat().st_mtime_ns for name in kept} == kept
    study().run(tmp_path / "here", jobs=1)
    assert results_in(tmp_path / "r") == results_in(tmp_path / "here")


@pytest.mark.filterwarnings("ignore")
def test_no_ray_at_an_address_is_one_sentence() -> None:
    pytest.importorskip("ray", reason=REASON)
    with pytest.raises(ExecutorGone, match=r"no Ray cluster answers at 127\.0\.0\.1:9 .*ray start"):
        open_executor("ray", "127.0.0.1:9").__enter__()


# ---- Dask -----------------------------------------------------------------------------------


class _Client:
    """The answers of a cluster before anything is sent."""

    def __init__(self, threads: int, scheduler: str | None, worker: str | None) -> None:
        self.threads, self.versions = threads, (scheduler, worker)

    def wait_for_workers(self, count: int, timeout: float) -> None:
        if not self.threads:
            raise TimeoutError

    def nthreads(self) -> dict[str, int]:
        return {"tcp://w": self.threads}

    def get_versions(self, packages: list[str]) -> dict[str, object]:
        scheduler, worker = ({"packages": {"anygate": v}} for v in self.versions)
        return {"scheduler": scheduler, "workers": {"tcp://w": worker}}


@pytest.mark.parametrize(
    ("threads", "scheduler", "worker", "said"),
    [
        (0, "", "", "the Dask cluster has no worker; start some"),
        (4, __version__, __version__, r"tcp://w has 4 threads.*--nworkers 4 --nthreads 1"),
        (1, __version__, None, "the Dask worker tcp://w has no anygate; install anygate"),
        (1, "0.0.1", __version__, r"the Dask scheduler has anygate 0\.0\.1; install"),
    ],
)
def test_a_dask_cluster_that_cannot_do_it_is_refused(
    threads: int, scheduler: str, worker: str | None, said: str
) -> None:
    pytest.importorskip("distributed", reason=REASON)
    from anygate.lab.study.clusters import check_workers

    with pytest.raises(ExecutorGone, match=said):
        check_workers(_Client(threads, scheduler, worker))
    check_workers(_Client(1, __version__, __version__))


def test_a_task_of_ones_own_travels_with_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cloudpickle", reason=REASON)
    from anygate.lab.study.clusters import pack

    (tmp_path / "my_travelling_task.py").write_text(
        "from dataclasses import replace\nfrom anygate.lab.tasks import find_task\n"
        "BASE = find_task('adding:5')\ndef make(seed):\n    return BASE.make(seed)\n"
        "TASK = replace(BASE, name='mine', make=make)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    spec = replace(study(1).trials[0], task=find_task("my_travelling_task:TASK"))
    (tmp_path / "packed").write_bytes(pack(spec))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = (
        "import sys; from pathlib import Path\nfrom anygate.lab.study.clusters import unpack\n"
        "spec = unpack(Path(sys.argv[1]).read_bytes())\n"
        "print(spec.key, tuple(spec.task.load(0).train_x.shape))\n"
        "assert 'my_travelling_task' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "packed")],
        capture_output=True,
        text=True,
        cwd=elsewhere,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == spec.key


@pytest.mark.filterwarnings("ignore")
def test_dask_gives_the_same_files(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason=REASON)
    with open_executor("dask", None, 2) as executor:
        study(1).run(tmp_path / "d", executor=executor)
    study(1).run(tmp_path / "here", jobs=1)
    assert results_in(tmp_path / "d") == results_in(tmp_path / "here")
