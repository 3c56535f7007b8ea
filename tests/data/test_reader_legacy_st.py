from __future__ import annotations

import dataclasses
import gzip
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from her2st_folder import edit, read_text, write_text
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from senca_ray import keys
from senca_ray.data.readers.legacy_st import LegacyStReader
from senca_ray.data.section import RawSection
from senca_ray.errors import Problem, ProblemsError

LIMIT = 1_000_000
READER = LegacyStReader()
SPOTS = [(x, y) for y in range(1, 4) for x in range(1, 6)]
COUNTS = np.arange(len(SPOTS) * 2).reshape(-1, 2) % 7
GSM = "GSM4284316_"
P2_COUNTS, P2_SPOTS = f"{GSM}P2_ST_rep1_stdata.tsv.gz", f"{GSM}spot_data-selection-P2_ST_rep1.tsv.gz"
P2_IMAGE = f"{GSM}P2_ST_rep1.jpg"
P10_COUNTS, P10_SPOTS = "P10_ST_rep3_stdata.tsv", "spot_data-selection-P10_ST_rep3.tsv"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SENCA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_counts(path: Path) -> None:
    rows = [f"{x}x{y}\t{a}\t{b}" for (x, y), (a, b) in zip(SPOTS, COUNTS.tolist(), strict=True)]
    write_text(path, "\n".join(["\tGENE1\tGENE2", *rows]) + "\n")


def write_spots(path: Path, *, selected: bool = True) -> None:
    rows = [f"{x}\t{y}\t{x}.05\t{y}.02\t{20 * x}.5\t{20 * y}.5" + "\t1" * selected for x, y in SPOTS]
    header = "x\ty\tnew_x\tnew_y\tpixel_x\tpixel_y" + "\tselected" * selected
    write_text(path, "\n".join([header, *rows]) + "\n")


def write_image(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (120, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="JPEG")


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """P2 as the public set ships it, P10 unpacked, without image, beside files of other kinds."""
    root = tmp_path / "cohort"
    root.mkdir()
    write_counts(root / P2_COUNTS)
    write_spots(root / P2_SPOTS)
    write_image(root / P2_IMAGE)
    write_counts(root / P10_COUNTS)
    write_spots(root / P10_SPOTS, selected=False)
    for name in ("GSM4565823_P4_rep1_barcodes.tsv.gz", "GSM4565823_P4_rep1_tissue_hires_image.png.gz"):
        (root / name).write_bytes(b"of another format")
    return root


def read_one(root: Path, sample: str = "P2_ST_rep1") -> RawSection:
    return READER.read(next(f for f in READER.find(root) if f.sample == sample), LIMIT)


def problems_of(root: Path) -> list[Problem]:
    problems: list[Problem] = []
    try:
        sections = READER.find(root)
    except ProblemsError as error:
        return list(error.problems)
    for files in sections:
        try:
            READER.read(files, LIMIT)
        except ProblemsError as error:
            problems += error.problems
    return problems


def test_lists_the_sections_of_the_public_layout(cohort: Path) -> None:
    assert READER.recognises(cohort) and READER.recognises(cohort.parent) is False
    first, second = READER.find(cohort)
    assert (first.sample, first.patient, first.label_source) == ("P10_ST_rep3", "P10", keys.UNLABELLED)
    assert (second.sample, second.patient, second.format) == ("P2_ST_rep1", "P2", "legacy_st")
    assert [second.place(p) for p in second.paths()] == [P2_COUNTS, P2_SPOTS, P2_IMAGE]


def test_reads_what_was_written(cohort: Path) -> None:
    section = read_one(cohort)
    assert section.spots[:2] == ("1x1", "2x1") and section.genes == ("GENE1", "GENE2")
    np.testing.assert_array_equal(section.counts.toarray(), COUNTS)
    np.testing.assert_array_equal(section.xy, SPOTS)
    np.testing.assert_array_equal(section.pixel_xy, 20 * np.array(SPOTS) + 0.5)
    assert section.spot_distance_um is None and section.modality == keys.RNA_IMAGE and not section.notes
    assert read_one(cohort, "P10_ST_rep3").modality == keys.RNA


def test_a_gzipped_image_is_unpacked_once(cohort: Path, cache: Path) -> None:
    content = (cohort / P2_IMAGE).read_bytes()
    (cohort / f"{P2_IMAGE}.gz").write_bytes(gzip.compress(content))
    (cohort / P2_IMAGE).unlink()
    files = READER.find(cohort)[1]
    assert files.image is None and [p.name for p in files.paths()][-1] == f"{P2_IMAGE}.gz"
    section = read_one(cohort)
    image = section.files.image
    assert image is not None and image.suffix == ".jpg" and image.read_bytes() == content
    assert section.pixel_xy is not None
    written = image.stat().st_mtime_ns
    assert read_one(cohort).files.image == image and image.stat().st_mtime_ns == written
    assert len(list((cache / "embedded-images").iterdir())) == 1


def test_labels_may_be_added_and_deselected_spots_are_left_out(cohort: Path) -> None:
    rows = [f"{x}.1\t{y}.1\t{'tumour' if x > 2 else 'dermis'}" for x, y in SPOTS]
    write_text(cohort / "P2_ST_rep1_labeled_coordinates.tsv", "\n".join(["x\ty\tlabel", *rows]))
    edit(cohort / P2_SPOTS, "20.5\t20.5\t1", "20.5\t20.5\t0")
    section = read_one(cohort)
    assert section.files.label_source == keys.ANNOTATED
    assert section.labels is not None and section.labels[:3] == ("dermis", "tumour", "tumour")
    assert section.notes == ("1 spot left out: 'selected' is 0 in the spot file",)


def swap_pixels(path: Path) -> None:
    header, *rows = read_text(path).splitlines()
    cells = [row.split("\t") for row in rows]
    write_text(path, "\n".join([header, *("\t".join([*c[:4], c[5], c[4], *c[6:]]) for c in cells)]))


def transposed(root: Path) -> None:
    """Counts with a gene a row, as other sets have them."""
    lines = [line.split("\t") for line in read_text(root / P2_COUNTS).splitlines()]
    write_text(root / P2_COUNTS, "\n".join("\t".join(cells) for cells in zip(*lines, strict=True)))


def loop(root: Path) -> None:
    (root / P2_IMAGE).unlink()
    (root / P2_IMAGE).symlink_to(root / P2_IMAGE)


def gz_image(root: Path, content: bytes) -> None:
    (root / P2_IMAGE).unlink()
    (root / f"{P2_IMAGE}.gz").write_bytes(content)


@dataclass(frozen=True)
class Malformed:
    kind: str
    damage: Callable[[Path], object]
    place: str
    finding: str


MALFORMED = [
    Malformed(
        "truncated-gzip",
        lambda r: (r / P2_COUNTS).write_bytes((r / P2_COUNTS).read_bytes()[:-9]),
        P2_COUNTS,
        "not a complete gzip file",
    ),
    Malformed("not-gzip", lambda r: (r / P2_SPOTS).write_text("x\ty"), P2_SPOTS, "not a complete gzip file"),
    Malformed(
        "not-utf8",
        lambda r: (r / P10_COUNTS).write_bytes(b"\tGEN\xc9\n1x1\t2\n"),
        P10_COUNTS,
        "byte 4 is not UTF-8",
    ),
    Malformed(
        "commas",
        lambda r: write_text(r / P2_COUNTS, read_text(r / P2_COUNTS).replace("\t", ",")),
        P2_COUNTS,
        "expected columns separated by tabs",
    ),
    Malformed("genes-by-spots", transposed, P2_COUNTS, "2 spots not named by array coordinates: 'GENE1'"),
    Malformed(
        "duplicated-gene",
        lambda r: edit(r / P2_COUNTS, "GENE1\tGENE2", "GENE1\tGENE1"),
        P2_COUNTS,
        "duplicated gene 'GENE1'",
    ),
    Malformed(
        "negative-count",
        lambda r: edit(r / P2_COUNTS, "1x1\t0\t1", "1x1\t0\t-1"),
        P2_COUNTS,
        "1 cell without a count, first spot '1x1', gene 'GENE2': '-1'",
    ),
    Malformed(
        "fractional-count",
        lambda r: edit(r / P2_COUNTS, "1x1\t0\t1", "1x1\t0\t1.5"),
        P2_COUNTS,
        "1 cell without a count",
    ),
    Malformed(
        "pixel-column-missing",
        lambda r: edit(r / P2_SPOTS, "pixel_y", "py"),
        P2_SPOTS,
        "column 'pixel_y' missing",
    ),
    Malformed("swapped-pixels", lambda r: swap_pixels(r / P2_SPOTS), P2_SPOTS, "pixel_x goes with y"),
    Malformed(
        "pixels-of-another-resolution",
        lambda r: edit(r / P2_SPOTS, "100.5\t60.5", "1000.5\t600.5"),
        P2_SPOTS,
        "1 of 15 spots outside the image of 120 x 120 pixels",
    ),
    Malformed(
        "image-without-spot-file",
        lambda r: (r / P2_SPOTS).unlink(),
        P2_IMAGE,
        "needs spot_data-selection-P2_ST_rep1.tsv, which is missing",
    ),
    Malformed(
        "spot-file-without-counts",
        lambda r: (r / P10_COUNTS).unlink(),
        P10_SPOTS,
        "spot file without counts; expected P10_ST_rep3_stdata.tsv.gz",
    ),
    Malformed(
        "counts-twice",
        lambda r: write_counts(r / "P2_ST_rep1_stdata.tsv"),
        "P2_ST_rep1_stdata.tsv",
        f"{P2_COUNTS} is there too; expected one counts",
    ),
    Malformed("empty-image", lambda r: (r / P2_IMAGE).write_bytes(b""), P2_IMAGE, "not an image"),
    Malformed("link-to-itself", loop, P2_IMAGE, "not a file"),
    Malformed(
        "unsafe-sample-id",
        lambda r: write_text(r / "P$_stdata.tsv", "x"),
        "P$_stdata.tsv",
        "sample id 'P$'; expected letters",
    ),
    Malformed(
        "zipped-image-cut-off",
        lambda r: gz_image(r, gzip.compress(bytes(5000))[:-4]),
        f"{P2_IMAGE}.gz",
        "not a complete gzip file",
    ),
    Malformed(
        "zipped-image-that-is-a-bomb",
        lambda r: gz_image(r, gzip.compress(bytes(4 * LIMIT + (1 << 20) + 1))),
        f"{P2_IMAGE}.gz",
        "holds more than 5,048,576 bytes uncompressed",
    ),
]


@pytest.mark.parametrize("case", MALFORMED, ids=[case.kind for case in MALFORMED])
def test_malformed(case: Malformed, cohort: Path, cache: Path) -> None:
    case.damage(cohort)
    (problem,) = problems_of(cohort)
    assert problem.place == case.place
    assert case.finding in problem.message
    assert not list(cache.rglob("*.jpg"))


def test_everything_wrong_is_told_at_once(cohort: Path) -> None:
    edit(cohort / P2_COUNTS, "1x1\t0\t1", "1x1\t0\t1.5")
    edit(cohort / P2_SPOTS, "pixel_y", "py")
    (cohort / P2_IMAGE).write_bytes(b"")
    assert [p.place for p in problems_of(cohort)] == [P2_COUNTS, P2_SPOTS, P2_IMAGE]


def test_a_reduced_image_is_told_by_the_corner_its_spots_fill(cohort: Path) -> None:
    Image.new("RGB", (600, 600)).save(cohort / P2_IMAGE)
    (problem,) = problems_of(cohort)
    assert problem.place == P2_SPOTS and "all spots in the top left corner" in problem.message


def test_a_folder_without_sections_is_a_problem(tmp_path: Path) -> None:
    assert not READER.recognises(tmp_path)
    with pytest.raises(ProblemsError, match="expected a folder with SAMPLE_stdata"):
        READER.find(tmp_path)


TEXT = st.one_of(
    st.binary(max_size=120),
    st.text(alphabet="x0123456789.-\t\n\rpixel_yselctdnaNé,", max_size=120).map(str.encode),
    st.text(alphabet="01234x\t\n", max_size=60).map(lambda t: b"x\ty\tpixel_x\tpixel_y\n" + t.encode()),
)


@settings(max_examples=30, deadline=None)
@given(counts=TEXT, spots=TEXT)
def test_any_text_is_read_or_told(counts: bytes, spots: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "P1_stdata.tsv").write_bytes(counts)
        (Path(folder) / "spot_data-selection-P1.tsv").write_bytes(spots)
        (files,) = READER.find(Path(folder))
        # Pixel columns are looked at where there is an image; that it cannot be read is one more problem.
        for image in (None, Path(folder) / "P1.jpg"):
            try:
                section = READER.read(dataclasses.replace(files, image=image), LIMIT)
                assert section.counts.shape == (len(section.spots), len(section.genes))
            except ProblemsError as error:
                assert all(p.sample == "P1" and p.message for p in error.problems)
