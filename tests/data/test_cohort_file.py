"""Cohort files: sections of several formats in one list, and everything that can be wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from her2st_folder import label_file, write_section
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import grid

from senca_ray import keys
from senca_ray.data import readers
from senca_ray.errors import SencaError


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """Two folders in the HER2ST layout, one with two sections."""
    rng = np.random.default_rng(0)
    spots = [(int(x) + 2, int(y) + 2) for x, y in grid(4, 3)]
    for folder, sample in (("one", "A1"), ("two", "B1"), ("two", "B2")):
        labels = ["cancer"] * 6 + ["fat"] * 6 if sample != "B2" else None
        write_section(tmp_path / folder, sample, spots, rng.poisson(5, (12, 3)), labels)
    return tmp_path


def cohort(places: Path, text: str, name: str = "cohort.yaml") -> Path:
    (places / name).write_text(text, encoding="utf-8")
    return places / name


GOOD = """
samples:
  - {sample: first, path: one, patient: P1}
  - {sample: 151673, path: two, section: B1, role: test, format: her2st}
  - {sample: B2, path: two, patient: Q}
"""


def test_sections_are_found_under_their_new_names(places: Path) -> None:
    sections = readers.detect(cohort(places, GOOD)).find(places / "cohort.yaml")
    assert [(s.sample, s.patient, s.role) for s in sections] == [
        ("151673", "B", keys.TEST),
        ("B2", "Q", keys.TUNING),
        ("first", "P1", keys.TUNING),
    ]
    assert {s.format for s in sections} == {"her2st"}
    read = readers.reader("her2st").read(sections[0], 10**8)
    assert read.files.sample == "151673" and len(read.spots) == 12


def test_the_folder_with_the_file_is_the_same_cohort(places: Path) -> None:
    path = cohort(places, GOOD)
    assert readers.detect(places).find(places) == readers.detect(path).find(path)


def test_a_csv_says_the_same(places: Path) -> None:
    expected = readers.detect(cohort(places, GOOD)).find(places)
    text = (
        "sample,path,patient,section,role,format\nfirst,one,P1,,,\n151673,two,,B1,test,her2st\nB2,two,Q,,,\n"
    )
    path = cohort(places, text, "list.csv")
    assert readers.detect(path).find(path) == expected


def test_labels_and_image_in_place_of_those_found(places: Path) -> None:
    other = places / "mine.tsv"
    other.write_text(label_file(places / "two", "B1").read_text().replace("\tlabel\n", "\tcall\n"))
    (places / "scan.png").write_bytes(next((places / "one").rglob("*.png")).read_bytes())
    entry = "{sample: x, path: two, section: B2, labels: mine.tsv, label_column: call, image: scan.png}"
    (section,) = readers.detect(cohort(places, f"samples: [{entry}]")).find(places)
    assert section.label_source == keys.ANNOTATED and section.image == places / "scan.png"
    read = readers.reader("her2st").read(section, 10**8)
    assert read.labels is not None and set(read.labels) == {"cancer", "fat"}


def test_a_her2st_cohort_with_a_cohort_yaml_of_its_own_stays_one(places: Path) -> None:
    (places / "two/cohort.yaml").write_text("labels: simulated\n")
    assert readers.detect(places / "two").name == "her2st"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("samples: []", "lists no sections"),
        ("samples: 3", "expected the one entry 'samples'"),
        ("cohort: x\nsamples: []", "expected the one entry 'samples'"),
        ("samples: [{sample: x}]", "section 1, path: missing"),
        ("samples: [{path: one}]", "section 1, sample: missing"),
        ("samples: [{sample: x, path: one, colour: red}]", "colour: unknown; expected one of sample, path"),
        ("samples: [{sample: ../x, path: one}]", "sample: '../x' found; expected letters"),
        ("samples: [{sample: x, path: one, patient: a/b}]", "patient: 'a/b' found"),
        ("samples: [{sample: x, path: ''}]", "path: empty"),
        ("samples: [{sample: x, path: gone}]", "path gone: no such folder"),
        ("samples: [{sample: x, path: one, format: vizium}]", "format 'vizium' is unknown"),
        ("samples: [{sample: x, path: one, role: judge}]", "role: 'judge' found"),
        ("samples: [{sample: x, path: two}]", "holds 2 sections (B1, B2), none called 'x'"),
        ("samples: [{sample: x, path: two, section: B7}]", "none called 'B7'"),
        ("samples: [{sample: x, path: one, labels: no.tsv}]", "labels no.tsv: no such file"),
        ("samples: [{sample: x, path: one, image: no.tif}]", "image no.tif: no such file"),
        ("samples: [{sample: x, path: one}, {sample: X, path: one}]", "the sample id is there twice"),
        ("samples: [{sample: x, path: cohort.yaml}]", "a cohort file again"),
        (
            "samples: [{sample: x, path: two, section: B1, role: test}, {sample: B2, path: two}]",
            "patient B has test sections, and B2 would tune",
        ),
        ("samples: [", "cannot be read as YAML"),
    ],
)
def test_what_is_wrong_is_told(places: Path, text: str, expected: str) -> None:
    path = cohort(places, text)
    with pytest.raises(SencaError) as told:
        readers.reader("cohort").find(path)
    assert expected in str(told.value)


def test_all_problems_at_once(places: Path) -> None:
    path = cohort(places, "samples: [{sample: x, path: gone}, {sample: y, path: two, section: B9}]")
    with pytest.raises(SencaError, match=r"(?s)2 problems.*x .*no such folder.*y .*none called 'B9'"):
        readers.reader("cohort").find(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"sample,path\nx\n", "another number of cells"),
        (b"sample,path\nx,one,two\n", "another number of cells"),
        (b"sample,path\n\xff,one\n", "UTF-8"),
        (b"sample;path\nx;one\n", "unknown; expected one of sample, path"),
        (b"", "lists no sections"),
    ],
)
def test_a_broken_csv_is_told(places: Path, content: bytes, expected: str) -> None:
    (places / "list.csv").write_bytes(content)
    with pytest.raises(SencaError) as told:
        readers.reader("cohort").find(places / "list.csv")
    assert expected in str(told.value)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".yaml"]))
def test_any_bytes_end_in_words(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    with pytest.raises(SencaError):
        readers.reader("cohort").find(path)


def test_an_entry_point_that_cannot_be_loaded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    given_points = [EntryPoint("lab", "no_such_package:Reader", readers.ENTRY_POINTS)]
    monkeypatch.setattr(readers, "entry_points", lambda group: given_points)
    readers.known.cache_clear()
    try:
        with pytest.raises(SencaError, match=r"'lab' of another package \(no_such_package:Reader\)"):
            readers.known()
    finally:
        readers.known.cache_clear()


class LabReader:
    """A format of another package."""

    name = "lab"
    expects = "a file called lab.txt"

    def recognises(self, root: Path) -> bool:
        return (root / "lab.txt").is_file()


def test_another_package_adds_its_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    monkeypatch.setattr(
        readers, "entry_points", lambda group: [EntryPoint("lab", f"{__name__}:LabReader", group)]
    )
    readers.known.cache_clear()
    try:
        (tmp_path / "lab.txt").touch()
        assert readers.detect(tmp_path).name == "lab"
    finally:
        readers.known.cache_clear()
