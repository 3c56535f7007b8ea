from __future__ import annotations

import gzip
import shutil
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from her2st_folder import (
    COUNTS,
    GENES,
    IMAGE_SIZE,
    LABELS,
    SPOTS,
    append,
    counts_file,
    edit,
    image_file,
    label_file,
    read_text,
    spot_file,
    write_section,
    write_text,
    write_tiny_cohort,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from senca_ray import keys
from senca_ray.data import readers
from senca_ray.data.images import open_image
from senca_ray.data.section import RawSection
from senca_ray.errors import Problem, ProblemsError, SencaError

LIMIT = 1_000_000
READER = readers.reader("her2st")


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    return write_tiny_cohort(tmp_path / "cohort")


def read_one(root: Path, sample: str, limit: int = LIMIT) -> RawSection:
    return READER.read(next(f for f in READER.find(root) if f.sample == sample), limit)


def problems_of(root: Path, limit: int = LIMIT) -> list[Problem]:
    """Every problem of listing, or, when there is none, of reading each section."""
    try:
        sections = READER.find(root)
    except ProblemsError as error:
        return list(error.problems)
    problems: list[Problem] = []
    for files in sections:
        try:
            READER.read(files, limit)
        except ProblemsError as error:
            problems += error.problems
    return problems


@contextmanager
def temporary_cohort() -> Iterator[Path]:
    """A folder of its own for every example that hypothesis draws."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


# --- The registry ------------------------------------------------------------------------------------


def test_unknown_format_lists_the_known_ones() -> None:
    with pytest.raises(SencaError, match=r"'slideseq' is unknown; expected one of cohort, her2st, "):
        readers.reader("slideseq")


def test_detects_the_layout_here_and_in_data(cohort: Path, tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    shutil.move(cohort, tmp_path / "repository" / "data")
    root = tmp_path / "repository"
    assert readers.detect(root) is readers.detect(root / "data") is READER
    assert [f.sample for f in READER.find(root)] == ["A1", "B4", "C9"]
    assert next(f.place(f.counts) for f in READER.find(root)) == "ST-cnts/A1.tsv.gz"
    assert READER.find(root) == READER.find(root / "data")


def test_detect_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(SencaError, match=r"Looked for(?s:.*)\n  her2st: a folder ST-cnts"):
        readers.detect(tmp_path)
    with pytest.raises(SencaError, match="no such folder"):
        readers.detect(tmp_path / "nowhere")


# --- A valid folder ----------------------------------------------------------------------------------


def test_reads_what_was_written(cohort: Path) -> None:
    section = read_one(cohort, "A1")
    assert section.spots == ("1x1", "2x1", "3x1", "1x2", "2x2", "3x2")
    assert section.genes == GENES
    assert section.counts.dtype == np.int32
    np.testing.assert_array_equal(section.counts.toarray(), COUNTS)
    np.testing.assert_array_equal(section.xy, SPOTS)
    assert section.xy.dtype == np.float64
    assert section.pixel_xy is not None
    np.testing.assert_allclose(section.pixel_xy, 10 * np.array(SPOTS) + 0.5)
    assert section.labels == LABELS
    assert section.notes == ()
    assert section.modality == keys.RNA_IMAGE


def test_image_and_labels_are_optional(cohort: Path) -> None:
    section = read_one(cohort, "B4")
    assert section.modality == keys.RNA
    assert section.pixel_xy is None
    plain = read_one(cohort, "C9")
    assert plain.labels is None
    assert plain.notes == ("no spot file: positions are taken from the spots' names",)
    np.testing.assert_array_equal(plain.counts.toarray(), COUNTS)
    np.testing.assert_array_equal(plain.xy, SPOTS)


def test_label_source_and_patient(cohort: Path) -> None:
    found = {f.sample: (f.patient, f.label_source) for f in READER.find(cohort)}
    assert found == {
        "A1": ("A", keys.ANNOTATED),
        "B4": ("B", keys.TRANSFERRED),
        "C9": ("C", keys.UNLABELLED),
    }


@pytest.mark.parametrize("source", [keys.ANNOTATED, keys.TRANSFERRED, keys.SIMULATED])
def test_cohort_yaml_speaks_for_every_labelled_section(cohort: Path, source: str) -> None:
    write_text(cohort / "cohort.yaml", f"labels: {source}\n")
    assert [f.label_source for f in READER.find(cohort)] == [source, source, keys.UNLABELLED]
    assert {f.simulated for f in READER.find(cohort)} == {source == keys.SIMULATED}


def test_windows_line_ends_byte_order_mark_and_one_gene(cohort: Path) -> None:
    for path in (label_file(cohort, "A1"), spot_file(cohort, "A1"), counts_file(cohort, "A1")):
        write_text(path, "\ufeff" + read_text(path).replace("\n", "\r\n"))
    assert read_one(cohort, "A1").labels == LABELS
    write_section(cohort, "A1", SPOTS[:1], COUNTS[:1, :1], LABELS[:1], GENES[:1])
    assert read_one(cohort, "A1").counts.toarray().tolist() == [[5]]


# --- The format's traps ------------------------------------------------------------------------------


def test_label_rows_without_coordinates_are_left_out(cohort: Path) -> None:
    append(label_file(cohort, "A1"), "1379x6121\t\t\t\t\timmune infiltrate")
    append(label_file(cohort, "A1"), "1379x6122\tNA\tNA\tNA\tNA\timmune infiltrate")
    section = read_one(cohort, "A1")
    assert section.labels == LABELS
    assert section.notes == ("2 label rows left out: no coordinates",)


def test_spots_of_the_spot_file_without_counts_are_left_out_with_their_labels(cohort: Path) -> None:
    edit(counts_file(cohort, "A1"), "\n2x1\t1\t1\t1", "")
    section = read_one(cohort, "A1")
    assert section.spots == ("1x1", "3x1", "1x2", "2x2", "3x2")
    assert section.labels == (LABELS[0], *LABELS[2:])
    assert section.notes == (
        "1 row of the spot file left out: no counts for the spot",
        "1 label row left out: no counts for the spot",
    )


def test_spots_without_label_are_undetermined(cohort: Path) -> None:
    edit(label_file(cohort, "A1"), "invasive cancer\n20x10", "\n20x10")
    text = read_text(label_file(cohort, "A1")).splitlines()
    write_text(label_file(cohort, "A1"), "\n".join(text[:-1]))
    section = read_one(cohort, "A1")
    assert section.labels == (keys.UNDETERMINED, *LABELS[1:-1], keys.UNDETERMINED)
    assert section.notes == (
        "1 label row with an empty label: undetermined",
        "1 spot without a label: undetermined",
    )


def test_spots_missing_in_the_spot_file_have_no_place_in_an_image(cohort: Path) -> None:
    for sample in ("A1", "B4"):
        edit(spot_file(cohort, sample), "2\t2\t2.1\t1.9\t20.5\t20.5\t1\n", "")
    without_image, with_image = read_one(cohort, "B4"), read_one(cohort, "A1")
    assert len(without_image.spots) == 6
    assert without_image.notes == ("1 spot not in the spot file: positions are taken from the names",)
    assert len(with_image.spots) == 5 and "2x2" not in with_image.spots
    assert with_image.pixel_xy is not None and len(with_image.pixel_xy) == 5
    assert "1 spot left out: not in the spot file, so without a pixel position" in with_image.notes


def test_the_spot_file_of_another_section_is_told(cohort: Path) -> None:
    path = spot_file(cohort, "A1")
    lines = read_text(path).splitlines(keepends=True)
    write_text(path, "".join(lines[:3]))
    (problem,) = problems_of(cohort)
    assert problem.sample == "A1"
    assert "no row for 4 of 6 spots of the counts" in problem.message


def test_deselected_spots_are_left_out(cohort: Path) -> None:
    edit(spot_file(cohort, "A1"), "1\t2\t1.1\t1.9\t10.5\t20.5\t1", "1\t2\t1.1\t1.9\t10.5\t20.5\t0")
    section = read_one(cohort, "A1")
    assert section.spots == ("1x1", "2x1", "3x1", "2x2", "3x2")
    np.testing.assert_array_equal(section.counts.toarray(), np.delete(COUNTS, 3, axis=0))
    assert section.labels == LABELS[:3] + LABELS[4:]
    assert section.pixel_xy is not None
    assert section.pixel_xy.tolist() == [[10.5, 10.5], [20.5, 10.5], [30.5, 10.5], [20.5, 20.5], [30.5, 20.5]]
    assert section.notes == ("1 spot left out: 'selected' is 0 in the spot file",)


def test_spots_with_almost_no_counts_stay(cohort: Path) -> None:
    edit(counts_file(cohort, "A1"), "3x1\t0\t0\t1", "3x1\t0\t0\t0")
    section = read_one(cohort, "A1")
    assert section.counts.sum(axis=1).ravel().tolist()[0][2] == 0
    assert section.notes == ()


def test_order_of_the_other_files_does_not_matter(cohort: Path) -> None:
    before = read_one(cohort, "A1")
    for path in (spot_file(cohort, "A1"), label_file(cohort, "A1")):
        header, *rows = read_text(path).splitlines()
        write_text(path, "\n".join([header, *reversed(rows)]))
    after = read_one(cohort, "A1")
    assert (after.spots, after.labels) == (before.spots, before.labels)
    assert before.pixel_xy is not None and after.pixel_xy is not None
    np.testing.assert_array_equal(after.pixel_xy, before.pixel_xy)


# --- Malformed folders -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Malformed:
    """One kind of broken folder and the problem it has to give."""

    kind: str
    damage: Callable[[Path], object]
    sample: str
    place: str
    finding: str


A1_COUNTS, A1_SPOTS = "ST-cnts/A1.tsv.gz", "ST-spotfiles/A1_selection.tsv"
A1_SMITH = "ST-pat/lbl/A1_labeled_coordinates.smith.tsv"
A1_LABELS, A1_IMAGE = "ST-pat/lbl/A1_labeled_coordinates.tsv", "ST-imgs/A/A1/A1.png"


def copy_image(root: Path, to: str) -> None:
    target = root / "ST-imgs" / to
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(image_file(root, "A1"), target)


def remove_all_counts(root: Path) -> None:
    for folder in ("ST-cnts", "ST-spotfiles", "ST-pat", "ST-imgs"):
        shutil.rmtree(root / folder)
    (root / "ST-cnts").mkdir()


def add_annotator(root: Path, annotator: str, sample: str = "A1") -> Path:
    """A further label file of a section: the labels of its own."""
    path = root / f"ST-pat/lbl/{sample}_labeled_coordinates.{annotator}.tsv"
    shutil.copy(label_file(root, "A1"), path)
    return path


def add_twice(root: Path) -> None:
    add_annotator(root, "Smith")
    add_annotator(root, "smith")


def unlabel(path: Path) -> None:
    lines = [line.rsplit("\t", 1)[0] for line in read_text(path).splitlines()]
    write_text(path, "\n".join([f"{lines[0]}\tlabel", *(f"{line}\tundetermined" for line in lines[1:])]))


LISTING = [
    Malformed(
        "counts-folder-missing", lambda r: shutil.rmtree(r / "ST-cnts"), "-", "{root}", "no folder ST-cnts"
    ),
    Malformed("no-sections", remove_all_counts, "-", "ST-cnts", "no sections found; expected ST-cnts/SAMPLE"),
    Malformed(
        "labels-without-counts",
        lambda r: shutil.copy(label_file(r, "A1"), label_file(r, "A7")),
        "A7",
        "ST-pat/lbl/A7_labeled_coordinates.tsv",
        "section without counts; expected ST-cnts/A7.tsv.gz",
    ),
    Malformed(
        "annotator-without-the-sections-own-labels",
        lambda r: add_annotator(r, "smith", "C9"),
        "C9",
        "ST-pat/lbl/C9_labeled_coordinates.smith.tsv",
        "no C9_labeled_coordinates.tsv beside it; expected there the labels that scores use",
    ),
    Malformed(
        "annotator-of-a-wrong-name",
        lambda r: add_annotator(r, "<b>"),
        "A1",
        "ST-pat/lbl/A1_labeled_coordinates.<b>.tsv",
        "annotator '<b>'; expected 1 to 30 letters, digits, '-', '_'",
    ),
    Malformed(
        "annotator-without-a-name",
        lambda r: add_annotator(r, ""),
        "A1",
        "ST-pat/lbl/A1_labeled_coordinates..tsv",
        "annotator ''; expected 1 to 30 letters",
    ),
    Malformed(
        "annotator-named-as-the-main-one",
        lambda r: add_annotator(r, "Main"),
        "A1",
        "ST-pat/lbl/A1_labeled_coordinates.Main.tsv",
        "annotator 'Main'; expected 1 to 30 letters, digits, '-', '_', and another name than 'main'",
    ),
    Malformed(
        "annotators-that-differ-in-case-only",
        add_twice,
        "A1",
        "ST-pat/lbl/A1_labeled_coordinates.smith.tsv",
        "annotator 'smith' beside 'Smith'; expected names that differ in more than case",
    ),
    Malformed(
        "annotator-of-a-sample-id-that-is-none",
        lambda r: add_annotator(r, "smith", "A 1"),
        "-",
        "ST-pat/lbl/A 1_labeled_coordinates.smith.tsv",
        "sample id 'A 1'",
    ),
    Malformed(
        "annotator-that-is-a-folder",
        lambda r: (r / "ST-pat/lbl/A1_labeled_coordinates.smith.tsv").mkdir(),
        "A1",
        "ST-pat/lbl/A1_labeled_coordinates.smith.tsv",
        "not a file",
    ),
    Malformed(
        "spot-file-without-counts",
        lambda r: shutil.copy(spot_file(r, "A1"), spot_file(r, "A7")),
        "A7",
        "ST-spotfiles/A7_selection.tsv",
        "section without counts",
    ),
    Malformed(
        "image-without-counts",
        lambda r: copy_image(r, "A/A7/x.jpg"),
        "A7",
        "ST-imgs/A/A7/x.jpg",
        "section without counts",
    ),
    Malformed(
        "image-without-spot-file",
        lambda r: spot_file(r, "A1").unlink(),
        "A1",
        A1_IMAGE,
        "needs ST-spotfiles/A1_selection.tsv, which is missing",
    ),
    Malformed(
        "two-images",
        lambda r: copy_image(r, "A/A1/other.TIF"),
        "A1",
        "ST-imgs/A/A1",
        "2 images: A1.png, other.TIF; expected one",
    ),
    Malformed(
        "image-of-another-patient",
        lambda r: copy_image(r, "B/A1/x.png"),
        "A1",
        "ST-imgs/B/A1/x.png",
        "expected it in ST-imgs/A/A1",
    ),
    Malformed(
        "image-beside-its-folder",
        lambda r: copy_image(r, "A/x.png"),
        "-",
        "ST-imgs/A/x.png",
        "expected it in ST-imgs/PATIENT/SECTION",
    ),
    Malformed(
        "image-of-unknown-type",
        lambda r: image_file(r, "A1").rename(image_file(r, "A1").with_suffix(".svs")),
        "A1",
        "ST-imgs/A/A1",
        "no image, but A1.svs; expected .jpg",
    ),
    Malformed(
        "counts-twice",
        lambda r: write_text(r / "ST-cnts/A1.tsv", "x"),
        "A1",
        "ST-cnts/A1.tsv.gz",
        "A1.tsv is there too",
    ),
    Malformed(
        "unsafe-sample-id",
        lambda r: write_text(r / "ST-cnts/A$2.tsv", "x"),
        "-",
        "ST-cnts/A$2.tsv",
        "sample id 'A$2'; expected letters",
    ),
    Malformed(
        "link-to-nothing",
        lambda r: (r / "ST-cnts/A8.tsv").symlink_to(r / "nothing"),
        "A8",
        "ST-cnts/A8.tsv",
        "not a file",
    ),
    Malformed(
        "cohort-yaml-unknown-key",
        lambda r: write_text(r / "cohort.yaml", "labels: annotated\npatients: 3\n"),
        "-",
        "cohort.yaml",
        "expected the one entry 'labels: '",
    ),
    Malformed(
        "cohort-yaml-unknown-source",
        lambda r: write_text(r / "cohort.yaml", "labels: guessed\n"),
        "-",
        "cohort.yaml",
        "annotated, transferred, simulated",
    ),
    Malformed(
        "cohort-yaml-unreadable",
        lambda r: write_text(r / "cohort.yaml", "labels: [\n"),
        "-",
        "cohort.yaml",
        "cannot be read as YAML",
    ),
]

READING = [
    Malformed(
        "counts-zero-bytes",
        lambda r: counts_file(r, "A1").write_bytes(b""),
        "A1",
        A1_COUNTS,
        "empty (0 bytes)",
    ),
    Malformed("counts-blank", lambda r: write_text(counts_file(r, "A1"), "\n\n"), "A1", A1_COUNTS, "no text"),
    Malformed(
        "counts-truncated-gzip",
        lambda r: counts_file(r, "A1").write_bytes(counts_file(r, "A1").read_bytes()[:-20]),
        "A1",
        A1_COUNTS,
        "not a complete gzip file",
    ),
    Malformed(
        "counts-no-gzip",
        lambda r: counts_file(r, "A1").write_bytes(b"\tGENE1\n1x1\t3\n"),
        "A1",
        A1_COUNTS,
        "not a complete gzip file",
    ),
    Malformed(
        "counts-not-utf8",
        lambda r: counts_file(r, "A1").write_bytes(gzip.compress("\tGÉNE\n1x1\t3\n".encode("latin-1"))),
        "A1",
        A1_COUNTS,
        "byte 2 is not UTF-8",
    ),
    Malformed(
        "counts-comma-separated",
        lambda r: write_text(counts_file(r, "A1"), read_text(counts_file(r, "A1")).replace("\t", ",")),
        "A1",
        A1_COUNTS,
        "line 1 holds one column, ',GENE1,GENE2,GENE3'",
    ),
    Malformed(
        "counts-header-only",
        lambda r: write_text(counts_file(r, "A1"), "\tGENE1\n"),
        "A1",
        A1_COUNTS,
        "only a header",
    ),
    Malformed(
        "counts-ragged",
        lambda r: edit(counts_file(r, "A1"), "2x1\t1\t1\t1", "2x1\t1\t1"),
        "A1",
        A1_COUNTS,
        "first line 3 with 3; expected 4",
    ),
    Malformed(
        "counts-text",
        lambda r: edit(counts_file(r, "A1"), "2x2\t2\t2\t9", "2x2\tmany\t\t9"),
        "A1",
        A1_COUNTS,
        "2 cells without a count, first spot '2x2', gene 'GENE1': 'many'",
    ),
    Malformed(
        "counts-negative",
        lambda r: edit(counts_file(r, "A1"), "1x1\t5\t0", "1x1\t5\t-4"),
        "A1",
        A1_COUNTS,
        "1 cell without a count, first spot '1x1', gene 'GENE2': '-4'",
    ),
    Malformed(
        "counts-fractional",
        lambda r: edit(counts_file(r, "A1"), "1x2\t7\t3\t0", "1x2\t7.5\t3\t0.25"),
        "A1",
        A1_COUNTS,
        "2 cells without a count, first spot '1x2', gene 'GENE1': '7.5'",
    ),
    Malformed(
        "counts-nan",
        lambda r: edit(counts_file(r, "A1"), "3x2\t4", "3x2\tnan"),
        "A1",
        A1_COUNTS,
        "first spot '3x2', gene 'GENE1': 'nan'",
    ),
    Malformed(
        "counts-too-large",
        lambda r: edit(counts_file(r, "A1"), "3x2\t4", "3x2\t2147483648"),
        "A1",
        A1_COUNTS,
        "gene 'GENE1': '2147483648'; expected whole numbers from 0 to 2,147,483,647",
    ),
    Malformed(
        "genes-duplicated",
        lambda r: edit(counts_file(r, "A1"), "GENE2", "GENE1"),
        "A1",
        A1_COUNTS,
        "duplicated gene 'GENE1'",
    ),
    Malformed(
        "gene-unnamed",
        lambda r: edit(counts_file(r, "A1"), "GENE2", ""),
        "A1",
        A1_COUNTS,
        "1 gene without a name",
    ),
    Malformed(
        "spots-duplicated",
        lambda r: append(counts_file(r, "A1"), "1x1\t1\t1\t1"),
        "A1",
        A1_COUNTS,
        "duplicated spot '1x1'",
    ),
    Malformed(
        "spots-not-array-coordinates",
        lambda r: edit(counts_file(r, "A1"), "3x2\t4", "3.0x2\t4"),
        "A1",
        A1_COUNTS,
        "1 spot not named by array coordinates: '3.0x2'; expected names such as 10x13",
    ),
    Malformed(
        "spot-file-column-missing",
        lambda r: edit(spot_file(r, "A1"), "pixel_x\t", "col\t"),
        "A1",
        A1_SPOTS,
        "column 'pixel_x' missing; found 'x', 'y', 'new_x', 'new_y', 'col', 'pixel_y', 'selected'",
    ),
    Malformed(
        "spot-file-column-twice",
        lambda r: edit(spot_file(r, "A1"), "new_x\t", "x\t"),
        "A1",
        A1_SPOTS,
        "column 'x' found twice",
    ),
    Malformed(
        "spot-file-text",
        lambda r: edit(spot_file(r, "A1"), "30.5\t20.5\t1", "right\t20.5\t1"),
        "A1",
        A1_SPOTS,
        "1 cell without a number, first line 7, column 'pixel_x': 'right'",
    ),
    Malformed(
        "spot-file-fractional",
        lambda r: edit(spot_file(r, "A1"), "3\t2\t3.1", "3.4\t2\t3.1"),
        "A1",
        A1_SPOTS,
        "first line 7: 3.4, 2",
    ),
    Malformed(
        "spot-file-duplicated",
        lambda r: append(spot_file(r, "A1"), "3\t2\t0\t0\t1\t1\t1"),
        "A1",
        A1_SPOTS,
        "duplicated spot '3x2'",
    ),
    Malformed(
        "spot-file-selected",
        lambda r: edit(spot_file(r, "A1"), "30.5\t20.5\t1", "30.5\t20.5\t7"),
        "A1",
        A1_SPOTS,
        "line 7: selected is 7; expected 0 or 1",
    ),
    Malformed(
        "spot-file-none-selected",
        lambda r: write_text(
            spot_file(r, "A1"), read_text(spot_file(r, "A1")).replace("0.5\t1\n", "0.5\t0\n")
        ),
        "A1",
        A1_SPOTS,
        "selected is 0 for every spot",
    ),
    Malformed(
        "spots-outside-the-image",
        lambda r: edit(spot_file(r, "A1"), "30.5\t20.5\t1", "130.5\t20.5\t1"),
        "A1",
        A1_SPOTS,
        "1 of 6 spots outside the image of 120 x 90 pixels: pixel_x from 10.5 to 130.5, pixel_y from 10.5 to "
        "20.5; probably the spot file is for another resolution",
    ),
    Malformed(
        "labels-column-missing",
        lambda r: edit(label_file(r, "A1"), "\tlabel\n", "\tannotation\n"),
        "A1",
        A1_LABELS,
        "column 'label' missing",
    ),
    Malformed(
        "labels-text-coordinate",
        lambda r: edit(label_file(r, "A1"), "1.213\t0.866", "left\tinf"),
        "A1",
        A1_LABELS,
        "2 cells without a number, first line 2, column 'x': 'left'",
    ),
    Malformed(
        "labels-for-unknown-spots",
        lambda r: append(label_file(r, "A1"), "1x1\t40.2\t1\t1\t1\tin situ"),
        "A1",
        A1_LABELS,
        "labels for 1 unknown spot: '40x1'",
    ),
    Malformed(
        "labels-rounding-onto-one-spot",
        lambda r: append(label_file(r, "A1"), "1x1\t0.9\t1.2\t1\t1\tin situ"),
        "A1",
        A1_LABELS,
        "1 spot with two labels after rounding the coordinates, first '1x1' (lines 2 and 8)",
    ),
    Malformed(
        "labels-zero-bytes",
        lambda r: label_file(r, "A1").write_bytes(b""),
        "A1",
        A1_LABELS,
        "empty (0 bytes)",
    ),
    Malformed(
        "annotator-with-unknown-spots",
        lambda r: append(add_annotator(r, "smith"), "1x1\t40.2\t1\t1\t1\tin situ"),
        "A1",
        A1_SMITH,
        "labels for 1 unknown spot: '40x1'",
    ),
    Malformed(
        "annotator-with-two-labels-of-a-spot",
        lambda r: append(add_annotator(r, "smith"), "1x1\t0.9\t1.2\t1\t1\tin situ"),
        "A1",
        A1_SMITH,
        "1 spot with two labels after rounding the coordinates, first '1x1' (lines 2 and 8)",
    ),
    Malformed(
        "annotator-without-any-label",
        lambda r: unlabel(add_annotator(r, "smith")),
        "A1",
        A1_SMITH,
        "no spot has a label; expected the annotator's labels; remove the file",
    ),
    Malformed(
        "annotator-zero-bytes",
        lambda r: add_annotator(r, "smith").write_bytes(b""),
        "A1",
        A1_SMITH,
        "empty (0 bytes)",
    ),
    Malformed(
        "image-no-image", lambda r: image_file(r, "A1").write_text("no"), "A1", A1_IMAGE, "cannot be opened"
    ),
    Malformed(
        "image-truncated",
        lambda r: image_file(r, "A1").write_bytes(image_file(r, "A1").read_bytes()[:-9000]),
        "A1",
        A1_IMAGE,
        "the image of 120 x 90 pixels cannot be decoded",
    ),
]


def by_kind(malformed: Malformed) -> str:
    return malformed.kind


def matches(problem: Problem, malformed: Malformed, root: Path) -> bool:
    place = malformed.place.format(root=root)
    return (problem.sample, problem.place) == (
        malformed.sample,
        place,
    ) and malformed.finding in problem.message


@pytest.mark.parametrize("malformed", LISTING + READING, ids=by_kind)
def test_malformed_folder_is_one_problem_with_place_and_finding(cohort: Path, malformed: Malformed) -> None:
    malformed.damage(cohort)
    problems = problems_of(cohort)
    assert [matches(p, malformed, cohort) for p in problems] == [True], problems
    assert "; " in problems[0].message, "the finding has to be followed by what to do"
    assert str(cohort) not in problems[0].message


@pytest.mark.parametrize("malformed", LISTING[2:], ids=by_kind)
def test_listing_tells_all_problems_at_once(cohort: Path, malformed: Malformed) -> None:
    malformed.damage(cohort)
    shutil.copy(label_file(cohort, "B4"), label_file(cohort, "D6"))
    problems = problems_of(cohort)
    assert len(problems) == 2
    assert sum(matches(p, malformed, cohort) for p in problems) == 1
    assert sum(p.sample == "D6" for p in problems) == 1


@pytest.mark.parametrize("malformed", READING, ids=by_kind)
def test_reading_tells_all_problems_of_a_section_at_once(cohort: Path, malformed: Malformed) -> None:
    other = next(m for m in reversed(READING) if m.place != malformed.place)
    other.damage(cohort)
    malformed.damage(cohort)
    files = next(f for f in READER.find(cohort) if f.sample == "A1")
    with pytest.raises(ProblemsError) as caught:
        READER.read(files, LIMIT)
    # Whether a spot is outside the image cannot be told of an image that cannot be read.
    expected = [other] if malformed.kind == "spots-outside-the-image" else [other, malformed]
    for one in expected:
        assert sum(matches(p, one, cohort) for p in caught.value.problems) == 1
    assert len(caught.value.problems) == len(expected)
    assert all(p.place in str(caught.value) and p.message in str(caught.value) for p in caught.value.problems)


def test_six_problems_in_one_section_are_one_error(cohort: Path) -> None:
    kinds = {
        "counts-nan",
        "genes-duplicated",
        "spots-duplicated",
        "spot-file-selected",
        "labels-rounding-onto-one-spot",
        "image-truncated",
    }
    chosen = [m for m in READING if m.kind in kinds]
    for malformed in chosen:
        malformed.damage(cohort)
    problems = problems_of(cohort)
    assert len(problems) == len(chosen) == 6
    assert all(any(matches(p, m, cohort) for p in problems) for m in chosen)


def test_a_broken_section_leaves_the_others_readable(cohort: Path) -> None:
    counts_file(cohort, "A1").write_bytes(b"")
    assert len(read_one(cohort, "B4").spots) == 6


def test_image_larger_than_allowed_is_refused(cohort: Path) -> None:
    pixels = IMAGE_SIZE[0] * IMAGE_SIZE[1]
    assert problems_of(cohort, pixels) == []
    (problem,) = problems_of(cohort, pixels - 1)
    assert (problem.sample, problem.place) == ("A1", A1_IMAGE)
    assert "declares 120 x 90 pixels" in problem.message


def test_only_our_own_size_limit_counts(cohort: Path) -> None:
    """Pillow refuses 400 million pixels by itself and warns of half as many."""
    side = struct.pack(">I", 20_000)
    chunk = b"IHDR" + side + side + bytes([8, 0, 0, 0, 0])
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    image_file(cohort, "A1").write_bytes(header + b"\x00\x00\x00\x00IDAT\x35\xaf\x06\x1e")
    with open_image(image_file(cohort, "A1"), 400_000_000) as image:
        assert image.size == (20_000, 20_000)
    (problem,) = problems_of(cohort, 399_999_999)
    assert "declares 20000 x 20000 pixels; expected at most 399,999,999" in problem.message


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".tif", ".tiff", ".JPG"])
def test_other_image_types_are_read_and_their_truncation_found(cohort: Path, suffix: str) -> None:
    path = image_file(cohort, "A1")
    with Image.open(path) as image:
        image.save(path.with_suffix(suffix))
    path.unlink()
    path = path.with_suffix(suffix)
    assert read_one(cohort, "A1").modality == keys.RNA_IMAGE
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    (problem,) = problems_of(cohort)
    assert problem.place == f"ST-imgs/A/A1/A1{suffix}"
    assert "image" in problem.message


# --- Properties --------------------------------------------------------------------------------------

SLOW_DISK = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=12)


@st.composite
def valid_sections(draw: st.DrawFn) -> tuple[list[tuple[int, int]], np.ndarray, list[str], list[str]]:
    spots = draw(
        st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=20, unique=True)
    )
    genes = draw(st.lists(NAMES, min_size=1, max_size=6, unique=True))
    cells = st.integers(0, 2**31 - 1) | st.integers(0, 3)
    size = len(spots) * len(genes)
    counts = np.array(draw(st.lists(cells, min_size=size, max_size=size)), dtype=np.int64)
    labels = draw(st.lists(st.sampled_from(sorted({*LABELS})), min_size=len(spots), max_size=len(spots)))
    return spots, counts.reshape(len(spots), len(genes)), labels, genes


@SLOW_DISK
@given(section=valid_sections(), compressed=st.booleans())
def test_any_valid_section_is_read_back_as_written(section, compressed: bool) -> None:
    spots, counts, labels, genes = section
    with temporary_cohort() as root:
        write_section(root, "A1", spots, counts, labels, genes, image=False)
        if not compressed:
            write_text(root / "ST-cnts/A1.tsv", read_text(counts_file(root, "A1")))
            counts_file(root, "A1").unlink()
        read = read_one(root, "A1")
    assert read.spots == tuple(f"{x}x{y}" for x, y in spots)
    assert read.genes == tuple(genes)
    np.testing.assert_array_equal(read.counts.toarray(), counts)
    np.testing.assert_array_equal(read.xy, spots)
    assert read.labels == tuple(labels)
    assert read.notes == ()


TEXT_FILES = [
    "ST-cnts/A1.tsv.gz",
    "ST-cnts/C9.tsv",
    "ST-spotfiles/A1_selection.tsv",
    "ST-pat/lbl/A1_labeled_coordinates.tsv",
    "cohort.yaml",
]
CELLS = st.sampled_from(
    [
        "",
        "1",
        "1x1",
        "2x1",
        "x",
        "y",
        "label",
        "selected",
        "pixel_x",
        "pixel_y",
        "nan",
        "1e400",
        "-1",
        "9" * 30,
    ]
) | st.text(max_size=4)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=7).map("\t".join), max_size=6).map("\n".join)
CONTENT = st.one_of(
    st.binary(max_size=80),
    st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")),
    ROWS.map(lambda text: text.encode("utf-8", "surrogatepass")),
)


@settings(SLOW_DISK, max_examples=150)
@given(name=st.sampled_from(TEXT_FILES), content=CONTENT, keep=st.integers(0, 400), compress=st.booleans())
@example(name="cohort.yaml", content=b"2001-99-99", keep=0, compress=False)
@example(name="ST-cnts/C9.tsv", content=b"\tg\n1x1\t\n2x1\t\n", keep=0, compress=False)
@example(
    name="ST-pat/lbl/A1_labeled_coordinates.tsv", content=b"x\ty\tlabel\n1e300\t1\ta", keep=0, compress=False
)
def test_whatever_a_file_holds_reading_ends_in_a_section_or_problems(
    name: str, content: bytes, keep: int, compress: bool
) -> None:
    """The file's first `keep` bytes stay (of the text, when compressed); `content` follows."""
    with temporary_cohort() as root:
        path = write_tiny_cohort(root) / name
        before = path.read_bytes() if path.exists() else b""
        if compress and path.suffix == ".gz":
            path.write_bytes(gzip.compress(gzip.decompress(before)[:keep] + content))
        else:
            path.write_bytes(before[:keep] + content)
        try:
            sections = [READER.read(files, LIMIT) for files in READER.find(root)]
        except ProblemsError as error:
            assert error.problems
            assert all(p.message and "\n" not in p.message for p in error.problems)
        else:
            assert [s.counts.shape for s in sections] == [(len(s.spots), len(s.genes)) for s in sections]
            assert all(s.labels is None or len(s.labels) == len(s.spots) for s in sections)


# Pillow warns of damaged TIFF tags before it gives up or goes on without them; both are fine here.
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(SLOW_DISK, max_examples=60)
@given(
    suffix=st.sampled_from([".png", ".jpg", ".tif"]),
    position=st.floats(0, 1),
    content=st.binary(min_size=1, max_size=20),
)
def test_whatever_an_image_holds_reading_ends_in_a_section_or_problems(
    suffix: str, position: float, content: bytes
) -> None:
    with temporary_cohort() as root:
        path = image_file(write_tiny_cohort(root), "A1").with_suffix(suffix)
        with Image.open(image_file(root, "A1")) as image:
            image.save(path)
        if suffix != ".png":
            image_file(root, "A1").unlink()
        good = path.read_bytes()
        start = int(position * len(good))
        path.write_bytes(good[:start] + content + good[start + len(content) :])
        for problem in problems_of(root):
            assert problem.place == f"ST-imgs/A/A1/A1{suffix}" or "outside the image" in problem.message


# --- The real sections -------------------------------------------------------------------------------

REAL = {
    # sample: spots, genes, undetermined, labels without undetermined, image, notes
    "A1": (346, 15045, 5, 5, True, ("2 rows of the spot file", "2 label rows left out: no counts")),
    "B1": (295, 15109, 26, 4, False, ()),
    "B4": (283, 15289, 61 + 46, 4, True, ("1 row of the spot file", "61 spots without a label")),
    "C1": (176, 15557, 9, 3, False, ("1 row of the spot file", "1 label row left out: no counts")),
    "C2": (187, 15706, 15 + 2, 3, True, ("2 spots without a label",)),
    "C3": (180, 15821, 19 + 1, 3, True, ("2 rows of the spot file", "1 spot without a label")),
    "D1": (306, 15661, 51, 3, False, ("3 rows of the spot file", "3 label rows left out: no counts")),
    "E1": (587, 15701, 53, 3, False, ()),
    "F1": (691, 14861, 32, 3, False, ("1 label row left out: no coordinates",)),
    "G2": (467, 15258, 65, 6, False, ("8 label rows left out: no coordinates",)),
    "H1": (613, 15029, 83, 6, False, ()),
}


def test_real_sections_are_found_with_their_label_sources(her2st: Path) -> None:
    sections = READER.find(her2st)
    assert [f.sample for f in sections] == list(REAL)
    transferred = {f.sample for f in sections if f.label_source == keys.TRANSFERRED}
    assert transferred == {"B4", "C2", "C3"}
    assert {f.label_source for f in sections} == {keys.ANNOTATED, keys.TRANSFERRED}
    assert {f.sample for f in sections if f.image is not None} == {"A1", "B4", "C2", "C3"}
    assert "".join(sorted({f.patient for f in sections})) == "ABCDEFGH"


@pytest.mark.parametrize("sample", REAL)
def test_real_section_is_read(her2st: Path, sample: str) -> None:
    spots, genes, undetermined, labels, image, notes = REAL[sample]
    section = read_one(her2st, sample, 1_000_000_000)
    assert section.counts.shape == (spots, genes)
    assert section.counts.sum(axis=1).min() >= 1
    assert section.labels is not None
    assert section.labels.count(keys.UNDETERMINED) == undetermined
    assert len(set(section.labels) - {keys.UNDETERMINED}) == labels
    assert (section.pixel_xy is not None) == image
    assert len(section.notes) == len(notes)
    assert all(note.startswith(start) for note, start in zip(section.notes, notes, strict=True))


def test_linked_files_are_read_and_hidden_ones_are_not(cohort: Path, tmp_path: Path) -> None:
    """Labs link their raw data into a cohort; file managers leave hidden copies beside it."""
    for path in (counts_file(cohort, "A1"), label_file(cohort, "A1"), image_file(cohort, "A1")):
        elsewhere = tmp_path / f"elsewhere{path.suffix}{path.parent.name}"
        shutil.move(path, elsewhere)
        path.symlink_to(elsewhere)
        path.with_name(f"._{path.name}").write_bytes(b"left by a file manager")
    section = read_one(cohort, "A1")
    assert len(section.spots) == 6 and section.labels is not None and section.pixel_xy is not None
