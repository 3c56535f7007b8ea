from __future__ import annotations

import dataclasses
import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from her2st_folder import append, edit, read_text, write_text
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tenx_folder import (
    CLASSES,
    COUNTS,
    HIRES,
    SYMBOLS,
    TISSUE,
    Malformed,
    Matrix,
    check_malformed,
    check_whatever_a_file_holds,
    write_atlas,
    write_mex,
)

from senca_ray import keys
from senca_ray.data.readers.breast_atlas import BreastAtlasReader
from senca_ray.data.readers.visium import VisiumReader
from senca_ray.data.section import RawSection

READER = BreastAtlasReader()
LIMIT = 1_000_000
MATRIX = "filtered_count_matrices/CID44971_filtered_count_matrix"
METADATA = "metadata/CID44971_metadata.csv"
SPATIAL = "spatial/CID44971_spatial"
POSITIONS = f"{SPATIAL}/tissue_positions_list.csv"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_atlas(tmp_path / "atlas")


def read_one(root: Path, **changes: object) -> RawSection:
    (files,) = READER.find(root)
    return READER.read(dataclasses.replace(files, **changes), LIMIT)


# --- A valid folder ----------------------------------------------------------------------------------


def test_reads_what_was_written(root: Path) -> None:
    assert READER.recognises(root) and not VisiumReader().recognises(root)
    section = read_one(root)
    assert (section.files.sample, section.files.patient) == ("CID44971", "CID44971")
    assert section.files.label_source == keys.ANNOTATED
    assert section.spots == tuple(TISSUE["barcode"])
    assert section.genes == SYMBOLS
    np.testing.assert_array_equal(section.counts.toarray(), COUNTS)
    np.testing.assert_allclose(section.xy[:6, 0], [0, 1, 2, 3, 4, 0.5])
    assert section.pixel_xy is not None and section.spot_distance_um == 100.0
    np.testing.assert_allclose(section.pixel_xy, HIRES * TISSUE[["pxl_col_in_fullres", "pxl_row_in_fullres"]])


def test_uncertain_classes_faults_of_the_slide_and_empty_ones_are_undetermined(root: Path) -> None:
    section = read_one(root)
    told = (*CLASSES[:3], *[keys.UNDETERMINED] * 3)
    assert section.labels == tuple(told[i % 6] for i in range(25))
    assert section.notes == (
        "4 label rows with an empty label: undetermined",
        "4 label rows with the label 'Artefact': undetermined",
        "4 label rows with the label 'Uncertain': undetermined",
        "2 spots kept: in_tissue is 0, but the matrix and its metadata hold it",
    )


def test_packed_and_plain_files_are_read_alike(root: Path) -> None:
    before = read_one(root)
    shutil.rmtree(root / MATRIX)
    write_mex(root / MATRIX, Matrix(), symbols_only=True)
    text = read_text(root / METADATA)
    (root / METADATA).unlink()
    write_text(root / f"{METADATA}.gz", text)
    after = read_one(root)
    assert (after.genes, after.labels) == (before.genes, before.labels)
    np.testing.assert_array_equal(after.counts.toarray(), before.counts.toarray())


def test_the_patient_is_the_metadatas(root: Path) -> None:
    text = read_text(root / METADATA)
    write_text(root / METADATA, text.replace('"CID44971"', '"CID4497"'))
    assert READER.find(root)[0].patient == "CID4497"
    write_text(root / METADATA, text.replace("patientid", "who"))
    assert READER.find(root)[0].patient == "CID44971"


def test_another_column_may_be_named(root: Path) -> None:
    assert read_one(root, label_column="subtype").labels == ("TNBC",) * 25


def test_without_metadata_a_section_has_no_labels(root: Path) -> None:
    write_atlas(root, "1160920F")
    shutil.rmtree(root / "metadata")
    found = READER.find(root)
    assert [(f.sample, f.patient, f.label_source) for f in found] == [
        ("1160920F", "1160920F", keys.UNLABELLED),
        ("CID44971", "CID44971", keys.UNLABELLED),
    ]
    assert READER.read(found[0], LIMIT).labels is None


def test_repeated_symbols_without_ids_are_numbered(root: Path) -> None:
    (root / MATRIX / "features.tsv.gz").write_text("ERBB2\nCD3E\nCD3E\nCOL1A1\n")
    section = read_one(root)
    assert section.genes == ("ERBB2", "CD3E (1)", "CD3E (2)", "COL1A1")
    assert "2 genes of the same name as another: told apart as 'SYMBOL (number)'" in section.notes


# --- Malformed folders -------------------------------------------------------------------------------


MALFORMED = [
    Malformed(
        "no-positions", lambda r: shutil.rmtree(r / SPATIAL), MATRIX, f"no {SPATIAL}/tissue_positions_list"
    ),
    Malformed("no-matrix", lambda r: (r / MATRIX / "matrix.mtx.gz").unlink(), MATRIX, "no matrix.mtx.gz"),
    Malformed(
        "no-sections",
        lambda r: shutil.rmtree(r / "filtered_count_matrices"),
        "atlas",
        "no sections found; expected",
    ),
    Malformed(
        "class-column-missing",
        lambda r: edit(r / METADATA, "Classification", "class"),
        METADATA,
        "column 'Classification' missing; found '', 'nCount_RNA', 'subtype', 'patientid', 'class'",
    ),
    Malformed(
        "two-patients",
        lambda r: append(r / METADATA, '"GGGGGG-1",3,"TNBC","CID4535","Stroma"'),
        METADATA,
        "2 patients in patientid: 'CID44971', 'CID4535'",
    ),
    Malformed(
        "metadata-of-another-section",
        lambda r: append(r / METADATA, '"GGGGGG-1",3,"TNBC","CID44971","Stroma"'),
        METADATA,
        "labels for 1 unknown spot: 'GGGGGG-1'",
    ),
    Malformed(
        "metadata-semicolons",
        lambda r: write_text(r / METADATA, read_text(r / METADATA).replace('"', "").replace(",", ";")),
        METADATA,
        "expected columns separated by commas",
    ),
    Malformed(
        "metadata-open-quote",
        lambda r: append(r / METADATA, '"AAATTT-1,3,"TNBC","CID44971","Stroma"'),
        METADATA,
        "not a readable table",
    ),
    Malformed(
        "metadata-ragged",
        lambda r: append(r / METADATA, '"GGGGGG-1",3'),
        METADATA,
        "first row 27 with 2; expected 5",
    ),
    Malformed(
        "metadata-not-utf8",
        lambda r: (r / METADATA).write_bytes("a,Classification\n1,Gewebe-Lücke\n".encode("latin-1")),
        METADATA,
        "is not UTF-8 text",
    ),
    Malformed("metadata-zero-bytes", lambda r: (r / METADATA).write_bytes(b""), METADATA, "empty (0 bytes)"),
    Malformed(
        "metadata-truncated-gzip",
        lambda r: (r / METADATA).write_bytes(gzip.compress((r / METADATA).read_bytes())[:-20]),
        METADATA,
        "not a complete gzip file",
    ),
    Malformed(
        "files-of-two-sections",
        lambda r: (r / MATRIX / "features.tsv.gz").write_text("ERBB2\nCD3E\nKRT5\n"),
        f"{MATRIX}/matrix.mtx.gz",
        "declares 4 x 25, but 3 features and 25 barcodes are listed",
    ),
    Malformed(
        "matrix-of-another-section",
        lambda r: (r / MATRIX / "barcodes.tsv.gz").write_text("\n".join(f"G{b}" for b in TISSUE["barcode"])),
        POSITIONS,
        "no row for 25 of 25 barcodes of the matrix",
    ),
    Malformed(
        "swapped-x-y",
        lambda r: swap_columns(r / POSITIONS),
        POSITIONS,
        "x and y are probably swapped: swap the two columns",
    ),
]


def swap_columns(path: Path) -> None:
    rows = [line.split(",") for line in path.read_text().splitlines()]
    path.write_text("".join(",".join([*row[:4], row[5], row[4]]) + "\n" for row in rows))


@pytest.mark.parametrize("malformed", MALFORMED, ids=lambda m: m.kind)
def test_malformed_folder_is_one_problem_with_place_and_finding(root: Path, malformed: Malformed) -> None:
    check_malformed(READER, root, malformed)


# --- Properties --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_atlas(tmp_path_factory.mktemp("fuzz") / "atlas")


CELLS = st.sampled_from(["", "AAATTT-1", "barcode", "Classification", "patientid", "NA", '"', "x"]) | st.text(
    max_size=4
)
ROWS = st.lists(st.lists(CELLS, min_size=1, max_size=6).map(",".join), max_size=6).map("\n".join)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    content=st.binary(max_size=80) | ROWS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    keep=st.integers(0, 900),
    name=st.sampled_from([METADATA, f"{MATRIX}/features.tsv.gz", f"{MATRIX}/barcodes.tsv.gz"]),
)
def test_whatever_a_file_holds(fuzzed: Path, content: bytes, keep: int, name: str) -> None:
    path = fuzzed / name
    check_whatever_a_file_holds(READER, fuzzed, path, path.read_bytes()[:keep] + content)
