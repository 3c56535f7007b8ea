"""The queue by hand, in Tune's place."""

from typing import Any

import pytest
from ray.tune.search import Searcher

from senca_ray import keys
from senca_ray.config import Setting
from senca_ray.methods.protocol import Protocol
from senca_ray.study.grid import GridPlan
from senca_ray.study.queue import DEVICE_MB, OUT_OF_MEMORY, PEAK_MB, SHARE, TRIAL, WORKER_LOSSES, TrialQueue
from senca_ray.study.trial import Trial

FINE = {PEAK_MB: 700.0, DEVICE_MB: 0.0, OUT_OF_MEMORY: False}


class Room:
    """A packing with room for two trials, or as many as set."""

    def __init__(self) -> None:
        self.places, self.seen, self.given = 2, [], 0.25

    def slots(self) -> int:
        return self.places

    def share(self) -> float:
        return self.given

    def memory_mb(self) -> float:
        return 512.0

    def measured(self, peak_mb: float, device_mb: float) -> None:
        self.seen.append(peak_mb)


@pytest.fixture
def world():
    trials = [Trial("s", "senca", "x", Setting(), f"S{i}", "there", (0, 1), Protocol()) for i in range(3)]
    stored: list[dict[str, Any]] = []
    told: list[int] = []
    plan, room = GridPlan(trials, lambda t: False), Room()
    return TrialQueue(plan, room, stored.extend, told.append), room, stored, told  # type: ignore[arg-type]


def sample(config: Any) -> str:
    return str(config[TRIAL]["sample"])


def test_as_many_at_once_as_there_is_room(world) -> None:
    queue, room, _, told = world
    assert sample(queue.suggest("a")) == "S0" and sample(queue.suggest("b")) == "S1"
    assert queue.suggest("c") is None
    queue.on_trial_complete("a", FINE)
    assert sample(queue.suggest("c")) == "S2"
    assert queue.suggest("d") is None  # nothing left to start, but not finished either
    queue.on_trial_complete("b", FINE)
    queue.on_trial_complete("c", FINE)
    assert queue.suggest("d") == Searcher.FINISHED
    assert told == [1, 2, 3] and room.seen == [700.0] * 3


def test_room_that_appears_is_used(world) -> None:
    queue, room, _, _ = world
    queue.suggest("a"), queue.suggest("b")
    room.places = 3
    assert sample(queue.suggest("c")) == "S2"


def test_where_machines_leave_their_trials_wait_for_what_is_left(world) -> None:
    queue, room, stored, told = world
    queue.suggest("a"), queue.suggest("b")
    room.places = 1
    queue.on_trial_complete("a", error=True)
    assert queue.suggest("c") is None  # the machine that is left is taken
    queue.on_trial_complete("b", FINE)
    assert sample(queue.suggest("c")) == "S0"
    queue.on_trial_complete("c", FINE)
    assert sample(queue.suggest("d")) == "S2"
    queue.on_trial_complete("d", FINE)
    assert queue.suggest("e") == Searcher.FINISHED and told == [1, 2, 3] and not stored


def test_a_lost_worker_s_trial_is_given_again_three_times(world) -> None:
    queue, _, stored, told = world
    for attempt in range(WORKER_LOSSES + 1):
        assert sample(queue.suggest(f"a{attempt}")) == "S0"
        assert not stored
        queue.on_trial_complete(f"a{attempt}", error=True)
    assert {row[keys.STATUS] for row in stored} == {keys.FAILED} and len(stored) == 3  # seeds and consensus
    assert "lost 4 times" in stored[0][keys.REASON]
    assert told == [1] and sample(queue.suggest("b")) == "S1"


def test_out_of_gpu_memory_is_tried_once_more_with_twice_the_share(world) -> None:
    queue, _, stored, _ = world
    assert queue.suggest("a")[SHARE] == 0.25
    queue.on_trial_complete("a", FINE | {OUT_OF_MEMORY: True})
    again = queue.suggest("b")
    assert sample(again) == "S0" and again[SHARE] == 0.5 and not stored
    queue.on_trial_complete("b", FINE | {OUT_OF_MEMORY: True})
    assert "memory ran out twice" in stored[0][keys.REASON] and len(stored) == 3
    assert sample(queue.suggest("c")) == "S1"
