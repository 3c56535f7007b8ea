from __future__ import annotations

import errno
import json
import math
import os
import random
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senca_ray import keys
from senca_ray.analysis.results import (
    BULKY,
    Journal,
    read_line,
    read_regions,
    read_results,
    tables_current,
    write_tables,
)
from senca_ray.analysis.rows import SCHEMA, row_key
from senca_ray.errors import ProblemsError, SencaError


def result_row(**changes: Any) -> dict[str, Any]:
    """A complete row of a finished fit, as a trial hands it over: numpy values included."""
    row = {
        keys.STUDY: "neighbors",
        keys.METHOD: "senca",
        keys.SETTING: "neighbors=4",
        keys.SAMPLE: "A1",
        keys.SEED: 0,
        keys.CLUSTERING: "ward",
        keys.K_POLICY: "labels",
        keys.PROTOCOL: keys.UNSCORED,
        keys.STATUS: keys.OK,
        keys.REASON: None,
        keys.PATIENT: "A",
        keys.MODALITY: keys.RNA_IMAGE,
        keys.LABEL_SOURCE: keys.ANNOTATED,
        keys.K: np.int64(3),
        keys.N_SPOTS: 4,
        keys.N_SCORED: 3,
        keys.ARI: np.float64(0.1 + 0.2),
        keys.NMI: np.float32(0.5),
        keys.SILHOUETTE: math.nan,
        keys.CHAOS: 1.25,
        keys.PAS: 0.5,
        keys.LABEL_F1: json.dumps({"fat": 0.5}),
        keys.PAIR: None,
        keys.PAIR_AMI: None,
        keys.STABILITY: None,
        keys.N_SEEDS: None,
        keys.LOSS_FIRST: 2.5,
        keys.LOSS_LAST: 1.5,
        keys.SECONDS: 0.5,
        keys.PEAK_MEMORY_MB: 700.0,
        keys.DEVICE: "cpu",
        keys.ENCODER: "resnet18",
        keys.FORM: keys.EXACT,
        keys.FINGERPRINT: "f" * 64,
        keys.VERSIONS: json.dumps({"torch": "2.13.0"}),
        keys.CONFIG: "{}",
        keys.TYPICAL: True,
        keys.REGIONS: np.array([0, 1, 2, 0], dtype=np.int16),
        keys.LOSSES: [2.5, 1.5],
    }
    return row | changes


def failed_row(**changes: Any) -> dict[str, Any]:
    """What a trial knows that could not read its section."""
    key = dict(zip(keys.ROW_KEY, row_key(result_row()), strict=True))
    return key | {keys.STATUS: keys.FAILED, keys.REASON: "shard is gone"} | changes


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / keys.JOURNAL_FILE).read_text().splitlines()]


def test_a_row_has_every_column_of_the_registry() -> None:
    assert set(result_row()) == set(SCHEMA.names)
    assert SCHEMA.field(keys.REGIONS).type == pa.list_(pa.int16())


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    assert Journal(tmp_path).append([result_row(), result_row(**{keys.SEED: 1, keys.ARI: -0.25})]) == 2
    write_tables(tmp_path)
    frame = read_results(tmp_path)
    assert frame[keys.SEED].tolist() == [0, 1]
    assert frame[keys.ARI].tolist() == [0.1 + 0.2, -0.25]
    assert frame.loc[0, keys.K] == 3
    assert frame[keys.SILHOUETTE].isna().all()
    assert json.loads(frame.loc[0, keys.LABEL_F1]) == {"fat": 0.5}
    assert frame.loc[0, keys.REASON] is None
    assert set(frame.columns) == set(SCHEMA.names) - {keys.REGIONS, keys.LOSSES}
    regions = read_regions(tmp_path)
    assert list(regions.columns) == [*keys.ROW_KEY, keys.REGIONS, keys.LOSSES]
    assert regions.loc[0, keys.REGIONS].dtype == np.int16
    assert regions.loc[0, keys.REGIONS].tolist() == [0, 1, 2, 0]


def test_a_repeated_key_is_ignored(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.append([result_row(), result_row(**{keys.ARI: 0.9})]) == 1
    assert journal.append([result_row(**{keys.ARI: 0.8})]) == 0
    assert len(lines(tmp_path)) == 1
    write_tables(tmp_path)
    assert read_results(tmp_path)[keys.ARI].tolist() == [0.1 + 0.2]


@pytest.mark.parametrize("column", keys.ROW_KEY)
def test_every_part_of_the_key_makes_another_row(tmp_path: Path, column: str) -> None:
    other = 7 if column == keys.SEED else "other"
    assert Journal(tmp_path).append([result_row(), result_row(**{column: other})]) == 2


def test_success_replaces_failure_and_never_the_other_way_round(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.append([failed_row()]) == 1
    assert journal.append([failed_row(**{keys.REASON: "again"})]) == 0
    assert journal.counts() == {keys.OK: 0, keys.FAILED: 1}
    assert journal.append([result_row()]) == 1
    assert journal.append([failed_row()]) == 0
    assert journal.counts() == Journal(tmp_path).counts() == {keys.OK: 1, keys.FAILED: 0}
    write_tables(tmp_path)
    assert read_results(tmp_path)[keys.STATUS].tolist() == [keys.OK]


def test_a_failed_row_keeps_its_reason_and_has_no_regions(tmp_path: Path) -> None:
    Journal(tmp_path).append([failed_row()])
    write_tables(tmp_path)
    assert read_results(tmp_path).loc[0, keys.REASON] == "shard is gone"
    assert len(read_regions(tmp_path)) == 0


def test_a_journal_is_gone_on_with(tmp_path: Path) -> None:
    Journal(tmp_path).append([result_row()])
    journal = Journal(tmp_path)
    assert journal.keys() == [row_key(result_row())]
    assert journal.append([result_row(), result_row(**{keys.SEED: 1})]) == 1


@pytest.mark.parametrize("left", [1, 40, -1])
def test_a_torn_last_line_is_cut_and_can_be_written_again(tmp_path: Path, left: int) -> None:
    Journal(tmp_path).append([result_row()])
    path = tmp_path / keys.JOURNAL_FILE
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:left])
    journal = Journal(tmp_path)
    assert path.read_bytes() == whole
    assert journal.append([result_row(**{keys.SEED: 1})]) == 1
    assert [row[keys.SEED] for row in lines(tmp_path)] == [0, 1]


def test_a_journal_torn_in_its_first_line_starts_anew(tmp_path: Path) -> None:
    (tmp_path / keys.JOURNAL_FILE).write_bytes(b'{"study": "nei')
    assert Journal(tmp_path).counts() == {keys.OK: 0, keys.FAILED: 0}
    assert (tmp_path / keys.JOURNAL_FILE).read_bytes() == b""


def test_tables_pass_over_a_torn_line(tmp_path: Path) -> None:
    Journal(tmp_path).append([result_row()])
    with (tmp_path / keys.JOURNAL_FILE).open("ab") as file:
        file.write(b'{"study"')
    write_tables(tmp_path)
    assert len(read_results(tmp_path)) == 1


@pytest.mark.parametrize("damage", [b"not json\n", b"{}\n", b"[1]\n"])
def test_damage_inside_the_journal_is_named(tmp_path: Path, damage: bytes) -> None:
    Journal(tmp_path).append([result_row()])
    path = tmp_path / keys.JOURNAL_FILE
    path.write_bytes(path.read_bytes() + damage + path.read_bytes())
    with pytest.raises(SencaError, match=r"journal\.jsonl: line 2 is not a result row; remove"):
        Journal(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arii": 0.5}, "A1  arii: unknown column"),
        ({keys.ARI: "high"}, "A1  ari: 'high' found; expected double or None"),
        ({keys.LABEL_F1: {"fat": 0.5}}, "label_f1: {'fat': 0.5} found; expected string or None"),
        ({keys.K: 2.5}, "k: 2.5 found; expected int32 or None"),
        ({keys.REGIONS: [0, 40_000]}, "regions: [0, 40000] found; expected list<item: int16>"),
        ({keys.REGIONS: [0.5, 1.0]}, "regions: [0.5, 1.0] found"),
        ({keys.SETTING: 4}, "setting: 4 found; expected string"),
        ({keys.SEED: None}, "A1  seed: missing in a row with status ok"),
        ({keys.PATIENT: None}, "A1  patient: missing in a row with status ok"),
        ({keys.STATUS: "done"}, "A1  status: 'done' found; expected one of ok, failed"),
        ({keys.LABEL_SOURCE: "expert"}, "'expert' found; expected one of annotated, transferred"),
        ({keys.STATUS: keys.FAILED}, "A1  reason: missing in a row with status failed"),
    ],
)
def test_wrong_rows_are_refused_with_the_column(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(ProblemsError) as error:
        journal.append([result_row(**{keys.SEED: 1}), result_row(**changes)])
    assert message in str(error.value)
    assert "in 2 result rows" in str(error.value)
    assert lines(tmp_path) == []


def test_every_wrong_row_is_reported_at_once(tmp_path: Path) -> None:
    without = result_row()
    del without[keys.SECONDS], without[keys.REGIONS]
    with pytest.raises(ProblemsError) as error:
        Journal(tmp_path).append([without, failed_row(**{keys.SEED: 1, keys.REASON: None})])
    assert [problem.place for problem in error.value.problems] == [keys.SECONDS, keys.REGIONS, keys.REASON]


def test_a_full_disk_leaves_the_journal_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.append([result_row()])
    before = (tmp_path / keys.JOURNAL_FILE).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SencaError, match=r"cannot be appended \(No space left on device\); free space"):
            journal.append([result_row(**{keys.SEED: 1})])
    assert (tmp_path / keys.JOURNAL_FILE).read_bytes() == before
    assert journal.append([result_row(**{keys.SEED: 1})]) == 1


def test_a_batch_is_synced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    journal = Journal(tmp_path)
    monkeypatch.setattr(os, "fsync", calls.append)
    journal.append([result_row(**{keys.SEED: seed}) for seed in range(50)])
    assert len(calls) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SencaError, match=r"cannot be written .*; choose another --out"):
        Journal(tmp_path / "file" / "study")


def test_tables_are_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    journal.append([result_row()])
    write_tables(tmp_path)
    journal.append([result_row(**{keys.SEED: 1})])

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full)
        with pytest.raises(SencaError, match=r"results\.parquet: cannot be written"):
            write_tables(tmp_path)
    assert pq.read_metadata(tmp_path / keys.RESULTS_FILE).num_rows == 1
    assert len(read_results(tmp_path)) == 2, "the journal knows more than the tables"
    assert {path.name for path in tmp_path.iterdir()} == {
        keys.JOURNAL_FILE,
        keys.RESULTS_FILE,
        keys.REGIONS_FILE,
    }


def test_tables_of_several_row_groups_are_complete_and_sorted(tmp_path: Path) -> None:
    seeds = random.Random(0).sample(range(600), 600)
    Journal(tmp_path).append([result_row(**{keys.SEED: seed}) for seed in seeds])
    write_tables(tmp_path)
    assert read_results(tmp_path)[keys.SEED].tolist() == list(range(600))
    assert len(read_regions(tmp_path)) == 600


def test_missing_files_are_answered_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(SencaError, match=r"results\.parquet: no such file.*senca resume"):
        read_results(tmp_path)
    with pytest.raises(SencaError, match=r"journal\.jsonl: no such file.*run the study first"):
        write_tables(tmp_path)
    (tmp_path / keys.RESULTS_FILE).write_text("not parquet")
    with pytest.raises(SencaError, match=r"cannot be read as a table \(.*\); restore it from a copy"):
        read_results(tmp_path)
    (tmp_path / keys.JOURNAL_FILE).touch()
    os.utime(tmp_path / keys.JOURNAL_FILE, (0, 0))
    with pytest.raises(SencaError, match=r"cannot be read as a table .*`senca resume .*makes it again"):
        read_results(tmp_path)
    (tmp_path / keys.RESULTS_FILE).unlink()
    with pytest.raises(SencaError, match="no results yet: no trial has ended"):
        read_results(tmp_path)


def test_a_journal_stands_in_for_tables_that_are_not_there_yet(tmp_path: Path) -> None:
    rows = [result_row(**{keys.SEED: 1}), failed_row(), consensus_row(), result_row(**{keys.LOSSES: None})]
    Journal(tmp_path).append(rows[:3])
    with (tmp_path / keys.JOURNAL_FILE).open("ab") as file:
        file.write(b'{"study"')  # being written
    assert not tables_current(tmp_path)
    assert (read_results(tmp_path)[keys.STATUS] == keys.FAILED).sum() == 1
    Journal(tmp_path).append(rows)
    before = read_results(tmp_path), read_regions(tmp_path)
    write_tables(tmp_path)
    assert tables_current(tmp_path)
    after = read_results(tmp_path), read_regions(tmp_path)
    for found, expected in zip(before, after, strict=True):
        pd.testing.assert_frame_equal(found, expected)


def test_rows_that_came_after_the_tables_are_read(tmp_path: Path) -> None:
    """As when failed trials are run again."""
    Journal(tmp_path).append([failed_row()])
    write_tables(tmp_path)
    os.utime(tmp_path / keys.RESULTS_FILE, (0, 0))
    Journal(tmp_path).append([result_row()])
    assert read_results(tmp_path)[keys.STATUS].tolist() == [keys.OK]
    assert not tables_current(tmp_path)


@given(reason=st.text(max_size=40), regions=st.lists(st.integers(-1, 9), max_size=9))
def test_a_line_without_what_is_bulky_says_all_else(reason: str, regions: list[int]) -> None:
    """Whatever a text in it looks like."""
    texts = ('"regions": [', '"losses": [1]', "]")
    for text in (reason, *(reason + other for other in texts)):
        row = failed_row(**{keys.REASON: text, keys.REGIONS: regions, keys.LOSSES: [0.5, 1.0]})
        found = read_line(json.dumps(row).encode(), Path("journal.jsonl"), 1)
        assert found == row | {keys.REGIONS: None, keys.LOSSES: None}


# A stored pool of rows: per key one failed and one finished row; what remains must not depend on the order.
_POOL = [
    row(**{keys.SAMPLE: sample, keys.SEED: seed})
    for row in (result_row, failed_row)
    for sample in ("A1", "B1")
    for seed in (0, 10, 2)
]


@settings(max_examples=40, deadline=None)
@given(
    chosen=st.lists(st.sampled_from(range(len(_POOL))), min_size=1, max_size=25),
    order=st.randoms(use_true_random=False),
    batch=st.integers(1, 9),
)
def test_order_and_repeats_do_not_change_the_tables(
    chosen: list[int], order: random.Random, batch: int
) -> None:
    shuffled = chosen + order.choices(chosen, k=5)
    order.shuffle(shuffled)
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        Journal(Path(one)).append([_POOL[i] for i in chosen])
        for start in range(0, len(shuffled), batch):
            # Opened anew each time, as after a crash.
            Journal(Path(two)).append([_POOL[i] for i in shuffled[start : start + batch]])
        for folder in (one, two):
            write_tables(Path(folder))
        for name in (keys.RESULTS_FILE, keys.REGIONS_FILE):
            assert Path(one, name).read_bytes() == Path(two, name).read_bytes()
        stored = read_results(Path(one))
        expected = {row_key(_POOL[i]) for i in chosen}
        assert set(stored[list(keys.ROW_KEY)].itertuples(index=False, name=None)) == expected
        finished = {row_key(_POOL[i]) for i in chosen if _POOL[i][keys.STATUS] == keys.OK}
        assert int((stored[keys.STATUS] == keys.OK).sum()) == len(finished)
        pd.testing.assert_frame_equal(stored, stored.sort_values(list(keys.ROW_KEY), ignore_index=True))


def consensus_row(**changes: Any) -> dict[str, Any]:
    """What a trial adds to the rows of its seeds."""
    combined = {
        keys.SEED: keys.ALL_SEEDS,
        keys.CLUSTERING: keys.CONSENSUS,
        keys.STABILITY: 0.6,
        keys.N_SEEDS: 3,
    }
    return result_row(**combined) | changes


def test_a_consensus_row_says_how_many_seeds_it_combines(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    with pytest.raises(ProblemsError, match="n_seeds: missing in a consensus row"):
        journal.append([consensus_row(n_seeds=None)])
    journal.append([consensus_row(), result_row()])
    write_tables(tmp_path)
    frame = read_results(tmp_path).set_index(keys.CLUSTERING)
    assert frame.loc[keys.CONSENSUS, [keys.SEED, keys.STABILITY, keys.N_SEEDS]].tolist() == [-1, 0.6, 3]
    assert frame.loc["ward", [keys.STABILITY, keys.N_SEEDS]].isna().all()


def test_a_journal_from_before_the_consensus_is_gone_on_with(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([result_row()])
    (old,) = lines(tmp_path)
    del old[keys.STABILITY], old[keys.N_SEEDS]
    (tmp_path / keys.JOURNAL_FILE).write_text(json.dumps(old) + "\n")
    journal = Journal(tmp_path)
    assert journal.rows(journal.keys())[0][keys.STABILITY] is None
    assert journal.append([result_row(), consensus_row()]) == 1
    write_tables(tmp_path)
    assert read_results(tmp_path)[keys.N_SEEDS].tolist() == pytest.approx([3, math.nan], nan_ok=True)


def test_a_table_from_before_the_consensus_is_read(tmp_path: Path) -> None:
    Journal(tmp_path).append([result_row()])
    write_tables(tmp_path)
    path = tmp_path / keys.RESULTS_FILE
    new = read_results(tmp_path)
    pq.write_table(pq.read_table(path).drop_columns([keys.STABILITY, keys.N_SEEDS]), path)
    old = read_results(tmp_path)
    assert set(old.columns) == set(new.columns)
    assert old[[keys.STABILITY, keys.N_SEEDS]].isna().all(axis=None)
    assert old[keys.STABILITY].dtype == float


def test_a_journal_from_before_the_protocol_is_gone_on_with(tmp_path: Path) -> None:
    """What was read in one way only was read 'unscored'; its trials are not run again."""
    rows = [result_row(), consensus_row(), failed_row(**{keys.SEED: 1})]
    Journal(tmp_path).append(rows)
    old = [{name: v for name, v in row.items() if name != keys.PROTOCOL} for row in lines(tmp_path)]
    (tmp_path / keys.JOURNAL_FILE).write_text("".join(json.dumps(row) + "\n" for row in old))
    journal = Journal(tmp_path)
    assert journal.keys() == [row_key(row) for row in rows]
    assert journal.keys(failed=False) == [row_key(row) for row in rows[:2]]
    assert [row[keys.PROTOCOL] for row in journal.rows(journal.keys())] == [keys.UNSCORED] * 3
    assert journal.append(rows) == 0
    assert journal.append([result_row(**{keys.PROTOCOL: "dropped"})]) == 1
    assert journal.append([result_row(**{keys.SEED: 1})]) == 1, "a success still replaces the failure"
    write_tables(tmp_path)
    frame = read_results(tmp_path)
    assert len(frame) == 4 and (frame[keys.STATUS] == keys.OK).all()
    assert frame[keys.PROTOCOL].tolist() == ["unscored", "dropped", "unscored", "unscored"]
    assert sorted(read_regions(tmp_path)[keys.PROTOCOL]) == sorted(frame[keys.PROTOCOL])


def test_tables_from_before_the_protocol_are_read(tmp_path: Path) -> None:
    Journal(tmp_path).append([result_row(), failed_row(**{keys.SEED: 1}), result_row(**{keys.SEED: 2})])
    write_tables(tmp_path)
    new, regions = read_results(tmp_path), read_regions(tmp_path)
    for name in (keys.RESULTS_FILE, keys.REGIONS_FILE):
        path = tmp_path / name
        pq.write_table(pq.read_table(path).drop_columns([keys.PROTOCOL]), path)
    old = read_results(tmp_path)
    assert old[keys.PROTOCOL].tolist() == [keys.UNSCORED] * 3
    pd.testing.assert_frame_equal(old[new.columns], new)
    again = read_regions(tmp_path)
    assert set(again[keys.PROTOCOL]) == {keys.UNSCORED}
    pd.testing.assert_frame_equal(again[regions.columns], regions)


def test_readings_of_one_fit_are_rows_of_their_own(tmp_path: Path) -> None:
    read = [keys.UNSCORED, "unscored+refined", "dropped", "scored"]
    rows = [result_row(**{keys.PROTOCOL: p, keys.ARI: i / 10}) for i, p in enumerate(read)]
    assert Journal(tmp_path).append(rows) == 4
    write_tables(tmp_path)
    assert dict(read_results(tmp_path)[[keys.PROTOCOL, keys.ARI]].to_numpy().tolist()) == dict(
        zip(read, (0.0, 0.1, 0.2, 0.3), strict=True)
    )
    assert read_regions(tmp_path)[keys.PROTOCOL].nunique() == 4


def test_rows_are_given_by_key_without_regions(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([result_row(**{keys.SEED: seed, keys.ARI: seed / 10}) for seed in range(4)])
    journal.append([failed_row(**{keys.SEED: 9})])
    wanted = [row_key(result_row(**{keys.SEED: seed})) for seed in (3, 7, 1, 9)]
    for again in (journal, Journal(tmp_path)):
        # As lists too: that is what a key becomes that went through JSON.
        found = again.rows([list(key) for key in wanted])  # type: ignore[misc]
        assert [row[keys.SEED] for row in found] == [3, 1, 9]
        assert [row[keys.ARI] for row in found] == [0.3, 0.1, None]
        assert set(found[0]) == set(SCHEMA.names) - {keys.REGIONS, keys.LOSSES}
        assert found[2][keys.REASON] == "shard is gone"
    stored = {key: value for key, value in lines(tmp_path)[3].items() if key not in BULKY}
    assert journal.rows(wanted)[0] == stored


def test_the_row_of_a_success_replaces_that_of_a_failure(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append([failed_row()])
    journal.append([result_row()])
    journal.append([failed_row()])
    for again in (journal, Journal(tmp_path)):
        assert [row[keys.STATUS] for row in again.rows([row_key(result_row())])] == [keys.OK]


def test_a_row_takes_about_a_kilobyte_of_memory(tmp_path: Path) -> None:
    regions = np.arange(600, dtype=np.int16)
    rows = [result_row(**{keys.SEED: seed, keys.REGIONS: regions}) for seed in range(400)]
    journal = Journal(tmp_path)
    tracemalloc.start()
    try:
        for start in range(0, 400, 20):
            journal.append(rows[start : start + 20])
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 400 * 2000


def test_the_key_comes_first_in_the_schema() -> None:
    assert tuple(SCHEMA.names[: len(keys.ROW_KEY)]) == keys.ROW_KEY
