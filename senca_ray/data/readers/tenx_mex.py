"""The Matrix Market folder of 10x sections: matrix, features (or genes) and barcodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from senca_ray.data.readers.findings import Findings
from senca_ray.data.readers.tables import quantity, quote
from senca_ray.data.readers.tenx_matrix import (
    COUNTED_TWICE,
    MAX_COUNT,
    Features,
    Matrix,
    check_barcodes,
    name_genes,
    no_counts,
    pick,
)
from senca_ray.data.readers.tenx_text import opened, read_columns, told
from senca_ray.errors import SencaError

_ENTRIES_A_BYTE = 8
"""Entries of a packed file a byte of it: real ones have less than one."""

_ENTRY_BYTES = 64
"""No entry takes more."""


def mex_files(folder: Path) -> dict[str, Path | None]:
    """The files of a Matrix Market folder by what they are; None for one that is missing."""
    names = {
        "matrix": ("matrix.mtx",),
        "features": ("features.tsv", "genes.tsv"),
        "barcodes": ("barcodes.tsv",),
    }
    return {
        kind: next((p for name in given for p in (folder / f"{name}.gz", folder / name) if p.is_file()), None)
        for kind, given in names.items()
    }


def read_folder(findings: Findings, folder: Path) -> Matrix | None:
    """Read matrix, features and barcodes; None when not even the spots can be told."""
    files = mex_files(folder)
    if missing := [kind for kind, path in files.items() if path is None]:
        names = " and ".join({"matrix": "matrix.mtx.gz"}.get(kind, f"{kind}.tsv.gz") for kind in missing)
        findings.problem(folder, f"no {names}; expected matrix, features and barcodes; copy the folder again")
        return None
    barcodes, features, matrix = (p for k in ("barcodes", "features", "matrix") if (p := files[k]))
    listed: pa.Array | None = None
    genes: tuple[str, ...] = ()
    kept: np.ndarray | None = None
    count = 0
    with findings.collecting(barcodes):
        columns = read_columns(barcodes)
        if len(columns) != 1:
            raise SencaError(f"{len(columns)} columns; expected one barcode a line; remove the others")
        strings = pa.array(columns[0], type=pa.string())
        check_barcodes(findings, barcodes, strings)
        listed = strings
    with findings.collecting(features):
        columns = read_columns(features)
        if "," in columns[0][0] and len(columns) == 1:
            raise SencaError(
                f"line 1 holds one column, {quote(columns[0][0])}; expected id, symbol and type separated by "
                "tabs; write the file with tabs as separator"
            )
        symbols = columns[min(1, len(columns) - 1)]
        ids, types = columns[0] if len(columns) > 1 else None, columns[2] if len(columns) > 2 else None
        genes, kept = name_genes(findings, features, Features(ids, symbols, types))
        count = len(symbols)
    counts = None
    if listed is not None and kept is not None:
        with findings.collecting(matrix):
            counts = pick(_mex_counts(matrix, (count, len(listed))), kept, axis=1)
    return None if listed is None else Matrix(listed, genes, counts)


def _mex_counts(path: Path, shape: tuple[int, int]) -> csr_matrix:
    """Counts by spot of a Matrix Market file of `shape` (genes, spots)."""
    stream, packed = opened(path)
    try:
        with stream:
            entries = _check_header(path, stream, packed, shape)
            gene, spot, value = _read_entries(stream, entries)
    except SencaError:
        raise
    except Exception as error:  # noqa: BLE001 - the library raises all kinds of errors on damaged text
        raise SencaError(
            f"cannot be read as Matrix Market ({told(error)}); expected whole rows of gene, spot and count; "
            "copy it again"
        ) from None
    if len(value) != entries:
        raise SencaError(
            f"{len(value):,} entries found, {entries:,} declared; expected as many; the file is cut off or "
            "damaged: copy it again"
        )
    outside = (gene < 1) | (gene > shape[0]) | (spot < 1) | (spot > shape[1])
    if outside.any():
        first = int(np.argmax(outside))
        raise SencaError(
            f"cannot be read as Matrix Market (entry {first + 1:,} is of gene {gene[first]}, spot "
            f"{spot[first]}); expected genes from 1 to {shape[0]:,} and spots from 1 to {shape[1]:,}; "
            "copy it again"
        )
    wrong = no_counts(value)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise SencaError(
            f"{quantity(int(wrong.sum()), 'value')} that {'is' if wrong.sum() == 1 else 'are'} no count, "
            f"first gene {gene[first]}, spot {spot[first]}: {value[first]:g}; expected "
            f"whole numbers from 0 to {MAX_COUNT:,}; write raw counts"
        )
    matrix = csr_matrix((value.astype(np.int32), (spot - 1, gene - 1)), shape=shape[::-1])
    if matrix.nnz != entries:
        raise SencaError(COUNTED_TWICE)
    return matrix


def _read_entries(stream: Any, entries: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gene and spot (E,) int64, from 1, and value (E,) float64 of the entries that follow the header.

    Not with scipy's reader, which ends the whole process on some damaged files.
    """
    from pyarrow import csv

    most = _ENTRY_BYTES * (entries + 1)
    rest = stream.read(most + 1)
    if len(rest) > most:
        raise SencaError(
            f"more text than {entries:,} entries take; expected as many as declared; copy it again"
        )
    if not rest.strip():
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64)
    names = ["gene", "spot", "value"]
    kinds = dict(zip(names, (pa.int64(), pa.int64(), pa.float64()), strict=True))
    table = csv.read_csv(
        pa.BufferReader(rest),
        read_options=csv.ReadOptions(column_names=names),
        parse_options=csv.ParseOptions(delimiter="\t" if b"\t" in rest[:200] else " ", quote_char=False),
        convert_options=csv.ConvertOptions(column_types=kinds, null_values=[], strings_can_be_null=False),
    )
    gene, spot, value = (table[name].to_numpy() for name in names)
    return gene, spot, value


def _check_header(path: Path, stream: Any, packed: bool, shape: tuple[int, int]) -> int:
    """Check what the file declares before memory is taken; returns the number of entries."""
    banner = stream.readline(200).decode("utf-8", "replace").lower().split()
    if banner[:3] != ["%%matrixmarket", "matrix", "coordinate"] or (
        len(banner) != 5 or banner[3] not in ("integer", "real") or banner[4] != "general"
    ):
        found = quote(" ".join(banner))
        raise SencaError(
            f"begins with {found}; expected %%MatrixMarket matrix coordinate integer general; write raw "
            "counts in that format"
        )
    line = b"%"
    while line.startswith(b"%") or (line and not line.strip()):
        line = stream.readline(2**16)
    try:
        rows, columns, entries = (int(cell) for cell in line.split())
    except ValueError:
        raise SencaError(
            f"no sizes in {quote(line.decode('utf-8', 'replace').strip())}; expected numbers of genes, spots "
            "and entries; copy it again"
        ) from None
    if (rows, columns) != shape:
        turned = "; the matrix is turned: write genes as rows" if (columns, rows) == shape else ""
        raise SencaError(
            f"declares {rows:,} x {columns:,}, but {shape[0]:,} features and {shape[1]:,} barcodes are "
            f"listed; expected these to agree{turned or '; copy the three files of one section'}"
        )
    size = path.stat().st_size
    most = size * _ENTRIES_A_BYTE if packed else size // 6 + 1
    if not 0 <= entries <= min(most, rows * columns):
        raise SencaError(
            f"declares {entries:,} entries in a file of {size:,} bytes; expected a row for each; "
            "copy it again"
        )
    return entries
