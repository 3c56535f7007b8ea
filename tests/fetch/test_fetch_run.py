from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fetch_stub import Home, running, serve_github, serve_zenodo, tar_of
from her2st_folder import write_tiny_cohort

from senca_ray.data.readers.breast_atlas import BreastAtlasReader
from senca_ray.data.readers.her2st import Her2stReader
from senca_ray.data.readers.legacy_st import LegacyStReader
from senca_ray.errors import Interrupted, SencaError
from senca_ray.fetch import run as module
from senca_ray.fetch.catalogue import ATLAS, HER2ST, SCC, Cohort, choose_scc
from senca_ray.fetch.client import Client
from senca_ray.fetch.run import Fetched, fetch

SAMPLES = ("CID4535", "1160920F")
NOWHERE = "http://127.0.0.1:9"
"""Nothing listens there: as good as no network."""


@pytest.fixture
def home() -> Iterator[Home]:
    with running() as home:
        yield home


def bring(cohort: Cohort, folder: Path, url: str) -> Fetched:
    with Client(url, pause=0) as client:
        return fetch(cohort, folder, client, lambda what, done, total: None)


def atlas_archives() -> dict[str, bytes]:
    """The three archives, with what a file manager leaves and what nobody wants among it."""
    counts = {
        f"filtered_count_matrices/{sample}_filtered_count_matrix/{file}": f"{sample} {file}".encode()
        for sample in SAMPLES
        for file in ("barcodes.tsv.gz", "features.tsv.gz", "matrix.mtx.gz")
    }
    metadata = {f"metadata/{s}_metadata.csv": b"patientid,Classification\n" for s in SAMPLES}
    spatial = {
        f"spatial/{sample}_spatial/{file}": f"{sample} {file}".encode()
        for sample in SAMPLES
        for file in ("tissue_positions_list.csv", "scalefactors_json.json", "tissue_hires_image.png")
    }
    return {
        "filtered_count_matrices.tar.gz": tar_of(counts),
        "metadata.tar.gz": tar_of(metadata | {"metadata/._CID4535_metadata.csv": b"x"}),
        "spatial.tar.gz": tar_of(spatial | {"spatial/notes.docx": b"x"}),
    }


def serve_atlas(home: Home, archives: dict[str, bytes] | None = None) -> dict[str, bytes]:
    archives = archives or atlas_archives()
    assert ATLAS.zenodo is not None
    serve_zenodo(home, ATLAS.zenodo, {a.name: a.address for a in ATLAS.archives}, archives)
    return archives


def scc_archive() -> bytes:
    files = {}
    for number, sample in ((4284316, "P2_ST_rep1"), (4284325, "P10_ST_rep1")):
        files[f"GSM{number}_{sample}_stdata.tsv.gz"] = gzip.compress(b"\tGENE\n10x13\t1\n")
        files[f"GSM{number}_spot_data-selection-{sample}.tsv.gz"] = gzip.compress(b"x\ty\n")
    files["GSM4284316_P2_ST_rep1.jpg"] = b"picture"
    files["GSM4284325_P10_ST_rep1.jpg.gz"] = gzip.compress(b"picture")
    files["GSM4565823_P4_rep1_matrix.mtx.gz"] = b"visium"
    return tar_of(files, "w")


def her2st_files(folder: Path) -> dict[str, bytes]:
    """A tiny repository: three sections, a label file of a section without counts, and code."""
    write_tiny_cohort(folder / "data")
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    files["data/ST-pat/lbl/J1_labeled_coordinates.tsv"] = b"Row.names\tx\ty\n"
    files["data/ST-pat/lbl/README"] = files["README.md"] = files["data/public.yaml"] = b"words"
    return files


def serve_her2st(home: Home, files: dict[str, bytes]) -> None:
    assert HER2ST.tree is not None
    serve_github(home, HER2ST.tree, HER2ST.raw, files)


def everything(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_atlas_comes_as_its_reader_wants_it(home: Home, tmp_path: Path) -> None:
    serve_atlas(home)
    done = bring(ATLAS, tmp_path / "atlas", home.url)
    assert done.downloaded == 3 and done.files == 14 and not done.notes
    reader = BreastAtlasReader()
    assert reader.recognises(tmp_path / "atlas") and reader.name == ATLAS.format
    names = set(everything(tmp_path / "atlas"))
    assert {n for n in names if "/" not in n} == {"fetch.json", ".fetch.lock"}
    assert "metadata/1160920F_metadata.csv" in names and "spatial/notes.docx" not in names
    written = json.loads((tmp_path / "atlas" / "fetch.json").read_text())
    assert written["cohort"] == "breast-atlas" and "CC BY" in written["licence"]
    part = written["parts"]["spatial.tar.gz"]
    assert (
        part["published"] and part["checksum"].startswith("md5:") and part["address"].endswith("download=1")
    )
    file = written["files"]["metadata/CID4535_metadata.csv"]
    assert file["checksum"].startswith("sha256:") and file["size"] == 25 and file["date"]


def test_her2st_comes_as_its_reader_wants_it(home: Home, tmp_path: Path) -> None:
    files = her2st_files(tmp_path / "public")
    serve_her2st(home, files)
    done = bring(HER2ST, tmp_path / "her2st", home.url)
    assert [s.sample for s in Her2stReader().find(tmp_path / "her2st")] == ["A1", "B4", "C9"]
    got = everything(tmp_path / "her2st")
    assert got["data/ST-cnts/A1.tsv.gz"] == files["data/ST-cnts/A1.tsv.gz"]
    assert not any("J1" in name or "public" in name for name in got)
    assert any("J1_labeled_coordinates.tsv" in note for note in done.notes)
    written = json.loads(got["fetch.json"])
    assert all(entry["checksum"].startswith("git-sha1:") for entry in written["files"].values())


def test_scc_comes_as_its_reader_wants_it_and_is_trusted_as_first_seen(home: Home, tmp_path: Path) -> None:
    home.serve(SCC.archives[0].address, scc_archive())
    done = bring(SCC, tmp_path / "scc", home.url)
    sections = LegacyStReader().find(tmp_path / "scc")
    assert [s.sample for s in sections] == ["P10_ST_rep1", "P2_ST_rep1"]
    assert all(s.image is not None and s.image.read_bytes() == b"picture" for s in sections)
    assert done.files == 6 and "trusted as first seen: sha256:" in done.notes[0]
    assert LegacyStReader.name == SCC.format


@pytest.mark.parametrize("cohort", [ATLAS, HER2ST, SCC], ids=lambda c: c.name)
def test_a_second_call_asks_nobody(home: Home, tmp_path: Path, cohort: Cohort) -> None:
    serve_atlas(home)
    serve_her2st(home, her2st_files(tmp_path / "public"))
    home.serve(SCC.archives[0].address, scc_archive())
    first = bring(cohort, tmp_path / "out", home.url)
    again = bring(cohort, tmp_path / "out", NOWHERE)
    assert again.downloaded == 0 and (again.files, again.size) == (first.files, first.size)


def test_only_what_is_damaged_or_missing_is_fetched_again(home: Home, tmp_path: Path) -> None:
    serve_atlas(home)
    serve_her2st(home, her2st_files(tmp_path / "public"))
    for cohort, broken, lost, count in (
        (ATLAS, "spatial/CID4535_spatial/tissue_hires_image.png", "spatial/CID4535_spatial/x", 1),
        (HER2ST, "data/ST-cnts/A1.tsv.gz", "data/ST-spotfiles/B4_selection.tsv", 2),
    ):
        folder = tmp_path / cohort.name
        bring(cohort, folder, home.url)
        before = everything(folder)
        (folder / broken).write_bytes(b"x" * len(before[broken]))
        (folder / lost).unlink(missing_ok=True)
        done = bring(cohort, folder, home.url)
        assert done.downloaded == count and any(broken in note for note in done.notes)
        assert {n: c for n, c in everything(folder).items() if n != "fetch.json"} == {
            n: c for n, c in before.items() if n != "fetch.json"
        }


@pytest.mark.parametrize("cohort", [ATLAS, HER2ST, SCC], ids=lambda c: c.name)
def test_without_a_network_it_says_what_to_do_by_hand(tmp_path: Path, cohort: Cohort) -> None:
    with pytest.raises(SencaError) as error:
        bring(cohort, tmp_path / "out", NOWHERE)
    text = str(error.value)
    for archive in cohort.archives:
        assert archive.address in text and archive.size in text
        assert str(tmp_path / "out" / archive.name) in text
    assert f"senca fetch {cohort.name} {tmp_path / 'out'}" in text and "cannot be reached" in text


def test_by_hand_names_only_what_is_missing(home: Home, tmp_path: Path) -> None:
    archives = serve_atlas(home)
    (tmp_path / "spatial.tar.gz").write_bytes(archives["spatial.tar.gz"])
    with pytest.raises(SencaError) as error:
        bring(ATLAS, tmp_path, NOWHERE)
    assert "metadata.tar.gz?download=1" in str(error.value)
    assert "spatial.tar.gz?download=1" not in str(error.value)


def test_what_was_put_there_by_hand_is_unpacked_without_a_network(tmp_path: Path) -> None:
    for name, content in atlas_archives().items():
        (tmp_path / name).write_bytes(content)
    done = bring(ATLAS, tmp_path, NOWHERE)
    assert done.downloaded == 0 and done.files == 14
    assert any("not checked against the published checksums" in note for note in done.notes)
    assert (
        tmp_path / "spatial.tar.gz"
    ).is_file() and "spatial.tar.gz is unpacked and may be removed" in done.notes
    assert bring(ATLAS, tmp_path, NOWHERE).notes == []


def test_githubs_zip_put_there_by_hand_is_unpacked(home: Home, tmp_path: Path) -> None:
    import zipfile

    files = her2st_files(tmp_path / "public")
    (tmp_path / "out").mkdir()
    with zipfile.ZipFile(tmp_path / "out" / "her2st-master.zip", "w") as packed:
        for name, content in files.items():
            packed.writestr(f"her2st-master/{name}", content)
    bring(HER2ST, tmp_path / "out", NOWHERE)
    assert [s.sample for s in Her2stReader().find(tmp_path / "out")] == ["A1", "B4", "C9"]
    (tmp_path / "out" / "her2st-master.zip").unlink()
    (tmp_path / "out" / "data/ST-cnts/A1.tsv.gz").write_bytes(b"damaged")
    serve_her2st(home, files)
    assert bring(HER2ST, tmp_path / "out", home.url).downloaded == 1
    assert [s.sample for s in Her2stReader().find(tmp_path / "out")] == ["A1", "B4", "C9"]


def test_a_zip_put_there_by_hand_mends_what_was_downloaded(home: Home, tmp_path: Path) -> None:
    import zipfile

    files = her2st_files(tmp_path / "public")
    serve_her2st(home, files)
    bring(HER2ST, tmp_path / "out", home.url)
    (tmp_path / "out" / "data/ST-cnts/A1.tsv.gz").write_bytes(b"damaged")
    with zipfile.ZipFile(tmp_path / "out" / "her2st-master.zip", "w") as packed:
        for name, content in files.items():
            packed.writestr(f"her2st-master/{name}", content)
    bring(HER2ST, tmp_path / "out", NOWHERE)
    assert (tmp_path / "out" / "data/ST-cnts/A1.tsv.gz").read_bytes() == files["data/ST-cnts/A1.tsv.gz"]
    written = json.loads((tmp_path / "out" / "fetch.json").read_text())
    assert set(written["parts"]) == {"her2st-master.zip"}


def test_a_damaged_archive_put_there_by_hand_is_told(home: Home, tmp_path: Path) -> None:
    archives = serve_atlas(home)
    (tmp_path / "spatial.tar.gz").write_bytes(archives["spatial.tar.gz"][:-1] + b"x")
    with pytest.raises(SencaError, match=r"spatial.tar.gz: checksum md5:.* remove the file"):
        bring(ATLAS, tmp_path, home.url)


def test_a_broken_download_goes_on_in_the_next_call(home: Home, tmp_path: Path) -> None:
    content = scc_archive()
    home.serve(SCC.archives[0].address, content, breaks=[1000] + [0] * 30)
    with pytest.raises(SencaError, match="breaks again and again"):
        bring(SCC, tmp_path, home.url)
    assert (tmp_path / "GSE144239_RAW.tar.part").stat().st_size == 1000
    home.serve(SCC.archives[0].address, content)
    home.asked.clear()
    bring(SCC, tmp_path, home.url)
    assert [wanted for _, wanted in home.asked] == ["bytes=1000-"]
    assert LegacyStReader().recognises(tmp_path) and not list(tmp_path.glob("*.part"))


def test_stopping_keeps_what_is_there(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve_her2st(home, her2st_files(tmp_path / "public"))

    def stop(what: str, done: int, total: int | None) -> None:
        if "ST-spotfiles" in what and done:
            raise KeyboardInterrupt

    with Client(home.url, pause=0) as client, pytest.raises(Interrupted, match="goes on from there"):
        fetch(HER2ST, tmp_path / "out", client, stop)
    there = len([n for n in everything(tmp_path / "out") if n.startswith("data/")])
    assert there > 1
    home.asked.clear()
    done = bring(HER2ST, tmp_path / "out", home.url)
    assert 0 < done.downloaded < done.files
    assert len(Her2stReader().find(tmp_path / "out")) == 3


def test_a_file_of_yours_is_never_replaced(home: Home, tmp_path: Path) -> None:
    serve_her2st(home, her2st_files(tmp_path / "public"))
    mine = tmp_path / "out" / "data" / "ST-cnts" / "A1.tsv.gz"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(SencaError, match="is there already and differs"):
        bring(HER2ST, tmp_path / "out", home.url)
    assert mine.read_bytes() == b"mine"


def test_a_clone_of_the_repository_is_recognised(home: Home, tmp_path: Path) -> None:
    serve_her2st(home, her2st_files(tmp_path / "clone"))
    assert bring(HER2ST, tmp_path / "clone", home.url).downloaded == 0


def test_another_cohorts_folder_is_refused(home: Home, tmp_path: Path) -> None:
    home.serve(SCC.archives[0].address, scc_archive())
    bring(SCC, tmp_path, home.url)
    with pytest.raises(SencaError, match="holds the cohort 'scc'; name another folder"):
        bring(ATLAS, tmp_path, home.url)


@pytest.mark.parametrize("content", ["", "[]", '{"cohort": "scc"}', "[" * 10**5, '{"cohort":1,"parts":[]}'])
def test_a_broken_record_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "fetch.json").write_text(content)
    with pytest.raises(SencaError, match=r"fetch.json: cannot be read; .* remove it"):
        bring(SCC, tmp_path, NOWHERE)


def test_an_archive_without_the_cohort_leaves_nothing(home: Home, tmp_path: Path) -> None:
    archives = atlas_archives() | {"metadata.tar.gz": tar_of({"readme": b"x"})}
    serve_atlas(home, archives)
    with pytest.raises(SencaError, match="none of the cohort's files in it, but readme"):
        bring(ATLAS, tmp_path, home.url)
    assert not (tmp_path / "metadata").exists()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"files": []}, "no size and checksum of filtered_count_matrices.tar.gz"),
        ({"files": [{"key": "spatial.tar.gz", "size": -1, "checksum": "md5:0"}]}, "no size and checksum"),
        ({"message": "gone"}, "no list 'files' in the answer"),
        ([], "no list 'files'"),
        (b"<html>", "cannot be read as JSON"),
        (b"[" * 10**5, "cannot be read as JSON"),
    ],
)
def test_an_unexpected_answer_of_zenodo_is_told(
    home: Home, tmp_path: Path, answer: object, words: str
) -> None:
    assert ATLAS.zenodo is not None
    home.serve(ATLAS.zenodo, answer)
    with pytest.raises(SencaError, match=words):
        bring(ATLAS, tmp_path, home.url)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"tree": [], "sha": "1" * 40}, "lists none of the cohort's files"),
        ({"tree": [{"path": "data/ST-cnts/A1.tsv.gz", "mode": "100644"}]}, "no size and checksum of data/ST"),
        ({"tree": [], "truncated": True}, "cut short"),
        ({"tree": [{"path": "data/ST-cnts/A1.tsv.gz", "mode": "120000"}]}, "lists none"),
    ],
)
def test_an_unexpected_answer_of_github_is_told(
    home: Home, tmp_path: Path, answer: object, words: str
) -> None:
    assert HER2ST.tree is not None
    home.serve(HER2ST.tree, answer)
    with pytest.raises(SencaError, match=words):
        bring(HER2ST, tmp_path, home.url)


def test_more_than_a_cohort_can_be_is_not_downloaded(home: Home, tmp_path: Path) -> None:
    serve_her2st(home, her2st_files(tmp_path / "public"))
    home.serve(SCC.archives[0].address, scc_archive())
    for cohort in (HER2ST, SCC):
        with pytest.raises(SencaError, match="expected at most 100"):
            bring(dataclasses.replace(cohort, limit=100), tmp_path / cohort.name, home.url)
    with pytest.raises(SencaError, match="declares more than 100 bytes"):
        bring(dataclasses.replace(SCC, unpacked_limit=100), tmp_path / "scc", home.url)


def test_two_at_once_do_not_mix_their_bytes(home: Home, tmp_path: Path) -> None:
    home.serve(SCC.archives[0].address, scc_archive())

    def second(what: str, done: int, total: int | None) -> None:
        with pytest.raises(SencaError, match="another senca fetch is at work there"):
            bring(SCC, tmp_path, home.url)

    with Client(home.url, pause=0) as client:
        fetch(SCC, tmp_path, client, second)


def test_what_a_killed_fetch_left_is_removed(home: Home, tmp_path: Path) -> None:
    home.serve(SCC.archives[0].address, scc_archive())
    left = tmp_path / f"{module.TEMPORARY}old" / "data"
    left.mkdir(parents=True)
    bring(SCC, tmp_path, home.url)
    assert not left.parent.exists()


def test_an_archive_that_changed_since_the_first_download_is_told(home: Home, tmp_path: Path) -> None:
    home.serve(SCC.archives[0].address, scc_archive())
    bring(SCC, tmp_path, home.url)
    (tmp_path / "data" / "GSM4284316_P2_ST_rep1.jpg").unlink()
    home.serve(SCC.archives[0].address, scc_archive() + bytes(1024))
    done = bring(SCC, tmp_path, home.url)
    assert any("is another file than at the first download" in note for note in done.notes)


def test_only_files_of_the_scc_sections_are_chosen() -> None:
    names = [
        "GSM4284316_P2_ST_rep1_stdata.tsv.gz",
        "sub/GSM4284316_spot_data-selection-P2_ST_rep1.tsv.gz",
        "GSM4284316_P2_ST_rep1.jpg",
        "GSM4565823_P4_rep1_barcodes.tsv.gz",
        "GSM4565823_P4_rep1_tissue_hires_image.png.gz",
        "._GSM4284316_P2_ST_rep1.jpg",
    ]
    assert sorted(choose_scc(names)) == sorted(names[:3])
