from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tenx_folder import (
    COUNTS,
    FULL_SIZE,
    HIRES,
    SYMBOLS,
    Malformed,
    bins,
    check_malformed,
    check_whatever_a_file_holds,
    problems_of,
    write_h5,
    write_image,
    write_mex,
    write_positions,
    write_visium,
    write_visium_hd,
)

from senca_ray import keys
from senca_ray.data.readers.visium_hd import VisiumHdReader
from senca_ray.data.section import RawSection
from senca_ray.errors import ProblemsError

READER = VisiumHdReader()
LIMIT = 1_000_000
BIN = "binned_outputs/square_008um"
H5 = f"{BIN}/filtered_feature_bc_matrix.h5"
POSITIONS = f"{BIN}/spatial/tissue_positions.parquet"
SPOTS, MATRIX = bins(8)
TISSUE = SPOTS[SPOTS["in_tissue"] == 1]


@pytest.fixture
def outs(tmp_path: Path) -> Path:
    return write_visium_hd(tmp_path / "P1/outs")


def read_one(root: Path, **changes: object) -> RawSection:
    (files,) = READER.find(root)
    return READER.read(dataclasses.replace(files, **changes), LIMIT)


# --- Valid folders -----------------------------------------------------------------------------------


def test_reads_what_was_written_at_8_micrometres(outs: Path) -> None:
    assert READER.recognises(outs)
    section = read_one(outs)
    assert (section.files.sample, section.files.patient, section.files.part) == ("P1", "P1", "square_008um")
    assert section.spots == tuple(TISSUE["barcode"])
    assert section.genes == SYMBOLS
    np.testing.assert_array_equal(section.counts.toarray(), COUNTS)
    np.testing.assert_array_equal(section.xy, TISSUE[["array_col", "array_row"]])
    assert section.pixel_xy is not None
    full = TISSUE[["pxl_col_in_fullres", "pxl_row_in_fullres"]]
    np.testing.assert_allclose(section.pixel_xy, HIRES * full)
    assert (section.labels, section.spot_distance_um) == (None, 8.0)
    assert section.notes == ("bins of 8 micrometres; also there: square_002um, square_016um",)


@pytest.mark.parametrize(("sides", "chosen"), [((2, 16), 16), ((2, 4), 4), ((8,), 8), ((2, 8, 16), 8)])
def test_the_bin_size_is_8_or_what_comes_next(tmp_path: Path, sides: tuple[int, ...], chosen: int) -> None:
    section = read_one(write_visium_hd(tmp_path / "P1", sides))
    assert section.spot_distance_um == chosen
    assert section.spots[0] == f"s_{chosen:03}um_00000_00000-1"


def test_another_bin_size_is_read_by_its_name_or_its_folder(outs: Path) -> None:
    by_part = read_one(outs, part="square_016um")
    by_folder = read_one(outs / "binned_outputs/square_016um")
    for section in (by_part, by_folder):
        assert section.spot_distance_um == 16.0
        assert section.files.sample == "P1"
        assert section.spots[0].startswith("s_016um")
        assert section.files.image is not None and "square_016um" in section.files.image.parts
    assert READER.find(outs / "binned_outputs")[0].part == "square_008um"


def test_a_bin_size_that_is_not_there_is_told(outs: Path) -> None:
    for part in ("square_004um", "../..", "8"):
        with pytest.raises(
            ProblemsError, match=r"no bins '.*'; found square_002um, square_008um, square_016um"
        ):
            read_one(outs, part=part)


def test_a_cohort_is_several_folders_none_of_them_visium(tmp_path: Path) -> None:
    write_visium_hd(tmp_path / "P2", (8,))
    write_visium_hd(tmp_path / "P1/outs", (8, 16))
    write_visium(tmp_path / "P3")
    assert [f.sample for f in READER.find(tmp_path)] == ["P1", "P2"]
    assert not READER.recognises(tmp_path / "P3")


def test_matrix_market_and_an_image_of_full_resolution(tmp_path: Path) -> None:
    outs = write_visium_hd(tmp_path / "P1/outs", (8,))
    (outs / H5).unlink()
    write_mex(outs / BIN / "filtered_feature_bc_matrix", MATRIX)
    write_image(tmp_path / "P1/P1_tissue_image.tif", FULL_SIZE)
    section = read_one(tmp_path)
    np.testing.assert_array_equal(section.counts.toarray(), COUNTS)
    assert section.pixel_xy is not None
    np.testing.assert_allclose(section.pixel_xy[0], [400, 80])


def test_labels_of_a_file_that_the_cohort_names(outs: Path) -> None:
    path = outs / "labels.csv"
    path.write_text("".join(["barcode,label\n", *(f"{b},a\n" for b in TISSUE["barcode"][:20])]))
    section = read_one(outs, labels=path, label_source=keys.ANNOTATED)
    assert section.labels == ("a",) * 20 + (keys.UNDETERMINED,) * 5


def test_types_of_the_columns_do_not_matter(outs: Path) -> None:
    spots = SPOTS.assign(in_tissue=SPOTS["in_tissue"] == 1, barcode=SPOTS["barcode"].astype("category"))
    spots["array_row"] = spots["array_row"].astype("int16")
    write_positions(outs / POSITIONS, spots)
    np.testing.assert_array_equal(read_one(outs).xy, TISSUE[["array_col", "array_row"]])


# --- Malformed folders -------------------------------------------------------------------------------


def positions(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    return lambda root: write_positions(root / POSITIONS, change(SPOTS.copy()))


def rows_of_nothing(root: Path) -> None:
    """A small file that declares millions of equal rows."""
    count = 3_000_000
    columns = {name: pa.array(np.ones(count, np.int8)) for name in SPOTS.columns[1:]}
    table = pa.table({"barcode": pa.DictionaryArray.from_arrays(np.zeros(count, np.int8), ["a"]), **columns})
    pq.write_table(table, root / POSITIONS, compression="zstd")


def empty_cell(spots: pd.DataFrame) -> pd.DataFrame:
    spots["array_row"] = spots["array_row"].astype("Int64")
    spots.loc[3, "array_row"] = pd.NA
    return spots


def cut_off(root: Path) -> None:
    (root / POSITIONS).write_bytes((root / POSITIONS).read_bytes()[:-30])


MALFORMED = [
    Malformed(
        "no-matrix", lambda r: (r / H5).unlink(), BIN, "no filtered_feature_bc_matrix.h5 and no folder"
    ),
    Malformed("no-positions", lambda r: (r / POSITIONS).unlink(), BIN, "no spatial/tissue_positions.parquet"),
    Malformed("zero-bytes", lambda r: (r / POSITIONS).write_bytes(b""), POSITIONS, "empty (0 bytes)"),
    Malformed("cut-off", cut_off, POSITIONS, "cannot be read as Parquet"),
    Malformed("csv", lambda r: SPOTS.to_csv(r / POSITIONS), POSITIONS, "cannot be read as Parquet"),
    Malformed("declared-rows", rows_of_nothing, POSITIONS, "declares 3,000,000 rows in"),
    Malformed("no-rows", positions(lambda s: s[:0]), POSITIONS, "no rows; expected one a bin"),
    Malformed(
        "column-missing",
        positions(lambda s: s.drop(columns="array_col")),
        POSITIONS,
        "column 'array_col' missing",
    ),
    Malformed("empty-cell", positions(empty_cell), POSITIONS, "empty cells in array_row"),
    Malformed(
        "text",
        positions(lambda s: s.assign(array_row="top")),
        POSITIONS,
        "cannot be read as Parquet (Failed to",
    ),
    Malformed(
        "infinite",
        positions(lambda s: s.assign(pxl_row_in_fullres=np.inf)),
        POSITIONS,
        "30 rows with numbers that are",
    ),
    Malformed(
        "barcodes-twice",
        positions(lambda s: s.assign(barcode=s["barcode"].mask(s.index == 1, s["barcode"][0]))),
        POSITIONS,
        "duplicated barcode 's_008um_00000_00000-1'",
    ),
    Malformed(
        "another-bin-size",
        lambda r: write_h5(r / H5, bins(16)[1]),
        POSITIONS,
        "no row for 25 of 25 barcodes of the matrix: 's_016um_00000_00000-1'",
    ),
    Malformed(
        "wrong-frame",
        positions(lambda s: s.assign(**{c: s[c] / 6 for c in ("pxl_row_in_fullres", "pxl_col_in_fullres")})),
        POSITIONS,
        "adjacent spots are 10 pixels apart, but spot_diameter_fullres is 40; expected 0.5 to 2 times",
    ),
    Malformed(
        "outside-the-image",
        lambda r: write_image(r / BIN / "spatial/tissue_hires_image.png", (150, 200)),
        POSITIONS,
        "outside the image of 150 x 200 pixels",
    ),
]


@pytest.mark.parametrize("malformed", MALFORMED, ids=lambda m: m.kind)
def test_malformed_folder_is_one_problem_with_place_and_finding(outs: Path, malformed: Malformed) -> None:
    check_malformed(READER, outs, malformed)


def test_nothing_there_is_told(tmp_path: Path) -> None:
    (problem,) = problems_of(READER, tmp_path)
    assert "no sections found; expected an outs folder" in problem.message


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_visium_hd(tmp_path_factory.mktemp("fuzz") / "P1", (8,))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(position=st.floats(0, 0.999), content=st.binary(min_size=1, max_size=20))
@example(position=0.2265625, content=b"\x80")
def test_whatever_the_positions_hold(fuzzed: Path, position: float, content: bytes) -> None:
    root = fuzzed
    good = (root / POSITIONS).read_bytes()
    start = int(position * len(good))
    damaged = good[:start] + content + good[start + len(content) :]
    check_whatever_a_file_holds(READER, root, root / POSITIONS, damaged)
