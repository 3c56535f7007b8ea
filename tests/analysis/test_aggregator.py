from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from senca_ray import keys
from senca_ray.analysis.aggregator import aggregator, aggregator_name
from senca_ray.analysis.embeddings import read_embedding
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
        keys.PROTOCOL: keys.UNSCORED,
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
    # None are new where the first attempt was stored, and only its answer was lost.
    assert ray.get(pending, timeout=60) in (0, 5)
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


def test_an_aggregator_killed_by_the_system_loses_nothing_acknowledged(
    local_ray: None, tmp_path: Path
) -> None:
    actor = aggregator(tmp_path)
    pid = ray.get(actor.__ray_call__.remote(lambda itself: os.getpid()))
    batches = [rows(range(start, start + 16)) for start in range(0, 640, 16)]
    pending = [actor.append.remote(batch) for batch in batches]
    acknowledged = ray.get(pending[:10])
    os.kill(pid, signal.SIGKILL)
    # Whatever had been acknowledged by then is in the file, before anything restarts.
    known = {row[keys.SEED] for row in map(json.loads, whole_lines(tmp_path))}
    assert acknowledged == [16] * 10
    assert known >= set(range(160))
    # The others were in flight: Ray repeats them, and those that were stored unacknowledged are not new.
    assert all(added in range(17) for added in ray.get(pending[10:], timeout=60))
    assert ray.get(actor.__ray_call__.remote(lambda itself: os.getpid())) != pid
    ray.get(actor.finish.remote())
    assert read_results(tmp_path)[keys.SEED].tolist() == list(range(640))


def whole_lines(folder: Path) -> list[bytes]:
    return (folder / keys.JOURNAL_FILE).read_bytes().rpartition(b"\n")[0].splitlines()


def test_two_studies_side_by_side_do_not_mix(local_ray: None, tmp_path: Path) -> None:
    studies = {name: aggregator(tmp_path / name) for name in ("one", "two")}
    # The same keys but for the study's name, batch by batch in turn.
    batches = [
        (name, [row | {keys.STUDY: name} for row in rows(range(start, start + 5))])
        for start in range(0, 50, 5)
        for name in studies
    ]
    assert ray.get([studies[name].append.remote(batch) for name, batch in batches]) == [5] * 20
    for name, actor in studies.items():
        ray.get(actor.finish.remote())
        table = read_results(tmp_path / name)
        assert set(table[keys.STUDY]) == {name}
        assert table[keys.SEED].tolist() == list(range(50))


def test_the_rows_of_a_trial_can_be_asked_for(local_ray: None, tmp_path: Path) -> None:
    actor = aggregator(tmp_path)
    ray.get(actor.append.remote([row | {keys.ARI: 0.25} for row in rows(range(4))]))
    wanted = [tuple(row[name] for name in keys.ROW_KEY) for row in rows(range(2, 6))]
    found = ray.get(actor.rows.remote(wanted))
    assert [(row[keys.SEED], row[keys.ARI]) for row in found] == [(2, 0.25), (3, 0.25)]
    assert keys.REGIONS not in found[0]


def test_an_embedding_becomes_a_file_of_its_own(tmp_path: Path, local_ray: None) -> None:
    sink = aggregator(tmp_path)
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    first, *others = rows(range(3))
    assert ray.get(sink.append.remote([first | {keys.EMBEDDING: values}, *others])) == 3
    found = read_embedding(tmp_path, "senca", "neighbors=4", "A1")
    assert found is not None and found.seed == 0
    np.testing.assert_array_equal(found.values, values)
    assert keys.EMBEDDING not in (tmp_path / keys.JOURNAL_FILE).read_text()
