"""Tiny valid 10x sections (Visium, Visium HD, breast-cancer atlas), written to disk for tests to break."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from her2st_folder import write_text
from PIL import Image
from scipy.sparse import csc_matrix

from senca_ray.data.section import Reader
from senca_ray.errors import Problem, ProblemsError

IDS = ("ENSG01", "ENSG02", "ENSG03", "ENSG04")
SYMBOLS = ("ERBB2", "CD3E", "KRT5", "COL1A1")
COLUMNS = ("barcode", "in_tissue", "array_row", "array_col", "pxl_row_in_fullres", "pxl_col_in_fullres")
HIRES, LOWRES = 0.5, 0.25
FULL_SIZE = (480, 400)
PITCH, DIAMETER = 60.0, 40.0


@dataclass(frozen=True)
class Malformed:
    """One kind of broken folder and the problem it has to give."""

    kind: str
    damage: Callable[[Path], object]
    place: str
    finding: str


def _hexagons() -> pd.DataFrame:
    """30 spots of a hexagonal array, the last row off tissue."""
    rows = [(r, 2 * c + r % 2) for r in range(6) for c in range(5)]
    spots = pd.DataFrame(rows, columns=["array_row", "array_col"])
    spots["barcode"] = [f"{'ACGT'[i % 4]}{'ACGT'[i // 4 % 4]}{'ACGT'[i // 16]}TTT-1" for i in range(30)]
    spots["in_tissue"] = (spots["array_row"] < 5).astype(int)
    spots["pxl_row_in_fullres"] = 80 + PITCH * spots["array_row"] * np.sqrt(3) / 2
    spots["pxl_col_in_fullres"] = 100 + PITCH * spots["array_col"] / 2
    return spots[list(COLUMNS)]


def _squares(side: int) -> pd.DataFrame:
    """30 bins of a square array, the last row off tissue; the image is mirrored, as CytAssist's is."""
    rows = [(r, c) for r in range(6) for c in range(5)]
    spots = pd.DataFrame(rows, columns=["array_row", "array_col"])
    spots["barcode"] = [f"s_{side:03}um_{r:05}_{c:05}-1" for r, c in rows]
    spots["in_tissue"] = (spots["array_row"] < 5).astype(int)
    spots["pxl_row_in_fullres"] = 80 + PITCH * spots["array_row"]
    spots["pxl_col_in_fullres"] = 400 - PITCH * spots["array_col"]
    return spots[list(COLUMNS)]


SPOTS = _hexagons()
TISSUE = SPOTS[SPOTS["in_tissue"] == 1]
COUNTS = np.random.default_rng(3).poisson(1.5, (len(TISSUE), len(IDS))).astype(np.int32)
SCALES: dict[str, Any] = {
    "tissue_hires_scalef": HIRES,
    "tissue_lowres_scalef": LOWRES,
    "spot_diameter_fullres": DIAMETER,
    "fiducial_diameter_fullres": 65.0,
}


@dataclass(frozen=True)
class Matrix:
    """What a matrix file holds: counts (N, G), barcodes, features."""

    counts: np.ndarray = field(default_factory=COUNTS.copy)
    barcodes: Sequence[str] = tuple(TISSUE["barcode"])
    ids: Sequence[str] = IDS
    symbols: Sequence[str] = SYMBOLS
    types: Sequence[str] = ("Gene Expression",) * len(IDS)


def write_h5(path: Path, matrix: Matrix, **replaced: Any) -> None:
    """Write an HDF5 matrix; `replaced` puts other datasets (None: none) in place of the right ones."""
    stored = csc_matrix(np.asarray(matrix.counts).T)
    datasets: dict[str, Any] = {
        "barcodes": np.array(matrix.barcodes, dtype="S"),
        "data": stored.data,
        "indices": stored.indices.astype(np.int64),
        "indptr": stored.indptr.astype(np.int64),
        "shape": np.array(stored.shape, dtype=np.int32),
        "features/id": np.array(matrix.ids, dtype="S"),
        "features/name": np.array(matrix.symbols, dtype="S"),
        "features/feature_type": np.array(matrix.types, dtype="S"),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in (datasets | {k.replace("__", "/"): v for k, v in replaced.items()}).items():
            if values is not None:
                chunks = {} if np.ndim(values) == 0 else {"compression": "gzip"}
                file.create_dataset(f"matrix/{name}", data=values, **chunks)


def write_mex(folder: Path, matrix: Matrix, *, suffix: str = ".gz", symbols_only: bool = False) -> None:
    """Write a Matrix Market folder."""
    rows, columns = np.nonzero(np.asarray(matrix.counts).T)
    entries = [f"{g + 1} {s + 1} {matrix.counts[s, g]}" for g, s in zip(rows, columns, strict=True)]
    head = "%%MatrixMarket matrix coordinate integer general\n%written for tests\n"
    sizes = f"{len(matrix.ids)} {len(matrix.barcodes)} {len(entries)}"
    features = zip(matrix.ids, matrix.symbols, matrix.types, strict=True)
    lines = list(matrix.symbols) if symbols_only else ["\t".join(f) for f in features]
    write_text(folder / f"matrix.mtx{suffix}", head + "\n".join([sizes, *entries]) + "\n")
    write_text(folder / f"features.tsv{suffix}", "\n".join(lines) + "\n")
    write_text(folder / f"barcodes.tsv{suffix}", "\n".join(matrix.barcodes) + "\n")


def write_positions(path: Path, spots: pd.DataFrame, *, header: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        spots.to_parquet(path, index=False)
    else:
        spots.to_csv(path, header=header, index=False)


def write_image(path: Path, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def scaled(scale: float) -> tuple[int, int]:
    return round(FULL_SIZE[0] * scale), round(FULL_SIZE[1] * scale)


def write_spatial(spatial: Path, spots: pd.DataFrame, positions: str, *, header: bool = True) -> None:
    """Write a spatial folder: positions, scale factors, hires and lowres image."""
    write_positions(spatial / positions, spots, header=header)
    write_text(spatial / "scalefactors_json.json", json.dumps(SCALES))
    write_image(spatial / "tissue_hires_image.png", scaled(HIRES))
    write_image(spatial / "tissue_lowres_image.png", scaled(LOWRES))


def write_visium(outs: Path, *, version: int = 2, matrix: Matrix | None = None) -> Path:
    """Write an outs folder of Space Ranger, of version 1 or 2."""
    write_h5(outs / "filtered_feature_bc_matrix.h5", matrix or Matrix())
    name = "tissue_positions.csv" if version == 2 else "tissue_positions_list.csv"
    write_spatial(outs / "spatial", SPOTS, name, header=version == 2)
    return outs


def bins(side: int) -> tuple[pd.DataFrame, Matrix]:
    """Positions and counts of a Visium HD section at one bin size."""
    spots = _squares(side)
    return spots, Matrix(barcodes=tuple(spots["barcode"][spots["in_tissue"] == 1]))


def write_visium_hd(outs: Path, sides: Sequence[int] = (2, 8, 16)) -> Path:
    """Write an outs folder of Space Ranger for Visium HD."""
    for side in sides:
        spots, matrix = bins(side)
        folder = outs / f"binned_outputs/square_{side:03}um"
        write_h5(folder / "filtered_feature_bc_matrix.h5", matrix)
        write_spatial(folder / "spatial", spots, "tissue_positions.parquet")
    return outs


CLASSES = ("Invasive cancer", "Stroma", "DCIS", "Artefact", "Uncertain", "")


def write_atlas(root: Path, sample: str = "CID44971") -> Path:
    """Write a section of the breast-cancer atlas: plain text under names that end in .gz, symbols only."""
    # Two spots off tissue, which the authors kept.
    spots = SPOTS.copy()
    spots.loc[[3, 4], "in_tissue"] = 0
    folder = root / f"filtered_count_matrices/{sample}_filtered_count_matrix"
    write_mex(folder, Matrix(), symbols_only=True)
    for path in folder.iterdir():
        path.write_bytes(gzip.decompress(path.read_bytes()))
    write_spatial(root / f"spatial/{sample}_spatial", spots, "tissue_positions_list.csv", header=False)
    labels = [CLASSES[i % len(CLASSES)] for i in range(len(TISSUE))]
    rows = [
        f'"{barcode}",{i},"TNBC","{sample}","{label}"'
        for i, (barcode, label) in enumerate(zip(TISSUE["barcode"], labels, strict=True))
    ]
    header = '"","nCount_RNA","subtype","patientid","Classification"'
    write_text(root / f"metadata/{sample}_metadata.csv", "\n".join([header, *rows]) + "\n")
    return root


def problems_of(reader: Reader, root: Path, limit: int = 1_000_000) -> list[Problem]:
    """Every problem of listing, or, when there is none, of reading each section."""
    try:
        sections = reader.find(root)
    except ProblemsError as error:
        return list(error.problems)
    problems: list[Problem] = []
    for files in sections:
        try:
            reader.read(files, limit)
        except ProblemsError as error:
            problems += error.problems
    return problems


def check_malformed(reader: Reader, root: Path, malformed: Malformed) -> None:
    """The damage gives one problem, at its place, with what was found and what to do."""
    malformed.damage(root)
    problems = problems_of(reader, root)
    assert [(p.place, malformed.finding in p.message) for p in problems] == [(malformed.place, True)], (
        problems
    )
    assert "; " in problems[0].message and "\n" not in problems[0].message
    assert str(root) not in problems[0].message


@contextmanager
def replaced(path: Path, content: bytes) -> Iterator[None]:
    """The file holds `content` within the block, and what it held before after it."""
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(before)


def check_whatever_a_file_holds(reader: Reader, root: Path, path: Path, content: bytes) -> None:
    """Reading ends in a valid section or in problems, nothing else."""
    with replaced(path, content):
        try:
            sections = [reader.read(files, 1_000_000) for files in reader.find(root)]
        except ProblemsError as error:
            assert error.problems
            assert all(p.message and "\n" not in p.message for p in error.problems)
        else:
            for section in sections:
                assert section.counts.shape == (len(section.spots), len(section.genes))
                assert section.xy.shape == (len(section.spots), 2) and np.isfinite(section.xy).all()
                assert len(set(section.genes)) == len(section.genes)
                assert section.labels is None or len(section.labels) == len(section.spots)
