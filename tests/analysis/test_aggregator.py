from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from senca_ray import keys
from senca_ray.analysis.aggregator import aggregator, aggregator_name
from senca_ray.analysis.results import read_results
from senca_ray.cluster import connected


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    with connected():
        yield


def rows(seeds: range, status: str = keys.OK) -> list[dict[str, Any]]:
    common = {
        keys.STUDY: "neighbors",
        keys.METHOD: "senca",
        keys.SETTING: "neighbors=4",
        keys.SAMPLE: "A1",
        keys.CLUSTERING: "ward",
        keys.K_POLICY: "labels",
        keys.STATUS: status,
        keys.REASON: None if status == keys.OK else "no",
        keys.PATIENT: "A",
        keys.MODALITY: keys.RNA,
        keys.LABEL_SOURCE: keys.ANNOTATED,
        keys.K: 2,
        keys.N_SPOTS: 3,
        keys.N_SCORED: 3,
        keys.SECONDS: 0.1,
        **dict.fromkeys((keys.DEVICE, keys.ENCODER, keys.FINGERPRINT, keys.VERSIONS, keys.CONFIG), "x"),
        keys.REGIONS: [0, 1, 1],
    }
    return [common | {keys.SEED: seed} for seed in seeds]


def test_rows_go_in_once_and_come_out_as_a_table(local_ray: None, tmp_path: Path) -> None:
    actor = aggregator(tmp_path)
    assert ray.get(actor.append.remote(rows(range(5)))) == 5
    assert ray.get(actor.append.remote(rows(range(3, 8)))) == 3
    assert ray.get(actor.append.remote(rows(range(8, 9), keys.FAILED))) == 1
    assert ray.get(actor.progress.remote()) == {keys.OK: 8, keys.FAILED: 1}
    known = ray.get(actor.keys.remote())
    assert sorted(key[keys.ROW_KEY.index(keys.SEED)] for key in known) == list(range(9))
    assert ray.get(actor.finish.remote()) == {keys.OK: 8, keys.FAILED: 1}
    assert read_results(tmp_path)[keys.SEED].tolist() == list(range(9))


def test_workers_append_through_the_handle(local_ray: None, tmp_path: Path) -> None:
    # A lambda travels to the worker by value; a function of this module would have to be importable there.
    send = ray.remote(lambda actor, batch: ray.get(actor.append.remote(batch)))
    actor = aggregator(tmp_path)
    batches = [rows(range(seed, seed + 2)) for seed in range(4)]
    assert sum(ray.get([send.options(num_cpus=0).remote(actor, batch) for batch in batches])) == 5


def test_a_killed_aggregator_loses_nothing_acknowledged(local_ray: None, tmp_path: Path) -> None:
    actor = aggregator(tmp_path)
    for start in range(0, 30, 10):
        assert ray.get(actor.append.remote(rows(range(start, start + 10)))) == 10
    ray.kill(actor, no_restart=False)
    # In flight while it restarts: repeated by Ray until the new one answers.
    pending = actor.append.remote(rows(range(25, 35)))
    assert ray.get(pending, timeout=60) == 5
    assert ray.get(actor.progress.remote())[keys.OK] == 35
    ray.get(actor.finish.remote())
    assert read_results(tmp_path)[keys.SEED].tolist() == list(range(35))


def test_a_wrong_row_is_an_error_for_its_sender_only(local_ray: None, tmp_path: Path) -> None:
    actor = aggregator(tmp_path)
    with pytest.raises(ray.exceptions.RayTaskError, match="arii: unknown column"):
        ray.get(actor.append.remote([rows(range(1))[0] | {"arii": 1.0}]))
    assert ray.get(actor.append.remote(rows(range(1)))) == 1


def test_one_actor_a_study_folder(local_ray: None, tmp_path: Path) -> None:
    one, two = aggregator(tmp_path / "one"), aggregator(tmp_path / "two")
    ray.get(one.append.remote(rows(range(2))))
    again = aggregator(tmp_path / "two" / ".." / "one")
    assert ray.get(again.progress.remote())[keys.OK] == 2
    assert ray.get(two.progress.remote())[keys.OK] == 0
    assert aggregator_name(tmp_path / "one") != aggregator_name(tmp_path / "two")


def test_many_batches_at_once_all_arrive(local_ray: None, tmp_path: Path) -> None:
    actor = aggregator(tmp_path)
    added = ray.get([actor.append.remote(rows(range(start, start + 15))) for start in range(0, 1500, 15)])
    assert added == [15] * 100
    assert ray.get(actor.progress.remote())[keys.OK] == 1500
