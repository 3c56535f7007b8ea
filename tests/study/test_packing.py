from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import yaml

from senca_ray import growth
from senca_ray.growth import Growth, most_of
from senca_ray.study import packing
from senca_ray.study.packing import Packing

GIB = 2.0**30


@pytest.fixture
def cluster_with(monkeypatch: pytest.MonkeyPatch):
    def change(most: dict[str, float] | None = None, largest: float = 0.0, **resources: float) -> None:
        monkeypatch.setattr(packing.cluster, "resources", lambda: resources)
        monkeypatch.setattr(packing.cluster, "largest", lambda name: largest)
        monkeypatch.setattr(packing, "Growth", lambda: SimpleNamespace(most=lambda: most or {}))
        monkeypatch.setattr(packing, "_LOOK_AGAIN", -1.0)

    return change


def test_a_core_a_trial(cluster_with) -> None:
    cluster_with(CPU=8.0, memory=64 * GIB)
    assert (Packing().slots(), Packing().share()) == (8, 0.0)


def test_memory_limits_before_and_after_it_is_measured(cluster_with) -> None:
    cluster_with(CPU=8.0, memory=3 * GIB)
    room = Packing()
    assert room.slots() == 2  # 1,500 MB each, taken until one was measured
    room.measured(600.0, 0.0)
    assert room.slots() == 5
    room.measured(10_000.0, 0.0)
    assert room.slots() == 1
    room.measured(100.0, 0.0)
    assert room.slots() == 1  # the largest counts


def test_a_gpu_is_shared_once_a_trial_was_measured_on_it(cluster_with) -> None:
    cluster_with(CPU=32.0, GPU=2.0, memory=64 * GIB)
    room = Packing()
    assert (room.share(), room.slots()) == (1.0, 2)
    room.measured(1_500.0, 20_000.0)
    assert room.share() == pytest.approx(1 / 9)  # 500 MB more for the context, 90 % filled
    room.measured(9_000.0, 0.0)  # a trial beside the card
    assert room.slots() == 18


def test_cores_limit_a_large_gpu(cluster_with) -> None:
    cluster_with(CPU=4.0, GPU=1.0, memory=64 * GIB)
    room = Packing()
    room.measured(500.0, 140_000.0)
    assert room.slots() == 4


def test_it_grows_with_the_cluster(cluster_with) -> None:
    cluster_with()
    room = Packing()
    cluster_with(CPU=2.0, memory=64 * GIB)
    assert room.slots() == 2
    cluster_with(CPU=6.0, memory=64 * GIB)
    assert room.slots() == 6


def test_an_empty_cluster_still_gets_a_trial_that_asks_for_a_machine(cluster_with) -> None:
    cluster_with()
    assert Packing().slots() == 1


def test_trials_ask_for_machines_that_may_come(cluster_with) -> None:
    cluster_with(most={"CPU": 12.0})
    assert (Packing().slots(), Packing().share()) == (12, 0.0)
    cluster_with(most={"CPU": 12.0}, CPU=4.0, memory=16 * GIB)
    assert Packing().slots() == 12
    # By hand more machines were added than the file allows.
    cluster_with(most={"CPU": 12.0}, CPU=16.0, memory=64 * GIB)
    assert Packing().slots() == 16


def test_trials_ask_for_gpus_although_there_is_none_yet(cluster_with) -> None:
    cluster_with(most={"CPU": 16.0, "GPU": 4.0})
    room = Packing()
    assert (room.share(), room.slots()) == (1.0, 4)
    room.measured(1_500.0, 20_000.0)
    assert (room.share(), room.slots()) == (pytest.approx(1 / 9), 16)


def test_machines_without_end_are_not_asked_for_all_at_once(cluster_with) -> None:
    cluster_with(most={"CPU": 1e9, "GPU": 1e9}, CPU=8.0, GPU=2.0, memory=64 * GIB)
    assert Packing().slots() == 2 + 256


def test_trials_that_wait_ask_for_memory_where_cores_would_take_too_many(cluster_with) -> None:
    room = Packing()
    cluster_with(most={"CPU": 64.0})
    assert room.memory_mb() == 0.0  # nothing is known yet
    cluster_with(most={"CPU": 64.0}, largest=16 * GIB, CPU=8.0, memory=16 * GIB)
    room.measured(2_000.0, 0.0)
    assert room.memory_mb() == 0.0  # 2,048 MB a core
    room.measured(2_100.0, 0.0)
    assert room.memory_mb() == 2_304.0
    room.measured(20_000.0, 0.0)
    assert room.memory_mb() == 16_384.0  # more than any machine has would never start
    cluster_with(CPU=8.0, memory=16 * GIB)
    assert room.memory_mb() == 0.0  # no more trials are given than fit


FILE = {
    "max_workers": 5,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "large": {"resources": {"CPU": 16, "GPU": 1}, "max_workers": 2},
        "small": {"resources": {"CPU": 4, "GPU": 1}},
        "bare": {},
    },
}


def test_the_cluster_file_tells_what_may_come() -> None:
    assert most_of(FILE) == {"CPU": 2 * 16 + 3 * 4, "GPU": 5}
    assert most_of(FILE | {"max_workers": 1}) == {"CPU": 16, "GPU": 1}
    assert most_of({}) == {}


def test_the_file_is_that_of_the_connected_cluster_s_autoscaler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "cluster.yaml"

    def monitor(*arguments: str) -> Any:
        return SimpleNamespace(
            info={"cmdline": ["python", "-u", "/ray/autoscaler/v2/monitor.py", *arguments]}
        )

    processes = [
        SimpleNamespace(info={"cmdline": None}),
        monitor("--gcs-address=10.0.0.1:6380", "--autoscaling-config=/another"),
        monitor("--gcs-address=10.0.0.1:6379", f"--autoscaling-config={file}"),
    ]
    monkeypatch.setattr(growth.psutil, "process_iter", lambda attributes: processes)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="10.0.0.1:6379"))
    told = Growth()
    assert told.most() == {}  # not written yet
    for machines in (1, 5, 0):
        file.write_text(yaml.safe_dump(FILE | {"max_workers": machines}))
        assert told.most().get("GPU") == machines
    processes[2] = monitor("--gcs-address=10.0.0.1:6379")  # machines that somebody joined by hand
    assert Growth().most() == {}
