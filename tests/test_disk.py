from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from tiny_study import trial_rows, write_study

from senca_ray import disk, keys
from senca_ray.data.copies import held as held_copy
from senca_ray.disk import (
    COPIES,
    LEFTOVERS,
    SHARDS,
    SIMULATED,
    STUDIES,
    UNFINISHED,
    WORKED_ON,
    remove,
    survey,
)
from senca_ray.lock import held

DONE = [row for s in ("A1", "B1") for n in (4, 8) for row in trial_rows(s, f"neighbors={n}")]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with two shards and their manifest, a simulated cohort, and what killed commands left."""
    store = tmp_path / "cache" / "shards"
    for sample in ("A1", "B1"):
        shard(store, f"{sample}-0123")
    (store / keys.MANIFEST_FILE).write_text(json.dumps({"A1-0123": "x", "B1-0123": "y"}))
    (tmp_path / "cache" / "simulated-abc").mkdir()
    (tmp_path / "cache" / "simulated-abc" / "counts.tsv").write_bytes(b"0" * 70)
    hidden = [store / ".C1-0123.ffff.partial", tmp_path / "cache" / ".simulated-abc.partial-77"]
    for folder in hidden:
        folder.mkdir()
        (folder / "half").write_bytes(b"0" * 11)
        for path in (folder / "half", folder):
            old(path)
    (store / ".manifest.json.77.tmp").write_bytes(b"0" * 5)
    old(store / ".manifest.json.77.tmp")
    return tmp_path / "cache"


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    return tmp_path / "studies"


def shard(store: Path, name: str) -> Path:
    folder = store / name
    folder.mkdir(parents=True)
    (folder / keys.SHARD_FILE).write_bytes(b"0" * 100)
    (folder / keys.SPOTS_FILE).write_bytes(b"0" * 900)
    return folder


def old(path: Path) -> None:
    os.utime(path, (time.time() - 86400,) * 2)


def shards_of(cache: Path) -> dict[str, str]:
    return {sample: str(cache / "shards" / f"{sample}-0123") for sample in ("A1", "B1")}


def of(category: str, cache: Path, studies: Path) -> dict[str, disk.Item]:
    return {item.path.name: item for item in survey(cache, studies) if item.category == category}


def test_everything_is_found_with_its_size(cache: Path, studies: Path) -> None:
    study = write_study(studies / "one", DONE, finished=True)
    own = sum(path.stat().st_size for path in study.iterdir())
    (study / "tune").mkdir()
    (study / "tune" / "state").write_bytes(b"0" * 33)
    (study / ".report.html.77.tmp").write_bytes(b"0" * 3)
    sizes = {(i.category, i.path.name): i.size for i in survey(cache, studies)}
    assert sizes == {
        (UNFINISHED, ".C1-0123.ffff.partial"): 11,
        (UNFINISHED, ".simulated-abc.partial-77"): 11,
        (UNFINISHED, ".manifest.json.77.tmp"): 5,
        (LEFTOVERS, "tune"): 33,
        (LEFTOVERS, ".report.html.77.tmp"): 3,
        (SIMULATED, "simulated-abc"): 70,
        (SHARDS, "A1-0123"): 1000,
        (SHARDS, "B1-0123"): 1000,
        (STUDIES, "one"): own,
    }


def test_copies_of_far_shards_are_found_and_removed(cache: Path, studies: Path) -> None:
    copy = shard(cache / "near", "A1-0123-abc")
    found = of(COPIES, cache, studies)
    assert list(found) == ["A1-0123-abc"]
    assert remove(list(found.values()), cache, studies) == (1000, [])
    assert not copy.exists()


def test_a_copy_that_is_read_is_kept(cache: Path, studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENCA_CACHE", str(cache))
    with held_copy("A1-0123-abc", lambda: 1, lambda folder: (folder / "data").write_bytes(b"0")) as copy:
        found = of(COPIES, cache, studies).values()
        freed, kept = remove(list(found), cache, studies)
        assert freed == 0 and kept == [f"{copy}: is being read"] and copy.exists()
    assert remove(list(found), cache, studies) == (1, [])
    assert not [p for p in copy.parent.iterdir() if "A1" in p.name]


def test_views_of_far_cohorts_are_found_unless_they_are_young(cache: Path, studies: Path) -> None:
    for name in ("young", "done"):
        (cache / "views" / name / "cohort").mkdir(parents=True)
        (cache / "views" / name / "index.json").write_bytes(b"0" * 7)
    for path in (cache / "views" / "done").rglob("*"):
        old(path)
    old(cache / "views" / "done")
    found = of(COPIES, cache, studies)
    assert found["young"].kept and not found["done"].kept
    assert remove(list(found.values()), cache, studies)[0] == 7
    assert [p.name for p in (cache / "views").iterdir()] == ["young"]


def test_nothing_anywhere(tmp_path: Path) -> None:
    assert survey(tmp_path / "no", tmp_path / "where") == []
    assert remove([], tmp_path / "no", tmp_path / "where") == (0, [])


def test_removal_frees_what_it_says_and_leaves_the_rest(cache: Path, studies: Path) -> None:
    write_study(studies / "one", DONE, finished=True, shards=shards_of(cache))
    a1 = of(SHARDS, cache, studies)["A1-0123"]
    assert remove([a1, *of(UNFINISHED, cache, studies).values()], cache, studies) == (1027, [])
    assert {(i.category, i.path.name) for i in survey(cache, studies)} == {
        (SIMULATED, "simulated-abc"),
        (SHARDS, "B1-0123"),
        (STUDIES, "one"),
    }
    assert json.loads((cache / "shards" / keys.MANIFEST_FILE).read_text()) == {"B1-0123": "y"}
    assert not list((cache / "shards").glob(".*"))


def test_shards_know_the_unfinished_studies_that_need_them(cache: Path, studies: Path) -> None:
    write_study(studies / "finished", DONE, finished=True, shards=shards_of(cache))
    stopped = write_study(studies / "stopped", shards={"A1": shards_of(cache)["A1"], "X": "s3://there/X"})
    needed = {name: item.needed_by for name, item in of(SHARDS, cache, studies).items()}
    assert needed == {"A1-0123": ("stopped",), "B1-0123": ()}
    with held(stopped):
        found = of(SHARDS, cache, studies)
        assert found["A1-0123"].kept == "stopped is running" and not found["B1-0123"].kept


def test_an_unreadable_study_counts_as_unfinished(cache: Path, studies: Path) -> None:
    write_study(studies / "later", schema=99, shards=shards_of(cache), finished=True)
    assert of(SHARDS, cache, studies)["A1-0123"].needed_by == ("later",)


def test_shards_reached_through_a_link_are_the_same_shards(
    cache: Path, studies: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(cache)
    write_study(studies / "stopped", shards={"A1": str(tmp_path / "link" / "shards" / "A1-0123")})
    assert of(SHARDS, cache, studies)["A1-0123"].needed_by == ("stopped",)


def test_a_running_study_is_kept_even_when_it_began_after_the_survey(cache: Path, studies: Path) -> None:
    study = write_study(studies / "one", DONE, finished=True, shards=shards_of(cache))
    (study / "tune").mkdir()
    before = survey(cache, studies)
    with held(study):
        freed, kept = remove(before, cache, studies)
        assert len(kept) == 4 and all("run" in reason for reason in kept)
        assert set(of(LEFTOVERS, cache, studies)) == {"tune"}
    assert freed == 27 + 70
    assert (study / keys.JOURNAL_FILE).exists() and (study / "tune").is_dir()
    assert set(of(SHARDS, cache, studies)) == {"A1-0123", "B1-0123"}


def test_a_shard_that_is_needed_meanwhile_is_kept(cache: Path, studies: Path) -> None:
    before = of(SHARDS, cache, studies).values()
    write_study(studies / "new", shards={"A1": shards_of(cache)["A1"]})
    freed, kept = remove(list(before), cache, studies)
    assert freed == 1000 and kept == [f"{cache}/shards/A1-0123: new needs it"]


def test_what_is_in_the_making_is_kept(cache: Path, studies: Path) -> None:
    half = cache / "shards" / ".C1-0123.ffff.partial" / "half"
    half.write_bytes(b"0" * 12)
    young = of(UNFINISHED, cache, studies)[half.parent.name]
    assert "in the making" in young.kept
    remove([young], cache, studies)
    assert half.exists()


def test_checkpoints_of_an_unfinished_study_are_marked(studies: Path, tmp_path: Path) -> None:
    for name, finished in (("finished", True), ("stopped", False)):
        study = write_study(studies / name, DONE, finished=finished)
        (study / keys.CHECKPOINT_FOLDER).mkdir()
    found = {i.path.parent.name: i.needed_by for i in survey(tmp_path, studies) if i.category == LEFTOVERS}
    assert found == {"finished": (), "stopped": ("stopped",)}


def test_a_study_goes_as_a_whole(studies: Path, tmp_path: Path) -> None:
    study = write_study(studies / "one", DONE, finished=True)
    (study / "tune").mkdir()
    (study / "tune" / "state").write_bytes(b"0" * 33)
    size = sum(path.stat().st_size for path in study.rglob("*") if path.is_file())
    items = of(STUDIES, tmp_path, studies)
    assert items["one"].size == size - 33
    assert remove(list(items.values()), tmp_path, studies) == (size, [])
    assert not list(studies.iterdir())


def test_links_are_neither_followed_nor_removed(cache: Path, studies: Path, tmp_path: Path) -> None:
    precious = tmp_path / "elsewhere"
    for name in ("shards", "study", "big"):
        (precious / name).mkdir(parents=True)
        (precious / name / "file").write_bytes(b"0" * 5000)
    study = write_study(studies / "one", DONE, finished=True)
    write_study(precious / "real", DONE, finished=True)
    (studies / "linked").symlink_to(precious / "real")
    (study / "tune").symlink_to(precious / "study")
    (cache / "simulated-link").symlink_to(precious / "shards")
    shard(precious, "D1-0123")
    (cache / "shards" / "D1-0123").symlink_to(precious / "D1-0123")
    (cache / "simulated-abc" / "inside").symlink_to(precious / "big")
    items = survey(cache, studies)
    assert not {"linked", "tune", "simulated-link", "D1-0123"} & {item.path.name for item in items}
    assert of(SIMULATED, cache, studies)["simulated-abc"].size == 70
    before = sorted(precious.rglob("*"))
    remove(items, cache, studies)
    assert sorted(precious.rglob("*")) == before


def test_a_linked_store_is_left_alone(tmp_path: Path, studies: Path) -> None:
    shard(tmp_path / "elsewhere", "A1-0123")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "shards").symlink_to(tmp_path / "elsewhere")
    assert survey(tmp_path / "cache", studies) == []


def test_a_removal_that_breaks_off_leaves_no_half_shard(
    cache: Path, studies: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is half removed would be taken for prepared."""

    def breaks(path: Path) -> None:
        (path / keys.SPOTS_FILE).unlink()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk.shutil, "rmtree", breaks)
    freed, kept = remove([of(SHARDS, cache, studies)["A1-0123"]], cache, studies)
    assert freed == 0 and "Input/output error" in kept[0]
    assert set(of(SHARDS, cache, studies)) == {"B1-0123"}
    left = [name for name, item in of(UNFINISHED, cache, studies).items() if item.kept]
    assert left == [f".A1-0123.{os.getpid()}.partial"]


def test_working_folders_of_studies_at_addresses_are_shown_and_kept_while_they_run(
    cache: Path, studies: Path
) -> None:
    folder = cache / "studies" / "sweep-0123"
    write_study(folder, DONE)
    with held(folder):
        (item,) = of(WORKED_ON, cache, studies).values()
        assert item.kept.startswith("run by process")
        assert remove([item], cache, studies)[0] == 0 and folder.exists()
    (item,) = of(WORKED_ON, cache, studies).values()
    assert item.size > 0 and not item.kept
    assert remove([item], cache, studies) == (item.size, [])
    assert not folder.exists()
