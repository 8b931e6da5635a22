"""The same study on a cluster: Ray with two nodes of which one dies half way, and Dask.

CI installs neither (240 MB): pip install '.[cluster]', then pytest tests/test_clusters.py.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anygate.lab.engines import EngineGone, open_engine
from anygate.lab.study import Study
from anygate.lab.tasks import Settings, find_task
from anygate.symbolic import resolve

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
    quick = {"health_check_period_ms": 300, "health_check_timeout_ms": 300,
             "health_check_failure_threshold": 2, "health_check_initial_delay_ms": 0}  # fmt: skip
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
            kept.update({p.name: p.stat().st_mtime_ns for p in (tmp_path / "r/trials").iterdir()})

    with open_engine("ray", cluster.address) as engine:  # type: ignore[attr-defined]
        study().run(tmp_path / "r", engine=engine, progress=kill)
    assert seen == list(range(7))
    trials = tmp_path / "r" / "trials"
    assert {name: (trials / name).stat().st_mtime_ns for name in kept} == kept
    study().run(tmp_path / "here", jobs=1)
    assert results_in(tmp_path / "r") == results_in(tmp_path / "here")


@pytest.mark.filterwarnings("ignore")
def test_no_ray_at_an_address_is_one_sentence() -> None:
    pytest.importorskip("ray", reason=REASON)
    with pytest.raises(EngineGone, match=r"no Ray cluster answers at 127\.0\.0\.1:9 .*ray start"):
        open_engine("ray", "127.0.0.1:9").__enter__()


# ---- Dask -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_dask_gives_the_same_files(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason=REASON)
    with open_engine("dask", None, 2) as engine:
        study(1).run(tmp_path / "d", engine=engine)
    study(1).run(tmp_path / "here", jobs=1)
    assert results_in(tmp_path / "d") == results_in(tmp_path / "here")
