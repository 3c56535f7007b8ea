"""A simulated Visium HD section of any size, in Space Ranger's folder layout, for mechanics and scale.

Its regions are level sets of one smooth field, so each is larger and tidier than tissue's, and the genes
that tell them apart are many: scores on it say nothing about tissue. It has no image: encoding 500,000
patches takes a processor hours.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from scipy.sparse import coo_matrix, csr_matrix, vstack

from senca_ray.data.synthetic_image import smooth_field
from senca_ray.errors import SencaError

SAMPLE, BIN_UM = "HD1", 8
_LABELS = ("invasive cancer", "cancer in situ", "connective tissue", "adipose tissue", "immune infiltrate")
_GENES, _TOLD_APART = 2000, 400
"""Genes, and those of them whose rate depends on the region."""
_COUNTS = 60
"""Mean counts of a bin: as few as bins of 8 micrometres have."""
_PIXELS = 14.6
"""Full-resolution pixels a bin."""
_AT_ONCE = 20_000
"""Bins drawn together, so that memory does not grow with the section."""


def simulate_hd(out: Path, bins: int, seed: int = 0) -> str:
    """Write one simulated section of at least `bins` bins and a cohort file; returns its sample id.

    The same seed writes the same values. Raises SencaError when `out` holds files already or cannot be
    written; then nothing is left behind.
    """
    if not 100 <= bins <= 4_000_000:
        raise SencaError(f"bins: {bins:,} found; expected 100 to 4,000,000")
    out = out.resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SencaError(f"{out}: exists and is not an empty folder; name a new folder, or remove this one")
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    try:
        _write(partial, bins, np.random.default_rng(seed))
        entry = f"{{sample: {SAMPLE}, path: {SAMPLE}, labels: {SAMPLE}/labels.csv, label_source: simulated}}"
        (partial / "cohort.yaml").write_text(f"samples:\n  - {entry}\n", encoding="utf-8")
        partial.rename(out)
    except OSError as error:
        raise SencaError(f"{out}: cannot be written ({error.strerror}); name another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return SAMPLE


def _write(root: Path, bins: int, rng: np.random.Generator) -> None:
    folder = root / SAMPLE / f"binned_outputs/square_{BIN_UM:03d}um"
    (folder / "spatial").mkdir(parents=True)
    side = int(np.ceil(np.sqrt(bins)))
    row, column = (index.ravel() for index in np.indices((side, side)))
    field = smooth_field(rng, (side, side), scale=side / 4).ravel()
    region = np.searchsorted(np.quantile(field, np.linspace(0, 1, len(_LABELS) + 1)[1:-1]), field)
    barcodes = [
        f"s_{BIN_UM:03d}um_{r:05d}_{c:05d}-1" for r, c in zip(row.tolist(), column.tolist(), strict=True)
    ]
    _write_matrix(folder / "filtered_feature_bc_matrix.h5", barcodes, _counts(region, rng))
    places = {
        "barcode": pa.array(barcodes),
        "in_tissue": pa.array(np.ones(len(row), dtype=np.int32)),
        "array_row": pa.array(row.astype(np.int32)),
        "array_col": pa.array(column.astype(np.int32)),
        "pxl_row_in_fullres": pa.array((row + 0.5) * _PIXELS),
        "pxl_col_in_fullres": pa.array((column + 0.5) * _PIXELS),
    }
    pq.write_table(pa.table(places), folder / "spatial/tissue_positions.parquet")
    scale = {
        "bin_size_um": BIN_UM,
        "microns_per_pixel": BIN_UM / _PIXELS,
        "spot_diameter_fullres": _PIXELS,
        "tissue_hires_scalef": 0.05,
        "tissue_lowres_scalef": 0.005,
    }
    (folder / "spatial/scalefactors_json.json").write_text(json.dumps(scale), encoding="utf-8")
    labels = pa.array(np.array(_LABELS)[region])
    pyarrow.csv.write_csv(
        pa.table({"barcode": places["barcode"], "label": labels}), root / SAMPLE / "labels.csv"
    )


def _counts(region: np.ndarray, rng: np.random.Generator) -> csr_matrix:
    """(N, genes) int32 counts: molecules fall on genes as the bin's region says."""
    rates = np.tile(rng.gamma(0.3, 1.0, _GENES), (len(_LABELS), 1))
    rates[:, :_TOLD_APART] *= rng.gamma(1.0, 1.0, (len(_LABELS), _TOLD_APART))
    share = np.cumsum(rates / rates.sum(axis=1, keepdims=True), axis=1)
    parts = []
    for start in range(0, len(region), _AT_ONCE):
        some = region[start : start + _AT_ONCE]
        totals = rng.poisson(_COUNTS * rng.gamma(4.0, 0.25, len(some)))
        spot = np.repeat(np.arange(len(some)), totals)
        gene = np.empty(len(spot), dtype=np.int64)
        for kind in range(len(_LABELS)):
            inside = some[spot] == kind
            gene[inside] = np.searchsorted(share[kind], rng.random(int(inside.sum())))
        ones = np.ones(len(spot), dtype=np.int32)
        parts.append(coo_matrix((ones, (spot, gene.clip(max=_GENES - 1))), (len(some), _GENES)).tocsr())
    return vstack(parts, format="csr")


def _write_matrix(path: Path, barcodes: list[str], counts: csr_matrix) -> None:
    """10x Genomics' HDF5: genes by barcodes, a compressed column a barcode."""
    import h5py

    names = [f"GENE{i:04d}" for i in range(_GENES)]
    with h5py.File(path, "w") as file:
        group = file.create_group("matrix")
        for name, values in (("data", counts.data), ("indices", counts.indices), ("indptr", counts.indptr)):
            group.create_dataset(name, data=values, compression="gzip", compression_opts=1)
        group.create_dataset("shape", data=np.array([_GENES, len(barcodes)], dtype=np.int32))
        group.create_dataset("barcodes", data=np.array(barcodes, dtype="S"))
        features = group.create_group("features")
        for name, texts in (
            ("id", [f"SIM{i:08d}" for i in range(_GENES)]),
            ("name", names),
            ("feature_type", ["Gene Expression"] * _GENES),
            ("genome", ["simulated"] * _GENES),
        ):
            features.create_dataset(name, data=np.array(texts, dtype="S"))
