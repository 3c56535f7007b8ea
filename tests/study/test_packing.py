import pytest

from senca_ray.study import packing
from senca_ray.study.packing import Packing

GIB = 2.0**30


@pytest.fixture
def cluster_with(monkeypatch: pytest.MonkeyPatch):
    def change(**resources: float) -> None:
        monkeypatch.setattr(packing.cluster, "resources", lambda: resources)
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
    room = Packing()
    cluster_with(CPU=2.0, memory=64 * GIB)
    assert room.slots() == 2
    cluster_with(CPU=6.0, memory=64 * GIB)
    assert room.slots() == 6


def test_an_empty_cluster_still_gets_a_trial_that_asks_for_a_machine(cluster_with) -> None:
    cluster_with()
    assert Packing().slots() == 1
