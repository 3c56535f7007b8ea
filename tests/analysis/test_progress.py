from __future__ import annotations

import json
import random
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_study import append, control_rows, failed, trial_rows, write_study

from senca_ray import keys
from senca_ray.analysis import progress as module
from senca_ray.analysis.progress import (
    FINISHED,
    RUNNING,
    STOPPED,
    Failure,
    JournalTail,
    find_studies,
    partial,
    progress,
)
from senca_ray.errors import SencaError
from senca_ray.lock import held

ALL = [row for s in ("A1", "B1") for n in (4, 8) for row in trial_rows(s, f"neighbors={n}")]


def test_a_trial_is_done_when_its_rows_are_there(tmp_path: Path) -> None:
    """They are stored all at once, however many readings a trial has."""
    study = write_study(tmp_path / "s")
    assert progress(study).done == 0
    also = [row | {keys.K_POLICY: "auto"} for row in trial_rows("A1")[:3]]
    append(study, [*trial_rows("A1"), *also])
    found = progress(study)
    assert (found.done, found.trials, found.state) == (1, 4, STOPPED)
    append(study, control_rows("A1"))
    assert progress(study).done == 2


def test_rows_of_an_earlier_version_count(tmp_path: Path) -> None:
    rows = [{name: v for name, v in row.items() if name != keys.PROTOCOL} for row in trial_rows("A1")]
    assert progress(write_study(tmp_path / "s", rows)).done == 1


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(0, len(ALL) // 4), shuffle=st.randoms(use_true_random=False), torn=st.integers(1, 60))
def test_whatever_is_written_when_only_whole_rows_count(cut: int, shuffle: random.Random, torn: int) -> None:
    """Trials in any order, some rows twice, and a line that is being written at this moment."""
    trials = [ALL[i : i + 4] for i in range(0, len(ALL), 4)]
    there = [row for trial in shuffle.sample(trials, len(trials))[:cut] for row in trial]
    with tempfile.TemporaryDirectory() as folder:
        study = write_study(Path(folder) / "s", [*there, *shuffle.sample(there, len(there) // 2)])
        with (study / keys.JOURNAL_FILE).open("a") as journal:
            journal.write(json.dumps(ALL[0])[:torn])
        done = progress(study).done
    assert done == cut


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 10_000), max_size=6))
def test_a_tail_sees_what_a_fresh_look_sees(cuts: list[int]) -> None:
    """However much is appended between two looks, cut in the midst of lines."""
    rows = [*trial_rows("A1", **failed("lost")), *trial_rows("B1"), *trial_rows("A1")]
    with tempfile.TemporaryDirectory() as folder:
        content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        study, tail = Path(folder), JournalTail(Path(folder))
        assert tail.read() == {}
        for end in [*sorted(cut % len(content) for cut in cuts), len(content)]:
            (study / keys.JOURNAL_FILE).write_bytes(content[:end])
            assert tail.read() == JournalTail(study).read()
        assert tail.lines == 12 and not any(row.failed for row in tail.read().values())


def test_a_tail_reads_nothing_twice(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", trial_rows("A1"))
    tail = JournalTail(study)
    tail.read()
    content = (study / keys.JOURNAL_FILE).read_bytes()
    (study / keys.JOURNAL_FILE).write_bytes(b"x" * len(content))
    append(study, trial_rows("B1"))
    assert len(tail.read()) == 8
    (study / keys.JOURNAL_FILE).write_bytes(content)
    assert len(tail.read()) == 4, "a journal that shrank is another one"
    (study / keys.JOURNAL_FILE).unlink()
    assert tail.read() == {}


def test_how_much_partial_results_rest_on(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s")
    results = pd.DataFrame([*trial_rows("A1"), *trial_rows("B1"), *trial_rows("A1", "neighbors=8")])
    grid: dict[str, Any] = {"kind": "grid", "trials": 4}
    assert partial(study, grid, results) == "3 of 4 trials"
    assert partial(study, grid | {"trials": 3}, results) is None
    search: dict[str, Any] = {"kind": "search", "trials": 100}
    assert partial(study, search, results) == "3 of at most 100 trials"
    assert partial(study, {"kind": "grid"}, results) == "3 trials", "as a study of the first schema"
    (study / keys.RESULTS_FILE).touch()
    assert partial(study, search, results) is partial(study, {"kind": "grid"}, results) is None
    assert partial(study, grid, results) == "3 of 4 trials", "tables alone do not make a grid whole"


def test_states(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", ALL)
    with held(study):
        assert progress(study).state == RUNNING
    # Every row is there, but the driver was killed before it wrote the tables.
    assert progress(study).state == STOPPED
    (study / keys.RESULTS_FILE).touch()
    assert progress(study).state == FINISHED


def test_a_grid_whose_rows_are_missing_is_not_finished_by_its_tables(tmp_path: Path) -> None:
    assert progress(write_study(tmp_path / "grid", ALL[:8], finished=True)).state == STOPPED


def test_a_search_may_finish_early(tmp_path: Path) -> None:
    found = progress(write_study(tmp_path / "s", ALL[:8], finished=True, kind="search", trials=100))
    assert (found.state, found.done, found.trials) == (FINISHED, 2, 100)


def test_a_study_of_the_first_schema_lacks_no_consensus(tmp_path: Path) -> None:
    rows = [row for row in ALL if row[keys.CLUSTERING] != keys.CONSENSUS]
    old = {"schema": 1, "values": [4, 8], "default": 4}
    study = write_study(tmp_path / "s", rows, finished=True, **old)
    description = json.loads((study / keys.STUDY_FILE).read_text())
    del description["trials"], description["kind"], description["variants"]
    (study / keys.STUDY_FILE).write_text(json.dumps(description))
    found = progress(study)
    assert (found.state, found.done, found.trials, found.kind) == (FINISHED, 4, None, "grid")


def test_failures_are_grouped_by_reason(tmp_path: Path) -> None:
    rows = [
        *trial_rows("A1", **failed("loss is not finite")),
        *trial_rows("B1", **failed('a "regions": [0, 1] that \\ is part of a text')),
        *trial_rows("A1", "neighbors=8", **failed("loss is not finite")),
    ]
    found = progress(write_study(tmp_path / "s", rows))
    assert found.failures == (
        Failure("loss is not finite", 8, ("A1",)),
        Failure('a "regions": [0, 1] that \\ is part of a text', 4, ("B1",)),
    )
    assert (found.failed, found.done) == (12, 3)


def test_a_later_success_makes_up_for_a_failure(tmp_path: Path) -> None:
    rows = trial_rows("A1")
    study = write_study(tmp_path / "s", [rows[0] | failed("lost"), *rows, rows[1] | failed("late")])
    found = progress(study)
    assert (found.done, found.failures) == (1, ())


def test_time_left_is_the_pace_of_this_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier run did counts as done and not for the pace; neither does the night between."""
    study = write_study(tmp_path / "s", trial_rows("A1"), trials=10)
    now = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
    monkeypatch.setattr(module.lock.time, "time", lambda: now)
    with held(study):
        assert progress(study).seconds_left is None
        now += 60
        append(study, [r for s in ("B1", "C1", "D1") for r in trial_rows(s)])
        assert progress(study).seconds_left == pytest.approx(6 * 60 / 3)
    assert progress(study).seconds_left is None


def test_time_before_the_study_was_described_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run prepares its sections first, under the same lock."""
    study = write_study(tmp_path / "s", trials=6, created="2026-11-21T11:00:00+00:00")
    now = datetime(2026, 11, 21, 9, tzinfo=UTC).timestamp()
    monkeypatch.setattr(module.lock.time, "time", lambda: now)
    with held(study):
        now = datetime(2026, 11, 21, 11, 0, 30, tzinfo=UTC).timestamp()
        append(study, [r for s in ("A1", "B1", "C1") for r in trial_rows(s)])
        assert progress(study).seconds_left == pytest.approx(30)


def test_created_and_updated(tmp_path: Path) -> None:
    study = write_study(tmp_path / "s", trial_rows("A1"))
    found = progress(study)
    assert found.created == datetime(2026, 11, 21, 10, tzinfo=UTC)
    assert found.updated.timestamp() == pytest.approx((study / keys.JOURNAL_FILE).stat().st_mtime)
    (study / keys.JOURNAL_FILE).unlink()
    found = progress(study)
    assert found.updated.timestamp() == pytest.approx((study / keys.STUDY_FILE).stat().st_mtime)
    assert found.done == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"created": "yesterday"}, r"not as it was written .*yesterday.*restore it"),
        ({"created": None}, "not as it was written"),
        ({"schema": 99}, "schema 99 found"),
    ],
)
def test_a_damaged_description_is_told(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SencaError, match=message):
        progress(write_study(tmp_path / "s", **changes))


@pytest.mark.parametrize("line", ["{", "[]", '{"study": "tiny"}'])
def test_a_damaged_line_is_told_with_its_number(tmp_path: Path, line: str) -> None:
    study = write_study(tmp_path / "s", trial_rows("A1"))
    with (study / keys.JOURNAL_FILE).open("a") as journal:
        journal.write(line + "\n")
    with pytest.raises(SencaError, match="line 5 is not a result row; remove this line"):
        progress(study)


def test_studies_of_a_folder(tmp_path: Path) -> None:
    made = [write_study(tmp_path / name) for name in ("b", "a")]
    write_study(tmp_path / ".a.123.partial")
    (tmp_path / "other").mkdir()
    assert find_studies(tmp_path) == sorted(made)
    assert find_studies(made[0]) == [made[0]]
    with pytest.raises(SencaError, match="no such folder"):
        find_studies(tmp_path / "gone")
