from __future__ import annotations

import dataclasses
import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from her2st_folder import append, edit, read_text, write_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tenx_folder import (
    COUNTS,
    FULL_SIZE,
    HIRES,
    IDS,
    LOWRES,
    SPOTS,
    SYMBOLS,
    TISSUE,
    Malformed,
    Matrix,
    check_malformed,
    check_whatever_a_file_holds,
    problems_of,
    write_h5,
    write_image,
    write_mex,
    write_positions,
    write_visium,
)

from senca_ray import keys
from senca_ray.data.readers.visium import VisiumReader
from senca_ray.data.section import RawSection
from senca_ray.errors import ProblemsError

READER = VisiumReader()
LIMIT = 1_000_000
H5 = "filtered_feature_bc_matrix.h5"
MEX = "filtered_feature_bc_matrix"
POSITIONS = "spatial/tissue_positions.csv"
SCALES_FILE = "spatial/scalefactors_json.json"
HIRES_FILE, LOWRES_FILE = "spatial/tissue_hires_image.png", "spatial/tissue_lowres_image.png"
FULL_XY = TISSUE[["pxl_col_in_fullres", "pxl_row_in_fullres"]].to_numpy()


@pytest.fixture
def outs(tmp_path: Path) -> Path:
    return write_visium(tmp_path / "P1/outs")


def read_one(root: Path, **changes: object) -> RawSection:
    (files,) = READER.find(root)
    return READER.read(dataclasses.replace(files, **changes), LIMIT)


def use_mex(root: Path, matrix: Matrix | None = None, **options: object) -> None:
    (root / H5).unlink(missing_ok=True)
    write_mex(root / MEX, matrix or Matrix(), **options)


def change_positions(root: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    write_positions(root / POSITIONS, change(SPOTS.copy()))


# --- Valid folders -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [1, 2])
def test_reads_what_was_written(tmp_path: Path, version: int) -> None:
    root = write_visium(tmp_path / "P1", version=version)
    assert READER.recognises(root)
    section = read_one(root)
    assert (section.files.sample, section.files.patient) == ("P1", "P1")
    assert section.spots == tuple(TISSUE["barcode"])
    assert section.genes == SYMBOLS
    assert section.counts.dtype == np.int32
    np.testing.assert_array_equal(section.counts.toarray(), COUNTS)
    np.testing.assert_allclose(section.xy[:7, 0], [0, 1, 2, 3, 4, 0.5, 1.5])
    np.testing.assert_allclose(section.xy[:, 1], TISSUE["array_row"] * np.sqrt(3) / 2)
    assert section.pixel_xy is not None
    np.testing.assert_allclose(section.pixel_xy, HIRES * FULL_XY)
    assert (section.labels, section.notes, section.spot_distance_um) == (None, (), 100.0)
    assert section.files.label_source == keys.UNLABELLED


def test_neighbours_on_the_array_are_one_spot_distance_apart(outs: Path) -> None:
    xy = read_one(outs).xy
    distances = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    np.testing.assert_allclose(np.sort(distances, axis=1)[:, 1:3], 1)


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_matrix_market_is_read_as_the_hdf5_is(outs: Path, suffix: str) -> None:
    before = read_one(outs)
    use_mex(outs, suffix=suffix)
    after = read_one(outs)
    assert after.files.counts.is_dir()
    assert (after.spots, after.genes) == (before.spots, before.genes)
    np.testing.assert_array_equal(after.counts.toarray(), before.counts.toarray())


def test_old_matrices_list_genes_without_types(outs: Path) -> None:
    use_mex(outs, suffix="")
    (outs / MEX / "features.tsv").unlink()
    genes = "\n".join(f"{i}\t{s}" for i, s in zip(IDS, SYMBOLS, strict=True))
    write_text(outs / MEX / "genes.tsv", genes + "\n")
    assert read_one(outs).genes == SYMBOLS


def test_a_cohort_is_several_folders(tmp_path: Path) -> None:
    write_visium(tmp_path / "P2")
    write_visium(tmp_path / "P1/outs", version=1)
    (tmp_path / "notes").mkdir()
    found = READER.find(tmp_path)
    assert [f.sample for f in found] == ["P1", "P2"]
    assert found[0].place(found[0].counts) == f"P1/outs/{H5}"
    assert [len(READER.read(f, LIMIT).spots) for f in found] == [25, 25]
    assert not READER.recognises(tmp_path / "notes")
    outs = tmp_path / "P1/outs"
    assert [f.sample for f in READER.find(outs)] == [f.sample for f in READER.find(outs.parent)] == ["P1"]


def test_public_downloads_have_a_prefix(outs: Path) -> None:
    (outs / H5).rename(outs / f"V1_Human_Breast_{H5}")
    assert read_one(outs).genes == SYMBOLS


def test_the_order_of_the_positions_does_not_matter(outs: Path) -> None:
    before = read_one(outs)
    change_positions(outs, lambda spots: spots[::-1])
    after = read_one(outs)
    assert after.spots == before.spots
    np.testing.assert_array_equal(after.xy, before.xy)


# --- Images and frames -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["P1/P1.tif", "P1/outs/image.png", "P1/outs/P1_image.tif", "P1.jpg", "P1/outs/fullres_image.tif"]
)
def test_an_image_of_full_resolution_beside_is_used(tmp_path: Path, name: str) -> None:
    write_visium(tmp_path / "P1/outs")
    write_image(tmp_path / name, FULL_SIZE)
    section = read_one(tmp_path)
    assert section.files.image == tmp_path / name and section.pixel_xy is not None
    np.testing.assert_allclose(section.pixel_xy, FULL_XY)


def test_images_of_the_instrument_and_of_other_samples_are_not(tmp_path: Path) -> None:
    outs = write_visium(tmp_path / "P1/outs")
    for name in ("spatial/cytassist_image.tiff", "CytAssist_image.tif", "detected_tissue_image.jpg"):
        write_image(outs / name, (50, 50))
    write_image(tmp_path / "P10.tif", FULL_SIZE)
    write_image(tmp_path / "overview_image.tif", FULL_SIZE)
    assert read_one(tmp_path).files.image == outs / HIRES_FILE


def test_lowres_is_used_where_nothing_else_is_and_none_is_no_problem(outs: Path) -> None:
    (outs / HIRES_FILE).unlink()
    section = read_one(outs)
    assert section.pixel_xy is not None and section.modality == keys.RNA_IMAGE
    np.testing.assert_allclose(section.pixel_xy, LOWRES * FULL_XY)
    (outs / LOWRES_FILE).unlink()
    (outs / SCALES_FILE).unlink()
    section = read_one(outs)
    assert section.pixel_xy is None and section.modality == keys.RNA


@pytest.mark.parametrize("turned", ["mirrored", "half", "quarter"])
def test_images_may_be_turned_against_the_array(outs: Path, turned: str) -> None:
    def turn(spots: pd.DataFrame) -> pd.DataFrame:
        x, y = spots["pxl_col_in_fullres"].to_numpy(), spots["pxl_row_in_fullres"].to_numpy()
        new = {"mirrored": (470 - x, y), "half": (470 - x, 390 - y), "quarter": (390 - y, x)}[turned]
        return spots.assign(pxl_col_in_fullres=new[0], pxl_row_in_fullres=new[1])

    change_positions(outs, turn)
    assert read_one(outs).pixel_xy is not None


def swap_pixels(spots: pd.DataFrame) -> pd.DataFrame:
    """What a file holds whose writer thought that x comes first."""
    return spots.assign(
        pxl_row_in_fullres=spots["pxl_col_in_fullres"], pxl_col_in_fullres=spots["pxl_row_in_fullres"]
    )


def test_crossed_axes_are_right_where_the_instrument_images_the_slide_from_its_other_side(outs: Path) -> None:
    change_positions(outs, swap_pixels)
    assert len(problems_of(READER, outs)) == 1
    write_image(outs / "spatial/cytassist_image.tiff", (20, 20))
    assert problems_of(READER, outs) == []


# --- The format's traps ------------------------------------------------------------------------------


def test_only_spots_on_tissue_with_counts_are_kept(outs: Path) -> None:
    def off(spots: pd.DataFrame) -> pd.DataFrame:
        spots.loc[2, "in_tissue"] = 0
        return spots

    change_positions(outs, off)
    write_h5(outs / H5, Matrix(COUNTS[:-1], tuple(TISSUE["barcode"])[:-1]))
    section = read_one(outs)
    kept = [i for i in range(24) if i != 2]
    assert section.spots == tuple(TISSUE["barcode"].iloc[kept])
    np.testing.assert_array_equal(section.counts.toarray(), COUNTS[kept])
    assert section.notes == ("1 spot left out: in_tissue is 0", "1 spot on tissue left out: no counts")


def test_only_gene_expression_is_used(outs: Path) -> None:
    types = ("Gene Expression", "Antibody Capture", "Gene Expression", "Gene Expression")
    write_h5(outs / H5, Matrix(types=types))
    section = read_one(outs)
    assert section.genes == ("ERBB2", "KRT5", "COL1A1")
    np.testing.assert_array_equal(section.counts.toarray(), COUNTS[:, [0, 2, 3]])
    assert section.notes == ("1 feature left out: not Gene Expression but 'Antibody Capture'",)


@pytest.mark.parametrize("mex", [True, False])
def test_genes_of_one_symbol_are_told_apart_by_their_ids(outs: Path, mex: bool) -> None:
    matrix = Matrix(symbols=("ERBB2", "TBCE", "KRT5", "TBCE"))
    use_mex(outs, matrix) if mex else write_h5(outs / H5, matrix)
    section = read_one(outs)
    assert section.genes == ("ERBB2", "TBCE (ENSG02)", "KRT5", "TBCE (ENSG04)")
    assert section.notes == ("2 genes of the same name as another: told apart as 'SYMBOL (id)'",)


def label_file(root: Path, text: str) -> Path:
    write_text(root / "labels.csv", text)
    return root / "labels.csv"


def test_labels_of_a_file_that_the_cohort_names(outs: Path) -> None:
    barcodes = list(SPOTS["barcode"])
    rows = [f"{barcodes[29]},tumour", f"{barcodes[0]},tumour", f"{barcodes[1]},", f'{barcodes[3]},"fat, x"']
    path = label_file(outs, "\n".join(["Barcode,region", *rows]) + "\n")
    section = read_one(outs, labels=path, label_column="region", label_source=keys.ANNOTATED)
    assert section.labels is not None and len(section.labels) == 25
    assert section.labels[:4] == ("tumour", keys.UNDETERMINED, keys.UNDETERMINED, "fat, x")
    assert section.notes == (
        "1 label row with an empty label: undetermined",
        "1 label row left out: no counts for the spot on tissue",
        "22 spots without a label: undetermined",
    )


def test_the_label_column_is_label_unless_another_is_named(outs: Path) -> None:
    path = label_file(outs, "".join([",label\n", *(f"{b},a\n" for b in TISSUE["barcode"])]))
    assert read_one(outs, labels=path).labels == ("a",) * 25


LABEL_FILES = {
    "column-missing": (
        f"barcode,region\n{SPOTS['barcode'][0]},a\n",
        "column 'label' missing; found 'barcode'",
    ),
    "unknown-spots": ("barcode,label\nGGGGGG-1,a\n", "labels for 1 unknown spot: 'GGGGGG-1'"),
    "twice": (
        f"barcode,label\n{SPOTS['barcode'][0]},a\n{SPOTS['barcode'][0]},b\n",
        "two labels for 'AAATTT-1'",
    ),
    "none-labelled": (f"barcode,label\n{SPOTS['barcode'][0]},NA\n", "no spot has a label in column 'label'"),
    "tabs": (f"barcode\tlabel\n{SPOTS['barcode'][0]}\ta\n", "one column, 'barcode\\tlabel'"),
    "empty": ("", "empty (0 bytes)"),
}


@pytest.mark.parametrize("kind", LABEL_FILES)
def test_a_malformed_label_file_is_one_problem(outs: Path, kind: str) -> None:
    text, finding = LABEL_FILES[kind]
    files = dataclasses.replace(READER.find(outs)[0], labels=label_file(outs, text))
    with pytest.raises(ProblemsError, match="1 problem in 1 section") as caught:
        READER.read(files, LIMIT)
    (problem,) = caught.value.problems
    assert problem.place == "labels.csv" and finding in problem.message


def test_a_label_column_without_a_label_file_is_told(outs: Path) -> None:
    with pytest.raises(ProblemsError, match="label column 'region' is named, but no file with labels"):
        read_one(outs, label_column="region")


# --- Malformed folders -------------------------------------------------------------------------------


def truncate(path: Path, share: float = 0.6) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def replace_h5(**datasets: object) -> Callable[[Path], None]:
    return lambda root: write_h5(root / H5, Matrix(), **datasets)


def declare(root: Path) -> None:
    """Datasets that declare billions of values, of which none is stored."""
    write_h5(root / H5, Matrix(), data=None, indices=None)
    with h5py.File(root / H5, "a") as file:
        for name in ("data", "indices"):
            file.create_dataset(f"matrix/{name}", shape=(10**11,), dtype="i8", chunks=(2**16,))


def link(root: Path) -> None:
    write_h5(root / H5, Matrix(), data=None)
    with h5py.File(root / H5, "a") as file:
        file["matrix/data"] = h5py.ExternalLink("elsewhere.h5", "/secret")


def counted(value: float) -> Matrix:
    counts = COUNTS.astype(np.float64)
    counts[0, 1] = value
    return Matrix(counts)


def mex(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        use_mex(root)
        change(root / MEX)

    return damage


def entry(value: str) -> Callable[[Path], None]:
    """The first entry of the Matrix Market file has another value."""

    def damage(root: Path) -> None:
        use_mex(root)
        lines = read_text(root / MEX / "matrix.mtx.gz").split("\n")
        lines[3] = " ".join([*lines[3].split()[:2], value])
        lines[0] = lines[0].replace("integer", "real" if "." in value else "integer")
        write_text(root / MEX / "matrix.mtx.gz", "\n".join(lines))

    return damage


def positions(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    return lambda root: change_positions(root, change)


def scales(**values: object) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        factors = json.loads(read_text(root / SCALES_FILE)) | values
        kept = {name: value for name, value in factors.items() if value is not None}
        write_text(root / SCALES_FILE, json.dumps(kept))

    return damage


def times(scale: float) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def change(spots: pd.DataFrame) -> pd.DataFrame:
        spots[["pxl_row_in_fullres", "pxl_col_in_fullres"]] *= scale
        return spots

    return change


def mixed(root: Path) -> None:
    """Half of the matrix is of another section, as an aggregated one has it."""
    barcodes = [b if i % 2 else b.replace("-1", "-2") for i, b in enumerate(TISSUE["barcode"])]
    write_h5(root / H5, Matrix(barcodes=barcodes))


def full_image(size: tuple[int, int], name: str = "P1_image.tif") -> Callable[[Path], None]:
    return lambda root: write_image(root / name, size)


def shuffle_rows(spots: pd.DataFrame) -> pd.DataFrame:
    pixels = ["pxl_row_in_fullres", "pxl_col_in_fullres"]
    order = np.random.default_rng(0).permutation(len(spots))
    spots[pixels] = spots[pixels].to_numpy()[order]
    return spots


def swap_array(spots: pd.DataFrame) -> pd.DataFrame:
    return spots.assign(array_row=spots["array_col"], array_col=spots["array_row"])


LISTING = [
    Malformed(
        "no-matrix", lambda r: (r / H5).unlink(), "outs", "no filtered_feature_bc_matrix.h5 and no folder"
    ),
    Malformed(
        "two-matrices",
        lambda r: shutil.copy(r / H5, r / f"x_{H5}"),
        "outs",
        "2 matrices: filtered_feature_bc_matrix.h5, x_",
    ),
    Malformed(
        "no-positions",
        lambda r: (r / POSITIONS).unlink(),
        "outs",
        "no spatial/tissue_positions.csv or tissue_",
    ),
    Malformed(
        "two-images",
        lambda r: (full_image(FULL_SIZE)(r), full_image(FULL_SIZE, "image.png")(r)),
        "P1_image.tif",
        "2 images of full resolution: P1_image.tif, image.png",
    ),
    Malformed("no-section", lambda r: shutil.rmtree(r / "spatial"), "outs", "no sections found; expected"),
]

READING = [
    Malformed("h5-zero-bytes", lambda r: (r / H5).write_bytes(b""), H5, "empty (0 bytes)"),
    Malformed("h5-truncated", lambda r: truncate(r / H5), H5, "cannot be read as HDF5"),
    Malformed("h5-other-file", lambda r: (r / H5).write_text("no"), H5, "cannot be read as HDF5"),
    Malformed("h5-no-barcodes", replace_h5(barcodes=None), H5, "no dataset 'barcodes' in /matrix"),
    Malformed("h5-no-features", replace_h5(features__id=None), H5, "no dataset 'id' in /matrix/features"),
    Malformed("h5-link-elsewhere", link, H5, "no dataset 'data' in /matrix"),
    Malformed(
        "h5-declared-size", declare, H5, "declares 100,000,000,000 values (800,000,000,000 bytes), but 0"
    ),
    Malformed(
        "h5-declared-shape", replace_h5(shape=[4, 10**7]), H5, "declares a matrix of 4 x 10,000,000, but"
    ),
    Malformed(
        "h5-scalar-shape", replace_h5(shape=3), H5, "/matrix/shape holds int64; expected whole numbers"
    ),
    Malformed("h5-short-indices", replace_h5(indices=np.arange(3)), H5, "values, 3 indices and 26 pointers"),
    Malformed(
        "h5-pointers-fall",
        replace_h5(indptr=np.array([0, 9, 3, *[60] * 23])),
        H5,
        "expected them to rise from 0",
    ),
    Malformed("h5-negative", lambda r: write_h5(r / H5, counted(-4)), H5, "a count in /matrix/data is -4"),
    Malformed(
        "h5-fractional", lambda r: write_h5(r / H5, counted(1.5)), H5, "a count in /matrix/data is 1.5"
    ),
    Malformed(
        "h5-large", lambda r: write_h5(r / H5, counted(2**31)), H5, "whole numbers from 0 to 2,147,483,647"
    ),
    Malformed(
        "h5-not-utf8",
        replace_h5(features__name=np.array([b"\xff", b"b", b"c", b"d"])),
        H5,
        "cannot be read as",
    ),
    Malformed(
        "barcodes-twice",
        lambda r: write_h5(r / H5, Matrix(barcodes=["AAATTT-1", *TISSUE["barcode"][:-1]])),
        H5,
        "duplicated barcode 'AAATTT-1'",
    ),
    Malformed(
        "gene-ids-twice",
        lambda r: write_h5(r / H5, Matrix(ids=("ENSG01", "ENSG02", "ENSG01", "ENSG04"))),
        H5,
        "duplicated gene 'ENSG01'",
    ),
    Malformed(
        "no-genes",
        lambda r: write_h5(r / H5, Matrix(types=("Antibody Capture",) * 4)),
        H5,
        "no feature of type 'Gene Expression'; found 'Antibody Capture'",
    ),
    Malformed("mex-file-missing", mex(lambda f: (f / "barcodes.tsv.gz").unlink()), MEX, "no barcodes.tsv.gz"),
    Malformed(
        "mex-truncated-gzip",
        mex(lambda f: truncate(f / "matrix.mtx.gz")),
        f"{MEX}/matrix.mtx.gz",
        "cannot be read",
    ),
    Malformed(
        "mex-cut-off",
        mex(lambda f: write_text(f / "matrix.mtx.gz", read_text(f / "matrix.mtx.gz")[:300])),
        f"{MEX}/matrix.mtx.gz",
        "cannot be read as Matrix Market",
    ),
    Malformed(
        "mex-array",
        mex(lambda f: edit(f / "matrix.mtx.gz", "coordinate", "array")),
        f"{MEX}/matrix.mtx.gz",
        "begins with '%%matrixmarket matrix array",
    ),
    Malformed(
        "mex-declared-shape",
        mex(lambda f: edit(f / "matrix.mtx.gz", "tests\n4 25 ", "tests\n4 2500000000 ")),
        f"{MEX}/matrix.mtx.gz",
        "declares 4 x 2,500,000,000, but 4 features and 25 barcodes are listed",
    ),
    Malformed(
        "mex-declared-entries",
        mex(lambda f: edit(f / "matrix.mtx.gz", "tests\n4 25 ", "tests\n4 25 9")),
        f"{MEX}/matrix.mtx.gz",
        "entries in a file of",
    ),
    Malformed(
        "mex-turned",
        mex(lambda f: edit(f / "matrix.mtx.gz", "tests\n4 25 ", "tests\n25 4 ")),
        f"{MEX}/matrix.mtx.gz",
        "the matrix is turned: write genes as rows",
    ),
    Malformed("mex-negative", entry("-2"), f"{MEX}/matrix.mtx.gz", "1 value that is no count, first gene"),
    Malformed("mex-fractional", entry("0.5"), f"{MEX}/matrix.mtx.gz", "1 value that is no count, first gene"),
    Malformed("mex-text", entry("many"), f"{MEX}/matrix.mtx.gz", "cannot be read as Matrix Market"),
    Malformed(
        "features-commas",
        mex(lambda f: write_text(f / "features.tsv.gz", read_text(f / "features.tsv.gz").replace("\t", ","))),
        f"{MEX}/features.tsv.gz",
        "line 1 holds one column, 'ENSG01,ERBB2,Gene Expression'",
    ),
    Malformed(
        "features-ragged",
        mex(lambda f: edit(f / "features.tsv.gz", "KRT5\tGene Expression", "KRT5")),
        f"{MEX}/features.tsv.gz",
        "1 row with another number of columns than the first, first row 3 with 2; expected 3",
    ),
    Malformed(
        "features-truncated-gzip",
        mex(lambda f: truncate(f / "features.tsv.gz", 0.9)),
        f"{MEX}/features.tsv.gz",
        "not a complete gzip file",
    ),
    Malformed(
        "barcodes-not-utf8",
        mex(lambda f: (f / "barcodes.tsv.gz").write_bytes(gzip.compress(b"A\nB\xff\n"))),
        f"{MEX}/barcodes.tsv.gz",
        "byte 3 is not UTF-8 text",
    ),
    Malformed("mixed-barcodes", mixed, POSITIONS, "no row for 13 of 25 barcodes of the matrix: 'AAATTT-2'"),
    Malformed(
        "positions-of-another-section",
        positions(lambda s: s.assign(in_tissue=1 - s["in_tissue"])),
        POSITIONS,
        "in_tissue is 0 for 25 of 25 barcodes of the matrix; expected a filtered matrix",
    ),
    Malformed(
        "positions-tabs",
        lambda r: write_text(r / POSITIONS, read_text(r / POSITIONS).replace(",", "\t")),
        POSITIONS,
        "expected columns separated by commas",
    ),
    Malformed(
        "positions-no-header-of-other-columns",
        lambda r: write_text(r / POSITIONS, "AAATTT-1,1,0,0,5\n"),
        POSITIONS,
        "5 columns and no header; expected barcode, in_tissue, array_row",
    ),
    Malformed(
        "positions-column-missing",
        lambda r: edit(r / POSITIONS, "array_row", "row"),
        POSITIONS,
        "column 'array_row' missing; found 'barcode', 'in_tissue', 'row'",
    ),
    Malformed("positions-header-only", positions(lambda s: s[:0]), POSITIONS, "only a header found"),
    Malformed(
        "positions-text",
        lambda r: edit(r / POSITIONS, "AAATTT-1,1,0,0,80.0", "AAATTT-1,1,0,0,top"),
        POSITIONS,
        "1 cell without a number, first line 2, column 'pxl_row_in_fullres': 'top'",
    ),
    Malformed(
        "positions-in-tissue",
        lambda r: edit(r / POSITIONS, "AAATTT-1,1,", "AAATTT-1,7,"),
        POSITIONS,
        "line 2: in_tissue is 7; expected 0 or 1",
    ),
    Malformed(
        "positions-fractional",
        lambda r: edit(r / POSITIONS, "AAATTT-1,1,0,0,", "AAATTT-1,1,0.5,0,"),
        POSITIONS,
        "1 row with array coordinates that are no whole numbers from 0, first line 2: 0.5, 0",
    ),
    Malformed(
        "positions-huge",
        lambda r: edit(r / POSITIONS, "AAATTT-1,1,0,0,", "AAATTT-1,1,1e300,0,"),
        POSITIONS,
        "1 row with numbers that are no positions, first line 2",
    ),
    Malformed(
        "positions-twice",
        lambda r: append(r / POSITIONS, "AAATTT-1,1,0,0,80,100"),
        POSITIONS,
        "duplicated barcode 'AAATTT-1'",
    ),
    Malformed(
        "positions-zero-bytes", lambda r: (r / POSITIONS).write_bytes(b""), POSITIONS, "empty (0 bytes)"
    ),
    Malformed(
        "two-spots-at-a-place",
        lambda r: edit(r / POSITIONS, "CAATTT-1,1,0,2,", "CAATTT-1,1,0,0,"),
        POSITIONS,
        "1 spot at the array coordinates of another one",
    ),
    Malformed(
        "swapped-x-y", positions(swap_pixels), POSITIONS, "x and y are probably swapped: swap the two columns"
    ),
    Malformed(
        "swapped-array", positions(swap_array), POSITIONS, "columns are probably swapped, or rows mixed up"
    ),
    Malformed(
        "rows-mixed-up", positions(shuffle_rows), POSITIONS, "do not follow the array coordinates (25 spots)"
    ),
    Malformed(
        "wrong-frame",
        positions(times(HIRES / 3)),
        POSITIONS,
        "adjacent spots are 10 pixels apart, but spot_diameter_fullres is 40; expected 0.8 to 4 times",
    ),
    Malformed(
        "in-a-corner",
        lambda r: (write_image(r / HIRES_FILE, (1100, 900)), None),
        POSITIONS,
        "top left corner of the image of 1100 x 900 pixels",
    ),
    Malformed(
        "outside-the-image",
        lambda r: write_image(r / HIRES_FILE, (150, 200)),
        POSITIONS,
        "outside the image of 150 x 200 pixels",
    ),
    Malformed(
        "image-beside-of-another-size",
        full_image((600, 700)),
        "P1_image.tif",
        "600 x 700 pixels, but the hires image and its scale factor tell of about 480 x 400",
    ),
    Malformed(
        "no-scale-factors", lambda r: (r / SCALES_FILE).unlink(), "spatial", "no scalefactors_json.json"
    ),
    Malformed(
        "scale-missing", scales(tissue_hires_scalef=None), SCALES_FILE, "no tissue_hires_scalef; found"
    ),
    Malformed(
        "diameter-missing", scales(spot_diameter_fullres=None), SCALES_FILE, "no spot_diameter_fullres"
    ),
    Malformed("scale-zero", scales(tissue_hires_scalef=0), SCALES_FILE, "tissue_hires_scalef is 0; expected"),
    Malformed(
        "scale-nan", scales(tissue_hires_scalef=float("nan")), SCALES_FILE, "tissue_hires_scalef is nan"
    ),
    Malformed("scale-text", scales(tissue_hires_scalef="x"), SCALES_FILE, "tissue_hires_scalef is 'x'"),
    Malformed("scales-cut-off", lambda r: truncate(r / SCALES_FILE), SCALES_FILE, "not JSON"),
    Malformed("scales-a-list", lambda r: write_text(r / SCALES_FILE, "[1]"), SCALES_FILE, "holds a list"),
    Malformed("scales-deep", lambda r: write_text(r / SCALES_FILE, "[" * 99999), SCALES_FILE, "not JSON"),
    Malformed(
        "image-zero-bytes", lambda r: (r / HIRES_FILE).write_bytes(b""), HIRES_FILE, "cannot be opened"
    ),
    Malformed("image-truncated", lambda r: truncate(r / HIRES_FILE), HIRES_FILE, "cannot be decoded"),
]


@pytest.mark.parametrize("malformed", LISTING + READING, ids=lambda m: m.kind)
def test_malformed_folder_is_one_problem_with_place_and_finding(outs: Path, malformed: Malformed) -> None:
    check_malformed(READER, outs, malformed)


def test_a_folder_whose_name_is_no_sample_id_is_told(tmp_path: Path) -> None:
    write_visium(tmp_path / "P 1/outs")
    (problem,) = problems_of(READER, tmp_path)
    assert problem.place == "P 1/outs" and "sample id 'P 1'" in problem.message


def test_all_problems_of_a_section_are_told_at_once(outs: Path) -> None:
    chosen = {"h5-negative", "positions-text", "scale-missing", "image-truncated"}
    for malformed in READING:
        if malformed.kind in chosen:
            malformed.damage(outs)
    assert len(problems_of(READER, outs)) == 4


def test_all_problems_of_a_cohort_are_told_at_once(tmp_path: Path) -> None:
    for sample in ("P1", "P2"):
        (write_visium(tmp_path / sample) / H5).unlink()
    assert [(p.sample, p.place) for p in problems_of(READER, tmp_path)] == [("P1", "P1"), ("P2", "P2")]


def test_text_beyond_the_limit_is_not_unpacked(outs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from senca_ray.data.readers import tenx_text

    use_mex(outs)
    bomb = gzip.compress(b"A" * 5_000_000)
    (outs / MEX / "barcodes.tsv.gz").write_bytes(bomb)
    monkeypatch.setattr(tenx_text.read_text, "__defaults__", (100_000,))
    (problem,) = problems_of(READER, outs)
    assert "more than 100,000 bytes of text" in problem.message and len(bomb) < 100_000


# --- Properties --------------------------------------------------------------------------------------

FUZZ = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
CELLS = st.sampled_from(
    [
        "",
        "1",
        "0",
        "AAATTT-1",
        "barcode",
        "array_row",
        "nan",
        "1e400",
        "-1",
        "9" * 30,
        '"',
        "tissue_hires_scalef",
    ]
) | st.text(max_size=4)


def rows(separator: str) -> st.SearchStrategy[bytes]:
    row = st.lists(CELLS, min_size=1, max_size=7).map(separator.join)
    return st.lists(row, max_size=6).map("\n".join).map(lambda text: text.encode("utf-8", "surrogatepass"))


def content(separator: str) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=80) | rows(separator) | rows(separator).map(gzip.compress)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_visium(tmp_path_factory.mktemp("fuzz") / "P1")
    use_mex(root)
    return root


@FUZZ
@given(content=content(","), keep=st.integers(0, 1500))
def test_whatever_the_positions_hold(fuzzed: Path, content: bytes, keep: int) -> None:
    path = fuzzed / POSITIONS
    check_whatever_a_file_holds(READER, fuzzed, path, path.read_bytes()[:keep] + content)


@pytest.fixture(scope="module")
def fuzzed_h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_visium(tmp_path_factory.mktemp("fuzz") / "P1")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(
        st.sampled_from(["tissue_hires_scalef", "spot_diameter_fullres", "x"]), inner, max_size=3
    ),
).map(lambda value: json.dumps(value).encode())


@FUZZ
@given(content=st.binary(max_size=80) | JSON)
def test_whatever_the_scale_factors_hold(fuzzed: Path, content: bytes) -> None:
    check_whatever_a_file_holds(READER, fuzzed, fuzzed / SCALES_FILE, content)


@FUZZ
@given(
    name=st.sampled_from(["features.tsv.gz", "barcodes.tsv.gz", "matrix.mtx.gz"]),
    content=content("\t") | content(" "),
    keep=st.integers(0, 400),
    packed=st.booleans(),
)
def test_whatever_a_matrix_market_file_holds(
    fuzzed: Path, name: str, content: bytes, keep: int, packed: bool
) -> None:
    path = fuzzed / MEX / name
    before = gzip.decompress(path.read_bytes()) if packed else path.read_bytes()
    changed = before[:keep] + content
    check_whatever_a_file_holds(READER, fuzzed, path, gzip.compress(changed) if packed else changed)


@FUZZ
@given(position=st.floats(0, 0.999), content=st.binary(min_size=1, max_size=20))
def test_whatever_an_hdf5_file_holds(fuzzed_h5: Path, position: float, content: bytes) -> None:
    root = fuzzed_h5
    good = (root / H5).read_bytes()
    start = int(position * len(good))
    damaged = good[:start] + content + good[start + len(content) :]
    check_whatever_a_file_holds(READER, root, root / H5, damaged)
