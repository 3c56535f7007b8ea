from __future__ import annotations

import dataclasses
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from senca_ray import keys
from senca_ray.data import copies, location, remote
from senca_ray.data.location import write_bytes
from senca_ray.data.remote import bring, far_files, fingerprint_of, local_view
from senca_ray.data.section import SectionFiles
from senca_ray.errors import ProblemsError, SencaError

CONTENT = {
    "cohort.yaml": b"labels: annotated\n",
    "cnts/A1.tsv.gz": b"counts of A1",
    "cnts/B1.tsv.gz": b"counts of B1",
    "imgs/A1/he.jpg": b"image" * 100,
    "mex/A1/matrix.mtx.gz": b"matrix",
    "mex/A1/deep/barcodes.tsv": b"barcodes",
    "mex/A10/matrix.mtx.gz": b"of another",
    "scale.json": b"{}",
    "large.json": b" " * 1_000_001,
}


@pytest.fixture
def uri(bucket: str) -> str:
    for name, content in CONTENT.items():
        write_bytes(f"s3://{bucket}/lab/cohort/{name}", content)
    write_bytes(f"s3://{bucket}/lab/cohort2/other", b"")
    return f"s3://{bucket}/lab/cohort"


def files_in(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def section(view: Path) -> SectionFiles:
    return SectionFiles(
        sample="A1",
        patient="A",
        label_source=keys.ANNOTATED,
        root=view,
        format="toy",
        counts=view / "cnts/A1.tsv.gz",
        image=view / "imgs/A1/he.jpg",
        annotations=(("second", view / "scale.json"),),
        others={"matrix": view / "mex/A1", "barcodes": view / "mex/A1/deep/barcodes.tsv"},
    )


def test_a_view_has_the_names_and_only_the_small_texts(uri: str, own_cache: Path) -> None:
    view = local_view(f"{uri}/")
    assert view.name == "cohort" and view.is_relative_to(own_cache)
    found = files_in(view)
    assert set(found) == set(CONTENT)
    assert {n for n, content in found.items() if content} == {"cohort.yaml", "scale.json"}
    assert found["cohort.yaml"] == CONTENT["cohort.yaml"]


def test_a_view_follows_what_changes(uri: str, s3: Any, bucket: str) -> None:
    view = local_view(uri)
    before = {name: fingerprint_of(view / name) for name in ("cohort.yaml", "mex/A1", "mex", "mex/A10")}
    write_bytes(f"{uri}/cohort.yaml", b"labels: simulated  # a changed size: times are told to the second\n")
    s3.delete_object(Bucket=bucket, Key="lab/cohort/mex/A1/deep/barcodes.tsv")
    write_bytes(f"{uri}/mex/A1/deep", b"a file now")
    (view / "stray").write_text("not there")
    (view / "link").symlink_to("/etc")
    assert local_view(uri) == view
    assert (
        view / "cohort.yaml"
    ).read_bytes() == b"labels: simulated  # a changed size: times are told to the second\n"
    assert (view / "mex/A1/deep").is_file() and not list(view.glob("[sl][ti]*k*"))
    after = {name: fingerprint_of(view / name) for name in before}
    assert [name for name in before if before[name] != after[name]] == ["cohort.yaml", "mex/A1", "mex"]


def test_what_has_not_changed_is_not_brought_again(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    local_view(uri)
    asked: list[str] = []
    monkeypatch.setattr(remote, "download", lambda uri, files: asked.extend(n for n, _, _ in files))
    local_view(uri)
    assert asked == []


def test_a_section_comes_with_exactly_its_files(uri: str, own_cache: Path) -> None:
    view = local_view(uri)
    files = section(view)
    far = pickle.loads(pickle.dumps(far_files(files)))
    with bring(files, far) as here:
        wanted = ("cnts/A1.tsv.gz", "imgs/A1/he.jpg", "scale.json")
        wanted += ("mex/A1/matrix.mtx.gz", "mex/A1/deep/barcodes.tsv")
        assert files_in(here.root) == {name: CONTENT[name] for name in wanted}
        assert here.root.name == "cohort"
        assert [here.place(p) for p in here.paths()] == [files.place(p) for p in files.paths()]
        assert dataclasses.replace(here, **vars(files)) == files
        place = here.root.parent
    assert not place.exists() and (own_cache / copies.FOLDER).exists()
    assert not [p for p in own_cache.rglob("*") if p.is_symlink()]


def test_only_some_of_a_sections_files(uri: str) -> None:
    files = section(local_view(uri))
    with bring(files, far_files(files), only=[files.image, Path("/elsewhere")]) as here:
        assert set(files_in(here.root)) == {"imgs/A1/he.jpg"}


def test_sections_share_what_they_both_name(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = section(local_view(uri))
    other = dataclasses.replace(files, sample="A2", image=None, others={})
    with bring(files, far_files(files)):
        monkeypatch.setattr(location, "connect", None)  # nothing more is asked of the storage
        with bring(other, far_files(other)) as here:
            assert here.counts.read_bytes() == CONTENT["cnts/A1.tsv.gz"]


def test_a_local_section_is_left_as_it_is(tmp_path: Path, own_cache: Path) -> None:
    files = section(tmp_path)
    assert far_files(files) is None and fingerprint_of(files.counts) is None
    with bring(files, None) as here:
        assert here is files
    assert not own_cache.exists()


def test_the_cache_stays_within_its_bound(uri: str, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    view = local_view(uri)
    files = section(view)
    far = far_files(files)
    monkeypatch.setenv(copies.BOUND, "0.00000052")
    for counts in (view / "cnts/A1.tsv.gz", view / "cnts/B1.tsv.gz", files.image):
        one = dataclasses.replace(files, counts=counts, image=None, annotations=(), others={})
        with bring(one, far_files(one)) as here:
            assert here.counts.stat().st_size
    kept = [p for p in (own_cache / copies.FOLDER).iterdir() if not p.name.startswith(".")]
    assert sum(p.stat().st_size for copy in kept for p in copy.iterdir()) <= 520
    assert len(kept) == 2
    monkeypatch.setenv(copies.BOUND, "0.0000001")
    with pytest.raises(SencaError, match=r"A1: .* set SENCA_CACHE_GB higher"), bring(files, far):
        pass


@pytest.mark.parametrize("name", ["imgs/A1/he.jpg", "mex/A1/matrix.mtx.gz"])
def test_a_file_that_changed_since_it_was_listed(uri: str, name: str) -> None:
    files = section(local_view(uri))
    far = far_files(files)
    write_bytes(f"{uri}/{name}", b"another")
    with pytest.raises(SencaError, match="changed or removed since it was listed"), bring(files, far):
        pass


def test_every_object_that_cannot_be_a_local_file_is_named(
    uri: str, s3: Any, bucket: str, own_cache: Path
) -> None:
    for key in ("../x", "a\\b", "tab\tx", "d//e", "cnts"):
        s3.put_object(Bucket=bucket, Key=f"lab/cohort/{key}", Body=b"x")
    with pytest.raises(ProblemsError) as raised:
        local_view(uri)
    text = str(raised.value)
    assert len(raised.value.problems) == 5 and "a file and a folder at once" in text
    assert all(repr(key) in text for key in ("../x", "a\\b", "tab\tx", "d//e", "cnts"))
    assert not own_cache.exists()


def test_one_file_alone_and_a_cohort_file_with_what_lies_beside(uri: str) -> None:
    alone = local_view(f"{uri}/imgs/A1/he.jpg")
    assert alone.name == "he.jpg" and alone.parent.name == "A1" and len(files_in(alone.parent)) == 1
    listed = local_view(f"{uri}/cohort.yaml")
    assert listed.name == "cohort.yaml" and set(files_in(listed.parent)) == set(CONTENT)
    one = dataclasses.replace(section(listed.parent), counts=alone, root=alone.parent, image=None)
    one = dataclasses.replace(one, annotations=(), others={})
    with bring(one, far_files(one)) as here:
        assert here.counts.read_bytes() == CONTENT["imgs/A1/he.jpg"]


def test_a_whole_bucket(uri: str, bucket: str) -> None:
    view = local_view(f"s3://{bucket}")
    assert view.name == bucket and "lab/cohort2/other" in files_in(view)
    files = section(view / "lab" / "cohort")
    with bring(files, far_files(files)) as here:
        assert here.image is not None and here.image.read_bytes() == CONTENT["imgs/A1/he.jpg"]


def test_nothing_there(bucket: str) -> None:
    with pytest.raises(SencaError, match="nothing there; name the folder"):
        local_view(f"s3://{bucket}/nothing")
    with pytest.raises(SencaError, match="no such bucket"):
        local_view("s3://nobody-made-this/x")


def test_a_disk_without_hard_links_is_told(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_link(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    files = section(local_view(uri))
    monkeypatch.setattr(os, "link", no_link)
    with pytest.raises(SencaError, match="hard links"), bring(files, far_files(files)):
        pass
